//! The node's network is missing, broken or slow: the node says so, and what can run runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;

use cricket_harness::cri::*;
use cricket_harness::{Node, node, requests};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

async fn network(node: &Node) -> RuntimeCondition {
    let status = node
        .cri
        .status(StatusRequest::default())
        .await
        .unwrap()
        .status
        .unwrap();
    status
        .conditions
        .into_iter()
        .find(|one| one.r#type == "NetworkReady")
        .unwrap()
}

/// Waits until the condition is as wanted; gives it.
async fn network_becomes(node: &Node, ready: bool) -> RuntimeCondition {
    for _ in 0..6000 {
        let condition = network(node).await;
        if condition.status == ready {
            return condition;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!(
        "NetworkReady is not {ready} within 60 s; log:\n{}",
        node.daemon.log()
    );
}

async fn run_host_network(node: &Node, image: &str) {
    let mut config = node.pod_config("host");
    requests::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
    let pod = node
        .cri
        .run_pod(&config)
        .await
        .expect("a host network pod needs no CNI");
    let mut container = requests::container("main", image, &["sleep", "1000"]);
    let options = requests::security(&mut container)
        .namespace_options
        .as_mut()
        .unwrap();
    options.network = NamespaceMode::Node.into();
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(
        node.cri.exec(&id, &["true"], 10).await.unwrap().exit_code,
        0
    );
    node.cri.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn without_configuration_the_node_says_so_and_host_network_pods_run() {
    let mut node = Node::start_with(CRICKET, |options| options.cni = None).await;
    let image = node.busybox().await;
    let condition = network(&node).await;
    assert!(!condition.status);
    assert_eq!(condition.reason, "NetworkPluginNotReady");
    let dir = node.daemon.cni_conf_dir();
    assert!(
        condition.message.contains(&*dir.to_string_lossy()),
        "{condition:?}"
    );
    run_host_network(&node, &image).await;

    let file = dir.join("10-bridge.conflist");
    fs::write(&file, node::bridge(node.dir())).unwrap();
    network_becomes(&node, true).await;
    node.run("pod", &image, &["sleep", "1000"]).await;
    fs::remove_file(&file).unwrap();
    network_becomes(&node, false).await;
    // The pod that runs is taken down by what was recorded when it came up.
    node.finish().await;
}

#[tokio::test]
async fn broken_configuration_is_named_and_a_later_good_file_is_used() {
    let broken = (
        "10-broken.conflist".to_owned(),
        "{\"cniVersion\": \"1.0.0\",".to_owned(),
    );
    let mut node = Node::start_with(CRICKET, |options| options.cni = Some(broken)).await;
    let image = node.busybox().await;
    let condition = network(&node).await;
    assert!(!condition.status);
    assert!(
        condition.message.contains("10-broken.conflist"),
        "{condition:?}"
    );
    run_host_network(&node, &image).await;
    fs::write(
        node.daemon.cni_conf_dir().join("20-good.conflist"),
        node::bridge(node.dir()),
    )
    .unwrap();
    network_becomes(&node, true).await;
    node.run("pod", &image, &["sleep", "1000"]).await;
    node.finish().await;
}

#[tokio::test]
async fn a_missing_plugin_is_named() {
    let node = Node::start_with(CRICKET, |options| {
        let text = options.cni.take().unwrap().1;
        let text = text.replace("\"type\": \"portmap\"", "\"type\": \"teleport\"");
        options.cni = Some(("10-bridge.conflist".into(), text));
    })
    .await;
    let condition = network(&node).await;
    assert!(
        !condition.status && condition.message.contains("teleport"),
        "{condition:?}"
    );
    node.finish().await;
}

#[tokio::test]
async fn an_exhausted_range_fails_the_pod_with_the_plugins_words_and_leaves_nothing() {
    let mut node = Node::start_with(CRICKET, |options| {
        let text = options
            .cni
            .take()
            .unwrap()
            .1
            .replace("10.88.77.0/24", "10.88.77.0/30");
        options.cni = Some(("10-bridge.conflist".into(), text));
    })
    .await;
    let image = node.busybox().await;
    let (first, ..) = node.run("first", &image, &["sleep", "1000"]).await;
    let config = node.pod_config("second");
    let error = node
        .cri
        .run_pod(&config)
        .await
        .expect_err("there is one address");
    assert!(
        error.message().contains("no IP addresses available"),
        "{error:?}"
    );
    assert_eq!(node.cri.pods().await.unwrap().len(), 1);
    node.cri.remove_pod(&first).await.unwrap();
    assert_eq!(node.left_behind(), Vec::<String>::new());
    node.cri
        .run_pod(&config)
        .await
        .expect("the address is free again");
    node.finish().await;
}

#[tokio::test]
async fn a_plugin_that_fails_babbles_or_dies_is_quoted_and_the_next_pod_runs() {
    let error = r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"try again","details":"no luck"}'"#;
    let cases = [
        (format!("{error}; exit 1"), "try again"),
        ("echo nonsense; exit 0".to_owned(), "odd"),
        ("echo complaint >&2; exit 3".to_owned(), "complaint"),
        ("kill -9 $$".to_owned(), "odd"),
    ];
    let script = |add: &str| {
        format!("#!/bin/sh\ncat > /dev/null\n[ $CNI_COMMAND = ADD ] || exit 0\n{add}\n")
    };
    let node = Node::start_with(CRICKET, |options| {
        let text = r#"{"cniVersion": "1.0.0", "name": "odd", "type": "odd"}"#;
        options.cni = Some(("10-odd.conf".into(), text.into()));
        options.plugins = vec![("odd".into(), script("exit 1"))];
    })
    .await;
    let plugin = node.dir().join("cni/bin/odd");
    let config = node.pod_config("odd");
    for (add, word) in cases {
        fs::write(&plugin, script(&add)).unwrap();
        let error = node.cri.run_pod(&config).await.expect_err(&add);
        assert!(error.message().contains(word), "{add}: {}", error.message());
        assert_eq!(node.left_behind(), Vec::<String>::new(), "{add}");
    }
    let good = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.9/24"}]}'"#;
    fs::write(&plugin, script(good)).unwrap();
    let pod = node.cri.run_pod(&config).await.unwrap();
    assert_eq!(
        node.cri.pod(&pod).await.unwrap().network.unwrap().ip,
        "10.9.9.9"
    );
    node.finish().await;
}
