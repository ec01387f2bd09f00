//! The security profiles that the configuration gives to containers, which may change while the
//! daemon runs. What has been made keeps what it was made with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Containers;
use crate::security::seccomp::Profile;

/// Default profiles.
#[derive(Debug, Default)]
pub struct Profiles {
    /// The seccomp profile of containers that ask for the default; `None` where the kernel has no
    /// seccomp.
    pub seccomp: Option<Arc<Profile>>,
    /// The seccomp profile of privileged containers; usually none.
    pub privileged_seccomp: Option<Arc<Profile>>,
    /// Default seccomp profiles of handlers that have one of their own, by handler.
    pub handler_seccomp: BTreeMap<String, Arc<Profile>>,
    /// The AppArmor profile of containers that ask for the default; `None`: they are unconfined.
    pub apparmor: Option<String>,
}

impl Profiles {
    /// The default seccomp profile of containers of a handler: its own, else the node's.
    pub(super) fn default_seccomp(&self, handler: &str) -> Option<&Profile> {
        let own = self.handler_seccomp.get(handler);
        own.or(self.seccomp.as_ref()).map(AsRef::as_ref)
    }
}

impl Containers {
    /// Gives these profiles to containers that are made from now on. A handler that is not among
    /// the `usable` ones keeps its profile: a container may be on its way that holds it already, and
    /// must not get the node's instead.
    pub fn set_profiles(&self, mut profiles: Profiles, usable: &[String]) {
        for (handler, profile) in &self.profiles.load().handler_seccomp {
            if !usable.contains(handler) {
                let kept = profiles.handler_seccomp.entry(handler.clone());
                kept.or_insert_with(|| Arc::clone(profile));
            }
        }
        self.profiles.store(Arc::new(profiles));
    }

    /// Looks for CDI specifications in these directories from now on (`cdi_spec_dirs`).
    pub fn set_cdi_dirs(&self, dirs: Vec<std::path::PathBuf>) {
        self.settings.cdi.set_dirs(dirs);
    }
}
