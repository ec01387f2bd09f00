//! Clearing up after a test that failed: ends and removes whatever carries its words, in the order
//! in which it lets go.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Node, leaks};

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

/// For programs: a release build does not unwind, so a failure clears up in the panic hook.
pub fn on_panic(node: &Node) {
    let (dir, words) = (node.dir().to_owned(), node.words());
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        sweep(&dir, &words);
        // Whatever is left of it has been said above.
        let _ = fs::remove_dir_all(&dir);
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
