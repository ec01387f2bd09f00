//! Which seccomp profile a container gets.
//!
//! Absent means unconfined, but an empty profile message means the default one: its type is 0.
//! A privileged container ignores what it was given (critest insists).

use oci_spec::runtime::LinuxSeccomp;

use super::config::{Security, SecurityProfile};
use super::error::SpecError;
use super::inputs::{Host, SeccompProfiles};
use crate::security::capabilities::CapSet;

pub(super) fn seccomp(
    security: &Security,
    profiles: SeccompProfiles,
    bounding: CapSet,
    host: &Host,
) -> Result<Option<LinuxSeccomp>, SpecError> {
    let profile = match &security.seccomp {
        _ if security.privileged => profiles.privileged,
        None | Some(SecurityProfile::Unconfined) => None,
        Some(SecurityProfile::RuntimeDefault) => profiles.default,
        Some(SecurityProfile::Localhost(file)) => {
            if !host.seccomp {
                return Err(SpecError::NoSeccomp {
                    profile: file.clone(),
                });
            }
            let problem = || format!("profile {file} was not read");
            let missing = || SpecError::invalid("security_context.seccomp", problem());
            Some(profiles.localhost.ok_or_else(missing)?)
        }
    };
    Ok(profile
        .filter(|_| host.seccomp)
        .map(|profile| profile.filter(bounding)))
}

/// The file of a `Localhost` profile that has to be read for this container, checked.
pub fn localhost_profile(security: &Security) -> Result<Option<&str>, SpecError> {
    match &security.seccomp {
        Some(SecurityProfile::Localhost(file)) if !security.privileged => {
            super::paths::check("security_context.seccomp", file)?;
            if !file.starts_with('/') {
                let problem = format!("profile `{file}` is not an absolute path");
                return Err(SpecError::invalid("security_context.seccomp", problem));
            }
            Ok(Some(file))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::security::seccomp::{Profile, Target};

    fn profile(action: &str) -> Profile {
        let text = format!(r#"{{"defaultAction":"{action}"}}"#);
        Profile::parse(Path::new("p"), text.as_bytes(), Target::native((6, 1))).unwrap()
    }

    #[test]
    fn the_profile_follows_the_cri() {
        use SecurityProfile::{Localhost, RuntimeDefault, Unconfined};
        let (log, errno, kill) = (
            profile("SCMP_ACT_LOG"),
            profile("SCMP_ACT_ERRNO"),
            profile("SCMP_ACT_KILL"),
        );
        let profiles = SeccompProfiles {
            default: Some(&log),
            localhost: Some(&errno),
            privileged: Some(&kill),
        };
        let none = SeccompProfiles::default();
        let local = || Some(Localhost("/p.json".into()));
        for (wanted, privileged, profiles, on, want) in [
            (None, false, profiles, true, Ok("")),
            (
                Some(SecurityProfile::default()),
                false,
                profiles,
                true,
                Ok("SCMP_ACT_LOG"),
            ),
            (Some(RuntimeDefault), false, none, true, Ok("")),
            (Some(RuntimeDefault), false, profiles, false, Ok("")),
            (Some(Unconfined), false, profiles, true, Ok("")),
            (local(), false, profiles, true, Ok("SCMP_ACT_ERRNO")),
            (
                local(),
                false,
                profiles,
                false,
                Err("the kernel has no seccomp"),
            ),
            (local(), false, none, true, Err("/p.json was not read")),
            (local(), true, none, true, Ok("")),
            (None, true, profiles, true, Ok("SCMP_ACT_KILL")),
            (local(), true, profiles, false, Ok("")),
        ] {
            let security = Security {
                seccomp: wanted,
                privileged,
                ..Security::default()
            };
            let host = Host {
                seccomp: on,
                ..Host::default()
            };
            let got = seccomp(&security, profiles, CapSet::EMPTY, &host);
            match (got, want) {
                (Ok(None), Ok("")) => {}
                (Ok(Some(got)), Ok(want)) => assert_eq!(got.default_action().to_string(), want),
                (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
                (got, want) => panic!("{got:?}, not {want:?} for {security:?}"),
            }
        }
    }

    #[test]
    fn only_an_absolute_path_is_read() {
        let with = |file: &str, privileged| Security {
            seccomp: Some(SecurityProfile::Localhost(file.into())),
            privileged,
            ..Security::default()
        };
        assert_eq!(
            localhost_profile(&with("/p.json", false)).unwrap(),
            Some("/p.json")
        );
        assert_eq!(localhost_profile(&with("p.json", true)).unwrap(), None);
        assert_eq!(localhost_profile(&Security::default()).unwrap(), None);
        for bad in ["p.json", "", "localhost/p.json"] {
            assert!(localhost_profile(&with(bad, false)).is_err(), "{bad}");
        }
    }
}
