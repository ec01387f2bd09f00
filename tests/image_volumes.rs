//! Volumes that come from images: those that the kubelet mounts (KEP-4639), and those that an image
//! declares.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::client::spec;
use cricket_harness::cri::*;
use cricket_harness::image::{Compression, Image as Built};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, requests, samples};
use serde_json::json;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// An image with a program, a directory, and links that try to lead out of it.
fn data() -> Built {
    Built::builder()
        .layer(
            Layer::new()
                .dir("dir", 0o755)
                .file("dir/word", 0o644, b"lower")
                .file("dir/tool", 0o755, b"#!/bin/sh\necho ran\n"),
            Compression::Gzip,
        )
        .layer(
            Layer::new()
                .file("dir/word", 0o644, b"upper")
                .symlink("inside", "/dir")
                .symlink("outside", "../../../../../../etc"),
            Compression::Gzip,
        )
        .build()
}

fn volume(image: &str, to: &str, sub_path: &str) -> Mount {
    Mount {
        container_path: to.into(),
        readonly: true,
        image: Some(spec(image)),
        image_sub_path: sub_path.into(),
        ..Default::default()
    }
}

fn text(reply: ExecSyncResponse) -> String {
    String::from_utf8(reply.stdout).unwrap()
}

#[tokio::test]
async fn an_image_is_a_read_only_volume_that_protects_it_as_long_as_the_container_is_there() {
    let mut node = Node::start(CRICKET).await;
    let busybox = node.busybox().await;
    let built = data();
    let name = node.registry().push("data", "1", &built);
    let image = node.cri.pull(&name).await.unwrap();
    let digest = format!("{}@{}", node.registry().name("data"), built.manifest.digest);
    let pod_config = node.pod_config("volumes");
    let pod = node.cri.run_pod(&pod_config).await.unwrap();
    let mut config = requests::container("main", &busybox, &["sleep", "1000"]);
    // By the name of the pod's specification and by the id that PullImage returned.
    config.mounts = vec![
        volume(&name, "/whole", ""),
        volume(&image, "/part", "inside"),
    ];
    let id = node.run_in(&pod, &pod_config, &config).await;

    let script = "cat /whole/dir/word; cat /part/word; /part/tool; touch /whole/new 2>&1; \
                  ls /whole/outside/passwd";
    let said = text(node.cri.exec(&id, &["sh", "-c", script], 10).await.unwrap());
    assert!(said.starts_with("upperupperran\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    // A link of the image leads to the container's own files, as every link in a container does.
    assert!(said.contains("/whole/outside/passwd"), "{said}");

    let shown = node.cri.container(&id).await.unwrap().mounts;
    for (mount, (to, sub_path)) in shown.iter().zip([("/whole", ""), ("/part", "inside")]) {
        let shown = mount.image.as_ref().unwrap();
        assert_eq!(
            (&*mount.container_path, &*mount.image_sub_path),
            (to, sub_path)
        );
        assert_eq!(shown.image, image, "what the kubelet's collector looks for");
        assert_eq!(shown.image_ref, digest);
        assert!(mount.readonly && mount.host_path.is_empty());
    }

    let error = node.cri.remove_image(&name).await.unwrap_err();
    assert!(
        error.message().contains(&id) && error.message().contains("volume"),
        "{error}"
    );
    node.crash().await;
    assert!(
        node.cri.remove_image(&image).await.is_err(),
        "also after kill -9"
    );
    let word = ["cat", "/part/word"];
    assert_eq!(text(node.cri.exec(&id, &word, 10).await.unwrap()), "upper");

    node.cri.stop(&id, 0).await.unwrap();
    assert!(
        node.cri.remove_image(&image).await.is_err(),
        "until it is removed"
    );
    node.cri.remove(&id).await.unwrap();
    node.cri.remove_image(&image).await.unwrap();
    assert_eq!(node.cri.image(&name).await.unwrap(), None);
    node.finish().await;
}

#[tokio::test]
async fn an_image_volume_that_cannot_be_is_refused_and_leaves_nothing() {
    let mut node = Node::start(CRICKET).await;
    let busybox = node.busybox().await;
    let name = node.registry().push("data", "1", &data());
    node.cri.pull(&name).await.unwrap();
    let pod_config = node.pod_config("refused");
    let pod = node.cri.run_pod(&pod_config).await.unwrap();
    let absent = node.registry().name("absent:1");
    let long = "x/".repeat(2100);
    use tonic::Code::{InvalidArgument, Unknown};
    let mount_failed = "ImageVolumeMountFailed";
    let mut cases = vec![(volume(&absent, "/data", ""), Unknown, mount_failed)];
    for sub_path in ["missing", "outside/passwd"] {
        cases.push((volume(&name, "/data", sub_path), Unknown, mount_failed));
    }
    for sub_path in ["../dir", "dir/../..", "/dir", "a\0b", &long] {
        let mount = volume(&name, "/data", sub_path);
        cases.push((mount, InvalidArgument, "image_sub_path"));
    }
    let changes: [(fn(&mut Mount), _); 3] = [
        (|mount| mount.readonly = false, "readonly"),
        (|mount| mount.host_path = "/etc".into(), "host_path"),
        (|mount| mount.propagation = 2, "propagation"),
    ];
    for (change, field) in changes {
        let mut mount = volume(&name, "/data", "");
        change(&mut mount);
        cases.push((mount, InvalidArgument, field));
    }
    for (mount, code, says) in cases {
        let mut config = requests::container("main", &busybox, &["sleep", "1000"]);
        config.mounts = vec![mount];
        let error = node
            .cri
            .create(&pod, &config, &pod_config)
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(says), "{error}");
        // The kubelet finds the reason at the beginning only.
        assert!(
            code != Unknown || error.message().starts_with(mount_failed),
            "{error}"
        );
    }
    assert_eq!(node.cri.containers().await.unwrap(), []);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = format!("{}/root/cricket/containers", node.dir().display());
    assert!(!mounts.contains(&own), "{mounts}");
    node.cri.remove_image(&name).await.unwrap();
    node.finish().await;
}

/// What a container of an image that declares volumes finds there, under one `image_volumes`.
async fn declared(kind: &str) -> (String, Vec<std::path::PathBuf>) {
    let mut node = Node::start_with(CRICKET, |options| {
        options.image_config = format!("image_volumes = \"{kind}\"");
    })
    .await;
    let image = Built::builder()
        .layer(samples::busybox_layer(), Compression::Gzip)
        .set("Volumes", json!({"/var/lib/data": {}, "/etc/passwd": {}}))
        .build();
    let name = node.registry().push("declared", "1", &image);
    node.cri.pull(&name).await.unwrap();
    let pod_config = node.pod_config("declared");
    let pod = node.cri.run_pod(&pod_config).await.unwrap();
    let mut config = requests::container("main", &name, &["sleep", "1000"]);
    let own = node.dir().join("own");
    config.mounts = vec![Mount {
        container_path: "/etc/passwd".into(),
        host_path: own.join("passwd").to_string_lossy().into_owned(),
        ..Default::default()
    }];
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    let id = node.run_in(&pod, &pod_config, &config).await;
    let script = "ls -d /var/lib/data; echo x > /var/lib/data/f && echo written; \
                  grep -c ' /var/lib/data ' /proc/mounts; cat /etc/passwd";
    let said = text(node.cri.exec(&id, &["sh", "-c", script], 10).await.unwrap());
    assert!(
        said.ends_with("root:x:0:0::/:/bin/sh\n"),
        "the kubelet's mount wins: {said}"
    );
    let listed = node.cri.container(&id).await.unwrap().mounts;
    assert_eq!(listed.len(), 1, "a declared volume is not the kubelet's");
    node.cri.remove(&id).await.unwrap();
    let left = walk(&node.dir().join("root"));
    node.finish().await;
    (said, left)
}

/// The files that the containers' volumes left.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.join("cricket/containers")];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            todo.push(entry.path());
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test]
async fn volumes_that_an_image_declares_are_made_bound_or_ignored() {
    let (mkdir, left) = declared("mkdir").await;
    assert!(mkdir.starts_with("/var/lib/data\nwritten\n0\n"), "{mkdir}");
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    let (bind, left) = declared("bind").await;
    assert!(bind.starts_with("/var/lib/data\nwritten\n1\n"), "{bind}");
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    let (ignore, _) = declared("ignore").await;
    assert!(ignore.starts_with("0\n"), "{ignore}");
}
