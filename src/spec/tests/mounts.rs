//! Which mounts there are, and which cannot be.

use serde_json::Value;

use super::super::config::{
    IdMapping, ImageSpec, Mount, NamespaceMode, Propagation, UserNamespace,
};
use super::super::fixture::{Fixture, map};
use super::super::inputs::Peers;
use super::{destinations, refuses};
use crate::security::selinux::Labels;

fn range() -> Vec<IdMapping> {
    vec![IdMapping {
        host_id: 100_000,
        container_id: 0,
        length: 65_536,
    }]
}

/// A container in a pod with a user namespace.
fn mapped() -> Fixture {
    let mut it = Fixture::minimal();
    it.pod.namespaces.userns = Some(UserNamespace {
        mode: NamespaceMode::Pod,
        uids: range(),
        gids: range(),
    });
    it.pod.userns = Some("/run/userns/pod".into());
    it
}

#[test]
fn a_pods_user_namespace_is_joined_and_its_volumes_are_idmapped() {
    let mut it = mapped();
    it.mount("/data", "/srv", |m| {
        (m.uid_mappings, m.gid_mappings) = (range(), range());
    });
    let json = it.json();
    let ids = serde_json::json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    assert_eq!(json["linux"]["uidMappings"], ids);
    assert_eq!(json["linux"]["gidMappings"], ids);
    let spaces = json["linux"]["namespaces"].as_array().unwrap();
    let user = serde_json::json!({"type": "user", "path": "/run/userns/pod"});
    assert!(spaces.contains(&user), "{spaces:?}");
    let data = mount_at(&json, "/data");
    assert_eq!(data["uidMappings"], ids);
    assert_eq!(data["gidMappings"], ids);
    assert!(
        data["options"]
            .as_array()
            .unwrap()
            .contains(&"idmap".into())
    );
    assert_eq!(mount_at(&json, "/sys")["type"], "sysfs");
}

#[test]
fn a_user_namespace_without_a_tty_group_or_a_network_gets_mounts_that_it_may_make() {
    let mut it = mapped();
    let options = |it: &Fixture, at: &str| mount_at(&it.json(), at)["options"].to_string();
    assert!(options(&it, "/dev/pts").contains("gid=5"));
    it.pod.namespaces.userns.as_mut().unwrap().gids[0].length = 5;
    assert!(!options(&it, "/dev/pts").contains("gid="));
    it.pod.namespaces.network = NamespaceMode::Node;
    it.pod.netns = None;
    let sys = mount_at(&it.json(), "/sys").clone();
    assert_eq!(
        (&sys["type"], &sys["source"]),
        (&"bind".into(), &"/sys".into())
    );
    for option in ["rbind", "rro"] {
        assert!(sys["options"].to_string().contains(option), "{sys}");
    }
}

fn mount_at<'a>(json: &'a Value, at: &str) -> &'a Value {
    let mounts = json["mounts"].as_array().unwrap();
    mounts
        .iter()
        .find(|mount| mount["destination"] == at)
        .unwrap()
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

fn data(it: &mut Fixture, change: fn(&mut Mount)) {
    it.mount("/data", "/srv", change);
}

#[test]
fn a_mount_that_cannot_be_by_its_text_is_refused() {
    refuses(&[
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
    ]);
}

#[test]
fn a_mount_whose_source_or_host_does_not_fit_is_refused() {
    refuses(&[
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
            "mounts[0].host_path: is given together with an image",
        ),
        (
            |it| data(it, |m| m.uid_mappings = vec![IdMapping::default()]),
            "mounts[0].uidMappings and gidMappings: one is set",
        ),
        (
            |it| {
                data(it, |m| {
                    (m.uid_mappings, m.gid_mappings) = (range(), range())
                })
            },
            "mounts[0].uidMappings and gidMappings: the pod has no user namespace",
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
                it.sources[0].path = "/var/lib".into();
                it.selinux = Some(Labels {
                    process: "u:r:container_t:s0:c1,c2".into(),
                    mount: "u:object_r:container_file_t:s0:c1,c2".into(),
                });
            },
            "mounts[0].selinux_relabel: SELinux relabeling of /var/lib is not allowed",
        ),
        (
            |it| {
                use std::os::unix::ffi::OsStrExt;
                data(it, |_| ());
                it.sources[0].path = std::ffi::OsStr::from_bytes(b"/\xff").into();
            },
            "mounts[0].host_path: resolves to a path not in UTF-8",
        ),
    ]);
}

#[test]
fn an_image_is_bound_read_only_from_where_it_is_mounted() {
    let mut it = Fixture::minimal();
    it.mount("/data", "/store/images/0", |m| {
        m.readonly = true;
        m.host_path.clear();
        m.image = Some(ImageSpec {
            image: "x".into(),
            ..ImageSpec::default()
        });
        m.mount_options = vec!["noexec".into()];
    });
    let json = it.json();
    let mounts = json["mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|m| m["destination"] == "/data").unwrap();
    assert_eq!(mount["source"], "/store/images/0");
    assert_eq!(
        mount["options"],
        serde_json::json!(["rbind", "rprivate", "ro", "nosuid", "nodev", "noexec"])
    );
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
fn a_node_that_is_read_only_makes_every_root_so_also_that_of_a_privileged_container() {
    // CRI-O's `ReadOnly` asks for the key and the request, and not for privileges.
    for privileged in [false, true] {
        let mut it = Fixture::minimal();
        it.settings.read_only = true;
        it.pod.privileged = privileged;
        it.config.security.privileged = privileged;
        let json = it.json();
        assert_eq!(json["root"]["readonly"], true);
        let mounts = json["mounts"].as_array().unwrap();
        for path in ["/run", "/tmp", "/var/tmp"] {
            let on = |mount: &&serde_json::Value| mount["destination"] == path;
            assert_eq!(mounts.iter().find(on).unwrap()["type"], "tmpfs", "{path}");
        }
    }
}

#[test]
fn a_pod_may_ask_to_write_to_its_cgroups_of_v2() {
    let key = "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw";
    for (value, v2, want) in [
        ("true", true, "rw"),
        ("true", false, "ro"),
        ("yes", true, "ro"),
    ] {
        let mut it = Fixture::minimal();
        it.pod.annotations = map(&[(key, value)]);
        it.host.cgroup_v2 = v2;
        let json = it.json();
        let options = mount_at(&json, "/sys/fs/cgroup")["options"].as_array();
        assert_eq!(options.unwrap().last().unwrap(), want, "{value} {v2}");
        assert!(
            mount_at(&json, "/sys")["options"]
                .to_string()
                .contains("\"ro\"")
        );
    }
}
