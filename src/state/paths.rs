//! Where the volatile files of pods and containers are: a function of their ids alone.
//!
//! ```text
//! <runroot>/cricket/
//!   sandboxes/<id>/    record.json, resolv.conf, hostname, hosts, shm/ (tmpfs), pause/ (only with a shared PID namespace)
//!   containers/<id>/   the OCI bundle: record.json, config.json, conmon.sock, pidfile, exit
//!   pause/<id>/         the root filesystem of a sandbox's pause process: that program alone
//!   features.json      what the OCI runtimes said that they can do
//!   boot               the boot in which all this was recorded
//!   quarantine/        records that this version could not understand, kept for a person to look at
//! ```
//!
//! The run root is a tmpfs on every normal host, so a reboot clears all of it together with the
//! processes that it describes. Where it is on a disk, the start after a reboot clears it.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::records::create_private;
use super::{Id, RecordError};
use crate::sys::lock;
use crate::sys::resolved::resolved;

/// The daemon's own directory below `runroot`.
#[derive(Debug, Clone)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// The directory `cricket` below the configured `runroot`, which may be a link: by its real path
    /// processes and mounts are known again, and runc takes no other for a root filesystem.
    pub fn new(runroot: &Path) -> Self {
        Self {
            root: resolved(runroot).join("cricket"),
        }
    }

    /// Takes the directory for this daemon, for as long as the returned file is open.
    ///
    /// # Errors
    /// When another daemon has it, or it cannot be made.
    pub fn lock(&self) -> Result<File, RecordError> {
        let path = self.root.join("lock");
        let io = |step| {
            let path = path.clone();
            move |source| RecordError::Io { path, step, source }
        };
        create_private(&self.root).map_err(io("create the directory of"))?;
        let file = File::create(&path).map_err(io("create"))?;
        match lock::take(&file).map_err(io("lock"))? {
            true => Ok(file),
            false => Err(RecordError::InUse { path: path.clone() }),
        }
    }

    /// The file that says in which boot the records were made.
    pub(super) fn boot_note(&self) -> PathBuf {
        self.root.join("boot")
    }

    /// Whether a daemon, or a command that changes things in its place, has the directory. Blocks for
    /// a moment if so.
    ///
    /// # Errors
    /// When the lock cannot be looked at.
    pub fn is_locked(&self) -> Result<bool, RecordError> {
        let path = self.root.join("lock");
        let io = |step| {
            let path = path.clone();
            move |source| RecordError::Io { path, step, source }
        };
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            file => Ok(!lock::take(&file.map_err(io("open"))?).map_err(io("lock"))?),
        }
    }

    /// The daemon's own directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Parent of the root filesystems of pause processes.
    pub fn pauses(&self) -> PathBuf {
        self.root.join("pause")
    }

    /// Parent of all sandbox directories.
    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    /// Parent of all bundles.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Where records go that could not be understood.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// What the OCI runtimes said that they can do.
    pub fn features(&self) -> PathBuf {
        self.root.join("features.json")
    }

    /// The directory of one sandbox.
    pub fn sandbox(&self, id: &Id) -> PathBuf {
        self.sandboxes().join(id.as_str())
    }

    /// The root filesystem of one sandbox's pause process. It is not in the sandbox's directory, which
    /// is root's alone: in a user namespace the pod's root has to get to it.
    pub fn pause_root(&self, id: &Id) -> PathBuf {
        self.pauses().join(id.as_str())
    }

    /// The directory that all this is in: `runroot`.
    pub fn top(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// The bundle directory of one container.
    pub fn container(&self, id: &Id) -> PathBuf {
        self.containers().join(id.as_str())
    }
}
