//! The real daemon on scratch paths: its configuration, its start and its ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::net::Net;
use crate::{cgroups, tools};

/// How long the daemon may take to say that it is ready. It takes milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The variable that arms a fault point.
const FAULT: &str = "CRICKET_FAULT";

/// Ports of loopback whose registries are spoken to over HTTP: the node's own registry is on the
/// first, a test's fixtures are on the others.
pub const INSECURE_PORTS: [u16; 3] = [5000, 5001, 5002];

/// What a test may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `cricket` program.
    pub program: PathBuf,
    /// Lines of TOML put after the generated configuration, with their own section heads.
    pub extra_config: String,
    /// Lines of TOML in its `[crio.image]`.
    pub image_config: String,
    /// Lines of TOML in its `[crio.runtime]`.
    pub runtime_config: String,
    /// Lines of TOML in its `[crio.network]`.
    pub network_config: String,
    /// policy.json; `None` writes none.
    pub policy: Option<String>,
    /// The file name and text of the CNI configuration; `None` writes none.
    pub cni: Option<(String, String)>,
    /// The OCI runtime; a test of a missing one names a file that is not there.
    pub runtime: PathBuf,
    /// Lines of TOML put after the generated registries.conf.
    pub registries: String,
    /// CNI plugins that the test wrote itself, (name, script), in a directory searched first.
    pub plugins: Vec<(String, String)>,
}

impl Options {
    /// Everything good: any image is trusted, a bridge network, runc.
    pub fn new(program: &Path) -> Options {
        Options {
            program: program.to_owned(),
            extra_config: String::new(),
            image_config: String::new(),
            runtime_config: String::new(),
            network_config: String::new(),
            policy: Some(r#"{"default": [{"type": "insecureAcceptAnything"}]}"#.into()),
            cni: None,
            runtime: std::env::var_os("CRICKET_TEST_RUNTIME")
                .map_or_else(|| tools::need("runc"), PathBuf::from),
            registries: String::new(),
            plugins: Vec::new(),
        }
    }
}

/// A daemon that has said it is ready, or has been ended.
#[derive(Debug)]
pub struct Daemon {
    dir: PathBuf,
    net: Arc<Net>,
    options: Options,
    env: Vec<(String, PathBuf)>,
    child: Option<Child>,
}

impl Daemon {
    /// Writes the configuration below `dir`, starts the daemon inside `net`, waits for READY=1.
    #[track_caller]
    pub fn start(dir: &Path, net: &Arc<Net>, options: Options) -> Daemon {
        let mut daemon = Daemon {
            dir: dir.to_owned(),
            net: Arc::clone(net),
            options,
            env: Vec::new(),
            child: None,
        };
        daemon.write_config();
        daemon.launch();
        daemon
    }

    /// The CRI socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("crio.sock")
    }

    /// What survives a reboot: images and layers.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root/cricket")
    }

    /// What does not: records, bundles.
    pub fn runroot(&self) -> PathBuf {
        self.dir.join("run/cricket")
    }

    /// Where namespaces are pinned.
    pub fn namespaces(&self) -> PathBuf {
        self.dir.join("ns")
    }

    /// Where CNI configuration is read.
    pub fn cni_conf_dir(&self) -> PathBuf {
        self.dir.join("cni/net.d")
    }

    /// The daemon's configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("crio.conf")
    }

    /// policy.json.
    pub fn policy_file(&self) -> PathBuf {
        self.dir.join("policy.json")
    }

    /// Where it is said where signatures are; nothing says it until a test does.
    pub fn registries_d(&self) -> PathBuf {
        self.dir.join("registries.d")
    }

    /// Sets an environment variable for the launches from now on.
    pub fn set_env(&mut self, name: &str, value: &Path) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Has the launches from now on kill themselves at a fault point, `NAME[:N]` (`src/sys/fault`),
    /// or no longer.
    pub fn arm(&mut self, fault: Option<&str>) {
        self.env.retain(|(name, _)| name != FAULT);
        if let Some(fault) = fault {
            self.set_env(FAULT, Path::new(fault));
        }
    }

    /// Waits until it has ended by itself, not for long; `None`: it runs still.
    pub async fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            let child = self.child.as_mut().expect("the daemon was started");
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Its process id, while it runs.
    pub fn running(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its process id; it must run.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Everything that it has logged, over restarts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    /// The program with the flags that make it read this test's configuration.
    pub fn command(&self) -> std::process::Command {
        let mut command = self.net.command(&self.options.program);
        command
            .arg("--config")
            .arg(self.config_file())
            .arg("--config-dir")
            .arg(self.dir.join("crio.conf.d"))
            .arg("--registries-conf")
            .arg(self.dir.join("registries.conf"))
            .arg("--registries-conf-dir")
            .arg(self.dir.join("registries.conf.d"))
            .arg("--registries-d")
            .arg(self.registries_d())
            .env("RUST_BACKTRACE", "1");
        command
    }

    /// Ends it as a power cut would, without a word.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to end (SIGTERM) and waits for that. Async: the daemon first waits for its clients,
    /// and one of them may be on this thread.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let end = Instant::now() + READY_TIMEOUT;
        // The standard library has no wait with a deadline; a daemon that hangs must not hang us.
        while Instant::now() < end {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(child.kill());
        drop(child.wait());
        panic!(
            "cricket did not end {READY_TIMEOUT:?} after SIGTERM; its log:\n{}",
            self.log()
        );
    }

    /// Starts it again on the same paths.
    #[track_caller]
    pub fn launch(&mut self) {
        if let Err(status) = self.try_launch() {
            panic!("cricket did not start: {status}; its log:\n{}", self.log());
        }
    }

    /// Starts it; a daemon that ends before it is ready gives how it ended.
    #[track_caller]
    pub fn try_launch(&mut self) -> Result<(), ExitStatus> {
        assert!(self.child.is_none(), "the daemon runs already");
        let notify = self.dir.join("notify");
        // Left by the launch before.
        drop(fs::remove_file(&notify));
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let log = self.dir.join("daemon.log");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut command = self.command();
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env("NOTIFY_SOCKET", &notify).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + READY_TIMEOUT;
        let mut message = [0; 4096];
        while Instant::now() < end {
            if let Ok(length) = socket.recv(&mut message)
                && String::from_utf8_lossy(&message[..length]).contains("READY=1")
            {
                self.child = Some(child);
                return Ok(());
            }
            if let Some(status) = child.try_wait().unwrap() {
                return Err(status);
            }
        }
        drop(child.kill());
        drop(child.wait());
        panic!(
            "cricket sent no READY=1 in {READY_TIMEOUT:?}; its log:\n{}",
            self.log()
        );
    }

    /// Takes the place of the service manager: what the daemon tells it from now on comes here.
    #[track_caller]
    pub fn service_manager(&self) -> UnixDatagram {
        let notify = self.dir.join("notify");
        drop(fs::remove_file(&notify));
        UnixDatagram::bind(&notify).unwrap()
    }

    /// Rewrites what [`Options`] describe.
    #[track_caller]
    pub fn write_config(&self) {
        let dir = &self.dir;
        for name in [
            "root",
            "run",
            "ns",
            "cni/net.d",
            "cni/cache",
            "cni/bin",
            "logs",
            "crio.conf.d",
            "registries.conf.d",
        ] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(self.config_file(), self.config()).unwrap();
        if let Some(policy) = &self.options.policy {
            fs::write(self.policy_file(), policy).unwrap();
        }
        if let Some((name, text)) = &self.options.cni {
            fs::write(self.cni_conf_dir().join(name), text).unwrap();
        }
        for (name, script) in &self.options.plugins {
            let file = dir.join("cni/bin").join(name);
            fs::write(&file, script).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut registries = "unqualified-search-registries = [\"docker.io\"]\n".to_owned();
        for port in INSECURE_PORTS {
            registries +=
                &format!("\n[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n");
        }
        registries += &self.options.registries;
        fs::write(dir.join("registries.conf"), registries).unwrap();
    }

    fn config(&self) -> String {
        let dir = self.dir.display();
        let plugins: Vec<_> = tools::cni_dirs()
            .iter()
            .map(|dir| format!("{:?}", dir.display().to_string()))
            .collect();
        format!(
            r#"[crio]
root = "{dir}/root"
runroot = "{dir}/run"
[crio.api]
listen = "{dir}/crio.sock"
[crio.runtime]
cgroup_manager = "{manager}"
default_runtime = "runc"
namespaces_dir = "{dir}/ns"
log_level = "info"
{runtime_config}
[crio.runtime.runtimes.runc]
runtime_path = "{runtime}"
runtime_type = "oci"
runtime_root = "{dir}/run/runc"
monitor_cgroup = "pod"
[crio.image]
signature_policy = "{dir}/policy.json"
{image}
[crio.network]
network_dir = "{dir}/cni/net.d"
plugin_dirs = ["{dir}/cni/bin", {plugins}]
cni_cache_dir = "{dir}/cni/cache"
{network}
{extra}"#,
            manager = cgroups::manager(),
            runtime = self.options.runtime.display(),
            plugins = plugins.join(", "),
            image = self.options.image_config,
            runtime_config = self.options.runtime_config,
            network = self.options.network_config,
            extra = self.options.extra_config,
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
