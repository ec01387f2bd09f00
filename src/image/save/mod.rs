//! `cricket save`: images as an archive, for machines without a registry.
//!
//! The store has layers as directories; [`crate::storage::LayerTar`] makes their tars again, so the
//! configuration, and with it the image's id, stays as it is. `plan` says which images under which
//! names, `blob` makes a layer's bytes, `layout` and `docker` the documents of the two formats.
//!
//! The archive is written to a stream that the caller reads; nothing is written to disk but, for a
//! layer that is packed, a file without a name in the store, because a tar says lengths first.

mod blob;
mod docker;
mod layout;
mod plan;
mod stream;

use std::sync::Arc;

use tokio::sync::mpsc;

use super::error::ImageError;
use super::{Images, Settings};
use plan::Plan;
use stream::Output;

/// Archives that are written at the same time.
pub(super) const MAX_SAVES: usize = 4;

/// Parts of an archive that are ready before the reader has taken them.
const PARTS_IN_FLIGHT: usize = 4;

/// The form of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout in a tar, with docker's `manifest.json` beside.
    OciArchive,
    /// What `docker save` made before it wrote layouts: configurations, layer tars, `manifest.json`.
    DockerArchive,
}

/// How layers are packed in an [`Format::OciArchive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all: a layer's digest is its diff id.
    None,
    /// gzip, level 6.
    Gzip,
    /// zstd, level 3.
    Zstd,
}

/// What to save.
#[derive(Debug, Clone)]
pub struct SaveRequest {
    /// Ids or names; a name is saved under itself, an id under all names that it has.
    pub images: Vec<String>,
    /// The form.
    pub format: Format,
    /// The packing.
    pub packing: Packing,
}

/// A part of the archive.
#[derive(Debug)]
pub struct Part {
    /// Bytes of the archive; may be none, for the sake of the other two.
    pub bytes: bytes::Bytes,
    /// Bytes of layers that have been read.
    pub done: u64,
    /// Bytes of layers in all, unpacked.
    pub total: u64,
}

/// An archive on its way, in parts; dropping it ends the work.
pub type Archive = mpsc::Receiver<Result<Part, ImageError>>;

impl Images {
    /// Begins to write an archive of these images. What does not exist, or cannot be saved, is told
    /// here; what goes wrong on the way is the archive's last part.
    pub async fn save(&self, request: SaveRequest) -> Result<Archive, ImageError> {
        if request.format == Format::DockerArchive && request.packing != Packing::None {
            return Err(ImageError::NotSaved {
                image: request.images.join(", "),
                reason: "layers of a docker-archive are not packed; pack the archive as a whole, \
                         or choose an OCI format"
                    .into(),
            });
        }
        let Ok(permit) = Arc::clone(&self.saves).try_acquire_owned() else {
            return Err(ImageError::NotSaved {
                image: request.images.join(", "),
                reason: format!("{MAX_SAVES} archives are being written already; try again later"),
            });
        };
        let targets = self.targets(&request.images)?;
        let settings = self.settings.clone();
        let plan = crate::sys::blocking({
            let settings = settings.clone();
            move || Plan::new(&settings, targets)
        });
        let plan = plan.await?;
        let (sender, archive) = mpsc::channel(PARTS_IN_FLIGHT);
        let name = request.images.join(", ");
        let work = move || {
            let _permit = permit;
            let mut output = Output::new(sender, plan.total_bytes());
            if let Err(error) = write(&settings, &plan, &request, &mut output) {
                output.fail(error);
            }
        };
        // Its pace is the reader's: a thread of its own, not one of those that others wait for.
        let spawned = std::thread::Builder::new()
            .name("image-save".into())
            .spawn(work);
        match spawned {
            Ok(_) => Ok(archive),
            Err(error) => Err(ImageError::NotSaved {
                image: name,
                reason: format!("start a thread: {error}"),
            }),
        }
    }
}

fn write(
    settings: &Settings,
    plan: &Plan,
    request: &SaveRequest,
    output: &mut Output,
) -> Result<(), ImageError> {
    match request.format {
        Format::OciArchive => layout::write(&settings.store, plan, request.packing, output),
        Format::DockerArchive => docker::write(&settings.store, plan, output),
    }
}
