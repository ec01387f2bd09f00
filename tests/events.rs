//! GetContainerEvents, and the lists that come in parts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use cricket_harness::cri::ContainerEventType::{
    ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
    ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
};
use cricket_harness::cri::*;
use cricket_harness::{Node, requests};
use tokio::time::timeout;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
/// How long anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A node whose daemon has `enable_pod_events`.
async fn node_with_events() -> Node {
    let mut node = Node::start(CRICKET).await;
    node.daemon.stop().await;
    let drop_in = node.dir().join("crio.conf.d/events.conf");
    std::fs::write(drop_in, "[crio.runtime]\nenable_pod_events = true\n").unwrap();
    node.daemon.launch();
    node.reconnect().await;
    node
}

async fn follow(node: &Node) -> tonic::Streaming<ContainerEventResponse> {
    let events = Box::pin(node.cri.runtime().get_container_events(GetEventsRequest {})).await;
    events.unwrap().into_inner()
}

async fn next(events: &mut tonic::Streaming<ContainerEventResponse>) -> ContainerEventResponse {
    let event = timeout(PATIENCE, events.message()).await;
    event.expect("an event in time").unwrap().expect("no end")
}

#[tokio::test]
async fn the_life_of_a_pod_is_told_in_order_with_the_status_of_all_that_is_in_it() {
    let mut node = node_with_events().await;
    let image = node.busybox().await;
    let mut events = follow(&node).await;
    let mut others = follow(&node).await;
    let (pod, container, config) = node.run("told", &image, &["sleep", "1000"]).await;
    let quick = requests::container("quick", &image, &["false"]);
    let quick = node.run_in(&pod, &config, &quick).await;
    node.cri.exited(&quick).await;
    let status = PodSandboxStatusRequest {
        pod_sandbox_id: pod.clone(),
        ..Default::default()
    };
    let status = node.cri.pod_sandbox_status(status).await.unwrap();
    let listed: BTreeSet<_> = status
        .containers_statuses
        .iter()
        .map(|one| &one.id)
        .collect();
    assert_eq!(listed, BTreeSet::from([&container, &quick]));
    node.cri.stop_pod(&pod).await.unwrap();
    node.cri.remove_pod(&pod).await.unwrap();

    let mut last = 0;
    let mut all = Vec::new();
    loop {
        let event = next(&mut events).await;
        assert!(event.created_at > last, "times only grow");
        last = event.created_at;
        let told = event.pod_sandbox_status.as_ref().unwrap();
        assert_eq!(told.id, pod);
        assert_eq!(told.metadata, config.metadata);
        let step = (event.container_id.clone(), event.container_event_type());
        let state = |id: &str| {
            let found = event.containers_statuses.iter().find(|one| one.id == id);
            found.map(ContainerStatus::state)
        };
        match step.1 {
            Created if step.0 != pod => assert!(state(&step.0).is_some()),
            Stopped if step.0 == pod => assert_eq!(told.state(), PodSandboxState::SandboxNotready),
            Stopped => assert_eq!(state(&step.0), Some(ContainerState::ContainerExited)),
            Deleted => assert_eq!(state(&step.0), None),
            _ => {}
        }
        all.push(step.clone());
        if step == (pod.clone(), Deleted) {
            break;
        }
    }
    for id in [&pod, &container, &quick] {
        let own = all.iter().filter(|(of, _)| of == id).map(|(_, step)| *step);
        let own: Vec<_> = own.collect();
        assert_eq!(own, [Created, Started, Stopped, Deleted], "{id}");
    }
    // The stop of the quick one came before its pod's, and before the status that was asked for.
    assert!(status.timestamp > 0 && status.timestamp < last);
    for (id, step) in &all {
        let other = next(&mut others).await;
        assert_eq!(
            (&other.container_id, other.container_event_type()),
            (id, *step)
        );
    }
    // Open streams do not hold up a daemon that is told to stop.
    assert!(node.daemon.stop().await.success());
    assert!(timeout(PATIENCE, events.message()).await.is_ok());
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_can_catch_up() {
    let mut node = node_with_events().await;
    let image = node.busybox().await;
    // More than the connection's window.
    let mut deaf = follow(&node).await;
    let config = node.pod_config("many");
    let pod = node.cri.run_pod(&config).await.unwrap();
    for at in 0..20 {
        let mut container = requests::container(&format!("c{at}"), &image, &["true"]);
        let long = "x".repeat(100_000);
        container.annotations.insert("long".into(), long);
        let id = node.cri.create(&pod, &container, &config).await.unwrap();
        node.cri.remove(&id).await.unwrap();
    }
    let mut awake = follow(&node).await;
    node.cri.stop_pod(&pod).await.unwrap();
    let event = next(&mut awake).await;
    assert_eq!(
        (&event.container_id, event.container_event_type),
        (&pod, Stopped.into())
    );
    // What it did not take has waited for it.
    let mut created = 0;
    loop {
        let event = next(&mut deaf).await;
        match event.container_event_type {
            kind if kind == i32::from(Stopped) && event.container_id == pod => break,
            kind if kind == i32::from(Created) && event.container_id != pod => created += 1,
            _ => {}
        }
    }
    assert_eq!(created, 20);
    node.finish().await;
}

#[tokio::test]
async fn without_the_key_the_stream_ends_at_once_and_statuses_carry_no_time() {
    let node = Node::start(CRICKET).await;
    let mut events = follow(&node).await;
    let end = timeout(PATIENCE, events.message()).await;
    assert_eq!(end.expect("an end in time").unwrap(), None);
    let pod = node.cri.run_pod(&node.pod_config("quiet")).await.unwrap();
    let status = PodSandboxStatusRequest {
        pod_sandbox_id: pod,
        ..Default::default()
    };
    let status = node.cri.pod_sandbox_status(status).await.unwrap();
    assert_eq!((status.timestamp, status.containers_statuses.len()), (0, 0));
    node.finish().await;
}

/// All messages of a stream.
async fn parts<T>(reply: Result<tonic::Response<tonic::Streaming<T>>, tonic::Status>) -> Vec<T> {
    let mut stream = reply.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(part) = timeout(PATIENCE, stream.message()).await.unwrap().unwrap() {
        parts.push(part);
    }
    parts
}

#[tokio::test]
async fn lists_in_parts_hold_what_the_plain_lists_hold_each_once() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (mut runtime, mut images) = (node.cri.runtime(), node.cri.image_service());
    let none = runtime.stream_pod_sandboxes(StreamPodSandboxesRequest::default());
    assert_eq!(parts(none.await).await, [], "no pods, no message");
    let config = node.pod_config("parts");
    let pod = node.cri.run_pod(&config).await.unwrap();
    for at in 0..4 {
        let mut container = requests::container(&format!("c{at}"), &image, &["sleep", "1000"]);
        let long = "x".repeat(600_000);
        container.annotations.insert("long".into(), long);
        node.cri.create(&pod, &container, &config).await.unwrap();
    }
    let pods = parts(
        runtime
            .stream_pod_sandboxes(StreamPodSandboxesRequest::default())
            .await,
    )
    .await;
    let flat: Vec<_> = pods
        .into_iter()
        .flat_map(|part| part.pod_sandboxes)
        .collect();
    assert_eq!(flat, node.cri.pods().await.unwrap());
    let listed = parts(
        runtime
            .stream_containers(StreamContainersRequest::default())
            .await,
    )
    .await;
    assert_eq!(listed.len(), 4, "one of 600 kB in each message of 1 MiB");
    let flat: Vec<_> = listed
        .into_iter()
        .flat_map(|part| part.containers)
        .collect();
    assert_eq!(flat, node.cri.containers().await.unwrap());
    let filter = Some(ContainerFilter {
        id: flat[1].id[..20].to_owned(),
        ..Default::default()
    });
    let one = parts(
        runtime
            .stream_containers(StreamContainersRequest { filter })
            .await,
    )
    .await;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].containers, flat[1..2]);
    let usage = runtime.stream_container_stats(StreamContainerStatsRequest::default());
    let usage = parts(usage.await).await.into_iter();
    let of: BTreeSet<_> = usage
        .flat_map(|part| part.container_stats)
        .map(|stats| stats.attributes.unwrap().id)
        .collect();
    assert_eq!(of, flat.iter().map(|one| one.id.clone()).collect());
    let usage = runtime.stream_pod_sandbox_stats(StreamPodSandboxStatsRequest::default());
    let usage = parts(usage.await).await.into_iter();
    let of: Vec<_> = usage
        .flat_map(|part| part.pod_sandbox_stats)
        .map(|stats| stats.attributes.unwrap().id)
        .collect();
    assert_eq!(of, std::slice::from_ref(&pod));
    let metrics = runtime.stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest {});
    let metrics = parts(metrics.await).await.into_iter();
    let of: Vec<_> = metrics
        .flat_map(|part| part.pod_sandbox_metrics)
        .map(|metrics| metrics.pod_sandbox_id)
        .collect();
    assert_eq!(of, [pod]);
    let stored = parts(images.stream_images(StreamImagesRequest::default()).await).await;
    let stored: Vec<_> = stored.into_iter().flat_map(|part| part.images).collect();
    assert_eq!(stored, node.cri.images().await.unwrap());
    node.finish().await;
}
