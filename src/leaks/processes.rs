//! Processes that carry an id: monitors by their bundle, all others by their cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use crate::state::{Id, RunDir};
use crate::sys::{process_stat, process_tree};

/// A process that has to do with a container.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) pid: i32,
    /// What it runs, shortened.
    pub(super) command: String,
    /// The container or pod in whose bundle it works: a monitor.
    pub(super) bundle: Option<Bundle>,
    /// The ids in the names of its cgroups.
    pub(super) cgroup_ids: Vec<Id>,
}

/// The bundle that a monitor works in.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) id: Id,
    /// Whether it is below our run root; another cricket's is not.
    pub(super) is_ours: bool,
}

/// Characters of a command line that are shown.
const SHOWN: usize = 60;

/// The processes of this PID namespace that carry an id. Those that have ended meanwhile, and zombies,
/// which hold nothing, are not among them.
pub(super) fn all(run_dir: &RunDir) -> std::io::Result<Vec<Seen>> {
    let pids = process_tree::pids()?.into_iter();
    Ok(pids.filter_map(|pid| look(pid, run_dir)).collect())
}

/// Whether the process is a monitor of this bundle now.
pub(super) fn works_for(pid: i32, id: &Id, run_dir: &RunDir) -> bool {
    let seen = look(pid, run_dir).and_then(|seen| seen.bundle);
    seen.is_some_and(|bundle| bundle.is_ours && bundle.id == *id)
}

fn look(pid: i32, run_dir: &RunDir) -> Option<Seen> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let cgroups = fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
    let mut cgroup_ids: Vec<Id> = cgroups.lines().filter_map(id_in_cgroup).collect();
    cgroup_ids.sort();
    cgroup_ids.dedup();
    let bundle = fs::read_link(proc.join("cwd"))
        .ok()
        .and_then(|cwd| bundle(&cwd, run_dir));
    if (cgroup_ids.is_empty() && bundle.is_none()) || is_zombie(&proc) {
        return None;
    }
    let command = fs::read(proc.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(Seen {
        pid,
        command: command.trim_end().chars().take(SHOWN).collect(),
        bundle,
        cgroup_ids,
    })
}

/// The first id in a line of /proc/<pid>/cgroup: that of the container, whose cgroup may have others
/// below it.
fn id_in_cgroup(line: &str) -> Option<Id> {
    let path = line.splitn(3, ':').nth(2)?;
    path.split('/')
        .find_map(|name| crate::cgroup::id_of(name)?.parse().ok())
}

/// The bundle that a working directory is: `<run root>/cricket/containers/<id>`, or a pause process's
/// `<run root>/cricket/sandboxes/<id>/pause`. The kernel adds a word to one that was deleted.
fn bundle(cwd: &Path, run_dir: &RunDir) -> Option<Bundle> {
    let text = cwd.to_str()?;
    let text = text.strip_suffix(" (deleted)").unwrap_or(text);
    let text = text.strip_suffix("/pause").unwrap_or(text);
    let (parent, id) = text.rsplit_once('/')?;
    let parent = Path::new(parent);
    let id = id.parse().ok()?;
    let is_ours = parent == run_dir.containers() || parent == run_dir.sandboxes();
    let named = parent.ends_with("cricket/containers") || parent.ends_with("cricket/sandboxes");
    (is_ours || named).then_some(Bundle { id, is_ours })
}

fn is_zombie(proc: &Path) -> bool {
    let stat = fs::read_to_string(proc.join("stat")).unwrap_or_default();
    process_stat::fields(&stat)
        .next()
        .is_none_or(|state| state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_known_by_its_path_also_when_it_was_deleted() {
        let run_dir = RunDir::new(Path::new("/run/a"));
        let id = Id::random();
        for (path, want) in [
            ("/run/a/cricket/containers/ID", Some(true)),
            ("/run/a/cricket/containers/ID (deleted)", Some(true)),
            ("/run/a/cricket/sandboxes/ID/pause", Some(true)),
            ("/run/b/cricket/containers/ID", Some(false)),
            ("/run/containers/overlay-containers/ID", None),
            ("/run/a/cricket/containers", None),
            ("/", None),
        ] {
            let path = path.replace("ID", id.as_str());
            let found = bundle(Path::new(&path), &run_dir);
            assert_eq!(found.map(|bundle| bundle.is_ours), want, "{path}");
        }
    }

    #[test]
    fn a_cgroups_first_id_is_the_containers() {
        let (outer, inner) = (Id::random(), Id::random());
        let line = format!("4:memory:/kubepods/pod1/crio-{outer}/crio-{inner}");
        assert_eq!(id_in_cgroup(&line), Some(outer));
        assert_eq!(id_in_cgroup("0::/system.slice/ssh.service"), None);
        assert_eq!(id_in_cgroup("garbage"), None);
    }
}
