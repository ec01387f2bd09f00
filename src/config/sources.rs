//! What the configuration is made of besides the files: flags, environment, and where this binary is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Everything outside of the files that the configuration depends on.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The values of the flags that were given, by the flag's name without dashes.
    pub flags: BTreeMap<String, Vec<String>>,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// $PATH.
    pub search_path: Option<OsString>,
    /// The daemon's own binary, beside which conmon and pause are looked for.
    pub executable: Option<PathBuf>,
    /// Whether systemd runs the host.
    pub systemd: bool,
    /// Whether the host's kernel has SELinux on.
    pub selinux: bool,
}

/// systemd makes this directory when it is PID 1 (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

impl Sources {
    /// The sources of this process with the given flags. `selinux` is asked of the room that knows
    /// it.
    pub fn of_process(flags: BTreeMap<String, Vec<String>>, selinux: bool) -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            flags,
            variables: std::env::vars_os().filter_map(text).collect(),
            search_path: std::env::var_os("PATH"),
            executable: std::env::current_exe().ok(),
            systemd: Path::new(SYSTEMD).is_dir(),
            selinux,
        }
    }
}
