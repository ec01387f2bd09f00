//! What must go on while something hangs: reads answer at once, and other pods live and die.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::Node;
use crate::client::Reply;
use crate::cri;
use crate::cri::NamespaceMode;
use crate::requests;

/// How long a read may take on a machine that does much else. Its speed the benchmark measures.
const READ: Duration = Duration::from_secs(1);
/// How long another pod may take for all its life, likewise.
const LIFE: Duration = Duration::from_secs(60);

async fn read<T>(call: &str, reply: impl Future<Output = Reply<T>>) -> T {
    let reply = tokio::time::timeout(READ, Box::pin(reply)).await;
    let reply = reply.unwrap_or_else(|_| panic!("{call} waits"));
    reply.unwrap_or_else(|error| panic!("{call}: {error:?}"))
}

/// Every read of the CRI answers now.
pub async fn reads(node: &Node) {
    let cri = &node.cri;
    read("Version", cri.version(Default::default())).await;
    let verbose = cri::StatusRequest { verbose: true };
    read("Status", cri.status(verbose)).await;
    for pod in read("ListPodSandbox", cri.pods()).await {
        read("PodSandboxStatus", cri.pod(&pod.id)).await;
    }
    for container in read("ListContainers", cri.containers()).await {
        read("ContainerStatus", cri.container(&container.id)).await;
    }
    let all = cri.list_container_stats(Default::default());
    read("ListContainerStats", all).await;
    let all = cri.list_pod_sandbox_stats(Default::default());
    read("ListPodSandboxStats", all).await;
    read("ListImages", cri.images()).await;
    read("ImageFsInfo", cri.image_fs_info(Default::default())).await;
}

/// A pod on the node's network, with this handler, is made, runs a container, and is removed.
pub async fn another_pod(node: &Node, handler: &str, image: &str) {
    let mut config = node.pod_config("another");
    requests::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
    let lived = tokio::time::timeout(LIFE, Box::pin(life(node, &config, handler, image))).await;
    lived.expect("another pod is not held up");
}

/// The same, and a pod with a network of its own beside it; all while `call`, which hangs, does so.
pub async fn other_pods<T>(node: &Node, handler: &str, image: &str, call: &JoinHandle<T>) {
    let config = node.pod_config("networked");
    tokio::join!(another_pod(node, handler, image), async {
        let lived = tokio::time::timeout(LIFE, Box::pin(life(node, &config, handler, image)));
        lived.await.expect("a pod with a network is not held up");
    });
    still_hangs(call);
}

/// That a call has not ended: else what has been seen was not seen meanwhile.
#[track_caller]
pub fn still_hangs<T>(call: &JoinHandle<T>) {
    assert!(
        !call.is_finished(),
        "what hangs has ended too early to show anything"
    );
}

async fn life(node: &Node, config: &cri::PodSandboxConfig, handler: &str, image: &str) {
    let pod = node.cri.run_pod_with(config, handler).await.unwrap();
    let container = requests::container("main", image, &["sleep", "1000"]);
    let id = node.run_in(&pod, config, &container).await;
    node.cri.exec(&id, &["true"], 30).await.unwrap();
    node.cri.stop(&id, 0).await.unwrap();
    node.cri.remove(&id).await.unwrap();
    node.cri.stop_pod(&pod).await.unwrap();
    node.cri.remove_pod(&pod).await.unwrap();
}

/// What the daemon says that it is at: `cricket operations -o json`.
#[track_caller]
pub fn operations(node: &Node) -> Vec<serde_json::Value> {
    let output = node
        .daemon
        .command()
        .args(["operations", "-o", "json"])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["operations"].as_array().unwrap().clone()
}

/// What the operations of this kind wait for, as far as it is something outside.
#[track_caller]
pub fn waits(node: &Node, kind: &str) -> Vec<String> {
    let all = operations(node);
    let these = all.iter().filter(|one| one["operation"] == kind);
    let waits = these.map(|one| one["waitsFor"].as_str().unwrap().to_owned());
    waits.filter(|what| !what.is_empty()).collect()
}
