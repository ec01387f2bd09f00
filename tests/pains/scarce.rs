//! A node that has run out of inotify instances or of descriptors: the daemon starts all the same,
//! says what it does instead, and goes on when there is some again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cricket_harness::cri::{ContainerState, StatusRequest};
use cricket_harness::{Node, requests};
use nix::errno::Errno;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::signal::Signal;

use super::CRICKET;
use super::processes::{allow_descriptors, monitor, signal};

/// More than any machine allows by default, so that a machine that allows more fails no test.
const INSTANCES: usize = 1 << 16;

/// Takes every inotify instance that the kernel gives this user.
fn take_all() -> Vec<Inotify> {
    let mut taken = Vec::new();
    for _ in 0..INSTANCES {
        match Inotify::init(InitFlags::IN_CLOEXEC) {
            Ok(instance) => taken.push(instance),
            Err(Errno::EMFILE) => break,
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

async fn network_is_ready(node: &Node) -> bool {
    let reply = node.cri.status(StatusRequest::default()).await.unwrap();
    let conditions = reply.status.unwrap().conditions;
    conditions
        .iter()
        .any(|one| one.r#type == "NetworkReady" && one.status)
}

#[tokio::test]
async fn without_inotify_the_daemon_starts_says_so_and_still_sees_changes() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    // All daemons of this machine share the limit: one that ends just then may leave an instance to
    // this one.
    let mut taken = Vec::new();
    for attempt in 0.. {
        assert!(attempt < 100, "each time an instance was left");
        node.daemon.kill();
        taken.extend(take_all());
        let before = node.daemon.log().len();
        node.daemon.launch();
        node.reconnect().await;
        if node.daemon.log()[before..].contains("fs.inotify.max_user_instances") {
            break;
        }
    }
    // Others on this machine want some too.
    drop(taken);
    assert!(network_is_ready(&node).await);
    let (_, id, _) = node.run("blind", &image, &["sleep", "1000"]).await;
    assert_eq!(
        node.cri.exec(&id, &["true"], 60).await.unwrap().exit_code,
        0
    );
    // What inotify would have told is found by looking.
    let file = node.daemon.cni_conf_dir().join("10-bridge.conflist");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    while network_is_ready(&node).await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    fs::write(&file, text).unwrap();
    while !network_is_ready(&node).await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    node.finish().await;
}

#[tokio::test]
async fn without_descriptors_calls_fail_by_themselves_and_work_again_with_them() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, id, config) = node.run("full", &image, &["sleep", "1000"]).await;
    allow_descriptors(node.daemon.pid(), false);
    let failed = node.cri.exec(&id, &["true"], 60).await.unwrap_err();
    assert!(failed.message().contains("open files"), "{failed}");
    let late = requests::container("late", &image, &["true"]);
    let failed = node.cri.create(&pod, &late, &config).await.unwrap_err();
    assert!(failed.message().contains("open files"), "{failed}");
    // Ended from outside meanwhile: that is still heard of, over a socket that is open.
    signal(node.pids_of(&id)[0], Signal::SIGKILL);
    assert_eq!(node.cri.exited(&id).await.exit_code, 137);
    allow_descriptors(node.daemon.pid(), true);
    let late = node.run_in(&pod, &config, &late).await;
    assert_eq!(node.cri.exited(&late).await.exit_code, 0);
    node.finish().await;
}

#[tokio::test]
async fn without_descriptors_nobody_is_taken_for_dead() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, orphan, _) = node.run("orphan", &image, &["sleep", "1000"]).await;
    let (_, stopped, _) = node.run("stopped", &image, &["sleep", "1000"]).await;
    let watched = monitor(&node, &orphan);
    allow_descriptors(node.daemon.pid(), false);
    let before = node.daemon.log().len();
    signal(watched, Signal::SIGKILL);
    node.until("it is asked for the orphan", || {
        node.daemon.log()[before..].contains("whether the process lives is not known")
    })
    .await;
    // Nothing can be signalled, and nothing is said to have ended.
    node.cri.stop(&stopped, 0).await.unwrap_err();
    for id in [&orphan, &stopped] {
        let status = node.cri.container(id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        assert!(!node.pids_of(id).is_empty());
    }
    assert!(!node.processes(&stopped).is_empty());
    allow_descriptors(node.daemon.pid(), true);
    node.cri.stop(&stopped, 0).await.unwrap();
    let status = node.cri.container(&stopped).await.unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    signal(node.pids_of(&orphan)[0], Signal::SIGKILL);
    assert_eq!(
        node.cri.exited(&orphan).await.state(),
        ContainerState::ContainerExited
    );
    node.finish().await;
}

#[tokio::test]
async fn a_start_that_lacks_descriptors_loses_no_pod() {
    let dir = tempfile::tempdir().unwrap();
    let frugal = dir.path().join("frugal");
    let script =
        format!("#!/bin/sh\nulimit -n \"${{DESCRIPTORS:-1024}}\"\nexec {CRICKET} \"$@\"\n");
    fs::write(&frugal, script).unwrap();
    fs::set_permissions(&frugal, fs::Permissions::from_mode(0o755)).unwrap();
    let mut node = Node::start(frugal.to_str().unwrap()).await;
    let image = node.busybox().await;
    let mut containers = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let (_, id, _) = node.run(name, &image, &["sleep", "1000"]).await;
        containers.push(id);
    }
    // From a number that the loader needs to one that is enough, each time somewhere else in the start.
    let (mut started, mut refused) = (0, 0);
    for descriptors in (5..90).step_by(2) {
        if node.daemon.running().is_some() {
            node.daemon.kill();
        }
        let text = descriptors.to_string();
        node.daemon.set_env("DESCRIPTORS", Path::new(&text));
        match node.daemon.try_launch() {
            Ok(()) => started += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(started > 0 && refused > 0, "{started} {refused}");
    node.daemon.kill();
    node.daemon.set_env("DESCRIPTORS", Path::new("1024"));
    node.daemon.launch();
    node.reconnect().await;
    for id in &containers {
        let status = node.cri.container(id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        assert_eq!(node.cri.exec(id, &["true"], 60).await.unwrap().exit_code, 0);
    }
    assert_eq!(node.cri.pods().await.unwrap().len(), containers.len());
    let again = node.run("again", &image, &["true"]).await;
    assert_eq!(node.cri.exited(&again.1).await.exit_code, 0);
    assert!(
        !node.daemon.log().contains("set aside"),
        "{}",
        node.daemon.log()
    );
    node.finish().await;
}
