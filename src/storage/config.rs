//! Reading an image's configuration.

use std::str::FromStr;

use oci_spec::image::{Digest, ImageConfiguration};
use serde_json::{Value, json};

use super::StorageError;
use super::document::{CONFIG, MAX_DOCUMENT_BYTES, document};
use super::layer::sha256_hex;

/// Layers of one image: what overlayfs stacks at most (`OVL_MAX_STACK`).
const MAX_LAYERS: usize = 500;

/// Parses the config of the image `id`: itself without its history, and its layers, lowest first.
/// What Go programs leave out or write as null (`diff_ids` of an image without layers, platforms of
/// old docker versions) is taken as empty, as Go's own readers do.
///
/// # Errors
/// [`StorageError::Document`] if it is too long, not a config, has too many layers or a diff id that is
/// none; [`StorageError::DigestAlgorithm`] if one is not a sha256.
pub fn parse_config(
    id: &str,
    bytes: &[u8],
) -> Result<(ImageConfiguration, Vec<Digest>), StorageError> {
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(document(
            id,
            CONFIG,
            format!("over {MAX_DOCUMENT_BYTES} bytes long"),
        ));
    }
    let bad = |error| document(id, CONFIG, format!("not an image configuration: {error}"));
    let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(bad)?;
    let platform = [
        ("architecture", json!("")),
        ("os", json!("")),
        ("rootfs", json!({})),
    ];
    fill(&mut value, platform);
    if let Some(rootfs) = value.get_mut("rootfs") {
        fill(rootfs, [("type", json!("layers")), ("diff_ids", json!([]))]);
    }
    if let Some(object) = value.as_object_mut() {
        object.remove("history");
    }
    let config: ImageConfiguration = serde_json::from_value(value).map_err(bad)?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() > MAX_LAYERS {
        let count = diff_ids.len();
        let reason = format!("{count} layers; overlayfs stacks {MAX_LAYERS} at most");
        return Err(document(id, CONFIG, reason));
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let digest = Digest::from_str(diff_id)
            .map_err(|error| document(id, CONFIG, format!("diff id {diff_id:?}: {error}")))?;
        sha256_hex(&digest)?;
        layers.push(digest);
    }
    Ok((config, layers))
}

/// Gives fields that are missing or null these values.
fn fill<const N: usize>(value: &mut Value, defaults: [(&str, Value); N]) {
    let Some(object) = value.as_object_mut() else {
        return;
    };
    for (key, default) in defaults {
        let field = object.entry(key).or_insert(Value::Null);
        if field.is_null() {
            *field = default;
        }
    }
}
