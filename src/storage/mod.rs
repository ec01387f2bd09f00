//! Layers, images and root filesystems on disk. Only this room knows what they look like there.
//!
//! It unpacks layers, remembers images, mounts and removes the roots of containers, and says what
//! all that occupies. It does not talk to registries, choose platforms or check signatures (`image/`),
//! and it knows nothing of containers but their ids (`container/`).
//!
//! # Layout
//!
//! ```text
//! <root>/cricket/                    <imagestore> instead of <root> for all but `containers` when set
//!   lock                             flock'ed: one daemon a store
//!   layers/<diff id hex>/diff/       the unpacked layer, overlay whiteouts, parents do not matter
//!   layers/<diff id hex>/layer.json  its record (version 1)
//!                                    a file of an artifact is a layer too (`artifact`)
//!   layers/<diff id hex>/tar-split.zst  the rest of its tar, see `split`
//!   layers/<diff id hex>/lost/       what of the tar the directory has no place for
//!   images/<image id>/image.json     the record (version 1): names, digests, durable or not
//!   images/<image id>/manifest-<hex> the manifest as it was pulled, by its digest
//!   images/<image id>/config         the config blob; its sha256 is the image id
//!   staging/                         what is being built; swept at open
//!   trash/                           what is being deleted; emptied in the background
//!   quarantine/                      what could not be understood; never deleted by us
//!   archives.json                    note of the image room: which archives it has loaded
//!   empty/                           the lower directory of an image without layers
//! <root>/cricket/containers/
//!   <container id>/root.json         the layers that the root uses (version 1)
//!   <container id>/{diff,work,merged}
//!   <container id>/images/<n>         the image volume at the n-th mount, read-only
//!   <container id>/volumes/<n>        the n-th volume that the image declares, where it is bound
//! ```
//!
//! # Crash rule
//!
//! Things are built in `staging/` and renamed into place; they leave by a rename into `trash/`. So a
//! `kill -9` at any instruction leaves whole things and rubbish, and never something half made.
//!
//! A power cut may lose what the page cache had not written. An image is usable at once, but its
//! record says `durable: false` and names the boot; a `syncfs` in the background is followed by
//! rewriting the record as durable. At open, records of another boot that are not durable are dropped,
//! and then every layer that no image refers to.
//!
//! # Locks
//!
//! `Index` is in memory, its lock is held only for memory work, so reads never wait for a disk.
//! `Shared::disk` serialises what changes names below `layers/` and `images/`; no read takes it.
//! Order: `disk` before the index.
//!
//! System calls: all file work here is relative to directory descriptors and goes through rustix,
//! because openat2, the xattr calls on descriptors and the mount API are there and not in nix.

mod artifact;
mod background;
mod blob_file;
mod census;
mod check;
mod config;
mod dir;
mod document;
mod error;
mod idmapped;
mod image;
mod image_file;
mod image_record;
mod index;
mod layer;
mod layer_tar;
mod left;
mod names;
mod note;
mod open;
mod overlay;
mod record;
mod root;
mod scratch;
mod signatures;
mod space;
mod split;
mod store;
#[cfg(test)]
mod tests;
mod trash;
mod unpack;
mod usage;
mod volume;
mod wipe;

pub use artifact::{ArtifactFile, NewArtifact};
pub use census::Census;
pub use check::{Depth, Examination, Fault, Progress, Subject, examine};
pub use config::parse_config;
pub use error::StorageError;
pub use image::NewImage;
pub use image_record::ImageRecord;
pub use layer::{LayerInfo, Lease};
pub use layer_tar::LayerTar;
pub use left::{Left, left, places};
pub use space::Space;
pub use store::{LayerLimits, RootIds, RootOptions, Settings, Store, Usage};
pub use wipe::footprint;
