//! Ending a process together with all that it started.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pidfd::Process;

/// Most processes that one tree is followed to.
const MAX_PROCESSES: usize = 4096;

/// Bytes of an environment that are read; the kernel allows more, nobody who is looked for has it.
const MAX_ENVIRONMENT: u64 = 256 << 10;

/// Kills `root` and its descendants. Each is stopped before its children are listed, so that none
/// can be started behind our back; who has left the tree by a double fork is not found. Returns those
/// that were killed, of which some may not be gone yet.
pub fn kill_tree(root: i32) -> Vec<Process> {
    let mut tree = vec![root];
    let (mut processes, mut bare) = (Vec::new(), Vec::new());
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        next += 1;
        // Opened before it is stopped, so that what is killed at the end is what was stopped here.
        let process = Process::open(pid, None);
        if matches!(process, Ok(None)) {
            continue;
        }
        // ESRCH: it ended in between, and has no children any more.
        if kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok() && tree.len() < MAX_PROCESSES {
            tree.extend(children(pid));
        }
        match process {
            Ok(process) => processes.extend(process),
            // No descriptor is free. Stopped, or unreaped as the root is, it keeps its number.
            Err(_) => bare.push(pid),
        }
    }
    for pid in bare {
        let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for process in &processes {
        process.kill();
    }
    processes
}

/// Kills by `kill`, on a thread where it may block, and waits until all that it has killed are gone.
///
/// # Errors
/// That of `kill`, and `TimedOut` when one is not gone within `patience`.
pub async fn end(
    kill: impl FnOnce() -> io::Result<Vec<Process>> + Send + 'static,
    patience: Duration,
) -> io::Result<()> {
    let gone = async {
        let killed = tokio::task::spawn_blocking(kill).await;
        for process in killed.map_err(io::Error::other)?? {
            // One that cannot be watched has ended, or is waited for by what removes its cgroup.
            let _ended = process.ended().await;
        }
        Ok(())
    };
    let late = |_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "killed, it does not end",
        ))
    };
    tokio::time::timeout(patience, gone)
        .await
        .unwrap_or_else(late)
}

/// Kills every process whose working directory is `directory`, with its descendants. Returns those
/// that were killed, of which some may not be gone yet. Reads all of /proc.
///
/// # Errors
/// When /proc cannot be listed. A directory that is not there is nobody's; one that is reached by a
/// link of another name is not found.
pub fn kill_all_in(directory: &Path) -> io::Result<Vec<Process>> {
    let place = |path: &Path| fs::metadata(path).map(|facts| (facts.dev(), facts.ino()));
    let Ok(wanted) = place(directory) else {
        return Ok(Vec::new());
    };
    // The name comes from the kernel; the rest the file system is asked for, and one that is dead, where
    // any process of the node may be, never answers.
    let is_named = |cwd: &Path| {
        // It may have ended meanwhile, or be a kernel thread.
        fs::read_link(cwd).is_ok_and(|target| target.file_name() == directory.file_name())
    };
    kill_where(|process| {
        let cwd = process.join("cwd");
        is_named(&cwd) && place(&cwd).is_ok_and(|found| found == wanted)
    })
}

/// Whether the process whose directory below /proc this is was started with `variable` (`NAME=value`).
pub(super) fn environment_has(process: &Path, variable: &[u8]) -> bool {
    let mut text = Vec::new();
    let read = fs::File::open(process.join("environ"))
        .and_then(|file| file.take(MAX_ENVIRONMENT).read_to_end(&mut text));
    read.is_ok() && text.split(|byte| *byte == 0).any(|one| one == variable)
}

/// Kills the trees of the processes whose directories below /proc are `wanted`.
///
/// # Errors
/// When /proc cannot be listed.
pub(super) fn kill_where(wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<Process>> {
    let mut killed = Vec::new();
    for pid in pids()? {
        if wanted(&Path::new("/proc").join(pid.to_string())) {
            killed.extend(kill_tree(pid));
        }
    }
    Ok(killed)
}

/// The processes of this PID namespace.
///
/// # Errors
/// When /proc cannot be listed.
pub fn pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    Ok(pids)
}

/// The children of all threads of a process: proc_tid_children(5).
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|text| {
            text.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn what_works_in_a_directory_goes_and_nothing_else() {
        let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sleeper = |dir: &Path| Command::new("sleep").arg("1000").current_dir(dir).spawn();
        let mut inside = sleeper(place.path()).unwrap();
        let mut outside = sleeper(elsewhere.path()).unwrap();
        assert_eq!(kill_all_in(place.path()).unwrap().len(), 1);
        assert!(!inside.wait().unwrap().success());
        assert_eq!(outside.try_wait().unwrap(), None);
        outside.kill().unwrap();
        outside.wait().unwrap();
        assert!(
            kill_all_in(&place.path().join("missing"))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_tree_goes_with_its_root() {
        let mut root = Command::new("sh")
            .args(["-c", "sh -c 'sleep 1000 & echo $!; wait' & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(root.stdout.take().unwrap());
        let descendants: Vec<i32> = output
            .lines()
            .take(2)
            .map(|line| line.unwrap().parse().unwrap())
            .collect();
        kill_tree(i32::try_from(root.id()).unwrap());
        assert!(!root.wait().unwrap().success());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for pid in descendants {
            // Killed, it may not have been scheduled to die yet.
            if let Some(process) = Process::open(pid, None).unwrap() {
                let end =
                    async { tokio::time::timeout(Duration::from_secs(10), process.ended()).await };
                assert!(runtime.block_on(end).is_ok(), "{pid} lives");
            }
        }
    }
}
