//! Sweeping: from what runs to what it runs on, so that each thing is let go of before it goes. All is
//! tried, whatever becomes of the rest.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::processes;
use super::{Kind, Leak, Leaks};
use crate::sandbox;
use crate::state::Id;
use crate::sys::blocking;
use crate::sys::pidfd::Process;

/// How long killed processes of one cgroup may take to end.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Leaks {
    /// Sweeps what was found and says what did not work.
    pub(super) async fn sweep(&self, found: &[Leak]) -> Vec<String> {
        let ids: BTreeSet<Id> = found.iter().filter_map(|leak| leak.id.clone()).collect();
        let doomed = ids.clone();
        let kill = move |this: &Leaks, found: &[Leak]| this.kill(found, &doomed);
        let mut problems = self.off_thread(found, kill).await;
        for state in of(found, Kind::RuntimeState) {
            let root = Path::new(&state.name).parent();
            let mut programs = self.settings.runtimes.iter();
            let program = programs.find(|program| Some(program.root.as_path()) == root);
            if let (Some(program), Some(id)) = (program, &state.id) {
                problems.extend(text(program.delete(id.as_str(), true).await));
            }
        }
        problems.extend(self.off_thread(found, Leaks::unmount).await);
        // After what uses the network has gone, and while the namespaces are there: plugins enter them.
        let keep = |id: &str| !id.parse::<Id>().is_ok_and(|id| ids.contains(&id));
        let failed = self.rooms.networks.detach_unknown(keep).await;
        problems.extend(failed.into_iter().map(|error| error.to_string()));
        problems.extend(self.off_thread(found, Leaks::release).await);
        let scopes: BTreeSet<&Id> = of(found, Kind::Cgroup)
            .filter_map(|leak| leak.id.as_ref())
            .collect();
        for id in scopes {
            problems.extend(text(self.rooms.cgroups.forget_scopes(id.as_str()).await));
        }
        problems
    }

    /// Runs a part of the sweep where it may block.
    async fn off_thread(
        &self,
        found: &[Leak],
        work: impl FnOnce(&Leaks, &[Leak]) -> Vec<String> + Send + 'static,
    ) -> Vec<String> {
        let (this, found) = (self.clone(), found.to_vec());
        let done = blocking(move || Ok::<_, super::LeakError>(work(&this, &found))).await;
        done.unwrap_or_else(|error| vec![error.to_string()])
    }

    /// Ends what runs: monitors first, which would have something to write about the end.
    fn kill(&self, found: &[Leak], ids: &BTreeSet<Id>) -> Vec<String> {
        for seen in processes::all(&self.rooms.run_dir).into_iter().flatten() {
            let Some(bundle) = seen.bundle.filter(|bundle| bundle.is_ours) else {
                continue;
            };
            if !ids.contains(&bundle.id) {
                continue;
            }
            // What cannot be opened now the next sweep finds.
            let Ok(Some(process)) = Process::open(seen.pid, None) else {
                continue;
            };
            // Between listing and opening another process may have got the pid.
            if processes::works_for(seen.pid, &bundle.id, &self.rooms.run_dir) {
                process.kill();
            }
        }
        let cgroups = of(found, Kind::Cgroup);
        cgroups
            .filter_map(|cgroup| text(self.rooms.cgroups.kill(&cgroup.name, KILL_WAIT)))
            .collect()
    }

    /// Unmounts what is mounted, and removes root filesystems with their mounts.
    fn unmount(&self, found: &[Leak]) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(store) = &self.rooms.store {
            let roots = store.roots_place();
            let names = of(found, Kind::Directory).filter_map(|leak| {
                let path = Path::new(&leak.name).strip_prefix(&roots).ok()?;
                path.to_str()
            });
            problems.extend(names.filter_map(|name| text(store.remove_root(name))));
        }
        // Those above others last, as they were mounted first; a path sorts before those below it.
        let points: Vec<&Leak> = of(found, Kind::Mount).collect();
        for point in points.into_iter().rev() {
            match umount2(
                Path::new(&point.name),
                MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW,
            ) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(errno) => problems.push(format!("unmount {}: {errno}", point.name)),
            }
        }
        problems
    }

    /// Releases host ports, namespaces and cgroups, and removes directories.
    fn release(&self, found: &[Leak]) -> Vec<String> {
        let mut problems = Vec::new();
        let holders = of(found, Kind::HostPort).filter_map(|leak| leak.id.as_ref());
        let holders: BTreeSet<String> = holders.map(ToString::to_string).collect();
        if !holders.is_empty() {
            problems.extend(text(self.rooms.networks.host_ports().sweep(&holders)));
        }
        for pin in of(found, Kind::Namespace) {
            if let Some(id) = &pin.id {
                problems.extend(text(sandbox::unpin(&self.settings.namespaces_dir, id)));
            }
        }
        for cgroup in of(found, Kind::Cgroup) {
            problems.extend(text(self.rooms.cgroups.remove(&cgroup.name)));
        }
        let run_dir = self.rooms.run_dir.root();
        for directory in of(found, Kind::Directory) {
            let path = Path::new(&directory.name);
            // What is in the store only the store deletes: a tree there is as deep as a container made
            // it.
            if path.starts_with(run_dir)
                && let Err(error) = fs::remove_dir_all(path)
                && error.kind() != ErrorKind::NotFound
            {
                problems.push(format!("remove {}: {error}", path.display()));
            }
        }
        problems
    }
}

fn of(found: &[Leak], kind: Kind) -> impl DoubleEndedIterator<Item = &Leak> {
    found.iter().filter(move |leak| leak.kind == kind)
}

fn text<E: std::fmt::Display>(outcome: Result<(), E>) -> Option<String> {
    outcome.err().map(|error| error.to_string())
}
