//! A container for the tests of this room: owns what `Inputs` borrows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Spec};
use serde_json::Value;

use super::config::{
    ContainerConfig, EnvVar, ImageSpec, Mount, NamespaceMode, NamespaceOptions, Resources,
    Security, SecurityProfile,
};
use super::inputs::{
    DeviceKind, DeviceNode, Host, Image, Inputs, MountSource, OwnFile, Peers, Pod, PodFiles,
    SeccompProfiles, Settings,
};
use super::{SpecError, container};
use crate::cdi::Edits;
use crate::hooks::HookStep;
use crate::security::capabilities::CapSet;
use crate::security::seccomp::{Profile, Target};
use crate::security::selinux::Labels;
use crate::security::users::User;

pub(super) const ID: &str = "c0ffee0000000000000000000000000000000000000000000000000000000001";
pub(super) const POD: &str = "b0d0000000000000000000000000000000000000000000000000000000000002";

/// A container and all around it.
pub(super) struct Fixture {
    pub(super) config: ContainerConfig,
    pub(super) image: Image,
    pub(super) pod: Pod,
    pub(super) user: User,
    pub(super) root: PathBuf,
    pub(super) sources: Vec<MountSource>,
    pub(super) devices: Vec<Vec<DeviceNode>>,
    pub(super) host_devices: Vec<DeviceNode>,
    pub(super) node_devices: Vec<(DeviceNode, String)>,
    pub(super) hooks: Vec<(HookStep, Hook)>,
    pub(super) cdi: Edits,
    pub(super) selinux: Option<Labels>,
    pub(super) own_files: Vec<OwnFile>,
    pub(super) cgroups_path: String,
    pub(super) default_seccomp: Profile,
    pub(super) settings: Settings,
    pub(super) host: Host,
}

impl Fixture {
    /// The least that a client can ask for, in a pod with everything of its own.
    pub(super) fn minimal() -> Fixture {
        let profile = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
            {"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
            {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
        Fixture {
            config: ContainerConfig {
                name: "web".into(),
                ..ContainerConfig::default()
            },
            image: Image {
                name: "docker.io/library/busybox:latest".into(),
                reference: "docker.io/library/busybox@sha256:aa".into(),
                cmd: vec!["sh".into()],
                ..Image::default()
            },
            pod: pod(),
            user: User {
                groups: vec![0],
                home: Some("/root".into()),
                ..User::default()
            },
            root: "/var/lib/root/merged".into(),
            sources: Vec::new(),
            devices: Vec::new(),
            host_devices: Vec::new(),
            node_devices: Vec::new(),
            hooks: Vec::new(),
            cdi: Edits::default(),
            selinux: None,
            own_files: Vec::new(),
            cgroups_path: format!("/kubepods/pod1/crio-{ID}"),
            default_seccomp: Profile::parse(Path::new("p"), profile, Target::native((6, 1)))
                .unwrap(),
            settings: Settings {
                default_capabilities: CapSet::of(&["CHOWN", "KILL", "NET_BIND_SERVICE"]).unwrap(),
                recursive_read_only: true,
                ..Settings::default()
            },
            host: Host {
                bounding: CapSet::ALL,
                cgroup_v2: true,
                hugetlb: true,
                swap_accounting: true,
                can_lower_oom: true,
                seccomp: true,
                kernel: (6, 1),
                ..Host::default()
            },
        }
    }

    /// What a kubelet sends for an ordinary container.
    pub(super) fn kubelet() -> Fixture {
        let mut it = Fixture::minimal();
        it.config.attempt = 1;
        it.config.image = ImageSpec {
            image: "aabb".into(),
            user_specified_image: "busybox".into(),
            ..ImageSpec::default()
        };
        it.config.args = vec!["-c".into(), "sleep 1".into()];
        it.image.entrypoint = vec!["/bin/sh".into()];
        it.image.env = vec!["PATH=/bin".into(), "LANG=C".into()];
        it.config.envs = vec![
            env("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
            env("LANG", "en"),
        ];
        it.config.labels = map(&[("io.kubernetes.container.name", "web")]);
        it.config.annotations = map(&[("io.kubernetes.container.hash", "1f"), ("run.oci.x", "y")]);
        it.mount("/etc/hosts", "/var/lib/kubelet/pods/u/etc-hosts", |_| ());
        it.mount(
            "/dev/termination-log",
            "/var/lib/kubelet/pods/u/c/web/1",
            |_| (),
        );
        it.mount(
            "/var/run/secrets/kubernetes.io/serviceaccount",
            "/var/lib/kubelet/sa",
            |m| {
                m.readonly = true;
            },
        );
        it.config.resources = Some(Resources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 128 << 20,
            oom_score_adj: 985,
            unified: map(&[("memory.oom.group", "1")]),
            ..Resources::default()
        });
        it.config.security = Security {
            namespaces: Some(NamespaceOptions {
                pid: NamespaceMode::Container,
                ..NamespaceOptions::default()
            }),
            masked_paths: vec!["/proc/kcore".into(), "/sys/firmware".into()],
            readonly_paths: vec!["/proc/sys".into()],
            seccomp: Some(SecurityProfile::RuntimeDefault),
            no_new_privs: true,
            run_as_user: Some(1000),
            ..Security::default()
        };
        it.user = User {
            uid: 1000,
            gid: 50,
            groups: vec![50, 100],
            ..User::default()
        };
        it
    }

    pub(super) fn mount(&mut self, to: &str, from: &str, change: impl FnOnce(&mut Mount)) {
        let mut mount = Mount {
            container_path: to.into(),
            host_path: from.into(),
            ..Mount::default()
        };
        change(&mut mount);
        self.sources.push(MountSource {
            path: from.into(),
            peers: Peers::Shared,
        });
        self.config.mounts.push(mount);
    }

    pub(super) fn build(&self) -> Result<Spec, SpecError> {
        container(&Inputs {
            id: ID,
            name: "k8s_web_pod_ns_uid_0",
            config: &self.config,
            image: &self.image,
            pod: &self.pod,
            user: &self.user,
            root: &self.root,
            mount_sources: &self.sources,
            declared_volumes: &[],
            devices: &self.devices,
            host_devices: &self.host_devices,
            node_devices: &self.node_devices,
            hooks: &self.hooks,
            cdi: &self.cdi,
            selinux: self.selinux.as_ref(),
            own_files: &self.own_files,
            cgroups_path: &self.cgroups_path,
            seccomp: SeccompProfiles {
                default: Some(&self.default_seccomp),
                ..SeccompProfiles::default()
            },
            log_path: Some(Path::new("/var/log/pods/p/web/0.log")),
            created: "2026-01-02T03:04:05Z",
            settings: &self.settings,
            host: &self.host,
        })
    }

    /// The configuration as JSON, in an order that is the same each time.
    pub(super) fn json(&self) -> Value {
        ordered(serde_json::to_value(self.build().unwrap()).unwrap())
    }

    pub(super) fn error(&self) -> String {
        self.build().unwrap_err().to_string()
    }
}

/// Objects by key and sets of capabilities by name; lists keep their order.
pub(super) fn ordered(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.into_iter().map(|(k, v)| (k, ordered(v))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(mut list) => {
            if list
                .iter()
                .all(|item| item.as_str().is_some_and(|s| s.starts_with("CAP_")))
            {
                list.sort_by_key(|item| item.to_string());
            }
            Value::Array(list.into_iter().map(ordered).collect())
        }
        other => other,
    }
}

pub(super) fn pod() -> Pod {
    let at = |kind: &str| Some(PathBuf::from(format!("/run/{kind}ns/{POD}")));
    let file = |name: &str| Some(PathBuf::from(format!("/run/sandboxes/{POD}/{name}")));
    Pod {
        id: POD.into(),
        full_name: "k8s_POD_pod_ns_uid_0".into(),
        name: "pod".into(),
        namespace: "ns".into(),
        uid: "uid".into(),
        hostname: "pod-host".into(),
        privileged: false,
        namespaces: NamespaceOptions {
            pid: NamespaceMode::Container,
            ..Default::default()
        },
        netns: at("net"),
        ipcns: at("ipc"),
        utsns: at("uts"),
        files: PodFiles {
            resolv_conf: file("resolv.conf"),
            hostname: file("hostname"),
            hosts: None,
            containerenv: file("containerenv"),
            shm: file("shm"),
        },
        ips: vec!["10.1.2.3".into()],
        ..Pod::default()
    }
}

pub(super) fn node(path: &str, major: u32, minor: u32) -> DeviceNode {
    let (mode, uid, gid) = (0o660, 0, 6);
    DeviceNode {
        path: path.into(),
        kind: DeviceKind::Char,
        major,
        minor,
        mode,
        uid,
        gid,
    }
}

pub(super) fn env(key: &str, value: &str) -> EnvVar {
    EnvVar {
        key: key.into(),
        value: value.as_bytes().to_vec(),
    }
}

pub(super) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}
