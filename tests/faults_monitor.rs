//! `kill -9` of a container's monitor: what becomes of the container is told as it is, whether the
//! daemon lives or not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::PathBuf;

use cricket_harness::cri::*;
use cricket_harness::faults::{Row, tries};
use cricket_harness::gate::Gate;
use cricket_harness::{Node, requests};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// The monitor of a container that is made in this bundle, by its pid.
fn monitor_in(node: &Node, bundle: &str) -> Option<u32> {
    let processes = node.processes(bundle).into_iter();
    let mut monitors = processes.filter(|(_, facts)| facts.contains("/conmon "));
    monitors.next().map(|(pid, _)| pid)
}

fn kill_monitor(node: &Node, bundle: &str) {
    let pid = monitor_in(node, bundle).expect("the container has a monitor");
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
}

/// Whether the kernel tells how somebody else's child ended (Linux 6.15).
fn kernel_tells() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split('.')
        .map(|number| number.parse::<u32>().unwrap());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// A pod with a directory that its containers share with the test.
struct Shared {
    node: Node,
    image: String,
    pod: String,
    config: PodSandboxConfig,
    directory: PathBuf,
}

impl Shared {
    async fn start() -> Shared {
        let mut node = Node::start(CRICKET).await;
        let image = node.busybox().await;
        let directory = node.dir().join("shared");
        fs::create_dir(&directory).unwrap();
        let config = node.pod_config("shared");
        let pod = node.cri.run_pod(&config).await.unwrap();
        Shared {
            node,
            image,
            pod,
            config,
            directory,
        }
    }

    /// A container that does this as soon as there is `go`.
    async fn run(&self, name: &str, then: &str) -> String {
        let script = format!("until [ -e /shared/go ]; do sleep 0.02; done; {then}");
        let mut container = requests::container(name, &self.image, &["sh", "-c", &script]);
        container.mounts = vec![requests::mount(&self.directory, "/shared", false)];
        requests::resources(&mut container).memory_limit_in_bytes = 24 << 20;
        self.node.run_in(&self.pod, &self.config, &container).await
    }

    fn go(&self) {
        fs::write(self.directory.join("go"), "").unwrap();
    }

    fn hold(&self) {
        let _absent = fs::remove_file(self.directory.join("go"));
    }
}

fn told(status: &ContainerStatus, wanted: (i32, &str)) -> Result<(), String> {
    let facts = (status.exit_code, status.reason.as_str());
    let unknown = (255, "MonitorLost");
    if facts == wanted || (!kernel_tells() && facts == unknown) {
        return Ok(());
    }
    Err(format!("{facts:?} is told, not {wanted:?}"))
}

#[tokio::test]
async fn the_end_of_a_container_that_outlives_its_monitor_is_told() {
    let mut row = Row::new("kill -9 of conmon, then the container ends");
    let mut shared = Shared::start().await;
    for round in 0..tries(1, 10) {
        for (name, daemon_dies) in [("with", false), ("without", true)] {
            shared.hold();
            let fails = shared.run(&format!("{name}-fails-{round}"), "exit 7").await;
            let works = shared.run(&format!("{name}-works-{round}"), "true").await;
            let oom = shared
                .run(&format!("{name}-oom-{round}"), "exec tail /dev/zero")
                .await;
            for id in [&fails, &works, &oom] {
                kill_monitor(&shared.node, id);
            }
            if daemon_dies {
                shared.node.crash().await;
            }
            for id in [&fails, &works, &oom] {
                row.tried();
                let status = shared.node.cri.container(id).await.unwrap();
                row.lost(match status.state() {
                    ContainerState::ContainerRunning => Ok(()),
                    other => Err(format!("it runs, and is told as {other:?}")),
                });
            }
            shared.go();
            for (id, wanted) in [
                (&fails, (7, "Error")),
                (&works, (0, "Completed")),
                (&oom, (137, "OOMKilled")),
            ] {
                let status = shared.node.cri.exited(id).await;
                row.lost(told(&status, wanted));
                assert!(status.message.contains("monitor was killed"), "{status:?}");
                shared.node.cri.remove(id).await.unwrap();
            }
        }
    }
    shared.node.finish().await;
    row.end();
}

#[tokio::test]
async fn the_end_that_a_monitor_writes_down_counts_though_it_could_not_be_reached() {
    let mut shared = Shared::start().await;
    shared.hold();
    let id = shared.run("unreached", "exit 5").await;
    let bundle = shared.node.daemon.runroot().join("containers").join(&id);
    std::fs::remove_file(bundle.join("conmon.sock")).unwrap();
    shared.node.crash().await;
    shared.go();
    let status = shared.node.cri.exited(&id).await;
    let facts = (status.exit_code, status.reason.as_str(), &*status.message);
    assert_eq!(facts, (5, "Error", ""));
    shared.node.cri.remove(&id).await.unwrap();
    shared.node.finish().await;
}

#[tokio::test]
async fn a_container_whose_end_nobody_saw_is_told_as_such() {
    let mut row = Row::new("kill -9 of conmon and the daemon, then the container ends unseen");
    let mut shared = Shared::start().await;
    for round in 0..tries(1, 10) {
        shared.hold();
        let id = shared.run(&format!("unseen-{round}"), "exit 7").await;
        row.tried();
        shared.node.daemon.kill();
        kill_monitor(&shared.node, &id);
        shared.go();
        let node = &shared.node;
        node.until("its end", || node.pids_of(&id).is_empty()).await;
        shared.node.daemon.launch();
        shared.node.reconnect().await;
        let status = shared.node.cri.exited(&id).await;
        let facts = (status.exit_code, status.reason.as_str());
        // As long as nobody has reaped it the kernel knows.
        row.lost(
            match [(255, "MonitorLost"), (7, "Error")].contains(&facts) {
                true => Ok(()),
                false => Err(format!("{facts:?} is told")),
            },
        );
        shared.node.cri.remove(&id).await.unwrap();
    }
    shared.node.finish().await;
    row.end();
}

#[tokio::test]
async fn a_monitor_that_dies_while_it_creates_or_starts_leaves_nothing() {
    let mut row = Row::new("kill -9 of conmon while it creates or starts the container");
    let mut gate = None;
    let mut node = Node::start_with(CRICKET, |options| gate = Some(Gate::new(options))).await;
    let gate = gate.unwrap();
    let image = node.busybox().await;
    let config = node.pod_config("cut");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let container = requests::container("main", &image, &["sleep", "1000"]);
    for _ in 0..tries(1, 10) {
        let before = gate.begun("create");
        gate.close("create");
        let call = tokio::spawn({
            let (cri, pod) = (node.cri.clone(), pod.clone());
            let (container, config) = (container.clone(), config.clone());
            async move { cri.create(&pod, &container, &config).await }
        });
        node.until("the create", || gate.begun("create") > before)
            .await;
        row.tried();
        let bundles = node.daemon.runroot().join("containers");
        kill_monitor(&node, &bundles.to_string_lossy());
        let failed = call.await.unwrap().unwrap_err();
        assert!(failed.message().contains("monitor"), "{failed:?}");
        gate.open("create");
        assert_eq!(node.cri.containers().await.unwrap(), []);

        let id = node.cri.create(&pod, &container, &config).await.unwrap();
        gate.close("start");
        let before = gate.begun("start");
        let call = tokio::spawn({
            let (cri, id) = (node.cri.clone(), id.clone());
            async move { cri.start(&id).await }
        });
        node.until("the start", || gate.begun("start") > before)
            .await;
        row.tried();
        kill_monitor(&node, &id);
        let failed = call.await.unwrap().unwrap_err();
        assert!(failed.message().contains("monitor"), "{failed:?}");
        gate.open("start");
        let status = node.cri.exited(&id).await;
        row.lost(match status.reason.as_str() {
            "StartError" => Ok(()),
            other => Err(format!("the end of what did not start is told as {other}")),
        });
        node.cri.remove(&id).await.unwrap();
    }
    node.cri.remove_pod(&pod).await.unwrap();
    row.left(node.left_behind());
    node.finish().await;
    row.end();
}
