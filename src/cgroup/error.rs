//! What can go wrong with control groups, with the facts a user needs to mend it.

use std::path::PathBuf;
use std::time::Duration;

/// An operation on control groups that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// `linux.cgroup_parent` of a pod cannot be used.
    #[error("linux.cgroup_parent {parent:?}: {reason}")]
    Parent {
        /// The text of the request, cut to a printable length.
        parent: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A cgroup path that is not absolute and plain.
    #[error("cgroup path {path:?}: {reason}")]
    Path {
        /// The path, cut to a printable length.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// An id that cannot be part of a cgroup's name.
    #[error("id {id:?} cannot name a cgroup: it takes 1 to 128 letters, digits, '-' or '_'")]
    Id {
        /// The id, cut to a printable length.
        id: String,
    },

    /// `monitor_cgroup` has a value that the cgroup manager cannot honour.
    #[error(
        "monitor_cgroup = {setting:?}: cgroup_manager = \"cgroupfs\" takes \"\" or \"pod\", \
         \"systemd\" a slice or \"pod\""
    )]
    MonitorCgroup {
        /// The configured value.
        setting: String,
    },

    /// The systemd manager was asked for on a host that systemd does not run.
    #[error(
        "cgroup_manager = \"systemd\": systemd does not run this host (no /run/systemd/system); \
         set cgroup_manager = \"cgroupfs\" for this runtime and for the kubelet"
    )]
    NoSystemd,

    /// systemd cannot be asked for a unit.
    #[error(
        "systemd: {step} unit {unit}: no D-Bus connection: {problem}; \
         `systemctl status dbus.service` says whether the bus runs"
    )]
    NoBus {
        /// The unit.
        unit: String,
        /// What was to be done with it.
        step: &'static str,
        /// What went wrong, and at which socket.
        problem: String,
    },

    /// systemd refuses what was asked for.
    #[error("systemd: {step} unit {unit}: refused: {text} ({name})")]
    UnitRefused {
        /// The unit.
        unit: String,
        /// What was to be done with it.
        step: &'static str,
        /// The D-Bus error's name.
        name: String,
        /// What it says.
        text: String,
    },

    /// systemd's job for a unit has not succeeded.
    #[error(
        "systemd: {step} unit {unit}: its job {job} ended as {result:?}; \
         `journalctl -u {unit}` says why"
    )]
    UnitFailed {
        /// The unit.
        unit: String,
        /// What was to be done with it.
        step: &'static str,
        /// The job's object.
        job: String,
        /// The job's result, as `JobRemoved` has it.
        result: String,
    },

    /// systemd has not done its work in time.
    #[error(
        "systemd: {step} unit {unit}: not done after {waited:?}: {problem}; \
         `systemctl list-jobs` shows what it is busy with"
    )]
    UnitSlow {
        /// The unit.
        unit: String,
        /// What was to be done with it.
        step: &'static str,
        /// How long was waited.
        waited: Duration,
        /// What it waits for, or what the last try said.
        problem: String,
    },

    /// No cgroup file system is mounted.
    #[error(
        "no cgroup hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup`"
    )]
    NotMounted,

    /// A system call on a cgroup failed.
    #[error("cgroup {path:?}: {step}")]
    Io {
        /// The directory or file below the mount point.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },

    /// The cgroup does not exist, or no longer.
    #[error("cgroup {path:?} does not exist")]
    Gone {
        /// The cgroup path.
        path: String,
    },

    /// The process to be moved has ended.
    #[error("process {pid}: ended before it could be moved to cgroup {path:?}")]
    NoProcess {
        /// The process.
        pid: u32,
        /// The cgroup path.
        path: String,
    },

    /// A cgroup cannot be removed while processes live in it.
    #[error("cgroup {path:?} cannot be removed: processes {pids:?} live in it")]
    Busy {
        /// The directory.
        path: PathBuf,
        /// Some of the processes (empty if the kernel has not let go of dead ones yet).
        pids: Vec<u32>,
    },

    /// Killed processes have not ended in time: they hang in the kernel.
    #[error(
        "cgroup {path:?}: processes {pids:?} have not ended {waited:?} after SIGKILL; \
         they hang in the kernel (state D), often on a dead network file system or device"
    )]
    StillAlive {
        /// The cgroup path.
        path: String,
        /// The processes (at most sixteen).
        pids: Vec<u32>,
        /// How long was waited.
        waited: Duration,
    },

    /// The daemon itself lives in the cgroup that was to be killed.
    #[error("cgroup {path:?} holds this daemon: it is not killed")]
    OwnCgroup {
        /// The cgroup path.
        path: String,
    },

    /// More of something than any sane tree has.
    #[error("cgroup {path:?}: more than {limit} {what}")]
    TooMuch {
        /// The directory or file.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },

    /// A kernel file reads differently from what its documentation says.
    #[error("cgroup file {file}: {text:?} is not a number")]
    Format {
        /// The file's name.
        file: &'static str,
        /// What stands there, cut to a printable length.
        text: String,
    },
}

/// The longest piece of foreign text that an error repeats, in characters.
const QUOTED: usize = 200;

/// Cuts foreign text to what an error message may repeat.
pub(super) fn quote(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}
