//! A node with a pod that nothing is done to, and what is asked of the node after each kill.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use cricket_harness::cri::*;
use cricket_harness::{Node, leaks, requests, tools};

use tokio::task::JoinHandle;

use super::CRICKET;
use super::operations::Call;
use super::points::Point;

/// How long a daemon may take to come to the point at which it is to die, and things to go that go
/// in the background. A daemon that is well takes milliseconds, on a machine that has nothing else to
/// do.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long, after the call was answered, what goes on in the background may take to come to a pass
/// that not every call comes to.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// See the module.
pub struct World {
    pub node: Node,
    pub image: String,
    bystander: Bystander,
    /// What there is without any of the pods that things are done to.
    usual: BTreeSet<String>,
    number: usize,
    /// Whether pods have a user namespace.
    pub mapped: bool,
}

/// A container that writes numbered lines.
struct Bystander {
    config: PodSandboxConfig,
    container: String,
    started_at: i64,
    pids: Vec<u32>,
}

impl World {
    pub async fn start() -> World {
        Box::pin(World::start_with(None)).await
    }

    /// Every pod has a user namespace.
    pub async fn with_user_namespaces() -> World {
        Box::pin(World::start_with(Some(tools::current_runc()))).await
    }

    /// `maps`: the OCI runtime that can map ids, for pods with a user namespace.
    async fn start_with(maps: Option<PathBuf>) -> World {
        let mapped = maps.is_some();
        let mut node = Node::start_with(CRICKET, |options| {
            let real = tools::cni_plugin("bridge");
            options.plugins = vec![("bridge".into(), recording(&real))];
            options.runtime = maps.unwrap_or_else(|| options.runtime.clone());
        })
        .await;
        let image = node.busybox().await;
        let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done";
        let mut config = node.pod_config("bystander");
        let mut container = requests::container("main", &image, &["sh", "-c", script]);
        if mapped {
            map_ids(&mut config, &mut container);
        }
        let pod = node.cri.run_pod(&config).await.unwrap();
        let container = node.run_in(&pod, &config, &container).await;
        let status = node.cri.container(&container).await.unwrap();
        node.until("the bystander's command", || {
            !shells(&node, &container).is_empty()
        })
        .await;
        let bystander = Bystander {
            pids: shells(&node, &container),
            config,
            container,
            started_at: status.started_at,
        };
        let mut world = World {
            node,
            image,
            bystander,
            usual: BTreeSet::new(),
            number: 0,
            mapped,
        };
        world.usual = world.present();
        world
    }

    /// Prepares what the point's operation works on, in a daemon that is not armed.
    pub async fn prepare(&mut self, point: Point) -> Call {
        self.number += 1;
        Call::prepare(self, point, self.number).await
    }

    /// Makes the call of a daemon that kills itself at `fault`; whether it did.
    ///
    /// `later`: a pass that not every call comes to, which is not waited for as long.
    pub async fn killed_at(&mut self, call: &Call, fault: &str, later: bool) -> bool {
        self.node.daemon.kill();
        self.node.daemon.arm(Some(fault));
        self.node.daemon.launch();
        self.node.reconnect().await;
        let made = tokio::spawn(call.clone().make(self.node.cri.clone()));
        let ended = self.ended_at(&made, later).await;
        if ended.is_none() {
            // It may come to the point still, in the middle of what is asked of it next.
            self.node.daemon.kill();
        }
        let answer = made.await.unwrap();
        self.node.daemon.arm(None);
        match ended {
            Some(status) => was_killed(status),
            None => {
                eprintln!("{fault} not passed: {answer:?}");
                false
            }
        }
    }

    /// How the daemon ended; `None` when it has not, though there was time.
    async fn ended_at<T>(&mut self, call: &JoinHandle<T>, later: bool) -> Option<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        let mut answered = None;
        loop {
            if let Some(status) = self.node.daemon.ended(Duration::from_millis(20)).await {
                return Some(status);
            }
            if call.is_finished() && answered.is_none() {
                answered = Some(Instant::now());
            }
            let enough = later && answered.is_some_and(|since| since.elapsed() > AFTERWARDS);
            if enough || Instant::now() > end {
                return None;
            }
        }
    }

    /// Starts the daemon so that it dies at `fault` while it recovers, which goes on after it serves;
    /// whether it did.
    pub async fn killed_in_recovery(&mut self, fault: &str) -> bool {
        self.node.daemon.arm(Some(fault));
        let launched = self.node.daemon.try_launch();
        self.node.daemon.arm(None);
        if let Err(status) = launched {
            return was_killed(status);
        }
        let (mut left, mut since) = (self.left_now(), Instant::now());
        loop {
            // What died before there was nothing more to do is seen now at the latest.
            if let Some(status) = self.node.daemon.ended(Duration::from_millis(20)).await {
                return was_killed(status);
            }
            let now = self.left_now();
            if now != left {
                (left, since) = (now, Instant::now());
            }
            // What was whole already stays.
            if left.is_empty() || since.elapsed() > AFTERWARDS {
                self.node.daemon.kill();
                return false;
            }
        }
    }

    /// Starts the daemon that has died.
    pub async fn revive(&mut self) {
        self.node.daemon.launch();
        self.node.reconnect().await;
    }

    /// Makes the call again, as a kubelet does.
    pub async fn retried(&mut self, call: &Call) -> Result<(), String> {
        call.is_whole_or_gone(self).await?;
        call.retry(self).await
    }

    /// Removes what the call has made, and what was prepared for it.
    pub async fn discard(&mut self, call: Call) {
        if self.node.daemon.running().is_none() {
            self.revive().await;
        }
        call.remove(self).await;
    }

    /// That the bystander's status and processes are what they were; `whole_log`: also that each of
    /// its lines is in the log once.
    pub async fn bystander_is_well(&self, whole_log: bool) -> Result<(), String> {
        let Bystander {
            config,
            container,
            started_at,
            pids,
        } = &self.bystander;
        let status = self.node.cri.container(container).await;
        let status = status.map_err(|error| format!("the bystander's status: {error}"))?;
        let facts = (
            status.state(),
            status.started_at,
            shells(&self.node, container),
        );
        let wanted = (ContainerState::ContainerRunning, *started_at, pids.clone());
        if facts != wanted {
            return Err(format!("the bystander: {facts:?}, not {wanted:?}"));
        }
        if !whole_log {
            return Ok(());
        }
        let lines = self.node.log_records(&self.node.log_file(config, "main"));
        for (number, (_, _, text)) in lines.iter().enumerate() {
            if *text != format!("line {number}") {
                return Err(format!("the bystander's log: line {number} is `{text}`"));
            }
        }
        if lines.len() < 10 {
            return Err(format!("the bystander's log has {} lines", lines.len()));
        }
        Ok(())
    }

    /// What is there that was not before, once it has had time to go.
    pub async fn left_behind(&self) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = self.left_now();
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn left_now(&self) -> Vec<String> {
        let mut left: Vec<String> = self.present().difference(&self.usual).cloned().collect();
        left.extend(self.not_deleted());
        left
    }

    pub async fn finish(self) {
        self.node.finish().await;
    }

    /// Everything that belongs to pods, containers and images on their way, without trusting ids:
    /// a half-made thing's is known to nobody.
    fn present(&self) -> BTreeSet<String> {
        let (node, dir) = (&self.node, self.node.dir());
        let mut found = BTreeSet::new();
        let mut note = |kind: &str, what: &dyn std::fmt::Display| {
            found.insert(format!("{kind} {what}"));
        };
        for at in leaks::mounts_below(dir) {
            note("mount", &at.display());
        }
        for link in node.net().links() {
            note("link", &link);
        }
        for id in leaks::port_rules(node.net()) {
            note("port rules of", &id);
        }
        let words = [dir.to_string_lossy().into_owned(), node.cgroup()];
        let registry = dir.join("registry").to_string_lossy().into_owned();
        for (pid, facts) in leaks::processes_with(&words) {
            // The bystander's shell has a new sleep each time, which is a shell at first.
            if Some(pid) != node.daemon.running()
                && !facts.contains(&registry)
                && !facts.starts_with("sleep 0.02")
                && !facts.starts_with("sh -c i=0")
            {
                note("process", &format!("{pid} {facts}"));
            }
        }
        for cgroup in leaks::cgroups_with(&[node.cgroup()]) {
            if cgroup.to_string_lossy().contains("crio-") {
                note("cgroup", &cgroup.display());
            }
        }
        for place in places(node) {
            for file in leaks::files(&place) {
                note("file", &file.display());
            }
        }
        found
    }

    /// Pods that have gone and whose last CNI call was not DEL.
    fn not_deleted(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.node.dir().join("cni/calls")).unwrap_or_default();
        let mut last = BTreeMap::new();
        for call in calls.lines() {
            if let Some((command, id)) = call.split_once(' ') {
                last.insert(id, command);
            }
        }
        let sandboxes = self.node.daemon.runroot().join("sandboxes");
        let forgotten = last
            .into_iter()
            .filter(|(id, command)| *command == "ADD" && !sandboxes.join(id).exists());
        forgotten
            .map(|(id, _)| format!("no CNI DEL for {id}"))
            .collect()
    }
}

/// Where pods, containers and images on their way have files.
fn places(node: &Node) -> Vec<PathBuf> {
    let (run, root) = (node.daemon.runroot(), node.daemon.root());
    let mut places: Vec<PathBuf> = ["containers", "sandboxes", "pause", "quarantine"]
        .map(|name| run.join(name))
        .to_vec();
    places.extend(["staging", "trash"].map(|name| root.join(name)));
    places.push(node.daemon.namespaces());
    places.push(node.dir().join("cni/cache/results"));
    places.push(node.dir().join("cni/leases/ck"));
    places.push(node.dir().join("run/runc"));
    // Not what is in it: the bystander's writable layer and the image seen through it.
    let roots = fs::read_dir(root.join("containers")).into_iter().flatten();
    places.extend(roots.flatten().map(|entry| entry.path().join("work")));
    places
}

/// The bystander's first process. Not what it forks, which has the same command line for a moment.
fn shells(node: &Node, container: &str) -> Vec<u32> {
    let is_first = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mut lines = status.lines();
        lines.any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    };
    let processes = node.processes(container).into_iter();
    let shells = processes.filter(|(pid, facts)| facts.starts_with("sh -c i=0") && is_first(*pid));
    shells.map(|(pid, _)| pid).collect()
}

fn was_killed(status: ExitStatus) -> bool {
    let killed = status.signal() == Some(9);
    if !killed {
        eprintln!("the daemon ended by itself: {status}");
    }
    killed
}

/// A CNI plugin that notes each ADD and DEL and has the real one do it. The registry of calls is
/// beside the plugins' directory.
fn recording(real: &Path) -> String {
    format!(
        "#!/bin/sh\ncase $CNI_COMMAND in ADD|DEL) echo $CNI_COMMAND $CNI_CONTAINERID >> \
         ${{0%/bin/*}}/calls ;; esac\nexec {}\n",
        real.display()
    )
}

/// A pod with a port on the node, whose containers share a PID namespace unless said otherwise.
pub fn pod(node: &Node, name: &str, shared_pid: bool) -> PodSandboxConfig {
    let mut config = node.pod_config(name);
    if shared_pid {
        requests::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    }
    config.port_mappings = vec![PortMapping {
        protocol: Protocol::Tcp.into(),
        container_port: 80,
        host_port: 8080,
        ..Default::default()
    }];
    config
}

/// The pod and its container have a user namespace: their root is nobody on the node.
pub fn map_ids(pod: &mut PodSandboxConfig, container: &mut ContainerConfig) {
    let ids = IdMapping {
        host_id: 300_000,
        container_id: 0,
        length: 65_536,
    };
    let namespace = UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: vec![ids],
        gids: vec![ids],
    };
    requests::pod_namespaces(pod).userns_options = Some(namespace.clone());
    let security = requests::security(container);
    let namespaces = security.namespace_options.get_or_insert_default();
    namespaces.userns_options = Some(namespace);
}
