//! Why something with a container did not work.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cdi::CdiError;
use crate::cgroup::CgroupError;
use crate::hooks::HookError;
use crate::image::ImageError;
use crate::runtime::RuntimeError;
use crate::security::apparmor::AppArmorError;
use crate::security::seccomp::SeccompError;
use crate::security::selinux::SelinuxError;
use crate::security::users::UserError;
use crate::spec::SpecError;
use crate::state::{ContainerName, Id, LookupError, RecordError};
use crate::storage::StorageError;
use crate::sys::ShuttingDown;
use crate::sys::outside::NoAnswer;

/// A container could not be made, started, stopped, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No container, or more than one, has this id.
    #[error("container {0}")]
    Lookup(#[from] LookupError),
    /// What was asked for cannot be.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field of the CRI message.
        field: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// A container of this name exists that is not what was asked for.
    #[error("container {name} exists already as {id}, and it has been started; remove it first")]
    Exists {
        /// The name.
        name: ContainerName,
        /// The container that has it.
        id: Id,
    },
    /// The image is not on this node.
    #[error("image `{image}` is not on this node; pull it first")]
    NoImage {
        /// As it was asked for.
        image: String,
    },
    /// An image cannot be mounted as a volume. The kubelet looks for the first word (cri-api
    /// pkg/errors).
    #[error("ImageVolumeMountFailed: mounts[{index}]: image `{image}`: {problem}")]
    ImageVolume {
        /// Which of the configuration's mounts.
        index: usize,
        /// The image as it was asked for.
        image: String,
        /// Why not.
        problem: String,
    },
    /// Only a created container can be started.
    #[error("container {id} cannot be started: {state}")]
    NotCreated {
        /// The container.
        id: Id,
        /// What it is instead.
        state: &'static str,
    },
    /// The call needs a running container.
    #[error("container {id} is not running")]
    NotRunning {
        /// The container.
        id: Id,
    },
    /// Only what is created or runs has limits.
    #[error("container {id} has ended: its resources cannot be updated any more")]
    NotUpdatable {
        /// The container.
        id: Id,
    },
    /// The node cannot write checkpoints. The beginning is what tests of Kubernetes look for.
    #[error("checkpoint/restore support not available: {reason}")]
    NoCheckpoints {
        /// Why, and what would help.
        reason: String,
    },
    /// The kernel would kill what runs in the container.
    #[error(
        "linux.memory_limit_in_bytes: {limit} is less than the {used} bytes that container {id} uses now"
    )]
    MemoryInUse {
        /// The container.
        id: Id,
        /// The limit that was asked for, in bytes.
        limit: i64,
        /// What it uses and cannot give back, in bytes.
        used: u64,
    },
    /// The call needs a container that has not ended.
    #[error("container {id} has ended, or is not made yet")]
    NotAlive {
        /// The container.
        id: Id,
    },
    /// As many clients are served in the container as may be at one time.
    #[error("container {id} serves {max} clients of this kind already; end one of them, or wait")]
    Busy {
        /// The container.
        id: Id,
        /// The bound.
        max: usize,
    },
    /// The command in the container did not end in time; it has been killed.
    #[error("command `{command}` in container {id} did not end within {} s and was killed", timeout.as_secs())]
    ExecTimedOut {
        /// The container.
        id: Id,
        /// The command.
        command: String,
        /// How long it had.
        timeout: Duration,
    },
    /// The container's processes do not go away.
    #[error("container {id}: pid {pid} is not gone {} s after SIGKILL: {state}", waited.as_secs())]
    Unkillable {
        /// The container.
        id: Id,
        /// Its first process.
        pid: i32,
        /// How long was waited.
        waited: Duration,
        /// What the kernel says the process is doing.
        state: String,
    },
    /// The file system of a mount's source does not answer.
    #[error(
        "mount source {}: {source}; is the server behind it reachable?", path.display()
    )]
    DeadMountSource {
        /// The source, as it was asked for.
        path: PathBuf,
        /// How long was waited.
        source: NoAnswer,
    },
    /// What an earlier checkpoint left lies where nothing answers: it is not forgotten for a new one.
    #[error("remove what an earlier checkpoint left beside {path}: {source}; look at its mount", path = path.display())]
    CheckpointRemains {
        /// That checkpoint's location.
        path: PathBuf,
        /// What was waited for.
        source: NoAnswer,
    },
    /// The file system of the log's directory does not answer.
    #[error("make the log directory {path}: {source}; look at its mount", path = path.display())]
    DeadLogDirectory {
        /// The directory.
        path: PathBuf,
        /// How long was waited.
        source: NoAnswer,
    },
    /// A file system call failed.
    #[error("{step} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The OCI spec cannot be built.
    #[error("{0}")]
    Spec(#[from] SpecError),
    /// A seccomp profile cannot be used.
    #[error("{0}")]
    Seccomp(#[from] SeccompError),
    /// An AppArmor profile cannot be used.
    #[error("{0}")]
    AppArmor(#[from] AppArmorError),
    /// SELinux labels cannot be, or not be given.
    #[error("{0}")]
    Selinux(#[from] SelinuxError),
    /// A CDI device cannot be had.
    #[error("{0}")]
    Cdi(#[from] CdiError),
    /// A hook that is for it cannot be used.
    #[error("{0}")]
    Hook(#[from] HookError),
    /// The user to run as cannot be found.
    #[error("{0}")]
    Users(#[from] UserError),
    /// The image could not be looked up.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// The root filesystem could not be made or removed.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// The OCI runtime or the monitor did not work.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// A control group could not be made or removed.
    #[error("{0}")]
    Cgroup(#[from] CgroupError),
    /// The record could not be written or read.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// It could not be ended, which has to come first.
    #[error("{0}")]
    NotStopped(Arc<ContainerError>),
    /// A blocking task was stopped, which happens only while the daemon ends.
    #[error("{0}")]
    ShuttingDown(#[from] ShuttingDown),
}
