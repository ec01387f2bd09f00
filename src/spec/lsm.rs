//! Linux security modules: AppArmor and SELinux.
//!
//! SELinux labels and profiles of the node are not built yet: where the host could honour them
//! they are refused, where it has no such module they mean nothing.

use super::config::{ContainerConfig, Security, SecurityProfile};
use super::error::SpecError;
use super::inputs::{Host, Settings};

/// The AppArmor profile of the process, if any.
pub(super) fn apparmor(
    security: &Security,
    settings: &Settings,
    host: &Host,
) -> Result<Option<String>, SpecError> {
    let wanted = wanted(security)?;
    if let Some(SecurityProfile::Localhost(name)) = &wanted {
        if !host.apparmor {
            let problem = format!("profile `{name}` asked for, AppArmor is off on this host");
            return Err(SpecError::invalid("security_context.apparmor", problem));
        }
        return Err(SpecError::Unsupported {
            field: "security_context.apparmor Localhost",
        });
    }
    if !host.apparmor || security.privileged {
        return Ok(None);
    }
    match wanted {
        Some(SecurityProfile::Unconfined) => Ok(None),
        Some(_) if settings.apparmor_default.is_none() => Err(SpecError::Unsupported {
            field: "security_context.apparmor RuntimeDefault",
        }),
        _ => Ok(settings.apparmor_default.clone()),
    }
}

/// The newer field wins over the text of the older one.
fn wanted(security: &Security) -> Result<Option<SecurityProfile>, SpecError> {
    if security.apparmor.is_some() {
        return Ok(security.apparmor.clone());
    }
    match security.apparmor_profile.as_str() {
        "" => Ok(None),
        "runtime/default" => Ok(Some(SecurityProfile::RuntimeDefault)),
        "unconfined" => Ok(Some(SecurityProfile::Unconfined)),
        text => match text.strip_prefix("localhost/") {
            Some(name) => Ok(Some(SecurityProfile::Localhost(name.to_owned()))),
            None => Err(SpecError::invalid(
                "security_context.apparmor_profile",
                format!("`{text}` is none of runtime/default, unconfined, localhost/<name>"),
            )),
        },
    }
}

/// Refuses SELinux labels on a host that would have to honour them.
pub(super) fn check_selinux(config: &ContainerConfig, host: &Host) -> Result<(), SpecError> {
    if !host.selinux {
        return Ok(());
    }
    if config
        .security
        .selinux
        .as_ref()
        .is_some_and(|options| !options.is_empty())
    {
        return Err(SpecError::Unsupported {
            field: "security_context.selinux_options",
        });
    }
    if config.mounts.iter().any(|mount| mount.selinux_relabel) {
        return Err(SpecError::Unsupported {
            field: "mounts.selinux_relabel",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apparmor_by_host_field_and_old_text() {
        use SecurityProfile::{Localhost, RuntimeDefault, Unconfined};
        let local = || Some(Localhost("mine".into()));
        let ok = |name: &str| Ok((!name.is_empty()).then(|| name.to_owned()));
        for (on, loaded, new, old, want) in [
            (false, "", None, "", ok("")),
            (false, "", Some(RuntimeDefault), "", ok("")),
            (false, "", None, "runtime/default", ok("")),
            (false, "", local(), "", Err("AppArmor is off")),
            (
                false,
                "",
                None,
                "localhost/mine",
                Err("profile `mine` asked for"),
            ),
            (true, "", None, "", ok("")),
            (true, "", Some(RuntimeDefault), "", Err("not supported")),
            (true, "crio-default", None, "", ok("crio-default")),
            (
                true,
                "crio-default",
                Some(RuntimeDefault),
                "unconfined",
                ok("crio-default"),
            ),
            (true, "crio-default", Some(Unconfined), "", ok("")),
            (true, "crio-default", None, "unconfined", ok("")),
            (true, "crio-default", local(), "", Err("not supported")),
            (
                true,
                "crio-default",
                None,
                "nonsense",
                Err("`nonsense` is none of"),
            ),
        ] {
            let security = Security {
                apparmor: new,
                apparmor_profile: old.into(),
                ..Security::default()
            };
            let settings = Settings {
                apparmor_default: (!loaded.is_empty()).then(|| loaded.to_owned()),
                ..Settings::default()
            };
            let host = Host {
                apparmor: on,
                ..Host::default()
            };
            match (apparmor(&security, &settings, &host), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{security:?}"),
                (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
                (got, want) => panic!("{got:?}, not {want:?}: {security:?} {loaded} {on}"),
            }
        }
    }

    #[test]
    fn selinux_is_refused_only_where_it_would_count() {
        use super::super::config::{Mount, SelinuxOptions};
        let labelled = ContainerConfig {
            mounts: vec![Mount {
                selinux_relabel: true,
                ..Mount::default()
            }],
            security: Security {
                selinux: Some(SelinuxOptions {
                    level: "s0".into(),
                    ..SelinuxOptions::default()
                }),
                ..Security::default()
            },
            ..ContainerConfig::default()
        };
        assert!(check_selinux(&labelled, &Host::default()).is_ok());
        let on = Host {
            selinux: true,
            ..Host::default()
        };
        assert!(check_selinux(&labelled, &on).is_err());
        assert!(check_selinux(&ContainerConfig::default(), &on).is_ok());
    }
}
