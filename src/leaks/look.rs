//! Looking: what there is first, and then who exists, so that what was made meanwhile has its owner.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::processes::{self, Seen};
use super::{Kind, Leak, LeakError, Leaks, Running};
use crate::cgroup::Named;
use crate::sandbox;
use crate::state::{Id, Owners, ids_in};
use crate::storage::{self, Left};
use crate::sys::mountinfo;

/// What there is, before it is asked whose it is.
struct Scene {
    /// All of these are ours by where they are or by what they say.
    ours: Vec<Leak>,
    /// These only when something else says that their id is ours.
    cgroups: Vec<Named>,
    processes: Vec<Seen>,
}

impl Leaks {
    /// What no record owns now. A thing that is just being removed may be among it. Blocks.
    pub(super) fn look(&self) -> Result<Vec<Leak>, LeakError> {
        let scene = self.scene()?;
        let owners = match self.settings.wiping {
            true => self.nobody()?,
            false => self.owners()?,
        };
        let ids = foundlings(&scene, &owners);
        let mut leaks: Vec<Leak> = scene
            .ours
            .into_iter()
            .filter(|leak| leak.id.as_ref().is_none_or(|id| ids.contains(id)))
            .collect();
        leaks.extend(owners.abandoned.iter().map(|path| directory(path.clone())));
        let of_ours = scene.cgroups.iter().filter_map(|cgroup| {
            let id = cgroup.id.parse().ok()?;
            ids.contains(&id)
                .then(|| leak(Kind::Cgroup, id, &cgroup.path))
        });
        leaks.extend(of_ours);
        leaks.extend(
            scene
                .processes
                .iter()
                .filter_map(|seen| process(seen, &ids)),
        );
        let texts: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
        if !texts.is_empty() {
            let leases = self.rooms.networks.leases(&texts)?.into_iter();
            leaks.extend(leases.filter_map(|lease| {
                let id = lease.sandbox_id.parse().ok()?;
                Some(leak(Kind::Lease, id, lease.path.to_string_lossy()))
            }));
        }
        leaks.sort();
        leaks.dedup();
        Ok(leaks)
    }

    /// The processes of those who exist.
    pub(super) fn owned_processes(&self) -> Result<Running, LeakError> {
        let all = self.processes()?;
        let owners = self.owners()?;
        let mut running = Running::default();
        for seen in &all {
            let bundle = seen.bundle.as_ref().filter(|bundle| bundle.is_ours);
            let mut ids = bundle
                .map(|bundle| &bundle.id)
                .into_iter()
                .chain(&seen.cgroup_ids);
            let Some(id) = ids.find(|id| owners.owns(id) || bundle.is_some()) else {
                continue;
            };
            let place = match owners.is_set_aside(id) {
                true => &mut running.set_aside,
                false => &mut running.listed,
            };
            place.push(format!(
                "{} ({}, process {})",
                id.short(),
                seen.command,
                seen.pid
            ));
        }
        Ok(running)
    }

    fn owners(&self) -> Result<Owners, LeakError> {
        let run_dir = &self.rooms.run_dir;
        let owners = run_dir.owners(self.settings.alone);
        owners.map_err(io_error("list", run_dir.root()))
    }

    /// No owners, and every directory that one has abandoned.
    fn nobody(&self) -> Result<Owners, LeakError> {
        let run_dir = &self.rooms.run_dir;
        let mut owners = Owners::default();
        for place in [
            run_dir.sandboxes(),
            run_dir.containers(),
            run_dir.quarantine(),
        ] {
            let ids = ids_in(&place).map_err(io_error("list", &place))?;
            owners
                .abandoned
                .extend(ids.into_iter().map(|(_, path)| path));
        }
        Ok(owners)
    }

    fn processes(&self) -> Result<Vec<Seen>, LeakError> {
        processes::all(&self.rooms.run_dir).map_err(io_error("list", Path::new("/proc")))
    }

    fn scene(&self) -> Result<Scene, LeakError> {
        let (settings, rooms) = (&self.settings, &self.rooms);
        let run_dir = &rooms.run_dir;
        let mut ours = self.mounts()?;
        for program in &settings.runtimes {
            let found = program
                .states_of(run_dir.root())
                .map_err(io_error("list", &program.root))?;
            let state =
                |(id, path): (Id, PathBuf)| leak(Kind::RuntimeState, id, path.to_string_lossy());
            ours.extend(found.into_iter().map(state));
        }
        for id in sandbox::pinned(&settings.namespaces_dir, run_dir.top())? {
            let name = settings.namespaces_dir.join("*ns").join(id.as_str());
            ours.push(leak(Kind::Namespace, id, name.to_string_lossy()));
        }
        for attached in rooms.networks.attachments()? {
            let Ok(id) = attached.sandbox_id.parse::<Id>() else {
                continue;
            };
            let links = attached.links.iter();
            ours.extend(links.map(|link| leak(Kind::Link, id.clone(), link)));
            ours.push(leak(Kind::Attachment, id, attached.path.to_string_lossy()));
        }
        let host_ports = rooms.networks.host_ports();
        for id in host_ports.holders()? {
            let Ok(id) = id.parse::<Id>() else { continue };
            ours.push(leak(Kind::HostPort, id, host_ports.table()));
        }
        let pauses = run_dir.pauses();
        let pauses = ids_in(&pauses).map_err(io_error("list", &pauses))?;
        ours.extend(pauses.into_iter().map(|(_, path)| directory(path)));
        let Left { roots, rubbish } = storage::left(&settings.storage)?;
        ours.extend(roots.into_iter().map(|(_, path)| directory(path)));
        if settings.alone {
            let rubbish = rubbish.into_iter().map(|path| Leak {
                id: None,
                ..directory(path)
            });
            ours.extend(rubbish);
        }
        Ok(Scene {
            ours,
            cgroups: rooms.cgroups.named()?,
            processes: self.processes()?,
        })
    }

    /// Mounts below our directories that carry an id.
    fn mounts(&self) -> Result<Vec<Leak>, LeakError> {
        let points =
            mountinfo::points().map_err(io_error("read", Path::new("/proc/self/mountinfo")))?;
        let mut places = storage::places(&self.settings.storage);
        places.push(self.rooms.run_dir.root().to_owned());
        // The kernel says where things are, not by which links one gets there.
        let places: Vec<PathBuf> = places
            .into_iter()
            .map(|place| std::fs::canonicalize(&place).unwrap_or(place))
            .collect();
        let of_ours = |point: &PathBuf| {
            let below = places
                .iter()
                .find_map(|place| point.strip_prefix(place).ok())?;
            let mut parts = below.iter().filter_map(|part| part.to_str());
            let id = parts.find_map(|part| part.parse::<Id>().ok())?;
            Some(leak(Kind::Mount, id, point.to_string_lossy()))
        };
        Ok(points.iter().filter_map(of_ours).collect())
    }
}

/// The ids without an owner that are ours: something carries them that nobody else makes.
fn foundlings(scene: &Scene, owners: &Owners) -> BTreeSet<Id> {
    let placed = scene.ours.iter().filter_map(|leak| leak.id.clone());
    let marked = scene.cgroups.iter().filter(|cgroup| cgroup.is_ours);
    let marked = marked.filter_map(|cgroup| cgroup.id.parse().ok());
    let bundles = |is_ours: bool| {
        let bundles = scene
            .processes
            .iter()
            .filter_map(|seen| seen.bundle.as_ref());
        bundles
            .filter(move |bundle| bundle.is_ours == is_ours)
            .map(|bundle| bundle.id.clone())
    };
    let mut ids: BTreeSet<Id> = placed.chain(marked).chain(bundles(true)).collect();
    ids.retain(|id| !owners.owns(id));
    // Somebody has given us the root of another daemon, whose containers run: its monitors say so.
    for foreign in bundles(false) {
        ids.remove(&foreign);
    }
    ids
}

fn process(seen: &Seen, ids: &BTreeSet<Id>) -> Option<Leak> {
    let bundle = seen.bundle.as_ref().map(|bundle| &bundle.id);
    let id = bundle
        .into_iter()
        .chain(&seen.cgroup_ids)
        .find(|id| ids.contains(*id))?;
    Some(leak(
        Kind::Process,
        id.clone(),
        format!("{} {}", seen.pid, seen.command),
    ))
}

fn leak(kind: Kind, id: Id, name: impl Into<String>) -> Leak {
    let (id, name) = (Some(id), name.into());
    Leak { kind, id, name }
}

fn directory(path: PathBuf) -> Leak {
    let id = path
        .file_name()
        .and_then(|name| name.to_str()?.parse().ok());
    Leak {
        kind: Kind::Directory,
        id,
        name: path.to_string_lossy().into_owned(),
    }
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LeakError {
    let path = path.to_owned();
    move |source| LeakError::Io { step, path, source }
}
