//! What pods and containers use: the figures are the kernel's, they move as they should, and a
//! list does not fail for one that ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use cricket_harness::cri::*;
use cricket_harness::{Node, requests, tools};
use tonic::Code;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

async fn of_container(node: &Node, id: &str) -> ContainerStats {
    let request = ContainerStatsRequest {
        container_id: id.into(),
    };
    node.cri
        .container_stats(request)
        .await
        .unwrap()
        .stats
        .unwrap()
}

async fn of_pod(node: &Node, id: &str) -> PodSandboxStats {
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: id.into(),
    };
    node.cri
        .pod_sandbox_stats(request)
        .await
        .unwrap()
        .stats
        .unwrap()
}

/// Runs a command in a container, which must succeed.
async fn run(node: &Node, container: &str, command: &str) {
    let reply = node.cri.exec(container, &["sh", "-c", command], 60).await;
    let reply = reply.unwrap();
    let told = String::from_utf8_lossy(&reply.stderr);
    assert_eq!(reply.exit_code, 0, "{command}: {told}");
}

fn cpu(stats: &Option<CpuUsage>) -> u64 {
    let cpu = stats.as_ref().unwrap();
    assert!(cpu.timestamp > 0);
    cpu.usage_core_nano_seconds.unwrap().value
}

#[tokio::test]
async fn figures_of_a_pod_and_its_container_move_with_what_they_do() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let idle = "while true; do sleep 1000; done";
    let (pod, id, config) = node.run("works", &image, &["sh", "-c", idle]).await;
    let (first, first_pod) = (of_container(&node, &id).await, of_pod(&node, &pod).await);
    let rate = |stats: &ContainerStats| stats.cpu.as_ref().unwrap().usage_nano_cores;
    assert_eq!(rate(&first), None, "no rate from one sample");
    let attributes = first.attributes.clone().unwrap();
    assert_eq!(attributes.id, id);
    assert_eq!(attributes.metadata.unwrap().name, "main");
    assert_eq!(attributes.labels["io.kubernetes.container.name"], "main");
    let attributes = first_pod.attributes.clone().unwrap();
    assert_eq!(attributes.id, pod);
    assert_eq!(attributes.metadata, config.metadata);
    assert_eq!(
        (attributes.labels, attributes.annotations),
        (config.labels, config.annotations)
    );

    // Processor time, memory that stays, and a file in the writable layer.
    run(
        &node,
        &id,
        "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done",
    )
    .await;
    run(
        &node,
        &id,
        "dd if=/dev/zero of=/dev/shm/a bs=1M count=16 2>/dev/null",
    )
    .await;
    run(
        &node,
        &id,
        "dd if=/dev/zero of=/file bs=1M count=8 2>/dev/null; sync",
    )
    .await;
    let (then, then_pod) = (of_container(&node, &id).await, of_pod(&node, &pod).await);
    assert!(cpu(&then.cpu) > cpu(&first.cpu) + 50_000_000);
    let linux = |stats: PodSandboxStats| stats.linux.expect("the kubelet reads it unasked");
    let (before, after) = (linux(first_pod), linux(then_pod));
    assert!(cpu(&after.cpu) > cpu(&before.cpu) + 50_000_000);
    assert!(
        cpu(&after.cpu) >= cpu(&then.cpu),
        "the pod has what its container has"
    );
    let used = |memory: &Option<MemoryUsage>| memory.as_ref().unwrap().usage_bytes.unwrap().value;
    assert!(used(&then.memory) > used(&first.memory) + (15 << 20));
    assert!(used(&after.memory) > used(&before.memory) + (15 << 20));
    let memory = then.memory.as_ref().unwrap();
    assert!(memory.working_set_bytes.unwrap().value <= memory.usage_bytes.unwrap().value);
    assert!(memory.page_faults.unwrap().value > 0);
    assert_eq!(memory.available_bytes.unwrap().value, 0, "it has no limit");
    assert!(after.process.unwrap().process_count.unwrap().value >= 1);
    assert_eq!(after.containers.len(), 1);
    assert_eq!(after.containers[0].attributes.as_ref().unwrap().id, id);

    // The layer is measured in the background; asking again is what has it measured.
    let mut layer = then.writable_layer.unwrap();
    for _ in 0..6000 {
        if layer.used_bytes.unwrap().value >= 8 << 20 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        layer = of_container(&node, &id).await.writable_layer.unwrap();
    }
    assert!(layer.used_bytes.unwrap().value >= 8 << 20, "{layer:?}");
    assert!(layer.inodes_used.unwrap().value >= 2 && !layer.fs_id.unwrap().mountpoint.is_empty());
    node.finish().await;
}

#[tokio::test]
async fn traffic_of_a_pod_is_counted_without_a_process_in_it() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, id, _) = node.run("net", &image, &["sleep", "1000"]).await;
    let traffic = async || {
        let network = of_pod(&node, &pod).await.linux.unwrap().network.unwrap();
        assert!(network.timestamp > 0);
        assert_eq!(network.interfaces, [], "loopback is not told");
        let eth0 = network.default_interface.unwrap();
        assert_eq!(eth0.name, "eth0");
        assert_eq!(eth0.rx_errors.unwrap().value, 0);
        (eth0.rx_bytes.unwrap().value, eth0.tx_bytes.unwrap().value)
    };
    let before = traffic().await;
    let ip = node.cri.pod(&pod).await.unwrap().network.unwrap().ip;
    let mut ping = node.net().command(&tools::need("busybox"));
    let ping = ping.args(["ping", "-c", "1", "-s", "4000", &ip]).output();
    let ping = ping.unwrap();
    assert!(ping.status.success(), "{ping:?}");
    let after = traffic().await;
    assert!(
        after.0 >= before.0 + 4000 && after.1 >= before.1 + 4000,
        "{before:?} {after:?}"
    );
    // The container is gone, the pod's namespace is not.
    node.cri.stop(&id, 0).await.unwrap();
    assert!(traffic().await.0 >= after.0);
    // In the node's network a pod has no counters of its own.
    let mut config = node.pod_config("host");
    requests::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
    let host = node.cri.run_pod(&config).await.unwrap();
    assert_eq!(of_pod(&node, &host).await.linux.unwrap().network, None);
    node.cri.stop_pod(&pod).await.unwrap();
    let stopped = of_pod(&node, &pod).await.linux.unwrap();
    assert_eq!(
        (stopped.network, stopped.cpu, stopped.containers),
        (None, None, vec![])
    );
    node.finish().await;
}

#[tokio::test]
async fn fifty_created_containers_are_listed_and_one_that_ends_fails_nothing() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("many");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut ids = BTreeSet::new();
    for number in 0..50 {
        let container = requests::container(&format!("c{number}"), &image, &["sleep", "1000"]);
        ids.insert(node.cri.create(&pod, &container, &config).await.unwrap());
    }
    let list = async |filter: ContainerStatsFilter| {
        let request = ListContainerStatsRequest {
            filter: Some(filter),
        };
        let listed = node.cri.list_container_stats(request).await.unwrap().stats;
        for stats in &listed {
            assert!(stats.cpu.as_ref().unwrap().timestamp > 0, "{stats:?}");
            assert!(stats.memory.as_ref().unwrap().timestamp > 0, "{stats:?}");
        }
        let id = |stats: ContainerStats| stats.attributes.unwrap().id;
        listed.into_iter().map(id).collect::<BTreeSet<_>>()
    };
    assert_eq!(list(ContainerStatsFilter::default()).await, ids);
    let by_pod = ContainerStatsFilter {
        pod_sandbox_id: pod[..12].into(),
        ..Default::default()
    };
    assert_eq!(list(by_pod).await, ids);
    let first = ids.first().unwrap().clone();
    let by_id = ContainerStatsFilter {
        id: first[..20].into(),
        ..Default::default()
    };
    assert_eq!(list(by_id).await, BTreeSet::from([first.clone()]));
    let label = |name: &str| ContainerStatsFilter {
        label_selector: BTreeMap::from([("io.kubernetes.container.name".into(), name.into())]),
        ..Default::default()
    };
    assert_eq!(list(label("c7")).await.len(), 1);
    assert_eq!(list(label("c70")).await.len(), 0);
    // While some end, every list holds all of the others.
    let (gone, stay) = {
        let mut all = ids.iter().cloned();
        let gone: Vec<_> = all.by_ref().take(5).collect();
        (gone, all.collect::<BTreeSet<_>>())
    };
    let removals = async {
        for id in &gone {
            node.cri.remove(id).await.unwrap();
        }
    };
    let lists = async {
        for _ in 0..50 {
            let listed = list(ContainerStatsFilter::default()).await;
            assert!(listed.is_superset(&stay), "{listed:?}");
        }
    };
    tokio::join!(removals, lists);
    assert_eq!(list(ContainerStatsFilter::default()).await, stay);
    let missing = node.cri.container_stats(ContainerStatsRequest {
        container_id: first,
    });
    assert_eq!(missing.await.unwrap_err().code(), Code::NotFound);
    let missing = node.cri.pod_sandbox_stats(PodSandboxStatsRequest {
        pod_sandbox_id: "0".repeat(64),
    });
    assert_eq!(missing.await.unwrap_err().code(), Code::NotFound);
    node.finish().await;
}

#[tokio::test]
async fn pods_are_listed_by_filter_and_stopped_ones_are_not() {
    let node = Node::start(CRICKET).await;
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        ids.push(node.cri.run_pod(&node.pod_config(name)).await.unwrap());
    }
    let list = async |filter: Option<PodSandboxStatsFilter>| {
        let request = ListPodSandboxStatsRequest { filter };
        let listed = node
            .cri
            .list_pod_sandbox_stats(request)
            .await
            .unwrap()
            .stats;
        assert!(listed.iter().all(|stats| stats.linux.is_some()));
        let id = |stats: PodSandboxStats| stats.attributes.unwrap().id;
        listed.into_iter().map(id).collect::<BTreeSet<_>>()
    };
    assert_eq!(list(None).await, ids.iter().cloned().collect());
    let by_id = PodSandboxStatsFilter {
        id: ids[1][..16].into(),
        ..Default::default()
    };
    assert_eq!(list(Some(by_id)).await, BTreeSet::from([ids[1].clone()]));
    let by_label = PodSandboxStatsFilter {
        label_selector: BTreeMap::from([("io.kubernetes.pod.name".into(), "three".into())]),
        ..Default::default()
    };
    assert_eq!(list(Some(by_label)).await, BTreeSet::from([ids[2].clone()]));
    node.cri.stop_pod(&ids[0]).await.unwrap();
    assert_eq!(list(None).await, ids[1..].iter().cloned().collect());
    node.finish().await;
}

#[tokio::test]
async fn metrics_are_those_that_are_described_and_count_processes_killed_for_memory() {
    let mut node = Node::start_with(CRICKET, |options| {
        options.extra_config = "[crio.stats]\nincluded_pod_metrics = [\"all\"]\n".into();
    })
    .await;
    let image = node.busybox().await;
    let config = node.pod_config("metrics");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let script = "tail /dev/zero; echo done; exec sleep 1000";
    let mut container = requests::container("main", &image, &["sh", "-c", script]);
    requests::resources(&mut container).memory_limit_in_bytes = 24 << 20;
    let id = node.run_in(&pod, &config, &container).await;
    // Not by a command in it: that could be the one that is killed.
    let log = node.log_file(&config, "main");
    node.until("one is killed for memory", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("done"))
    })
    .await;

    let described = node
        .cri
        .list_metric_descriptors(ListMetricDescriptorsRequest::default())
        .await
        .unwrap()
        .descriptors;
    let keys: BTreeMap<_, _> = described
        .iter()
        .map(|one| (one.name.as_str(), one.label_keys.len()))
        .collect();
    let told = node
        .cri
        .list_pod_sandbox_metrics(ListPodSandboxMetricsRequest::default())
        .await
        .unwrap()
        .pod_metrics;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].pod_sandbox_id, pod);
    assert_eq!(told[0].container_metrics.len(), 1);
    let of_container = &told[0].container_metrics[0];
    assert_eq!(of_container.container_id, id);
    for metric in told[0].metrics.iter().chain(&of_container.metrics) {
        assert_eq!(
            keys.get(metric.name.as_str()),
            Some(&metric.label_values.len()),
            "{metric:?}"
        );
        assert!(metric.value.is_some() && metric.timestamp > 0);
    }
    let value = |name: &str| {
        let found = of_container.metrics.iter().find(|one| one.name == name);
        found
            .unwrap_or_else(|| panic!("no {name}"))
            .value
            .unwrap()
            .value
    };
    assert!(value("container_oom_events_total") >= 1);
    // Where swap is limited as well, that limit is the one that is met, and not counted here.
    value("container_memory_failcnt");
    assert!(value("container_memory_max_usage_bytes") >= 16 << 20);
    assert_eq!(value("container_spec_memory_limit_bytes"), 24 << 20);
    assert!(value("container_processes") >= 1 && value("container_threads") >= 1);
    assert!(value("container_file_descriptors") >= 3);
    assert!(value("container_ulimits_soft") > 0);
    assert!(value("container_fs_limit_bytes") > value("container_fs_usage_bytes"));
    let received = told[0]
        .metrics
        .iter()
        .find(|one| one.name == "container_network_receive_bytes_total");
    let received = received.expect("the pod's network is told of it");
    assert_eq!(
        received.label_values,
        [&pod, "", "default", "metrics", "POD", "eth0"]
    );
    assert!(received.value.unwrap().value > 0);
    node.finish().await;
}

#[tokio::test]
async fn a_collection_period_has_samples_answered_again() {
    let mut node = Node::start_with(CRICKET, |options| {
        options.extra_config = "[crio.stats]\ncollection_period = 3600\n".into();
    })
    .await;
    let image = node.busybox().await;
    let (pod, id, _) = node.run("again", &image, &["sleep", "1000"]).await;
    let first = of_container(&node, &id).await.cpu.unwrap();
    run(&node, &id, "true").await;
    assert_eq!(of_container(&node, &id).await.cpu.unwrap(), first);
    let within = of_pod(&node, &pod).await.linux.unwrap();
    assert_eq!(within.containers[0].cpu.as_ref(), Some(&first));
    assert_eq!(of_pod(&node, &pod).await.linux.unwrap().cpu, within.cpu);
    node.finish().await;
}
