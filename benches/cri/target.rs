//! The runtime that is measured: cricket on a scratch node, or whatever answers on a socket.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_harness::cri::{ContainerConfig, PodSandboxConfig, VersionRequest};
use cricket_harness::net::Net;
use cricket_harness::registry::Registry;
use cricket_harness::{Client, Node, leaks, memory, requests, samples, sweep};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Arguments;
use crate::table::Table;

/// See the module.
#[derive(Debug)]
pub struct Target {
    /// Talks to it.
    pub cri: Client,
    /// cricket's own node; a peer has none.
    pub node: Option<Node>,
    registry: Registry,
    net: Arc<Net>,
    socket: PathBuf,
    cgroup: String,
    dir: TempDir,
}

impl Target {
    /// Connects to the socket of the arguments, or starts cricket.
    pub async fn open(arguments: &Arguments) -> Target {
        sweep::on_panic();
        let dir = tempfile::Builder::new().prefix("ck-").tempdir().unwrap();
        sweep::enter(dir.path(), vec![dir.path().to_string_lossy().into_owned()]);
        let node = match arguments.socket {
            Some(_) => None,
            None => Some(start_cricket().await),
        };
        let net = node
            .as_ref()
            .map_or_else(|| Arc::new(Net::machine()), |node| Arc::clone(node.net()));
        let registry = Registry::start(&net, 5001, &dir.path().join("registry"));
        let socket = arguments.socket.clone();
        let socket = socket.unwrap_or_else(|| node.as_ref().unwrap().daemon.socket());
        let cri = match &node {
            Some(node) => node.cri.clone(),
            None => Client::connect(&socket).await.unwrap(),
        };
        let cgroup = node
            .as_ref()
            .map(Node::cgroup)
            .or_else(|| arguments.cgroup_parent.clone());
        let cgroup = cgroup.unwrap_or_else(|| "/cricket-bench".into());
        Target {
            cri,
            node,
            registry,
            net,
            socket,
            cgroup,
            dir,
        }
    }

    /// Name and version, for the head of the table.
    pub async fn name(&self) -> String {
        let version = self.cri.version(VersionRequest::default()).await.unwrap();
        format!("{} {}", version.runtime_name, version.runtime_version)
    }

    /// The network namespace that the runtime lives in.
    pub fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Scratch space.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon's process id, as the kernel knows the other end of the socket.
    pub fn pid(&self) -> u32 {
        let stream = UnixStream::connect(&self.socket).unwrap();
        u32::try_from(getsockopt(&stream, PeerCredentials).unwrap().pid()).unwrap()
    }

    /// The daemon before its first work.
    pub fn idle_memory(&self, table: &mut Table) {
        let memory = memory::of(self.pid()).unwrap_or_default();
        table.add("daemon idle, PSS", mb(memory.pss));
    }

    /// Pushes and pulls busybox.
    pub async fn busybox(&self) -> String {
        let name = self.registry.push("busybox", "latest", samples::busybox());
        self.cri
            .pull(&name)
            .await
            .unwrap_or_else(|error| panic!("pull {name}: {error:?}"));
        name
    }

    /// A pod and a container of it, as a kubelet fills them.
    pub fn configs(&self, name: &str, image: &str) -> (PodSandboxConfig, ContainerConfig) {
        let parent = format!("{}/{name}", self.cgroup);
        let pod = requests::pod(name, &parent, &self.dir.path().join("logs"));
        (
            pod,
            requests::container("main", image, &["sleep", "100000"]),
        )
    }

    /// Runs a pod with one sleeping container: (pod, container).
    pub async fn run(&self, name: &str, image: &str) -> (String, String) {
        let (pod_config, config) = self.configs(name, image);
        let pod = self.cri.run_pod(&pod_config).await.unwrap();
        let container = self.cri.create(&pod, &config, &pod_config).await.unwrap();
        self.cri.start(&container).await.unwrap();
        (pod, container)
    }

    /// Ends a pod as a kubelet does.
    pub async fn end(&self, pod: &str, container: &str) {
        self.cri.stop(container, 0).await.unwrap();
        self.cri.stop_pod(pod).await.unwrap();
        self.cri.remove(container).await.unwrap();
        self.cri.remove_pod(pod).await.unwrap();
    }

    /// Processes that serve these pods and containers and do not run in their cgroups.
    pub fn helpers(&self, ids: &[String]) -> Vec<u32> {
        let sleeping = |facts: &str| facts.starts_with("sleep ");
        let named = leaks::processes_with(ids).into_iter();
        named
            .filter(|(_, facts)| !sleeping(facts))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Ends cricket and checks that nothing is left.
    pub async fn finish(self) {
        // What runc made above a pod's or the floor's own cgroup is nobody's but ours.
        sweep::cgroups(&["/cricket-bench".into()]);
        if let Some(node) = self.node {
            node.finish().await;
        }
    }
}

/// cricket's program, beside this one.
pub fn program() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("cricket")
}

async fn start_cricket() -> Node {
    Node::start_with(program(), |options| {
        let (_, text) = options.cni.as_mut().unwrap();
        *text = network(text).to_string();
    })
    .await
}

/// The network of the baseline, from the harness's: bridge and host-local with masquerade, no
/// portmap.
pub fn network(text: &str) -> Value {
    let mut list: Value = serde_json::from_str(text).unwrap();
    list["plugins"].as_array_mut().unwrap().truncate(1);
    list["plugins"][0]["ipMasq"] = true.into();
    list["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.88.0.0/16"}]]);
    list
}

/// Bytes in MB (10^6), as the peers' figures are.
pub fn mb(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
