//! `cricket save`: what comes out loads elsewhere and here, as the same image.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use cricket_harness::image::{Compression, Image, digest};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, samples, tools};
use serde_json::{Value, json};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A layer that GNU tar made, with what a directory cannot give back: names in PAX records,
/// attributes, a hard link, a file that comes twice, and a block size of its own.
fn made_by_tar(dir: &Path) -> Vec<u8> {
    let root = dir.join("tree");
    std::fs::create_dir_all(root.join("etc/deep")).unwrap();
    std::fs::write(root.join("etc/word"), "first").unwrap();
    std::fs::hard_link(root.join("etc/word"), root.join("etc/same")).unwrap();
    std::fs::write(root.join(format!("etc/{}", "long".repeat(40))), "long").unwrap();
    std::fs::write(root.join("etc/.wh.group"), "").unwrap();
    let archive = dir.join("layer.tar");
    let run = |mode: &str| {
        let mut command = Command::new("tar");
        command.args(["--format=pax", mode]).arg(&archive);
        tools::run(command.arg("-C").arg(&root).arg("."));
    };
    run("-cf");
    std::fs::write(root.join("etc/word"), "second, and longer").unwrap();
    run("-rf");
    std::fs::read(&archive).unwrap()
}

/// Two images that share their first layer.
fn two(dir: &Path) -> [Image; 2] {
    let shared = made_by_tar(dir);
    let image = |label: &str, compression| {
        let own = Layer::new().file("own", 0o600, label.as_bytes());
        Image::builder()
            .tar(shared.clone(), compression)
            .layer(own, compression)
            .set("Labels", json!({"label": label}))
    };
    [
        image("one", Compression::Gzip).build(),
        image("two", Compression::Zstd).build(),
    ]
}

fn save(node: &Node, args: &[&str], output: &Path) {
    let mut command = node.daemon.command();
    tools::run(command.arg("save").args(args).arg("-o").arg(output));
}

/// The names and sizes in a tar; a name twice ends the test.
fn listed(archive: &Path) -> BTreeMap<String, u64> {
    let mut tar = tar::Archive::new(std::fs::File::open(archive).unwrap());
    let mut names = BTreeMap::new();
    for entry in tar.entries().unwrap() {
        let entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        assert_eq!(
            names.insert(name.clone(), entry.size()),
            None,
            "{name} twice"
        );
    }
    names
}

/// The manifest and the blobs of what skopeo reads under this name, every digest checked by it.
fn skopeo(source: &str, into: &Path) -> Value {
    let _ = std::fs::remove_dir_all(into);
    let mut command = Command::new(tools::need("skopeo"));
    command.args(["--insecure-policy", "copy", "--quiet", source]);
    tools::run(command.arg(format!("dir:{}", into.display())));
    serde_json::from_slice(&std::fs::read(into.join("manifest.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_saved_is_the_same_image_for_skopeo_and_for_cricket() {
    let mut node = Node::start(CRICKET).await;
    let dir = node.dir().to_owned();
    let images = two(&dir);
    let mut names = Vec::new();
    for (image, tag) in images.iter().zip(["1", "2"]) {
        let name = node.registry().push("saved", tag, image);
        node.cri.pull(&name).await.unwrap();
        names.push(name);
    }
    let table = [
        ("oci-archive", "none", "oci-archive", "tar"),
        ("oci-archive", "gzip", "oci-archive", "tar+gzip"),
        ("oci-archive", "zstd", "oci-archive", "tar+zstd"),
        ("oci-dir", "none", "oci", "tar"),
        ("docker-archive", "none", "docker-archive", ""),
    ];
    for (format, method, transport, packing) in table {
        let what = format!("{format} {method}");
        let output = dir.join(format!("{format}-{method}"));
        let args = [
            "--format",
            format,
            "--compress",
            method,
            &names[0],
            &names[1],
        ];
        save(&node, &args, &output);
        if output.is_file() {
            // Three layers, for one is shared; two configurations; in a layout two manifests.
            let files = listed(&output);
            let documents = if format == "docker-archive" { 1 } else { 7 };
            assert_eq!(files.len(), 3 + 2 + documents, "{what}: {files:?}");
        }
        for (name, image) in names.iter().zip(&images) {
            let source = format!("{transport}:{}:{name}", output.display());
            let manifest = skopeo(&source, &dir.join("copied"));
            let config = format!("sha256:{}", image.id());
            assert_eq!(manifest["config"]["digest"], config, "{what}");
            for (layer, tar) in manifest["layers"]
                .as_array()
                .unwrap()
                .iter()
                .zip(&image.tars)
            {
                let media_type = layer["mediaType"].as_str().unwrap();
                assert!(media_type.ends_with(packing), "{what}: {media_type}");
                if packing == "tar" {
                    assert_eq!(layer["digest"], digest(tar), "{what}");
                }
            }
        }
        for image in &images {
            node.cri.remove_image(image.id()).await.unwrap();
        }
        let shown = tools::run(node.daemon.command().arg("load").arg(&output));
        for (name, image) in names.iter().zip(&images) {
            assert!(
                shown.contains(&format!("{} {name}\n", image.id())),
                "{what}: {shown}"
            );
            let found = node.cri.image(name).await.unwrap().unwrap();
            assert_eq!(
                (found.id.as_str(), &found.repo_tags[..]),
                (image.id(), &[name.clone()][..])
            );
        }
    }
    node.finish().await;
}

#[tokio::test]
async fn a_loaded_image_is_saved_byte_for_byte_the_same_again() {
    let node = Node::start(CRICKET).await;
    let dir = node.dir().to_owned();
    let image = Image::builder()
        .tar(made_by_tar(&dir), Compression::None)
        .build();
    let layout = cricket_harness::archive::oci_layout_tar(&[(&image, "x.io/a:1")]);
    std::fs::write(dir.join("layout.tar"), layout).unwrap();
    tools::run(
        node.daemon
            .command()
            .arg("load")
            .arg(dir.join("layout.tar")),
    );
    save(&node, &[image.id()], &dir.join("first.tar"));
    // Its layers were no other in the registry: so is its manifest.
    let manifest = format!("blobs/sha256/{}", image.manifest.hex());
    assert!(listed(&dir.join("first.tar")).contains_key(&manifest));
    node.cri.remove_image(image.id()).await.unwrap();
    tools::run(node.daemon.command().arg("load").arg(dir.join("first.tar")));
    let output = node
        .daemon
        .command()
        .args(["save", "x.io/a:1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let first = std::fs::read(dir.join("first.tar")).unwrap();
    assert!(
        output.stdout == first,
        "standard output has another archive"
    );
    // `-` is standard input there.
    node.cri.remove_image(image.id()).await.unwrap();
    let mut command = node.daemon.command();
    let file = std::fs::File::open(dir.join("first.tar")).unwrap();
    let shown = tools::run(command.args(["load", "-"]).stdin(file));
    assert_eq!(shown, format!("{} x.io/a:1\n", image.id()));
    node.finish().await;
}

#[tokio::test]
async fn what_cannot_be_saved_is_told_and_leaves_nothing() {
    let mut node = Node::start(CRICKET).await;
    let dir = node.dir().join("out");
    std::fs::create_dir(&dir).unwrap();
    let name = node
        .registry()
        .push("bulky", "1", &samples::bulky(3 << 20, 2));
    let id = node.cri.pull(&name).await.unwrap();
    let refused = |args: &[&str], expected: &str| {
        let mut command = node.daemon.command();
        let output = command.arg("save").args(args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "{args:?}");
    };
    let file = dir.join("file");
    let file = file.to_str().unwrap();
    refused(
        &["-o", file, &name, "x.io/none:1"],
        "x.io/none:1: not in the store",
    );
    refused(
        &[
            "-o",
            file,
            "--format=docker-archive",
            "--compress=gzip",
            &name,
        ],
        "layers of a docker-archive are not packed",
    );
    refused(&["--format=oci-dir", &name], "name it with -o");
    refused(&["-o", "/nonexistent/x", &name], "/nonexistent/x");
    // A file that the image has is changed behind our back.
    let layers = node.daemon.root().join("layers");
    let changed = std::fs::read_dir(layers).unwrap().find_map(|layer| {
        let file = layer.unwrap().path().join("diff/data1/file0");
        file.is_file().then_some(file)
    });
    std::fs::write(changed.unwrap(), "changed").unwrap();
    for format in ["oci-archive", "oci-dir", "docker-archive"] {
        refused(
            &["-o", file, "--format", format, &id],
            "diff/data1/file0: it is 7 bytes long, not",
        );
    }
    refused(&["-o", file, "--compress=zstd", &id], "diff/data1/file0");
    node.finish().await;
}
