//! Whole configurations as JSON, and the rules that need one.

use std::path::Path;

use serde_json::Value;

use super::config::{
    Device, EnvVar, HugepageLimit, IdMapping, ImageSpec, NamespaceMode, NamespaceOptions,
    Propagation, Resources, Security, SecurityProfile, UserNamespace,
};
use super::fixture::{Fixture, env, map, node, ordered, pod};
use super::inputs::{Host, PauseInputs, Peers, Ulimit};
use crate::security::capabilities::CapSet;
use crate::security::users::User;

fn golden(name: &str, value: &Value) {
    insta::with_settings!({ prepend_module_to_snapshot => false }, {
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

fn everything() -> Resources {
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

fn linux(json: &Value) -> &Value {
    &json["linux"]
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
    let spec = super::pause(&PauseInputs {
        pod: &pod,
        root: Path::new("/usr/libexec/cricket/pause-root"),
        binary: "/pause",
        user: &user,
        cgroups_path: "/kubepods/pod1/crio-x",
        cpuset_cpus: "0",
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

fn destinations(json: &Value) -> Vec<&str> {
    let mounts = json["mounts"].as_array().unwrap();
    mounts
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect()
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

#[test]
fn a_requested_mount_takes_the_place_of_defaults() {
    for (path, gone, stays) in [
        ("/dev", "/dev/pts", "/sys"),
        ("/dev/shm", "/dev/none", "/dev/mqueue"),
        ("/sys/", "/sys/fs/cgroup", "/dev/shm"),
        ("/etc/hostname", "/etc/none", "/etc/resolv.conf"),
    ] {
        let mut it = Fixture::minimal();
        it.mount(path, "/srv", |_| ());
        let json = it.json();
        let paths = destinations(&json);
        let clean = path.trim_end_matches('/');
        assert_eq!(paths.iter().filter(|at| **at == clean).count(), 1, "{path}");
        let ours = json["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["destination"] == clean);
        assert_eq!(ours.unwrap()["source"], "/srv", "{path}");
        assert!(
            !paths.contains(&gone) && paths.contains(&stays),
            "{path}: {paths:?}"
        );
    }
}

#[test]
fn of_two_mounts_at_one_place_the_later_stays() {
    let mut it = Fixture::minimal();
    it.mount("/data", "/first", |_| ());
    it.mount("/data/", "/second", |_| ());
    let json = it.json();
    let at: Vec<_> = json["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["destination"] == "/data")
        .collect();
    assert_eq!((at.len(), &at[0]["source"]), (1, &Value::from("/second")));
}

#[test]
fn a_mount_that_cannot_be_is_refused_with_its_reason() {
    type Change = fn(&mut Fixture);
    fn data(it: &mut Fixture, change: fn(&mut super::config::Mount)) {
        it.mount("/data", "/srv", change);
    }
    let cases: [(Change, &str); 16] = [
        (
            |it| it.mount("/data", "srv", |_| ()),
            "mounts[0]: host path `srv` for /data is not absolute",
        ),
        (
            |it| it.mount("/data", "", |_| ()),
            "mounts[0].host_path: the path is empty",
        ),
        (
            |it| it.mount("", "/srv", |_| ()),
            "mounts[0].container_path: the path is empty",
        ),
        (
            |it| it.mount("/..", "/srv", |_| ()),
            "mounts[0].container_path: a mount cannot take",
        ),
        (
            |it| it.mount("/a\0", "/srv", |_| ()),
            "mounts[0].container_path: the path has a NUL",
        ),
        (
            |it| data(it, |m| m.recursive_read_only = true),
            "mounts[0].recursive_read_only: needs readonly",
        ),
        (
            |it| {
                data(it, |m| {
                    (m.recursive_read_only, m.readonly) = (true, true);
                    m.propagation = Propagation::HostToContainer;
                })
            },
            "mounts[0].recursive_read_only: needs private propagation",
        ),
        (
            |it| {
                it.settings.recursive_read_only = false;
                data(it, |m| (m.recursive_read_only, m.readonly) = (true, true));
            },
            "RROUnsupported: mounts[0]: /data",
        ),
        (
            |it| {
                data(it, |m| m.propagation = Propagation::Bidirectional);
                it.sources[0].peers = Peers::Slave;
            },
            "mounts[0]: /srv is on a mount that is not shared",
        ),
        (
            |it| {
                data(it, |m| m.propagation = Propagation::HostToContainer);
                it.sources[0].peers = Peers::Private;
            },
            "mounts[0]: /srv is on a mount that is not slave",
        ),
        (
            |it| data(it, |m| m.mount_options = vec!["suid".into()]),
            "mounts[0].mount_options: `suid` is none",
        ),
        (
            |it| {
                data(it, |m| {
                    m.image = Some(ImageSpec {
                        image: "x".into(),
                        ..ImageSpec::default()
                    });
                })
            },
            "mounts.image: not supported",
        ),
        (
            |it| data(it, |m| m.uid_mappings = vec![IdMapping::default()]),
            "mounts.uidMappings and gid",
        ),
        (
            |it| {
                data(it, |_| ());
                it.sources.clear();
            },
            "mounts: 0 sources for 1",
        ),
        (
            |it| {
                data(it, |m| m.selinux_relabel = true);
                it.host.selinux = true;
            },
            "mounts.selinux_relabel: not supported",
        ),
        (
            |it| {
                use std::os::unix::ffi::OsStrExt;
                data(it, |_| ());
                it.sources[0].path = std::ffi::OsStr::from_bytes(b"/\xff").into();
            },
            "mounts[0].host_path: resolves to a path not in UTF-8",
        ),
    ];
    for (change, want) in cases {
        let mut it = Fixture::minimal();
        change(&mut it);
        let error = it.error();
        assert!(error.starts_with(want), "{error}, not {want}");
    }
}

#[test]
fn recursive_read_only_and_extra_options_reach_the_runtime() {
    let mut it = Fixture::minimal();
    it.mount("/data", "/srv", |m| {
        (m.recursive_read_only, m.readonly) = (true, true);
        m.mount_options = vec!["noexec".into(), "nosuid".into()];
    });
    let json = it.json();
    let mount = json["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["destination"] == "/data");
    let want = serde_json::json!(["rbind", "rprivate", "rro", "noexec", "nosuid"]);
    assert_eq!(mount.unwrap()["options"], want);
}

#[test]
fn a_mount_above_the_storage_does_not_hold_other_containers() {
    for (from, peers, want) in [
        ("/var", Peers::Shared, "rslave"),
        ("/", Peers::Slave, "rslave"),
        ("/var", Peers::Private, "rprivate"),
        ("/srv", Peers::Shared, "rprivate"),
    ] {
        let mut it = Fixture::minimal();
        it.settings.storage_roots = vec!["/var/lib/containers/storage".into()];
        it.mount("/data", from, |_| ());
        it.sources[0].peers = peers;
        let json = it.json();
        let mount = json["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["destination"] == "/data");
        assert_eq!(mount.unwrap()["options"][1], want, "{from} {peers:?}");
    }
}

#[test]
fn arguments_merge_by_the_cris_table() {
    for (entrypoint, cmd, command, args, want) in [
        ("e", "c1 c2", "", "", "e c1 c2"),
        ("", "c", "", "", "c"),
        ("e", "", "", "", "e"),
        ("e", "c", "", "a", "e a"),
        ("e", "c", "k", "", "k"),
        ("e", "c", "k", "a b", "k a b"),
        ("", "", "k", "", "k"),
        ("", "", "", "a", "a"),
    ] {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut it = Fixture::minimal();
        (it.image.entrypoint, it.image.cmd) = (words(entrypoint), words(cmd));
        (it.config.command, it.config.args) = (words(command), words(args));
        assert_eq!(it.json()["process"]["args"], serde_json::json!(words(want)));
    }
    let mut it = Fixture::minimal();
    it.image.cmd.clear();
    assert!(it.error().starts_with("no command: "), "{}", it.error());
    it.config.command = vec!["a".into(), "b\0".into()];
    assert_eq!(it.error(), "command: word 1 has a NUL in it");
}

fn environment(it: &Fixture) -> Vec<String> {
    serde_json::from_value(it.json()["process"]["env"].clone()).unwrap()
}

#[test]
fn environment_goes_from_defaults_over_the_image_to_the_request() {
    let mut it = Fixture::minimal();
    it.settings.default_env = vec!["SITE=a".into(), "PATH=/site".into()];
    it.image.env = vec![
        "SITE=b".into(),
        "IMAGE=1".into(),
        "EQ=a=b".into(),
        "EMPTY=".into(),
    ];
    it.config.envs = vec![env("IMAGE", "2"), env("NEW", "x\ny=z"), env("NEW", "last")];
    let want = [
        "PATH=/site",
        "SITE=b",
        "HOSTNAME=pod-host",
        "IMAGE=2",
        "EQ=a=b",
        "EMPTY=",
        "NEW=last",
        "HOME=/root",
    ];
    assert_eq!(environment(&it), want);
    it.config.tty = true;
    it.config.envs.push(env("HOME", "/mine"));
    let got = environment(&it);
    assert!(
        got.contains(&"TERM=xterm".into()) && got.contains(&"HOME=/mine".into()),
        "{got:?}"
    );
    assert!(!got.contains(&"HOME=/root".into()));
}

#[test]
fn environment_that_cannot_be_is_refused_by_name() {
    let with = |entry: EnvVar| {
        let mut it = Fixture::minimal();
        it.config.envs = vec![entry];
        it.error()
    };
    let bytes = EnvVar {
        key: "BIN".into(),
        value: vec![b'a', 0xff],
    };
    assert_eq!(with(bytes), "envs: value of `BIN` is not UTF-8 (byte 1)");
    assert_eq!(with(env("", "x")), r#"envs: "": a variable has no name"#);
    assert_eq!(
        with(env("A=B", "x")),
        r#"envs: "A=B": the name has a `=` in it"#
    );
    assert!(with(env("A", "x\0")).contains("has a NUL"));
    let mut it = Fixture::minimal();
    it.image.env = vec!["NOVALUE".into()];
    assert_eq!(
        it.error(),
        r#"environment of the image: "NOVALUE" is not KEY=value"#
    );
}

#[test]
fn the_working_directory_is_the_requests_then_the_images_then_the_root() {
    for (wanted, image, want) in [
        ("", "", "/"),
        ("", "/app", "/app"),
        ("", "app/x", "/app/x"),
        ("/w/../v", "/app", "/v"),
    ] {
        let mut it = Fixture::minimal();
        (it.config.working_dir, it.image.working_dir) = (wanted.into(), image.into());
        assert_eq!(it.json()["process"]["cwd"], want);
    }
}

#[test]
fn the_oom_score_stops_at_the_daemons_own_when_it_cannot_go_below() {
    for (wanted, own, can_lower, want) in [
        (-997, 0, true, -997),
        (-997, 0, false, 0),
        (-997, -500, false, -500),
        (985, -999, false, 985),
    ] {
        let mut it = Fixture::minimal();
        it.config.resources = Some(Resources {
            oom_score_adj: wanted,
            ..Resources::default()
        });
        it.host = Host {
            own_oom_score_adj: own,
            can_lower_oom: can_lower,
            ..it.host
        };
        assert_eq!(it.json()["process"]["oomScoreAdj"], want);
    }
    let mut it = Fixture::minimal();
    it.host.own_oom_score_adj = -999;
    assert_eq!(
        it.json()["process"]["oomScoreAdj"],
        0,
        "not inherited from the daemon"
    );
}

#[test]
fn every_capability_has_its_name_in_the_configuration() {
    let mut it = Fixture::minimal();
    it.config.security.capabilities.add = vec!["ALL".into()];
    let json = it.json();
    let got = json["process"]["capabilities"]["bounding"]
        .as_array()
        .unwrap();
    let mut want: Vec<_> = CapSet::ALL.names().collect();
    want.sort_unstable();
    assert_eq!(
        got.iter()
            .map(|name| name.as_str().unwrap())
            .collect::<Vec<_>>(),
        want
    );
}

#[test]
fn pid_namespaces_by_mode() {
    use NamespaceMode::{Container, Node, Pod, Target};
    for (pod_mode, own, shared, want) in [
        (Pod, None, true, Ok(Some("/proc/7/ns/pid"))),
        (Container, None, false, Ok(Some("new"))),
        (Node, None, false, Ok(None)),
        (Container, Some(Target), false, Ok(Some("/proc/9/ns/pid"))),
        (Pod, Some(Container), true, Ok(Some("new"))),
        (
            Container,
            Some(Pod),
            false,
            Err("the pod does not share one"),
        ),
    ] {
        let mut it = Fixture::minimal();
        it.pod.namespaces.pid = pod_mode;
        it.pod.pidns = shared.then(|| "/proc/7/ns/pid".into());
        it.pod.target_pidns = Some("/proc/9/ns/pid".into());
        it.config.security.namespaces = own.map(|pid| NamespaceOptions {
            pid,
            target_id: "t".into(),
            ..NamespaceOptions::default()
        });
        let case = format!("{pod_mode:?} {own:?}");
        match (it.build(), want) {
            (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
            (Ok(_), Ok(want)) => {
                let json = it.json();
                let list = linux(&json)["namespaces"].as_array().unwrap();
                let pid = list.iter().find(|namespace| namespace["type"] == "pid");
                let got = pid.map(|pid| pid.get("path").map_or("new", |p| p.as_str().unwrap()));
                assert_eq!(got, want, "{case}");
            }
            (got, want) => panic!("{case}: {got:?}, not {want:?}"),
        }
    }
}

#[test]
fn the_cgroup_namespace_is_private_on_v2_only_and_not_when_privileged() {
    for (v2, privileged, want) in [
        (true, false, true),
        (true, true, false),
        (false, false, false),
    ] {
        let mut it = Fixture::minimal();
        it.host.cgroup_v2 = v2;
        (it.config.security.privileged, it.pod.privileged) = (privileged, privileged);
        let json = it.json();
        let list = linux(&json)["namespaces"].as_array().unwrap();
        assert_eq!(
            list.iter().any(|namespace| namespace["type"] == "cgroup"),
            want
        );
    }
}

#[test]
fn no_new_privileges_stays_when_privileged() {
    let mut it = Fixture::minimal();
    it.pod.privileged = true;
    it.config.security = Security {
        privileged: true,
        no_new_privs: true,
        ..Security::default()
    };
    assert_eq!(it.json()["process"]["noNewPrivileges"], true);
}

#[test]
fn what_is_refused_is_refused_by_name() {
    type Change = fn(&mut Fixture);
    fn spaces(it: &mut Fixture, change: fn(&mut NamespaceOptions)) {
        change(
            it.config
                .security
                .namespaces
                .insert(NamespaceOptions::default()),
        );
    }
    fn userns(it: &mut Fixture, mode: NamespaceMode, uids: Vec<IdMapping>) {
        let userns = UserNamespace {
            mode,
            uids,
            ..UserNamespace::default()
        };
        it.config.security.namespaces = Some(NamespaceOptions {
            userns: Some(userns),
            ..NamespaceOptions::default()
        });
    }
    fn device(it: &mut Fixture, change: fn(&mut Device)) {
        let mut device = Device {
            container_path: "/dev/x".into(),
            host_path: "/dev/x".into(),
            ..Device::default()
        };
        change(&mut device);
        it.config.devices = vec![device];
        it.devices = vec![vec![node("/dev/x", 1, 2)]];
    }
    let cases: [(Change, &str); 17] = [
        (
            |it| it.config.security.privileged = true,
            "no privileged container allowed in sandbox b0d",
        ),
        (
            |it| spaces(it, |o| o.network = NamespaceMode::Container),
            "namespace_options.network: Container is not",
        ),
        (
            |it| spaces(it, |o| o.ipc = NamespaceMode::Target),
            "namespace_options.ipc: Target is not",
        ),
        (
            |it| spaces(it, |o| o.pid = NamespaceMode::Target),
            "namespace_options.pid: Target needs target_id",
        ),
        (
            |it| userns(it, NamespaceMode::Pod, vec![]),
            "namespace_options.userns_options: not supported",
        ),
        (
            |it| userns(it, NamespaceMode::Node, vec![IdMapping::default()]),
            "namespace_options.userns_options: Node takes no mappings",
        ),
        (
            |it| userns(it, NamespaceMode::Target, vec![]),
            "namespace_options.userns_options: Target is not",
        ),
        (
            |it| it.config.cdi_devices = vec!["v/c=n".into()],
            "CDI_devices: not supported",
        ),
        (
            |it| it.config.annotations = map(&[("cdi.k8s.io/x", "v/c=n")]),
            "CDI_devices: not supported",
        ),
        (
            |it| device(it, |d| d.permissions = "rx".into()),
            "devices[0].permissions: `rx` has letters",
        ),
        (
            |it| device(it, |d| d.host_path = "dev/x".into()),
            "devices[0].host_path: `dev/x` is not absolute",
        ),
        (
            |it| {
                device(it, |_| ());
                it.devices.clear();
            },
            "devices: 0 found for 1",
        ),
        (
            |it| {
                device(it, |_| ());
                it.host_devices = vec![node("/dev/x", 1, 2)];
                (it.config.security.privileged, it.pod.privileged) = (true, true);
            },
            "devices[0]: /dev/x is there already",
        ),
        (
            |it| it.config.security.capabilities.add = vec!["NET_RAWW".into()],
            "security_context.capabilities: unknown capability `NET_RAWW`, did you mean",
        ),
        (
            |it| {
                let limit = Ulimit {
                    name: "nofiles".into(),
                    soft: 1,
                    hard: 1,
                };
                it.settings.default_ulimits = vec![limit];
            },
            "default_ulimits: unknown limit `nofiles`",
        ),
        (
            |it| {
                let limit = Ulimit {
                    name: "nofile".into(),
                    soft: 2,
                    hard: 1,
                };
                it.settings.default_ulimits = vec![limit];
            },
            "default_ulimits: nofile: soft 2 is above hard 1",
        ),
        (
            |it| it.pod.sysctls = map(&[("kernel.panic", "1")]),
            "sysctls: `kernel.panic` does not belong to a namespace of the pod",
        ),
    ];
    for (change, want) in cases {
        let mut it = Fixture::minimal();
        change(&mut it);
        let error = it.error();
        assert!(error.starts_with(want), "{error}, not {want}");
    }
}

#[test]
fn a_device_is_made_and_allowed_as_asked() {
    let mut it = Fixture::minimal();
    it.settings.device_ownership_from_security_context = true;
    it.user.uid = 1000;
    it.user.gid = 50;
    it.config.security.run_as_group = Some(50);
    it.config.devices = vec![Device {
        container_path: "/dev/x".into(),
        host_path: "/dev/x".into(),
        permissions: "r".into(),
    }];
    it.devices = vec![vec![node("/dev/x", 1, 2)]];
    let json = it.json();
    let device = &linux(&json)["devices"][0];
    assert_eq!((&device["uid"], &device["gid"]), (&1000.into(), &50.into()));
    let rules = &linux(&json)["resources"]["devices"];
    assert_eq!(
        rules[0],
        serde_json::json!({"allow": false, "access": "rwm"})
    );
    let want =
        serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 2, "access": "r"});
    assert_eq!(rules[1], want);
    it.settings.device_ownership_from_security_context = false;
    assert_eq!(linux(&it.json())["devices"][0]["gid"], 6);
}

#[test]
fn memory_and_swap_follow_the_cri() {
    for (limit, swap, accounting, want) in [
        (0, 0, true, Ok((None, None))),
        (100, 0, true, Ok((Some(100), Some(100)))),
        (100, 0, false, Ok((Some(100), None))),
        (100, 150, true, Ok((Some(100), Some(150)))),
        (100, -1, true, Ok((Some(100), Some(-1)))),
        (100, 150, false, Ok((Some(100), None))),
        (-1, 0, true, Ok((Some(-1), Some(-1)))),
        (100, 50, true, Err("50 is less than the memory limit 100")),
        (0, 50, true, Err("needs a memory limit")),
        (-2, 0, true, Err("-2 is not possible")),
        (10, 0, true, Err("10 is less than 20")),
    ] {
        let mut it = Fixture::minimal();
        it.settings.container_min_memory = 20;
        it.host.swap_accounting = accounting;
        it.config.resources = Some(Resources {
            memory_limit_in_bytes: limit,
            memory_swap_limit_in_bytes: swap,
            ..Resources::default()
        });
        match (it.build(), want) {
            (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
            (Ok(_), Ok(want)) => {
                let json = it.json();
                let memory = &linux(&json)["resources"]["memory"];
                assert_eq!((memory["limit"].as_i64(), memory["swap"].as_i64()), want);
            }
            (got, want) => panic!("{limit} {swap}: {got:?}, not {want:?}"),
        }
    }
}

#[test]
fn resources_that_cannot_be_are_refused_by_field() {
    type Change = fn(&mut Resources, &mut Host);
    let cases: [(Change, &str); 9] = [
        (
            |r, _| r.cpu_period = -1,
            "resources.cpu_period: -1 is not possible",
        ),
        (
            |r, _| r.cpu_shares = -5,
            "resources.cpu_shares: -5 is not possible",
        ),
        (
            |r, _| r.cpu_quota = -2,
            "resources.cpu_quota: -2 is not possible",
        ),
        (
            |r, _| r.cpuset_cpus = "0;rm".into(),
            "resources.cpuset_cpus: \"0;rm\" is not a list",
        ),
        (
            |r, _| r.oom_score_adj = 1001,
            "resources.oom_score_adj: 1001 is not -1000 to 1000",
        ),
        (
            |r, _| r.oom_score_adj = i64::MIN,
            "resources.oom_score_adj: ",
        ),
        (
            |r, _| {
                r.hugepage_limits = vec![HugepageLimit {
                    page_size: "2Mi".into(),
                    limit: 0,
                }]
            },
            "resources.hugepage_limits[0].page_size: \"2Mi\" is not of the form",
        ),
        (
            |r, _| r.unified = map(&[("../memory.max", "1")]),
            "resources.unified: \"../memory.max\"",
        ),
        (
            |r, h| {
                r.unified = map(&[("memory.max", "1")]);
                h.cgroup_v2 = false;
            },
            "resources.unified: needs cgroup v2",
        ),
    ];
    for (change, want) in cases {
        let mut it = Fixture::minimal();
        change(
            it.config.resources.insert(Resources::default()),
            &mut it.host,
        );
        let error = it.error();
        assert!(error.starts_with(want), "{error}, not {want}");
    }
}

#[test]
fn huge_pages_are_left_out_without_their_controller() {
    let mut it = Fixture::minimal();
    it.config.resources = Some(everything());
    it.host.hugetlb = false;
    assert_eq!(linux(&it.json())["resources"].get("hugepageLimits"), None);
}

proptest::proptest! {
    #[test]
    fn no_environment_makes_it_panic(
        envs in proptest::collection::vec((".{0,8}", proptest::collection::vec(0u8.., 0..9)), 0..5),
        label in ".{0,16}",
    ) {
        let mut it = Fixture::minimal();
        it.config.labels = map(&[(&label, &label)]);
        it.config.annotations = it.config.labels.clone();
        it.config.envs = envs.into_iter().map(|(key, value)| EnvVar { key, value }).collect();
        if let Ok(spec) = it.build() {
            let text = serde_json::to_string(&spec).unwrap();
            let back: Value = serde_json::from_str(&text).unwrap();
            let labels = back["annotations"]["io.kubernetes.cri-o.Labels"].as_str().unwrap();
            let labels: std::collections::BTreeMap<String, String> =
                serde_json::from_str(labels).unwrap();
            proptest::prop_assert_eq!(labels, it.config.labels);
        }
    }
}
