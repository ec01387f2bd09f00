//! What runtimes that are new to the CRI get wrong about ids: points 1 and 10 of `newcomers`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::cri::*;
use cricket_harness::{Node, requests};
use tonic::{Code, Status};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

fn code<T: std::fmt::Debug>(reply: Result<T, Status>) -> Code {
    reply.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// The codes of every call that names a container and needs one, with this id.
async fn calls_on_a_container(node: &Node, id: &str) -> Vec<(&'static str, Code)> {
    let update = UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        ..Default::default()
    };
    let stats = ContainerStatsRequest {
        container_id: id.to_owned(),
    };
    vec![
        ("ContainerStatus", code(node.cri.container(id).await)),
        (
            "ContainerStats",
            code(node.cri.container_stats(stats).await),
        ),
        ("ExecSync", code(node.cri.exec(id, &["true"], 10).await)),
        ("ReopenContainerLog", code(node.cri.reopen_log(id).await)),
        (
            "UpdateContainerResources",
            code(node.cri.update_container_resources(update).await),
        ),
    ]
}

/// The codes of calls that need a pod or a container, with an id that is none.
async fn more_calls(node: &Node, id: &str) -> Vec<(&'static str, Code)> {
    let update = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: id.to_owned(),
        ..Default::default()
    };
    let stats = PodSandboxStatsRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let checkpoint = CheckpointContainerRequest {
        container_id: id.to_owned(),
        location: node.dir().join("checkpoint.tar").display().to_string(),
        ..Default::default()
    };
    let cri = &node.cri;
    vec![
        ("PodSandboxStatus", code(cri.pod(id).await)),
        ("PodSandboxStats", code(cri.pod_sandbox_stats(stats).await)),
        (
            "UpdatePodSandboxResources",
            code(cri.update_pod_sandbox_resources(update).await),
        ),
        ("StartContainer", code(cri.start(id).await)),
        (
            "CheckpointContainer",
            code(cri.checkpoint_container(checkpoint).await),
        ),
    ]
}

async fn listed(node: &Node, filter: ContainerFilter) -> Vec<String> {
    let request = ListContainersRequest {
        filter: Some(filter),
    };
    let reply = node.cri.list_containers(request).await.unwrap();
    reply.containers.into_iter().map(|one| one.id).collect()
}

#[tokio::test]
async fn point_1_a_missing_id_has_four_answers() {
    let node = Node::start(CRICKET).await;
    for id in ["0".repeat(64), "abc".to_owned()] {
        let id = id.as_str();
        node.cri.stop_pod(id).await.unwrap();
        node.cri.remove_pod(id).await.unwrap();
        node.cri.stop(id, 1).await.unwrap();
        node.cri.remove(id).await.unwrap();
        node.cri.remove_image(id).await.unwrap();
        assert_eq!(node.cri.image(id).await.unwrap(), None);
        let mut calls = calls_on_a_container(&node, id).await;
        calls.extend(more_calls(&node, id).await);
        for (call, code) in calls {
            assert_eq!(code, Code::NotFound, "{call} {id}");
        }
        let filter = ContainerFilter {
            id: id.to_owned(),
            ..Default::default()
        };
        assert_eq!(listed(&node, filter).await, Vec::<String>::new());
        let filter = PodSandboxFilter {
            id: id.to_owned(),
            ..Default::default()
        };
        let request = ListPodSandboxRequest {
            filter: Some(filter),
        };
        assert_eq!(node.cri.list_pod_sandbox(request).await.unwrap().items, []);
    }
    node.finish().await;
}

#[tokio::test]
async fn point_10_ids_are_64_hex_digits_and_any_unique_beginning_will_do() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, running, config) = node.run("ids", &image, &["sleep", "1000"]).await;
    let mut ids = vec![running.clone()];
    // By the 17th two have the same first digit.
    let twice = loop {
        let seen = |digit: &str| ids.iter().filter(|id| id.starts_with(digit)).count() > 1;
        if let Some(id) = ids.iter().find(|id| seen(&id[..1])) {
            break id[..1].to_owned();
        }
        let container = requests::container(&format!("c{}", ids.len()), &image, &["true"]);
        ids.push(node.cri.create(&pod, &container, &config).await.unwrap());
    };
    let hex =
        |id: &String| id.len() == 64 && id.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    assert!(ids.iter().chain([&pod]).all(hex), "{ids:?} {pod}");
    for (call, code) in calls_on_a_container(&node, &twice).await {
        assert_eq!(code, Code::InvalidArgument, "{call}");
    }
    assert_eq!(code(node.cri.stop(&twice, 0).await), Code::InvalidArgument);
    assert_eq!(code(node.cri.remove(&twice).await), Code::InvalidArgument);
    let filter = ContainerFilter {
        id: running[..20].to_owned(),
        pod_sandbox_id: pod[..20].to_owned(),
        ..Default::default()
    };
    assert_eq!(listed(&node, filter).await, std::slice::from_ref(&running));
    for (call, code) in calls_on_a_container(&node, &running[..20]).await {
        assert_eq!(code, Code::Ok, "{call}");
    }
    assert_eq!(node.cri.pod(&pod[..20]).await.unwrap().id, pod);
    let last = ids.last().unwrap();
    node.cri.start(&last[..20]).await.unwrap();
    node.cri.stop(&last[..20], 0).await.unwrap();
    node.cri.remove(&last[..20]).await.unwrap();
    let container = requests::container("by-prefix", &image, &["true"]);
    node.cri
        .create(&pod[..20], &container, &config)
        .await
        .unwrap();
    node.cri.stop_pod(&pod[..20]).await.unwrap();
    node.cri.remove_pod(&pod[..20]).await.unwrap();
    assert_eq!(node.cri.pods().await.unwrap(), []);
    node.finish().await;
}
