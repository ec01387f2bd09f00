//! An OCI runtime that hangs, and mount sources on a file system that is dead: what waits for them
//! ends with an error that says so, nothing else waits, and what is left goes later.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cricket_harness::cri::{ContainerConfig, ContainerState, PodSandboxConfig};
use cricket_harness::daemon::Options;
use cricket_harness::faults::Row;
use cricket_harness::fuse::DeadFs;
use cricket_harness::{Node, leaks, meanwhile, requests};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A runtime, of the handler `hanging`, whose calls hang with a child of theirs as long as there is
/// a file `hang-CALL`, or after they have done their work, `hang-after-CALL`.
struct Runtime {
    dir: tempfile::TempDir,
}

impl Runtime {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn configure(&self, options: &mut Options) {
        let script = format!(
            "#!/bin/sh\nfor word; do case $word in create|start|kill|delete|exec)\n\
             if [ -e {dir}/hang-after-$word ]; then {runc} \"$@\"; touch {dir}/hang-$word; fi\n\
             if [ -e {dir}/hang-$word ]; then sleep 100000 & echo $$ $! >> {dir}/hanging; wait; fi\n\
             break;; esac; done\nexec {runc} \"$@\"\n",
            dir = self.dir.path().display(),
            runc = options.runtime.display(),
        );
        fs::write(self.program(), script).unwrap();
        fs::set_permissions(self.program(), fs::Permissions::from_mode(0o755)).unwrap();
        options.extra_config = format!(
            "[crio.runtime.runtimes.hanging]\nruntime_path = \"{}\"\nruntime_root = \"{}/state\"\n\
             monitor_cgroup = \"pod\"\ncontainer_create_timeout = 30\n",
            self.program().display(),
            self.dir.path().display(),
        );
        options.runtime_config = "runtime_call_timeout = \"30s\"".into();
    }

    async fn node(&self) -> Node {
        Node::start_with(CRICKET, |options| self.configure(options)).await
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("runtime")
    }

    fn hang(&self, call: &str) {
        fs::write(self.dir.path().join(format!("hang-{call}")), "").unwrap();
    }

    fn mend(&self, call: &str) {
        fs::remove_file(self.dir.path().join(format!("hang-{call}"))).unwrap();
    }

    /// The processes that have hung so far.
    fn hanging(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.dir.path().join("hanging")).unwrap_or_default();
        let pids = text.split_ascii_whitespace();
        pids.map(|pid| pid.parse().unwrap()).collect()
    }

    /// Waits until the runtime hangs, and sees that the daemon says for what the operation waits.
    async fn hangs(&self, node: &Node, kind: &str, call: &str) {
        node.until("the runtime hangs", || !self.hanging().is_empty())
            .await;
        meanwhile::reads(node).await;
        let waits = meanwhile::waits(node, kind);
        assert_eq!(waits, [format!("{} {call}", self.program().display())]);
    }

    /// None of what has hung is there any more.
    async fn all_gone(&self, node: &Node) {
        let pids = self.hanging();
        assert!(!pids.is_empty());
        node.until("what hung has gone", || !pids.iter().any(leaks::lives))
            .await;
        fs::remove_file(self.dir.path().join("hanging")).unwrap();
    }
}

/// A pod of the handler.
async fn pod(node: &Node, handler: &str) -> (String, PodSandboxConfig) {
    let config = node.pod_config("stuck");
    let pod = node.cri.run_pod_with(&config, handler).await.unwrap();
    (pod, config)
}

/// Does it in a task of its own.
fn begin<T: Send + 'static>(
    call: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> JoinHandle<Result<T, Status>> {
    tokio::spawn(call)
}

/// How a call that must fail did, with these words.
async fn failed<T: std::fmt::Debug + Send>(
    call: JoinHandle<Result<T, Status>>,
    code: Code,
    words: &[&str],
) {
    let status = call.await.unwrap().expect_err("it hangs");
    assert_eq!(status.code(), code, "{status:?}");
    for word in words {
        assert!(status.message().contains(word), "no `{word}`: {status:?}");
    }
}

fn create(
    node: &Node,
    (pod, config): &(String, PodSandboxConfig),
    container: &ContainerConfig,
) -> JoinHandle<Result<String, Status>> {
    let (cri, pod, config) = (node.cri.clone(), pod.clone(), config.clone());
    let container = container.clone();
    begin(async move { cri.create(&pod, &container, &config).await })
}

#[tokio::test]
async fn a_runtime_that_hangs_in_create_is_ended_and_the_retry_works() {
    let fault = "the OCI runtime hangs in create";
    Row::repeat(fault, 3, async || {
        let runtime = Runtime::new();
        let mut node = runtime.node().await;
        let image = node.busybox().await;
        let pod = pod(&node, "hanging").await;
        let container = requests::container("main", &image, &["sleep", "1000"]);
        runtime.hang("create");
        let call = create(&node, &pod, &container);
        runtime.hangs(&node, "create container", "create").await;
        meanwhile::other_pods(&node, "", &image, &call).await;
        meanwhile::reads(&node).await;
        let program = runtime.program().display().to_string();
        let words = [&*program, "create", "within 30 s"];
        failed(call, Code::DeadlineExceeded, &words).await;
        runtime.all_gone(&node).await;
        assert_eq!(node.cri.containers().await.unwrap(), []);
        runtime.mend("create");
        node.run_in(&pod.0, &pod.1, &container).await;
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_runtime_that_hangs_in_start_ends_the_container_with_the_reason() {
    let fault = "the OCI runtime hangs in start";
    Row::repeat(fault, 3, async || {
        let runtime = Runtime::new();
        let mut node = runtime.node().await;
        let image = node.busybox().await;
        let pod = pod(&node, "hanging").await;
        let container = requests::container("main", &image, &["sleep", "1000"]);
        let id = create(&node, &pod, &container).await.unwrap().unwrap();
        runtime.hang("start");
        let (cri, started) = (node.cri.clone(), id.clone());
        let call = begin(async move { cri.start(&started).await });
        runtime.hangs(&node, "start container", "start").await;
        meanwhile::other_pods(&node, "", &image, &call).await;
        meanwhile::reads(&node).await;
        let program = runtime.program().display().to_string();
        let words = [&*program, "start", "within 60 s"];
        failed(call, Code::DeadlineExceeded, &words).await;
        let status = node.cri.exited(&id).await;
        assert_eq!(
            (status.reason.as_str(), status.exit_code),
            ("StartError", 128)
        );
        assert!(status.message.contains("within 60 s"), "{status:?}");
        runtime.all_gone(&node).await;
        node.cri.remove(&id).await.unwrap();
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn containers_are_stopped_although_the_runtime_hangs_in_kill() {
    let fault = "the OCI runtime hangs in kill";
    Row::repeat(fault, 3, async || {
        let runtime = Runtime::new();
        let mut node = runtime.node().await;
        let image = node.busybox().await;
        let pod = pod(&node, "hanging").await;
        let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        let polite = requests::container("polite", &image, &["sh", "-c", script]);
        let hasty = requests::container("hasty", &image, &["sh", "-c", script]);
        let deaf = requests::container("deaf", &image, &["sh", "-c", "trap '' TERM; sleep 1000"]);
        let polite = node.run_in(&pod.0, &pod.1, &polite).await;
        let hasty = node.run_in(&pod.0, &pod.1, &hasty).await;
        let deaf = node.run_in(&pod.0, &pod.1, &deaf).await;
        for name in ["polite", "hasty"] {
            let log = node.log_file(&pod.1, name);
            node.until("the trap is set", || !node.log_records(&log).is_empty())
                .await;
        }
        runtime.hang("kill");
        let (cri, stopped) = (node.cri.clone(), polite.clone());
        let call = begin(async move { cri.stop(&stopped, 60).await });
        runtime.hangs(&node, "stop container", "kill").await;
        meanwhile::another_pod(&node, "", &image).await;
        meanwhile::reads(&node).await;
        call.await.unwrap().unwrap();
        // The second has less time than the runtime has otherwise.
        node.cri.stop(&hasty, 8).await.unwrap();
        for id in [&polite, &hasty] {
            let status = node.cri.container(id).await.unwrap();
            assert_eq!(status.exit_code, 7, "it had its signal: {status:?}");
        }
        node.cri.stop(&deaf, 1).await.unwrap();
        let status = node.cri.container(&deaf).await.unwrap();
        assert_eq!(status.exit_code, 137, "{status:?}");
        runtime.all_gone(&node).await;
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_container_that_the_runtime_killed_before_it_hung_is_stopped() {
    let runtime = Runtime::new();
    let mut node = runtime.node().await;
    let image = node.busybox().await;
    let pod = pod(&node, "hanging").await;
    let container = requests::container("main", &image, &["sleep", "1000"]);
    let id = node.run_in(&pod.0, &pod.1, &container).await;
    runtime.hang("after-kill");
    node.cri.stop(&id, 0).await.unwrap();
    let status = node.cri.container(&id).await.unwrap();
    assert_eq!(status.exit_code, 137, "{status:?}");
    runtime.all_gone(&node).await;
    node.finish().await;
}

#[tokio::test]
async fn a_runtime_that_hangs_in_delete_hides_no_exit_and_removal_works_once_it_is_mended() {
    let fault = "the OCI runtime hangs in delete";
    Row::repeat(fault, 3, async || {
        let runtime = Runtime::new();
        let mut node = runtime.node().await;
        let image = node.busybox().await;
        let pod = pod(&node, "hanging").await;
        runtime.hang("delete");
        let short = requests::container("short", &image, &["sh", "-c", "exit 5"]);
        let id = node.run_in(&pod.0, &pod.1, &short).await;
        let status = node.cri.exited(&id).await;
        assert_eq!(status.exit_code, 5, "{status:?}");
        let (cri, removed) = (node.cri.clone(), id.clone());
        let call = begin(async move { cri.remove(&removed).await });
        node.until("the runtime hangs", || !runtime.hanging().is_empty())
            .await;
        meanwhile::reads(&node).await;
        meanwhile::other_pods(&node, "", &image, &call).await;
        let program = runtime.program().display().to_string();
        let words = [&*program, "delete", "within 30 s", "process"];
        failed(call, Code::DeadlineExceeded, &words).await;
        let listed = node.cri.container(&id).await.unwrap();
        assert_eq!(listed.state(), ContainerState::ContainerExited);
        runtime.all_gone(&node).await;
        // One that the daemon's end leaves without a deadline is ended by the next daemon.
        let (cri, removed) = (node.cri.clone(), id.clone());
        let call = begin(async move { cri.remove(&removed).await });
        node.until("the runtime hangs again", || !runtime.hanging().is_empty())
            .await;
        let left = runtime.hanging();
        node.crash().await;
        call.await.unwrap().expect_err("nobody answers any more");
        node.until("what the dead daemon called has gone", || {
            !left.iter().any(leaks::lives)
        })
        .await;
        let listed = node.cri.container(&id).await.unwrap();
        assert_eq!(listed.exit_code, 5, "{listed:?}");
        runtime.mend("delete");
        node.cri.remove(&id).await.unwrap();
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_runtime_that_hangs_in_exec_is_ended_and_takes_no_place() {
    let fault = "the OCI runtime hangs in exec, 49 times";
    Row::repeat(fault, 3, async || {
        let runtime = Runtime::new();
        let mut node = runtime.node().await;
        let image = node.busybox().await;
        let pod = pod(&node, "hanging").await;
        let container = requests::container("main", &image, &["sleep", "1000"]);
        let id = node.run_in(&pod.0, &pod.1, &container).await;
        runtime.hang("exec");
        // As many probes as there are places for commands; each is given up after a second.
        let probes: Vec<_> = (0..48)
            .map(|_| {
                let (cri, id) = (node.cri.clone(), id.clone());
                begin(async move { cri.exec(&id, &["true"], 1).await })
            })
            .collect();
        node.until("the runtime hangs", || !runtime.hanging().is_empty())
            .await;
        meanwhile::reads(&node).await;
        meanwhile::another_pod(&node, "", &image).await;
        for probe in probes {
            failed(probe, Code::DeadlineExceeded, &["`true`", &id]).await;
        }
        let (cri, patient) = (node.cri.clone(), id.clone());
        let call = begin(async move { cri.exec(&patient, &["true"], 0).await });
        meanwhile::other_pods(&node, "", &image, &call).await;
        let program = runtime.program().display().to_string();
        let words = [&*program, "exec", "within 60 s"];
        failed(call, Code::DeadlineExceeded, &words).await;
        runtime.all_gone(&node).await;
        runtime.mend("exec");
        let answer = node.cri.exec(&id, &["echo", "again"], 30).await.unwrap();
        assert_eq!(answer.stdout, b"again\n");
        node.finish().await;
    })
    .await;
}

/// A container that mounts `source`.
fn mounting(image: &str, source: &Path, command: &[&str]) -> ContainerConfig {
    let mut container = requests::container("main", image, command);
    container
        .mounts
        .push(requests::mount(source, "/data", false));
    container
}

#[tokio::test]
async fn a_mount_source_whose_file_system_is_dead_is_named_and_a_crash_is_survived() {
    let fault = "a mount's source is on a dead file system, and the daemon is killed";
    Row::repeat(fault, 3, async || {
        let mut node = Node::start_with(CRICKET, |options| {
            options.runtime_config = "mount_source_timeout = \"30s\"".into();
        })
        .await;
        let image = node.busybox().await;
        let place = tempfile::tempdir().unwrap();
        let mut dead = DeadFs::mount(place.path());
        let pod = pod(&node, "").await;
        let source = place.path().join("sub");
        dead.stop();
        let call = create(&node, &pod, &mounting(&image, &source, &["sleep", "1000"]));
        let told = [source.display().to_string()];
        let waits = || meanwhile::waits(&node, "create container") == told;
        node.until("the source is waited for", waits).await;
        meanwhile::reads(&node).await;
        meanwhile::other_pods(&node, "", &image, &call).await;
        let words = [&*told[0], "has not answered for 30 s"];
        failed(call, Code::DeadlineExceeded, &words).await;
        assert_eq!(node.cri.containers().await.unwrap(), []);
        // The stuck thread keeps nothing from the next daemon.
        node.crash().await;
        meanwhile::reads(&node).await;
        dead.end();
        drop(dead);
        let container = mounting(&image, place.path(), &["sleep", "1000"]);
        node.run_in(&pod.0, &pod.1, &container).await;
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_log_directory_on_a_dead_file_system_is_named() {
    let mut node = Node::start_with(CRICKET, |options| {
        options.runtime_config = "mount_source_timeout = \"10s\"".into();
    })
    .await;
    let image = node.busybox().await;
    let place = tempfile::tempdir().unwrap();
    let mut dead = DeadFs::mount(place.path());
    let mut config = node.pod_config("stuck");
    let logs = place.path().join("logs");
    config.log_directory = logs.display().to_string();
    let pod = node.cri.run_pod(&config).await.unwrap();
    dead.stop();
    let container = requests::container("main", &image, &["sleep", "1000"]);
    let call = create(&node, &(pod, config), &container);
    let told = logs.join("main").display().to_string();
    let waits = || meanwhile::waits(&node, "create container") == [&*told];
    node.until("the log directory is waited for", waits).await;
    meanwhile::reads(&node).await;
    let words = ["make the log directory", &told, "has not answered for 10 s"];
    failed(call, Code::DeadlineExceeded, &words).await;
    dead.end();
    drop(dead);
    node.finish().await;
}

#[tokio::test]
async fn a_file_system_that_dies_before_the_runtime_mounts_it_costs_no_more_than_the_deadline() {
    let fault = "a file system dies before the OCI runtime mounts it";
    Row::repeat(fault, 3, async || {
        let runtime = Runtime::new();
        let mut node = runtime.node().await;
        let image = node.busybox().await;
        let place = tempfile::tempdir().unwrap();
        let mut dead = DeadFs::mount(place.path());
        let pod = pod(&node, "hanging").await;
        dead.stop();
        // The root of a mount is found without asking its server; only the runtime looks at it.
        let container = mounting(&image, place.path(), &["sleep", "1000"]);
        let call = create(&node, &pod, &container);
        let program = format!("{} create", runtime.program().display());
        let waits = || meanwhile::waits(&node, "create container") == [&*program];
        node.until("the runtime is waited for", waits).await;
        meanwhile::reads(&node).await;
        meanwhile::other_pods(&node, "", &image, &call).await;
        failed(call, Code::DeadlineExceeded, &[&program, "within 30 s"]).await;
        dead.end();
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_process_that_no_signal_ends_is_told_of_and_goes_once_its_file_system_lets_it() {
    let fault = "a container waits for a dead file system and cannot be killed";
    Row::repeat(fault, 3, async || {
        let mut node = Node::start(CRICKET).await;
        let image = node.busybox().await;
        let place = tempfile::tempdir().unwrap();
        let mut dead = DeadFs::mount(place.path());
        let pod = pod(&node, "").await;
        let script = "echo ready; while cat /data/data; do sleep 0.05; done";
        let container = mounting(&image, place.path(), &["sh", "-c", script]);
        let id = node.run_in(&pod.0, &pod.1, &container).await;
        let log = node.log_file(&pod.1, "main");
        node.until("it reads", || node.log_records(&log).len() > 1)
            .await;
        dead.fall_silent();
        node.until("it waits for the file system", || dead.unanswered() > 0)
            .await;
        let (cri, stopped) = (node.cri.clone(), id.clone());
        let call = begin(async move { cri.stop(&stopped, 0).await });
        meanwhile::other_pods(&node, "", &image, &call).await;
        let waits = loop {
            meanwhile::reads(&node).await;
            let waits = meanwhile::waits(&node, "stop container");
            if waits.iter().any(|what| what.starts_with("pid ")) {
                break waits;
            }
        };
        assert_eq!(waits.len(), 1);
        failed(call, Code::Unknown, &[&id, &waits[0], "after SIGKILL"]).await;
        dead.end();
        node.cri.stop(&id, 0).await.unwrap();
        assert_eq!(node.cri.exited(&id).await.exit_code, 137);
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_process_that_works_on_a_dead_file_system_holds_up_nothing_that_is_undone() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, _, config) = node.run("beside", &image, &["sleep", "1000"]).await;
    let place = tempfile::tempdir().unwrap();
    let mut dead = DeadFs::mount(place.path());
    let mut command = std::process::Command::new("sleep");
    let command = command.arg("1000").current_dir(place.path());
    let mut works_there = command.spawn().unwrap();
    dead.stop();
    let container = requests::container("bad", &image, &["/no/such/program"]);
    let failed = node.cri.create(&pod, &container, &config).await;
    assert!(failed.unwrap_err().message().contains("/no/such/program"));
    // Its monitor is looked for among all processes of the node.
    let log = node.daemon.log();
    assert!(!log.contains("monitor is not ended"), "{log}");
    dead.end();
    works_there.kill().unwrap();
    works_there.wait().unwrap();
    node.finish().await;
}
