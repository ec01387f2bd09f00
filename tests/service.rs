//! As a service of systemd's: what the daemon tells it, its watchdog, and the end of a node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use cricket_harness::cri::*;
use cricket_harness::{Node, requests};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// What the daemon says next, as lines.
fn told(manager: &UnixDatagram) -> Vec<String> {
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).expect("the daemon says more");
    let text = String::from_utf8(message[..length].to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Everything that it has said and nobody has read.
fn unread(manager: &UnixDatagram) -> String {
    manager.set_nonblocking(true).unwrap();
    let mut all = String::new();
    let mut message = [0; 4096];
    while let Ok(length) = manager.recv(&mut message) {
        all += &String::from_utf8_lossy(&message[..length]);
        all.push('\n');
    }
    manager.set_nonblocking(false).unwrap();
    all
}

#[tokio::test]
async fn the_watchdog_is_fed_only_while_the_socket_answers() {
    let mut node = Node::start(CRICKET).await;
    node.daemon.stop().await;
    // Rounds of a second.
    node.daemon.set_env("WATCHDOG_USEC", Path::new("3000000"));
    node.daemon.launch();
    node.reconnect().await;
    let manager = node.daemon.service_manager();
    assert_eq!(told(&manager), ["WATCHDOG=1"]);

    let (socket, away) = (node.daemon.socket(), node.dir().join("away.sock"));
    std::fs::rename(&socket, &away).unwrap();
    let failures = |node: &Node| node.daemon.log().matches("does not answer itself").count();
    let before = failures(&node);
    node.until("a round that fails", || failures(&node) > before)
        .await;
    // What was on its way when the socket went.
    unread(&manager);
    node.until("another one", || failures(&node) > before + 1)
        .await;
    assert_eq!(unread(&manager), "", "it fed a watchdog without an answer");

    std::fs::rename(&away, &socket).unwrap();
    assert_eq!(told(&manager), ["WATCHDOG=1"]);
    node.finish().await;
}

#[tokio::test]
async fn a_reload_and_a_stop_are_told_with_their_outcome() {
    let mut node = Node::start(CRICKET).await;
    let manager = node.daemon.service_manager();
    let reload = |node: &Node| {
        let pid = nix_pid(node.daemon.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    };
    let serving = format!("STATUS=serving on {}", node.daemon.socket().display());
    reload(&node);
    let begun = told(&manager);
    assert_eq!(begun[0], "RELOADING=1");
    let at = begun[1].strip_prefix("MONOTONIC_USEC=").expect("the clock");
    assert!(at.parse::<u64>().unwrap() > 0);
    assert_eq!(told(&manager), ["READY=1", &serving]);

    let config = node.daemon.config_file();
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, "[crio.runtime]\nlog_level = \"loud\"\n").unwrap();
    reload(&node);
    assert_eq!(told(&manager)[0], "RELOADING=1");
    let refused = told(&manager);
    assert_eq!(refused.len(), 2, "one line each: {refused:?}");
    assert_eq!(refused[0], "READY=1");
    let told_why = refused[1].starts_with(&format!("{serving}; reload refused: "))
        && refused[1].contains("loud");
    assert!(told_why, "{refused:?}");
    std::fs::write(&config, good).unwrap();

    assert!(node.daemon.stop().await.success());
    assert_eq!(
        told(&manager),
        ["STOPPING=1", "STATUS=stopping; containers go on"]
    );
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

fn nix_pid(pid: u32) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap())
}

/// `cricket stop --all`, without holding up what else this thread does.
async fn stop_all(node: &Node) -> Output {
    let mut command = node.daemon.command();
    command.args(["stop", "--all", "--timeout", "40"]);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_node_that_goes_down_stops_workloads_first_and_keeps_their_last_words() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    let deaf = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let mut run = Vec::new();
    for (name, source, script, grace) in [
        ("etcd", "file", polite, "30"),
        ("web", "api", polite, "30"),
        ("deaf", "api", deaf, "1"),
    ] {
        let mut config = node.pod_config(name);
        let annotation = ("kubernetes.io/config.source".to_owned(), source.to_owned());
        config.annotations.extend([annotation]);
        let pod = node.cri.run_pod(&config).await.unwrap();
        let mut container = requests::container("main", &image, &["sh", "-c", script]);
        let grace_key = "io.kubernetes.pod.terminationGracePeriod".to_owned();
        container.annotations.insert(grace_key, grace.to_owned());
        let id = node.run_in(&pod, &config, &container).await;
        let log = node.log_file(&config, "main");
        node.until("its first word", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("up"))
        })
        .await;
        run.push((id, log));
    }
    let output = stop_all(&node).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.starts_with("3 containers stopped in "), "{text}");

    let mut ended: Vec<ContainerStatus> = Vec::new();
    for (id, _) in &run {
        ended.push(node.cri.container(id).await.unwrap());
    }
    let codes: Vec<i32> = ended.iter().map(|status| status.exit_code).collect();
    assert_eq!(codes, [0, 0, 137]);
    let last_workload = ended[1].finished_at.max(ended[2].finished_at);
    assert!(
        ended[0].finished_at > last_workload,
        "the static pod was not the last: {ended:?}"
    );
    for (_, log) in &run[..2] {
        let words: Vec<_> = node.log_records(log).into_iter().map(|row| row.2).collect();
        assert_eq!(words, ["up", "bye"]);
    }
    let again = stop_all(&node).await;
    assert!(String::from_utf8_lossy(&again.stdout).starts_with("0 containers stopped"));

    node.daemon.stop().await;
    let without = stop_all(&node).await;
    assert!(!without.status.success());
    let why = String::from_utf8_lossy(&without.stderr);
    assert!(why.contains("no daemon answers on"), "{why}");
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}
