//! A monitor that is there and does nothing: stopped, or held by a disk. What it looks after can be
//! stopped and removed all the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use cricket_harness::cri::{ContainerState, NamespaceMode};
use cricket_harness::{Node, requests};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// Stops the monitor of a container or of a pod's pause process, which is returned.
fn stop_monitor(node: &Node, id: &str) -> Pid {
    let processes = node.processes(id).into_iter();
    let mut monitors = processes.filter(|(_, facts)| facts.contains("/conmon "));
    let pid = monitors.next().expect("it has a monitor").0;
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    pid
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

#[tokio::test]
async fn a_stopped_monitor_delays_no_restart_and_tells_of_the_end_once_it_goes_on() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, stuck, config) = node.run("stuck", &image, &["sleep", "1000"]).await;
    let other = requests::container("other", &image, &["sh", "-c", "exit 3"]);
    let other = node.run_in(&pod, &config, &other).await;
    let of_stuck = node.processes(&stuck).into_iter();
    let mut init = of_stuck.filter(|(_, facts)| !facts.contains("/conmon "));
    let init = init.next().expect("it has a process").0;
    let monitor = stop_monitor(&node, &stuck);
    node.daemon.kill();
    kill(Pid::from_raw(i32::try_from(init).unwrap()), Signal::SIGKILL).unwrap();
    let before = Instant::now();
    node.daemon.launch();
    node.reconnect().await;
    let took = before.elapsed();
    // As long as a monitor may take to answer is what all others would wait for.
    assert!(took < Duration::from_secs(5), "{took:?} to serve");
    let listed = node.cri.container(&stuck).await.unwrap();
    assert_eq!(listed.state(), ContainerState::ContainerRunning);
    node.cri.exited(&other).await;
    assert_eq!(node.cri.container(&other).await.unwrap().exit_code, 3);
    kill(monitor, Signal::SIGCONT).unwrap();
    node.cri.exited(&stuck).await;
    let status = node.cri.container(&stuck).await.unwrap();
    assert_eq!((status.exit_code, status.message.as_str()), (137, ""));
    node.finish().await;
}
