//! HTTP/1 on the CRI socket: what cAdvisor reads there, and what hostile clients get.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cricket_harness::cri::*;
use cricket_harness::{Node, cgroups, memory, requests};
use serde_json::{Value, json};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
/// Far beyond what any answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn connect(node: &Node) -> UnixStream {
    let stream = UnixStream::connect(node.daemon.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes and gives all that comes back until the daemon closes.
fn exchange(node: &Node, bytes: &[u8]) -> String {
    let mut stream = connect(node);
    // The daemon may have closed before it has read all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

/// (status, head, body)
fn ask(node: &Node, method: &str, path: &str) -> (u16, String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: crio\r\nConnection: close\r\n\r\n");
    let answer = exchange(node, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn get(node: &Node, path: &str) -> Value {
    let (status, head, body) = ask(node, "GET", path);
    assert_eq!(status, 200, "{path}: {body}");
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn info_and_configuration_are_told_as_cri_o_tells_them() {
    let node = Node::start(CRICKET).await;
    let all = json!([{ "container_id": 0, "host_id": 0, "size": 4_294_967_295_u64 }]);
    let root = node.daemon.root();
    let want = json!({
        "storage_driver": "overlay",
        "storage_image": "",
        "storage_root": root.parent().unwrap(),
        "cgroup_driver": cgroups::manager(),
        "default_id_mappings": { "uids": all, "gids": all },
    });
    assert_eq!(get(&node, "/info"), want);
    let (status, head, body) = ask(&node, "GET", "/config");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/toml"), "{head}");
    let printed = node.daemon.command().arg("config").output().unwrap();
    assert_eq!(body, String::from_utf8(printed.stdout).unwrap());
    node.finish().await;
}

#[tokio::test]
async fn a_container_and_its_pod_are_told_as_cadvisor_reads_them() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, id, config) = node.run("web", &image, &["sleep", "1000"]).await;
    let status = node.cri.container(&id).await.unwrap();
    let pod_status = node.cri.pod(&pod).await.unwrap();
    let ip = pod_status.network.as_ref().unwrap().ip.clone();

    let told = get(&node, &format!("/containers/{id}"));
    assert_eq!(told["name"], "k8s_main_web_default_uid-web_0");
    assert_eq!(told["image"], json!(image));
    assert_eq!(told["image_ref"], json!(status.image_ref));
    assert_eq!(told["created_time"], json!(status.created_at));
    assert_eq!(told["labels"], json!(status.labels));
    assert_eq!(told["annotations"], json!(status.annotations));
    assert_eq!(
        told["crio_annotations"]["io.kubernetes.cri-o.ContainerID"],
        json!(id)
    );
    assert_eq!(told["log_path"], json!(status.log_path));
    assert_eq!(told["sandbox"], json!(pod));
    assert_eq!(told["ip_addresses"], json!([ip]));
    assert_eq!(told["host_network"], json!(false));
    let pid = told["pid"].as_i64().unwrap();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let names = [format!("/crio-{id}\n"), format!("/crio-{id}.scope\n")];
    assert!(names.iter().any(|name| cgroup.contains(name)), "{cgroup}");
    // cAdvisor takes `/merged` off and looks at `/diff`.
    let diff = |told: &Value| {
        let root = told["root"].as_str().unwrap();
        let layer = root.strip_suffix("/merged").expect("it ends so");
        Path::new(layer).join("diff")
    };
    assert!(diff(&told).join("..").join("merged/bin/busybox").exists());

    let told = get(&node, &format!("/containers/{pod}"));
    assert_eq!(told["name"], "k8s_POD_web_default_uid-web_0");
    assert_eq!(
        told["pid"].as_i64().unwrap(),
        pid,
        "any process in its network"
    );
    assert_eq!(told["labels"]["io.kubernetes.container.name"], "POD");
    assert_eq!(told["labels"]["io.kubernetes.pod.name"], "web");
    assert_eq!(told["annotations"], json!(config.annotations));
    assert_eq!(told["created_time"], json!(pod_status.created_at));
    assert_eq!(
        (&told["sandbox"], &told["ip_addresses"]),
        (&json!(pod), &json!([ip]))
    );
    assert_eq!(std::fs::read_dir(diff(&told)).unwrap().count(), 0);

    node.cri.stop(&id, 0).await.unwrap();
    assert_eq!(get(&node, &format!("/containers/{id}"))["pid"], 0);
    assert_eq!(get(&node, &format!("/containers/{pod}"))["pid"], 0);
    // A pod that shares a PID namespace has a process of its own.
    let mut config = node.pod_config("shared");
    requests::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let shared = node.cri.run_pod(&config).await.unwrap();
    assert_ne!(get(&node, &format!("/containers/{shared}"))["pid"], 0);
    node.finish().await;
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_would_change_something_405() {
    let node = Node::start(CRICKET).await;
    let missing = "f".repeat(64);
    let container = format!("/containers/{missing}");
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/containers/", 404),
        ("GET", "/containers/a/b", 404),
        ("GET", "/pause/x", 404),
        ("GET", "/debug/heap", 404),
        ("GET", container.as_str(), 404),
        ("GET", "/containers/%00%2f..", 404),
        ("PUT", "/containers/x", 405),
        ("POST", "/info", 405),
        ("DELETE", "/config", 405),
    ] {
        let (got, _, body) = ask(&node, method, path);
        assert_eq!(got, status, "{method} {path}: {body}");
    }
    assert!(ask(&node, "GET", &container).2.contains(&missing));
    // Two questions over one connection.
    let two = "GET /info HTTP/1.1\r\nHost: x\r\n\r\n\
               GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = exchange(&node, two.as_bytes());
    assert!(
        answer.contains(" 200 OK") && answer.contains(" 404 "),
        "{answer}"
    );
    node.finish().await;
}

#[tokio::test]
async fn hostile_clients_end_and_grpc_goes_on() {
    let node = Node::start(CRICKET).await;
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    let many = "X: y\r\n".repeat(10_000);
    let many = format!("GET /info HTTP/1.1\r\n{many}\r\n");
    let long_value = format!("GET /info HTTP/1.1\r\nX: {}\r\n\r\n", "b".repeat(1 << 20));
    let body = "POST /info HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\nConnection: close\r\n\r\nx";
    let smuggled = "GET /info HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nConnection: close\r\n\r\nzzz";
    let cases: [(&[u8], &[&str]); 10] = [
        (b"\0\x01\x02\xff\xfe\r\n\r\n", &["400"]),
        (b"garbage\r\n\r\n", &["400"]),
        (b"GET /info HTTP/9.9\r\n\r\n", &["400", "505"]),
        (b"GET  /info  HTTP/1.1\r\n\r\n", &["400"]),
        (b"GET /info HTTP/1.1\r\nno colon\r\n\r\n", &["400"]),
        (long_line.as_bytes(), &["414", "431"]),
        (many.as_bytes(), &["431"]),
        (long_value.as_bytes(), &["431"]),
        (body.as_bytes(), &["405"]),
        (smuggled.as_bytes(), &["200", "400"]),
    ];
    for (bytes, statuses) in cases {
        let answer = exchange(&node, bytes);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        // A client that still sends may see the connection reset in place of the answer.
        let cut = answer.is_empty() && bytes.len() > 1 << 16;
        assert!(cut || statuses.contains(&status), "{shown:?}: {answer:?}");
    }
    // The beginning of gRPC and then something else is what the gRPC server refuses.
    exchange(
        &node,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0garbage garbage garbage",
    );
    // Those who say nothing, or half of it, hold up nobody.
    let mut slow: Vec<_> = (0..200).map(|_| connect(&node)).collect();
    for (at, stream) in slow.iter_mut().enumerate() {
        let begun: &[u8] = [b"" as &[u8], b"P", b"PRI * HTTP/2", b"GET /in"][at % 4];
        stream.write_all(begun).unwrap();
    }
    node.cri.version(VersionRequest::default()).await.unwrap();
    let mut fresh = node.cri.clone();
    fresh.reconnect(&node.daemon.socket()).await;
    fresh.version(VersionRequest::default()).await.unwrap();
    let pss = memory::of(node.daemon.pid()).unwrap().pss;
    assert!(pss < 64 << 20, "{pss} bytes");
    // They are sent away: each reads the end, or a complaint that it was too slow.
    let mut left = Vec::new();
    for stream in &mut slow {
        left.clear();
        if let Err(error) = stream.read_to_end(&mut left) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
    }
    assert_eq!(get(&node, "/info")["storage_driver"], "overlay");
    node.finish().await;
}

#[tokio::test]
async fn the_preface_of_grpc_may_come_in_pieces() {
    let node = Node::start(CRICKET).await;
    let mut stream = connect(&node);
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
        tokio::task::yield_now().await;
    }
    // An empty SETTINGS frame; the server's own comes back.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[3], 4, "SETTINGS: {header:?}");
    drop(stream);
    node.finish().await;
}
