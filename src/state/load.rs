//! Records read again: by a daemon that starts, and by who looks without changing anything.

use std::fs;
use std::io;
use std::path::Path;

use super::records::{RECORD, Records, Versioned, io_error, read};
use super::{Id, RecordError, ids_in};
use crate::sys::mountinfo;
use crate::sys::want::is_want;

impl<T: Versioned> Records<T> {
    /// The records of all objects that have a directory.
    ///
    /// A record that cannot be understood is set aside in the quarantine and reported. A directory
    /// without a record is what a daemon leaves that was killed before its first write: it is
    /// removed, and nothing else was made yet; unless somebody has removed the record.
    ///
    /// # Errors
    /// When the parent directory cannot be listed, or a record cannot be read for want of descriptors
    /// or memory: it says nothing then, and the pods are not made again beside those that run.
    pub fn load(&self) -> Result<Vec<T>, RecordError> {
        let list = "list the records";
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.directory).map_err(io_error(&self.directory, list))?;
        for entry in entries {
            let entry = entry.map_err(io_error(&self.directory, list))?;
            let Some(id) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<Id>().ok())
            else {
                continue;
            };
            match read::<T>(&entry.path().join(RECORD)) {
                Ok(record) if record.version() == T::VERSION => found.push(record),
                Ok(record) => {
                    let problem =
                        format!("its version is {}, not {}", record.version(), T::VERSION);
                    self.set_aside(&id, &problem);
                }
                Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    if let Err(error) = self.remove(&id).or_else(|_| self.remove_mounted(&id)) {
                        tracing::error!(kind = T::KIND, %id, %error, "directory without a record");
                    }
                }
                Err(RecordError::Io { path, step, source }) if is_want(&source) => {
                    return Err(RecordError::Io { path, step, source });
                }
                Err(error) => self.set_aside(&id, &error.to_string()),
            }
        }
        Ok(found)
    }

    /// Removes the directory of an object that has lost its record, with what is mounted there.
    fn remove_mounted(&self, id: &Id) -> Result<(), RecordError> {
        let directory = self.directory.join(id.as_str());
        mountinfo::unmount_below(&directory).map_err(io_error(&directory, "unmount what is in"))?;
        self.remove(id)
    }

    /// Moves the object's directory to the quarantine.
    fn set_aside(&self, id: &Id, problem: &str) {
        let kept = self.quarantine.join(id.as_str());
        match fs::rename(self.directory.join(id.as_str()), &kept) {
            Ok(()) => {
                let kept = kept.display();
                tracing::error!(kind = T::KIND, %id, problem, %kept, "record not understood, set aside");
            }
            Err(error) => {
                tracing::error!(kind = T::KIND, %id, problem, %error, "record not understood");
            }
        }
    }
}

/// A record, or why it is not understood.
pub type Outcome<T> = Result<T, String>;

/// The records below a directory as they are, each with its object's id, or why it is not understood.
/// Changes nothing. An object without a record is left out: it was never made.
///
/// # Errors
/// When the directory cannot be listed; one that does not exist has none.
pub fn read_all<T: Versioned>(directory: &Path) -> Result<Vec<(Id, Outcome<T>)>, RecordError> {
    let ids = ids_in(directory).map_err(io_error(directory, "list the records"))?;
    let one = |path: &Path| match read::<T>(&path.join(RECORD)) {
        Ok(record) if record.version() == T::VERSION => Some(Ok(record)),
        Ok(record) => Some(Err(format!(
            "its version is {}, this build knows {}: a newer cricket wrote it",
            record.version(),
            T::VERSION
        ))),
        Err(RecordError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(error.to_string())),
    };
    let found = ids
        .into_iter()
        .filter_map(|(id, path)| Some((id, one(&path)?)));
    Ok(found.collect())
}
