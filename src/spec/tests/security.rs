//! What the node gives: labels, profiles, devices, CDI edits, files.

use oci_spec::runtime::{Hook, LinuxDevice, LinuxDeviceType, LinuxIntelRdt};
use serde_json::{Value, json};

use super::super::config::{Device, SecurityProfile};
use super::super::fixture::{Fixture, env, node};
use super::super::inputs::OwnFile;
use super::linux;
use crate::cdi::{Edits, Mount};
use crate::hooks::HookStep;
use crate::security::selinux::Labels;

fn labels() -> Labels {
    Labels {
        process: "system_u:system_r:container_t:s0:c1,c2".into(),
        mount: "system_u:object_r:container_file_t:s0:c1,c2".into(),
    }
}

#[test]
fn labels_are_those_of_the_container_and_absent_where_there_are_none() {
    let mut it = Fixture::kubelet();
    let json = it.json();
    assert_eq!(json["process"].get("selinuxLabel"), None);
    assert_eq!(linux(&json).get("mountLabel"), None);
    it.selinux = Some(labels());
    let json = it.json();
    assert_eq!(json["process"]["selinuxLabel"], labels().process);
    assert_eq!(linux(&json)["mountLabel"], labels().mount);
    it.selinux = Some(labels().unconfined());
    let json = it.json();
    assert_eq!(json["process"].get("selinuxLabel"), None);
    assert_eq!(linux(&json)["mountLabel"], labels().mount);
}

#[test]
fn the_apparmor_profile_reaches_the_process() {
    let mut it = Fixture::kubelet();
    it.settings.apparmor_default = Some("crio-default".into());
    assert_eq!(it.json()["process"].get("apparmorProfile"), None, "off");
    it.host.apparmor = true;
    assert_eq!(it.json()["process"]["apparmorProfile"], "crio-default");
    it.config.security.apparmor = Some(SecurityProfile::Localhost("localhost/mine".into()));
    assert_eq!(it.json()["process"]["apparmorProfile"], "mine");
}

fn nodes(json: &Value) -> Vec<String> {
    let list = linux(json)["devices"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |node: &Value| {
        format!(
            "{} {}:{}",
            node["path"].as_str().unwrap(),
            node["major"],
            node["minor"]
        )
    };
    list.iter().map(text).collect()
}

fn rules(json: &Value) -> Vec<String> {
    let list = linux(json)["resources"]["devices"].as_array().unwrap();
    let text = |rule: &Value| {
        let number = |key: &str| rule.get(key).map_or("*".to_owned(), ToString::to_string);
        let allow = if rule["allow"] == true {
            "allow"
        } else {
            "deny"
        };
        format!(
            "{allow} {}:{} {}",
            number("major"),
            number("minor"),
            rule["access"].as_str().unwrap()
        )
    };
    list.iter().map(text).collect()
}

#[test]
fn devices_of_the_node_come_on_top_and_the_kubelets_take_their_place() {
    let mut it = Fixture::minimal();
    it.node_devices = vec![
        (node("/dev/fuse", 10, 229), "rwm".into()),
        (node("/dev/x", 1, 1), "r".into()),
    ];
    let json = it.json();
    assert_eq!(nodes(&json), ["/dev/fuse 10:229", "/dev/x 1:1"]);
    assert_eq!(
        rules(&json),
        ["deny *:* rwm", "allow 10:229 rwm", "allow 1:1 r"]
    );
    it.config.devices = vec![Device {
        container_path: "/dev/x".into(),
        host_path: "/dev/y".into(),
        permissions: "rw".into(),
    }];
    it.devices = vec![vec![node("/dev/x", 2, 2)]];
    let json = it.json();
    assert_eq!(nodes(&json), ["/dev/fuse 10:229", "/dev/x 2:2"]);
    assert_eq!(
        rules(&json),
        ["deny *:* rwm", "allow 10:229 rwm", "allow 2:2 rw"]
    );
    let mut it = Fixture::minimal();
    (it.config.security.privileged, it.pod.privileged) = (true, true);
    it.host_devices = vec![node("/dev/fuse", 10, 229)];
    it.node_devices = vec![(node("/dev/fuse", 10, 229), "rwm".into())];
    assert_eq!(
        nodes(&it.json()),
        ["/dev/fuse 10:229"],
        "no clash with the host's own"
    );
}

/// What a device plugin of the kubelet's asks for.
fn asked(host: &str, container: &str, permissions: &str) -> Device {
    Device {
        container_path: container.into(),
        host_path: host.into(),
        permissions: permissions.into(),
    }
}

#[test]
fn a_privileged_container_may_be_given_a_device_that_it_has() {
    let mut it = Fixture::minimal();
    (it.config.security.privileged, it.pod.privileged) = (true, true);
    it.host_devices = vec![node("/dev/fuse", 10, 229), node("/dev/kvm", 10, 232)];
    it.config.devices = vec![
        asked("/dev/kvm", "/dev/kvm", "rw"),
        asked("/dev/fuse", "/dev/other", "r"),
    ];
    it.devices = vec![
        vec![node("/dev/kvm", 10, 232)],
        vec![node("/dev/other", 10, 229)],
    ];
    let json = it.json();
    assert_eq!(
        nodes(&json),
        ["/dev/fuse 10:229", "/dev/kvm 10:232", "/dev/other 10:229"]
    );
    assert_eq!(
        rules(&json),
        ["allow *:* rwm", "allow 10:232 rw", "allow 10:229 r"]
    );
    // a handler that keeps the host's devices from it gives it these alone
    it.settings.privileged_without_host_devices = true;
    let json = it.json();
    assert_eq!(nodes(&json), ["/dev/kvm 10:232", "/dev/other 10:229"]);
    assert_eq!(
        rules(&json),
        ["deny *:* rwm", "allow 10:232 rw", "allow 10:229 r"]
    );
    // and nothing is hidden by a path that the host has too
    it.config.devices[1].container_path = "/dev/fuse".into();
    it.config.devices[1].host_path = "/dev/other".into();
    it.devices[1] = vec![node("/dev/fuse", 7, 7)];
    assert_eq!(nodes(&it.json()), ["/dev/kvm 10:232", "/dev/fuse 7:7"]);
}

#[test]
fn of_two_devices_at_one_path_the_last_counts_and_both_may_be_used() {
    for privileged in [false, true] {
        let mut it = Fixture::minimal();
        (it.config.security.privileged, it.pod.privileged) = (privileged, privileged);
        it.config.devices = vec![
            asked("/dev/a", "/dev/x", "r"),
            asked("/dev/b", "/dev/y", ""),
            asked("/dev/c", "/dev/x", "rw"),
        ];
        it.devices = vec![
            vec![node("/dev/x", 1, 1)],
            vec![node("/dev/y", 1, 2)],
            vec![node("/dev/x", 1, 3)],
        ];
        let json = it.json();
        assert_eq!(nodes(&json), ["/dev/x 1:3", "/dev/y 1:2"]);
        let all = if privileged { "allow" } else { "deny" };
        assert_eq!(
            rules(&json),
            [
                format!("{all} *:* rwm"),
                "allow 1:1 r".into(),
                "allow 1:2 rwm".into(),
                "allow 1:3 rw".into(),
            ]
        );
    }
}

fn device(path: &str, major: i64, minor: i64) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device.set_path(path.into());
    device.set_typ(LinuxDeviceType::C);
    device.set_major(major);
    device.set_minor(minor);
    device
}

#[test]
fn cdi_edits_come_last_and_win() {
    let mut it = Fixture::kubelet();
    it.node_devices = vec![(node("/dev/gpu", 1, 1), "r".into())];
    it.config.envs.push(env("GPU", "none"));
    it.mount("/data", "/srv", |_| ());
    let mut hook = Hook::default();
    hook.set_path("/usr/bin/hook".into());
    let mut rdt = LinuxIntelRdt::default();
    rdt.set_clos_id(Some("gold".into()));
    let mut owned = device("/dev/owned", 3, 3);
    owned.set_uid(Some(7));
    owned.set_gid(Some(8));
    let mount = |to: &str, from: &str| Mount {
        source: from.into(),
        destination: to.into(),
        kind: "bind".into(),
        options: vec!["bind".into(), "ro".into()],
    };
    it.cdi = Edits {
        env: vec!["GPU=0".into(), "NEW=x=y".into(), "GPU=1".into()],
        nodes: vec![
            (device("/dev/gpu", 2, 2), "rw".into()),
            (owned, "rwm".into()),
        ],
        mounts: vec![mount("/data", "/usr/lib/gpu"), mount("/a/b/c", "/deep")],
        hooks: vec![(HookStep::CreateContainer, hook)],
        additional_gids: vec![0, 44, 100],
        intel_rdt: Some(rdt),
    };
    let json = it.json();
    let env: Vec<_> = json["process"]["env"].as_array().unwrap().iter().collect();
    let ours = |entry: &&&Value| entry.as_str().unwrap().starts_with("GPU=");
    assert_eq!(
        env.iter().filter(ours).collect::<Vec<_>>(),
        [&&json!("GPU=1")]
    );
    assert!(env.contains(&&json!("NEW=x=y")));
    assert_eq!(
        json["process"]["user"]["additionalGids"],
        json!([50, 100, 44])
    );
    assert_eq!(nodes(&json), ["/dev/gpu 2:2", "/dev/owned 3:3"]);
    let devices = linux(&json)["devices"].as_array().unwrap();
    assert_eq!(
        (&devices[0]["uid"], &devices[0]["gid"]),
        (&json!(1000), &json!(50))
    );
    assert_eq!(
        (&devices[1]["uid"], &devices[1]["gid"]),
        (&json!(7), &json!(8))
    );
    assert!(rules(&json).contains(&"allow 2:2 rw".to_owned()));
    let mounts = json["mounts"].as_array().unwrap();
    let at = |path: &str| {
        let mut found = mounts.iter().filter(|mount| mount["destination"] == path);
        let only = found.next().unwrap();
        assert!(found.next().is_none(), "{path} twice");
        only
    };
    assert_eq!(at("/data")["source"], "/usr/lib/gpu");
    assert_eq!(at("/a/b/c")["source"], "/deep");
    assert_eq!(
        json["hooks"],
        json!({"createContainer": [{"path": "/usr/bin/hook"}]})
    );
    assert_eq!(linux(&json)["intelRdt"], json!({"closID": "gold"}));
    it.cdi = Edits::default();
    assert_eq!(it.json().get("hooks"), None);
}

#[test]
fn files_of_the_daemons_making_give_way_to_the_requests_mounts() {
    let own = |path: &str| OwnFile {
        destination: path.into(),
        source: format!("/run/bundle{path}").into(),
    };
    let mut it = Fixture::minimal();
    it.own_files = vec![
        own("/etc/passwd"),
        own("/etc/localtime"),
        own("/run/secrets"),
    ];
    let source = |it: &Fixture, path: &str| {
        let json = it.json();
        let mounts = json["mounts"].as_array().unwrap().clone();
        let found = mounts
            .iter()
            .find(|mount| mount["destination"] == path)?
            .clone();
        Some((found["source"].clone(), found["options"].clone()))
    };
    let (from, options) = source(&it, "/etc/passwd").unwrap();
    assert_eq!(from, "/run/bundle/etc/passwd");
    assert_eq!(
        options,
        json!(["bind", "nosuid", "noexec", "nodev", "rprivate", "rw"])
    );
    it.config.security.readonly_rootfs = true;
    assert_eq!(source(&it, "/etc/passwd").unwrap().1[5], "ro");
    it.mount("/etc/passwd", "/srv/passwd", |_| ());
    it.mount("/run/", "/srv/run", |_| ());
    assert_eq!(source(&it, "/etc/passwd").unwrap().0, "/srv/passwd");
    assert_eq!(source(&it, "/run/secrets"), None);
    assert!(source(&it, "/etc/localtime").is_some());
}
