//! `root` and `runroot` that are symbolic links, as people make them who want another disk, or write
//! /var/run for /run: all works as without, and what is left behind is found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use cricket_harness::cri::NamespaceMode;
use cricket_harness::{Node, requests};
use nix::mount::{MntFlags, umount2};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// What `cricket doctor leaks` finds of an id.
fn kinds(node: &Node, id: &str) -> BTreeSet<String> {
    let mut command = node.daemon.command();
    let output = command
        .args(["doctor", "leaks", "--json"])
        .output()
        .unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let leaks = found["leaks"].as_array().unwrap().iter();
    let of_id = leaks.filter(|leak| leak["id"] == id);
    of_id
        .map(|leak| leak["kind"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn pods_run_where_the_roots_are_links_and_what_they_leave_is_found_and_swept() {
    let mut node = Node::start(CRICKET).await;
    node.daemon.kill();
    for name in ["root", "run"] {
        let real = format!("other-disk-{name}");
        fs::rename(node.dir().join(name), node.dir().join(&real)).unwrap();
        symlink(real, node.dir().join(name)).unwrap();
    }
    node.daemon.launch();
    node.reconnect().await;
    let image = node.busybox().await;
    let mut config = node.pod_config("linked");
    requests::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = node.cri.run_pod(&config).await.unwrap();
    let container = requests::container("main", &image, &["sleep", "1000"]);
    let container = node.run_in(&pod, &config, &container).await;
    node.crash().await;
    let reply = node.cri.exec(&container, &["true"], 60).await.unwrap();
    assert_eq!(reply.exit_code, 0);

    node.daemon.kill();
    let run = node.daemon.runroot();
    let (of_pod, bundle) = (
        run.join("sandboxes").join(&pod),
        run.join("containers").join(&container),
    );
    umount2(&of_pod.join("shm"), MntFlags::MNT_DETACH).unwrap();
    fs::remove_dir_all(of_pod).unwrap();
    fs::remove_dir_all(bundle).unwrap();
    let all = ["cgroup", "directory", "mount", "process", "runtime state"];
    assert_eq!(kinds(&node, &container), all.map(String::from).into());
    let of_pause = kinds(&node, &pod);
    assert!(of_pause.contains("process"), "{of_pause:?}");
    let mut command = node.daemon.command();
    let output = command.args(["doctor", "leaks", "--fix"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(kinds(&node, &container), BTreeSet::new());
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}
