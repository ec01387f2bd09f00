//! Images as files: `docker save` archives and OCI layouts.

use serde_json::{Value, json};

use crate::image::{Blob, Image};
use crate::layer::Layer;

/// What `docker save` writes: each image with its names (fully qualified, with a tag).
pub fn docker_save(images: &[(&Image, &[&str])]) -> Vec<u8> {
    let mut tar = Layer::new();
    let mut manifest = Vec::new();
    for (image, names) in images {
        let config = format!("{}.json", image.id());
        tar = tar.file(&config, 0o644, &image.config.bytes);
        let mut layers = Vec::new();
        for content in &image.tars {
            let digest = crate::image::digest(content);
            let file = format!("{}.tar", digest.trim_start_matches("sha256:"));
            tar = tar.file(&file, 0o644, content);
            layers.push(file);
        }
        manifest.push(json!({"Config": config, "RepoTags": names, "Layers": layers}));
    }
    tar.file(
        "manifest.json",
        0o644,
        Value::from(manifest).to_string().as_bytes(),
    )
    .into_tar()
}

/// The files of an OCI layout, (path, content): to be written to a directory or a tar.
pub fn oci_layout(images: &[(&Image, &str)]) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![(
        "oci-layout".into(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    )];
    let mut manifests = Vec::new();
    for (image, name) in images {
        for blob in image.blobs().chain([&image.manifest]) {
            files.push((blob_path(blob), blob.bytes.to_vec()));
        }
        let mut descriptor = image.manifest.descriptor();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        manifests.push(descriptor);
    }
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    files.push(("index.json".into(), index.to_string().into_bytes()));
    files
}

/// An OCI layout in a tar.
pub fn oci_layout_tar(images: &[(&Image, &str)]) -> Vec<u8> {
    let files = oci_layout(images);
    let tar = |tar: Layer, (path, content): &(String, Vec<u8>)| tar.file(path, 0o644, content);
    files.iter().fold(Layer::new(), tar).into_tar()
}

fn blob_path(blob: &Blob) -> String {
    format!("blobs/sha256/{}", blob.hex())
}
