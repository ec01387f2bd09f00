//! Pods whose containers share a PID namespace: the one case with a pause process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::cri::*;
use cricket_harness::{Node, requests};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

fn shared(node: &Node, image: &str) -> (PodSandboxConfig, ContainerConfig) {
    let mut config = node.pod_config("pid");
    requests::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let mut container = requests::container("one", image, &["sleep", "1001"]);
    let options = requests::security(&mut container)
        .namespace_options
        .as_mut()
        .unwrap();
    options.pid = NamespaceMode::Pod.into();
    (config, container)
}

#[tokio::test]
async fn containers_see_each_other_and_pause_is_the_first_process() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (config, mut container) = shared(&node, &image);
    let pod = node.cri.run_pod(&config).await.unwrap();
    let one = node.run_in(&pod, &config, &container).await;
    container.metadata.as_mut().unwrap().name = "two".into();
    container.command[1] = "1002".into();
    let two = node.run_in(&pod, &config, &container).await;
    for id in [&one, &two] {
        let shown = node
            .cri
            .exec(id, &["ps", "-o", "pid,args"], 10)
            .await
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(
            shown.contains("sleep 1001") && shown.contains("sleep 1002"),
            "{shown}"
        );
        let first = shown
            .lines()
            .find(|line| line.trim_start().starts_with("1 "))
            .unwrap();
        assert!(first.contains("pause"), "{shown}");
    }
    // An orphan goes to pause, which must reap it.
    let script = "(sh -c 'echo $$ > /tmp/orphan; exec sleep 1000' &); \
                  until [ -s /tmp/orphan ]; do sleep 0.01; done; \
                  read pid < /tmp/orphan; echo parent $(cut -d' ' -f4 /proc/$pid/stat); \
                  kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.01; done";
    // A zombie would stay in /proc, and the command beyond its time.
    let reply = node.cri.exec(&one, &["sh", "-c", script], 60).await;
    let reply = reply.unwrap();
    assert_eq!(String::from_utf8_lossy(&reply.stdout), "parent 1\n");
    assert_eq!(reply.exit_code, 0, "{reply:?}");
    node.cri.stop_pod(&pod).await.unwrap();
    assert_eq!(
        node.cri.container(&one).await.unwrap().state(),
        ContainerState::ContainerExited
    );
    node.finish().await;
}

#[tokio::test]
async fn a_pod_that_shares_no_pid_namespace_has_no_process_of_its_own() {
    let node = Node::start(CRICKET).await;
    let pod = node.cri.run_pod(&node.pod_config("none")).await.unwrap();
    assert_eq!(node.processes(&pod), []);
    node.finish().await;
}

#[tokio::test]
async fn the_pause_process_outlives_the_daemon_and_ends_with_the_pod() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (config, container) = shared(&node, &image);
    let pod = node.cri.run_pod(&config).await.unwrap();
    // By number alone: runc returns a moment before its child has become the pause program.
    let pids = |node: &Node| -> Vec<u32> {
        let processes = node.processes(&pod).into_iter();
        processes.map(|(pid, _)| pid).collect()
    };
    let before = pids(&node);
    assert!(!before.is_empty(), "there is a pause process");
    node.crash().await;
    assert_eq!(pids(&node), before);
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(
        node.cri.exec(&id, &["true"], 10).await.unwrap().exit_code,
        0
    );
    node.cri.remove_pod(&pod).await.unwrap();
    node.until("pause is gone", || node.processes(&pod).is_empty())
        .await;
    node.finish().await;
}
