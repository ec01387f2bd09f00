//! Configurations of ours in the hands of real OCI runtimes: what the container then sees.
//!
//! Needs root, busybox-static and runc. `CRICKET_TEST_RUNTIMES` names other runtimes, separated
//! by colons.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use oci_spec::runtime::Spec;

use super::config::{Device, EnvVar, NamespaceMode, Propagation, Resources, SecurityProfile};
use super::fixture::{Fixture, node};
use super::inputs::{Host, Image, MountSource, PauseInputs, Peers, Ulimit};
use crate::security::capabilities::CapSet;
use crate::security::seccomp::{Profile, Target};
use crate::security::users::User;

const APPLETS: [&str; 12] = [
    "sh", "cat", "id", "mount", "ls", "hostname", "pwd", "env", "echo", "true", "stat", "head",
];

fn runtimes() -> Vec<String> {
    let list = std::env::var("CRICKET_TEST_RUNTIMES").unwrap_or_else(|_| "runc".to_owned());
    list.split(':').map(str::to_owned).collect()
}

/// A process that holds the namespaces of a pod; they go with it.
struct Namespaces(Child);

impl Namespaces {
    fn new() -> Namespaces {
        let mut child = Command::new("unshare")
            .args(["--net", "--ipc", "--uts", "sh", "-c"])
            .arg("hostname pod-host && echo ready && exec sleep 1000")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "unshare needs root");
        Namespaces(child)
    }

    fn path(&self, kind: &str) -> Option<PathBuf> {
        Some(format!("/proc/{}/ns/{kind}", self.0.id()).into())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A root filesystem of busybox, and a pod around it.
struct Bundle {
    dir: tempfile::TempDir,
    spaces: Namespaces,
}

impl Bundle {
    fn new() -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("root/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        for file in ["resolv.conf", "hostname", "containerenv"] {
            std::fs::write(dir.path().join(file), format!("this is {file}\n")).unwrap();
        }
        std::fs::create_dir(dir.path().join("shm")).unwrap();
        Bundle {
            dir,
            spaces: Namespaces::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The fixture with everything that has to be real, and a script to run.
    fn fixture(&self, mut it: Fixture, script: &str) -> Fixture {
        it.root = self.path("root");
        it.image = Image {
            name: "busybox".into(),
            ..Image::default()
        };
        it.config.command = ["sh", "-c", script].map(str::to_owned).into();
        it.config.args.clear();
        let pod = &mut it.pod;
        (pod.netns, pod.ipcns, pod.utsns) = (
            self.spaces.path("net"),
            self.spaces.path("ipc"),
            self.spaces.path("uts"),
        );
        pod.files.resolv_conf = Some(self.path("resolv.conf"));
        pod.files.hostname = Some(self.path("hostname"));
        pod.files.containerenv = Some(self.path("containerenv"));
        pod.files.shm = Some(self.path("shm"));
        it.host = host();
        it.default_seccomp = Profile::embedded(Target::native(it.host.kernel)).unwrap();
        it
    }

    /// Runs it to its end; standard output.
    fn run(&self, runtime: &str, spec: &Spec) -> String {
        let mut spec = spec.clone();
        let name = self.dir.path().file_name().unwrap().to_str().unwrap();
        let id = format!("cricket-spec-{}", name.trim_start_matches('.'));
        let mut linux = spec.linux().clone().unwrap();
        linux.set_cgroups_path(Some(format!("/{id}").into()));
        spec.set_linux(Some(linux));
        spec.save(self.path("config.json")).unwrap();
        let state = self.path("state");
        let output = Command::new(runtime)
            .arg("--root")
            .arg(&state)
            .args(["run", "--bundle"])
            .arg(self.dir.path())
            .arg(&id)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{runtime}: {}\n{text}\n{errors}",
            output.status
        );
        text
    }
}

/// The facts of this machine.
fn host() -> Host {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    Host {
        bounding: CapSet::own_bounding().unwrap(),
        cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        own_oom_score_adj: own.trim().parse().unwrap(),
        can_lower_oom: CapSet::own_effective()
            .unwrap()
            .contains(CapSet::named("SYS_RESOURCE").unwrap()),
        seccomp: true,
        kernel: (6, 1),
        ..Host::default()
    }
}

/// `Key:\tvalue` lines of /proc/self/status and `key=value` lines of the script.
fn facts(text: &str) -> HashMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(":\t").or_else(|| line.split_once('=')))
        .map(|(key, value)| (key, value.trim()))
        .collect()
}

const LOOK: &str = r#"
cat /proc/self/status
echo id=$(id)
echo hostname=$(hostname)
echo cwd=$(pwd)
echo nofile=$(ulimit -n) $(ulimit -H -n)
echo umask=$(umask)
echo oom=$(cat /proc/self/oom_score_adj)
echo kcore=$(head -c 4 /proc/kcore 2>/dev/null)
echo sysctl=$( (echo x > /proc/sys/kernel/hostname) 2>&1 )
echo resolv=$(cat /etc/resolv.conf)
echo interfaces=$(ls /sys/class/net)
echo root=$( (echo x > /new-file) 2>&1 )
mount
"#;

fn look_kubelet(bundle: &Bundle) -> Fixture {
    let mut it = bundle.fixture(Fixture::kubelet(), LOOK);
    (it.config.mounts, it.sources) = (Vec::new(), Vec::new());
    it.config.resources = Some(Resources {
        oom_score_adj: 985,
        ..Resources::default()
    });
    it.config.working_dir = "/made/by/the/runtime".into();
    it.config.envs.push(EnvVar {
        key: "NL".into(),
        value: b"a\nb=c".to_vec(),
    });
    it.settings.default_ulimits = vec![Ulimit {
        name: "nofile".into(),
        soft: 512,
        hard: 1024,
    }];
    it
}

#[test]
fn an_ordinary_container_is_what_the_kubelet_asked_for() {
    for runtime in runtimes() {
        let bundle = Bundle::new();
        std::fs::create_dir(bundle.path("volume")).unwrap();
        let mut it = look_kubelet(&bundle);
        it.mount(
            "/data/volume",
            bundle.path("volume").to_str().unwrap(),
            |m| m.readonly = true,
        );
        let text = bundle.run(&runtime, &it.build().unwrap());
        let facts = facts(&text);
        let is = |key: &str, want: &str| assert_eq!(facts[key], want, "{runtime} {key}: {text}");
        is("Seccomp", "2");
        is("NoNewPrivs", "1");
        is("CapEff", "0000000000000000");
        is("CapBnd", "0000000000000421");
        is("CapAmb", "0000000000000000");
        is("id", "uid=1000 gid=50 groups=50,100");
        is("hostname", "pod-host");
        is("cwd", "/made/by/the/runtime");
        is("nofile", "512 1024");
        is("umask", "0022");
        is("oom", "985");
        is("kcore", "");
        is("resolv", "this is resolv.conf");
        is("interfaces", "lo");
        assert!(facts["sysctl"].contains("Read-only file system"), "{text}");
        for mount in [
            " on /proc type proc (rw,",
            " on /sys type sysfs (ro,",
            " on /dev/shm ",
        ] {
            assert!(text.contains(mount), "{runtime}: no {mount} in {text}");
        }
        assert!(
            text.lines()
                .any(|l| l.contains(" on /data/volume ") && l.contains("(ro,")),
            "{text}"
        );
    }
}

#[test]
fn root_keeps_its_capabilities_and_a_readonly_root_its_mount_points() {
    for runtime in runtimes() {
        let bundle = Bundle::new();
        let mut it = look_kubelet(&bundle);
        it.user = User {
            groups: vec![0],
            ..User::default()
        };
        it.config.security.readonly_rootfs = true;
        it.config.security.no_new_privs = false;
        it.config.security.seccomp = None;
        let text = bundle.run(&runtime, &it.build().unwrap());
        let facts = facts(&text);
        assert_eq!(facts["Seccomp"], "0", "{runtime}: {text}");
        assert_eq!(facts["NoNewPrivs"], "0", "{runtime}: {text}");
        assert_eq!(facts["CapEff"], "0000000000000421", "{runtime}: {text}");
        assert_eq!(facts["CapInh"], "0000000000000000", "{runtime}: {text}");
        assert_eq!(facts["cwd"], "/made/by/the/runtime", "{runtime}: {text}");
        assert!(
            facts["root"].contains("Read-only file system"),
            "{runtime}: {text}"
        );
    }
}

#[test]
fn ambient_capabilities_reach_a_user_other_than_root() {
    for runtime in runtimes() {
        let bundle = Bundle::new();
        let mut it = look_kubelet(&bundle);
        it.config.security.capabilities.add_ambient = vec!["NET_BIND_SERVICE".into()];
        let text = bundle.run(&runtime, &it.build().unwrap());
        let facts = facts(&text);
        assert_eq!(facts["CapEff"], "0000000000000400", "{runtime}: {text}");
        assert_eq!(facts["CapAmb"], "0000000000000400", "{runtime}: {text}");
    }
}

#[test]
fn a_privileged_container_gets_what_the_daemon_itself_has() {
    for runtime in runtimes() {
        let bundle = Bundle::new();
        let mut it = look_kubelet(&bundle);
        it.user = User {
            groups: vec![0],
            ..User::default()
        };
        it.pod.privileged = true;
        it.config.security.privileged = true;
        it.host_devices = vec![node("/dev/null", 1, 3), node("/dev/cricket", 1, 7)];
        // asked for by a device plugin, too
        it.config.devices = vec![Device {
            container_path: "/dev/cricket".into(),
            host_path: "/dev/cricket".into(),
            permissions: "rw".into(),
        }];
        it.devices = vec![vec![node("/dev/cricket", 1, 7)]];
        it.config.resources = Some(Resources {
            oom_score_adj: -997,
            ..Resources::default()
        });
        it.config.command[2].push_str("echo device=$(stat -c '%F %t:%T' /dev/cricket)\n");
        let text = bundle.run(&runtime, &it.build().unwrap());
        let facts = facts(&text);
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let bounding = own
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:\t"))
            .unwrap();
        assert_eq!(facts["CapEff"], bounding, "{runtime}: {text}");
        assert_eq!(
            (facts["Seccomp"], facts["NoNewPrivs"]),
            ("0", "1"),
            "{runtime}: {text}"
        );
        assert!(
            text.contains(" on /sys type sysfs (rw,"),
            "{runtime}: {text}"
        );
        let lowest = if it.host.can_lower_oom {
            -997
        } else {
            it.host.own_oom_score_adj
        };
        assert_eq!(facts["oom"], lowest.to_string(), "{runtime}: {text}");
    }
}

#[test]
fn propagation_and_recursive_read_only_are_known_to_the_runtime() {
    for runtime in runtimes() {
        let bundle = Bundle::new();
        let shared = bundle.path("shared");
        std::fs::create_dir(&shared).unwrap();
        let mounted = Mounted::shared(&shared);
        let mut it = look_kubelet(&bundle);
        it.config.command[2] = "cat /proc/self/mountinfo".into();
        for (to, mode) in [
            ("/slave", Propagation::HostToContainer),
            ("/both", Propagation::Bidirectional),
        ] {
            it.mount(to, shared.to_str().unwrap(), |mount| {
                mount.propagation = mode
            });
        }
        it.mount("/still", shared.to_str().unwrap(), |mount| {
            (mount.readonly, mount.recursive_read_only) = (true, true);
        });
        it.sources = vec![
            MountSource {
                path: shared.clone(),
                peers: Peers::Shared
            };
            3
        ];
        let text = bundle.run(&runtime, &it.build().unwrap());
        let line = |at: &str| {
            text.lines()
                .find(|line| line.split(' ').nth(4) == Some(at))
                .unwrap_or_default()
        };
        assert!(line("/slave").contains(" master:"), "{runtime}: {text}");
        assert!(line("/both").contains(" shared:"), "{runtime}: {text}");
        assert!(line("/still").contains(" ro,"), "{runtime}: {text}");
        drop(mounted);
    }
}

/// A directory made a shared mount of its own.
struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    fn shared(path: &Path) -> Mounted<'_> {
        let run = |args: &[&str]| {
            assert!(
                Command::new("mount")
                    .args(args)
                    .arg(path)
                    .status()
                    .unwrap()
                    .success()
            );
        };
        run(&["--bind", path.to_str().unwrap()]);
        run(&["--make-shared"]);
        Mounted(path)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn the_host_namespaces_are_the_hosts() {
    for runtime in runtimes() {
        let bundle = Bundle::new();
        let mut it = look_kubelet(&bundle);
        let pod = &mut it.pod;
        (pod.netns, pod.ipcns, pod.utsns) = (None, None, None);
        pod.namespaces.network = NamespaceMode::Node;
        pod.namespaces.ipc = NamespaceMode::Node;
        pod.namespaces.pid = NamespaceMode::Node;
        it.config.security.namespaces = None;
        it.config.security.seccomp = Some(SecurityProfile::Unconfined);
        it.config.command[2] =
            "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done".into();
        let text = bundle.run(&runtime, &it.build().unwrap());
        let own = ["net", "ipc", "uts", "pid"]
            .map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap())
            .map(|link| format!("{}\n", link.display()));
        assert_eq!(text, own.concat(), "{runtime}");
    }
}

#[test]
fn the_runtime_takes_the_configuration_of_pause() {
    for runtime in runtimes() {
        let bundle = Bundle::new();
        let it = bundle.fixture(Fixture::minimal(), "");
        let root = bundle.path("pause");
        std::fs::create_dir(&root).unwrap();
        // named for what it does: busybox goes by its own name
        std::fs::copy("/bin/busybox", root.join("true")).unwrap();
        let user = User {
            groups: vec![0],
            ..User::default()
        };
        let spec = super::pause(&PauseInputs {
            pod: &it.pod,
            root: &root,
            binary: "/true",
            user: &user,
            cgroups_path: "",
            selinux_label: "",
            cpuset_cpus: "",
            cpu: &crate::spec::Cpu::default(),
            created: "",
            host: &it.host,
        });
        bundle.run(&runtime, &spec.unwrap());
    }
}
