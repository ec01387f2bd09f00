//! Manifests, indexes and image configurations: parsing, and the checks before a layer is fetched.

use oci_spec::image::{
    Descriptor, Digest, DigestAlgorithm, ImageConfiguration, ImageIndex, ImageManifest,
};

use super::error::ImageError;
use crate::storage::{self, StorageError};

/// Largest manifest or index read (containers/image and the distribution registry agree on 4 MiB).
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Largest image configuration read.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// Most layers of one image; overlayfs itself ends at 500 lower directories.
pub const MAX_LAYERS: usize = 500;
/// Most entries of one index.
const MAX_INDEX_ENTRIES: usize = 1024;

/// Media types of what we can parse, in the order offered to a registry.
pub const ACCEPT: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];
/// Media type of an OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of an OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a docker schema 2 manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG_TYPES: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

/// A parsed manifest document.
#[derive(Debug)]
pub enum Document {
    /// Several images, one a platform.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest(Box<Manifest>),
}

/// An image manifest that passed the checks.
#[derive(Debug)]
pub struct Manifest {
    /// The configuration blob.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// The manifest's annotations.
    pub annotations: std::collections::HashMap<String, String>,
    /// Set when it is an artifact and not an image that can be run: what kind.
    pub artifact_type: Option<String>,
}

impl Manifest {
    /// Bytes of configuration and layers as the registry keeps them.
    pub fn size_bytes(&self) -> u64 {
        let sizes = self.layers.iter().map(Descriptor::size);
        sizes.fold(self.config.size(), u64::saturating_add)
    }
}

/// Whether a media type is an index's.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// What a manifest document says of itself; the rest is parsed once its kind is known.
#[derive(serde::Deserialize)]
struct Kind {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
}

/// Parses a manifest document; `content_type` is the registry's word, used where the document has
/// none of its own. `what` names it in errors.
pub fn parse(bytes: &[u8], content_type: Option<&str>, what: &str) -> Result<Document, ImageError> {
    let kind: Kind =
        serde_json::from_slice(bytes).map_err(|error| ImageError::malformed(what, error))?;
    if kind.manifests.is_some() && kind.layers.is_some() {
        // image-spec manifest.md: one document must not be read as both (CVE-2021-41190)
        return Err(ImageError::malformed(
            what,
            "it has both \"manifests\" and \"layers\"",
        ));
    }
    let known = |media_type: &&str| ACCEPT.contains(media_type);
    let media_type = match (kind.media_type.as_deref(), content_type.filter(known)) {
        (Some(own), _) => own,
        (None, Some(header)) => header,
        (None, None) if kind.manifests.is_some() => OCI_INDEX,
        (None, None) => OCI_MANIFEST,
    };
    if !ACCEPT.contains(&media_type) || kind.schema_version == Some(1) {
        return Err(ImageError::Unsupported {
            what: what.to_owned(),
            media_type: media_type.to_owned(),
            remedy: "an OCI or docker schema 2 manifest or index is needed",
        });
    }
    if is_index(media_type) {
        let index: ImageIndex =
            serde_json::from_slice(bytes).map_err(|error| ImageError::malformed(what, error))?;
        return index_entries(&index, what).map(Document::Index);
    }
    let manifest: ImageManifest =
        serde_json::from_slice(bytes).map_err(|error| ImageError::malformed(what, error))?;
    check_manifest(&manifest, what).map(|manifest| Document::Manifest(Box::new(manifest)))
}

fn index_entries(index: &ImageIndex, what: &str) -> Result<Vec<Descriptor>, ImageError> {
    if index.manifests().len() > MAX_INDEX_ENTRIES {
        return Err(ImageError::TooLarge {
            what: what.to_owned(),
            limit: MAX_INDEX_ENTRIES as u64,
            unit: "entries",
        });
    }
    Ok(index.manifests().clone())
}

fn check_manifest(manifest: &ImageManifest, what: &str) -> Result<Manifest, ImageError> {
    let artifact_type = artifact_type(manifest);
    check_digest(manifest.config().digest(), what)?;
    if manifest.config().size() > MAX_CONFIG_BYTES {
        return Err(ImageError::TooLarge {
            what: format!("{what}: configuration"),
            limit: MAX_CONFIG_BYTES,
            unit: "bytes",
        });
    }
    if manifest.layers().len() > MAX_LAYERS {
        return Err(ImageError::TooLarge {
            what: what.to_owned(),
            limit: MAX_LAYERS as u64,
            unit: "layers",
        });
    }
    for layer in manifest.layers() {
        check_digest(layer.digest(), what)?;
        if artifact_type.is_none() {
            check_layer_type(layer, what)?;
        }
    }
    Ok(Manifest {
        config: manifest.config().clone(),
        layers: manifest.layers().clone(),
        annotations: manifest.annotations().clone().unwrap_or_default(),
        artifact_type,
    })
}

/// What kind of artifact a manifest is; `None`: an image. The rule is CRI-O's: an artifact has a
/// config that is not an image's, or says `artifactType`.
fn artifact_type(manifest: &ImageManifest) -> Option<String> {
    let config_type = manifest.config().media_type().to_string();
    let of_image = config_type.is_empty() || CONFIG_TYPES.contains(&config_type.as_str());
    let declared = manifest.artifact_type().as_ref().map(ToString::to_string);
    let declared = declared.filter(|media_type| !media_type.is_empty());
    declared.or_else(|| (!of_image).then_some(config_type))
}

fn check_digest(digest: &Digest, what: &str) -> Result<(), ImageError> {
    match digest.algorithm() {
        DigestAlgorithm::Sha256 => Ok(()),
        other => Err(ImageError::malformed(
            what,
            format!("digest algorithm {other} is not supported, only sha256"),
        )),
    }
}

/// Layer types that are a tar, packed or not. Which packing it is the bytes say (unpack.rs):
/// registries are full of layers whose type is wrong about it.
const LAYER_TYPES: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

fn check_layer_type(layer: &Descriptor, what: &str) -> Result<(), ImageError> {
    let media_type = layer.media_type().to_string();
    let remedy = match media_type.as_str() {
        known if LAYER_TYPES.contains(&known) => return Ok(()),
        other if other.contains("foreign") || other.contains("nondistributable") => {
            "foreign layers are not in the registry; rebuild the image with them"
        }
        other if other.ends_with("+encrypted") => "encrypted layers cannot be read by this build",
        _ => "tar, tar+gzip and tar+zstd layers are",
    };
    Err(ImageError::Unsupported {
        what: format!("{what}: layer {}", layer.digest()),
        media_type,
        remedy,
    })
}

/// Parses an image configuration and takes its diff ids, which must be as many as `layers`.
pub fn parse_config(
    bytes: &[u8],
    layers: usize,
    what: &str,
) -> Result<(ImageConfiguration, Vec<Digest>), ImageError> {
    // The store's own reading, so that what is accepted here is accepted there.
    let parsed = storage::parse_config(what, bytes).map_err(|error| match error {
        StorageError::Document { reason, .. } => ImageError::malformed(what, reason),
        other => ImageError::malformed(what, other),
    });
    let (config, diff_ids) = parsed?;
    if diff_ids.len() != layers {
        return Err(ImageError::malformed(
            what,
            format!("it names {} diff ids for {layers} layers", diff_ids.len()),
        ));
    }
    Ok((config, diff_ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{:064x}", 1), "size": 10})
    }

    fn manifest(layer: &str) -> Value {
        json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor(CONFIG_TYPES[0]), "layers": [descriptor(layer)],
        })
    }

    fn parse_value(value: &Value) -> Result<Document, ImageError> {
        parse(value.to_string().as_bytes(), None, "manifest x")
    }

    #[test]
    fn layer_types_are_known_or_refused_by_name() {
        let mut table: Vec<(&str, bool)> = LAYER_TYPES.map(|known| (known, true)).to_vec();
        table.extend(
            [
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
                "application/x-unheard-of",
            ]
            .map(|unknown| (unknown, false)),
        );
        for (media_type, want) in table {
            match (parse_value(&manifest(media_type)), want) {
                (Ok(Document::Manifest(manifest)), true) => assert_eq!(manifest.size_bytes(), 20),
                (Err(error @ ImageError::Unsupported { .. }), false) => {
                    assert!(error.to_string().contains(media_type), "{error}");
                }
                (other, want) => panic!("{media_type}: {other:?}, wanted {want:?}"),
            }
        }
    }

    #[test]
    fn documents_that_are_not_images_are_refused() {
        let good = manifest("application/vnd.oci.image.layer.v1.tar");
        let change = |change: &dyn Fn(&mut Value)| {
            let mut value = good.clone();
            change(&mut value);
            value
        };
        let table = [
            ("both kinds", change(&|v| v["manifests"] = json!([]))),
            ("schema 1", change(&|v| v["schemaVersion"] = 1.into())),
            (
                "other type",
                change(&|v| v["mediaType"] = "text/plain".into()),
            ),
            (
                "sha512 layer",
                change(&|v| {
                    v["layers"][0]["digest"] = format!("sha512:{:0128x}", 1).into();
                }),
            ),
            (
                "bad digest",
                change(&|v| v["config"]["digest"] = "sha256:zz".into()),
            ),
            (
                "negative size",
                change(&|v| v["config"]["size"] = (-1).into()),
            ),
            (
                "huge config",
                change(&|v| v["config"]["size"] = (1u64 << 40).into()),
            ),
            (
                "many layers",
                change(&|v| {
                    let layer = v["layers"][0].clone();
                    v["layers"] = vec![layer; MAX_LAYERS + 1].into();
                }),
            ),
            ("a list", json!([])),
            ("a string", json!("x")),
        ];
        for (name, value) in table {
            let error = parse_value(&value).expect_err(name).to_string();
            assert!(error.starts_with("manifest x"), "{name}: {error}");
        }
        parse_value(&good).unwrap();
    }

    #[test]
    fn an_artifact_is_told_by_its_type_or_its_config_and_may_have_any_layers() {
        let plain = manifest("application/vnd.oci.image.layer.v1.tar");
        let odd = manifest("text/plain");
        let empty = "application/vnd.oci.empty.v1+json";
        let model = "application/x-model";
        let table = [
            (&plain, CONFIG_TYPES[0], None, None),
            (&plain, CONFIG_TYPES[0], Some(""), None),
            (&plain, CONFIG_TYPES[0], Some(model), Some(model)),
            (&odd, empty, None, Some(empty)),
            (&odd, empty, Some(model), Some(model)),
            (&odd, model, None, Some(model)),
        ];
        for (base, config, declared, want) in table {
            let mut value = base.clone();
            value["config"]["mediaType"] = config.into();
            if let Some(declared) = declared {
                value["artifactType"] = declared.into();
            }
            match parse_value(&value).unwrap() {
                Document::Manifest(found) => assert_eq!(found.artifact_type.as_deref(), want),
                Document::Index(_) => panic!("{value}"),
            }
        }
    }

    #[test]
    fn a_document_without_a_type_is_told_by_its_content() {
        let mut value = manifest("application/vnd.oci.image.layer.v1.tar");
        value.as_object_mut().unwrap().remove("mediaType");
        assert!(matches!(
            parse_value(&value).unwrap(),
            Document::Manifest(_)
        ));
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST)]});
        assert!(
            matches!(parse_value(&index).unwrap(), Document::Index(entries) if entries.len() == 1)
        );
    }

    #[test]
    fn a_configuration_must_name_one_diff_id_a_layer() {
        let config = |ids: Value| {
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}})
                .to_string()
        };
        let id = format!("sha256:{:064x}", 1);
        assert!(parse_config(config(json!([id])).as_bytes(), 1, "c").is_ok());
        for (ids, layers) in [
            (json!([id]), 2),
            (json!([]), 1),
            (json!(["md5:1"]), 1),
            (json!([1]), 1),
        ] {
            parse_config(config(ids.clone()).as_bytes(), layers, "c").expect_err(&ids.to_string());
        }
    }
}
