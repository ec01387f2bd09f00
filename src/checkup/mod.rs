//! Whether what is on disk is as it should be: the store with every layer, and the records of pods and
//! containers. What is wrong is told with what it affects; a repair removes what is broken and nothing
//! else, and never what a container uses.
//!
//! What a layer or a record must be, `storage::examine` and `state` know; this room puts the two
//! together. What nobody owns is another question, which `leaks` answers.

mod findings;
mod repair;

use std::sync::Arc;

use crate::container::{Containers, Record as ContainerRecord};
use crate::sandbox::Record as PodRecord;
use crate::state::{RecordError, RunDir, read_all};
use crate::storage::{self, Depth, Examination, Progress, StorageError, Store, examine};

/// What is checked.
#[derive(Debug, Clone)]
pub struct Checkup {
    /// Where layers and images are.
    pub storage: storage::Settings,
    /// Where records are.
    pub run_dir: RunDir,
    /// The rooms of the daemon that runs; `None`: no daemon does.
    pub house: Option<House>,
}

/// The rooms that a repair beside a running daemon goes through.
#[derive(Debug, Clone)]
pub struct House {
    /// The open store.
    pub store: Store,
    /// Who uses it.
    pub containers: Arc<Containers>,
}

/// Something that is wrong.
#[derive(Debug, Clone)]
pub struct Finding {
    /// In what, as "layer sha256:…".
    pub what: String,
    /// What is wrong.
    pub problem: String,
    /// The images and containers that it concerns, in words.
    pub affects: Vec<String>,
    /// What would mend it.
    pub remedy: Remedy,
    /// What a repair has made of it.
    pub outcome: Outcome,
}

/// What mends a finding.
#[derive(Debug, Clone)]
pub enum Remedy {
    /// The images of these ids go, to be pulled again.
    RemoveImages(Vec<String>),
    /// The container of this id goes.
    RemoveContainer(String),
    /// What a person has to do.
    ByHand(String),
}

/// What has become of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No repair was asked for.
    Found,
    /// What was broken is gone.
    Repaired(String),
    /// It is there still, and why.
    Stays(String),
}

/// What a check has found.
#[derive(Debug)]
pub struct Report {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What was looked at, and what cannot be verified.
    pub examination: Examination,
    /// How many records of pods and containers were read.
    pub records: usize,
}

/// The check could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckupError {
    /// The store cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The records cannot be listed.
    #[error(transparent)]
    Records(#[from] RecordError),
}

/// The records of the run root, as they are on disk.
struct Recorded {
    pods: Vec<(crate::state::Id, Result<PodRecord, String>)>,
    containers: Vec<(crate::state::Id, Result<ContainerRecord, String>)>,
    aside: Vec<crate::state::Id>,
}

impl Checkup {
    /// Looks at everything. Blocks, at full depth for as long as reading all layers takes; `watch` is
    /// told how far it has come and ends it by `false`.
    ///
    /// # Errors
    /// When a directory cannot be listed, or `watch` ends it.
    pub fn check(
        &self,
        depth: Depth,
        watch: &mut (dyn FnMut(Progress) -> bool + Send),
    ) -> Result<Report, CheckupError> {
        let examination = match &self.house {
            Some(house) => house.store.examine(depth, watch)?,
            None => examine(&self.storage, depth, watch)?,
        };
        let recorded = self.recorded()?;
        Ok(Report {
            findings: findings::of(&examination, &recorded),
            records: recorded.pods.len() + recorded.containers.len(),
            examination,
        })
    }

    fn recorded(&self) -> Result<Recorded, RecordError> {
        let quarantine = self.run_dir.quarantine();
        let aside = crate::state::ids_in(&quarantine).map_err(|source| RecordError::Io {
            path: quarantine,
            step: "list what was set aside",
            source,
        })?;
        Ok(Recorded {
            pods: read_all(&self.run_dir.sandboxes())?,
            containers: read_all(&self.run_dir.containers())?,
            aside: aside.into_iter().map(|(id, _)| id).collect(),
        })
    }
}
