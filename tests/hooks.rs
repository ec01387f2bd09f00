//! OCI hooks: which containers they run for, and that a broken file harms nobody else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cricket_harness::cri::*;
use cricket_harness::{Node, requests, tools};
use serde_json::{Value, json};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A node with two hook directories, `early` and `late`, and a hook that appends its arguments and
/// the container's id to a file.
async fn node() -> Node {
    let mut node = Node::start(CRICKET).await;
    let dir = node.dir();
    let dirs = ["early", "late"].map(|name| dir.join(name));
    for dir in &dirs {
        fs::create_dir(dir).unwrap();
    }
    // the state of the container comes on standard input (OCI runtime specification, "State")
    let script = format!(
        "#!/bin/sh\nid=$(sed -n 's/.*\"id\":\"\\([0-9a-f]*\\)\".*/\\1/p')\n\
         echo \"$1 $WORD $id\" >> {}\n",
        ran(&node).display()
    );
    fs::write(dir.join("hook"), script).unwrap();
    fs::set_permissions(dir.join("hook"), fs::Permissions::from_mode(0o755)).unwrap();
    let drop_in = format!("[crio.runtime]\nhooks_dir = {dirs:?}\n");
    fs::write(dir.join("crio.conf.d/10-test.conf"), drop_in).unwrap();
    node.crash().await;
    node
}

fn ran(node: &Node) -> PathBuf {
    node.dir().join("ran")
}

/// What hooks have noted of a container, in their order.
fn noted(node: &Node, container: &str) -> Vec<String> {
    let text = fs::read_to_string(ran(node)).unwrap_or_default();
    let of_it = text.lines().filter_map(|line| line.strip_suffix(container));
    of_it.map(|line| line.trim_end().to_owned()).collect()
}

fn hook(node: &Node, word: &str, when: Value, stages: &[&str]) -> Value {
    json!({
        "version": "1.0.0",
        "hook": {
            "path": node.dir().join("hook"),
            "args": ["hook", word],
            "env": ["PATH=/usr/bin:/bin", "WORD=of-the-node"],
        },
        "when": when,
        "stages": stages,
    })
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

fn sleeper(name: &str, image: &str) -> ContainerConfig {
    requests::container(name, image, &["sleep", "1000"])
}

#[tokio::test]
async fn hooks_run_for_the_containers_that_they_are_for_at_their_stages() {
    let mut node = node().await;
    let image = node.busybox().await;
    let dir = node.dir().to_owned();
    for (file, word, when, stages) in [
        (
            "early/10-all.json",
            "masked",
            json!({"always": true}),
            &["createRuntime"][..],
        ),
        (
            "late/10-all.json",
            "all",
            json!({"always": true}),
            &["createRuntime", "poststop"],
        ),
        (
            "early/20-gpu.json",
            "gpu",
            json!({"annotations": {"^example\\.com/gpu$": "^[0-9]+$"}, "commands": ["sleep$"]}),
            &["prestart"],
        ),
        (
            "early/30-mounts.json",
            "mounts",
            json!({"hasBindMounts": true}),
            &["poststart"],
        ),
    ] {
        write(&dir.join(file), &hook(&node, word, when, stages));
    }
    // the older schema, whose conditions are alternatives
    let older = json!({
        "hook": dir.join("hook"), "arguments": ["older"], "stages": ["poststart"],
        "annotations": ["^older, please$"], "cmds": ["/init$"],
    });
    write(&dir.join("late/40-older.json"), &older);
    let config = node.pod_config("plain");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let plain = node.run_in(&pod, &config, &sleeper("main", &image)).await;
    assert_eq!(noted(&node, &plain), ["all of-the-node"]);

    let mut config = node.pod_config("asking");
    config
        .annotations
        .insert("example.com/gpu".into(), "2".into());
    config
        .annotations
        .insert("example.com/asks".into(), "older, please".into());
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = sleeper("main", &image);
    container.mounts = vec![requests::mount(&dir.join("volume"), "/data", false)];
    let asking = node.run_in(&pod, &config, &container).await;
    let want = ["all", "gpu", "mounts"].map(|word| format!("{word} of-the-node"));
    // it has no environment of its own, and the runtime gives it none
    let want = [&want[..], &["older".to_owned()]].concat();
    assert_eq!(noted(&node, &asking), want);

    node.cri.stop(&plain, 0).await.unwrap();
    node.cri.remove(&plain).await.unwrap();
    assert_eq!(noted(&node, &plain), ["all of-the-node", "all of-the-node"]);

    // a file that goes counts at once
    fs::remove_file(dir.join("late/10-all.json")).unwrap();
    let next = node.run_in(&pod, &config, &sleeper("next", &image)).await;
    assert_eq!(
        noted(&node, &next),
        ["masked of-the-node", "gpu of-the-node", "older"]
    );
    node.finish().await;
}

#[tokio::test]
async fn a_broken_hook_file_is_named_and_takes_down_neither_the_daemon_nor_others() {
    let mut node = node().await;
    let image = node.busybox().await;
    let dir = node.dir().to_owned();
    let for_gpus = || json!({"annotations": {"gpu": ""}});
    let mut gone = hook(&node, "gone", for_gpus(), &["prestart"]);
    gone["hook"]["path"] = json!("/nonexistent/nvidia-hook");
    fs::write(dir.join("early/10-typo.json"), "{\"version\": \"1.0.0\",}").unwrap();
    write(&dir.join("late/20-gpu.json"), &gone);
    write(
        &dir.join("late/30-good.json"),
        &hook(&node, "good", json!({"always": true}), &["createRuntime"]),
    );
    // the daemon starts with them, and says so
    node.crash().await;
    let log = node.daemon.log();
    let line = log.lines().find(|line| line.contains("early/10-typo.json"));
    assert!(line.is_some_and(|line| line.contains("ERROR")), "{log}");
    let check = tools::output(node.daemon.command().args(["config", "--check"]));
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert_eq!(check.status.code(), Some(1), "{said}");
    for word in [
        "10-typo.json: trailing comma",
        "20-gpu.json: its program /nonexistent/nvidia-hook",
    ] {
        assert!(said.contains(word), "{said}");
    }

    let mut config = node.pod_config("gpu");
    config
        .annotations
        .insert("example.com/gpu".into(), "1".into());
    let pod = node.cri.run_pod(&config).await.unwrap();
    let error = node
        .cri
        .create(&pod, &sleeper("main", &image), &config)
        .await;
    let error = error.unwrap_err();
    assert!(
        error
            .message()
            .contains("late/20-gpu.json: its program /nonexistent/nvidia-hook"),
        "{error:?}"
    );
    let plain = node.pod_config("plain");
    let other = node.cri.run_pod(&plain).await.unwrap();
    let id = node.run_in(&other, &plain, &sleeper("main", &image)).await;
    assert_eq!(noted(&node, &id), ["good of-the-node"]);

    // mended: the same call works
    write(
        &dir.join("late/20-gpu.json"),
        &hook(&node, "gpu", for_gpus(), &["prestart"]),
    );
    let id = node.run_in(&pod, &config, &sleeper("main", &image)).await;
    assert_eq!(noted(&node, &id), ["gpu of-the-node", "good of-the-node"]);
    node.finish().await;
}

#[tokio::test]
async fn a_hook_that_fails_refuses_its_container_and_leaves_nothing() {
    let mut node = node().await;
    let image = node.busybox().await;
    let mut failing = hook(
        &node,
        "x",
        json!({"commands": ["^sleep$"]}),
        &["createRuntime"],
    );
    failing["hook"]["path"] = json!("/bin/false");
    failing["hook"]["args"] = json!(["false"]);
    write(&node.dir().join("late/x.json"), &failing);
    let config = node.pod_config("failing");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let error = node
        .cri
        .create(&pod, &sleeper("main", &image), &config)
        .await;
    let error = error.unwrap_err();
    assert!(error.message().contains("hook"), "{error:?}");
    assert!(node.cri.containers().await.unwrap().is_empty());
    let other = requests::container("other", &image, &["sh", "-c", "sleep 1000"]);
    node.run_in(&pod, &config, &other).await;
    node.finish().await;
}
