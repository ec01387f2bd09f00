//! Namespaces, and requests that are refused by the name of their field.

use super::super::check_sandbox;
use super::super::config::{
    Device, IdMapping, NamespaceMode, NamespaceOptions, SandboxSecurity, UserNamespace,
};
use super::super::fixture::{Fixture, map, node};
use super::super::inputs::Ulimit;
use super::{linux, refuses};

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

fn mapped() -> UserNamespace {
    let range = IdMapping {
        host_id: 100_000,
        container_id: 0,
        length: 65_536,
    };
    UserNamespace {
        mode: NamespaceMode::Pod,
        uids: vec![range],
        gids: vec![range],
    }
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

#[test]
fn namespaces_that_cannot_be_are_refused() {
    refuses(&[
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
            "namespace_options.userns_options.uids: 0 mappings",
        ),
        (
            |it| {
                it.pod.namespaces.userns = Some(mapped());
                spaces(it, |_| ());
            },
            "namespace_options.userns_options: the container's must be the pod's",
        ),
        (
            |it| userns(it, NamespaceMode::Node, vec![IdMapping::default()]),
            "namespace_options.userns_options: Node takes no mappings",
        ),
        (
            |it| userns(it, NamespaceMode::Target, vec![]),
            "namespace_options.userns_options: Target is not",
        ),
    ]);
}

#[test]
fn other_fields_are_refused_by_their_name() {
    refuses(&[
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
                device(it, |d| d.host_path = "/dev/y".into());
                it.host_devices = vec![node("/dev/x", 1, 2)];
                (it.config.security.privileged, it.pod.privileged) = (true, true);
            },
            "devices[0].container_path: `/dev/x` is a path of the host's own devices",
        ),
        (
            // a directory of the host's
            |it| {
                device(it, |d| d.host_path = "/dev/y".into());
                it.host_devices = vec![node("/dev/x/card0", 1, 2)];
                (it.config.security.privileged, it.pod.privileged) = (true, true);
            },
            "devices[0].container_path: `/dev/x` is a path of the host's own devices, which a \
             privileged container has; /dev/y needs another one",
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
    ]);
}

#[test]
fn a_sandbox_that_cannot_be_is_refused() {
    type Change = fn(&mut SandboxSecurity);
    let cases: [(Change, &str); 4] = [
        (
            |s| s.namespaces.pid = NamespaceMode::Target,
            "namespace_options.pid: Target needs",
        ),
        (
            |s| (s.namespaces.pid, s.namespaces.target_id) = (NamespaceMode::Target, "x".into()),
            "namespace_options.pid: Target is for containers",
        ),
        (
            |s| s.namespaces.network = NamespaceMode::Node,
            "sysctls: `net.core.somaxconn` is not",
        ),
        (
            |s| s.namespaces.userns = Some(UserNamespace::default()),
            "namespace_options.userns_options.uids: 0 mappings",
        ),
    ];
    let sysctls = map(&[("net.core.somaxconn", "1")]);
    assert!(check_sandbox(&SandboxSecurity::default(), &sysctls).is_ok());
    for (change, want) in cases {
        let mut security = SandboxSecurity::default();
        change(&mut security);
        let error = check_sandbox(&security, &sysctls).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}, not {want}");
    }
}
