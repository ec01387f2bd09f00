//! The account of what pods and containers leave behind: everything that cricket makes has an owner,
//! and what has none is found here and swept.
//!
//! Who owns what is a question of ids alone (`state::Owners`): all that is made for a pod or a
//! container carries its id, is made after its record and goes before it. So a thing that is there
//! although no record has its id is a leak whenever one looks, and may be swept without asking anybody.
//! The daemon does so at its start, `cricket doctor leaks --fix` whenever it is asked, by the same
//! rules; what the thing is and how it goes the rooms below say:
//!
//! | kind | found by | goes by |
//! |---|---|---|
//! | process | a working directory in a bundle of ours, a cgroup of an id of ours | SIGKILL |
//! | runtime state | a bundle of ours in it | the runtime's `delete --force` |
//! | mount | a path below our directories | umount |
//! | namespace | the run root below the pin (`sandbox::pinned`) | `sandbox::unpin` |
//! | attachment, lease, link | the record in CNI's cache (`network::leftover`) | CNI's DEL |
//! | host port | the id beside it in our nftables table | a transaction of nf_tables |
//! | cgroup | our mark, or the id of something else that is ours | rmdir |
//! | directory | a path below our directories | removal |
//!
//! Other runtimes, and a second cricket with another run root, use the same names in the same places
//! (`crio-<id>`, runc's state, host-local's leases): an id counts as ours only when something says so
//! that they cannot have.

mod again;
mod look;
mod processes;
mod sweep;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::{CgroupError, Cgroups};
use crate::network::{NetworkError, Networks};
use crate::runtime::Program;
use crate::sandbox::SandboxError;
use crate::state::{Id, RunDir};
use crate::storage::{self, StorageError, Store};
use crate::sys::{ShuttingDown, blocking};

/// How long something may outlive its record: the last a monitor does is to end.
const STRAGGLE: Duration = Duration::from_millis(300);

/// Where things are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Parent of the directories in which namespaces are pinned (`namespaces_dir`).
    pub namespaces_dir: PathBuf,
    /// Where layers and root filesystems are.
    pub storage: storage::Settings,
    /// The OCI runtimes.
    pub runtimes: Vec<Program>,
    /// No daemon works here, so nothing is on its way.
    pub alone: bool,
    /// Everything is to go: nobody owns anything any more.
    pub wiping: bool,
}

/// The rooms whose things are accounted for.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Where volatile files are.
    pub run_dir: RunDir,
    /// Control groups.
    pub cgroups: Arc<Cgroups>,
    /// CNI.
    pub networks: Arc<Networks>,
    /// Root filesystems; without it they are found, and not removed.
    pub store: Option<Store>,
}

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A monitor, a pause process, or one of a container.
    Process,
    /// What an OCI runtime remembers of a container.
    RuntimeState,
    /// A mount.
    Mount,
    /// A pinned namespace.
    Namespace,
    /// An attachment to a network.
    Attachment,
    /// An address that host-local has given away.
    Lease,
    /// An interface of the node.
    Link,
    /// A host port's rules in nftables.
    HostPort,
    /// A control group.
    Cgroup,
    /// A directory, with the sockets and files in it.
    Directory,
}

impl Kind {
    /// The kind as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::RuntimeState => "runtime state",
            Self::Mount => "mount",
            Self::Namespace => "namespace",
            Self::Attachment => "attachment",
            Self::Lease => "ip lease",
            Self::Link => "link",
            Self::HostPort => "host port",
            Self::Cgroup => "cgroup",
            Self::Directory => "directory",
        }
    }
}

/// Something without an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// What it is.
    pub kind: Kind,
    /// Whose it was; `None`: nothing says.
    pub id: Option<Id>,
    /// Its path, name, or process id with what it runs.
    pub name: String,
}

/// What a sweep has done.
#[derive(Debug, Default)]
pub struct Swept {
    /// What was there before and is gone.
    pub gone: Vec<Leak>,
    /// What is there still.
    pub left: Vec<Leak>,
    /// Why, as far as it is known.
    pub problems: Vec<String>,
}

/// Processes of those who exist, in words.
#[derive(Debug, Default)]
pub struct Running {
    /// Of pods and containers that a daemon lists, and ends when it is asked.
    pub listed: Vec<String>,
    /// Of those whose records were set aside, which no daemon lists.
    pub set_aside: Vec<String>,
}

/// The account. Clones are one.
#[derive(Debug, Clone)]
pub struct Leaks {
    settings: Arc<Settings>,
    rooms: Rooms,
}

/// It cannot be told what is left.
#[derive(Debug, thiserror::Error)]
pub enum LeakError {
    /// The kernel's or a directory's list cannot be read.
    #[error("{step} {}: {source}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The control groups cannot be listed.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The attachments cannot be listed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The store cannot be looked at.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The namespaces cannot be listed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The daemon ends.
    #[error(transparent)]
    ShuttingDown(#[from] ShuttingDown),
}

impl Leaks {
    /// The account of these rooms.
    pub fn new(settings: Settings, rooms: Rooms) -> Self {
        let settings = Arc::new(settings);
        Self { settings, rooms }
    }

    /// What has no owner, sorted. Nothing that is being made or removed now is among it.
    ///
    /// # Errors
    /// When something cannot be listed: no answer is better than half of one.
    pub async fn find(&self) -> Result<Vec<Leak>, LeakError> {
        let mut found = self.looked().await?;
        if !found.is_empty() {
            tokio::time::sleep(STRAGGLE).await;
            let still = self.looked().await?;
            found.retain(|leak| still.contains(leak));
        }
        Ok(found)
    }

    /// Sweeps what has no owner, also when a part of it cannot be.
    ///
    /// # Errors
    /// When it cannot be found out what there is.
    pub async fn fix(&self) -> Result<Swept, LeakError> {
        let networks = self.rooms.networks.clone();
        blocking(move || {
            networks.free_lost();
            Ok::<_, LeakError>(())
        })
        .await?;
        // Looked at twice: what somebody is just removing is neither swept nor called so.
        let found = self.find().await?;
        let mut swept = Swept::default();
        if found.is_empty() {
            return Ok(swept);
        }
        swept.problems = self.sweep(&found).await;
        swept.left = self.find().await?;
        let left = &swept.left;
        swept.gone = found
            .into_iter()
            .filter(|leak| !left.contains(leak))
            .collect();
        Ok(swept)
    }

    /// As [`Leaks::fix`], for the start of a daemon: what there is to say goes to the log. Whether
    /// nothing is left.
    async fn fix_and_log(&self) -> bool {
        match self.fix().await {
            Ok(swept) => {
                for (id, leaks) in by_id(&swept.gone) {
                    let what: Vec<&str> = leaks.iter().map(|leak| leak.kind.as_str()).collect();
                    tracing::info!(
                        id,
                        what = what.join(", "),
                        "left behind by nobody who exists, swept"
                    );
                }
                for leak in &swept.left {
                    tracing::error!(
                        kind = leak.kind.as_str(),
                        name = leak.name,
                        "without an owner, not swept"
                    );
                }
                for problem in &swept.problems {
                    tracing::error!(problem, "leftovers not swept");
                }
                swept.left.is_empty() && swept.problems.is_empty()
            }
            Err(error) => {
                tracing::error!(%error, "leftovers not looked for");
                false
            }
        }
    }

    /// The processes of those who exist. Blocks.
    ///
    /// # Errors
    /// When processes or records cannot be listed.
    pub fn running(&self) -> Result<Running, LeakError> {
        self.owned_processes()
    }

    async fn looked(&self) -> Result<Vec<Leak>, LeakError> {
        let this = self.clone();
        blocking(move || this.look()).await
    }
}

fn by_id(leaks: &[Leak]) -> BTreeMap<String, Vec<&Leak>> {
    let mut all: BTreeMap<String, Vec<&Leak>> = BTreeMap::new();
    for leak in leaks {
        let id = leak
            .id
            .as_ref()
            .map_or_else(|| leak.name.clone(), ToString::to_string);
        all.entry(id).or_default().push(leak);
    }
    all
}
