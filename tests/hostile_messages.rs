//! CRI messages that no kubelet sends: every field absent, text that is no name, numbers that are
//! too large, bytes that are no message. Each gets an answer, and the daemon goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use cricket_harness::cri::*;
use cricket_harness::raw::{self, Message, Raw};
use cricket_harness::{Node, requests};
use tonic::{Code, Status};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// All calls of both services.
const METHODS: [&str; 43] = [
    "RuntimeService/Version",
    "RuntimeService/RunPodSandbox",
    "RuntimeService/StopPodSandbox",
    "RuntimeService/RemovePodSandbox",
    "RuntimeService/PodSandboxStatus",
    "RuntimeService/ListPodSandbox",
    "RuntimeService/StreamPodSandboxes",
    "RuntimeService/CreateContainer",
    "RuntimeService/StartContainer",
    "RuntimeService/StopContainer",
    "RuntimeService/RemoveContainer",
    "RuntimeService/ListContainers",
    "RuntimeService/StreamContainers",
    "RuntimeService/ContainerStatus",
    "RuntimeService/UpdateContainerResources",
    "RuntimeService/ReopenContainerLog",
    "RuntimeService/ExecSync",
    "RuntimeService/Exec",
    "RuntimeService/Attach",
    "RuntimeService/PortForward",
    "RuntimeService/ContainerStats",
    "RuntimeService/ListContainerStats",
    "RuntimeService/StreamContainerStats",
    "RuntimeService/PodSandboxStats",
    "RuntimeService/ListPodSandboxStats",
    "RuntimeService/StreamPodSandboxStats",
    "RuntimeService/UpdateRuntimeConfig",
    "RuntimeService/Status",
    "RuntimeService/CheckpointContainer",
    "RuntimeService/CheckpointPod",
    "RuntimeService/RestorePod",
    "RuntimeService/ListMetricDescriptors",
    "RuntimeService/ListPodSandboxMetrics",
    "RuntimeService/StreamPodSandboxMetrics",
    "RuntimeService/RuntimeConfig",
    "RuntimeService/UpdatePodSandboxResources",
    "RuntimeService/GetContainerEvents",
    "ImageService/ListImages",
    "ImageService/StreamImages",
    "ImageService/ImageStatus",
    "ImageService/PullImage",
    "ImageService/RemoveImage",
    "ImageService/ImageFsInfo",
];

/// A call that stays open for what happens later answers nothing to nobody.
fn answers_at_once(method: &str) -> bool {
    !method.ends_with("/GetContainerEvents")
}

/// Text that is no name, no path and no identifier.
const TEXTS: [&[u8]; 6] = [b"a/../../b", b"a\0b", b"a\nb", b"\xff\xfe", b"", b"=%s;"];

const NUMBERS: [u64; 4] = [u64::MAX, i64::MAX as u64, u32::MAX as u64, 77];

/// A kubelet's pod with everything that can be set.
fn full_pod(node: &Node, name: &str) -> PodSandboxConfig {
    let mut config = node.pod_config(name);
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.0.0.1".into()],
        searches: vec!["example.org".into()],
        options: vec!["ndots:5".into()],
    });
    config.port_mappings = vec![PortMapping {
        container_port: 80,
        host_port: 0,
        host_ip: "127.0.0.1".into(),
        ..Default::default()
    }];
    let linux = config.linux.as_mut().unwrap();
    linux.sysctls = BTreeMap::from([("kernel.shm_rmid_forced".into(), "1".into())]);
    linux.overhead = Some(resources());
    linux.resources = Some(resources());
    let context = linux.security_context.as_mut().unwrap();
    context.run_as_user = Some(Int64Value { value: 1000 });
    context.run_as_group = Some(Int64Value { value: 1000 });
    context.supplemental_groups = vec![1, 2];
    context.seccomp = Some(SecurityProfile::default());
    context.selinux_options = Some(SeLinuxOption::default());
    config
}

fn resources() -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 256 << 20,
        oom_score_adj: 900,
        cpuset_cpus: "0".into(),
        cpuset_mems: "0".into(),
        ..Default::default()
    }
}

/// A kubelet's container with everything that can be set.
fn full_container(node: &Node, image: &str) -> ContainerConfig {
    let mut config = requests::container("main", image, &["sleep", "1000"]);
    config.args = vec!["more".into()];
    config.working_dir = "/tmp".into();
    config.envs = vec![KeyValue {
        key: "KEY".into(),
        value: b"value".to_vec(),
    }];
    config.mounts = vec![Mount {
        container_path: "/data".into(),
        host_path: node.dir().join("source").to_string_lossy().into_owned(),
        readonly: true,
        mount_options: vec!["nodev".into()],
        ..Default::default()
    }];
    config.devices = vec![Device {
        container_path: "/dev/nothing".into(),
        host_path: "/dev/null".into(),
        permissions: "rw".into(),
    }];
    config.stdin = true;
    let linux = config.linux.as_mut().unwrap();
    linux.resources = Some(resources());
    let context = linux.security_context.as_mut().unwrap();
    context.capabilities = Some(Capability {
        add_capabilities: vec!["NET_RAW".into()],
        drop_capabilities: vec!["KILL".into()],
        add_ambient_capabilities: vec![],
    });
    context.run_as_user = Some(Int64Value { value: 1000 });
    context.run_as_group = Some(Int64Value { value: 1000 });
    context.supplemental_groups = vec![7];
    context.seccomp = Some(SecurityProfile::default());
    context.no_new_privs = true;
    config
}

/// Codes that say that the daemon is at fault, or gone.
fn is_fault(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Internal | Code::Unavailable | Code::Cancelled | Code::DataLoss | Code::Aborted
    )
}

#[tokio::test]
async fn bytes_that_are_no_message_and_empty_messages_are_answered_by_every_call() {
    let node = Node::start(CRICKET).await;
    let raw = Raw::connect(&node.daemon.socket()).await;
    let garbage: [&[u8]; 5] = [
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x0a\xff\xff\xff\x7f",
        b"\x0a\x02\xff\xfe",
        b"\x0b\x0b\x0b\x0b",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for method in METHODS.into_iter().filter(|method| answers_at_once(method)) {
        let empty = raw.call(method, Vec::new()).await;
        if let Err(status) = &empty {
            assert!(!is_fault(status), "{method}: {status:?}");
            assert!(!status.message().is_empty(), "{method}: {status:?}");
        }
        for bytes in garbage {
            if let Err(status) = raw.call(method, bytes.to_vec()).await {
                assert!(!is_fault(&status), "{method} {bytes:?}: {status:?}");
            }
        }
        let not_utf8 = raw.call(method, b"\x0a\x02\xff\xfe".to_vec()).await;
        if let Err(status) = not_utf8
            && status.message().contains("UTF-8")
        {
            assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status:?}");
            assert!(
                status.message().contains('.'),
                "names the field: {status:?}"
            );
        }
    }
    assert_eq!(node.cri.pods().await.unwrap(), []);
    node.finish().await;
}

#[tokio::test]
async fn a_pod_with_any_field_absent_or_odd_is_made_or_refused_by_name() {
    let node = Node::start(CRICKET).await;
    let raw = Raw::connect(&node.daemon.socket()).await;
    let request = |name: &str| {
        RunPodSandboxRequest {
            config: Some(full_pod(&node, name)),
            runtime_handler: "runc".into(),
        }
        .encode_to_vec()
    };
    let made = node.cri.run_pod(&full_pod(&node, "whole")).await.unwrap();
    node.cri.remove_pod(&made).await.unwrap();
    let message = request("part");
    let mut changes = raw::without_each_field(&message);
    let absent = changes.len();
    changes.extend(raw::with_each_text(&message, &TEXTS));
    changes.extend(raw::with_each_number(&message, &NUMBERS));
    let mut refused = 0;
    for (index, (path, message)) in changes.into_iter().enumerate() {
        match raw.call("RuntimeService/RunPodSandbox", message).await {
            Ok(reply) => {
                let id = RunPodSandboxResponse::decode(reply).unwrap().pod_sandbox_id;
                node.cri.remove_pod(&id).await.unwrap();
            }
            Err(status) => {
                refused += 1;
                assert!(
                    !is_fault(&status),
                    "{path} ({index} of {absent}): {status:?}"
                );
            }
        }
        assert_eq!(
            node.cri.pods().await.unwrap(),
            [],
            "{path}: nothing is left"
        );
    }
    assert!(refused > 10, "{refused}");
    node.finish().await;
}

#[tokio::test]
async fn a_container_with_any_field_absent_or_odd_is_made_or_refused_by_name() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let raw = Raw::connect(&node.daemon.socket()).await;
    let pod_config = node.pod_config("pod");
    let pod = node.cri.run_pod(&pod_config).await.unwrap();
    let whole = full_container(&node, &image);
    let made = node.cri.create(&pod, &whole, &pod_config).await.unwrap();
    node.cri.remove(&made).await.unwrap();
    // Without the pod's configuration, whose fields have their turn with the pod.
    let message = CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(whole),
        sandbox_config: Some(PodSandboxConfig::default()),
    }
    .encode_to_vec();
    let mut changes = raw::without_each_field(&message);
    changes.extend(raw::with_each_text(&message, &TEXTS));
    changes.extend(raw::with_each_number(&message, &NUMBERS));
    let mut refused = 0;
    for (path, message) in changes {
        match raw.call("RuntimeService/CreateContainer", message).await {
            Ok(reply) => {
                let id = CreateContainerResponse::decode(reply).unwrap().container_id;
                node.cri.container(&id).await.unwrap();
                node.cri.remove(&id).await.unwrap();
            }
            Err(status) => {
                refused += 1;
                assert!(!is_fault(&status), "{path}: {status:?}");
            }
        }
        assert_eq!(node.cri.containers().await.unwrap(), [], "{path}");
    }
    assert!(refused > 50, "{refused}");
    node.finish().await;
}

#[tokio::test]
async fn ten_thousand_labels_and_a_million_bytes_of_environment_work_or_are_refused() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut pod_config = node.pod_config("large");
    for number in 0..10_000 {
        pod_config
            .labels
            .insert(format!("label-{number}"), "x".repeat(60));
    }
    let pod = node.cri.run_pod(&pod_config).await.unwrap();
    assert_eq!(node.cri.pod(&pod).await.unwrap().labels, pod_config.labels);
    let mut config = requests::container("main", &image, &["sleep", "1000"]);
    config.labels.clone_from(&pod_config.labels);
    let id = node.cri.create(&pod, &config, &pod_config).await.unwrap();
    assert_eq!(node.cri.container(&id).await.unwrap().labels, config.labels);
    node.cri.remove(&id).await.unwrap();

    // exec(2) takes 32 pages a string, and would say of a longer one only that it cannot.
    config.envs = vec![KeyValue {
        key: "LONG".into(),
        value: vec![b'x'; 1_000_000],
    }];
    let error = node.cri.create(&pod, &config, &pod_config).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    assert!(error.message().contains("LONG"), "{error:?}");
    config.envs[0].value.truncate(100_000);
    node.run_in(&pod, &pod_config, &config).await;
    node.finish().await;
}
