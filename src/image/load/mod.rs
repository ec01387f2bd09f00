//! `cricket load`: images from an OCI layout (directory or tar) or from `docker save`.
//!
//! The same trust, digests and diff ids as for a pull. Nothing is extracted: `archive` reads the
//! names and the JSON of a tar in one pass and the layers, straight into storage, in a second.
//! `layout` and `docker` say what the two formats mean, `at_start` loads a directory of archives.

mod archive;
mod at_start;
mod docker;
mod layout;
mod reading;
mod tar;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{Descriptor, Digest};
use tokio_util::sync::CancellationToken;

use super::error::ImageError;
use super::trust::{Origin, Trust};
use super::unpack::{Into, Job, Piece, Pieces};
use super::{Images, Settings, decide, trust};
use crate::storage::NewImage;
use crate::sys::blocking;
use archive::Archive;
use reading::Reading;

/// How much of a layer is read from an archive at once, and how much lies ready for unpacking.
const PIECE_BYTES: usize = 128 << 10;
const PIECES_IN_FLIGHT: usize = 4;

/// An image that `load` brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: String,
    /// The names that the archive gave it; it may have given none.
    pub names: Vec<String>,
}

/// An image of an archive, ready but for its layers.
struct Plan {
    new: NewImage,
    id: String,
    layers: Vec<PlannedLayer>,
}

/// A layer of an archive.
#[derive(Clone, PartialEq)]
struct PlannedLayer {
    /// The file in the archive.
    entry: String,
    diff_id: Digest,
    /// What the packed bytes must be, where the format says it.
    blob: Option<Descriptor>,
}

/// The file being loaded, for errors.
#[derive(Clone, Copy)]
struct Source<'a>(&'a Path);

impl Source<'_> {
    fn error(self, reason: impl ToString) -> ImageError {
        ImageError::Archive {
            path: self.0.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// Part of it, as other errors name content.
    fn part(self, name: &str) -> String {
        format!("{}: {name}", self.0.display())
    }
}

impl Images {
    /// Loads every image of an archive or layout that fits this machine. Dropped, it ends soon and
    /// leaves nothing.
    pub async fn load(&self, path: &Path) -> Result<Vec<Loaded>, ImageError> {
        let (settings, room) = (self.settings.clone(), Arc::clone(&self.trust));
        let path: PathBuf = std::path::absolute(path).map_err(|error| Source(path).error(error))?;
        let stop = CancellationToken::new();
        let reading = Reading::new(Arc::clone(&self.windows), stop.clone());
        let _ends_with_the_call = stop.drop_guard();
        blocking(move || load(&settings, &room, &path, &reading)).await
    }
}

fn load(
    settings: &Settings,
    room: &Trust,
    path: &Path,
    reading: &Reading,
) -> Result<Vec<Loaded>, ImageError> {
    let source = Source(path);
    let archive = Archive::open(path, reading.clone())?;
    let origin = match (archive.has("oci-layout"), archive.has("manifest.json")) {
        (true, _) if archive.is_directory() => Origin::OciLayout(path),
        (true, _) => Origin::OciArchive(path),
        (false, true) => Origin::DockerArchive(path),
        (false, false) => {
            return Err(source.error(
                "neither an OCI layout (no oci-layout) nor an archive of docker save (no \
                 manifest.json)",
            ));
        }
    };
    decide::refuse_archive_early(room, origin)?;
    let mut plans = match origin {
        Origin::DockerArchive(_) => docker::plan(&archive, source)?,
        _ => layout::plan(&archive, source, &settings.platform)?,
    };
    for plan in &mut plans {
        decide::check_archive(room, origin, &plan.new.manifest_digest)?;
        plan.new.signatures.extend(trust::loaded(origin));
    }
    if plans.is_empty() {
        let platform = &settings.platform;
        return Err(source.error(format!("it holds no image for {platform}")));
    }
    let lease = Arc::new(settings.store.lease());
    let mut missing: HashMap<String, PlannedLayer> = HashMap::new();
    for layer in plans.iter().flat_map(|plan| &plan.layers) {
        if lease.has_layer(&layer.diff_id) {
            continue;
        }
        let before = missing.insert(layer.entry.clone(), layer.clone());
        if before.is_some_and(|before| before.diff_id != layer.diff_id) {
            return Err(source.error(format!("{}: one layer with two diff ids", layer.entry)));
        }
    }
    let mut visit = |name: &str, content: &mut dyn Read| {
        if let Some(layer) = missing.remove(name) {
            let what = source.part(name);
            let job = Job {
                lease: Arc::clone(&lease),
                into: Into::Layer(layer.diff_id),
                blob: layer.blob,
                what,
                window: reading.layer_window(),
                progress: None,
            };
            unpack(job, content, source)?;
        }
        Ok(missing.is_empty())
    };
    archive.read_files(&mut visit, &missing_names(&plans))?;
    if let Some(name) = missing.keys().next() {
        return Err(source.error(format!("{name}: the layer is not in it")));
    }
    plans
        .into_iter()
        .map(|plan| record(settings, source, plan))
        .collect()
}

/// Unpacks one layer on a thread of its own, while this one reads the archive: a tar entry cannot
/// leave its thread, and two threads are faster.
fn unpack(job: Job, content: &mut dyn Read, source: Source<'_>) -> Result<(), ImageError> {
    let (sender, receiver) = tokio::sync::mpsc::channel(PIECES_IN_FLIGHT);
    let what = job.what.clone();
    std::thread::scope(|scope| {
        let unpacked = scope.spawn(move || job.run(Pieces::new(receiver)));
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let piece = match content.read(&mut piece) {
                Ok(0) => Piece::End,
                Ok(count) => {
                    piece.truncate(count);
                    Piece::Data(piece.into())
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Piece::Failed(source.error(error)),
            };
            let last = !matches!(piece, Piece::Data(_));
            // nobody receives any more: the thread has failed and says why below
            if sender.blocking_send(piece).is_err() || last {
                break;
            }
        }
        drop(sender);
        unpacked
            .join()
            .unwrap_or_else(|_| Err(ImageError::malformed(what, "its thread panicked")))
    })
}

/// The files that the second pass may want, for a directory, which has no order of its own.
fn missing_names(plans: &[Plan]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for layer in plans.iter().flat_map(|plan| &plan.layers) {
        if !names.contains(&layer.entry) {
            names.push(layer.entry.clone());
        }
    }
    names
}

fn record(settings: &Settings, source: Source<'_>, plan: Plan) -> Result<Loaded, ImageError> {
    let names = plan.new.names.clone();
    let stored = settings.store.put_image(plan.new);
    stored.map_err(|error| ImageError::Storage {
        what: source.part(&format!("image {}", plan.id)),
        source: Arc::new(error),
    })?;
    Ok(Loaded { id: plan.id, names })
}

/// The hex of a document's sha256.
fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// An empty set of annotations.
fn no_annotations() -> BTreeMap<String, String> {
    BTreeMap::new()
}
