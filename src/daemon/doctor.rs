//! What the commands that look after a node work with: the daemon's own rooms while one runs, and the
//! same rules on the same places while none does.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{DaemonError, House, settings};
use crate::cgroup::{Cgroups, Manager};
use crate::checkup::{self, Checkup};
use crate::config::{self, Config, Loaded, ReadyHandler};
use crate::leaks::{self, Leaks};
use crate::network::Networks;
use crate::runtime::Program;
use crate::state::{Id, RecordError, RunDir};
use crate::storage::Store;
use crate::sys::blocking;

/// How long deleting may take that opening a store has begun.
pub const SETTLE: Duration = Duration::from_secs(600);

/// The places of the node while no daemon has them. Holds the locks that a daemon takes when it starts,
/// if something is to be changed.
#[derive(Debug)]
pub struct Alone {
    /// The account of leftovers.
    pub leaks: Leaks,
    /// The store, where it was to be changed.
    pub store: Option<Store>,
    _lock: Option<File>,
}

impl Alone {
    /// What nobody owns, once the store has deleted what it was opened with.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn settled(&self) -> Result<Vec<leaks::Leak>, DaemonError> {
        if let Some(store) = self.store.clone() {
            let settle = move || Ok::<_, DaemonError>(store.settle(SETTLE));
            blocking(settle).await?;
        }
        Ok(self.leaks.find().await?)
    }
}

/// Whether a daemon works on this configuration's run root, whether or not it answers. Blocks.
///
/// # Errors
/// When the lock cannot be looked at.
pub fn is_running(loaded: &Loaded) -> Result<bool, DaemonError> {
    Ok(RunDir::new(&loaded.config.runroot).is_locked()?)
}

/// Looks after the node without a daemon; `change`: takes the places for this process, so that a daemon
/// that is started meanwhile ends with a word about it. Opening the store sweeps it as a daemon's start
/// does. Blocks.
///
/// # Errors
/// When a daemon has the places, or they cannot be used.
pub fn alone(loaded: &Loaded, change: bool) -> Result<Alone, DaemonError> {
    let (lock, store) = match change {
        true => (Some(lock(loaded)?), Some(open_store(loaded)?)),
        false => (None, None),
    };
    with_rooms(loaded, lock, store, false)
}

/// As [`alone`], for removing everything: nobody owns anything any more. Blocks.
///
/// # Errors
/// When the places cannot be used.
pub(super) fn wiping(loaded: &Loaded, lock: Option<File>) -> Result<Alone, DaemonError> {
    with_rooms(loaded, lock, Some(open_store(loaded)?), true)
}

fn with_rooms(
    loaded: &Loaded,
    lock: Option<File>,
    store: Option<Store>,
    wiping: bool,
) -> Result<Alone, DaemonError> {
    let config = &loaded.config;
    let run_dir = RunDir::new(&config.runroot);
    let manager = settings::cgroup_manager(config);
    // One that is missing cannot be asked; what the others made is found all the same.
    let ready = config::handlers(loaded).map_or_else(|_| Vec::new(), |found| found.ready);
    let runtimes = programs(&ready, config, manager);
    let rooms = leaks::Rooms {
        run_dir,
        cgroups: Arc::new(Cgroups::detect(manager)?),
        networks: Networks::open(settings::network(config)),
        store: store.clone(),
    };
    let mut settings = settings::leaks(config, runtimes);
    settings.alone = true;
    settings.wiping = wiping;
    Ok(Alone {
        leaks: Leaks::new(settings, rooms),
        store,
        _lock: lock,
    })
}

/// The check of store and records while no daemon runs.
pub fn checkup_alone(loaded: &Loaded) -> Checkup {
    Checkup {
        storage: settings::storage(&loaded.config),
        run_dir: RunDir::new(&loaded.config.runroot),
        house: None,
    }
}

/// Opens the store, which sweeps it as a daemon's start does. Blocks.
///
/// # Errors
/// When another process has it, or it cannot be used.
pub fn open_store(loaded: &Loaded) -> Result<Store, DaemonError> {
    Ok(Store::open(settings::storage(&loaded.config))?)
}

/// The objects that have a directory in this one.
pub(super) fn ids_in(path: PathBuf) -> Result<Vec<(Id, PathBuf)>, DaemonError> {
    let list = "list";
    crate::state::ids_in(&path).map_err(|source| {
        RecordError::Io {
            path,
            step: list,
            source,
        }
        .into()
    })
}

/// Keeps a daemon from starting as long as the file is open; for what is to be looked at before the
/// store is opened. Blocks.
///
/// # Errors
/// When a daemon runs.
pub fn lock(loaded: &Loaded) -> Result<File, DaemonError> {
    Ok(RunDir::new(&loaded.config.runroot).lock()?)
}

/// The same beside this daemon.
pub(super) fn checkup(loaded: &Loaded, house: &House) -> Checkup {
    Checkup {
        house: Some(checkup::House {
            store: house.store.clone(),
            containers: Arc::clone(&house.containers),
        }),
        ..checkup_alone(loaded)
    }
}

/// The programs of handlers that can be run.
pub(super) fn programs(ready: &[ReadyHandler], config: &Config, manager: Manager) -> Vec<Program> {
    let handlers = ready.iter().cloned();
    handlers
        .map(|ready| settings::handler(ready, config, manager).program)
        .collect()
}
