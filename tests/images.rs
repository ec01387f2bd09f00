//! Images: pulled, loaded, listed, named, removed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use cricket_harness::cri::*;
use cricket_harness::hostile::{Fault, Fixture};
use cricket_harness::image::{self, Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::registry::Registry;
use cricket_harness::{Node, archive, certificate, requests, samples, tools};
use serde_json::json;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A small image that differs from others by its label.
fn labelled(label: &str) -> Image {
    Image::builder()
        .layer(Layer::new().file("f", 0o644, b"same"), Compression::Gzip)
        .set("Labels", json!({"label": label}))
        .build()
}

/// critest's spec "public image with digest should be pulled and removed", which `make conformance`
/// excludes: its digest is a constant. As there, the name is mapped by registries.conf.
#[tokio::test]
async fn an_image_pulled_by_digest_alone_has_that_name_and_no_tag() {
    let mut node = Node::start_with(CRICKET, |options| {
        options.registries = "\n[[registry]]\nprefix = \"registry.example/staging\"\n\
             location = \"127.0.0.1:5000/mirror\"\ninsecure = true\n"
            .into();
    })
    .await;
    let sample = samples::busybox();
    node.registry().push("mirror/test-image", "1", sample);
    let name = format!(
        "registry.example/staging/test-image@{}",
        sample.manifest.digest
    );
    let id = node.cri.pull(&name).await.unwrap();
    let image = node.cri.image(&name).await.unwrap().unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.repo_tags, [] as [&str; 0]);
    assert_eq!(image.repo_digests, std::slice::from_ref(&name));
    assert!(image.size > 0);
    node.cri.remove_image(&id).await.unwrap();
    assert_eq!(node.cri.image(&name).await.unwrap(), None);
    node.finish().await;
}

#[tokio::test]
async fn a_pulled_image_is_known_by_tag_digest_and_id_until_it_is_removed() {
    let mut node = Node::start(CRICKET).await;
    let sample = samples::busybox();
    let name = node.registry().push("busybox", "1", sample);
    let by_digest = format!(
        "{}@{}",
        node.registry().name("busybox"),
        sample.manifest.digest
    );
    let id = node.cri.pull(&name).await.unwrap();
    assert_eq!(id, sample.id());
    assert_eq!(
        node.cri.pull(&by_digest).await.unwrap(),
        id,
        "the same by its digest"
    );
    let listed = node.cri.images().await.unwrap();
    assert_eq!(listed.len(), 1);
    let image = &listed[0];
    assert_eq!(image.id, id);
    assert_eq!(image.repo_tags, std::slice::from_ref(&name));
    assert_eq!(image.repo_digests, std::slice::from_ref(&by_digest));
    assert!(image.size > 0);
    assert_eq!(image.uid, Some(Int64Value { value: 0 }));
    for reference in [&name, &by_digest, &id, &format!("sha256:{id}")] {
        let found = node.cri.image(reference).await.unwrap();
        assert_eq!(found.as_ref(), Some(image), "{reference}");
    }
    node.cri.remove_image(&name).await.unwrap();
    assert_eq!(node.cri.images().await.unwrap(), []);
    assert_eq!(node.cri.image(&id).await.unwrap(), None);
    node.cri
        .remove_image(&name)
        .await
        .expect("removing what is not there is no error");
    node.finish().await;
}

#[tokio::test]
async fn every_format_and_compression_gives_the_same_files() {
    let mut node = Node::start(CRICKET).await;
    let upper = || {
        Layer::new()
            .file("word", 0o644, b"upper")
            .file("etc/.wh.group", 0o644, b"")
    };
    let plain = |compression| {
        Image::builder()
            .layer(samples::busybox_layer(), compression)
            .layer(upper(), compression)
            .set("Labels", json!({"c": format!("{compression:?}")}))
    };
    let images = [
        ("plain", plain(Compression::None).build()),
        ("gzip", plain(Compression::Gzip).build()),
        ("zstd", plain(Compression::Zstd).build()),
        ("docker", plain(Compression::Gzip).docker().build()),
    ];
    let config = node.pod_config("formats");
    let pod = node.cri.run_pod(&config).await.unwrap();
    for (tag, image) in &images {
        let name = node.registry().push("formats", tag, image);
        assert_eq!(node.cri.pull(&name).await.unwrap(), image.id(), "{tag}");
        let container = requests::container(tag, &name, &["sleep", "1000"]);
        let id = node.run_in(&pod, &config, &container).await;
        let script = "cat /word; ls /etc; stat -c %h /bin/ls | sed 's/[2-9][0-9]*/many/'";
        let reply = node.cri.exec(&id, &["sh", "-c", script], 10).await.unwrap();
        let text = String::from_utf8(reply.stdout).unwrap();
        assert!(text.starts_with("upper"), "{tag}: {text}");
        assert!(
            !text.contains("group"),
            "{tag}: a whiteout hides the file below: {text}"
        );
        assert!(text.contains("passwd"), "{tag}: {text}");
    }
    node.finish().await;
}

#[tokio::test]
async fn an_index_gives_the_image_for_this_machine() {
    let mut node = Node::start(CRICKET).await;
    let ours = labelled("ours");
    let foreign = Image::builder()
        .architecture("s390x")
        .layer(Layer::new().file("f", 0o644, b"foreign"), Compression::Gzip)
        .build();
    let images = [("s390x", &foreign), (image::architecture(), &ours)];
    let index = node.registry().push_index("many", "1", &images);
    let name = node.registry().name("many:1");
    assert_eq!(node.cri.pull(&name).await.unwrap(), ours.id());
    let digest = format!("{}@{}", node.registry().name("many"), index.digest);
    let listed = node.cri.image(&name).await.unwrap().unwrap();
    assert!(listed.repo_digests.contains(&digest), "{listed:?}");
    node.registry()
        .push_index("foreign", "1", &[("s390x", &foreign)]);
    let name = node.registry().name("foreign:1");
    let error = node.cri.pull(&name).await.unwrap_err();
    assert!(error.message().contains(image::architecture()), "{error:?}");
    node.finish().await;
}

#[tokio::test]
async fn a_name_that_moves_leaves_the_old_image_without_it() {
    let mut node = Node::start(CRICKET).await;
    let (old, new) = (labelled("old"), labelled("new"));
    let name = node.registry().push("moving", "latest", &old);
    node.cri.pull(&name).await.unwrap();
    node.registry().push("moving", "latest", &new);
    assert_eq!(node.cri.pull(&name).await.unwrap(), new.id());
    let found = node
        .cri
        .image(old.id())
        .await
        .unwrap()
        .expect("still there by its id");
    assert_eq!(found.repo_tags, Vec::<String>::new());
    assert_eq!(node.cri.image(&name).await.unwrap().unwrap().id, new.id());
    node.finish().await;
}

#[tokio::test]
async fn removing_by_one_name_removes_all_and_an_image_in_use_stays() {
    let mut node = Node::start(CRICKET).await;
    let image = samples::busybox();
    let first = node.registry().push("one", "1", image);
    let second = node.registry().push("two", "2", image);
    node.cri.pull(&first).await.unwrap();
    node.cri.pull(&second).await.unwrap();
    let listed = node.cri.images().await.unwrap();
    assert_eq!((listed.len(), listed[0].repo_tags.len()), (1, 2));
    let (_, container, _) = node.run("user", &first, &["sleep", "1000"]).await;
    let error = node.cri.remove_image(&first).await.unwrap_err();
    assert!(
        error.message().contains(&container[..12]),
        "names its user: {error:?}"
    );
    node.cri.remove(&container).await.unwrap();
    node.cri.remove_image(&first).await.unwrap();
    assert_eq!(node.cri.images().await.unwrap(), []);
    node.finish().await;
}

#[tokio::test]
async fn pulls_of_one_image_at_the_same_time_fetch_it_once() {
    let node = Node::start(CRICKET).await;
    let fixture = Fixture::start(node.net(), 5001);
    let image = samples::bulky(4 << 20, 4);
    let name = fixture.push("bulky", "1", &image);
    let pulls = (0..8).map(|_| {
        let (cri, name) = (node.cri.clone(), name.clone());
        tokio::spawn(async move { cri.pull(&name).await })
    });
    for pull in pulls.collect::<Vec<_>>() {
        assert_eq!(pull.await.unwrap().unwrap(), image.id());
    }
    for layer in &image.layers {
        let asked = fixture.requests();
        let gets = asked
            .iter()
            .filter(|get| get.target.contains(layer.hex()))
            .count();
        assert_eq!(gets, 1, "{}", layer.digest);
    }
    node.finish().await;
}

#[tokio::test]
async fn a_registry_that_asks_for_a_token_gets_the_pulls_credentials() {
    let node = Node::start(CRICKET).await;
    let fixture = Fixture::start(node.net(), 5001);
    let image = labelled("secret");
    let name = fixture.push("secret", "1", &image);
    for fault in [
        Fault::Bearer(Some("me:pass".into())),
        Fault::Basic("me:pass".into()),
    ] {
        fixture.misbehave("/v2/", fault.clone());
        let error = node.cri.pull(&name).await.unwrap_err();
        assert!(
            error.message().contains("5001/secret"),
            "{fault:?}: {error:?}"
        );
        let auth = AuthConfig {
            username: "me".into(),
            password: "pass".into(),
            ..Default::default()
        };
        let id = node.cri.pull_with(&name, Some(auth)).await;
        assert_eq!(id.unwrap(), image.id(), "{fault:?}");
        node.cri.remove_image(&name).await.unwrap();
    }
    fixture.misbehave("/v2/", Fault::Bearer(None));
    assert_eq!(
        node.cri.pull(&name).await.unwrap(),
        image.id(),
        "anonymous tokens"
    );
    node.finish().await;
}

#[tokio::test]
async fn https_is_verified_against_the_roots_that_the_daemon_is_given() {
    let mut node = Node::start(CRICKET).await;
    let image = labelled("https");
    let files = certificate::signed(&node.dir().join("certificates"));
    let storage = node.dir().join("registry/https");
    Registry::start(node.net(), 0, &storage).push("secure", "1", &image);
    // Not one of the ports that registries.conf calls insecure.
    let https = Registry::start_tls(node.net(), 5443, &storage, (&files.certificate, &files.key));
    let name = https.name("secure:1");
    let error = node.cri.pull(&name).await.unwrap_err();
    let message = error.message().to_lowercase();
    assert!(message.contains("certificate"), "{error:?}");
    assert_eq!(node.cri.images().await.unwrap(), []);
    node.daemon.set_env("SSL_CERT_FILE", &files.authority);
    node.crash().await;
    assert_eq!(node.cri.pull(&name).await.unwrap(), image.id());
    node.finish().await;
}

#[tokio::test]
async fn archives_and_layouts_are_loaded_from_the_command_line() {
    let node = Node::start(CRICKET).await;
    let (saved, laid_out, unpacked) = (labelled("saved"), labelled("tar"), labelled("dir"));
    let dir = node.dir().to_owned();
    let save = archive::docker_save(&[(&saved, &["docker.io/library/saved:1"])]);
    std::fs::write(dir.join("save.tar"), save).unwrap();
    let layout = archive::oci_layout_tar(&[(&laid_out, "docker.io/library/layout:1")]);
    std::fs::write(dir.join("layout.tar"), layout).unwrap();
    for (file, content) in archive::oci_layout(&[(&unpacked, "docker.io/library/unpacked:1")]) {
        let path = dir.join("layout").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let cases = [
        ("save.tar", &saved, "saved"),
        ("layout.tar", &laid_out, "layout"),
        ("layout", &unpacked, "unpacked"),
    ];
    for (file, image, name) in cases {
        let shown = load(&node, &dir.join(file));
        assert!(shown.contains(image.id()), "{file}: {shown}");
        let name = format!("docker.io/library/{name}:1");
        let found = node
            .cri
            .image(&name)
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.id, image.id());
        assert_eq!(found.repo_tags, [name]);
    }
    node.finish().await;
}

fn load(node: &Node, file: &Path) -> String {
    tools::run(node.daemon.command().arg("load").arg(file))
}

#[tokio::test]
async fn the_image_file_system_is_reported_and_images_survive_a_restart() {
    let mut node = Node::start(CRICKET).await;
    let name = node.busybox().await;
    let usage = node
        .cri
        .image_fs_info(ImageFsInfoRequest::default())
        .await
        .unwrap();
    let usage = &usage.image_filesystems[0];
    assert!(usage.used_bytes.unwrap().value > 500_000, "{usage:?}");
    assert!(usage.inodes_used.unwrap().value > 0, "{usage:?}");
    assert!(usage.timestamp > 0);
    assert!(
        Path::new(&usage.fs_id.as_ref().unwrap().mountpoint).is_dir(),
        "{usage:?}"
    );
    let before = node.cri.images().await.unwrap();
    node.crash().await;
    assert_eq!(node.cri.images().await.unwrap(), before);
    node.run("after", &name, &["sleep", "1000"]).await;
    node.finish().await;
}
