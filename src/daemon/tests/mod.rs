//! The rooms as the daemon wires them, without its socket: what the streams of exec, attach and
//! port-forward are joined to, whatever protocol carries them.

mod attach;
mod exec_stream;
mod measure;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cricket_harness::{archive, samples, sweep, tools};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::{House, build};
use crate::config::{Sources, load};
use crate::container::{Config, Containers, Streams, TerminalSize};
use crate::sandbox::PodConfig;
use crate::spec::config::{NamespaceMode, NamespaceOptions};
use crate::state::PodName;

/// A node with busybox and a pod in the host's network, on scratch paths.
struct Node {
    house: House,
    pod: String,
    image: String,
    word: String,
    dir: tempfile::TempDir,
}

impl Node {
    async fn start() -> Node {
        tools::need_root();
        let dir = tempfile::Builder::new().prefix("ck-").tempdir().unwrap();
        let word = format!(
            "/cricket-test-{}",
            &dir.path().file_name().unwrap().to_str().unwrap()[3..]
        );
        sweep::enter(
            dir.path(),
            vec![dir.path().to_string_lossy().into_owned(), word.clone()],
        );
        let house = build(&load(&sources(&dir)).unwrap()).await.unwrap();
        let image = dir.path().join("busybox.tar");
        let archive = archive::oci_layout_tar(&[(samples::busybox(), "busybox:latest")]);
        std::fs::write(&image, archive).unwrap();
        let image = house.images.load(&image).await.unwrap().remove(0).id;
        let mut config = PodConfig {
            name: PodName {
                name: "streams".into(),
                namespace: "default".into(),
                uid: "1".into(),
                attempt: 0,
            },
            cgroup_parent: word.clone(),
            ..PodConfig::default()
        };
        config.security.namespaces = pod_namespaces();
        let pod = house.sandboxes.run(config, String::new()).await.unwrap();
        Node {
            house,
            pod: pod.to_string(),
            image,
            word,
            dir,
        }
    }

    fn containers(&self) -> &Arc<Containers> {
        &self.house.containers
    }

    /// A container that runs a script, created and not started.
    async fn create(&self, script: &str, change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config {
            name: "main".into(),
            command: ["sh", "-c", script].map(String::from).to_vec(),
            ..Config::default()
        };
        config.image.image.clone_from(&self.image);
        config.security.namespaces = Some(pod_namespaces());
        change(&mut config);
        let created = self.house.sandboxes.create_container(&self.pod, config);
        created.await.unwrap().to_string()
    }

    /// A container that runs a script.
    async fn run(&self, script: &str, change: impl FnOnce(&mut Config)) -> String {
        let id = self.create(script, change).await;
        self.containers().start(&id).await.unwrap();
        id
    }

    /// Ends the pod and all that is in it.
    async fn finish(self) {
        self.house.sandboxes.remove(&self.pod).await.unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let words = [
            self.dir.path().to_string_lossy().into_owned(),
            self.word.clone(),
        ];
        sweep::sweep(self.dir.path(), &words);
        sweep::leave(self.dir.path());
    }
}

fn pod_namespaces() -> NamespaceOptions {
    NamespaceOptions {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Container,
        ipc: NamespaceMode::Pod,
        ..NamespaceOptions::default()
    }
}

/// A configuration on scratch paths, with the programs of this build.
fn sources(dir: &tempfile::TempDir) -> Sources {
    let at = dir.path().display();
    let text = format!(
        r#"[crio]
root = "{at}/root"
runroot = "{at}/run"
[crio.runtime]
cgroup_manager = "cgroupfs"
default_runtime = "runc"
namespaces_dir = "{at}/ns"
[crio.runtime.runtimes.runc]
runtime_path = "{runc}"
runtime_root = "{at}/run/runc"
monitor_cgroup = "pod"
[crio.image]
signature_policy = "{at}/policy.json"
[crio.network]
network_dir = "{at}/net.d"
cni_cache_dir = "{at}/cni"
"#,
        runc = tools::need("runc").display(),
    );
    let file = dir.path().join("crio.conf");
    std::fs::write(&file, text).unwrap();
    let policy = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    std::fs::write(dir.path().join("policy.json"), policy).unwrap();
    let flag = |name: &str, value: PathBuf| {
        let value = value.to_string_lossy().into_owned();
        (name.to_owned(), vec![value])
    };
    // This test's program is in `deps`, below cricket, conmon and pause.
    let test = std::env::current_exe().unwrap();
    let programs = test.parent().unwrap().parent().unwrap();
    Sources {
        flags: BTreeMap::from([
            flag("config", file),
            flag("config-dir", dir.path().join("crio.conf.d")),
        ]),
        executable: Some(programs.join("cricket")),
        search_path: std::env::var_os("PATH"),
        ..Sources::default()
    }
}

/// The client of streams: its own ends of them.
struct Client {
    stdin: Option<DuplexStream>,
    stdout: DuplexStream,
    stderr: DuplexStream,
    sizes: mpsc::Sender<TerminalSize>,
}

/// Bytes that a stream to or from a client takes before it is read.
const BETWEEN: usize = 16 << 10;

impl Client {
    /// All streams, and the client's ends of them.
    fn new() -> (Client, Streams) {
        let (stdin, stdin_end) = tokio::io::duplex(BETWEEN);
        let (stdout, stdout_end) = tokio::io::duplex(BETWEEN);
        let (stderr, stderr_end) = tokio::io::duplex(BETWEEN);
        let (sizes, resize) = mpsc::channel(8);
        let streams = Streams {
            stdin: Some(Box::new(stdin_end)),
            stdout: Some(Box::new(stdout_end)),
            stderr: Some(Box::new(stderr_end)),
            resize: Some(resize),
        };
        let client = Client {
            stdin: Some(stdin),
            stdout,
            stderr,
            sizes,
        };
        (client, streams)
    }

    async fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).await.unwrap();
    }

    fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Reads standard output until it ends with a text; all that came.
    async fn until(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            match self.stdout.read_u8().await {
                Ok(byte) => seen.push(byte),
                Err(_) => panic!("ended: {}", String::from_utf8_lossy(&seen)),
            }
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    async fn rest(&mut self) -> String {
        let mut seen = Vec::new();
        self.stdout.read_to_end(&mut seen).await.unwrap();
        String::from_utf8_lossy(&seen).into_owned()
    }

    async fn rest_of_stderr(&mut self) -> String {
        let mut seen = Vec::new();
        self.stderr.read_to_end(&mut seen).await.unwrap();
        String::from_utf8_lossy(&seen).into_owned()
    }
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

fn script(text: &str) -> Vec<String> {
    words(&["sh", "-c", text])
}

/// Waits until a condition holds; a minute later the test fails.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not within 60 s: {what}");
}
