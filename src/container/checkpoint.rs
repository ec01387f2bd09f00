//! Checkpoint: a running container's processes and changed files as an archive in CRI-O's format,
//! by the OCI runtime and criu. The container goes on.
//!
//! It is frozen from before the dump until its files are read, so that both fit together and
//! nothing moves under the reader. The record says so first: a daemon that is killed meanwhile
//! leaves a frozen container, which the next one thaws, and the half of an archive and the memory of
//! processes beside the location, which the next one removes.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::archive::{self, Archive};
use super::sources::io_error;
use super::{Container, ContainerError, Containers, Phase, Record};
use crate::sys::{ShuttingDown, blocking};

/// How long a dump may take when the caller does not say.
const DUMP: Duration = Duration::from_secs(300);
/// How long criu may take to say whether it works here.
const PROBE: Duration = Duration::from_secs(20);
/// What is beside the archive while it is made: the memory of processes, and the unfinished archive.
const WORK: &str = "work";
const PARTIAL: &str = "partial";

impl Containers {
    /// Writes the state of a running container to the archive `location`; within `limit` for the
    /// dump of its processes.
    ///
    /// # Errors
    /// When there is no such container, it does not run, the node cannot make checkpoints, the
    /// location cannot be, or a step does not work: nothing of the archive is left then.
    pub async fn checkpoint(
        self: &Arc<Self>,
        prefix: &str,
        location: &str,
        limit: Option<Duration>,
    ) -> Result<(), ContainerError> {
        let container = self.find(prefix)?;
        if !self.settings.checkpoints {
            return Err(no_checkpoints("the configuration has switched it off"));
        }
        let location = checked(location)?;
        let able = self.criu.get_or_init(probe).await;
        able.as_ref().map_err(|reason| no_checkpoints(reason))?;
        let this = Arc::clone(self);
        // In a task of its own: a client that goes away must not leave the container frozen.
        let work = tokio::spawn(async move {
            this.checkpoint_one(&container, location, limit.unwrap_or(DUMP))
                .await
        });
        work.await.unwrap_or_else(|_| Err(ShuttingDown.into()))
    }

    async fn checkpoint_one(
        &self,
        container: &Container,
        location: PathBuf,
        limit: Duration,
    ) -> Result<(), ContainerError> {
        let _alone = container.checkpointing.lock().await;
        // The record names one place: what lies at an earlier one would be forgotten.
        self.forget_checkpoint(container).await?;
        let _turn = container.turn.lock().await;
        let record = container.record();
        let Phase::Running { .. } = record.phase else {
            return Err(ContainerError::NotRunning {
                id: record.id.clone(),
            });
        };
        let scratch = beside(&location, WORK);
        self.update(container, |record| {
            record.frozen = true;
            record.checkpoint = Some(location.clone());
        })?;
        if let Err(error) = make_scratch(&scratch) {
            // What is there may be another checkpoint's.
            self.update(container, |record| {
                record.frozen = false;
                record.checkpoint = None;
            })?;
            return Err(error);
        }
        let written = self.dump(&record, &scratch, &location, limit).await;
        let thawed = self.thaw(container).await;
        let removed =
            blocking(move || fs::remove_dir_all(&scratch).map_err(io_error("remove", &scratch)));
        let removed = removed.await;
        let forgotten = self.update(container, |record| record.checkpoint = None);
        written.and(thawed).and(removed).and(forgotten)
    }

    /// Removes what a daemon that was killed has left of a checkpoint, in a task of its own: it may
    /// be much, and lie where nothing answers. What cannot be removed is tried again at the next
    /// start, and before the next checkpoint.
    pub(super) fn forget_checkpoint_later(self: &Arc<Self>, container: &Arc<Container>) {
        if container.record().checkpoint.is_none() {
            return;
        }
        let (this, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            // No other checkpoint is written meanwhile, perhaps to the same place.
            let _alone = container.checkpointing.lock().await;
            if let Err(error) = this.forget_checkpoint(&container).await {
                let id = &container.record().id;
                tracing::error!(%id, %error, "what a checkpoint has left is not removed");
            }
        });
    }

    /// Removes what the checkpoint in the record has left, if there is one. Whoever calls holds
    /// `checkpointing`.
    async fn forget_checkpoint(&self, container: &Container) -> Result<(), ContainerError> {
        let Some(location) = container.record().checkpoint.clone() else {
            return Ok(());
        };
        let path = location.clone();
        let removed = self
            .outside
            .look(self.settings.mount_source_timeout, move || {
                let (scratch, partial) = (beside(&location, WORK), beside(&location, PARTIAL));
                gone(fs::remove_dir_all(&scratch)).map_err(io_error("remove", &scratch))?;
                gone(fs::remove_file(&partial)).map_err(io_error("remove", &partial))
            });
        removed
            .await
            .map_err(|source| ContainerError::CheckpointRemains { path, source })??;
        self.update(container, |record| record.checkpoint = None)
    }

    async fn dump(
        &self,
        record: &Arc<Record>,
        scratch: &Path,
        location: &Path,
        limit: Duration,
    ) -> Result<(), ContainerError> {
        let id = record.id.as_str();
        record.runtime.pause(id).await?;
        let images = scratch.join(archive::IMAGES);
        record
            .runtime
            .checkpoint(id, &images, scratch, limit)
            .await?;
        let archive = Archive {
            record: Arc::clone(record),
            spec: self.config_path(record),
            diff: self.rooms.store.root_diff(id)?,
            scratch: scratch.to_owned(),
        };
        let (partial, location) = (beside(location, PARTIAL), location.to_owned());
        blocking(move || {
            let written = archive.write(&partial).and_then(|()| {
                fs::rename(&partial, &location).map_err(io_error("replace", &location))
            });
            if written.is_err() {
                // Gone already when it could not be made.
                let _gone = fs::remove_file(&partial);
            }
            written
        })
        .await
    }

    /// Lets a container go on that was frozen for a checkpoint.
    pub(super) async fn thaw(&self, container: &Container) -> Result<(), ContainerError> {
        let record = container.record();
        if record.exit().is_none() {
            let resumed = record.runtime.resume(record.id.as_str()).await;
            // One that ended meanwhile, or was not frozen yet, has nothing to resume.
            if let Err(error) = resumed
                && record.runtime.paused(record.id.as_str()).await
            {
                return Err(error.into());
            }
        }
        self.update(container, |record| record.frozen = false)
    }
}

/// Gone already is fine.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn no_checkpoints(reason: &str) -> ContainerError {
    ContainerError::NoCheckpoints {
        reason: reason.to_owned(),
    }
}

/// Whether criu is there and works with this kernel; asked once, it takes long.
async fn probe() -> Result<(), String> {
    let mut criu = Command::new("criu");
    criu.arg("check")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match timeout(PROBE, criu.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(_)) => Err("`criu check` says that criu does not work with this kernel".to_owned()),
        Ok(Err(error)) => Err(format!("criu cannot be run: {error}; install it")),
        Err(_) => Err("`criu check` does not end".to_owned()),
    }
}

fn checked(location: &str) -> Result<PathBuf, ContainerError> {
    let refused = |problem: &str| ContainerError::Invalid {
        field: "location".to_owned(),
        problem: format!("`{}` {problem}", location.escape_debug()),
    };
    let path = Path::new(location);
    if !path.is_absolute() || location.contains('\0') {
        return Err(refused("is not an absolute path"));
    }
    let in_directory = path.parent().is_some_and(Path::is_dir);
    if !in_directory || path.file_name().is_none() {
        return Err(refused("is in no directory that exists"));
    }
    if path.is_dir() {
        return Err(refused("is a directory; name the archive to write"));
    }
    Ok(path.to_owned())
}

/// A name in the same directory that says whose it is.
fn beside(location: &Path, what: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(location.file_name().unwrap_or_default());
    name.push(format!(".{what}"));
    location.with_file_name(name)
}

/// Every memory page of the container's processes goes there: for nobody else to read.
fn make_scratch(scratch: &Path) -> Result<(), ContainerError> {
    use std::os::unix::fs::DirBuilderExt;
    let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    make(scratch).map_err(io_error("make", scratch))?;
    let images = scratch.join(archive::IMAGES);
    make(&images).map_err(io_error("make", &images))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_file_to_be_in_a_directory_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        assert_eq!(
            checked(&inside("a.tar")).unwrap(),
            directory.path().join("a.tar")
        );
        for bad in [
            String::new(),
            "a.tar".to_owned(),
            inside("missing/a.tar"),
            inside(""),
            inside("a\0b"),
            "/".to_owned(),
        ] {
            let error = checked(&bad).unwrap_err().to_string();
            assert!(error.starts_with("location: "), "{bad:?}: {error}");
        }
    }

    #[test]
    fn what_is_unfinished_has_a_name_of_its_own() {
        let partial = beside(Path::new("/d/checkpoint.tar"), "partial");
        assert_eq!(partial, Path::new("/d/.checkpoint.tar.partial"));
    }
}
