//! One test's node: a scratch directory, a network namespace, the daemon, a registry, a client.
//!
//! [`Node::finish`] ends it and asserts that nothing is left. A test that panics on its way gets
//! the daemon's log printed, and everything swept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Client, Reply};
use crate::cri::{ContainerConfig, PodSandboxConfig};
use crate::daemon::{Daemon, Options};
use crate::net::Net;
use crate::registry::Registry;
use crate::{cgroups, leaks, requests, samples, sweep, tools};

/// Scratch directories are `$TMPDIR/ck-XXXXXX`: short, because unix socket paths end at 108 bytes.
pub const SCRATCH_PREFIX: &str = "ck-";
/// cgroups of tests are below `/cricket-test-XXXXXX`.
pub const CGROUP_PREFIX: &str = "cricket-test-";
/// The bridge that a node's CNI configuration names; it is inside the node's own namespace.
pub const BRIDGE: &str = "ckt0";

/// How long a test waits for what should come soon, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);

/// See the module.
#[derive(Debug)]
pub struct Node {
    /// Talks to the daemon; connect anew after a restart with [`Node::reconnect`].
    pub cri: Client,
    /// The daemon.
    pub daemon: Daemon,
    registry: Option<Registry>,
    net: Arc<Net>,
    word: String,
    dir: Option<TempDir>,
    finished: bool,
}

impl Node {
    /// Starts a node whose daemon is `program`, with a working network and no registry yet.
    #[track_caller]
    pub fn start(program: impl AsRef<Path>) -> impl Future<Output = Node> {
        Node::start_with(program, |_| ())
    }

    /// As [`Node::start`], after `change` has had its way with the options.
    #[track_caller]
    pub fn start_with(
        program: impl AsRef<Path>,
        change: impl FnOnce(&mut Options),
    ) -> impl Future<Output = Node> {
        tools::need_root();
        let dir = tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .tempdir()
            .unwrap();
        let word = dir
            .path()
            .to_string_lossy()
            .rsplit("ck-")
            .next()
            .unwrap()
            .to_owned();
        let words = [
            dir.path().to_string_lossy().into_owned(),
            format!("/{CGROUP_PREFIX}{word}"),
        ];
        sweep::enter(dir.path(), words.to_vec());
        let net = Arc::new(Net::create(dir.path().join("node-net")));
        let mut options = Options::new(program.as_ref());
        options.cni = Some(("10-bridge.conflist".into(), bridge(dir.path())));
        change(&mut options);
        let daemon = Daemon::start(dir.path(), &net, options);
        async move {
            let cri = Client::connect(&daemon.socket())
                .await
                .unwrap_or_else(|error| {
                    panic!(
                        "{}: {error:?}; log:\n{}",
                        daemon.socket().display(),
                        daemon.log()
                    )
                });
            Node {
                cri,
                daemon,
                registry: None,
                net,
                word,
                dir: Some(dir),
                finished: false,
            }
        }
    }

    /// The scratch directory.
    #[track_caller]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("the node has not finished").path()
    }

    /// The network namespace that the daemon lives in.
    pub fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// The node's registry, started at its first use.
    #[track_caller]
    pub fn registry(&mut self) -> &Registry {
        let dir = self.dir().join("registry");
        self.registry
            .get_or_insert_with(|| Registry::start(&self.net, 5000, &dir))
    }

    /// As [`Node::registry`], our own fixture where docker-registry is not installed.
    #[track_caller]
    pub fn any_registry(&mut self) -> &Registry {
        let dir = self.dir().join("registry");
        self.registry
            .get_or_insert_with(|| Registry::start_any(&self.net, 5000, &dir))
    }

    /// Pushes busybox, pulls it, and gives its name.
    #[track_caller]
    pub fn busybox(&mut self) -> impl Future<Output = String> {
        let name = self
            .registry()
            .push("busybox", "latest", samples::busybox());
        let cri = self.cri.clone();
        async move {
            cri.pull(&name)
                .await
                .unwrap_or_else(|error| panic!("pull {name}: {error:?}"));
            name
        }
    }

    /// The cgroup that all pods of this node are below.
    pub fn cgroup(&self) -> String {
        format!("/{CGROUP_PREFIX}{}", self.word)
    }

    /// The configuration of a pod on this node, as a kubelet fills it.
    pub fn pod_config(&self, name: &str) -> PodSandboxConfig {
        let parent = cgroups::pod_parent(&self.cgroup(), name);
        requests::pod(name, &parent, &self.logs())
    }

    /// Where pods' logs go.
    pub fn logs(&self) -> PathBuf {
        self.dir().join("logs")
    }

    /// Runs a pod with one container that runs `command` of `image`: (pod, container, its pod's
    /// configuration).
    pub async fn run(
        &self,
        name: &str,
        image: &str,
        command: &[&str],
    ) -> (String, String, PodSandboxConfig) {
        let config = self.pod_config(name);
        let pod = good("RunPodSandbox", self.cri.run_pod(&config)).await;
        let container = requests::container("main", image, command);
        let container = self.run_in(&pod, &config, &container).await;
        (pod, container, config)
    }

    /// Creates and starts a container.
    pub async fn run_in(
        &self,
        pod: &str,
        pod_config: &PodSandboxConfig,
        config: &ContainerConfig,
    ) -> String {
        let id = good(
            "CreateContainer",
            Box::pin(self.cri.create(pod, config, pod_config)),
        )
        .await;
        good("StartContainer", self.cri.start(&id)).await;
        id
    }

    /// The log file of a container: (stream, tag, text) of each record.
    #[track_caller]
    pub fn log_records(&self, file: &Path) -> Vec<(String, String, String)> {
        let text =
            fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let record = |line: &str| {
            let mut parts = line.splitn(4, ' ').skip(1).map(str::to_owned);
            let mut next = || {
                parts
                    .next()
                    .unwrap_or_else(|| panic!("not a record: {line:?}"))
            };
            (next(), next(), next())
        };
        text.lines().map(record).collect()
    }

    /// Processes of a pod or container on the node: (pid, command line), its monitor included.
    pub fn processes(&self, id: &str) -> Vec<(u32, String)> {
        leaks::processes_with(&[id.to_owned()])
    }

    /// Pids of the processes that run inside a container: those in its cgroup.
    pub fn pids_of(&self, container: &str) -> Vec<u32> {
        let cgroup = format!("/crio-{container}");
        let inside = |(_, facts): &(u32, String)| facts.contains(&cgroup);
        self.processes(container)
            .into_iter()
            .filter(inside)
            .map(|(pid, _)| pid)
            .collect()
    }

    /// The log file of a container of [`requests::container`].
    pub fn log_file(&self, pod: &PodSandboxConfig, container: &str) -> PathBuf {
        Path::new(&pod.log_directory).join(container).join("0.log")
    }

    /// crictl in the node's network, where the streaming server listens.
    pub fn crictl(&self, arguments: &[&str]) -> std::process::Command {
        let endpoint = format!("unix://{}", self.daemon.socket().display());
        let config = self.dir().join("crictl.yaml");
        std::fs::write(&config, "").unwrap();
        let mut command = self.net().command(&crate::tools::crictl());
        command
            .arg("--config")
            .arg(&config)
            .args(["--runtime-endpoint", &endpoint])
            .args(["--image-endpoint", &endpoint, "--timeout", "60s"])
            .args(arguments);
        command
    }

    /// Waits until `condition` holds, asking every 10 ms; the test fails when it does not in time.
    pub async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Connects anew, after a restart; ids that the old client has seen stay known.
    pub async fn reconnect(&mut self) {
        self.cri.reconnect(&self.daemon.socket()).await;
    }

    /// Kills the daemon without a word and starts it again.
    pub async fn crash(&mut self) {
        self.daemon.kill();
        self.daemon.launch();
        self.reconnect().await;
    }

    /// Removes all pods, stops the daemon, and asserts that nothing is left of them.
    pub async fn finish(mut self) {
        for pod in self.cri.pods().await.expect("pods can be listed") {
            self.cri
                .stop_pod(&pod.id)
                .await
                .expect("a pod can be stopped");
            self.cri
                .remove_pod(&pod.id)
                .await
                .expect("a pod can be removed");
        }
        assert_eq!(
            self.cri
                .containers()
                .await
                .expect("containers can be listed"),
            []
        );
        let status = self.daemon.stop().await;
        assert!(
            status.success(),
            "cricket ended with {status}; log:\n{}",
            self.daemon.log()
        );
        let left = self.left_behind();
        assert!(
            left.is_empty(),
            "left behind:\n  {}\nlog:\n{}",
            left.join("\n  "),
            { self.daemon.log() }
        );
        self.finished = true;
    }

    /// What is still there of pods and containers, in words.
    pub fn left_behind(&self) -> Vec<String> {
        let mut left = Vec::new();
        let own = self.net.file();
        let mounts = leaks::mounts_below(self.dir())
            .into_iter()
            .filter(|at| at != own);
        left.extend(mounts.map(|at| format!("mount {}", at.display())));
        let links = self.net.links().into_iter().filter(|name| name != BRIDGE);
        left.extend(links.map(|name| format!("link {name}")));
        let ports = leaks::port_rules(&self.net).into_iter();
        left.extend(ports.map(|id| format!("port rules of {id}")));
        let registry = self.dir().join("registry").to_string_lossy().into_owned();
        let processes = leaks::processes_with(&self.words()).into_iter();
        let daemon = self.daemon.running();
        let foreign =
            processes.filter(|(pid, facts)| Some(*pid) != daemon && !facts.contains(&registry));
        left.extend(foreign.map(|(pid, facts)| format!("process {pid} {facts}")));
        let ids = self.cri.ids();
        let cgroups = leaks::cgroups_with(&ids).into_iter();
        left.extend(cgroups.map(|path| format!("cgroup {}", path.display())));
        left.extend(
            self.files_left()
                .into_iter()
                .map(|path| format!("file {}", path.display())),
        );
        left
    }

    /// Files that belong to a pod or container: by place, or because an id is in the name.
    fn files_left(&self) -> Vec<PathBuf> {
        let mut files = leaks::files(&self.daemon.runroot().join("containers"));
        files.extend(leaks::files(&self.daemon.runroot().join("sandboxes")));
        files.extend(leaks::files(&self.daemon.root().join("containers")));
        files.extend(leaks::files(&self.dir().join("cni/cache/results")));
        let leases = leaks::files(&self.dir().join("cni/leases"));
        let address = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().parse::<std::net::IpAddr>().is_ok())
        };
        files.extend(leases.into_iter().filter(address));
        let ids = self.cri.ids();
        let all = leaks::files(self.dir()).into_iter();
        let named = all.filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            !path.starts_with(self.logs()) && ids.iter().any(|id| name.contains(id.as_str()))
        });
        files.extend(named);
        files.sort();
        files.dedup();
        files
    }

    /// What processes and cgroups of this node carry.
    pub fn words(&self) -> Vec<String> {
        let dir = self.dir().to_string_lossy().into_owned();
        [vec![dir, self.cgroup()], self.cri.ids()].concat()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if panicking {
            eprintln!("--- log of the daemon ---\n{}---", self.daemon.log());
        }
        self.registry = None;
        sweep::sweep(self.dir(), &self.words());
        sweep::leave(self.dir());
        if std::env::var_os("CRICKET_KEEP_SCRATCH").is_some() {
            eprintln!("kept: {}", self.dir.take().unwrap().keep().display());
        }
        assert!(
            self.finished || panicking,
            "the test must end with node.finish().await"
        );
    }
}

/// The reply of a call that must succeed.
async fn good<T>(call: &str, reply: impl Future<Output = Reply<T>>) -> T {
    match reply.await {
        Ok(reply) => reply,
        Err(error) => panic!("{call}: {:?}: {}", error.code(), error.message()),
    }
}

/// A bridge network with host-local addresses and portmap, all below `dir` and in the node's own
/// network namespace.
pub fn bridge(dir: &Path) -> String {
    let leases = dir.join("cni/leases");
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "ck", "plugins": [
  {{"type": "bridge", "bridge": "{BRIDGE}", "isGateway": true, "ipMasq": false,
    "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [[{{"subnet": "10.88.77.0/24"}}]],
              "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}"#,
        leases.display()
    )
}
