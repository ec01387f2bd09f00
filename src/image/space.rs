//! Whether an image fits on the disk, asked before the first byte of a layer is fetched.
//!
//! How large a layer is unpacked nobody says: the manifest has its packed size. That is what it
//! needs at least (deflate and zstd make nothing more than a few thousandths larger), so what is
//! refused here could not have succeeded; an image of which more comes than fits is ended by
//! storage, which looks again while it unpacks. An estimate by a usual ratio would refuse images that
//! fit: layers of model weights hardly shrink. Builders of estargz and zstd:chunked layers do say
//! the unpacked size, and are believed: who lies makes only the own image smaller or impossible.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci_spec::image::Descriptor;

use super::error::ImageError;
use crate::storage::Store;

/// A layer's unpacked size, in decimal (stargz-snapshotter's docs/estargz.md).
const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// Bytes that these layers need at least, each counted once.
pub(super) fn needed<'a>(layers: impl Iterator<Item = &'a Descriptor>) -> u64 {
    let sizes: BTreeMap<&str, u64> = layers
        .map(|layer| (layer.digest().as_ref(), at_least(layer)))
        .collect();
    sizes.into_values().fold(0, u64::saturating_add)
}

fn at_least(layer: &Descriptor) -> u64 {
    let annotations = layer.annotations().as_ref();
    let said = annotations.and_then(|all| all.get(UNCOMPRESSED_SIZE));
    let said = said.and_then(|text| text.parse().ok()).unwrap_or(0);
    layer.size().max(said)
}

/// Refuses an image that needs more than there is. Blocking.
pub(super) fn check(store: &Store, needed: u64, reference: String) -> Result<(), ImageError> {
    if needed == 0 {
        return Ok(());
    }
    let space = store.space().map_err(|source| ImageError::Storage {
        what: format!("image {reference}"),
        source: Arc::new(source),
    })?;
    if space.has(needed) {
        return Ok(());
    }
    Err(ImageError::NoSpace {
        reference,
        needed,
        space,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digit: u8, size: u64, said: Option<&str>) -> Descriptor {
        let mut json = serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{digit:064x}"), "size": size,
        });
        if let Some(said) = said {
            json["annotations"] = serde_json::json!({ UNCOMPRESSED_SIZE: said });
        }
        serde_json::from_value(json).unwrap()
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
            assert_eq!(needed(layers.iter()), bytes, "{layers:?}");
        }
    }
}
