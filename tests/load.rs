//! `cricket load`: what other tools write, and the directory of archives at the start.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use cricket_harness::image::{Compression, Image, compress};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, archive, tools};
use serde_json::json;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A small image that differs from others by its label.
fn labelled(label: &str) -> Image {
    Image::builder()
        .layer(Layer::new().file("f", 0o644, b"same"), Compression::Gzip)
        .set("Labels", json!({"label": label}))
        .build()
}

fn load(node: &Node, file: &Path) -> String {
    tools::run(node.daemon.command().arg("load").arg("-i").arg(file))
}

#[tokio::test]
async fn what_skopeo_writes_is_loaded_in_every_format() {
    let mut node = Node::start(CRICKET).await;
    let image = labelled("skopeo");
    let source = node.registry().push("source", "1", &image);
    let dir = node.dir().to_owned();
    let name = "x.io/copied:1";
    for (transport, packing) in [
        ("oci-archive", "oci"),
        ("oci", "oci"),
        ("docker-archive", "v2s2"),
    ] {
        let output = dir.join(transport);
        let mut command = node.net().command(&tools::need("skopeo"));
        command.args([
            "--insecure-policy",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
        ]);
        // A conversion changes the configuration's type and nothing in it.
        command.args(["--format", packing, &format!("docker://{source}")]);
        command.arg(format!("{transport}:{}:{name}", output.display()));
        tools::run(&mut command);
        assert_eq!(
            load(&node, &output),
            format!("{} {name}\n", image.id()),
            "{transport}"
        );
        node.cri.remove_image(name).await.unwrap();
    }
    node.finish().await;
}

#[tokio::test]
async fn archives_in_the_directory_are_loaded_at_the_start_and_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let put = |file: &str, image: &Image, name: &str, compression| {
        let bytes = archive::docker_save(&[(image, &[name])]);
        std::fs::write(dir.path().join(file), compress(&bytes, compression)).unwrap();
    };
    let (first, second, third) = (labelled("1"), labelled("2"), labelled("3"));
    put("a.tar", &first, "x.io/a:1", Compression::None);
    put("b.tar.zst", &second, "x.io/b:1", Compression::Zstd);
    std::fs::write(dir.path().join("broken.tar"), "no tar").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "not read").unwrap();
    for (file, content) in archive::oci_layout(&[(&third, "x.io/c:1")]) {
        let path = dir.path().join("layout").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let config = format!(
        "image_archives_dir = {:?}\npinned_images = [\"x.io/c:1\"]\n",
        dir.path()
    );
    let mut node = Node::start_with(CRICKET, |options| options.image_config = config).await;
    let finished = |node: &Node, what: &str| node.daemon.log().contains(what);
    let done = "seen=4 loaded=3 failed=1";
    node.until("the archives are loaded", || finished(&node, done))
        .await;
    for (name, image) in [
        ("x.io/a:1", &first),
        ("x.io/b:1", &second),
        ("x.io/c:1", &third),
    ] {
        let loaded = node.cri.image(name).await.unwrap().unwrap();
        assert_eq!(loaded.id, image.id(), "{name}");
        // that it came from the directory pins nothing
        assert_eq!(loaded.pinned, name == "x.io/c:1", "{name}");
    }
    let log = node.daemon.log();
    assert!(
        log.contains("broken.tar") && !log.contains("notes.txt"),
        "{log}"
    );
    let broken = log
        .lines()
        .find(|line| line.contains("broken.tar"))
        .unwrap();
    assert!(
        broken.contains("archive not loaded") && broken.contains("error="),
        "{broken}"
    );

    // One has changed, one has lost its image, one is as it was.
    put("a.tar", &labelled("4"), "x.io/a:2", Compression::None);
    std::fs::remove_file(dir.path().join("broken.tar")).unwrap();
    node.cri.remove_image("x.io/b:1").await.unwrap();
    node.crash().await;
    let done = "seen=3 loaded=2 failed=0";
    node.until("the changed archives are loaded", || finished(&node, done))
        .await;
    assert_eq!(
        node.cri.image("x.io/a:2").await.unwrap().unwrap().id,
        labelled("4").id()
    );
    assert_eq!(
        node.cri.image("x.io/b:1").await.unwrap().unwrap().id,
        second.id()
    );
    node.crash().await;
    let done = "seen=3 loaded=0 failed=0";
    node.until("nothing is left to load", || finished(&node, done))
        .await;
    node.finish().await;
}
