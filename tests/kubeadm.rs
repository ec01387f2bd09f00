//! What kubeadm (1.36: cmd/kubeadm/app/util/runtime) asks of a runtime, call by call and with its
//! deadlines. docs/first-cluster.md has the commands that lead to them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use cricket_harness::cri::*;
use cricket_harness::{Node, cgroups};
use tokio::time::timeout;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
/// Of every call but a pull.
const DEADLINE: Duration = Duration::from_secs(2);
/// For each pod that is to go.
const TRIES: usize = 5;

#[tokio::test]
async fn preflight_finds_a_runtime_that_is_ready_and_tells_its_driver() {
    let node = Node::start(CRICKET).await;
    let mut runtime = node.cri.runtime();
    let version = runtime.version(VersionRequest {
        version: "v1".into(),
    });
    let version = version.await.unwrap().into_inner();
    assert_eq!(version.runtime_api_version, "v1");
    let status = runtime.status(StatusRequest { verbose: true });
    let status = status.await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    let ready = conditions.iter().find(|one| one.r#type == "RuntimeReady");
    assert!(ready.unwrap().status);
    // What `kubeadm init` compares with its own pause image.
    let config: serde_json::Value = serde_json::from_str(&status.info["config"]).unwrap();
    let pause = config["sandboxImage"].as_str().expect("a pause image");
    assert!(pause.contains("pause"), "{pause}");
    let config = runtime.runtime_config(RuntimeConfigRequest {}).await;
    let driver = config.unwrap().into_inner().linux.unwrap().cgroup_driver;
    assert_eq!(driver, i32::from(cgroups::driver()));
    node.finish().await;
}

#[tokio::test]
async fn reset_removes_every_pod_also_with_containers_that_ignore_sigterm() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
    for name in ["etcd", "kube-proxy"] {
        node.run(name, &image, &deaf).await;
    }
    let stopped = node.cri.run_pod(&node.pod_config("stopped")).await.unwrap();
    node.cri.stop_pod(&stopped).await.unwrap();
    let pods = timeout(DEADLINE, node.cri.pods()).await;
    let pods = pods.expect("the list comes in time").unwrap();
    assert_eq!(pods.len(), 3);
    for pod in pods {
        let mut removed = false;
        for _ in 0..TRIES {
            let stop = timeout(DEADLINE, node.cri.stop_pod(&pod.id)).await;
            if !matches!(stop, Ok(Ok(()))) {
                continue;
            }
            let removal = timeout(DEADLINE, node.cri.remove_pod(&pod.id)).await;
            removed = matches!(removal, Ok(Ok(())));
            if removed {
                break;
            }
        }
        assert!(removed, "kubeadm gives up on {pod:?}");
    }
    assert_eq!(node.cri.pods().await.unwrap(), []);
    node.finish().await;
}
