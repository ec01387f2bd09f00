//! What must be gone once a test is over, found without trusting the daemon: kernel objects and
//! files that carry the test's scratch path, its cgroup, or an id that it was given.
//!
//! The scope is one test's, so tests may run side by side. The whole machine is compared by
//! [`crate::machine`], before and after `make test`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use crate::net::Net;
use crate::tools;

/// Process ids, now.
pub fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Mount points of this mount namespace.
pub fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(str::to_owned)
        .collect()
}

/// Mount points below `dir`, the deepest first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let mut below: Vec<_> = mounts()
        .into_iter()
        .map(PathBuf::from)
        .filter(|at| at.starts_with(dir))
        .collect();
    below.reverse();
    below
}

/// Directories of every cgroup hierarchy, the deepest last; `/sys/fs/cgroup` itself first.
pub fn cgroups() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut next = 0;
    while next < found.len() {
        let entries = fs::read_dir(&found[next]).into_iter().flatten().flatten();
        let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(dirs.map(|entry| entry.path()).collect::<Vec<_>>());
        next += 1;
    }
    found
}

/// cgroup directories whose path contains one of the words.
pub fn cgroups_with(words: &[String]) -> Vec<PathBuf> {
    let all = cgroups().into_iter();
    let named = |path: &PathBuf| {
        words
            .iter()
            .any(|word| path.to_string_lossy().contains(word))
    };
    all.filter(named).collect()
}

/// Processes (zombies apart: they hold nothing) that have one of the words in their working
/// directory, root, command line or cgroup.
pub fn processes_with(words: &[String]) -> Vec<(u32, String)> {
    let mine = std::process::id();
    pids()
        .filter(|pid| *pid != mine)
        .filter_map(|pid| {
            let facts = facts(pid)?;
            words
                .iter()
                .any(|word| facts.contains(word.as_str()))
                .then_some((pid, facts))
        })
        .collect()
}

/// Whether there is such a process, and it has not ended, waited for or not.
pub fn lives(pid: impl Display) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    // The command name is in parentheses and may hold any bytes, parentheses too.
    let state = stat.rsplit_once(')').map(|(_, fields)| fields.trim_start());
    state.is_some_and(|state| !state.starts_with('Z'))
}

fn facts(pid: u32) -> Option<String> {
    if !lives(pid) {
        return None;
    }
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let cgroup = String::from_utf8_lossy(&read("cgroup")).replace('\n', " ");
    let (cwd, root) = (link("cwd"), link("root"));
    Some(format!(
        "{command} cwd={} root={} {cgroup}",
        cwd.display(),
        root.display()
    ))
}

/// Regular files and directories below `dir`, without `dir` itself.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

/// The ids of pods in the rules of a node's network: the tags of the daemon's elements, and what the
/// portmap plugin notes in its rules.
#[track_caller]
pub fn port_rules(net: &Net) -> BTreeSet<String> {
    let mut command = net.command(&tools::need("nft"));
    let text = tools::run(command.args(["list", "ruleset"]));
    let words = text.split(|letter: char| !letter.is_ascii_hexdigit());
    let ids = words.filter(|word| word.len() == 64);
    ids.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_and_a_process_in_the_scratch_directory_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("mounted");
        fs::create_dir(&at).unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), &at, Some("tmpfs"), flags, None::<&str>).unwrap();
        assert_eq!(mounts_below(dir.path()), std::slice::from_ref(&at));
        nix::mount::umount(&at).unwrap();
        assert_eq!(mounts_below(dir.path()), Vec::<PathBuf>::new());

        let words = [dir.path().to_string_lossy().into_owned()];
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(dir.path())
            .spawn()
            .unwrap();
        assert!(
            processes_with(&words)
                .iter()
                .any(|(pid, _)| *pid == child.id())
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            !processes_with(&words)
                .iter()
                .any(|(pid, _)| *pid == child.id())
        );
    }
}
