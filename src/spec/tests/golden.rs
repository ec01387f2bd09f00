//! Golden configurations.

use std::path::Path;

use oci_spec::runtime::Hook;
use serde_json::Value;

use super::super::config::{
    HugepageLimit, NamespaceMode, NamespaceOptions, Propagation, Resources, SecurityProfile,
};
use super::super::fixture::{Fixture, map, node, ordered, pod};
use super::super::inputs::{PauseInputs, Ulimit};
use super::super::{Cpu, Workload, pause};
use super::{destinations, linux};
use crate::hooks::HookStep;
use crate::security::users::User;

fn golden(name: &str, value: &Value) {
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots" }, {
        insta::assert_json_snapshot!(name, value);
    });
}

#[test]
fn golden_minimal() {
    golden("minimal", &Fixture::minimal().json());
}

#[test]
fn golden_kubelet() {
    golden("kubelet", &Fixture::kubelet().json());
}

#[test]
fn golden_privileged() {
    let mut it = Fixture::kubelet();
    it.pod.privileged = true;
    it.config.security.privileged = true;
    it.config.security.seccomp = Some(SecurityProfile::Localhost("/nowhere".into()));
    it.host_devices = vec![node("/dev/fuse", 10, 229), node("/dev/sda", 8, 0)];
    golden("privileged", &it.json());
}

#[test]
fn golden_readonly_root() {
    let mut it = Fixture::minimal();
    it.config.security.readonly_rootfs = true;
    golden("readonly_root", &it.json());
}

#[test]
fn golden_host_namespaces() {
    let mut it = Fixture::minimal();
    let all = NamespaceOptions {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Node,
        ipc: NamespaceMode::Node,
        ..NamespaceOptions::default()
    };
    it.pod.namespaces = all.clone();
    (it.pod.netns, it.pod.ipcns, it.pod.utsns) = (None, None, None);
    it.pod.files.hosts = Some("/etc/hosts".into());
    it.config.security.namespaces = Some(all);
    golden("host_namespaces", &it.json());
}

#[test]
fn golden_tty() {
    let mut it = Fixture::minimal();
    (it.config.tty, it.config.stdin) = (true, true);
    golden("tty", &it.json());
}

pub(super) fn everything() -> Resources {
    Resources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 2048,
        memory_limit_in_bytes: 1 << 30,
        memory_swap_limit_in_bytes: 3 << 29,
        oom_score_adj: -997,
        cpuset_cpus: "0-1,3".into(),
        cpuset_mems: "0".into(),
        hugepage_limits: vec![
            HugepageLimit {
                page_size: "2MB".into(),
                limit: 4 << 20,
            },
            HugepageLimit {
                page_size: "1GB".into(),
                limit: u64::MAX,
            },
        ],
        ..Resources::default()
    }
}

#[test]
fn golden_resources() {
    let mut it = Fixture::minimal();
    it.settings.pids_limit = 1024;
    it.config.resources = Some(everything());
    it.host.cgroup_v2 = false;
    golden("resources_v1", &linux(&it.json())["resources"]);
    it.host.cgroup_v2 = true;
    it.config.resources.as_mut().unwrap().unified = map(&[("memory.high", "900000000")]);
    golden("resources_v2", &linux(&it.json())["resources"]);
}

#[test]
fn golden_pause() {
    let (mut pod, host) = (pod(), Fixture::minimal().host);
    pod.namespaces.pid = NamespaceMode::Pod;
    let user = User {
        groups: vec![0],
        ..User::default()
    };
    let spec = pause(&PauseInputs {
        pod: &pod,
        root: Path::new("/usr/libexec/cricket/pause-root"),
        binary: "/pause",
        user: &user,
        cgroups_path: "/kubepods/pod1/crio-x",
        selinux_label: "",
        cpuset_cpus: "0",
        cpu: &Cpu::default(),
        created: "2026-01-02T03:04:05Z",
        host: &host,
    });
    golden(
        "pause",
        &ordered(serde_json::to_value(spec.unwrap()).unwrap()),
    );
}

#[test]
fn golden_propagation() {
    use Propagation::{Bidirectional, HostToContainer, Private};
    let all = [
        vec![Private],
        vec![HostToContainer],
        vec![Bidirectional, HostToContainer],
    ];
    let got: Vec<_> = all
        .map(|modes| {
            let mut it = Fixture::minimal();
            for (number, mode) in modes.into_iter().enumerate() {
                it.mount(&format!("/data{number}"), "/srv", |mount| {
                    mount.propagation = mode
                });
            }
            let json = it.json();
            let mounts = json["mounts"].as_array().unwrap().iter();
            let ours: Vec<_> = mounts.filter(|m| m["source"] == "/srv").cloned().collect();
            serde_json::json!({ "root": linux(&json).get("rootfsPropagation"), "mounts": ours })
        })
        .into();
    golden("propagation", &got.into());
}

#[test]
fn golden_nested_mounts() {
    let mut it = Fixture::minimal();
    for path in [
        "/data/a/b",
        "/data",
        "/dev/shm/x",
        "/data/a/",
        "/sys/fs/bpf",
        "/etc",
    ] {
        it.mount(path, "/srv", |_| ());
    }
    golden(
        "nested_mounts",
        &serde_json::json!(destinations(&it.json())),
    );
}

/// What crio.conf and its handler, workload and hook files make of a container.
#[test]
fn golden_of_the_node() {
    let mut it = Fixture::kubelet();
    it.settings.default_env = vec!["HTTP_PROXY=http://p:3128".into(), "LANG=node".into()];
    it.settings.default_ulimits = vec![Ulimit {
        name: "nofile".into(),
        soft: 512,
        hard: 1024,
    }];
    it.pod.allowed_annotations = vec!["run.oci.".into()];
    it.pod.annotations = map(&[
        ("team", "a"),
        ("run.oci.handler", "krun"),
        ("io.kubernetes.cri-o.SandboxID", "forged"),
    ]);
    it.node_devices = vec![(node("/dev/fuse", 10, 229), "rw".into())];
    let hook = |path: &str| {
        let mut hook = Hook::default();
        hook.set_path(path.into());
        hook.set_timeout(Some(5));
        hook
    };
    it.hooks = vec![
        (HookStep::CreateRuntime, hook("/hooks/a")),
        (HookStep::Poststop, hook("/hooks/a")),
        (HookStep::CreateRuntime, hook("/hooks/b")),
    ];
    it.cdi.hooks = vec![(HookStep::CreateRuntime, hook("/cdi"))];
    let workload = Workload {
        annotation_prefix: "resources.example.com".into(),
        resources: Cpu {
            cpuset: "0-1".into(),
            ..Cpu::default()
        },
        ..Workload::default()
    };
    let of_pod = map(&[(
        "resources.example.com/web",
        r#"{"cpushares": 20, "cpulimit": 300}"#,
    )]);
    let cpu = workload.cpu(&[&of_pod], "web").unwrap();
    cpu.apply(it.config.resources.get_or_insert_default());
    golden("of_the_node", &it.json());
}
