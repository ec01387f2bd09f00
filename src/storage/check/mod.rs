//! Checking a store: whether everything in it is as it was put there. Changes nothing.
//!
//! The store may be open or not. While it is, a layer is leased while it is read, and an image's
//! documents are read while no other changes them, so nothing that comes or goes is called a fault.
//! Where a layer's tar says of no file twice what it is, each is compared with it; otherwise contents
//! are, and that files were added is seen by their number.

mod images;
mod layers;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::dir::Dir;
use super::record::{self, ROOT_FILE, RootRecord};
use super::{Settings, StorageError, Store};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Records and documents.
    Quick,
    /// Every byte of every layer too.
    Full,
}

/// What a fault is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A layer, by the hex of its diff id.
    Layer(String),
    /// An image, by its id.
    Image(String),
    /// The root filesystem of a container, by the container's id.
    Root(String),
    /// What an earlier daemon did not understand, by its path.
    SetAside(String),
}

/// Something that is not as it was put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub subject: Subject,
    /// What is wrong with it, naming the file.
    pub problem: String,
}

/// What an examination has found.
#[derive(Debug, Default)]
pub struct Examination {
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// The images whose records can be read, with their names and layers (hex).
    pub images: BTreeMap<String, Contents>,
    /// The layers of each root filesystem, by container.
    pub roots: BTreeMap<String, Vec<String>>,
    /// How many layers were looked at.
    pub layers: usize,
    /// Bytes of layers that were read.
    pub bytes: u64,
    /// Layers that cannot be verified, because the version that unpacked them kept nothing to do it by.
    pub unverifiable: Vec<String>,
    /// Layers of whose files content and number alone were compared: entries of their tars replaced one
    /// another, or the version that unpacked them did not note whether.
    pub by_content: Vec<String>,
    /// Layers that nothing refers to, with their age.
    pub unreferenced: Vec<(String, Duration)>,
}

/// What an image is called and made of.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Its names, or its digests where it has none.
    pub names: Vec<String>,
    /// Its layers, hex.
    pub layers: Vec<String>,
}

/// How far an examination has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Layers that are done.
    pub layers: usize,
    /// Of so many.
    pub of: usize,
    /// Bytes that have been read.
    pub bytes: u64,
}

/// Told how far it has come; `false` ends the examination.
pub type Watch<'a> = dyn FnMut(Progress) -> bool + 'a;

/// The directories of a store.
struct Places {
    layers: Option<Dir>,
    images: Option<Dir>,
    containers: Option<Dir>,
    quarantine: Option<Dir>,
}

/// Examines the store of these settings while no process has it open. One that does not exist is empty.
/// Blocks, at full depth for as long as reading everything takes.
///
/// # Errors
/// When a directory cannot be listed, or `watch` ends it.
pub fn examine(
    settings: &Settings,
    depth: Depth,
    watch: &mut Watch<'_>,
) -> Result<Examination, StorageError> {
    examine_with(settings, None, depth, watch)
}

impl Store {
    /// Examines this store. Blocks, at full depth for as long as reading everything takes.
    ///
    /// # Errors
    /// When a directory cannot be listed, or `watch` ends it.
    pub fn examine(
        &self,
        depth: Depth,
        watch: &mut Watch<'_>,
    ) -> Result<Examination, StorageError> {
        examine_with(&self.shared.settings, Some(self), depth, watch)
    }
}

fn examine_with(
    settings: &Settings,
    open: Option<&Store>,
    depth: Depth,
    watch: &mut Watch<'_>,
) -> Result<Examination, StorageError> {
    let (own, base) = settings.directories();
    let places = Places {
        layers: Dir::open(&base.join("layers"))?,
        images: Dir::open(&base.join("images"))?,
        containers: Dir::open(&own.join("containers"))?,
        quarantine: Dir::open(&base.join("quarantine"))?,
    };
    let mut found = Examination::default();
    if let Some(quarantine) = &places.quarantine {
        set_aside(quarantine, &mut found)?;
    }
    roots(&places, &mut found)?;
    images::examine(&places, open, &mut found)?;
    layers::examine(&places, open, depth, watch, &mut found)?;
    found.faults.sort_by(|a, b| a.subject.cmp(&b.subject));
    Ok(found)
}

impl Examination {
    fn fault(&mut self, subject: Subject, problem: impl std::fmt::Display) {
        let problem = problem.to_string();
        self.faults.push(Fault { subject, problem });
    }

    /// The layers that an image or a root filesystem refers to.
    fn referenced(&self) -> BTreeSet<&str> {
        let images = self.images.values().flat_map(|image| &image.layers);
        images
            .chain(self.roots.values().flatten())
            .map(String::as_str)
            .collect()
    }
}

fn set_aside(quarantine: &Dir, found: &mut Examination) -> Result<(), StorageError> {
    for name in quarantine.names()? {
        let path = quarantine.path().join(name);
        let problem = "set aside by a daemon that did not understand it";
        found.fault(Subject::SetAside(path.display().to_string()), problem);
    }
    Ok(())
}

fn roots(places: &Places, found: &mut Examination) -> Result<(), StorageError> {
    let Some(containers) = &places.containers else {
        return Ok(());
    };
    for name in containers.names()? {
        let id = name.to_string_lossy().into_owned();
        let read = || record::read::<RootRecord>(&containers.sub(&id)?, ROOT_FILE);
        match read() {
            Ok(record) => drop(found.roots.insert(id, record.layers)),
            // Being made or removed: its record is the first and the last of it.
            Err(StorageError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => found.fault(Subject::Root(id), error),
        }
    }
    Ok(())
}

fn names(place: Option<&Dir>) -> Result<Vec<OsString>, StorageError> {
    place.map_or_else(|| Ok(Vec::new()), Dir::names)
}

fn shown(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}
