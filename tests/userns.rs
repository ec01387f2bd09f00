//! Pods with a user namespace: ids, namespaces, files, volumes, and the ends of all of them.
//!
//! Needs a runc with idmapped mounts (1.2 or later), which `make deps` builds where the
//! distribution's is older.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use cricket_harness::cri::*;
use cricket_harness::{Node, requests, tools};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
const UIDS: IdMapping = IdMapping {
    host_id: 300_000,
    container_id: 0,
    length: 65_536,
};
const GIDS: IdMapping = IdMapping {
    host_id: 400_000,
    ..UIDS
};

async fn node() -> Node {
    Node::start_with(CRICKET, |options| options.runtime = tools::current_runc()).await
}

fn userns(uids: &[IdMapping], gids: &[IdMapping]) -> UserNamespace {
    UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: uids.to_vec(),
        gids: gids.to_vec(),
    }
}

/// A pod and a container of it with a user namespace.
fn mapped(node: &Node, image: &str, command: &[&str]) -> (PodSandboxConfig, ContainerConfig) {
    let mut pod = node.pod_config("userns");
    requests::pod_namespaces(&mut pod).userns_options = Some(userns(&[UIDS], &[GIDS]));
    let mut container = requests::container("main", image, command);
    namespaces(&mut container).userns_options = Some(userns(&[UIDS], &[GIDS]));
    (pod, container)
}

fn namespaces(container: &mut ContainerConfig) -> &mut NamespaceOption {
    let security = requests::security(container);
    security.namespace_options.get_or_insert_default()
}

/// What a shell command in the container writes.
async fn sh(node: &Node, container: &str, script: &str) -> String {
    let ran = node.cri.exec(container, &["sh", "-c", script], 10).await;
    let ran = ran.unwrap_or_else(|error| panic!("{script}: {error:?}"));
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.exit_code, 0, "{script}: {errors}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_pods_root_is_nobody_on_the_node_and_root_in_all_that_is_the_pods() {
    let mut node = node().await;
    let image = node.busybox().await;
    let (mut pod, container) = mapped(&node, &image, &["sleep", "1000"]);
    let linux = pod.linux.as_mut().unwrap();
    for (name, value) in [
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "100"),
        ("net.ipv4.ip_unprivileged_port_start", "7"),
    ] {
        linux.sysctls.insert(name.into(), value.into());
    }
    let id = node.cri.run_pod(&pod).await.unwrap();
    let main = node.run_in(&id, &pod, &container).await;

    let map = sh(&node, &main, "cat /proc/self/uid_map /proc/self/gid_map").await;
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", "300000", "65536", "0", "400000", "65536"]);
    let pid = node.pids_of(&main)[0];
    let process = fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_eq!((process.uid(), process.gid()), (300_000, 400_000));

    for (script, want) in [
        ("id -u; id -g", "0\n0"),
        (
            "stat -c %u:%g / /bin /bin/busybox /etc/resolv.conf /etc/hostname /dev/shm",
            "0:0\n0:0\n0:0\n0:0\n0:0\n0:0",
        ),
        ("hostname", "userns"),
        (
            "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max",
            "1\n100",
        ),
        ("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "7"),
        // Files of the image can be changed, new ones made, and devices used.
        (
            "echo x > /new && echo y >> /etc/resolv.conf && stat -c %u:%g /new",
            "0:0",
        ),
        (
            "chown 1000:1000 /bin && stat -c %u:%g /bin && chown 0:0 /bin",
            "1000:1000",
        ),
        (
            "echo x > /dev/null && echo x > /dev/shm/x && head -c 1 /dev/zero | wc -c",
            "1",
        ),
        (
            "ls -d /dev/mqueue /sys/class/net/eth0 /proc/1",
            "/dev/mqueue\n/proc/1\n/sys/class/net/eth0",
        ),
        ("ip -o link show lo | grep -c LOWER_UP", "1"),
    ] {
        assert_eq!(sh(&node, &main, script).await, want, "{script}");
    }
    // The log's pipe can be opened by its name too, as programs do that log to /dev/stdout.
    sh(&node, &main, "echo through-proc > /proc/1/fd/1").await;
    let log = node.log_file(&pod, "main");
    node.until("the line is in the log", || {
        fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("through-proc")
    })
    .await;
    node.finish().await;
}
