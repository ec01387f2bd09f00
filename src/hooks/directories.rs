//! The hook directories of the node, and the hooks that a container gets from them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::runtime::Hook;

use super::document::Document;
use super::{HookError, HookStep};
use crate::sys::stamp::Stamp;

/// The most that is read of one file; they have some hundred bytes.
pub(super) const MAX_FILE_BYTES: u64 = 64 << 10;
/// Most files of one directory that are looked at.
pub(super) const MAX_FILES: usize = 256;

/// The configured directories (`hooks_dir`); a file in a later one hides those of its name in
/// earlier ones.
#[derive(Debug)]
pub struct Directories {
    dirs: Vec<PathBuf>,
    /// What was read last. Held while files are looked at, which is what every container does once.
    files: Mutex<HashMap<PathBuf, Known>>,
}

/// A file as it was when it was read.
#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    /// `Err`: it does not say for which containers it is.
    content: Result<Arc<Document>, String>,
}

/// The container that hooks are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Its annotations, those of its pod among them.
    pub annotations: &'a BTreeMap<String, String>,
    /// The program that it runs, `process.args[0]`.
    pub command: &'a str,
    /// Whether the request has mounts.
    pub has_bind_mounts: bool,
}

impl Directories {
    /// The hook files in `dirs`. Nothing is read yet.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self {
            dirs,
            files: Mutex::default(),
        }
    }

    /// The hooks that this container gets, in the order of their files' names. Files that changed
    /// since the last call are read anew. Blocks.
    ///
    /// # Errors
    /// When a hook is for this container and cannot be used.
    pub fn of(&self, scene: &Scene) -> Result<Vec<(HookStep, Hook)>, HookError> {
        let mut hooks = Vec::new();
        for (file, content) in self.current() {
            let Ok(document) = content else { continue };
            if !document.matches(scene) {
                continue;
            }
            let content = document
                .content
                .as_ref()
                .map_err(|problem| HookError::File {
                    file: file.clone(),
                    problem: problem.clone(),
                })?;
            let hook = &content.hook;
            runnable(hook.path()).map_err(|source| HookError::Program {
                file,
                program: hook.path().clone(),
                source,
            })?;
            hooks.extend(content.steps.iter().map(|step| (*step, hook.clone())));
        }
        Ok(hooks)
    }

    /// What is wrong with the files, each in one line. Blocks.
    pub fn problems(&self) -> Vec<String> {
        let problem = |(file, content): (PathBuf, Result<Arc<Document>, String>)| {
            let problem = match content {
                Err(problem) => problem,
                Ok(document) => match &document.content {
                    Err(problem) => problem.clone(),
                    Ok(content) => {
                        let program = content.hook.path();
                        let source = runnable(program).err()?;
                        return Some(
                            HookError::Program {
                                file,
                                program: program.clone(),
                                source,
                            }
                            .to_string(),
                        );
                    }
                },
            };
            Some(HookError::File { file, problem }.to_string())
        };
        self.current().into_iter().filter_map(problem).collect()
    }

    /// The files that count, in the order of their names, with what they say now.
    fn current(&self) -> Vec<(PathBuf, Result<Arc<Document>, String>)> {
        let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = HashMap::with_capacity(known.len());
        let mut current = Vec::new();
        for file in self.list() {
            let before = known.remove(&file);
            let now = match refresh(&file, before) {
                Ok(now) => now,
                // it has gone since it was listed, or is a link to nowhere
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::error!(file = %file.display(), %error, "hook file left out");
                    continue;
                }
            };
            current.push((file.clone(), now.content.clone()));
            listed.insert(file, now);
        }
        *known = listed;
        current
    }

    /// One file for each name, of the last directory that has it, ordered by lower-case name.
    fn list(&self) -> Vec<PathBuf> {
        let mut by_name: BTreeMap<(String, String), PathBuf> = BTreeMap::new();
        for dir in &self.dirs {
            match names(dir) {
                Ok(names) => by_name.extend(names.into_iter().map(|name| {
                    let path = dir.join(&name);
                    ((name.to_lowercase(), name), path)
                })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(dir = %dir.display(), %error, "hook directory left out");
                }
            }
        }
        by_name.into_values().collect()
    }
}

/// The names of the hook files in a directory.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        // a name that is no text is no `.json` that anybody wrote
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(".json")
        {
            names.push(name);
        }
        if names.len() > MAX_FILES {
            return Err(io::Error::other(format!(
                "it holds more than {MAX_FILES} files"
            )));
        }
    }
    Ok(names)
}

/// What a file says now. What is wrong with one is logged once, when it is read.
fn refresh(path: &Path, before: Option<Known>) -> io::Result<Known> {
    let stamp = Stamp::of(path)?;
    if let Some(known) = before.filter(|known| known.stamp == stamp) {
        return Ok(known);
    }
    let content = read(path)?.and_then(|text| Document::parse(&text).map(Arc::new));
    let file = path.display();
    match &content {
        Err(problem) => tracing::error!(
            %file, problem,
            "hook file left out: it does not say for which containers it is"
        ),
        Ok(document) => match &document.content {
            Err(problem) => tracing::error!(
                %file, problem,
                "hook file cannot be used: containers that it is for are refused"
            ),
            Ok(_) => tracing::debug!(%file, "hook file read"),
        },
    }
    Ok(Known { stamp, content })
}

/// The text of a file; or why it is no hook file.
fn read(path: &Path) -> io::Result<Result<Vec<u8>, String>> {
    // without O_NONBLOCK the open of a pipe would wait for a writer
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(Err("it is not a regular file".to_owned()));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    Ok(match text.len() as u64 > MAX_FILE_BYTES {
        true => Err(format!("it is larger than {MAX_FILE_BYTES} bytes")),
        false => Ok(text),
    })
}

/// Whether a hook's program can be run.
fn runnable(path: &Path) -> io::Result<()> {
    let facts = fs::metadata(path)?;
    match facts.is_file() && facts.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(io::Error::other("not an executable file")),
    }
}
