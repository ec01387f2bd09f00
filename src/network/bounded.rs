//! Reading small files that others write, without trusting their size or kind.

use std::{fs::OpenOptions, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

use super::error::ConfigProblem;

/// Reads a regular file of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ConfigProblem> {
    let failed = |step| move |source| ConfigProblem::Read { step, source };
    // Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(failed("open"))?;
    if !file.metadata().map_err(failed("stat"))?.is_file() {
        return Err(ConfigProblem::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read"))?;
    if bytes.len() as u64 > limit {
        return Err(ConfigProblem::TooLarge { limit });
    }
    Ok(bytes)
}
