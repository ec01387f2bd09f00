//! Pods: what they get, how they end, how they are found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;

use cricket_harness::cri::*;
use cricket_harness::{Node, cgroups, client, requests};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

#[tokio::test]
async fn a_pod_has_an_address_a_hostname_and_the_names_it_was_given() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut config = node.pod_config("web");
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.10.10.10".into()],
        searches: vec!["example.test".into()],
        options: vec!["ndots:8".into()],
    });
    let pod = node.cri.run_pod(&config).await.unwrap();
    let status = node.cri.pod(&pod).await.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!(status.metadata, config.metadata);
    assert_eq!(status.labels, config.labels);
    assert_eq!(status.annotations, config.annotations);
    assert!(status.created_at > 0);
    let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(options.pid(), NamespaceMode::Container);
    let ip = status.network.unwrap().ip;
    assert!(ip.starts_with("10.88.77."), "{ip}");

    let server = [
        "sh",
        "-c",
        "while true; do echo hello | nc -l -p 8080; done",
    ];
    let container = requests::container("main", &image, &server);
    let container = node.run_in(&pod, &config, &container).await;
    let text = |reply: ExecSyncResponse| String::from_utf8(reply.stdout).unwrap();
    let shown = text(
        node.cri
            .exec(&container, &["cat", "/etc/resolv.conf"], 10)
            .await
            .unwrap(),
    );
    for line in [
        "nameserver 10.10.10.10",
        "search example.test",
        "options ndots:8",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line} is not in:\n{shown}"
        );
    }
    assert_eq!(
        text(node.cri.exec(&container, &["hostname"], 10).await.unwrap()),
        "web\n"
    );
    let address = SocketAddr::new(ip.parse().unwrap(), 8080);
    assert_eq!(ask(&node, address).await, "hello\n");
    node.finish().await;
}

#[tokio::test]
async fn a_host_port_reaches_the_pod_through_the_nodes_loopback() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut config = node.pod_config("ported");
    config.port_mappings = vec![PortMapping {
        container_port: 8080,
        host_port: 12000,
        ..Default::default()
    }];
    let pod = node.cri.run_pod(&config).await.unwrap();
    let server = [
        "sh",
        "-c",
        "while true; do echo mapped | nc -l -p 8080; done",
    ];
    node.run_in(&pod, &config, &requests::container("main", &image, &server))
        .await;
    assert_eq!(
        ask(&node, "127.0.0.1:12000".parse().unwrap()).await,
        "mapped\n"
    );
    node.finish().await;
}

#[tokio::test]
async fn stopping_and_removing_a_pod_may_be_repeated() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container, _) = node.run("twice", &image, &["sleep", "1000"]).await;
    let ip = node.cri.pod(&pod).await.unwrap().network.unwrap().ip;
    for _ in 0..2 {
        node.cri.stop_pod(&pod).await.unwrap();
        let status = node.cri.pod(&pod).await.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxNotready);
        assert_eq!(
            status.network.unwrap().ip,
            ip,
            "the address is kept for the kubelet's record"
        );
    }
    let status = node.cri.container(&container).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerExited);
    for _ in 0..2 {
        node.cri.remove_pod(&pod).await.unwrap();
        assert!(node.cri.pod_is_gone(&pod).await);
    }
    let unknown = "0".repeat(64);
    node.cri.stop_pod(&unknown).await.unwrap();
    node.cri.remove_pod(&unknown).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn removing_a_running_pod_ends_its_containers() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container, _) = node.run("forced", &image, &["sleep", "1000"]).await;
    assert!(!node.pids_of(&container).is_empty());
    node.cri.remove_pod(&pod).await.unwrap();
    assert!(node.pids_of(&container).is_empty());
    assert_eq!(node.cri.containers().await.unwrap(), []);
    assert_eq!(node.left_behind(), Vec::<String>::new());
    node.finish().await;
}

#[tokio::test]
async fn pods_are_listed_by_id_prefix_state_and_labels_together() {
    let node = Node::start(CRICKET).await;
    let one = node.cri.run_pod(&node.pod_config("one")).await.unwrap();
    let two = node.cri.run_pod(&node.pod_config("two")).await.unwrap();
    node.cri.stop_pod(&two).await.unwrap();
    let state = |state: PodSandboxState| {
        Some(PodSandboxStateValue {
            state: state.into(),
        })
    };
    let label = |name: &str| BTreeMap::from([("io.kubernetes.pod.name".into(), name.into())]);
    let filters = [
        (
            PodSandboxFilter {
                id: one[..12].into(),
                ..Default::default()
            },
            vec![&one],
        ),
        (
            PodSandboxFilter {
                id: "ffff00000000".into(),
                ..Default::default()
            },
            vec![],
        ),
        (
            PodSandboxFilter {
                state: state(PodSandboxState::SandboxNotready),
                ..Default::default()
            },
            vec![&two],
        ),
        (
            PodSandboxFilter {
                label_selector: label("one"),
                ..Default::default()
            },
            vec![&one],
        ),
        (
            PodSandboxFilter {
                id: one.clone(),
                label_selector: label("two"),
                ..Default::default()
            },
            vec![],
        ),
    ];
    for (filter, expected) in filters {
        let request = ListPodSandboxRequest {
            filter: Some(filter.clone()),
        };
        let items = node.cri.list_pod_sandbox(request).await.unwrap().items;
        let ids: Vec<_> = items.iter().map(|pod| &pod.id).collect();
        assert_eq!(ids, expected, "{filter:?}");
    }
    node.finish().await;
}

#[tokio::test]
async fn the_same_pod_asked_for_twice_is_one_pod() {
    let node = Node::start(CRICKET).await;
    let config = node.pod_config("same");
    let (first, second) = tokio::join!(node.cri.run_pod(&config), node.cri.run_pod(&config));
    let id = first.unwrap();
    assert_eq!(second.unwrap(), id);
    assert_eq!(
        node.cri.run_pod(&config).await.unwrap(),
        id,
        "a retry after the end, too"
    );
    assert_eq!(node.cri.pods().await.unwrap().len(), 1);
    node.cri.remove_pod(&id).await.unwrap();
    let again = node.cri.run_pod(&config).await.unwrap();
    assert_ne!(again, id, "the name is free once the pod is removed");
    node.finish().await;
}

#[tokio::test]
async fn a_host_network_pod_shares_the_nodes_links_and_has_no_address() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut config = node.pod_config("host");
    requests::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
    config.hostname.clear();
    let pod = node.cri.run_pod(&config).await.unwrap();
    let network = node
        .cri
        .pod(&pod)
        .await
        .unwrap()
        .network
        .unwrap_or_default();
    assert_eq!(network.ip, "");
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    let options = requests::security(&mut container)
        .namespace_options
        .as_mut()
        .unwrap();
    options.network = NamespaceMode::Node.into();
    let container = node.run_in(&pod, &config, &container).await;
    let seen = node
        .cri
        .exec(&container, &["readlink", "/proc/self/ns/net"], 10)
        .await
        .unwrap();
    let own = node
        .net()
        .enter(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert_eq!(
        String::from_utf8_lossy(&seen.stdout).trim(),
        own.to_string_lossy()
    );
    node.finish().await;
}

#[tokio::test]
async fn sysctls_of_a_pod_hold_in_its_namespaces_alone() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut config = node.pod_config("sysctl");
    let sysctls = [
        ("net.ipv4.ip_unprivileged_port_start", "77"),
        ("kernel.shm_rmid_forced", "1"),
    ];
    config.linux.as_mut().unwrap().sysctls = sysctls
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let pod = node.cri.run_pod(&config).await.unwrap();
    let container = requests::container("main", &image, &["sleep", "1000"]);
    let container = node.run_in(&pod, &config, &container).await;
    for (key, value) in sysctls {
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        let shown = node
            .cri
            .exec(&container, &["cat", &file], 10)
            .await
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&shown.stdout).trim(),
            value,
            "{key}"
        );
    }
    node.finish().await;
}

#[tokio::test]
async fn containers_of_a_pod_share_network_and_shared_memory() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, first, config) = node.run("shared", &image, &["sleep", "1000"]).await;
    let second = requests::container("second", &image, &["sleep", "1000"]);
    let second = node.run_in(&pod, &config, &second).await;
    let write = [
        "sh",
        "-c",
        "echo through > /dev/shm/word && readlink /proc/self/ns/net",
    ];
    let net = node.cri.exec(&first, &write, 10).await.unwrap();
    let read = [
        "sh",
        "-c",
        "cat /dev/shm/word && readlink /proc/self/ns/net",
    ];
    let both = node.cri.exec(&second, &read, 10).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&both.stdout),
        format!("through\n{}", String::from_utf8_lossy(&net.stdout))
    );
    let size = node
        .cri
        .exec(&first, &["df", "-m", "/dev/shm"], 10)
        .await
        .unwrap();
    assert!(
        String::from_utf8_lossy(&size.stdout).contains(" 64 "),
        "64 MiB: {size:?}"
    );
    node.finish().await;
}

#[tokio::test]
async fn an_unknown_handler_is_refused_by_name() {
    let node = Node::start(CRICKET).await;
    let config = node.pod_config("handler");
    let error = node.cri.run_pod_with(&config, "katana").await.unwrap_err();
    assert!(error.message().contains("katana"), "{error:?}");
    node.cri
        .run_pod(&config)
        .await
        .expect("the name is free after a failure");
    node.finish().await;
}

#[tokio::test]
async fn status_and_version_answer_what_a_kubelet_needs() {
    let node = Node::start(CRICKET).await;
    let version = node.cri.version(VersionRequest::default()).await.unwrap();
    assert_eq!(
        (
            version.version.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("0.1.0", "v1")
    );
    assert!(!version.runtime_name.is_empty() && !version.runtime_version.is_empty());
    let status = node
        .cri
        .status(StatusRequest { verbose: true })
        .await
        .unwrap();
    for condition in status.status.unwrap().conditions {
        assert!(condition.status, "{condition:?}");
    }
    assert!(
        status
            .runtime_handlers
            .iter()
            .any(|handler| handler.name.is_empty())
    );
    let driver = node
        .cri
        .runtime_config(RuntimeConfigRequest::default())
        .await
        .unwrap();
    assert_eq!(driver.linux.unwrap().cgroup_driver(), cgroups::driver());
    let spec = client::spec("no-such-image");
    assert_eq!(node.cri.image(&spec.image).await.unwrap(), None);
    node.finish().await;
}

/// What a server at `address` of the node says, once it listens.
async fn ask(node: &Node, address: SocketAddr) -> String {
    let mut answer = String::new();
    node.until("the container's server answers", || {
        let Ok(mut stream) = node.net().connect(address) else {
            return false;
        };
        let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(2)));
        let _ = stream.write_all(b"\n");
        answer.clear();
        stream.read_to_string(&mut answer).is_ok() && !answer.is_empty()
    })
    .await;
    answer
}
