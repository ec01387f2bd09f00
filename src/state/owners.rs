//! Who exists: the ids that own something in the kernel and on disk.
//!
//! A pod's or container's directory is made with its record before anything else of it, and goes after
//! everything else of it. So what carries an id without a directory here has no owner, at any time and
//! whoever asks, also while others are being made: this needs no lock and no daemon.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::records::RECORD;
use super::{Id, RunDir};

/// How long a directory may be without its record: between the two is one write, and a removal takes
/// the record first.
const UNFINISHED: Duration = Duration::from_secs(60);

/// The ids that own something, at one moment.
#[derive(Debug, Default)]
pub struct Owners {
    known: BTreeSet<Id>,
    /// Those of them that are known by nothing but what was set aside.
    aside: BTreeSet<Id>,
    /// Directories of ids that have no record, and will have none.
    pub abandoned: Vec<PathBuf>,
}

impl Owners {
    /// Whether this is the id of something that exists, is being made, or was set aside.
    pub fn owns(&self, id: &Id) -> bool {
        self.known.contains(id)
    }

    /// Whether all that is known of it was set aside: no daemon lists it, so none can end it.
    pub fn is_set_aside(&self, id: &Id) -> bool {
        self.aside.contains(id)
    }
}

impl RunDir {
    /// Who exists now. `alone`: no daemon works here, so nothing is on its way.
    ///
    /// # Errors
    /// When a directory cannot be listed; one that does not exist has nobody in it.
    pub fn owners(&self, alone: bool) -> io::Result<Owners> {
        let mut owners = Owners::default();
        for directory in [self.sandboxes(), self.containers()] {
            for (id, path) in ids_in(&directory)? {
                if path.join(RECORD).try_exists()? || !(alone || is_old(&path)) {
                    owners.known.insert(id);
                } else {
                    owners.abandoned.push(path);
                }
            }
        }
        // What is kept for a person to look at may still run.
        let aside = ids_in(&self.quarantine())?.into_iter().map(|(id, _)| id);
        owners.aside = aside.filter(|id| !owners.known.contains(id)).collect();
        owners.known.extend(owners.aside.iter().cloned());
        Ok(owners)
    }
}

/// The entries of a directory whose name is an id; none of one that does not exist.
///
/// # Errors
/// When it cannot be listed.
pub fn ids_in(directory: &Path) -> io::Result<Vec<(Id, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            found.push((id, entry.path()));
        }
    }
    Ok(found)
}

fn is_old(path: &Path) -> bool {
    let age = fs::metadata(path)
        .ok()
        .and_then(|found| found.modified().ok()?.elapsed().ok());
    age.is_some_and(|age| age >= UNFINISHED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_what_was_set_aside_are_owners_and_an_empty_directory_only_while_it_is_new() {
        let scratch = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(scratch.path());
        assert!(!run_dir.owners(true).unwrap().owns(&Id::random()));
        let make = |parent: PathBuf, record: bool| {
            let id = Id::random();
            let path = parent.join(id.as_str());
            fs::create_dir_all(&path).unwrap();
            if record {
                fs::write(path.join(RECORD), "{}").unwrap();
            }
            id
        };
        let pod = make(run_dir.sandboxes(), true);
        let container = make(run_dir.containers(), true);
        let aside = make(run_dir.quarantine(), false);
        let empty = make(run_dir.containers(), false);
        fs::create_dir(run_dir.sandboxes().join("not-an-id")).unwrap();
        let (alone, busy) = (
            run_dir.owners(true).unwrap(),
            run_dir.owners(false).unwrap(),
        );
        for id in [&pod, &container, &aside] {
            assert!(alone.owns(id) && busy.owns(id));
            assert_eq!(alone.is_set_aside(id), *id == aside);
        }
        assert!(!alone.owns(&empty) && busy.owns(&empty));
        assert_eq!(alone.abandoned, [run_dir.containers().join(empty.as_str())]);
        assert!(busy.abandoned.is_empty());
    }
}
