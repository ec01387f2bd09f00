//! The request that turns an HTTP connection into streams: which protocol the client asks for, and
//! what is answered when it cannot be had.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    self, ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use ring::digest;

use super::StreamRequest;

/// What a client offers over SPDY and the server has chosen.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What the server would have accepted.
const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");

/// Protocols of exec and attach over SPDY.
const COMMAND_SPDY: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
/// Protocols of exec and attach over WebSocket; a client may also name none.
const COMMAND_WEBSOCKET: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
/// The protocol of port-forward over SPDY.
pub(super) const FORWARD: &str = "portforward.k8s.io";
/// SPDY of port-forward inside WebSocket messages.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Protocols of port-forward over WebSocket; a client may also name none.
const FORWARD_WEBSOCKET: [&str; 3] = [TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

/// RFC 6455, section 1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// RFC 6455, section 4.1: the key is 16 bytes.
const WEBSOCKET_KEY_BYTES: usize = 16;

/// How the streams are carried on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// SPDY/3.1, with the chosen protocol of the streams.
    Spdy(&'static str),
    /// WebSocket, with the chosen subprotocol; empty when the client named none.
    WebSocket(&'static str),
}

/// What the server answers on a connection.
pub(super) type Answer = Response<Full<Bytes>>;

/// Whether the method is one that clients open streams with.
///
/// # Errors
/// The answer to any other.
pub(super) fn method(method: &Method) -> Result<(), Answer> {
    match *method {
        Method::GET | Method::POST => Ok(()),
        _ => {
            let text = "streams are opened by GET or POST";
            let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, text);
            let allowed = HeaderValue::from_static("GET, POST");
            answer.headers_mut().insert(ALLOW, allowed);
            Err(answer)
        }
    }
}

/// Chooses the protocol for `stream` by the client's request, and makes the answer that switches
/// to it.
///
/// # Errors
/// The answer that says what is missing.
pub(super) fn negotiate(
    head: &Request<impl Sized>,
    stream: &StreamRequest,
) -> Result<(Upgrade, Answer), Answer> {
    if head.version() != Version::HTTP_11 || !lists(head.headers(), &CONNECTION, "upgrade") {
        let text = "unable to upgrade: missing upgrade headers in request";
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    if lists(head.headers(), &UPGRADE, "websocket") {
        return websocket(head, stream);
    }
    if lists(head.headers(), &UPGRADE, "spdy/3.1") {
        return spdy(head.headers(), stream);
    }
    let text = "unable to upgrade: the Upgrade header must be SPDY/3.1 or websocket";
    Err(refusal(StatusCode::BAD_REQUEST, text))
}

fn spdy(headers: &HeaderMap, stream: &StreamRequest) -> Result<(Upgrade, Answer), Answer> {
    let supported: &[&str] = match stream {
        StreamRequest::Exec { .. } | StreamRequest::Attach { .. } => &COMMAND_SPDY,
        StreamRequest::PortForward { .. } => &[FORWARD],
    };
    let offered: Vec<&str> = values(headers, &STREAM_PROTOCOL).collect();
    if offered.is_empty() {
        let text = "unable to upgrade: X-Stream-Protocol-Version header is required";
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    let Some(chosen) = choose(&offered, supported) else {
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: the server accepts {}",
            supported.join(", ")
        );
        let mut answer = refusal(StatusCode::FORBIDDEN, &text);
        for protocol in supported {
            let protocol = HeaderValue::from_static(protocol);
            answer.headers_mut().append(ACCEPTED_PROTOCOLS, protocol);
        }
        return Err(answer);
    };
    let mut answer = switching("SPDY/3.1");
    let headers = answer.headers_mut();
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(chosen));
    Ok((Upgrade::Spdy(chosen), answer))
}

fn websocket(
    head: &Request<impl Sized>,
    stream: &StreamRequest,
) -> Result<(Upgrade, Answer), Answer> {
    let bad = |text| Err(refusal(StatusCode::BAD_REQUEST, text));
    if head.method() != Method::GET {
        return bad("unable to upgrade: WebSocket begins with GET");
    }
    if !lists(head.headers(), &SEC_WEBSOCKET_VERSION, "13") {
        let text = "unable to upgrade: Sec-WebSocket-Version must be 13";
        let mut answer = refusal(StatusCode::UPGRADE_REQUIRED, text);
        let ours = HeaderValue::from_static("13");
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, ours);
        return Err(answer);
    }
    let key = head.headers().get(SEC_WEBSOCKET_KEY);
    let Some(accept) = key.and_then(|key| accept(key.as_bytes())) else {
        return bad("unable to upgrade: Sec-WebSocket-Key must be 16 bytes in base64");
    };
    let supported: &[&str] = match stream {
        StreamRequest::Exec { .. } | StreamRequest::Attach { .. } => &COMMAND_WEBSOCKET,
        StreamRequest::PortForward { .. } => &FORWARD_WEBSOCKET,
    };
    let offered: Vec<&str> = values(head.headers(), &SEC_WEBSOCKET_PROTOCOL).collect();
    let chosen = match choose(&offered, supported) {
        Some(chosen) => chosen,
        None if offered.is_empty() => "",
        None => {
            let text = format!(
                "unable to upgrade: requested subprotocols are not supported; the server has {}",
                supported.join(", ")
            );
            return Err(refusal(StatusCode::FORBIDDEN, &text));
        }
    };
    let mut answer = switching("websocket");
    let headers = answer.headers_mut();
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !chosen.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok((Upgrade::WebSocket(chosen), answer))
}

/// The first of the client's protocols that the server has: clients name the best first.
fn choose(offered: &[&str], supported: &[&'static str]) -> Option<&'static str> {
    offered
        .iter()
        .find_map(|offer| supported.iter().find(|ours| *ours == offer).copied())
}

/// `Sec-WebSocket-Accept` for a client's key (RFC 6455, section 4.2.2).
fn accept(key: &[u8]) -> Option<HeaderValue> {
    let decoded = STANDARD.decode(key).ok()?;
    if decoded.len() != WEBSOCKET_KEY_BYTES {
        return None;
    }
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(WEBSOCKET_GUID);
    HeaderValue::from_str(&STANDARD.encode(hash.finish())).ok()
}

/// The elements of a header that may be given several times and with commas.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    values(headers, name).any(|value| value.eq_ignore_ascii_case(wanted))
}

fn switching(protocol: &'static str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
}

/// An answer after which the connection closes.
pub(super) fn refusal(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
