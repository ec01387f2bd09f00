//! Files of a directory or of a tar (bare, gzip or zstd) by name, within bounds and without a copy.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::Source;
use super::reading::Reading;
use super::tar::{Entry, Packing, detect, normalize, scan};
use crate::image::error::ImageError;
use crate::image::manifest::MAX_CONFIG_BYTES;

/// Most entries of an archive.
const MAX_ENTRIES: usize = 100_000;
/// Most bytes of JSON kept from an archive; a configuration alone may have 8 MiB.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// Links followed from one name.
const MAX_LINKS: usize = 8;

/// What a visitor of [`Archive::read_files`] returns: `true` ends the reading.
pub(super) type Visitor<'a> = dyn FnMut(&str, &mut dyn Read) -> Result<bool, ImageError> + 'a;

/// An opened archive.
pub(super) struct Archive {
    path: PathBuf,
    reading: Reading,
    kind: Kind,
}

enum Kind {
    Directory(OwnedFd),
    Tar { packing: Packing, index: Index },
}

/// What the first pass over a tar found.
#[derive(Default)]
struct Index {
    files: HashMap<String, u64>,
    links: HashMap<String, String>,
    json: HashMap<String, Vec<u8>>,
    json_bytes: u64,
}

impl Archive {
    /// Opens `path` and, for a tar, reads its names and its JSON.
    pub(super) fn open(path: &Path, reading: Reading) -> Result<Archive, ImageError> {
        let source = Source(path);
        // O_NONBLOCK: a fifo in place of the file must not hang us
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| source.error(error))?;
        let file = File::from(fd);
        let metadata = file.metadata().map_err(|error| source.error(error))?;
        let kind = if metadata.is_dir() {
            Kind::Directory(OwnedFd::from(file))
        } else if metadata.is_file() {
            let packing = detect(&file).map_err(|error| source.error(error))?;
            let mut index = Index::default();
            scan(file, (packing, &reading), source, &mut |name, entry| {
                index.take(name, entry, source)
            })?;
            Kind::Tar { packing, index }
        } else {
            return Err(source.error("neither a file nor a directory"));
        };
        Ok(Archive {
            path: path.to_owned(),
            reading,
            kind,
        })
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Directory(root) => open_beneath(root, name).is_ok(),
            Kind::Tar { index, .. } => index.files.contains_key(name),
        }
    }

    /// The file that `name` is in the end, its size with it: `docker save` links equal layers.
    pub(super) fn resolve(&self, name: &str) -> Result<(String, u64), ImageError> {
        let source = Source(&self.path);
        let mut name = normalize(name).map_err(|reason| source.error(reason))?;
        let index = match &self.kind {
            Kind::Tar { index, .. } => index,
            // The kernel follows its links.
            Kind::Directory(root) => {
                let opened = open_beneath(root, &name).and_then(|file| file.metadata());
                let found = opened.map_err(|error| source.error(format!("{name}: {error}")))?;
                return Ok((name, found.len()));
            }
        };
        for _ in 0..MAX_LINKS {
            if let Some(size) = index.files.get(&name) {
                return Ok((name, *size));
            }
            match index.links.get(&name) {
                Some(target) => name = target.clone(),
                None => return Err(source.error(format!("{name}: not in it"))),
            }
        }
        Err(source.error(format!("{name}: more than {MAX_LINKS} links in a row")))
    }

    /// The content of a small JSON file.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let source = Source(&self.path);
        match &self.kind {
            Kind::Directory(root) => {
                let file = open_beneath(root, name)
                    .map_err(|error| source.error(format!("{name}: {error}")))?;
                let mut content = Vec::new();
                file.take(MAX_CONFIG_BYTES + 1)
                    .read_to_end(&mut content)
                    .map_err(|error| source.error(format!("{name}: {error}")))?;
                if content.len() as u64 > MAX_CONFIG_BYTES {
                    return Err(too_large(source.part(name), MAX_CONFIG_BYTES));
                }
                Ok(content)
            }
            Kind::Tar { index, .. } => {
                if let Some(content) = index.json.get(name) {
                    return Ok(content.clone());
                }
                match index.files.get(name) {
                    Some(size) if *size > MAX_CONFIG_BYTES => {
                        Err(too_large(source.part(name), MAX_CONFIG_BYTES))
                    }
                    Some(_) => Err(source.error(format!("{name}: not JSON"))),
                    None => Err(source.error(format!("{name}: not in it"))),
                }
            }
        }
    }

    /// Shows `visit` the content of files: of a tar every one in its order, of a directory `wanted`.
    pub(super) fn read_files(
        &self,
        visit: &mut Visitor<'_>,
        wanted: &[String],
    ) -> Result<(), ImageError> {
        let source = Source(&self.path);
        match &self.kind {
            Kind::Directory(root) => {
                for name in wanted {
                    let file = open_beneath(root, name)
                        .map_err(|error| source.error(format!("{name}: {error}")))?;
                    visit(name, &mut self.reading.file(file))?;
                }
                Ok(())
            }
            Kind::Tar { packing, .. } => {
                let file = File::open(&self.path).map_err(|error| source.error(error))?;
                let how = (*packing, &self.reading);
                scan(file, how, source, &mut |name, entry| match entry {
                    Entry::File { content, .. } => visit(&name, content),
                    Entry::Link { .. } => Ok(false),
                })
            }
        }
    }
}

impl Index {
    fn take(
        &mut self,
        name: String,
        entry: Entry<'_>,
        source: Source<'_>,
    ) -> Result<bool, ImageError> {
        if self.files.len() + self.links.len() >= MAX_ENTRIES {
            return Err(source.error(format!("more than the limit of {MAX_ENTRIES} entries")));
        }
        if self.files.contains_key(&name) || self.links.contains_key(&name) {
            return Err(source.error(format!("{name}: twice in it")));
        }
        match entry {
            Entry::Link { target } => {
                self.links.insert(name, target);
            }
            Entry::File { size, content } => {
                if size <= MAX_CONFIG_BYTES
                    && let Some(json) = read_json(content)
                        .map_err(|error| source.error(format!("{name}: {error}")))?
                {
                    self.json_bytes += json.len() as u64;
                    if self.json_bytes > MAX_JSON_BYTES {
                        return Err(too_large(
                            source.part("its JSON files together"),
                            MAX_JSON_BYTES,
                        ));
                    }
                    self.json.insert(name.clone(), json);
                }
                self.files.insert(name, size);
            }
        }
        Ok(false)
    }
}

fn too_large(what: String, limit: u64) -> ImageError {
    ImageError::TooLarge {
        what,
        limit,
        unit: "bytes",
    }
}

/// The content if it starts as JSON does.
fn read_json(content: &mut dyn Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0];
    if content.read(&mut bytes)? == 0 || !matches!(bytes[0], b'{' | b'[' | b' ' | b'\n') {
        return Ok(None);
    }
    content.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Opens a regular file of a layout; links in it cannot lead outside.
fn open_beneath(root: &OwnedFd, name: &str) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(
        root,
        name,
        flags,
        Mode::empty(),
        resolve,
    )?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    Ok(file)
}
