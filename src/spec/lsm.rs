//! Linux security modules: which AppArmor profile and which SELinux labels a container gets.
//!
//! A host without the module: what is asked for means nothing and is passed over, as by CRI-O
//! (containerd refuses a named AppArmor profile there; the kubelet does not send such a pod).

use super::config::{ContainerConfig, NamespaceMode, Security, SecurityProfile, SelinuxOptions};
use super::error::SpecError;
use super::inputs::{Host, Inputs, Pod, Settings};
use crate::security::apparmor::UNCONFINED;
use crate::security::selinux::{self, Labels, SelinuxError, Wanted};

/// What the deprecated text field begins with for a profile of the node; the newer field's
/// `localhost_ref` may begin so too.
const LOCALHOST: &str = "localhost/";

/// The field that says which profile.
pub const APPARMOR_FIELD: &str = "security_context.apparmor";

/// Under which AppArmor profile a container runs, where the node has AppArmor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApparmorProfile {
    /// One of the node's, by name.
    Node(String),
    /// The configured default.
    Default,
    /// None.
    Unconfined,
}

/// The AppArmor profile of the process, if any.
pub(super) fn apparmor(
    security: &Security,
    settings: &Settings,
    host: &Host,
) -> Result<Option<String>, SpecError> {
    let profile = apparmor_profile(security)?;
    if !host.apparmor {
        return Ok(None);
    }
    Ok(match profile {
        ApparmorProfile::Node(name) => Some(name),
        ApparmorProfile::Default => settings.apparmor_default.clone(),
        ApparmorProfile::Unconfined => Some(UNCONFINED.to_owned()),
    })
}

/// The AppArmor profile that a container is to have. Whoever builds the spec has to see that it is
/// loaded, where the host has AppArmor.
///
/// # Errors
/// When the request names one that cannot be.
pub fn apparmor_profile(security: &Security) -> Result<ApparmorProfile, SpecError> {
    Ok(match wanted(security)? {
        Some(SecurityProfile::Localhost(name)) => ApparmorProfile::Node(name),
        Some(SecurityProfile::Unconfined) => ApparmorProfile::Unconfined,
        _ if security.privileged => ApparmorProfile::Unconfined,
        None | Some(SecurityProfile::RuntimeDefault) => ApparmorProfile::Default,
    })
}

/// The newer field wins over the text of the older one.
fn wanted(security: &Security) -> Result<Option<SecurityProfile>, SpecError> {
    let local = |name: &str, field: &str| match name.strip_prefix(LOCALHOST).unwrap_or(name) {
        "" => Err(SpecError::invalid(
            field,
            "the profile of the node has no name",
        )),
        name if name.contains(['\0', '\n']) => {
            let problem = "the profile's name has a NUL or a line break in it";
            Err(SpecError::invalid(field, problem))
        }
        name => Ok(Some(SecurityProfile::Localhost(name.to_owned()))),
    };
    match &security.apparmor {
        Some(SecurityProfile::Localhost(name)) => return local(name, APPARMOR_FIELD),
        Some(profile) => return Ok(Some(profile.clone())),
        None => {}
    }
    let field = "security_context.apparmor_profile";
    match security.apparmor_profile.as_str() {
        "" => Ok(None),
        "runtime/default" => Ok(Some(SecurityProfile::RuntimeDefault)),
        "unconfined" => Ok(Some(SecurityProfile::Unconfined)),
        text if text.starts_with(LOCALHOST) => local(text, field),
        text => {
            let shown: String = text.chars().take(128).collect();
            let problem =
                format!("`{shown}` is none of runtime/default, unconfined, localhost/<name>");
            Err(SpecError::invalid(field, problem))
        }
    }
}

/// A request's parts of a label.
pub fn selinux_options(options: Option<&SelinuxOptions>) -> Wanted<'_> {
    options.map_or_else(Wanted::default, |options| Wanted {
        user: &options.user,
        role: &options.role,
        kind: &options.kind,
        level: &options.level,
    })
}

/// The labels of a container in a pod with these. Its processes have none where it is privileged
/// or uses the node's processes or IPC, from which labels could not keep it apart.
pub fn selinux_labels(
    labels: &Labels,
    security: &Security,
    pod: &Pod,
) -> Result<Labels, SelinuxError> {
    let own = labels.of_container(&selinux_options(security.selinux.as_ref()))?;
    let options = security.namespaces.as_ref().unwrap_or(&pod.namespaces);
    let shares = [options.pid, options.ipc].contains(&NamespaceMode::Node);
    Ok(if security.privileged || shares {
        own.unconfined()
    } else {
        own
    })
}

/// Refuses to label what belongs to the node.
pub(super) fn check_relabel(config: &ContainerConfig, inputs: &Inputs) -> Result<(), SelinuxError> {
    let Some(labels) = inputs.selinux else {
        return Ok(());
    };
    let wanted = config.mounts.iter().zip(inputs.mount_sources).enumerate();
    for (index, (mount, source)) in wanted {
        if mount.selinux_relabel && labels.relabels() {
            selinux::check_relabel(index, &source.path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel has.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kernel {
        Off,
        NoDefault,
        On,
    }

    #[test]
    fn apparmor_by_host_field_and_old_text() {
        use Kernel::{NoDefault, Off, On};
        use SecurityProfile::{Localhost, RuntimeDefault, Unconfined};
        let local = |name: &str| Some(Localhost(name.into()));
        let (none, free) = (Ok(None), Ok(Some("unconfined")));
        let (ours, mine) = (Ok(Some("crio-default")), Ok(Some("mine")));
        let (unknown, nameless) = (Err("`nonsense` is none of"), Err("has no name"));
        let broken = Err("line break");
        for (kernel, privileged, new, old, want) in [
            (Off, false, None, "", none),
            (Off, false, Some(RuntimeDefault), "", none),
            (Off, false, None, "runtime/default", none),
            (Off, false, local("mine"), "", none),
            (Off, false, None, "localhost/mine", none),
            (Off, false, None, "nonsense", unknown),
            (NoDefault, false, None, "", none),
            (NoDefault, false, Some(RuntimeDefault), "", none),
            (NoDefault, false, local(""), "", nameless),
            (NoDefault, false, None, "localhost/", nameless),
            (NoDefault, false, local("a\nb"), "", broken),
            (On, false, None, "", ours),
            (On, false, None, "runtime/default", ours),
            (On, false, Some(RuntimeDefault), "unconfined", ours),
            (On, false, Some(Unconfined), "localhost/mine", free),
            (On, false, None, "unconfined", free),
            (On, false, local("mine"), "unconfined", mine),
            (On, false, local("localhost/mine"), "", mine),
            (On, false, None, "localhost/mine", mine),
            (On, false, None, "nonsense", unknown),
            (On, true, None, "", free),
            (On, true, Some(RuntimeDefault), "", free),
            (On, true, local("mine"), "", mine),
        ] {
            let security = Security {
                apparmor: new,
                apparmor_profile: old.into(),
                privileged,
                ..Security::default()
            };
            let settings = Settings {
                apparmor_default: (kernel == On).then(|| "crio-default".to_owned()),
                ..Settings::default()
            };
            let host = Host {
                apparmor: kernel != Off,
                ..Host::default()
            };
            match (apparmor(&security, &settings, &host), want) {
                (Ok(got), Ok(want)) => assert_eq!(got.as_deref(), want, "{security:?}"),
                (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
                (got, want) => panic!("{got:?}, not {want:?}: {security:?} {kernel:?}"),
            }
        }
    }

    #[test]
    fn what_shares_the_nodes_processes_has_no_label_for_its_own() {
        use super::super::config::NamespaceOptions;
        let labels = Labels {
            process: "u:r:container_t:s0:c1,c2".into(),
            mount: "u:object_r:container_file_t:s0:c1,c2".into(),
        };
        let options = |pid, ipc| NamespaceOptions {
            pid,
            ipc,
            ..NamespaceOptions::default()
        };
        use NamespaceMode::{Container, Node, Pod as OfPod};
        for (privileged, own, confined) in [
            (false, None, true),
            (true, None, false),
            (false, Some(options(Container, OfPod)), true),
            (false, Some(options(Node, OfPod)), false),
            (false, Some(options(Container, Node)), false),
        ] {
            let security = Security {
                privileged,
                namespaces: own,
                ..Security::default()
            };
            let got = selinux_labels(&labels, &security, &Pod::default()).unwrap();
            assert_eq!(got.process.is_empty(), !confined, "{security:?}");
            assert_eq!(got.mount, labels.mount);
        }
        let bad = SelinuxOptions {
            level: "x".into(),
            ..SelinuxOptions::default()
        };
        let security = Security {
            selinux: Some(bad),
            ..Security::default()
        };
        assert!(selinux_labels(&labels, &security, &Pod::default()).is_err());
    }
}
