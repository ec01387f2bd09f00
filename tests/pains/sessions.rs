//! Streams while the daemon ends: none hangs, what was written is not lost, and the next daemon
//! takes new ones at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use cricket_harness::{Node, requests};

use super::CRICKET;

const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

/// crictl with a stream that is open.
struct Session {
    child: Child,
    /// Its output from here on, at its end.
    rest: JoinHandle<String>,
    name: String,
}

/// Opens a session and waits until it has said `ready`.
fn open(node: &Node, arguments: &[&str], input: &str) -> Session {
    let mut child = node
        .crictl(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "{arguments:?}");
    }
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        // A session that is cut off ends with an error or without.
        drop(output.read_to_string(&mut rest));
        rest
    });
    Session {
        child,
        rest,
        name: arguments.join(" "),
    }
}

/// An exec and an attach of each transport.
fn open_all(node: &Node, id: &str) -> Vec<Session> {
    let mut sessions = Vec::new();
    for transport in TRANSPORTS {
        let cat = ["exec", "-i", "--transport", transport, id, "cat"];
        sessions.push(open(node, &cat, "ready\n"));
        let attach = ["attach", "-i", "--transport", transport, id];
        sessions.push(open(node, &attach, "ready\n"));
    }
    sessions
}

/// Waits until every client has ended by itself, its input still open.
async fn all_end(node: &Node, sessions: Vec<Session>) {
    for Session {
        mut child,
        rest,
        name,
    } in sessions
    {
        let mut status = None;
        node.until(&format!("the end of {name}"), || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        rest.join().unwrap();
    }
}

#[tokio::test]
async fn no_stream_hangs_when_the_daemon_is_killed_or_stopped_and_new_ones_work() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("streams");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("main", &image, &["cat"]);
    container.stdin = true;
    let id = node.run_in(&pod, &config, &container).await;
    let file = node.log_file(&config, "main");
    for round in 0..2 {
        let sessions = open_all(&node, &id);
        if round == 0 {
            node.daemon.kill();
        } else {
            assert!(node.daemon.stop().await.success());
        }
        all_end(&node, sessions).await;
        node.daemon.launch();
        node.reconnect().await;
        // The container goes on reading: the end of a session is not the end of its input.
        assert_eq!(node.cri.containers().await.unwrap().len(), 1);
    }
    let sessions = open_all(&node, &id);
    node.cri.stop(&id, 0).await.unwrap();
    all_end(&node, sessions).await;
    let records = node.log_records(&file);
    let logged = records.iter().filter(|(.., text)| text == "ready").count();
    assert_eq!(logged, 6, "each attach's line, once: {records:?}");
    node.finish().await;
}
