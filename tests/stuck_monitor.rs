//! A monitor that is there and does nothing: stopped, or held by a disk. What it looks after can be
//! stopped and removed all the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::cri::{ContainerState, NamespaceMode};
use cricket_harness::{Node, requests};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// Stops the monitor of a container or of a pod's pause process.
fn stop_monitor(node: &Node, id: &str) {
    let processes = node.processes(id).into_iter();
    let mut monitors = processes.filter(|(_, facts)| facts.contains("/conmon "));
    let pid = monitors.next().expect("it has a monitor").0;
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGSTOP).unwrap();
}

#[tokio::test]
async fn a_container_whose_monitor_is_stopped_is_stopped_and_removed() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, id, _) = node.run("stuck", &image, &["sleep", "1000"]).await;
    stop_monitor(&node, &id);
    node.cri.stop(&id, 0).await.unwrap();
    let status = node.cri.container(&id).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert!(status.message.contains("monitor was killed"), "{status:?}");
    node.cri.remove(&id).await.unwrap();
    node.cri.stop_pod(&pod).await.unwrap();
    node.cri.remove_pod(&pod).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn a_pod_whose_pause_process_has_a_stopped_monitor_is_removed() {
    let node = Node::start(CRICKET).await;
    let mut config = node.pod_config("stuck");
    requests::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = node.cri.run_pod(&config).await.unwrap();
    stop_monitor(&node, &pod);
    node.cri.stop_pod(&pod).await.unwrap();
    node.cri.remove_pod(&pod).await.unwrap();
    node.finish().await;
}
