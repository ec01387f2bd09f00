//! Attaching and detaching with the real plugins (bridge, host-local, portmap), on a host network
//! of the test's own, and with scripts for the faults that those do not make. They run as root,
//! with the plugins in `/usr/lib/cni` or `/opt/cni/bin`.

mod bridge;
mod faults;
mod whole;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use super::{Networks, Pod, Settings};

/// Far beyond what anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// Runs a test in a network namespace that stands for the host's: bridges, routes, packet filter
/// rules and sysctls that plugins make there go with it, also when the test fails. Plugins are
/// started from the thread that runs the test, and inherit its namespace.
pub(super) fn on_a_host_of_its_own<F: Future<Output = ()>>(
    test: impl FnOnce() -> F + Send + 'static,
) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(test());
    });
    thread.join().unwrap();
}

/// A sandbox id, and the name of everything that belongs to it.
fn sandbox_id(number: u32) -> String {
    format!("{:08x}{number:056x}", std::process::id())
}

/// A network namespace pinned at `<dir>/<id>`, unpinned when dropped.
struct Netns {
    path: PathBuf,
}

impl Netns {
    fn pin(dir: &Path, id: &str) -> Self {
        let path = dir.join(id);
        fs::create_dir_all(dir).unwrap();
        fs::write(&path, "").unwrap();
        let target = path.clone();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
            mount(
                Some(own.as_str()),
                &target,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .unwrap();
        })
        .join()
        .unwrap();
        Self { path }
    }

    /// The addresses of the interfaces inside.
    fn addresses(&self) -> Vec<(String, String)> {
        let namespace = fs::File::open(&self.path).unwrap();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            nix::ifaddrs::getifaddrs()
                .unwrap()
                .filter_map(|interface| {
                    let address = interface.address?.as_sockaddr_in()?.ip().to_string();
                    Some((interface.interface_name, address))
                })
                .collect()
        })
        .join()
        .unwrap()
    }

    fn unpin(&self) {
        umount2(&self.path, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(&self.path).unwrap();
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.path.exists() {
            self.unpin();
        }
    }
}

/// The directories of one test.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["net.d", "bin"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("net.d/10-test.conflist"), text).unwrap();
    }

    /// A plugin that is a shell script. It is started in the scratch directory.
    fn script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        let text = format!("#!/bin/sh\ncd '{}'\n{text}\n", self.dir.path().display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            conf_dir: self.path("net.d"),
            plugin_dirs: vec![
                self.path("bin"),
                "/usr/lib/cni".into(),
                "/opt/cni/bin".into(),
            ],
            cache_dir: self.path("cache"),
            netns_dir: self.path("netns"),
            instance: "/run/one".into(),
            host_ports_table: "cricket-test".into(),
            status_grace: Duration::ZERO,
            default_network: None,
            add_timeout: LONG,
            del_timeout: LONG,
            concurrency: 8,
        }
    }

    fn open(&self) -> Arc<Networks> {
        Networks::open(self.settings())
    }

    fn pod(&self, number: u32) -> Pod {
        let sandbox_id = sandbox_id(number);
        Pod {
            netns: self.path("netns").join(&sandbox_id),
            sandbox_id,
            namespace: "default".into(),
            name: "web".into(),
            uid: "u-1".into(),
            attempted: true,
            ..Pod::default()
        }
    }

    /// The names in a directory, sorted; a missing one is empty.
    fn names(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(dir))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
