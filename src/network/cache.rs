//! The record of each attachment, in libcni's place and format, so that DEL can be run after a
//! crash, an upgrade or a reboot, and so that other tools (Multus, CRI-O) can read it.
//!
//! Layout: `<cache_dir>/results/<network>-<sandbox id>-<interface>`, mode 0600, one JSON object of
//! kind `cniCacheV1`, with the additional fields `owner` and `instance`, which other readers ignore.
//! They tell our records from those that a plugin makes for the same pod when it calls other plugins
//! by libcni, as Multus does, which are that plugin's to delete, and from those of another cricket.
//! Crash rule: the record is written before the first plugin runs, without
//! `result`, and replaced by one with it after the last. So whatever a crash leaves has a record,
//! and a record without result means "may be attached". It is written beside `results` and
//! renamed into it: readers list that directory. There is no fsync: host-local's leases, which a
//! record stands for, have none either.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{INTERFACE, bounded, config::Network, error::NetworkError};

/// Our name in `owner`.
const OWNER: &str = "cricket";

/// The end of a record's name while it is written.
const UNFINISHED: &str = ".tmp";

/// The only kind of record there is.
const KIND: &str = "cniCacheV1";

/// The largest record: a configuration in base64 and a result are at most 1 MiB each, and the
/// capability arguments hold a pod's annotations (256 KiB by Kubernetes' own limit).
const MAX_RECORD: u64 = 4 << 20;

/// One attachment. Names are libcni's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    kind: String,
    pub(super) container_id: String,
    /// The network's configuration list in base64.
    config: String,
    pub(super) if_name: String,
    pub(super) network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) capability_args: Option<Map<String, Value>>,
    /// What the last plugin answered; `None` until it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// The run root of the daemon that made it, beside `owner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<PathBuf>,
}

impl Record {
    /// The record of an attachment that is about to be made.
    pub(super) fn intent(
        network: &Network,
        sandbox_id: &str,
        interface: &str,
        netns: String,
        cni_args: Vec<(String, String)>,
        capability_args: Map<String, Value>,
    ) -> Self {
        Self {
            kind: KIND.to_owned(),
            container_id: sandbox_id.to_owned(),
            config: network.to_base64(),
            if_name: interface.to_owned(),
            network_name: network.name.clone(),
            netns,
            cni_args: Some(cni_args),
            capability_args: Some(capability_args).filter(|args| !args.is_empty()),
            result: None,
            owner: Some(OWNER.to_owned()),
            instance: None,
        }
    }

    fn is_ours(&self) -> bool {
        self.owner.as_deref() == Some(OWNER)
    }

    /// The network as it was when the pod was attached.
    pub(super) fn network(&self) -> Result<Network, String> {
        let bytes = BASE64_STANDARD
            .decode(&self.config)
            .map_err(|e| format!("config: {e}"))?;
        let network = Network::parse_list(&bytes).map_err(|e| format!("config: {e}"))?;
        if network.plugins.is_empty() {
            return Err("config: has no plugins".to_owned());
        }
        Ok(network)
    }
}

/// What stands in the cache for a sandbox.
#[derive(Debug)]
pub(super) enum Found {
    /// A record.
    Record(PathBuf, Box<Record>),
    /// A file in a record's place that is none, for example cut short by a power failure.
    Damaged(PathBuf, String),
}

/// The directory of records. Its methods block on the disk.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn results(&self) -> PathBuf {
        self.dir.join("results")
    }

    pub(super) fn path(&self, record: &Record) -> PathBuf {
        let Record {
            network_name,
            container_id,
            if_name,
            ..
        } = record;
        self.results()
            .join(format!("{network_name}-{container_id}-{if_name}"))
    }

    /// Writes the record, in place of an older one of the same attachment.
    pub(super) fn store(&self, record: &Record) -> Result<(), NetworkError> {
        let path = self.path(record);
        let temporary = self.unfinished(&record.container_id, &record.if_name);
        let text = serde_json::to_vec(record).map_err(io::Error::from);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&text?)?;
            fs::rename(&temporary, &path)
        };
        // The directory is there nearly always: look for it only when it was not.
        let results = self.results();
        if !results.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&results)
                .map_err(|source| NetworkError::Cache {
                    path: results,
                    step: "create the directory",
                    source,
                })?;
        }
        write().map_err(|source| {
            // Best effort: the error that counts is the one of the write.
            let _ = fs::remove_file(&temporary);
            NetworkError::Cache {
                path,
                step: "write the record",
                source,
            }
        })
    }

    /// Everything of ours that is cached for one sandbox.
    pub(super) fn of(&self, sandbox_id: &str) -> Result<Vec<Found>, NetworkError> {
        let part = format!("-{sandbox_id}-");
        let mut found: Vec<Found> = self
            .files()?
            .into_iter()
            .filter(|path| file_name(path).contains(&part))
            .filter_map(|path| match read(&path) {
                Ok(Some(record)) if record.is_ours() && record.container_id == sandbox_id => {
                    Some(Found::Record(path, Box::new(record)))
                }
                Ok(_) => None,
                Err(problem) => Some(Found::Damaged(path, problem)),
            })
            .collect();
        found.sort_by(|a, b| a.path().cmp(b.path()));
        Ok(found)
    }

    /// Our records of attachments whose network namespace was pinned at `<netns_dir>/<id>`: a
    /// second daemon, with a root of its own, may have the same cache.
    pub(super) fn pinned_in(
        &self,
        netns_dir: &Path,
        instance: &Path,
    ) -> Result<Vec<Record>, NetworkError> {
        let mut records = Vec::new();
        for path in self.files()? {
            match read(&path) {
                Ok(Some(record))
                    if record.is_ours()
                        && record.instance.as_deref().is_none_or(|one| one == instance)
                        && Path::new(&record.netns) == netns_dir.join(&record.container_id) =>
                {
                    records.push(record);
                }
                Ok(_) => {}
                Err(problem) => {
                    tracing::warn!(path = %path.display(), problem, "CNI cache record cannot be read");
                }
            }
        }
        Ok(records)
    }

    /// What a record of this attachment is called while it is written.
    fn unfinished(&self, sandbox_id: &str, interface: &str) -> PathBuf {
        self.dir
            .join(format!(".{sandbox_id}-{interface}{UNFINISHED}"))
    }

    /// All attachments to a network, whoever has made them: sandbox and interface. A record that
    /// cannot be read counts by its name.
    pub(super) fn attachments_of(
        &self,
        network: &str,
    ) -> Result<Vec<(String, String)>, NetworkError> {
        let files = self.files()?.into_iter();
        let attachments = files.filter_map(|path| match read(&path) {
            Ok(Some(record)) if record.network_name == network => {
                Some((record.container_id, record.if_name))
            }
            Ok(_) => None,
            Err(_) => Some((
                sandbox_of(&file_name(&path))?.to_owned(),
                INTERFACE.to_owned(),
            )),
        });
        Ok(attachments.collect())
    }

    /// Whether there is a file with this sandbox in its name.
    pub(super) fn mentions(&self, sandbox_id: &str) -> Result<bool, NetworkError> {
        let part = format!("-{sandbox_id}-");
        Ok(self
            .files()?
            .iter()
            .any(|path| file_name(path).contains(&part)))
    }

    /// Removes what a daemon left that was killed while it wrote a record.
    pub(super) fn remove_unfinished(
        &self,
        sandbox_id: &str,
        interface: &str,
    ) -> Result<(), NetworkError> {
        self.remove(&self.unfinished(sandbox_id, interface))
    }

    /// The files in place of a pod's record that are none, and the sandbox that their names say.
    pub(super) fn damaged(&self) -> Vec<(PathBuf, String)> {
        let files = self.files().unwrap_or_default().into_iter();
        files
            .filter_map(|path| Some((sandbox_of(&file_name(&path))?.to_owned(), path)))
            .filter(|(_, path)| read(path).is_err())
            .map(|(sandbox_id, path)| (path, sandbox_id))
            .collect()
    }

    /// Removes the records for which `is_old` holds that were written beside their place and not
    /// renamed into it.
    pub(super) fn remove_all_unfinished(&self, is_old: impl Fn(&Path) -> bool) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = file_name(&path);
            if name.starts_with('.') && name.ends_with(UNFINISHED) && is_old(&path) {
                // The next start tries again.
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Removes a record; one that is not there is removed already.
    pub(super) fn remove(&self, path: &Path) -> Result<(), NetworkError> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(NetworkError::Cache {
                path: path.to_owned(),
                step: "remove the record",
                source: e,
            }),
            _ => Ok(()),
        }
    }

    /// Removes the record of an attachment.
    pub(super) fn forget(&self, record: &Record) -> Result<(), NetworkError> {
        self.remove(&self.path(record))
    }

    fn files(&self) -> Result<Vec<PathBuf>, NetworkError> {
        let results = self.results();
        let list = || -> io::Result<Vec<PathBuf>> {
            match fs::read_dir(&results) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
                entries => entries?.map(|entry| Ok(entry?.path())).collect(),
            }
        };
        list().map_err(|source| NetworkError::Cache {
            path: results.clone(),
            step: "list",
            source,
        })
    }
}

impl Found {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Record(path, _) | Self::Damaged(path, _) => path,
        }
    }
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// The sandbox in the name of a record of its [`INTERFACE`].
fn sandbox_of(name: &str) -> Option<&str> {
    let (_, id) = name
        .strip_suffix(INTERFACE)?
        .strip_suffix('-')?
        .rsplit_once('-')?;
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(id)
}

/// Reads a record. `None` is one of another kind, which is not for us.
fn read(path: &Path) -> Result<Option<Record>, String> {
    let bytes = bounded::read(path, MAX_RECORD).map_err(|e| e.to_string())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| format!("not JSON: {e}"))?;
    if value.get("kind").and_then(Value::as_str) != Some(KIND) {
        return Ok(None);
    }
    serde_json::from_value(value)
        .map(Some)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
