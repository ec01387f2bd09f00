//! Locks on files that say whose a directory is.

use std::fs::File;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long a lock is waited for. A process that the former owner was just starting when it was
/// killed holds its files open until it has become its program.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is tried in that time.
const EVERY: Duration = Duration::from_millis(10);

/// Takes the lock for as long as the file is open; `false`: another process has it. Blocks.
///
/// # Errors
/// When the file system cannot lock.
pub fn take(file: &File) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(EVERY),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_once_and_again_when_its_owner_has_gone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().write(true).open(file.path()).unwrap();
        let (one, other) = (open(), open());
        assert!(take(&one).unwrap());
        assert!(!take(&other).unwrap());
        let leaving = std::thread::spawn(move || {
            sleep(EVERY);
            drop(one);
        });
        assert!(take(&other).unwrap());
        leaving.join().unwrap();
    }
}
