//! The distribution's containerd as a peer in the same run: its own root, state and socket in a
//! scratch directory, in the same network namespace as our daemon and the registry.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cricket_harness::net::Net;
use cricket_harness::{Client, tools};

/// How long it may take until its socket answers; it takes a second.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A running containerd; ended when dropped.
#[derive(Debug)]
pub struct Containerd {
    child: Child,
    /// Talks to it.
    pub cri: Client,
    /// What it calls itself.
    pub name: String,
}

impl Containerd {
    /// Starts it below `dir`; `None` where it is not installed.
    pub async fn start(dir: &Path, net: &Arc<Net>) -> Option<Containerd> {
        let program = tools::find("containerd")?;
        let version = tools::run(Command::new(&program).arg("--version"));
        let version = version.split_whitespace().nth(2).unwrap_or("?").to_owned();
        std::fs::create_dir_all(dir).unwrap();
        let (config, socket) = (dir.join("config.toml"), dir.join("containerd.sock"));
        std::fs::write(&config, configuration(dir, &socket)).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut command = net.command(&program);
        command.arg("--config").arg(&config).stdin(Stdio::null());
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let cri = connect(&socket, &dir.join("log")).await;
        Some(Containerd {
            child,
            cri,
            name: format!("containerd {version}"),
        })
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Already gone is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn connect(socket: &Path, log: &PathBuf) -> Client {
    let begun = Instant::now();
    loop {
        if let Ok(cri) = Client::connect(socket).await
            && cri.version(Default::default()).await.is_ok()
        {
            return cri;
        }
        assert!(
            begun.elapsed() < READY_TIMEOUT,
            "containerd does not answer; it said:\n{}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Its defaults but for the paths: overlayfs, three downloads at once. No pod is run, so what it
/// would need for pods is left out.
fn configuration(dir: &Path, socket: &Path) -> String {
    let dir = dir.display();
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\noom_score = 0\n\
         [grpc]\naddress = \"{}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\nrestrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"{dir}/cni\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"overlayfs\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{dir}/opt\"\n",
        socket.display()
    )
}
