//! Files of a directory or of a tar (bare, gzip or zstd) by name, within bounds and without a copy.
//!
//! A tar is read in raw mode: the tar crate would read GNU long names and PAX headers of any size
//! into memory. Image archives need neither for their own names, which are short.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::Source;
use crate::image::error::ImageError;
use crate::image::manifest::MAX_CONFIG_BYTES;

/// Most entries of an archive.
const MAX_ENTRIES: usize = 100_000;
/// Most bytes of JSON kept from an archive; a configuration alone may have 8 MiB.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// Most bytes that a packed archive may unpack to.
const MAX_UNPACKED_BYTES: u64 = 1 << 40;
/// Largest extended header (PAX, GNU long name) looked at.
const MAX_EXTENDED_HEADER: u64 = 64 << 10;
/// Links followed from one name.
const MAX_LINKS: usize = 8;

/// What a visitor of [`Archive::read_files`] returns: `true` ends the reading.
pub(super) type Visitor<'a> = dyn FnMut(&str, &mut dyn Read) -> Result<bool, ImageError> + 'a;

/// An opened archive.
pub(super) struct Archive {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Directory(OwnedFd),
    Tar { packing: Packing, index: Index },
}

#[derive(Clone, Copy)]
enum Packing {
    None,
    Gzip,
    Zstd,
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
    pub(super) fn open(path: &Path) -> Result<Archive, ImageError> {
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
            scan(file, packing, source, &mut |name, entry| {
                index.take(name, entry, source)
            })?;
            Kind::Tar { packing, index }
        } else {
            return Err(source.error("neither a file nor a directory"));
        };
        Ok(Archive {
            path: path.to_owned(),
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
        let Kind::Tar { index, .. } = &self.kind else {
            return Err(source.error("a directory is read as an OCI layout only"));
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
                    let mut file = open_beneath(root, name)
                        .map_err(|error| source.error(format!("{name}: {error}")))?;
                    visit(name, &mut file)?;
                }
                Ok(())
            }
            Kind::Tar { packing, .. } => {
                let file = File::open(&self.path).map_err(|error| source.error(error))?;
                scan(file, *packing, source, &mut |name, entry| match entry {
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

fn detect(mut file: &File) -> std::io::Result<Packing> {
    let mut magic = Vec::new();
    file.take(4).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
        _ => Packing::None,
    })
}

/// An entry of a tar that matters to us.
enum Entry<'a> {
    File {
        size: u64,
        content: &'a mut dyn Read,
    },
    /// A symbolic or hard link to another name of the archive.
    Link { target: String },
}

type OnEntry<'a> = dyn FnMut(String, Entry<'_>) -> Result<bool, ImageError> + 'a;

/// Reads a tar from its beginning until `on_entry` has enough.
fn scan(
    file: File,
    packing: Packing,
    source: Source<'_>,
    on_entry: &mut OnEntry<'_>,
) -> Result<(), ImageError> {
    let broken = |error: std::io::Error| source.error(format!("broken tar archive: {error}"));
    match packing {
        Packing::None => {
            // seeking: the first pass does not read the layers
            let mut archive = tar::Archive::new(file);
            scan_entries(
                archive.entries_with_seek().map_err(broken)?,
                source,
                on_entry,
            )
        }
        Packing::Gzip => {
            let reader = flate2::read::MultiGzDecoder::new(file).take(MAX_UNPACKED_BYTES);
            let mut archive = tar::Archive::new(BufReader::new(reader));
            scan_entries(archive.entries().map_err(broken)?, source, on_entry)
        }
        Packing::Zstd => {
            let reader = zstd::stream::read::Decoder::new(file).map_err(broken)?;
            let mut archive = tar::Archive::new(BufReader::new(reader.take(MAX_UNPACKED_BYTES)));
            scan_entries(archive.entries().map_err(broken)?, source, on_entry)
        }
    }
}

fn scan_entries<R: Read>(
    entries: tar::Entries<'_, R>,
    source: Source<'_>,
    on_entry: &mut OnEntry<'_>,
) -> Result<(), ImageError> {
    let broken = |error: std::io::Error| source.error(format!("broken tar archive: {error}"));
    let mut extended = Extended::default();
    for entry in entries.raw(true) {
        let entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue;
        }
        if kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink() {
            extended
                .read(entry)
                .map_err(|reason| source.error(reason))?;
            continue;
        }
        let found = std::mem::take(&mut extended);
        let own_name = entry.path_bytes();
        let name = normalize(&found.name.unwrap_or_else(|| text(&own_name)))
            .map_err(|reason| source.error(reason))?;
        drop(own_name);
        let done = if kind.is_file() || kind.is_contiguous() {
            let size = entry.size();
            let mut content = Whole {
                left: size,
                inner: entry,
            };
            on_entry(
                name,
                Entry::File {
                    size,
                    content: &mut content,
                },
            )?
        } else if kind.is_symlink() || kind.is_hard_link() {
            let own_target = entry.link_name_bytes().map(|bytes| text(&bytes));
            let target = found.target.or(own_target).unwrap_or_default();
            let target = match kind.is_symlink() {
                true => link_target(&name, &target),
                false => normalize(&target),
            };
            on_entry(
                name,
                Entry::Link {
                    target: target.map_err(|reason| source.error(reason))?,
                },
            )?
        } else {
            false
        };
        if done {
            return Ok(());
        }
    }
    Ok(())
}

/// What extended headers say about the entry after them.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    target: Option<String>,
}

impl Extended {
    fn read<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), String> {
        let kind = entry.header().entry_type();
        let mut bytes = Vec::new();
        if entry.size() > MAX_EXTENDED_HEADER {
            return Err(format!(
                "an extended header over the limit of {MAX_EXTENDED_HEADER} bytes"
            ));
        }
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| format!("broken tar archive: {error}"))?;
        if kind.is_gnu_longname() {
            self.name = Some(text(
                bytes.trim_ascii_end().strip_suffix(&[0]).unwrap_or(&bytes),
            ));
        } else if kind.is_gnu_longlink() {
            self.target = Some(text(bytes.strip_suffix(&[0]).unwrap_or(&bytes)));
        } else {
            for record in tar::PaxExtensions::new(&bytes) {
                let record = record.map_err(|error| format!("broken PAX header: {error}"))?;
                match record.key_bytes() {
                    b"path" => self.name = Some(text(record.value_bytes())),
                    b"linkpath" => self.target = Some(text(record.value_bytes())),
                    b"size" => {
                        return Err("a file over 8 GiB with a PAX size is not supported; \
                         make the archive in GNU format, or as a directory"
                            .to_owned());
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// A file's content; an archive that ends before it is an error and no short file.
struct Whole<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                format!("the archive is truncated: {} bytes are missing", self.left),
            ));
        }
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name without `.` components; one that leaves the archive is refused.
fn normalize(name: &str) -> Result<String, String> {
    if name.starts_with('/') {
        return Err(format!("entry {name:?}: an absolute name"));
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("entry {name:?}: a name that leaves the archive")),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The name that a symbolic link at `name` points to.
fn link_target(name: &str, target: &str) -> Result<String, String> {
    let leaves = || format!("entry {name:?}: a link to {target:?}, which leaves the archive");
    if target.starts_with('/') {
        return Err(leaves());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(leaves)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
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
