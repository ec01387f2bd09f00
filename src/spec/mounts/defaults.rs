//! The mounts that every container has, and the files of its pod.

use std::path::Path;

use super::super::annotations;
use super::super::config::{NamespaceMode, NamespaceOptions};
use super::super::error::SpecError;
use super::super::inputs::{Inputs, OwnFile};
use super::super::paths;
use super::Mount;

/// What no file of the pod needs.
const PLAIN_FILE: [&str; 4] = ["bind", "nosuid", "noexec", "nodev"];

pub(in crate::spec) fn proc_mount() -> Mount {
    Mount::new("/proc", "proc", &["nosuid", "noexec", "nodev"])
}

/// `tty` in every distribution.
const TTY_GID: u32 = 5;

/// /dev and what is mounted below it.
fn device_mounts(pod: &NamespaceOptions) -> Vec<Mount> {
    let mut mounts = vec![
        Mount::new(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        Mount::new(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        Mount::new("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    // a user namespace that maps fewer ids has no such group, and the mount would fail
    if pod.mappings().is_none_or(|ids| ids.gids.length > TTY_GID) {
        mounts[1].options.push(format!("gid={TTY_GID}"));
    }
    mounts
}

/// /sys: sysfs shows the network namespace, and may be mounted only by the owner of that. So a pod
/// with a user namespace and the network of the node gets the node's, which none can write to.
fn sys_mount(pod: &NamespaceOptions, access: &str) -> Mount {
    let plain = ["nosuid", "noexec", "nodev"];
    if pod.mappings().is_some() && pod.network == NamespaceMode::Node {
        let mut mount = Mount::new("/sys", "bind", &plain).with("rbind").with("rro");
        "/sys".clone_into(&mut mount.source);
        return mount;
    }
    Mount::new("/sys", "sysfs", &plain).with(access)
}

pub(super) fn defaults(inputs: &Inputs) -> Result<Vec<Mount>, SpecError> {
    let access = if inputs.config.security.privileged {
        "rw"
    } else {
        "ro"
    };
    let mut mounts = vec![proc_mount()];
    let pod = &inputs.pod.namespaces;
    mounts.extend(device_mounts(pod));
    mounts.push(sys_mount(pod, access));
    let own_cgroup = match inputs.host.cgroup_v2 && annotations::cgroup_rw(&inputs.pod.annotations)
    {
        true => "rw",
        false => access,
    };
    mounts.push(
        Mount::new(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime"],
        )
        .with(own_cgroup),
    );
    if inputs.settings.read_only && !inputs.config.security.readonly_rootfs {
        for path in ["/run", "/tmp", "/var/tmp"] {
            mounts.push(Mount::new(
                path,
                "tmpfs",
                &["rw", "nosuid", "nodev", "mode=1777"],
            ));
        }
    }
    mounts.extend(pod_files(inputs)?);
    for volume in inputs.declared_volumes {
        let destination = paths::clean("the image's Volumes", &volume.destination)?;
        let options = ["rbind", "rprivate", "rw", "nodev"];
        mounts.push(bind(&destination, &volume.source, &options)?);
    }
    Ok(mounts)
}

fn pod_files(inputs: &Inputs) -> Result<Vec<Mount>, SpecError> {
    let files = &inputs.pod.files;
    let access = if inputs.config.security.readonly_rootfs {
        "ro"
    } else {
        "rw"
    };
    let mut mounts = Vec::new();
    for (destination, source) in [
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
        ("/run/.containerenv", &files.containerenv),
    ] {
        if let Some(source) = source {
            mounts.push(bind(destination, source, &PLAIN_FILE)?.with(access));
        }
    }
    if let Some(hosts) = &files.hosts {
        // the host's own file, not the pod's
        mounts.push(bind("/etc/hosts", hosts, &PLAIN_FILE)?.with("ro"));
    }
    let host_ipc = inputs.pod.namespaces.ipc == NamespaceMode::Node;
    let shm = if host_ipc {
        Some(Path::new("/dev/shm"))
    } else {
        files.shm.as_deref()
    };
    if let Some(shm) = shm {
        mounts.push(bind("/dev/shm", shm, &PLAIN_FILE)?.with("rw"));
    }
    Ok(mounts)
}

/// What the daemon made for the container, as writable as its root is.
pub(super) fn own_file(own: &OwnFile, inputs: &Inputs) -> Result<Mount, SpecError> {
    let access = if inputs.config.security.readonly_rootfs {
        "ro"
    } else {
        "rw"
    };
    Ok(bind(&own.destination, &own.source, &PLAIN_FILE)?
        .with("rprivate")
        .with(access))
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Result<Mount, SpecError> {
    let mut mount = Mount::new(destination, "bind", options);
    mount.source = source
        .to_str()
        .ok_or_else(|| SpecError::invalid(destination, "the path on the host is not UTF-8"))?
        .to_owned();
    Ok(mount)
}
