//! Files that nobody sees: room for what has to be complete before its length is known.

use std::fs::File;

use rustix::fs::{Mode, OFlags};

use super::trash::unique_name;
use super::{StorageError, Store};

impl Store {
    /// A file without a name in the store's staging directory; it is gone when it is closed, also by
    /// a crash. `bytes` is how large it may become at most.
    ///
    /// # Errors
    /// [`StorageError::NoRoom`] when that would not leave the bytes that are kept free.
    pub fn scratch_file(&self, bytes: u64) -> Result<File, StorageError> {
        let staging = &self.shared.places.staging;
        let reserve = self.shared.settings.limits.reserve_bytes;
        let stat = rustix::fs::fstatvfs(staging)
            .map_err(StorageError::io(staging.path(), "look at its file system"))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < bytes.saturating_add(reserve) {
            return Err(StorageError::NoRoom {
                path: staging.path().to_path_buf(),
                bytes,
                free,
                reserve,
            });
        }
        let name = unique_name("scratch");
        let path = staging.path().join(&name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(staging, &*name, flags, Mode::from_raw_mode(0o600))
            .map_err(StorageError::io(path, "create file"))?;
        staging.remove_file(&name)?;
        Ok(File::from(file))
    }
}
