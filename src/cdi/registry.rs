//! The specifications on this node, and devices found in them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::document::{self, ContainerEdits, Format, Specification};
use super::{CdiError, DeviceName, Edits, nodes};

/// The most that is read of one file; a node with eight GPUs has some 100 kB.
pub(super) const MAX_FILE_BYTES: u64 = 4 << 20;
/// Most files of one directory that are looked at.
const MAX_FILES: usize = 1024;

/// The specifications in the configured directories (`cdi_spec_dirs`).
#[derive(Debug)]
pub struct Registry {
    dirs: ArcSwap<Vec<PathBuf>>,
    /// What was read last. Held while files are read: a container that asks for devices waits for
    /// another that does, and nobody else.
    files: Mutex<HashMap<PathBuf, Known>>,
}

/// A file as it was when it was read.
#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    content: Result<Arc<Specification>, String>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// A device and where it stands.
struct Found<'a> {
    rank: usize,
    file: &'a Path,
    specification: &'a Specification,
    edits: &'a ContainerEdits,
}

impl Registry {
    /// The specifications below `dirs`; later ones win. Nothing is read yet.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self {
            dirs: ArcSwap::from_pointee(dirs),
            files: Mutex::default(),
        }
    }

    /// Looks in these directories from now on.
    pub fn set_dirs(&self, dirs: Vec<PathBuf>) {
        self.dirs.store(Arc::new(dirs));
    }

    /// What the named devices change together. Files that changed since the last call are read
    /// anew; one that cannot be used is logged and passed over. Blocks.
    ///
    /// # Errors
    /// When a device is in no specification, in two of the same directory, or has a device node
    /// that is not on the host.
    pub fn resolve(&self, names: &[DeviceName]) -> Result<Edits, CdiError> {
        if names.is_empty() {
            return Ok(Edits::default());
        }
        let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let order = self.refresh(&mut known);
        let mut edits = Edits::default();
        let mut common_done = HashSet::new();
        for name in names {
            let found = self.find(name, &order, &known)?;
            if common_done.insert(found.file.to_owned()) {
                add(&mut edits, name, found.file, &found.specification.common)?;
            }
            add(&mut edits, name, found.file, found.edits)?;
        }
        Ok(edits)
    }

    /// Brings `known` up to date; returns its files with the rank of their directory.
    fn refresh(&self, known: &mut HashMap<PathBuf, Known>) -> Vec<(usize, PathBuf)> {
        let mut order = Vec::new();
        for (rank, dir) in self.dirs.load().iter().enumerate() {
            match list(dir) {
                Ok(files) => order.extend(files.into_iter().map(|file| (rank, file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(dir = %dir.display(), %error, "CDI directory skipped"),
            }
        }
        let listed: HashSet<&Path> = order.iter().map(|(_, file)| file.as_path()).collect();
        known.retain(|file, _| listed.contains(file.as_path()));
        for (_, file) in &order {
            let before = known.get(file).map(|known| known.stamp);
            match read(file, before) {
                Ok(None) => {}
                Ok(Some((stamp, content))) => {
                    if let Err(problem) = &content {
                        tracing::warn!(file = %file.display(), problem, "CDI specification skipped");
                    }
                    known.insert(file.clone(), Known { stamp, content });
                }
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "CDI specification skipped");
                    known.remove(file);
                }
            }
        }
        order
    }

    /// The device in the directory of the highest rank that has it.
    fn find<'a>(
        &self,
        name: &DeviceName,
        order: &'a [(usize, PathBuf)],
        known: &'a HashMap<PathBuf, Known>,
    ) -> Result<Found<'a>, CdiError> {
        let mut best: Option<Found<'a>> = None;
        let mut broken = Vec::new();
        for (rank, file) in order.iter().rev() {
            let specification = match known.get(file).map(|known| &known.content) {
                Some(Ok(specification)) => specification,
                Some(Err(problem)) => {
                    broken.push(format!("{}: {problem}", file.display()));
                    continue;
                }
                None => continue,
            };
            let mut devices = specification.devices.iter();
            let edits = devices
                .find(|(device, _)| DeviceName::of(&specification.kind, device) == *name)
                .map(|(_, edits)| edits);
            match (&best, edits) {
                (_, None) => {}
                (Some(found), Some(_)) if found.rank == *rank => {
                    return Err(CdiError::Conflict {
                        name: name.as_str().to_owned(),
                        first: file.clone(),
                        second: found.file.to_owned(),
                    });
                }
                (Some(_), Some(_)) => break,
                (None, Some(edits)) => {
                    best = Some(Found {
                        rank: *rank,
                        file,
                        specification,
                        edits,
                    });
                }
            }
        }
        best.ok_or_else(|| CdiError::Unresolvable {
            name: name.as_str().to_owned(),
            dirs: self.dirs.load().to_vec(),
            broken,
        })
    }
}

/// The specification files of a directory, by name.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if format(&path).is_some() {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(io::Error::other(format!(
                "it holds more than {MAX_FILES} files"
            )));
        }
    }
    files.sort();
    Ok(files)
}

fn format(file: &Path) -> Option<Format> {
    match file.extension()?.to_str()? {
        "json" => Some(Format::Json),
        "yaml" => Some(Format::Yaml),
        _ => None,
    }
}

/// What a file says, unless it is as it was `before`.
#[allow(
    clippy::type_complexity,
    reason = "used once, right below the types it is made of"
)]
fn read(
    path: &Path,
    before: Option<Stamp>,
) -> io::Result<Option<(Stamp, Result<Arc<Specification>, String>)>> {
    // without O_NONBLOCK the open of a pipe would wait for a writer
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let facts = file.metadata()?;
    let stamp = Stamp {
        inode: facts.ino(),
        bytes: facts.len(),
        changed: (facts.mtime(), facts.mtime_nsec()),
    };
    if before == Some(stamp) {
        return Ok(None);
    }
    if !facts.is_file() {
        return Ok(Some((stamp, Err("it is not a regular file".to_owned()))));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let problem = format!("it is larger than {MAX_FILE_BYTES} bytes");
        return Ok(Some((stamp, Err(problem))));
    }
    let format = format(path).unwrap_or(Format::Json);
    let content = document::parse(&text, format).map(Arc::new);
    Ok(Some((stamp, content)))
}

/// Adds a file's edits to those of other devices.
fn add(
    edits: &mut Edits,
    name: &DeviceName,
    file: &Path,
    more: &ContainerEdits,
) -> Result<(), CdiError> {
    if more.net_devices {
        return Err(CdiError::Unsupported {
            name: name.as_str().to_owned(),
            file: file.to_owned(),
            field: "netDevices",
        });
    }
    for node in &more.nodes {
        let device = nodes::complete(node).map_err(|source| CdiError::Node {
            name: name.as_str().to_owned(),
            file: file.to_owned(),
            node: node.host_path.clone().into(),
            source,
        })?;
        edits.nodes.push((device, node.access.clone()));
    }
    edits.env.extend_from_slice(&more.env);
    edits.mounts.extend_from_slice(&more.mounts);
    edits.hooks.extend_from_slice(&more.hooks);
    edits.additional_gids.extend_from_slice(&more.gids);
    if more.intel_rdt.is_some() {
        edits.intel_rdt.clone_from(&more.intel_rdt);
    }
    Ok(())
}
