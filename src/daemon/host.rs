//! What this machine, and the daemon's own process on it, can do: found out once, at the start.

use std::fs;
use std::path::Path;

use crate::cgroup::{Cgroups, Version};
use crate::security::capabilities::{CapSet, CapabilityError};
use crate::spec::inputs::Host;

/// The kernel's word on whether it filters system calls.
const SECCOMP: &str = "/proc/sys/kernel/seccomp";
/// `Y` when AppArmor is on.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";

/// MAX_ARG_STRLEN of exec(2): 32 pages, whatever their size.
const EXEC_STRING_PAGES: usize = 32;

/// What the kernel can that decides about profiles of containers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// It filters system calls.
    pub seccomp: bool,
    /// AppArmor is on.
    pub apparmor: bool,
    /// Its version, major and minor; 0.0 when it does not say.
    pub version: (u32, u32),
}

impl Kernel {
    /// Asks it.
    pub(super) fn facts() -> Self {
        Self {
            seccomp: Path::new(SECCOMP).exists(),
            apparmor: fs::read_to_string(APPARMOR).is_ok_and(|enabled| enabled.starts_with('Y')),
            version: kernel(),
        }
    }
}

/// Asks the kernel.
///
/// # Errors
/// When the daemon cannot read its own capabilities.
pub(super) fn facts(cgroups: &Cgroups, kernel: &Kernel) -> Result<Host, CapabilityError> {
    let controllers = cgroups.controllers();
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    let sys_resource = CapSet::named("SYS_RESOURCE")?;
    Ok(Host {
        bounding: CapSet::own_bounding()?,
        cgroup_v2: cgroups.version() == Version::V2,
        hugetlb: controllers.hugetlb,
        swap_accounting: controllers.swap,
        own_oom_score_adj: own.trim().parse().unwrap_or(0),
        can_lower_oom: CapSet::own_effective()?.contains(sys_resource),
        seccomp: kernel.seccomp,
        apparmor: kernel.apparmor,
        longest_string: Some(EXEC_STRING_PAGES * rustix::param::page_size()),
        kernel: kernel.version,
    })
}

fn kernel() -> (u32, u32) {
    let release = nix::sys::utsname::uname().ok();
    let release = release
        .as_ref()
        .and_then(|names| names.release().to_str())
        .unwrap_or_default();
    version_of(release)
}

fn version_of(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_release_begins_with_its_version() {
        for (release, version) in [
            ("6.18.44-fc-v669", (6, 18)),
            ("5.4.0", (5, 4)),
            ("7.0-rc1", (7, 0)),
            ("", (0, 0)),
        ] {
            assert_eq!(version_of(release), version);
        }
        assert!(kernel() >= (4, 0));
    }
}
