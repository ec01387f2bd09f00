//! Images made in code: layers, configurations, manifests, indexes, layouts and archives.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::manifest;

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pack {
    Plain,
    Gzip,
    Zstd,
}

/// A manifest or index with everything below it.
#[derive(Debug, Clone)]
pub struct Content {
    /// By digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
    /// The image id: the configuration's digest without its algorithm. Of an index: empty.
    pub id: String,
    /// Manifests below an index.
    pub manifests: Vec<Content>,
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn pack(bytes: &[u8], pack: Pack) -> Vec<u8> {
    match pack {
        Pack::Plain => bytes.to_vec(),
        Pack::Zstd => zstd::stream::encode_all(bytes, 3).unwrap(),
        Pack::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

impl Content {
    pub fn digest(&self) -> String {
        sha256(&self.bytes)
    }

    /// The digest of layer `index`, as packed.
    pub fn layer(&self, index: usize) -> String {
        self.json()["layers"][index]["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The same with another manifest.
    pub fn with_json(&self, change: impl FnOnce(&mut Value)) -> Content {
        let mut json = self.json();
        change(&mut json);
        Content {
            bytes: json.to_string().into_bytes(),
            ..self.clone()
        }
    }

    pub fn size(&self) -> u64 {
        let json = self.json();
        let layers = json["layers"].as_array().unwrap().iter();
        layers
            .chain([&json["config"]])
            .map(|part| part["size"].as_u64().unwrap())
            .sum()
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// An image of OCI media types.
pub fn image(layers: &[(Vec<u8>, Pack)]) -> Content {
    build(layers, false, json!({"Cmd": ["/bin/sh"]}), "amd64")
}

/// An image of docker schema 2.
pub fn docker_image(layers: &[(Vec<u8>, Pack)]) -> Content {
    build(layers, true, json!({"Cmd": ["/bin/sh"]}), "amd64")
}

/// An image with a configuration and an architecture of its own.
pub fn build(layers: &[(Vec<u8>, Pack)], docker: bool, run: Value, architecture: &str) -> Content {
    let diff_ids: Vec<String> = layers.iter().map(|(tar, _)| sha256(tar)).collect();
    let config = json!({
        "created": "2026-01-02T03:04:05Z", "architecture": architecture, "os": "linux",
        "config": run, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes();
    let mut blobs = BTreeMap::new();
    let mut descriptors = Vec::new();
    for (tar, packing) in layers {
        let packed = pack(tar, *packing);
        let media_type = match (docker, packing) {
            (false, Pack::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (false, Pack::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (false, Pack::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (true, Pack::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (true, _) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        };
        descriptors.push(json!({
            "mediaType": media_type, "digest": sha256(&packed), "size": packed.len(),
        }));
        blobs.insert(sha256(&packed), packed);
    }
    let (media_type, config_type) = match docker {
        true => (
            manifest::DOCKER_MANIFEST,
            "application/vnd.docker.container.image.v1+json",
        ),
        false => (
            manifest::OCI_MANIFEST,
            "application/vnd.oci.image.config.v1+json",
        ),
    };
    let bytes = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "config": {"mediaType": config_type, "digest": sha256(&config), "size": config.len()},
        "layers": descriptors,
    })
    .to_string()
    .into_bytes();
    let id = sha256(&config)["sha256:".len()..].to_owned();
    blobs.insert(sha256(&config), config);
    Content {
        blobs,
        media_type,
        bytes,
        id,
        manifests: Vec::new(),
    }
}

/// An index of images by architecture; an empty architecture leaves the platform out.
pub fn index(entries: &[(&str, &Content)], docker: bool) -> Content {
    let manifests = entries.iter().map(|(architecture, content)| {
        let mut descriptor = content.descriptor();
        if !architecture.is_empty() {
            descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        }
        descriptor
    });
    let media_type = if docker {
        manifest::DOCKER_LIST
    } else {
        manifest::OCI_INDEX
    };
    let manifests: Vec<Value> = manifests.collect();
    let bytes = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests})
        .to_string()
        .into_bytes();
    let below = entries
        .iter()
        .map(|(_, content)| (*content).clone())
        .collect();
    Content {
        blobs: BTreeMap::new(),
        media_type,
        bytes,
        id: String::new(),
        manifests: below,
    }
}

/// The files of an OCI layout that holds images under whole names.
pub fn layout(images: &[(&str, &Content)]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut entries = Vec::new();
    for (name, content) in images {
        let mut entry = content.descriptor();
        if !name.is_empty() {
            entry["annotations"] = json!({"io.containerd.image.name": name});
        }
        entries.push(entry);
        put_blobs(content, &mut files);
    }
    files.insert(
        "oci-layout".into(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    );
    let index = json!({"schemaVersion": 2, "manifests": entries});
    files.insert("index.json".into(), index.to_string().into_bytes());
    files
}

fn put_blobs(content: &Content, files: &mut BTreeMap<String, Vec<u8>>) {
    let name = |digest: &str| digest.replace("sha256:", "blobs/sha256/");
    files.insert(name(&content.digest()), content.bytes.clone());
    for (digest, bytes) in &content.blobs {
        files.insert(name(digest), bytes.clone());
    }
    for below in &content.manifests {
        put_blobs(below, files);
    }
}

pub fn write_files(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

pub fn tar_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    tar(&files)
}
