//! A network namespace that plays the node's.
//!
//! The daemon, its CNI plugins and the registries of one test live in it. So tests do not meet on
//! ports, bridges or addresses, and what plugins leave on a host by design (bridges, iptables
//! chains, `ip_forward`) never touches the machine's own network and goes with the namespace.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};

use crate::tools;

/// A namespace pinned at a file; gone when dropped, as soon as nothing runs in it. Or the
/// machine's own, for measuring a runtime that lives there.
#[derive(Debug)]
pub struct Net {
    file: PathBuf,
    own: bool,
}

impl Net {
    /// Makes a namespace pinned at `file`, with loopback up.
    #[track_caller]
    pub fn create(file: PathBuf) -> Net {
        tools::need_root();
        File::create(&file).unwrap();
        let mut option = std::ffi::OsString::from("--net=");
        option.push(&file);
        tools::run(Command::new(tools::need("unshare")).arg(option).arg("true"));
        let net = Net { file, own: true };
        tools::run(
            net.command(&tools::need("ip"))
                .args(["link", "set", "lo", "up"]),
        );
        net
    }

    /// The namespace that this process is in.
    pub fn machine() -> Net {
        Net {
            file: "/proc/self/ns/net".into(),
            own: false,
        }
    }

    /// The file that pins it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// `program`, to be run inside. nsenter becomes the program, so the child's pid is its own.
    pub fn command(&self, program: &Path) -> Command {
        let mut option = std::ffi::OsString::from("--net=");
        option.push(&self.file);
        let mut command = Command::new(tools::need("nsenter"));
        command.arg(option).arg("--").arg(program);
        command
    }

    /// Runs `work` on a thread inside. A socket belongs to where it was made, for its whole life.
    #[track_caller]
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(&self.file).unwrap();
        std::thread::scope(|scope| {
            let inside = move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope
                .spawn(inside)
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A listener on a loopback port inside; port 0 takes a free one.
    #[track_caller]
    pub fn listen(&self, port: u16) -> TcpListener {
        self.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap())
    }

    /// Connects from inside.
    pub fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))
    }

    /// Names of the links inside, without `lo`.
    #[track_caller]
    pub fn links(&self) -> Vec<String> {
        let text = tools::run(self.command(&tools::need("ip")).args(["-o", "link"]));
        text.lines()
            .filter_map(|line| line.split(": ").nth(1))
            .map(|name| name.split('@').next().unwrap_or(name).to_owned())
            .filter(|name| name != "lo")
            .collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if !self.own {
            return;
        }
        // Detached: a process that a failed test left inside must not keep the scratch directory.
        if crate::leaks::mounts_below(&self.file).is_empty() {
            return;
        }
        if let Err(error) = umount2(&self.file, MntFlags::MNT_DETACH) {
            eprintln!("harness: {}: cannot unmount: {error}", self.file.display());
        }
    }
}
