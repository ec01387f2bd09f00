//! Programs that the daemon calls and waits for: CNI plugins and the OCI runtime.
//!
//! A daemon that is killed leaves those that ran, and nobody ends them at their deadline any more: an
//! ADD goes on beside the DEL that undoes it, a GC with a list of attachments that is long wrong. So each
//! gets a variable that says for which run root it was called, and leads a process group of its own; the
//! next daemon ends those that it finds.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use super::process_stat;
use super::process_tree::{self, environment_has, kill_where};

const MARK: &str = "CRICKET_CALLED_FOR";

/// The run root of this process, which has one as it has a pid.
static RUN_ROOT: OnceLock<OsString> = OnceLock::new();

/// Has what this process calls from now on be known by its run root. The first call counts.
pub fn mark_for(run_root: &Path) {
    // One process is one daemon.
    let _already = RUN_ROOT.set(run_root.as_os_str().to_owned());
}

/// The variable for a program that is called, which must be made the leader of a process group. None
/// in a process that is no daemon.
pub fn mark() -> Option<(&'static str, &'static OsStr)> {
    RUN_ROOT.get().map(|root| (MARK, root.as_os_str()))
}

/// Ends what an earlier daemon of this run root has called, with what that has started, and waits for it.
/// Reads the status of all processes of the node.
///
/// # Errors
/// When /proc cannot be listed; `TimedOut` when one that was killed is not gone within `patience`.
pub async fn end_those_of_earlier(patience: Duration) -> io::Result<()> {
    end_those_without(std::process::id(), patience).await
}

/// Ends what was called for this run root and is no child of `parent`.
async fn end_those_without(parent: u32, patience: Duration) -> io::Result<()> {
    let Some((name, root)) = mark() else {
        return Ok(());
    };
    let variable = [name.as_bytes(), b"=", root.as_bytes()].concat();
    let kill = move || {
        kill_where(|process| is_called(process, parent) && environment_has(process, &variable))
    };
    process_tree::end(kill, patience).await
}

/// Whether a process leads a group but no session, as what is called does, and is no child of `parent`.
/// Few others of a node do: the environment of a process that waits for a dead file system cannot be
/// read, so not all are asked for it.
fn is_called(process: &Path, parent: u32) -> bool {
    let Ok(stat) = fs::read(process.join("stat")) else {
        return false;
    };
    let stat = String::from_utf8_lossy(&stat);
    let pid = stat.split(' ').next();
    let mut fields = process_stat::fields(&stat).skip(1);
    let (its_parent, group, session) = (fields.next(), fields.next(), fields.next());
    group.is_some() && group == pid && session != pid && its_parent != Some(&parent.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn what_was_called_for_a_run_root_goes_unless_its_caller_lives() {
        let root = tempfile::tempdir().unwrap();
        mark_for(root.path());
        let (name, value) = mark().unwrap();
        let sleeper = |value: &OsStr| {
            let mut sleep = Command::new("sleep");
            let sleep = sleep.arg("1000").env(name, value).process_group(0);
            sleep.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let mut ours = sleeper(value).unwrap();
        let mut foreign = sleeper(OsStr::new("/elsewhere")).unwrap();
        let long = Duration::from_secs(60);
        end_those_of_earlier(long).await.unwrap();
        assert_eq!(ours.try_wait().unwrap(), None);
        // For somebody else it is an orphan.
        end_those_without(1, long).await.unwrap();
        assert!(!ours.wait().unwrap().success());
        assert_eq!(foreign.try_wait().unwrap(), None);
        foreign.kill().unwrap();
        foreign.wait().unwrap();
    }
}
