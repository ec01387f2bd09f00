//! The configuration directory as it was read last: which networks there are, which one pods get,
//! and if none, why.
//!
//! Files are taken in lexical order. Those that cannot be used are skipped and named. The first
//! network of the rest is the default, unless the settings name one. If a plugin of the default
//! network is missing, pods wait for it: the next network in the directory is another network,
//! and nobody has asked for that.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    bounded,
    config::{FileKind, Network, Plugin},
    error::{ConfigProblem, NotReady, list},
    plugin,
};

/// The largest configuration file.
const MAX_FILE: u64 = 1 << 20;

/// How many configurations of a directory are read.
const MAX_FILES: usize = 1000;

/// How many skipped files a reason names; the rest stands in the log.
const MAX_NAMED: usize = 5;

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Catalog {
    /// The network pods get.
    pub(super) default: Result<Arc<Network>, NotReady>,
    /// Files that were skipped, and why.
    pub(super) problems: Vec<(PathBuf, String)>,
    /// Folders that plugins were, or would have been, read from.
    pub(super) folders: Vec<PathBuf>,
}

impl Catalog {
    /// Reads the directory.
    pub(super) fn read(conf_dir: &Path, plugin_dirs: &[PathBuf], named: Option<&str>) -> Self {
        let mut catalog = Self {
            default: Err(NotReady {
                reason: String::new(),
            }),
            problems: Vec::new(),
            folders: Vec::new(),
        };
        let networks = match files(conf_dir, |path| FileKind::of(path).is_some()) {
            Ok(files) => catalog.load(&files),
            Err(e) => {
                catalog.default = Err(NotReady {
                    reason: unreadable(conf_dir, &e),
                });
                return catalog;
            }
        };
        catalog.default = catalog.choose(networks, conf_dir, plugin_dirs, named);
        catalog
    }

    fn load(&mut self, files: &[PathBuf]) -> Vec<(PathBuf, Network)> {
        let mut networks: Vec<(PathBuf, Network)> = Vec::new();
        for path in files {
            let Some(kind) = FileKind::of(path) else {
                continue;
            };
            match self.load_file(path, kind) {
                Err(problem) => self.problems.push((path.clone(), problem.to_string())),
                Ok(network) => match networks.iter().find(|(_, n)| n.name == network.name) {
                    Some((first, _)) => {
                        let problem = format!("{} has the same network name", first.display());
                        self.problems.push((path.clone(), problem));
                    }
                    None => networks.push((path.clone(), network)),
                },
            }
        }
        networks
    }

    fn load_file(&mut self, path: &Path, kind: FileKind) -> Result<Network, ConfigProblem> {
        let bytes = bounded::read(path, MAX_FILE)?;
        let mut network = match kind {
            FileKind::List => Network::parse_list(&bytes)?,
            FileKind::Single => Network::parse_single(&bytes)?,
        };
        if network.loads_folder {
            let folder = path.with_file_name(&network.name);
            self.folders.push(folder.clone());
            network.append(read_folder(&folder)?);
            if network.plugins.is_empty() {
                return Err(ConfigProblem::NoPlugins { dir: folder });
            }
        }
        Ok(network)
    }

    fn choose(
        &self,
        networks: Vec<(PathBuf, Network)>,
        conf_dir: &Path,
        plugin_dirs: &[PathBuf],
        named: Option<&str>,
    ) -> Result<Arc<Network>, NotReady> {
        let dir = conf_dir.display();
        let not_ready = |mut reason: String| {
            for (path, problem) in self.problems.iter().take(MAX_NAMED) {
                let name = path.strip_prefix(conf_dir).unwrap_or(path).display();
                reason.push_str(&format!("; {name} is skipped: {problem}"));
            }
            if self.problems.len() > MAX_NAMED {
                reason.push_str(&format!("; and {} more", self.problems.len() - MAX_NAMED));
            }
            NotReady { reason }
        };
        let names: Vec<String> = networks
            .iter()
            .map(|(_, n)| format!("{:?}", n.name))
            .collect();
        let mut networks = networks.into_iter();
        let chosen = match named {
            None => networks.next().ok_or_else(|| {
                not_ready(format!(
                    "no usable CNI configuration in {dir}: put a .conflist, .conf or .json file there, \
                     or wait for the network add-on to do so"
                ))
            }),
            Some(name) => networks.find(|(_, network)| network.name == name).ok_or_else(|| {
                let others = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                not_ready(format!(
                    "no CNI configuration in {dir} is named {name:?} (cni_default_network); there are: {others}"
                ))
            }),
        };
        let (path, network) = chosen?;
        for Plugin { kind, .. } in &network.plugins {
            plugin::find(kind, plugin_dirs).map_err(|missing| {
                not_ready(format!(
                    "network {:?} of {}: {missing}",
                    network.name,
                    path.display()
                ))
            })?;
        }
        Ok(Arc::new(network))
    }
}

/// A network's folder: its `*.conf` files are plugins. One that is missing is empty.
fn read_folder(folder: &Path) -> Result<Vec<Plugin>, ConfigProblem> {
    let files = match files(folder, |path| path.extension().is_some_and(|e| e == "conf")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files.map_err(|source| ConfigProblem::Read {
            step: "list its folder",
            source,
        })?,
    };
    files
        .iter()
        .map(|path| {
            let plugin = bounded::read(path, MAX_FILE).and_then(|bytes| Plugin::parse(&bytes));
            plugin.map_err(|problem| ConfigProblem::Field {
                field: path.display().to_string(),
                problem: problem.to_string(),
            })
        })
        .collect()
}

/// The first files of a directory with wanted names, in lexical order.
fn files(dir: &Path, wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if wanted(&path) && !entry.file_type()?.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    files.truncate(MAX_FILES);
    Ok(files)
}

fn unreadable(dir: &Path, error: &io::Error) -> String {
    let dir = list(&[dir]);
    if error.kind() == io::ErrorKind::NotFound {
        return format!(
            "no CNI configuration: the directory {dir} does not exist; create it with a .conflist, \
             .conf or .json file in it, or wait for the network add-on to do so"
        );
    }
    format!("no CNI configuration: the directory {dir} cannot be read: {error}")
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
