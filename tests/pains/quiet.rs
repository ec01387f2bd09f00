//! A kubelet asks for all pods and containers every second. That must cost nothing outside the
//! daemon's memory: here it may open no descriptor at all while it answers, so neither a file nor a
//! process, and still has to answer everything.

use cricket_harness::Node;
use cricket_harness::cri::*;

use super::CRICKET;
use super::processes::{allow_descriptors, stat_field};

const PODS: usize = 50;
/// proc_pid_stat(5): page faults of the children that were waited for. No process lives without.
const CMINFLT: usize = 11;

/// What a kubelet asks for in one relist, and for the images.
async fn relist(node: &Node) -> (usize, usize) {
    let pods = node.cri.pods().await.unwrap();
    let containers = node.cri.containers().await.unwrap();
    for pod in &pods {
        let status = node.cri.pod(&pod.id).await.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxReady);
    }
    for container in &containers {
        let status = node.cri.container(&container.id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
    }
    let status = node.cri.status(StatusRequest::default()).await.unwrap();
    assert!(
        status
            .status
            .unwrap()
            .conditions
            .iter()
            .all(|one| one.status)
    );
    node.cri.version(VersionRequest::default()).await.unwrap();
    let images = node.cri.images().await.unwrap();
    for image in &images {
        assert!(node.cri.image(&image.id).await.unwrap().is_some());
    }
    (pods.len(), containers.len())
}

#[tokio::test]
async fn a_relist_of_fifty_pods_opens_no_file_and_starts_no_process() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let containers = 5;
    for number in 0..PODS {
        let name = format!("quiet{number}");
        if number < containers {
            node.run(&name, &image, &["sleep", "1000"]).await;
            continue;
        }
        let mut config = node.pod_config(&name);
        cricket_harness::requests::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
        node.cri.run_pod(&config).await.unwrap();
    }
    let daemon = node.daemon.pid();
    allow_descriptors(daemon, false);
    // It is really so: what needs a descriptor fails.
    let running = node.cri.containers().await.unwrap();
    let refused = node.cri.exec(&running[0].id, &["true"], 60).await;
    assert!(refused.unwrap_err().message().contains("open files"));
    let children = stat_field(daemon, CMINFLT);
    for _ in 0..10 {
        assert_eq!(relist(&node).await, (PODS, containers));
    }
    assert_eq!(
        stat_field(daemon, CMINFLT),
        children,
        "a process was started"
    );
    allow_descriptors(daemon, true);
    node.finish().await;
}
