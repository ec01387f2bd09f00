//! The way to a directory for a user who is nobody on the node: the root of a pod with a user
//! namespace, as whom the OCI runtime mounts the root filesystem by its path.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Others may go through, and see no names.
const PASS: u32 = 0o001;

/// Lets everyone pass through the directories from `top`, which are the daemon's own, to above
/// `to`. Returns the first directory above `top` that lets only root pass: opening that is for
/// people to decide.
///
/// # Errors
/// When a directory cannot be looked at, or its mode not set.
pub fn open(top: &Path, to: &Path) -> io::Result<Option<PathBuf>> {
    for directory in to.ancestors().skip(1) {
        let mode = fs::metadata(directory)?.permissions().mode();
        if mode & PASS != 0 {
            continue;
        }
        if !directory.starts_with(top) {
            return Ok(Some(directory.to_owned()));
        }
        fs::set_permissions(directory, Permissions::from_mode((mode & 0o7777) | PASS))?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_directories_are_opened_and_one_above_them_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let (above, top) = (
            scratch.path().join("above"),
            scratch.path().join("above/top"),
        );
        let to = top.join("inner/to");
        fs::create_dir_all(&to).unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for path in [&top, &top.join("inner"), &to] {
            set(path, 0o700);
        }
        assert_eq!(open(&top, &to).unwrap(), None);
        assert_eq!(
            [mode(&top), mode(&top.join("inner")), mode(&to)],
            [0o701, 0o701, 0o700]
        );
        set(&above, 0o750);
        assert_eq!(open(&top, &to).unwrap(), Some(above.clone()));
        assert_eq!(mode(&above), 0o750);
    }
}
