//! What the node's security modules and device specifications give to containers: opened once, at
//! the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DaemonError;
use super::host::Kernel;
use crate::cdi;
use crate::config::{self, Config, Loaded};
use crate::container::{NodeDevice, NodeDevices, NodeFiles, Profiles};
use crate::hooks;
use crate::security::apparmor::{self, AppArmor};
use crate::security::seccomp::{Profile, SeccompError, Target};
use crate::security::selinux::{self, Selinux};

/// AppArmor and the profile of containers that ask for none; neither where the node has it off.
///
/// # Errors
/// When the configured profile is not there.
pub(super) fn apparmor(
    config: &Config,
    kernel: &Kernel,
) -> Result<(Option<AppArmor>, Option<String>), DaemonError> {
    if !kernel.apparmor {
        return Ok((None, None));
    }
    let node = AppArmor::at(Path::new(apparmor::KERNEL));
    let profile = node.prepare(&config.runtime.apparmor_profile)?;
    Ok((Some(node), profile))
}

/// Seccomp profiles of handlers that have one of their own, by handler.
pub(super) type HandlerProfiles = BTreeMap<String, Arc<Profile>>;

/// The handlers that can be used, with the seccomp profiles of their own. One whose profile cannot be
/// read is left out with a warning, as one whose program is missing, so that it does not take the
/// node down. Blocks.
///
/// # Errors
/// When the default handler cannot be used.
pub(super) fn handlers(
    loaded: &Loaded,
    kernel: &Kernel,
) -> Result<(config::Handlers, HandlerProfiles), DaemonError> {
    let mut found = config::handlers(loaded)?;
    let mut profiles = HandlerProfiles::new();
    let target = Target::native(kernel.version);
    found.leave_out(loaded, "seccomp_profile", |handler| {
        let own = handler.settings.seccomp_profile.as_ref();
        let read = Profile::load(own.filter(|_| kernel.seccomp)?, target);
        let read = read.map(|profile| profiles.insert(handler.name.clone(), Arc::new(profile)));
        read.err()
    })?;
    Ok((found, profiles))
}

/// The seccomp profile of containers that ask for the default. Blocks.
fn default_seccomp(config: &Config, kernel: &Kernel) -> Result<Option<Arc<Profile>>, SeccompError> {
    let target = Target::native(kernel.version);
    let profile = match &config.runtime.seccomp_profile {
        _ if !kernel.seccomp => return Ok(None),
        Some(path) => Profile::load(path, target)?,
        None => Profile::embedded(target)?,
    };
    Ok(Some(Arc::new(profile)))
}

/// The seccomp profile of privileged containers. Blocks.
fn privileged_seccomp(
    config: &Config,
    kernel: &Kernel,
) -> Result<Option<Arc<Profile>>, SeccompError> {
    let path = config.runtime.privileged_seccomp_profile.as_ref();
    let read = |path: &PathBuf| Profile::load(path, Target::native(kernel.version));
    Ok(path.map(read).transpose()?.map(Arc::new))
}

/// The profiles that the configuration gives to containers. Blocks.
///
/// # Errors
/// When one cannot be read.
pub(super) fn profiles(
    config: &Config,
    kernel: &Kernel,
    handler_seccomp: HandlerProfiles,
    apparmor: Option<String>,
) -> Result<Profiles, SeccompError> {
    Ok(Profiles {
        seccomp: default_seccomp(config, kernel)?,
        privileged_seccomp: privileged_seccomp(config, kernel)?,
        handler_seccomp,
        apparmor,
    })
}

/// What is wrong with the node's files and profiles for containers, as the daemon with this
/// configuration would find it, each in one line. Blocks.
pub(super) fn check(loaded: &Loaded) -> Vec<String> {
    let (config, kernel) = (&loaded.config, Kernel::facts());
    let profile = &config.runtime.apparmor_profile;
    let node = kernel
        .apparmor
        .then(|| AppArmor::at(Path::new(apparmor::KERNEL)));
    let faults = [
        default_seccomp(config, &kernel)
            .err()
            .map(|error| format!("seccomp_profile: {error}")),
        privileged_seccomp(config, &kernel)
            .err()
            .map(|error| format!("privileged_seccomp_profile: {error}")),
        node.and_then(|node| node.look(profile).err())
            .map(|error| error.to_string()),
        config::localtime(loaded)
            .err()
            .map(|error| error.to_string()),
        config::default_mounts(loaded)
            .err()
            .map(|error| error.to_string()),
    ];
    faults.into_iter().flatten().collect()
}

/// SELinux, where the configuration wants it and the node has it.
///
/// # Errors
/// When the node's policy knows no containers and somebody wants them labelled. Where nobody has
/// said so, the log warns, and pods are made without labels, as by CRI-O.
pub(super) fn selinux(loaded: &Loaded) -> Result<Option<Arc<Selinux>>, DaemonError> {
    let kernel = Path::new(selinux::KERNEL);
    if !loaded.config.runtime.selinux {
        if selinux::is_enforcing(kernel) {
            tracing::warn!(
                "selinux = false: pods are not kept apart by SELinux, which this node enforces; \
                 remove the key to follow the node"
            );
        }
        return Ok(None);
    }
    let opened = match Selinux::open(Path::new(selinux::POLICIES), kernel) {
        Err(error) if loaded.origins.of_machine("crio.runtime.selinux") => {
            tracing::warn!(
                %error,
                "pods are not kept apart by SELinux, which this node has on: install the policy for \
                 containers (package container-selinux)"
            );
            return Ok(None);
        }
        opened => opened?,
    };
    if opened.is_none() {
        tracing::warn!("selinux = true has no effect: SELinux is off on this node");
    }
    Ok(opened.map(Arc::new))
}

pub(super) fn cdi(config: &Config) -> cdi::Registry {
    cdi::Registry::new(config.runtime.cdi_spec_dirs.clone())
}

/// The node's hook files. What is wrong with one is in the log from the start on, not only when a
/// container is made.
pub(super) fn hooks(config: &Config) -> hooks::Directories {
    let directories = hooks::Directories::new(config.runtime.hooks_dir.clone());
    drop(directories.problems());
    directories
}

pub(super) fn devices(config: &Config) -> NodeDevices {
    let device = |device: &config::Device| NodeDevice {
        host: device.host.clone(),
        container: device.container.clone(),
        access: device.access.clone(),
    };
    NodeDevices {
        for_all: config
            .runtime
            .additional_devices
            .iter()
            .map(device)
            .collect(),
        by_annotation: config.runtime.allowed_devices.clone(),
    }
}

/// Files of the node for every container.
///
/// # Errors
/// When one that the configuration names cannot be read.
pub(super) fn files(loaded: &Loaded) -> Result<NodeFiles, DaemonError> {
    Ok(NodeFiles {
        localtime: config::localtime(loaded)?,
        subscriptions: config::default_mounts(loaded)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration with these keys, on a machine with two OCI runtimes.
    fn loaded(dir: &Path, text: &str) -> Loaded {
        use std::os::unix::fs::PermissionsExt;
        for name in ["crun", "runc", "cricket-conmon"] {
            let path = dir.join(name);
            std::fs::write(&path, " of cricket\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let file = dir.join("crio.conf");
        std::fs::write(&file, text).unwrap();
        let flag = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
        config::load(&config::Sources {
            flags: [
                flag("config", file.to_str().unwrap()),
                flag("config-dir", ""),
            ]
            .into(),
            search_path: Some(dir.into()),
            ..config::Sources::default()
        })
        .unwrap()
    }

    const KERNEL: Kernel = Kernel {
        seccomp: true,
        apparmor: false,
        version: (6, 1),
    };

    #[test]
    fn a_handler_with_a_broken_profile_is_left_out_unless_it_is_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let (good, broken) = (dir.path().join("good"), dir.path().join("broken"));
        std::fs::write(&good, r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
        std::fs::write(&broken, "{").unwrap();
        let handler = |name: &str, profile: &Path| {
            format!(
                "[crio.runtime.runtimes.{name}]\nruntime_path = \"{}/crun\"\nseccomp_profile = \"{}\"\n",
                dir.path().display(),
                profile.display()
            )
        };
        let missing = dir.path().join("missing");
        let text = [
            handler("a", &good),
            handler("b", &broken),
            handler("c", &missing),
            // left out already: its profile is not read
            handler("d", &missing).replace("/crun", "/gone"),
        ]
        .concat();
        let (found, profiles) = handlers(&loaded(dir.path(), &text), &KERNEL).unwrap();
        let names: Vec<_> = found.ready.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "crun", "runc"]);
        assert_eq!(profiles.keys().collect::<Vec<_>>(), ["a"]);
        let said: Vec<_> = found.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        for (said, words) in said.iter().zip([
            ["runtime handler `d`", "gone: No such file"],
            ["crio.conf:6:1: runtime handler `b`: seccomp profile", "EOF"],
            [
                "crio.conf:9:1: runtime handler `c`: seccomp profile",
                "No such file",
            ],
        ]) {
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
            assert!(said.ends_with("; the handler is left out"), "{said}");
        }
        // A kernel without seccomp has no use for them.
        let without = Kernel {
            seccomp: false,
            ..KERNEL
        };
        let (found, profiles) = handlers(&loaded(dir.path(), &text), &without).unwrap();
        assert_eq!((found.ready.len(), profiles.len()), (5, 0));

        let text = format!("[crio.runtime]\ndefault_runtime = \"b\"\n{text}");
        let error = handlers(&loaded(dir.path(), &text), &KERNEL).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("seccomp profile") && error.contains("broken"),
            "{error}"
        );
    }

    #[test]
    fn the_check_names_each_file_that_the_daemon_would_not_start_with() {
        let dir = tempfile::tempdir().unwrap();
        let check_with =
            |text: &str| check(&loaded(dir.path(), &format!("[crio.runtime]\n{text}")));
        for (text, want) in [
            (
                "seccomp_profile = \"/no/a\"\n",
                "seccomp_profile: seccomp profile /no/a: ",
            ),
            (
                "privileged_seccomp_profile = \"/no/b\"\n",
                "privileged_seccomp_profile: seccomp profile /no/b: ",
            ),
            ("timezone = \"No/Zone\"\n", "timezone: "),
            (
                "default_mounts_file = \"/no/c\"\n",
                "default_mounts_file: /no/c: ",
            ),
        ] {
            // no word about AppArmor, which this machine may have on
            let text = format!("apparmor_profile = \"unconfined\"\n{text}");
            let said = check_with(&text);
            assert!(
                said.len() == 1 && said[0].starts_with(want),
                "{want}: {said:?}"
            );
        }
        assert!(check_with("apparmor_profile = \"unconfined\"\n").is_empty());
    }
}
