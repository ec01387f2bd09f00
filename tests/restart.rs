//! The daemon is killed at no warning and started again: nothing that runs notices. What ends
//! meanwhile: `faults`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::cri::*;
use cricket_harness::{Node, requests};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// Whether a process of the container is this command.
fn runs(node: &Node, container: &str, command: &str) -> bool {
    node.processes(container)
        .iter()
        .any(|(_, shown)| shown.starts_with(command))
}

#[tokio::test]
async fn pods_containers_and_their_processes_are_the_same_after_a_kill() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, running, config) = node.run("lives", &image, &["sleep", "1000"]).await;
    let created = requests::container("created", &image, &["sleep", "1000"]);
    let created = node.cri.create(&pod, &created, &config).await.unwrap();
    let ended = requests::container("ended", &image, &["sh", "-c", "exit 4"]);
    let ended = node.run_in(&pod, &config, &ended).await;
    node.cri.exited(&ended).await;
    let stopped = node.cri.run_pod(&node.pod_config("stopped")).await.unwrap();
    node.cri.stop_pod(&stopped).await.unwrap();

    let before = everything(&node).await;
    node.until("the command", || runs(&node, &running, "sleep"))
        .await;
    let processes = node.processes(&running);
    assert!(
        processes.len() >= 2,
        "the container's and its monitor: {processes:?}"
    );
    for crash in 0..3 {
        node.crash().await;
        assert_eq!(everything(&node).await, before, "crash {crash}");
        assert_eq!(node.processes(&running), processes, "crash {crash}");
    }
    node.cri
        .start(&created)
        .await
        .expect("what was created can be started");
    let reply = node
        .cri
        .exec(&running, &["echo", "alive"], 10)
        .await
        .unwrap();
    assert_eq!(reply.stdout, b"alive\n");
    node.cri.stop(&running, 0).await.unwrap();
    assert_eq!(node.cri.container(&running).await.unwrap().exit_code, 137);
    node.finish().await;
}

#[tokio::test]
async fn a_clean_stop_of_the_daemon_leaves_the_pods_running() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("stays", &image, &["sleep", "1000"]).await;
    // Started, it may not have become its command yet.
    node.until("the command", || runs(&node, &id, "sleep"))
        .await;
    let processes = node.processes(&id);
    assert!(node.daemon.stop().await.success());
    assert_eq!(node.processes(&id), processes);
    node.daemon.launch();
    node.reconnect().await;
    assert_eq!(node.processes(&id), processes);
    let status = node.cri.container(&id).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    node.finish().await;
}

#[tokio::test]
async fn a_pod_whose_creation_was_cut_off_can_be_created_after_the_restart() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    // Killed at points spread over the 100 ms that a pod takes; whatever was half done must not
    // stand in the way of the kubelet's retry, nor stay.
    for delay in [0, 2, 5, 10, 20, 40, 80] {
        let config = node.pod_config(&format!("cut{delay}"));
        let (cri, wanted) = (node.cri.clone(), config.clone());
        let first = tokio::spawn(async move { cri.run_pod(&wanted).await });
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        node.crash().await;
        let _ = first.await.unwrap();
        let pod = node.cri.run_pod(&config).await.expect("the retry succeeds");
        let pods = node.cri.pods().await.unwrap();
        assert_eq!(
            pods.iter()
                .filter(|listed| listed.metadata == config.metadata)
                .count(),
            1
        );
        let container = requests::container("main", &image, &["sleep", "1000"]);
        let container = node.run_in(&pod, &config, &container).await;
        assert_eq!(
            node.cri
                .exec(&container, &["true"], 10)
                .await
                .unwrap()
                .exit_code,
            0
        );
        node.cri.remove_pod(&pod).await.unwrap();
    }
    node.until("all is undone", || node.left_behind().is_empty())
        .await;
    node.finish().await;
}

/// All that a kubelet can see.
async fn everything(node: &Node) -> (Vec<PodSandboxStatus>, Vec<ContainerStatus>) {
    let mut pods = node.cri.pods().await.unwrap();
    pods.sort_by(|one, other| one.id.cmp(&other.id));
    let mut containers = node.cri.containers().await.unwrap();
    containers.sort_by(|one, other| one.id.cmp(&other.id));
    let (mut pod_statuses, mut container_statuses) = (Vec::new(), Vec::new());
    for pod in pods {
        pod_statuses.push(node.cri.pod(&pod.id).await.unwrap());
    }
    for container in containers {
        container_statuses.push(node.cri.container(&container.id).await.unwrap());
    }
    (pod_statuses, container_statuses)
}
