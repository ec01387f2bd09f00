//! Parsed policies, kept as long as their files are the same: containers are created more often than
//! policies are written.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::policy::Policy;
use crate::image::error::ImageError;
use crate::image::registries::read_bounded;

/// Files that are remembered. A node has a handful; with more, all are read again.
const MAX_FILES: usize = 64;

/// What tells that a file was written: device, inode, size, and the times of data and inode.
type Stamp = (u64, u64, u64, [(i64, i64); 2]);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: Mutex<HashMap<PathBuf, (Stamp, Arc<Policy>)>>,
}

impl Cache {
    /// The policy in `file`; `None` where there is no file.
    pub(super) fn policy(&self, file: &Path) -> Result<Option<Arc<Policy>>, ImageError> {
        let fail = |reason: String| ImageError::Config {
            path: file.to_owned(),
            reason,
        };
        let stamp = match std::fs::metadata(file) {
            Ok(found) => stamp(&found),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error.to_string())),
        };
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, policy)) = known.get(file).filter(|(then, _)| *then == stamp) {
                return Ok(Some(Arc::clone(policy)));
            }
        }
        let Some(text) = read_bounded(file)? else {
            // a link to /dev/null: there is a file, and it holds no policy
            return match file.exists() {
                true => Err(fail("it is empty; remove it, or write a policy".to_owned())),
                false => Ok(None),
            };
        };
        let policy = Arc::new(Policy::parse(text.as_bytes()).map_err(fail)?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_FILES {
            known.clear();
        }
        // the stamp is of before: a file that was written in between is read once more
        known.insert(file.to_owned(), (stamp, Arc::clone(&policy)));
        Ok(Some(policy))
    }
}

fn stamp(found: &std::fs::Metadata) -> Stamp {
    let times = [
        (found.mtime(), found.mtime_nsec()),
        (found.ctime(), found.ctime_nsec()),
    ];
    (found.dev(), found.ino(), found.size(), times)
}
