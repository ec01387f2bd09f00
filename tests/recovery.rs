//! What a daemon finds that was killed before: changes between two kills, monitors that are stuck
//! or gone, records that it does not understand, a configuration that has changed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use cricket_harness::cri::*;
use cricket_harness::gate::Gate;
use cricket_harness::{Node, leaks, requests};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
const EXITED: i32 = ContainerState::ContainerExited as i32;

fn record(node: &Node, kind: &str, id: &str) -> PathBuf {
    node.daemon
        .runroot()
        .join(kind)
        .join(id)
        .join("record.json")
}

fn edit(path: &PathBuf, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// The monitor of a container, by its pid.
fn monitor(node: &Node, container: &str) -> u32 {
    let processes = node.processes(container);
    let found = processes
        .iter()
        .find(|(_, command)| command.contains("conmon"));
    found
        .unwrap_or_else(|| panic!("no monitor: {processes:?}"))
        .0
}

/// Whether the container, or its monitor, has a cgroup in any hierarchy.
fn has_cgroup(node: &Node, container: &str) -> bool {
    fn below(directory: &Path, name: &str) -> bool {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut directories = entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir());
        directories.any(|path| path.to_string_lossy().contains(name) || below(&path, name))
    }
    let own = node.cgroup();
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let roots = hierarchies
        .map(|entry| entry.path())
        .chain([PathBuf::from("/sys/fs/cgroup")]);
    roots
        .into_iter()
        .any(|root| below(&root.join(own.trim_start_matches('/')), container))
}

#[tokio::test]
async fn changes_between_two_kills_are_not_lost() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, ends, config) = node.run("changes", &image, &["sleep", "1000"]).await;
    let late = requests::container("late", &image, &["sleep", "1000"]);
    let late = node.cri.create(&pod, &late, &config).await.unwrap();
    node.crash().await;
    node.cri.start(&late).await.unwrap();
    node.cri.stop(&ends, 0).await.unwrap();
    node.crash().await;
    let after = node.cri.container(&late).await.unwrap();
    assert_eq!(after.state, ContainerState::ContainerRunning as i32);
    let after = node.cri.container(&ends).await.unwrap();
    assert_eq!((after.state, after.exit_code), (EXITED, 137));
    node.cri.stop(&late, 0).await.unwrap();
    node.crash().await;
    assert_eq!(node.cri.container(&late).await.unwrap().exit_code, 137);
    node.finish().await;
}

#[tokio::test]
async fn what_is_not_understood_is_set_aside_and_what_belongs_to_it_stays() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container, _) = node.run("newer", &image, &["sleep", "1000"]).await;
    let files = [
        record(&node, "sandboxes", &pod),
        record(&node, "containers", &container),
    ];
    node.daemon.kill();
    for file in &files {
        edit(file, |record| record["version"] = 2.into());
    }
    node.daemon.launch();
    node.reconnect().await;
    assert_eq!(node.cri.containers().await.unwrap(), []);
    assert_eq!(node.cri.pods().await.unwrap(), []);
    assert!(
        node.daemon.log().contains("set aside"),
        "{}",
        node.daemon.log()
    );
    let quarantine = node.daemon.runroot().join("quarantine");
    assert!(quarantine.join(&container).join("record.json").exists());
    let root = node.daemon.root().join("containers").join(&container);
    assert!(
        root.join("merged/bin/sh").exists(),
        "a living container keeps its files"
    );
    assert!(node.daemon.namespaces().join("netns").join(&pod).exists());

    // A daemon that understands them goes on as if nothing had been.
    node.daemon.kill();
    for (file, id) in files.iter().zip([&pod, &container]) {
        std::fs::rename(quarantine.join(id), file.parent().unwrap()).unwrap();
        edit(file, |record| record["version"] = 1.into());
    }
    node.daemon.launch();
    node.reconnect().await;
    let reply = node
        .cri
        .exec(&container, &["echo", "alive"], 10)
        .await
        .unwrap();
    assert_eq!(reply.stdout, b"alive\n");
    node.finish().await;
}

#[tokio::test]
async fn a_stuck_monitor_holds_up_nothing_but_its_own_container() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, stuck, config) = node.run("stuck", &image, &["sleep", "1000"]).await;
    let other = requests::container("other", &image, &["sleep", "1000"]);
    let other = node.run_in(&pod, &config, &other).await;
    let monitor = monitor(&node, &stuck);
    signal(monitor, Signal::SIGSTOP);
    node.crash().await;
    let listed = node.cri.container(&stuck).await.unwrap();
    assert_eq!(listed.state, ContainerState::ContainerRunning as i32);
    let reply = node.cri.exec(&other, &["echo", "alive"], 10).await.unwrap();
    assert_eq!(reply.stdout, b"alive\n");
    signal(monitor, Signal::SIGCONT);
    node.cri.stop(&stuck, 0).await.unwrap();
    assert_eq!(node.cri.container(&stuck).await.unwrap().exit_code, 137);
    node.finish().await;
}

#[tokio::test]
async fn containers_are_ended_by_the_runtime_that_made_them() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container, _) = node.run("moved", &image, &["sleep", "1000"]).await;
    let file = node.daemon.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let moved = text.replace(
        "runtime_root = \"",
        "runtime_root = \"/run/cricket-test-moved",
    );
    assert_ne!(text, moved);
    assert!(node.daemon.stop().await.success());
    std::fs::write(&file, moved).unwrap();
    node.daemon.launch();
    node.reconnect().await;
    node.cri.stop(&container, 0).await.unwrap();
    assert_eq!(node.cri.container(&container).await.unwrap().exit_code, 137);
    node.cri.remove_pod(&pod).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn a_pod_whose_pause_process_ends_is_not_ready_and_goes_completely() {
    let mut node = Node::start(CRICKET).await;
    let mut config = node.pod_config("paused");
    let linux = config.linux.get_or_insert_default();
    let security = linux.security_context.get_or_insert_default();
    security.namespace_options.get_or_insert_default().pid = NamespaceMode::Pod as i32;
    let image = node.busybox().await;
    let mut beside = requests::container("beside", &image, &["sleep", "1000"]);
    let pod = node.cri.run_pod(&config).await.unwrap();
    node.crash().await;
    let status = node.cri.pod(&pod).await.unwrap();
    assert_eq!(status.state, PodSandboxState::SandboxReady as i32);
    // A killed monitor is not the end of what it watched: not for the daemon that saw it, and not
    // for the next.
    signal(monitor(&node, &pod), Signal::SIGKILL);
    for is_restarted in [false, true] {
        if is_restarted {
            node.crash().await;
        }
        node.run_in(&pod, &config, &beside).await;
        beside.metadata.get_or_insert_default().attempt += 1;
        let status = node.cri.pod(&pod).await.unwrap();
        assert_eq!(status.state, PodSandboxState::SandboxReady as i32);
    }
    let processes = node.processes(&pod);
    let pause = processes
        .iter()
        .find(|(_, command)| command.contains("/pause") && !command.contains("conmon"));
    let pause = pause
        .unwrap_or_else(|| panic!("no pause process: {processes:?}"))
        .0;
    signal(pause, Signal::SIGKILL);
    let mut state = PodSandboxState::SandboxReady as i32;
    while state == PodSandboxState::SandboxReady as i32 {
        state = node.cri.pod(&pod).await.unwrap().state;
        tokio::task::yield_now().await;
    }
    node.cri.stop_pod(&pod).await.unwrap();
    node.cri.remove_pod(&pod).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn what_has_ended_and_was_not_released_is_released_by_the_next_daemon() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    node.daemon.arm(Some("end.recorded"));
    node.crash().await;
    let config = node.pod_config("held");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let held = requests::container("held", &image, &["true"]);
    let held = node.cri.create(&pod, &held, &config).await.unwrap();
    // The daemon may be gone before it can answer.
    drop(node.cri.start(&held).await);
    let patience = std::time::Duration::from_secs(60);
    node.daemon.ended(patience).await.expect("it was killed");
    // A scope's cgroup goes by itself, a root filesystem does not.
    let is_mounted = |node: &Node| {
        let mut mounts = leaks::mounts_below(node.dir()).into_iter();
        mounts.any(|at| at.to_string_lossy().contains(&held))
    };
    assert!(is_mounted(&node), "nobody has released it yet");
    node.daemon.arm(None);
    node.daemon.launch();
    node.reconnect().await;
    assert_eq!(node.cri.exited(&held).await.exit_code, 0);
    node.until("the release", || {
        !is_mounted(&node) && !has_cgroup(&node, &held)
    })
    .await;
    node.finish().await;
}

/// The runtime's start goes on without the daemon that asked for it, and the next one hears of it from
/// the monitor: nobody asks again.
#[tokio::test]
async fn a_start_that_comes_off_after_a_kill_of_the_daemon_is_told() {
    let mut gate = None;
    let mut node = Node::start_with(CRICKET, |options| gate = Some(Gate::new(options))).await;
    let gate = gate.unwrap();
    let image = node.busybox().await;
    let config = node.pod_config("late");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let late = requests::container("late", &image, &["sleep", "1000"]);
    let late = node.cri.create(&pod, &late, &config).await.unwrap();
    let begun = gate.begun("start");
    gate.close("start");
    let (cri, id) = (node.cri.clone(), late.clone());
    let asked = tokio::spawn(async move { cri.start(&id).await });
    node.until("the runtime's start", || gate.begun("start") > begun)
        .await;
    node.crash().await;
    asked.await.unwrap().unwrap_err();
    let status = node.cri.container(&late).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerCreated);
    gate.open("start");
    let mut status = status;
    while status.state() == ContainerState::ContainerCreated {
        status = node.cri.container(&late).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    assert!(status.started_at > 0);
    assert_eq!(
        node.cri.exec(&late, &["true"], 60).await.unwrap().exit_code,
        0
    );
    node.finish().await;
}

#[tokio::test]
async fn roots_and_namespaces_without_an_owner_are_swept_at_the_start() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, container, _) = node.run("swept", &image, &["true"]).await;
    node.cri.exited(&container).await;
    node.until("the release of the ended container", || {
        !has_cgroup(&node, &container)
    })
    .await;
    node.daemon.kill();
    // A reboot clears the run root and leaves the rest.
    let bundle = record(&node, "containers", &container);
    std::fs::remove_dir_all(bundle.parent().unwrap()).unwrap();
    let root = node.daemon.root().join("containers").join(&container);
    assert!(root.exists());
    let netns = node
        .daemon
        .namespaces()
        .join("netns")
        .join("0123456789abcdef".repeat(4));
    std::fs::write(&netns, "").unwrap();
    node.daemon.launch();
    node.reconnect().await;
    node.until("the sweep", || !root.exists() && !netns.exists())
        .await;
    node.finish().await;
}

#[tokio::test]
async fn a_container_with_limits_on_huge_pages_runs_where_the_host_cannot_limit_them() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("huge");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("huge", &image, &["sleep", "1000"]);
    let limit = |page_size: &str| HugepageLimit {
        page_size: page_size.into(),
        limit: 0,
    };
    let linux = container.linux.get_or_insert_default();
    linux.resources.get_or_insert_default().hugepage_limits = vec![limit("2MB"), limit("1GB")];
    let container = node.run_in(&pod, &config, &container).await;
    let status = node.cri.container(&container).await.unwrap();
    assert_eq!(status.state, ContainerState::ContainerRunning as i32);
    node.finish().await;
}

#[tokio::test]
async fn a_command_that_cannot_be_begun_in_time_ends_with_the_callers_limit() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, container, _) = node.run("slow", &image, &["sleep", "1000"]).await;
    let monitor = monitor(&node, &container);
    signal(monitor, Signal::SIGSTOP);
    let late = node.cri.exec(&container, &["true"], 1).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late}");
    signal(monitor, Signal::SIGCONT);
    let reply = node.cri.exec(&container, &["true"], 10).await.unwrap();
    assert_eq!(reply.exit_code, 0);
    node.finish().await;
}

#[tokio::test]
async fn a_command_whose_caller_goes_away_goes_too_with_its_children() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, container, _) = node.run("caller", &image, &["sleep", "1000"]).await;
    let cri = node.cri.clone();
    let id = container.clone();
    let call =
        tokio::spawn(async move { cri.exec(&id, &["sh", "-c", "sleep 777; true"], 60).await });
    let runs = |node: &Node| {
        node.processes(&container)
            .iter()
            .any(|(_, shown)| shown.starts_with("sleep 777"))
    };
    node.until("the command", || runs(&node)).await;
    call.abort();
    node.until("its end", || !runs(&node)).await;
    node.finish().await;
}
