//! Clearing up after a test that failed: ends and removes whatever carries its words, in the order
//! in which it lets go.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::leaks;

/// Ends processes with one of the words, unmounts all below `dir`, removes the words' cgroups.
pub fn sweep(dir: &Path, words: &[String]) {
    for (pid, _) in leaks::processes_with(words) {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap());
        // It may have ended since it was listed.
        let _ = kill(pid, Signal::SIGKILL);
    }
    for at in leaks::mounts_below(dir) {
        // Whoever mounted it may have unmounted it since it was listed. Detached: a process that
        // is still ending must not keep it.
        let _ = umount2(&at, MntFlags::MNT_DETACH);
    }
    cgroups(words);
}

/// Removes the cgroups with one of the words in their path, the deepest first.
pub fn cgroups(words: &[String]) {
    let mut found = leaks::cgroups_with(words);
    found.reverse();
    for path in found {
        remove_cgroup(&path);
    }
}

/// Scratch directories in use and the words of what lives in them.
static LIVE: Mutex<Vec<(PathBuf, Vec<String>)>> = Mutex::new(Vec::new());

/// From now on what carries `words` or is below `dir` is swept by [`on_panic`]'s hook.
pub fn enter(dir: &Path, words: Vec<String>) {
    live().push((dir.to_owned(), words));
}

/// Its owner has cleared `dir` up.
pub fn leave(dir: &Path) {
    live().retain(|(other, _)| other != dir);
}

fn live() -> MutexGuard<'static, Vec<(PathBuf, Vec<String>)>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For programs, as their first step: a release build does not unwind, so a failure clears up in
/// the panic hook, however far the start of a node has come.
pub fn on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        for (dir, words) in std::mem::take(&mut *live()) {
            sweep(&dir, &words);
            // Whatever is left of it has been said above.
            let _ = fs::remove_dir_all(&dir);
        }
    }));
}

/// Processes leave their cgroup when they are reaped, which may be a second after the kill.
fn remove_cgroup(path: &Path) {
    for _ in 0..300 {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => return,
        }
    }
    eprintln!(
        "harness: {}: still busy 3 s after its processes were killed",
        path.display()
    );
}
