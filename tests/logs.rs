//! Container logs: records in CRI format, complete, over rotation and restarts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use cricket_harness::Node;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// The longest content of one record, as the kubelet's reader expects.
const RECORD_MAX: usize = 16 * 1024;

fn text(records: &[(String, String, String)], stream: &str) -> String {
    let mut out = String::new();
    for (_, tag, content) in records.iter().filter(|(from, ..)| from == stream) {
        out += content;
        out += if tag == "F" { "\n" } else { "" };
    }
    out
}

#[tokio::test]
async fn both_streams_are_logged_with_full_and_partial_records() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let script = "echo out; echo err >&2; printf tail";
    let (_, id, config) = node.run("streams", &image, &["sh", "-c", script]).await;
    let status = node.cri.exited(&id).await;
    let file = node.log_file(&config, "main");
    assert_eq!(Path::new(&status.log_path), file);
    let records = node.log_records(&file);
    assert_eq!(text(&records, "stdout"), "out\ntail");
    assert_eq!(text(&records, "stderr"), "err\n");
    assert_eq!(
        records.iter().filter(|(_, tag, _)| tag == "P").count(),
        1,
        "{records:?}"
    );
    let first = std::fs::read_to_string(&file).unwrap();
    let time = first.split(' ').next().unwrap();
    assert!(
        time.len() >= 30 && time.contains('T') && time.contains('.'),
        "RFC 3339 Nano: {time}"
    );
    node.finish().await;
}

#[tokio::test]
async fn a_long_line_is_split_and_puts_together_again() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo";
    let (_, id, config) = node.run("long", &image, &["sh", "-c", script]).await;
    node.cri.exited(&id).await;
    let records = node.log_records(&node.log_file(&config, "main"));
    assert!(
        records
            .iter()
            .all(|(_, _, content)| content.len() <= RECORD_MAX)
    );
    assert_eq!(text(&records, "stdout"), "x".repeat(100_000) + "\n");
    node.finish().await;
}

#[tokio::test]
async fn the_log_is_complete_when_the_container_is_seen_to_have_exited() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("complete");
    let pod = node.cri.run_pod(&config).await.unwrap();
    for round in 0..5 {
        let name = format!("round{round}");
        let container = cricket_harness::requests::container(&name, &image, &["seq", "1", "20000"]);
        let id = node.run_in(&pod, &config, &container).await;
        assert_eq!(node.cri.exited(&id).await.exit_code, 0);
        let records = node.log_records(&node.log_file(&config, &name));
        assert_eq!(text(&records, "stdout"), numbers(1, 20000), "round {round}");
    }
    node.finish().await;
}

#[tokio::test]
async fn reopening_the_log_loses_and_repeats_no_line() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let script = "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i; done";
    let (_, id, config) = node.run("rotate", &image, &["sh", "-c", script]).await;
    let file = node.log_file(&config, "main");
    let mut rotated = Vec::new();
    for round in 0..5 {
        node.until("the file grows", || {
            file.metadata().is_ok_and(|file| file.len() > 0)
        })
        .await;
        let old = file.with_extension(format!("old{round}"));
        std::fs::rename(&file, &old).unwrap();
        node.cri.reopen_log(&id).await.unwrap();
        assert!(file.is_file(), "reopened when the call returns");
        rotated.push(old);
    }
    node.cri
        .exec(&id, &["touch", "/tmp/end"], 10)
        .await
        .unwrap();
    node.cri.exited(&id).await;
    rotated.push(file);
    let whole: String = rotated
        .iter()
        .map(|old| text(&node.log_records(old), "stdout"))
        .collect();
    let last = whole.lines().count();
    assert_eq!(whole, numbers(1, last));
    node.cri
        .reopen_log(&id)
        .await
        .expect_err("the container has exited");
    node.finish().await;
}

#[tokio::test]
async fn the_log_goes_on_while_the_daemon_is_dead() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let script = "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i; sleep 0.01; done";
    let (_, id, config) = node.run("dead", &image, &["sh", "-c", script]).await;
    let file = node.log_file(&config, "main");
    let lines = || {
        std::fs::read_to_string(&file)
            .unwrap_or_default()
            .lines()
            .count()
    };
    node.until("it has begun", || lines() > 3).await;
    node.daemon.kill();
    let before = lines();
    node.until("it goes on", || lines() > before + 3).await;
    node.daemon.launch();
    node.reconnect().await;
    node.cri
        .exec(&id, &["touch", "/tmp/end"], 10)
        .await
        .unwrap();
    node.cri.exited(&id).await;
    assert_eq!(
        text(&node.log_records(&file), "stdout"),
        numbers(1, lines())
    );
    node.finish().await;
}

fn numbers(first: usize, last: usize) -> String {
    (first..=last).map(|number| format!("{number}\n")).collect()
}
