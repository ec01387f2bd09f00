//! Whether an image fits on the disk, asked before the first byte of a layer is fetched.
//!
//! How large a layer is unpacked nobody says: the manifest has its packed size. That is what it
//! needs at least (deflate and zstd make nothing more than a few thousandths larger), so what is
//! refused here could not have succeeded; an image of which more comes than fits is ended by
//! storage, which looks again while it unpacks. An estimate by a usual ratio would refuse images that
//! fit: layers of model weights hardly shrink. Builders of estargz and zstd:chunked layers do say
//! the unpacked size, and are believed: who lies makes only the own image smaller or impossible.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci_spec::image::Descriptor;

use super::error::ImageError;
use super::progress::LayerProgress;
use crate::storage::{Space, Store};

/// A layer's unpacked size, in decimal (stargz-snapshotter's docs/estargz.md).
const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// What the pulls in flight still need, so that two of which each fits, but not both, do not fill the
/// disk together.
#[derive(Debug, Default)]
pub(super) struct Promises(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    pulls: BTreeMap<u64, Vec<Share>>,
}

/// What one layer needs of the disk.
#[derive(Debug)]
pub(super) struct Share {
    bytes: u64,
    /// What of it has come meanwhile, and so is no longer free.
    progress: Arc<LayerProgress>,
}

/// Space that a pull may count on; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Promised {
    of: Arc<Promises>,
    number: u64,
}

impl Share {
    /// The share of a layer that is not here yet.
    pub fn of(layer: &Descriptor, progress: &Arc<LayerProgress>) -> Share {
        Share {
            bytes: at_least(layer),
            progress: Arc::clone(progress),
        }
    }
}

impl Promises {
    /// Promises what `shares` need, or refuses the image: it does not fit, alone or beside what is
    /// being pulled already. Blocking.
    ///
    /// # Errors
    /// [`ImageError::NoSpace`], or the kernel's.
    pub fn promise(
        self: &Arc<Self>,
        store: &Store,
        shares: Vec<Share>,
        reference: String,
    ) -> Result<Promised, ImageError> {
        let mut inner = self.inner();
        let needed = sum(shares.iter());
        let others = inner.pulls.values().flatten();
        let together = sum(shares.iter().chain(others));
        if needed > 0 {
            let space = store.space().map_err(|source| ImageError::Storage {
                what: format!("image {reference}"),
                source: Arc::new(source),
            })?;
            if !space.has(together) {
                let promised = together - needed;
                return Err(refusal(reference, needed, promised, space));
            }
        }
        inner.last += 1;
        let number = inner.last;
        inner.pulls.insert(number, shares);
        Ok(Promised {
            of: Arc::clone(self),
            number,
        })
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        self.of.inner().pulls.remove(&self.number);
    }
}

/// What these need, each layer once: of one that two pulls want, what the farther one still needs.
fn sum<'a>(shares: impl Iterator<Item = &'a Share>) -> u64 {
    let mut least: BTreeMap<&str, u64> = BTreeMap::new();
    for share in shares {
        let left = share.progress.left_of(share.bytes);
        let known = least.entry(share.progress.content()).or_insert(left);
        *known = left.min(*known);
    }
    least.into_values().fold(0, u64::saturating_add)
}

fn refusal(reference: String, needed: u64, promised: u64, space: Space) -> ImageError {
    ImageError::NoSpace {
        reference,
        needed,
        promised,
        space,
    }
}

fn at_least(layer: &Descriptor) -> u64 {
    let annotations = layer.annotations().as_ref();
    let said = annotations.and_then(|all| all.get(UNCOMPRESSED_SIZE));
    let said = said.and_then(|text| text.parse().ok()).unwrap_or(0);
    layer.size().max(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::progress::Step;

    fn layer(digit: u8, size: u64, said: Option<&str>) -> Share {
        let mut json = serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{digit:064x}"), "size": size,
        });
        if let Some(said) = said {
            json["annotations"] = serde_json::json!({ UNCOMPRESSED_SIZE: said });
        }
        let layer: Descriptor = serde_json::from_value(json).unwrap();
        let content = digit.to_string();
        let progress = LayerProgress::new(layer.digest().as_ref(), size, &content);
        Share::of(&layer, &Arc::new(progress))
    }

    #[test]
    fn layers_need_their_size_once_and_more_where_they_say_so() {
        let cases = [
            (vec![], 0),
            (vec![layer(1, 10, None), layer(2, 5, None)], 15),
            (vec![layer(1, 10, None), layer(1, 10, None)], 10),
            (vec![layer(1, 10, Some("30")), layer(2, 5, Some("1"))], 35),
            (vec![layer(1, 10, Some("-1")), layer(2, 5, Some("x"))], 15),
            (
                vec![layer(1, 1 << 62, None), layer(2, u64::MAX, None)],
                u64::MAX,
            ),
        ];
        for (layers, bytes) in cases {
            assert_eq!(sum(layers.iter()), bytes, "{layers:?}");
        }
    }

    #[test]
    fn what_has_come_is_not_needed_any_more() {
        let half = layer(1, 10, None);
        half.progress.unpacked(4);
        let done = layer(2, 10, Some("100"));
        done.progress.unpacked(90);
        done.progress.reached(Step::Done);
        let more = layer(3, 10, None);
        more.progress.unpacked(50);
        assert_eq!(sum([&half, &done, &more].into_iter()), 6);
        // another pull wants the first too, and waits for it
        assert_eq!(sum([&layer(1, 10, None), &half].into_iter()), 6);
    }
}
