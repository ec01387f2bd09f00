//! UpdateContainerResources and UpdatePodSandboxResources.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::cri::*;
use cricket_harness::{Node, leaks, requests};
use tonic::{Code, Status};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
const MIB: i64 = 1 << 20;

/// What a file of the container's cgroup holds: the first of these names that it has, v1 or v2.
fn limit(container: &str, names: &[&str]) -> String {
    let cgroups = leaks::cgroups_with(&[format!("crio-{container}")]);
    let files = cgroups
        .iter()
        .filter(|cgroup| !cgroup.to_string_lossy().contains("conmon"))
        .flat_map(|cgroup| names.iter().map(|name| cgroup.join(name)));
    let text = files.filter_map(|file| std::fs::read_to_string(file).ok());
    text.map(|text| text.trim().to_owned())
        .next()
        .unwrap_or_else(|| panic!("none of {names:?} in {cgroups:?}"))
}

fn memory(container: &str) -> String {
    limit(container, &["memory.max", "memory.limit_in_bytes"])
}

fn processors(container: &str) -> String {
    limit(container, &["cpuset.cpus"])
}

async fn update(node: &Node, id: &str, linux: LinuxContainerResources) -> Result<(), Status> {
    let request = UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux: Some(linux),
        ..Default::default()
    };
    node.cri.update_container_resources(request).await.map(drop)
}

async fn told(node: &Node, id: &str) -> LinuxContainerResources {
    let status = node.cri.container(id).await.unwrap();
    status.resources.unwrap().linux.unwrap()
}

/// A container with limits of each kind, created and not started.
async fn limited(node: &mut Node) -> (String, String, LinuxContainerResources) {
    let image = node.busybox().await;
    let config = node.pod_config("limited");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let hog = "dd if=/dev/zero of=/dev/shm/hog bs=1M count=24 2>/dev/null; sleep 1000";
    let mut container = requests::container("main", &image, &["sh", "-c", hog]);
    let given = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 * MIB,
        oom_score_adj: 500,
        cpuset_cpus: "0-1".into(),
        ..Default::default()
    };
    *requests::resources(&mut container) = given.clone();
    let id = node.cri.create(&pod, &container, &config).await.unwrap();
    (pod, id, given)
}

#[tokio::test]
async fn limits_of_a_created_and_of_a_running_container_change_and_outlive_the_daemon() {
    let mut node = Node::start(CRICKET).await;
    let (_, id, given) = limited(&mut node).await;
    assert_eq!(told(&node, &id).await, given);
    // As the CPU manager asks: nothing but the processors.
    let pinned = LinuxContainerResources {
        cpuset_cpus: "1".into(),
        ..Default::default()
    };
    update(&node, &id, pinned).await.unwrap();
    let mut expected = LinuxContainerResources {
        cpuset_cpus: "1".into(),
        ..given
    };
    assert_eq!(told(&node, &id).await, expected);
    assert_eq!(processors(&id), "1");
    assert_eq!(memory(&id), (64 * MIB).to_string());

    node.cri.start(&id).await.unwrap();
    let resized = LinuxContainerResources {
        cpu_quota: 80_000,
        memory_limit_in_bytes: 96 * MIB,
        oom_score_adj: 7,
        ..expected.clone()
    };
    update(&node, &id, resized).await.unwrap();
    expected.cpu_quota = 80_000;
    expected.memory_limit_in_bytes = 96 * MIB;
    assert_eq!(told(&node, &id).await, expected, "the OOM score stays");
    assert_eq!(memory(&id), (96 * MIB).to_string());
    let quota = limit(&id, &["cpu.max", "cpu.cfs_quota_us"]);
    assert!(quota.starts_with("80000"), "{quota}");

    node.crash().await;
    assert_eq!(told(&node, &id).await, expected);
    let request = ContainerStatusRequest {
        container_id: id.clone(),
        verbose: true,
    };
    let info = node.cri.container_status(request).await.unwrap().info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    let spec = &info["runtimeSpec"]["linux"]["resources"];
    assert_eq!(spec["memory"]["limit"], 96 * MIB, "{spec}");
    assert_eq!(spec["cpu"]["cpus"], "1");
    assert!(spec["devices"].is_array(), "the rest is as it was: {spec}");
    let shares = LinuxContainerResources {
        cpu_shares: 2048,
        ..Default::default()
    };
    update(&node, &id, shares).await.unwrap();
    assert_eq!(told(&node, &id).await.cpu_shares, 2048);
    assert_eq!(memory(&id), (96 * MIB).to_string());
    node.finish().await;
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused_by_name_and_change_nothing() {
    let mut node = Node::start(CRICKET).await;
    let (_, id, given) = limited(&mut node).await;
    node.cri.start(&id).await.unwrap();
    let hog = [
        "sh",
        "-c",
        "until [ $(wc -c < /dev/shm/hog) = 25165824 ]; do sleep 0.05; done",
    ];
    assert_eq!(node.cri.exec(&id, &hog, 120).await.unwrap().exit_code, 0);
    type Change = fn(&mut LinuxContainerResources);
    let cases: [(&str, Code, Change); 7] = [
        ("cpu_period", Code::InvalidArgument, |it| it.cpu_period = -5),
        ("cpu_quota", Code::InvalidArgument, |it| it.cpu_quota = -2),
        ("cpuset_cpus", Code::InvalidArgument, |it| {
            it.cpuset_cpus = "0;1".into()
        }),
        ("memory_swap_limit_in_bytes", Code::InvalidArgument, |it| {
            it.memory_swap_limit_in_bytes = 1;
        }),
        ("hugepage_limits", Code::InvalidArgument, |it| {
            it.hugepage_limits.push(HugepageLimit {
                page_size: "2MB".into(),
                limit: 2 << 20,
            });
        }),
        ("memory_limit_in_bytes", Code::FailedPrecondition, |it| {
            it.memory_limit_in_bytes = 16 * MIB;
        }),
        // The kernel's refusal, in the runtime's words.
        ("cpuset", Code::Unknown, |it| it.cpuset_cpus = "4000".into()),
    ];
    for (field, code, change) in cases {
        let mut wanted = LinuxContainerResources::default();
        change(&mut wanted);
        let error = update(&node, &id, wanted).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.message().contains(field), "{error:?}");
        assert_eq!(told(&node, &id).await, given, "{field}");
        assert_eq!(memory(&id), (64 * MIB).to_string(), "{field}");
    }
    // After the refusal by the kernel the same limits are set again rather than believed.
    update(&node, &id, given.clone()).await.unwrap();
    assert_eq!(processors(&id), "0-1");

    let missing = update(&node, &"0".repeat(64), given.clone())
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    node.cri.stop(&id, 0).await.unwrap();
    let ended = update(&node, &id, given).await.unwrap_err();
    assert_eq!(ended.code(), Code::FailedPrecondition);
    assert!(ended.message().contains("has ended"), "{ended:?}");
    node.finish().await;
}

#[tokio::test]
async fn updates_at_once_with_start_and_stop_leave_a_container_that_can_be_removed() {
    let mut node = Node::start(CRICKET).await;
    let (_, id, given) = limited(&mut node).await;
    let shares = |shares| LinuxContainerResources {
        cpu_shares: shares,
        ..Default::default()
    };
    let (first, second, third, started) = tokio::join!(
        update(&node, &id, shares(100)),
        update(&node, &id, shares(200)),
        update(&node, &id, shares(300)),
        node.cri.start(&id),
    );
    assert!(first.is_ok() && second.is_ok() && third.is_ok() && started.is_ok());
    let last = told(&node, &id).await;
    assert!([100, 200, 300].contains(&last.cpu_shares));
    assert_eq!(
        LinuxContainerResources {
            cpu_shares: given.cpu_shares,
            ..last
        },
        given
    );
    let (_either, stopped) = tokio::join!(update(&node, &id, shares(400)), node.cri.stop(&id, 0));
    stopped.unwrap();
    node.cri.remove(&id).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn what_a_pod_may_use_is_noted_and_shown() {
    let node = Node::start(CRICKET).await;
    let pod = node.cri.run_pod(&node.pod_config("noted")).await.unwrap();
    let resources = |limit| LinuxContainerResources {
        memory_limit_in_bytes: limit,
        ..Default::default()
    };
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod[..13].to_owned(),
        overhead: Some(resources(5)),
        resources: Some(resources(7 * MIB)),
    };
    node.cri
        .update_pod_sandbox_resources(request.clone())
        .await
        .unwrap();
    let request = UpdatePodSandboxResourcesRequest {
        overhead: None,
        ..request
    };
    node.cri
        .update_pod_sandbox_resources(request)
        .await
        .unwrap();
    let status = PodSandboxStatusRequest {
        pod_sandbox_id: pod,
        verbose: true,
    };
    let info = node.cri.pod_sandbox_status(status).await.unwrap().info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    assert_eq!(info["overhead"]["memory_limit_in_bytes"], 5);
    assert_eq!(info["resources"]["memory_limit_in_bytes"], 7 * MIB);
    let missing = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: "0".repeat(64),
        ..Default::default()
    };
    let missing = node
        .cri
        .update_pod_sandbox_resources(missing)
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    node.finish().await;
}
