//! Images made in code: config, compressed layers, manifest, and indexes of several.

use std::io::Write;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::layer::Layer;

/// Media type of an OCI index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How a layer's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As tar.
    None,
    /// The usual.
    Gzip,
    /// OCI only.
    Zstd,
}

/// Which of the two families of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI image specification.
    Oci,
    /// Docker's manifest schema 2.
    Docker,
}

/// Bytes as a registry stores them.
#[derive(Debug, Clone)]
pub struct Blob {
    /// As descriptors and `Content-Type` name it.
    pub media_type: String,
    /// `sha256:…` of `bytes`.
    pub digest: String,
    /// Shared: layers are large and go into several registries.
    pub bytes: Arc<Vec<u8>>,
}

impl Blob {
    /// Takes the digest of `bytes`.
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Blob {
        Blob {
            media_type: media_type.into(),
            digest: digest(&bytes),
            bytes: Arc::new(bytes),
        }
    }

    /// The digest without `sha256:`.
    pub fn hex(&self) -> &str {
        self.digest.trim_start_matches("sha256:")
    }

    /// As a manifest refers to it.
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The machine's architecture by its OCI name.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest.
    pub manifest: Blob,
    /// The config.
    pub config: Blob,
    /// As they travel, bottom first.
    pub layers: Vec<Blob>,
    /// Uncompressed, bottom first, as `docker save` writes them.
    pub tars: Vec<Arc<Vec<u8>>>,
}

impl Image {
    /// Starts an image; the config gets a PATH, `sh` as its command and this machine's platform.
    pub fn builder() -> Builder {
        let config = json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["sh"],
        });
        Builder {
            format: Format::Oci,
            architecture: architecture().into(),
            config,
            layers: Vec::new(),
            diff_ids: None,
            gzips: Vec::new(),
        }
    }

    /// The image's id: what `PullImage` returns and `ListImages` lists.
    pub fn id(&self) -> &str {
        self.config.hex()
    }

    /// Config and layers: what a registry stores as blobs.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// An index of images for one platform each, (architecture, image).
    pub fn index(images: &[(&str, &Image)]) -> Blob {
        let manifests: Vec<Value> = images
            .iter()
            .map(|(architecture, image)| {
                let mut descriptor = image.manifest.descriptor();
                descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
                descriptor
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        Blob::new(INDEX, index.to_string().into_bytes())
    }
}

/// An image being described.
#[derive(Debug)]
pub struct Builder {
    format: Format,
    architecture: String,
    config: Value,
    layers: Vec<(Vec<u8>, Compression)>,
    diff_ids: Option<Vec<String>>,
    gzips: Vec<Vec<u8>>,
}

impl Builder {
    /// Media types of Docker instead of OCI.
    pub fn docker(mut self) -> Builder {
        self.format = Format::Docker;
        self
    }

    /// Another machine's image.
    pub fn architecture(mut self, name: &str) -> Builder {
        self.architecture = name.into();
        self
    }

    /// A field of the config's `config` object: `User`, `Cmd`, `WorkingDir`, ….
    pub fn set(mut self, field: &str, value: Value) -> Builder {
        self.config[field] = value;
        self
    }

    /// The next layer up.
    pub fn layer(self, layer: Layer, compression: Compression) -> Builder {
        self.tar(layer.into_tar(), compression)
    }

    /// The next layer up, as archive bytes.
    pub fn tar(mut self, tar: Vec<u8>, compression: Compression) -> Builder {
        self.layers.push((tar, compression));
        self
    }

    /// A layer above all others that is compressed already, whatever it holds; `diff_ids` must
    /// name its digest.
    pub fn gzip(mut self, bytes: Vec<u8>) -> Builder {
        self.gzips.push(bytes);
        self
    }

    /// Lies about the uncompressed digests.
    pub fn diff_ids(mut self, diff_ids: &[&str]) -> Builder {
        self.diff_ids = Some(diff_ids.iter().map(|id| (*id).to_owned()).collect());
        self
    }

    /// Compresses, digests, and writes config and manifest.
    pub fn build(self) -> Image {
        let diff_ids = self
            .diff_ids
            .unwrap_or_else(|| self.layers.iter().map(|(tar, _)| digest(tar)).collect());
        let config = json!({
            "architecture": self.architecture, "os": "linux",
            "created": "2026-01-01T00:00:00Z", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter().map(|_| json!({"created_by": "harness"})).collect::<Vec<_>>(),
        });
        let config_type = match self.format {
            Format::Oci => "application/vnd.oci.image.config.v1+json",
            Format::Docker => "application/vnd.docker.container.image.v1+json",
        };
        let config = Blob::new(config_type, config.to_string().into_bytes());
        let packed = self.layers.iter().map(|(tar, compression)| {
            Blob::new(
                layer_type(self.format, *compression),
                compress(tar, *compression),
            )
        });
        let gzip = layer_type(self.format, Compression::Gzip);
        let gzips = self.gzips.into_iter().map(|bytes| Blob::new(gzip, bytes));
        let layers: Vec<Blob> = packed.chain(gzips).collect();
        let manifest_type = match self.format {
            Format::Oci => "application/vnd.oci.image.manifest.v1+json",
            Format::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type, "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::new(manifest_type, manifest.to_string().into_bytes());
        let tars = self
            .layers
            .into_iter()
            .map(|(tar, _)| Arc::new(tar))
            .collect();
        Image {
            manifest,
            config,
            layers,
            tars,
        }
    }
}

fn layer_type(format: Format, compression: Compression) -> &'static str {
    match (format, compression) {
        (Format::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
        (Format::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (Format::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
        (Format::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
        (Format::Docker, _) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
}

/// Compresses as registries' clients do, at a fast level.
pub fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_describes_its_own_bytes() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let layer = Layer::new().dir("d", 0o755).file("d/f", 0o644, b"text");
            let image = Image::builder().layer(layer, compression).build();
            let config: Value = serde_json::from_slice(&image.config.bytes).unwrap();
            assert_eq!(
                config["rootfs"]["diff_ids"][0],
                digest(&image.tars[0]).as_str()
            );
            let manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
            assert_eq!(
                manifest["layers"][0]["digest"],
                digest(&image.layers[0].bytes).as_str()
            );
            assert_eq!(
                manifest["config"]["digest"],
                format!("sha256:{}", image.id())
            );
        }
    }

    #[test]
    fn hostile_names_reach_the_archive_as_they_are() {
        let tar = Layer::new().file("../../etc/x", 0o644, b"").into_tar();
        assert!(tar.starts_with(b"../../etc/x\0"));
    }
}
