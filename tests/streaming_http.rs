//! The streaming server as hostile and clumsy clients meet it: bad upgrades, heads without end,
//! used tokens, garbage instead of frames, certificates of strangers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cricket_harness::cri::{AttachRequest, ExecRequest, PortForwardRequest};
use cricket_harness::{Node, certificate, requests, tools};
use tonic::Code;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// So that a server that hangs fails the test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(120);

const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
    X-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n";

/// An exec that asks for the end of its input.
fn request(id: &str) -> ExecRequest {
    ExecRequest {
        container_id: id.into(),
        cmd: vec!["cat".into()],
        stdin: true,
        stdout: true,
        ..Default::default()
    }
}

/// A URL that the daemon gave out.
struct Url {
    address: SocketAddr,
    path: String,
}

async fn url(node: &Node, id: &str) -> Url {
    let url = node.cri.exec_url(request(id)).await.unwrap().url;
    let (address, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .unwrap_or_else(|| panic!("not absolute: {url}"));
    Url {
        address: address.parse().unwrap(),
        path: format!("/{path}"),
    }
}

fn connect(node: &Node, address: SocketAddr) -> TcpStream {
    let stream = node.net().connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything that is answered to some bytes until the server hangs up. A reset is a way to.
fn ask(node: &Node, address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(node, address);
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_bad_upgrade_is_answered_and_uses_the_token_up() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("upgrade", &image, &["sleep", "1000"]).await;
    let many = "X-Filler: x\r\n".repeat(200);
    let long = format!("X-Filler: {}\r\n", "x".repeat(100_000));
    for (method, version, headers, status) in [
        ("POST", "1.1", "", "400"),
        (
            "POST",
            "1.1",
            "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n",
            "400",
        ),
        ("POST", "1.0", SPDY, "400"),
        ("GET", "1.0", WEBSOCKET, "400"),
        ("POST", "1.1", &SPDY.replace("v4", "v9"), "403"),
        ("GET", "1.1", &WEBSOCKET.replace("v5", "v9"), "403"),
        ("POST", "1.1", WEBSOCKET, "400"),
        ("PUT", "1.1", SPDY, "405"),
        ("DELETE", "1.1", SPDY, "405"),
        ("POST", "1.1", &format!("{SPDY}{many}"), "431"),
        ("POST", "1.1", &format!("{SPDY}{long}"), "431"),
        ("POST", "1.1", &format!("{SPDY}no header at all\r\n"), "400"),
    ] {
        let url = url(&node, &id).await;
        let line = format!("{method} {} HTTP/{version}\r\nHost: x\r\n", url.path);
        let head = format!("{line}{headers}\r\n");
        let answer = ask(&node, url.address, head.as_bytes());
        let found = answer.split(' ').nth(1).unwrap_or("reset");
        let refused = found == status || (status == "431" && found == "reset");
        assert!(refused, "{method} {headers:.200}: {answer}");
        if status == "403" && headers.contains("SPDY") {
            let versions = "x-accepted-stream-protocol-versions: v4.channel.k8s.io";
            assert!(answer.to_ascii_lowercase().contains(versions), "{answer}");
        }
    }
    let url = url(&node, &id).await;
    let bad = format!("POST {} HTTP/1.1\r\nHost: x\r\n\r\n", url.path);
    assert!(ask(&node, url.address, bad.as_bytes()).contains(" 400 "));
    let good = format!("POST {} HTTP/1.1\r\nHost: x\r\n{SPDY}\r\n", url.path);
    let answer = ask(&node, url.address, good.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    for path in [
        "/",
        "/exec",
        "/exec/",
        "/exec/AAAAAAAAAAAAAAAAAAAAAA",
        "/../etc/passwd",
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{WEBSOCKET}\r\n");
        let answer = ask(&node, url.address, head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_slow_or_silent_client_is_hung_up_on_and_others_are_served() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("slow", &image, &["sleep", "1000"]).await;
    let url = url(&node, &id).await;
    let mut silent = connect(&node, url.address);
    let mut slow = connect(&node, url.address);
    slow.write_all(b"POST /exec/x HTTP/1.1\r\nHo").unwrap();
    let head = format!("GET {} HTTP/1.1\r\nHost: x\r\n{WEBSOCKET}\r\n", url.path);
    let mut other = connect(&node, url.address);
    other.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    other.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    for stream in [&mut silent, &mut slow] {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("101"), "{text}");
    }
    node.finish().await;
}

#[tokio::test]
async fn the_thousand_and_first_url_must_wait() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("tokens", &image, &["sleep", "1000"]).await;
    let first = url(&node, &id).await;
    for _ in 1..1000 {
        node.cri.exec_url(request(&id)).await.unwrap();
    }
    let error = node.cri.exec_url(request(&id)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\n\r\n", first.path);
    assert!(ask(&node, first.address, head.as_bytes()).contains(" 400 "));
    url(&node, &id).await;
    node.finish().await;
}

#[tokio::test]
async fn what_cannot_be_streamed_gets_no_url() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, id, _) = node.run("codes", &image, &["sleep", "1000"]).await;
    let (_, ended, _) = node.run("ended", &image, &["true"]).await;
    node.cri.exited(&ended).await;
    let missing = "0".repeat(64);
    let exec = |id: &str, change: &dyn Fn(&mut ExecRequest)| {
        let mut request = request(id);
        change(&mut request);
        let cri = node.cri.clone();
        async move {
            cri.exec_url(request)
                .await
                .map(drop)
                .map_err(|error| error.code())
        }
    };
    let invalid = Err(Code::InvalidArgument);
    assert_eq!(exec("", &|_| ()).await, invalid);
    assert_eq!(
        exec(&id, &|r| (r.tty, r.stderr) = (true, true)).await,
        invalid
    );
    assert_eq!(
        exec(&id, &|r| (r.stdin, r.stdout) = (false, false)).await,
        invalid
    );
    assert_eq!(exec(&id, &|r| r.cmd.clear()).await, invalid);
    assert_eq!(exec(&missing, &|_| ()).await, Err(Code::NotFound));
    assert_eq!(exec(&ended, &|_| ()).await, Err(Code::FailedPrecondition));
    assert_eq!(exec(&id[..12], &|_| ()).await, Ok(()));

    let attach = |id: &str, stdout| {
        let request = AttachRequest {
            container_id: id.into(),
            stdout,
            ..Default::default()
        };
        let cri = node.cri.clone();
        async move {
            cri.attach_url(request)
                .await
                .map(drop)
                .map_err(|error| error.code())
        }
    };
    assert_eq!(attach("", true).await, invalid);
    assert_eq!(attach(&id, false).await, invalid);
    assert_eq!(attach(&missing, true).await, Err(Code::NotFound));
    assert!(attach(&ended, true).await.is_err());
    assert_eq!(attach(&id, true).await, Ok(()));

    let forward = |id: &str, port| {
        let request = PortForwardRequest {
            pod_sandbox_id: id.into(),
            port: vec![port],
        };
        let cri = node.cri.clone();
        async move {
            let url = cri.port_forward_url(request).await;
            url.map(drop).map_err(|error| error.code())
        }
    };
    assert_eq!(forward("", 80).await, invalid);
    for bad in [0, -1, 65536] {
        assert_eq!(forward(&pod, bad).await, invalid);
    }
    assert_eq!(forward(&missing, 80).await, Err(Code::NotFound));
    assert_eq!(forward(&pod, 80).await, Ok(()));
    node.cri.stop_pod(&pod).await.unwrap();
    assert_eq!(forward(&pod, 80).await, Err(Code::FailedPrecondition));
    node.finish().await;
}

#[tokio::test]
async fn garbage_after_the_upgrade_ends_that_session_and_nothing_else() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("garbage", &image, &["sleep", "1000"]).await;
    // As good as random, and the same each time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for round in 0..40 {
        let url = url(&node, &id).await;
        let (headers, method) = [(WEBSOCKET, "GET"), (SPDY, "POST")][round % 2];
        let head = format!("{method} {} HTTP/1.1\r\nHost: x\r\n{headers}\r\n", url.path);
        let mut stream = connect(&node, url.address);
        let mut bytes = head.into_bytes();
        for _ in 0..(round * 40) {
            bytes.extend(next());
        }
        drop(stream.write_all(&bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    let fine = node.cri.exec(&id, &["true"], 10).await.unwrap();
    assert_eq!(fine.exit_code, 0);
    node.until("the commands of the sessions are gone", || {
        let processes = node.processes(&id);
        !processes.iter().any(|(_, facts)| facts.contains("cat"))
    })
    .await;
    node.finish().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_key_that_sets_it() {
    let mut node = Node::start(CRICKET).await;
    let taken = node.net().listen(0);
    let port = taken.local_addr().unwrap().port();
    let file = node.dir().join("crio.conf.d/10-port.conf");
    std::fs::write(&file, format!("[crio.api]\nstream_port = \"{port}\"\n")).unwrap();
    assert!(node.daemon.stop().await.success());
    let status = node.daemon.try_launch().unwrap_err();
    assert!(!status.success());
    let log = node.daemon.log();
    let words = [&port.to_string(), "Address already in use", "stream_port"];
    for word in words {
        assert!(log.contains(word), "{log}");
    }
    drop(taken);
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

/// Hangs up on an attachment whose container takes no input, with more of it under way than fits
/// anywhere: the daemon waits for the container then, and does not read.
fn leave_in_the_middle(node: &Node, url: &str, head: &[u8]) {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let mut stream = connect(node, address.parse().unwrap());
    let patience = Some(Duration::from_millis(500));
    stream.set_write_timeout(patience).unwrap();
    let line = format!("GET /{path} HTTP/1.1\r\nHost: x\r\n{WEBSOCKET}\r\n");
    stream.write_all(line.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    stream.write_all(head).unwrap();
    let zeros = vec![0; 1 << 20];
    let is_full = (0..64).any(|_| stream.write_all(&zeros).is_err());
    assert!(is_full, "64 MiB were taken");
    // Closed with the rest of the answer unread, so that the kernel resets the connection.
}

#[tokio::test]
async fn a_client_that_leaves_while_its_input_is_not_taken_leaves_its_place() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("leaves");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    container.stdin = true;
    let id = node.run_in(&pod, &config, &container).await;
    let request = AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        ..Default::default()
    };
    // A masked message of 1 GiB for channel 0, with a mask that changes nothing.
    let message = [0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0];
    // As many as there are places.
    for _ in 0..8 {
        let url = node.cri.attach_url(request.clone()).await.unwrap().url;
        leave_in_the_middle(&node, &url, &message);
    }
    node.until("a place is free", || {
        let mut command = node.net().command(&tools::crictl());
        let endpoint = format!("unix://{}", node.daemon.socket().display());
        command
            .args(["--config", "/dev/null", "--runtime-endpoint", &endpoint])
            .args(["attach", &id])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        // One that is refused ends at once.
        std::thread::sleep(Duration::from_secs(1));
        let attached = child.try_wait().unwrap().is_none();
        drop(child.kill());
        drop(child.wait());
        attached
    })
    .await;
    node.finish().await;
}

/// What openssl's client gets for a GET, and whether TLS was agreed on.
fn over_tls(node: &Node, address: &str, arguments: &[&str]) -> (bool, String) {
    let head = b"GET /exec/none HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = say_over_tls(node, address, arguments, head);
    (answer.starts_with("HTTP/1.1 404"), answer)
}

/// What openssl's client gets for these bytes until the server hangs up.
fn say_over_tls(node: &Node, address: &str, arguments: &[&str], bytes: &[u8]) -> String {
    let mut command = node.net().command(&tools::need("openssl"));
    command
        .args([
            "s_client",
            "-connect",
            address,
            "-quiet",
            "-verify_return_error",
        ])
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    drop(stdin.write_all(bytes));
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn tls_lets_in_who_has_a_certificate_of_the_right_authority() {
    let scratch = tempfile::tempdir().unwrap();
    let ours = certificate::signed(&scratch.path().join("ours"));
    let strangers = certificate::signed(&scratch.path().join("strangers"));
    let clients = certificate::client(&scratch.path().join("clients"));
    let options = format!(
        "[crio.api]\nstream_enable_tls = true\nstream_tls_cert = {:?}\nstream_tls_key = {:?}\n\
         stream_tls_ca = {:?}\ntls_min_version = \"VersionTLS13\"\n",
        ours.certificate, ours.key, clients.authority
    );
    let mut node = Node::start(CRICKET).await;
    let file = node.dir().join("crio.conf.d/10-tls.conf");
    std::fs::write(&file, options).unwrap();
    assert!(node.daemon.stop().await.success());
    node.daemon.launch();
    node.reconnect().await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("tls", &image, &["sleep", "1000"]).await;
    let url = node.cri.exec_url(request(&id)).await.unwrap().url;
    let address = url.strip_prefix("https://").unwrap();
    let address = address.split('/').next().unwrap();
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let trust = ["-CAfile".to_owned(), text(&ours.authority)];
    let identity = |signed: &certificate::Signed| {
        let (certificate, key) = (text(&signed.certificate), text(&signed.key));
        ["-cert".to_owned(), certificate, "-key".to_owned(), key]
    };
    let ask = |more: &[String]| {
        let all: Vec<_> = trust.iter().chain(more).map(String::as_str).collect();
        over_tls(&node, address, &all)
    };
    let (served, answer) = ask(&identity(&clients));
    assert!(served, "{answer}");
    let (served, answer) = ask(&[]);
    assert!(!served, "without a certificate: {answer}");
    let (served, answer) = ask(&identity(&strangers));
    assert!(!served, "with a stranger's: {answer}");
    // A whole session: "hello" to cat, the end of its input, and the answer to the server's close.
    let path = url.strip_prefix("https://").unwrap();
    let path = path.strip_prefix(address).unwrap();
    let mut session = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{WEBSOCKET}\r\n").into_bytes();
    for payload in [&b"\0hello"[..], b"\xff\0"] {
        session.extend([
            0x82,
            0x80 | u8::try_from(payload.len()).unwrap(),
            0,
            0,
            0,
            0,
        ]);
        session.extend(payload);
    }
    let all = [&trust[..], &identity(&clients)].concat();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    let answer = say_over_tls(&node, address, &all, &session);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("\u{1}hello"), "{answer}");
    assert!(answer.contains(r#""status":"Success""#), "{answer}");
    let old = [&identity(&clients)[..], &["-tls1_2".to_owned()]].concat();
    let (served, answer) = ask(&old);
    assert!(!served, "with TLS 1.2: {answer}");
    node.finish().await;
}
