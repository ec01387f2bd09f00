//! Records of an earlier boot, where the run root is on a disk and not on the tmpfs that it should be
//! on: the processes, namespaces and mounts that they describe are gone, and their pids may be
//! anybody's. What a tmpfs would have forgotten is forgotten before it is read.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::{RecordError, RunDir};

impl RunDir {
    /// Forgets all pods and containers when they were recorded in another boot than `boot_id`, and
    /// notes this one. What is in the quarantine stays: it waits for a person. The directory must be
    /// locked.
    ///
    /// # Errors
    /// When a directory cannot be removed or the note not be written: then nothing may be restored.
    pub fn forget_earlier_boots(&self, boot_id: &str) -> Result<(), RecordError> {
        let note = self.boot_note();
        let noted = match fs::read_to_string(&note) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            noted => Some(noted.map_err(failed(&note, "read"))?),
        };
        let noted = noted.as_deref().map(str::trim);
        if noted == Some(boot_id) {
            return Ok(());
        }
        if noted.is_some() {
            tracing::info!(
                "the machine was booted anew: pods and containers of the earlier boot forgotten"
            );
            for place in [self.containers(), self.sandboxes(), self.pauses()] {
                clear(&place).map_err(failed(&place, "forget the earlier boot"))?;
            }
        }
        // Replaced as a whole: half an id would be another boot's.
        let unfinished = note.with_extension("new");
        fs::write(&unfinished, boot_id).map_err(failed(&unfinished, "write"))?;
        fs::rename(&unfinished, &note).map_err(failed(&note, "rename over the old note"))
    }
}

/// Removes what is in a directory.
fn clear(place: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn failed(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { path, step, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_a_pod() -> (tempfile::TempDir, RunDir) {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::new(dir.path());
        for place in [
            run.sandboxes().join("pod"),
            run.containers().join("container"),
            run.pauses().join("pod"),
            run.quarantine().join("newer"),
        ] {
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("record.json"), "{}").unwrap();
        }
        fs::write(run.sandboxes().join("stray"), "").unwrap();
        (dir, run)
    }

    fn kept(run: &RunDir) -> [bool; 4] {
        [
            run.sandboxes().join("pod").exists(),
            run.containers().join("container").exists(),
            run.pauses().join("pod").exists(),
            run.quarantine().join("newer/record.json").exists(),
        ]
    }

    #[test]
    fn what_another_boot_recorded_is_forgotten_and_what_this_one_did_is_not() {
        let (_dir, run) = with_a_pod();
        // An upgrade from a version without the note must not lose what runs.
        run.forget_earlier_boots("first").unwrap();
        assert_eq!(kept(&run), [true; 4]);
        run.forget_earlier_boots("first").unwrap();
        assert_eq!(kept(&run), [true; 4]);
        run.forget_earlier_boots("second").unwrap();
        assert_eq!(kept(&run), [false, false, false, true]);
        assert_eq!(fs::read_dir(run.sandboxes()).unwrap().count(), 0);
        fs::create_dir_all(run.sandboxes().join("pod")).unwrap();
        run.forget_earlier_boots("second").unwrap();
        assert!(run.sandboxes().join("pod").exists());
    }
}
