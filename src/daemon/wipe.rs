//! Removing everything that cricket keeps on a node.

use std::fs::File;

use super::{DaemonError, doctor, settings};
use crate::config::Loaded;
use crate::state::RunDir;
use crate::storage::{self, Depth, Subject};
use crate::sys::blocking;

/// What a wipe would remove. While it exists, no daemon starts.
#[derive(Debug, Default)]
pub struct Wipe {
    /// Below which directories everything is.
    pub places: Vec<String>,
    /// Processes of pods and containers that run, in words: nothing can be wiped then.
    pub running: Vec<String>,
    /// Processes of what was set aside, in words. No daemon can end them: a wipe does.
    pub ending: Vec<String>,
    /// Images by name.
    pub images: Vec<String>,
    /// How many layers.
    pub layers: usize,
    /// How many root filesystems of containers.
    pub roots: usize,
    /// How many records of containers.
    pub containers: usize,
    /// How many records of pods.
    pub pods: usize,
    /// How many records, layers and images were set aside.
    pub aside: usize,
    /// What the store occupies on disk.
    pub bytes: u64,
    lock: Option<File>,
}

impl Wipe {
    /// Takes the daemon's lock and looks what there is. Blocks.
    ///
    /// # Errors
    /// When a daemon runs, or a directory cannot be read.
    pub fn prepare(loaded: &Loaded) -> Result<Self, DaemonError> {
        let lock = Some(doctor::lock(loaded)?);
        let run_dir = RunDir::new(&loaded.config.runroot);
        let storage = settings::storage(&loaded.config);
        let found = storage::examine(&storage, Depth::Quick, &mut |_| true)?;
        let names = found
            .images
            .iter()
            .map(|(id, image)| match &image.names[..] {
                [] => id.clone(),
                names => names.join(", "),
            });
        let set_aside = |subject: &Subject| matches!(subject, Subject::SetAside(_));
        let aside = found
            .faults
            .iter()
            .filter(|fault| set_aside(&fault.subject))
            .count();
        let count = |path| Ok::<_, DaemonError>(doctor::ids_in(path)?.len());
        let mut places: Vec<_> = storage::places(&storage);
        places.push(run_dir.root().to_owned());
        let running = doctor::alone(loaded, false)?.leaks.running()?;
        Ok(Self {
            places: places
                .iter()
                .map(|place| place.display().to_string())
                .collect(),
            running: running.listed,
            ending: running.set_aside,
            images: names.collect(),
            layers: found.layers,
            roots: storage::left(&storage)?.roots.len(),
            containers: count(run_dir.containers())?,
            pods: count(run_dir.sandboxes())?,
            aside: aside + count(run_dir.quarantine())?,
            bytes: storage::footprint(&storage)?.bytes,
            lock,
        })
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        let counts = [
            self.layers,
            self.roots,
            self.containers,
            self.pods,
            self.aside,
        ];
        self.images.is_empty() && counts.iter().all(|count| *count == 0)
    }

    /// Removes everything. Returns what did not work.
    ///
    /// # Errors
    /// When it cannot be found out what there is.
    pub async fn run(mut self, loaded: &Loaded) -> Result<Vec<String>, DaemonError> {
        let alone = doctor::wiping(loaded, self.lock.take())?;
        let swept = alone.leaks.fix().await?;
        let mut problems = swept.problems;
        let left = swept.left.iter();
        problems.extend(left.map(|leak| format!("{} {} stays", leak.kind.as_str(), leak.name)));
        if let Some(store) = alone.store.clone() {
            let wiped = blocking(move || Ok(store.wipe()?)).await;
            problems.extend(wiped.err().map(|error: DaemonError| error.to_string()));
        }
        Ok(problems)
    }
}
