//! Requests good and bad, and what each is answered.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Version};

use super::StreamRequest;
use super::handshake::{TUNNEL, Upgrade, method, negotiate};

fn exec() -> StreamRequest {
    StreamRequest::Exec {
        container: "c".into(),
        command: vec!["ls".into()],
        terminal: false,
        wanted: Default::default(),
    }
}

fn forward() -> StreamRequest {
    StreamRequest::PortForward {
        sandbox: "s".into(),
        ports: Vec::new(),
    }
}

/// A request with headers as lines of a head.
fn request(method: Method, lines: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.trim().split_once(": ").unwrap();
        request.headers_mut().append(
            name.parse::<HeaderName>().unwrap(),
            value.parse::<HeaderValue>().unwrap(),
        );
    }
    request
}

fn get(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).into_iter();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

const SPDY: &str = "Connection: Upgrade\nUpgrade: SPDY/3.1\n";
const WEBSOCKET: &str = "Connection: keep-alive, Upgrade\nUpgrade: WebSocket\n\
    Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";

#[test]
fn spdy_takes_the_clients_first_protocol_that_the_server_has() {
    for (lines, stream, chosen) in [
        (
            "X-Stream-Protocol-Version: v5.channel.k8s.io\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\n\
             X-Stream-Protocol-Version: v3.channel.k8s.io",
            exec(),
            "v4.channel.k8s.io",
        ),
        (
            "X-Stream-Protocol-Version: nonsense, v2.channel.k8s.io ,v4.channel.k8s.io",
            exec(),
            "v2.channel.k8s.io",
        ),
        (
            "X-Stream-Protocol-Version: portforward.k8s.io",
            forward(),
            "portforward.k8s.io",
        ),
    ] {
        let request = request(Method::POST, &format!("{SPDY}{lines}"));
        let (upgrade, answer) = negotiate(&request, &stream).unwrap();
        assert_eq!(upgrade, Upgrade::Spdy(chosen));
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers();
        assert_eq!(get(headers, "connection"), ["Upgrade"]);
        assert_eq!(get(headers, "upgrade"), ["SPDY/3.1"]);
        assert_eq!(get(headers, "x-stream-protocol-version"), [chosen]);
    }
}

#[test]
fn spdy_without_a_common_protocol_is_told_which_there_are() {
    let lines = format!("{SPDY}X-Stream-Protocol-Version: v9.channel.k8s.io");
    let answer = negotiate(&request(Method::POST, &lines), &exec()).unwrap_err();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let accepted = get(answer.headers(), "x-accepted-stream-protocol-versions");
    let all = "v4.channel.k8s.io v3.channel.k8s.io v2.channel.k8s.io channel.k8s.io";
    assert_eq!(accepted.join(" "), all);
}

#[test]
fn websocket_proves_that_it_has_read_the_key() {
    for (offered, stream, chosen) in [
        ("v5.channel.k8s.io", exec(), "v5.channel.k8s.io"),
        (
            "v4.base64.channel.k8s.io, v5.channel.k8s.io",
            exec(),
            "v4.base64.channel.k8s.io",
        ),
        (TUNNEL, forward(), TUNNEL),
        ("", exec(), ""),
    ] {
        let mut lines = WEBSOCKET.to_owned();
        if !offered.is_empty() {
            lines += &format!("Sec-WebSocket-Protocol: {offered}");
        }
        let (upgrade, answer) = negotiate(&request(Method::GET, &lines), &stream).unwrap();
        assert_eq!(upgrade, Upgrade::WebSocket(chosen));
        let headers = answer.headers();
        // RFC 6455, section 1.3.
        let accept = ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="];
        assert_eq!(get(headers, "sec-websocket-accept"), accept);
        let named: Vec<_> = Some(chosen)
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        assert_eq!(get(headers, "sec-websocket-protocol"), named);
    }
}

#[test]
fn a_bad_upgrade_gets_the_status_that_says_what_is_missing() {
    let protocol = "X-Stream-Protocol-Version: v4.channel.k8s.io";
    let no_version = WEBSOCKET.replace("Sec-WebSocket-Version: 13\n", "");
    for (method, lines, status) in [
        (Method::POST, String::new(), 400),
        (Method::POST, protocol.to_owned(), 400),
        (Method::POST, format!("Upgrade: SPDY/3.1\n{protocol}"), 400),
        (
            Method::POST,
            format!("Connection: Upgrade\n{protocol}"),
            400,
        ),
        (
            Method::POST,
            format!("Connection: Upgrade\nUpgrade: h2c\n{protocol}"),
            400,
        ),
        (Method::POST, SPDY.to_owned(), 400),
        (
            Method::POST,
            format!("{SPDY}X-Stream-Protocol-Version: , "),
            400,
        ),
        (
            Method::POST,
            format!("{SPDY}X-Stream-Protocol-Version: portforward.k8s.io"),
            403,
        ),
        (Method::POST, WEBSOCKET.to_owned(), 400),
        (Method::GET, WEBSOCKET.replace("nonce", "x"), 101),
        (Method::GET, WEBSOCKET.replace("dGhl", ""), 400),
        (Method::GET, WEBSOCKET.replace("dGhl", "!!!!"), 400),
        (Method::GET, WEBSOCKET.replace(": 13", ": 8"), 426),
        (Method::GET, no_version, 426),
        (
            Method::GET,
            format!("{WEBSOCKET}Sec-WebSocket-Protocol: chat"),
            403,
        ),
    ] {
        let found = match negotiate(&request(method, &lines), &exec()) {
            Ok((_, answer)) | Err(answer) => answer.status().as_u16(),
        };
        assert_eq!(found, status, "{lines}");
    }
}

#[test]
fn an_old_http_version_cannot_upgrade() {
    let mut old = request(Method::GET, WEBSOCKET);
    *old.version_mut() = Version::HTTP_10;
    let answer = negotiate(&old, &exec()).unwrap_err();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn other_methods_are_told_the_right_ones() {
    for good in [Method::GET, Method::POST] {
        assert!(method(&good).is_ok());
    }
    for bad in [Method::PUT, Method::HEAD, Method::OPTIONS, Method::CONNECT] {
        let answer = method(&bad).unwrap_err();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(get(answer.headers(), "allow"), ["GET, POST"]);
    }
}
