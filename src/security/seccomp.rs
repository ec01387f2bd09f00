//! Seccomp profiles: from the JSON of containers/common (or plain OCI) to the filter of one
//! container.
//!
//! A profile says what it filters for every architecture, kernel and set of capabilities. What
//! is fixed for this machine is decided once, when the profile is parsed; what depends on the
//! container's capabilities when its filter is made. A parsed profile is kept small, since the
//! default one lives as long as the daemon: names of a rule are one string, separated by spaces.
//!
//! Unknown system call names pass through (runc skips what its libseccomp does not know, and
//! profiles name the calls of many kernels). Unknown actions, operators, architectures, flags
//! and capabilities are errors: a rule that is not understood may be the one that matters.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};

use super::capabilities::CapSet;

mod document;

/// The most that is read of a profile file; the default one has 16 kB.
pub const MAX_PROFILE_BYTES: u64 = 1 << 20;

/// The profile that this program carries, unchanged from containers/common 0.50.1 (Apache-2.0) as
/// Debian packs it in golang-github-containers-common.
const EMBEDDED: &str = include_str!("../../contrib/seccomp.json");

/// What can be wrong with a profile.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The file cannot be read.
    #[error("seccomp profile {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a regular file: reading a pipe or a device could block for ever.
    #[error("seccomp profile {}: not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Larger than [`MAX_PROFILE_BYTES`].
    #[error("seccomp profile {}: larger than {MAX_PROFILE_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not JSON, or not of the shape of a profile.
    #[error("seccomp profile {}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// With line and column.
        source: serde_json::Error,
    },
    /// A field with a value that has no meaning.
    #[error("seccomp profile {}: {field}: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Where in it: `syscalls[3].action`.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

/// The machine that a profile is parsed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The architecture as profiles call it in `arches`: Go's name (`amd64`).
    pub go_arch: &'static str,
    /// The architecture as libseccomp calls it.
    pub arch: Arch,
    /// The kernel's version, major and minor.
    pub kernel: (u32, u32),
}

impl Target {
    /// The architecture this program is built for, with the kernel it runs on.
    pub const fn native(kernel: (u32, u32)) -> Target {
        #[cfg(target_arch = "x86_64")]
        return Target {
            go_arch: "amd64",
            arch: Arch::ScmpArchX86_64,
            kernel,
        };
        #[cfg(target_arch = "aarch64")]
        return Target {
            go_arch: "arm64",
            arch: Arch::ScmpArchAarch64,
            kernel,
        };
    }
}

/// A profile, parsed for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    default_action: LinuxSeccompAction,
    default_errno: Option<u32>,
    architectures: Box<[Arch]>,
    flags: Box<[LinuxSeccompFilterFlag]>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    rules: Box<[Rule]>,
}

/// One rule that this machine can need.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Names of system calls, separated by single spaces.
    names: Box<str>,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    args: Box<[LinuxSeccompArg]>,
    /// Applies only with all of these.
    needs: CapSet,
    /// Applies only with none of these.
    excludes: CapSet,
}

impl Profile {
    /// The profile that this program carries.
    pub fn embedded(target: Target) -> Result<Profile, SeccompError> {
        Profile::parse(
            Path::new("contrib/seccomp.json (built in)"),
            EMBEDDED.as_bytes(),
            target,
        )
    }

    /// Reads a profile file of the node. Blocks.
    pub fn load(path: &Path, target: Target) -> Result<Profile, SeccompError> {
        let fault = |source| SeccompError::Read {
            path: path.to_owned(),
            source,
        };
        // without O_NONBLOCK the open of a pipe would wait for a writer
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(fault)?;
        if !file.metadata().map_err(fault)?.is_file() {
            return Err(SeccompError::NotAFile {
                path: path.to_owned(),
            });
        }
        let mut text = Vec::new();
        file.take(MAX_PROFILE_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(fault)?;
        if text.len() as u64 > MAX_PROFILE_BYTES {
            return Err(SeccompError::TooLarge {
                path: path.to_owned(),
            });
        }
        Profile::parse(path, &text, target)
    }

    /// Parses a profile; `path` is for messages alone.
    pub fn parse(path: &Path, text: &[u8], target: Target) -> Result<Profile, SeccompError> {
        let json = |source| SeccompError::Json {
            path: path.to_owned(),
            source,
        };
        let document: document::Document = serde_json::from_slice(text).map_err(json)?;
        document
            .compile(target)
            .map_err(|problem| SeccompError::Field {
                path: path.to_owned(),
                field: problem.field,
                problem: problem.text,
            })
    }

    /// The filter of a container with this bounding set.
    pub fn filter(&self, bounding: CapSet) -> LinuxSeccomp {
        let applies =
            |rule: &&Rule| bounding.contains(rule.needs) && !bounding.intersects(rule.excludes);
        let syscalls: Vec<_> = self
            .rules
            .iter()
            .filter(applies)
            .map(Rule::syscall)
            .collect();
        let mut filter = LinuxSeccomp::default();
        filter.set_default_action(self.default_action);
        filter.set_default_errno_ret(self.default_errno);
        filter.set_architectures(Some(self.architectures.to_vec()));
        filter.set_syscalls(Some(syscalls));
        if !self.flags.is_empty() {
            filter.set_flags(Some(self.flags.to_vec()));
        }
        filter.set_listener_path(self.listener_path.clone());
        filter.set_listener_metadata(self.listener_metadata.clone());
        filter
    }
}

impl Rule {
    fn syscall(&self) -> LinuxSyscall {
        let mut syscall = LinuxSyscall::default();
        syscall.set_names(self.names.split(' ').map(str::to_owned).collect());
        syscall.set_action(self.action);
        syscall.set_errno_ret(self.errno);
        if !self.args.is_empty() {
            syscall.set_args(Some(self.args.to_vec()));
        }
        syscall
    }
}

#[cfg(test)]
mod tests;
