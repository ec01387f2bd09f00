//! Keeping and removing images: who uses them, what they share, what their removal frees, and the
//! file systems that they are on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cricket_harness::cri::*;
use cricket_harness::image::{Compression, Image as Built};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, requests, samples};
use serde_json::{Value, json};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

fn cricket(node: &Node, arguments: &[&str]) -> Output {
    let config = node.daemon.config_file();
    let mut command = Command::new(CRICKET);
    let command = command.arg("--config").arg(config).arg("--config-dir=");
    command.args(arguments).output().unwrap()
}

#[track_caller]
fn out(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// What `cricket images -o json` says of each image, by its first name.
fn listed(node: &Node) -> Vec<Value> {
    let text = out(&cricket(node, &["images", "-o", "json"]));
    let value: Value = serde_json::from_str(&text).unwrap();
    value["images"].as_array().unwrap().clone()
}

fn of<'a>(listed: &'a [Value], id: &str) -> &'a Value {
    listed.iter().find(|image| image["id"] == id).unwrap()
}

async fn used(node: &Node) -> u64 {
    let info = node.cri.image_fs_info(ImageFsInfoRequest {}).await.unwrap();
    info.image_filesystems[0].used_bytes.unwrap().value
}

/// Waits until the store uses so much: layers are freed in the background.
async fn until_used(node: &Node, bytes: u64) {
    for _ in 0..2000 {
        if used(node).await == bytes {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not {bytes} bytes but {} after 20 s", used(node).await);
}

/// An image of layers of so many bytes each; equal sizes are equal layers.
fn sized(label: &str, layers: &[usize]) -> Built {
    let file = |size: &usize| Layer::new().file("f", 0o644, &vec![b'x'; *size]);
    let mut builder = Built::builder().set("Labels", json!({ "label": label }));
    for layer in layers {
        builder = builder.layer(file(layer), Compression::Gzip);
    }
    builder.build()
}

#[tokio::test]
async fn what_the_tree_says_that_a_removal_frees_is_what_it_frees() {
    let mut node = Node::start(CRICKET).await;
    let built = [
        sized("a", &[100_000, 20_000, 100_000]),
        sized("b", &[100_000, 30_000]),
        sized("c", &[40_000]),
    ];
    let mut ids = Vec::new();
    for (number, image) in built.iter().enumerate() {
        let name = node.registry().push("sized", &number.to_string(), image);
        ids.push(node.cri.pull(&name).await.unwrap());
    }
    let other = node.registry().push("sized", "other", &built[2]);
    node.cri.pull(&other).await.unwrap();

    let table = out(&cricket(&node, &["images"]));
    assert_eq!(table.lines().count(), 5, "one row a name: {table}");
    let tree = out(&cricket(&node, &["images", "--tree", &ids[0][..12]]));
    assert!(
        tree.contains("shared with 127.0.0.1:5000/sized:1"),
        "{tree}"
    );
    assert!(!tree.contains(&ids[1][..12]), "{tree}");

    let all = listed(&node);
    let freed = |all: &[Value], id: &str| of(all, id)["freedBytes"].as_u64().unwrap();
    let on_disk = |id: &str| of(&all, id)["bytesOnDisk"].as_u64().unwrap();
    assert!(freed(&all, &ids[0]) >= 20_000 && freed(&all, &ids[0]) < 100_000);
    assert_eq!(freed(&all, &ids[2]), on_disk(&ids[2]));
    // One after the other, each frees what was said just before.
    for id in &ids {
        let before = used(&node).await;
        let said = freed(&listed(&node), id);
        let removed = out(&cricket(&node, &["rmi", id]));
        assert_eq!(removed, format!("{id} {id}\n"));
        until_used(&node, before - said).await;
    }
    assert_eq!(used(&node).await, 0);
    assert_eq!(listed(&node), Vec::<Value>::new());
    let absent = cricket(&node, &["rmi", &other]);
    assert_eq!(absent.status.code(), Some(1));
    let said = String::from_utf8(absent.stderr).unwrap();
    assert!(said.contains("there is no such image"), "{said}");
    node.finish().await;
}

#[tokio::test]
async fn a_used_image_stays_and_its_user_is_named() {
    let mut node = Node::start_with(CRICKET, |options| {
        options.image_config = "pinned_images = [\"*PINNED*\"]".into();
    })
    .await;
    let image = samples::busybox();
    let name = node.registry().push("busybox", "latest", image);
    let pinned = node.registry().push("pinned", "1", &sized("p", &[10]));
    node.cri.pull(&pinned).await.unwrap();
    node.cri.pull(&name).await.unwrap();
    let before = used(&node).await;
    let (pod, container, _) = node.run("user", &name, &["sleep", "1000"]).await;

    let all = listed(&node);
    let used_by = of(&all, image.id())["usedBy"][0].as_str().unwrap();
    assert!(
        used_by.contains("main") && used_by.contains(&container),
        "{used_by}"
    );
    assert!(used_by.contains("user"), "the pod's name: {used_by}");
    assert_eq!(of(&all, image.id())["freedBytes"], 0);
    assert_eq!(of(&all, image.id())["pinned"], false);
    let other = node.cri.image(&pinned).await.unwrap().unwrap();
    assert!(other.pinned && of(&all, &other.id)["pinned"] == true);
    let refused = cricket(&node, &["rmi", &name, &pinned]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains(&format!("in use by {used_by}")), "{said}");
    // Pinning is for the kubelet's collector: a person may remove what is pinned.
    assert_eq!(node.cri.image(&pinned).await.unwrap(), None);
    assert_eq!(node.cri.images().await.unwrap().len(), 1);

    node.cri.remove_pod(&pod).await.unwrap();
    node.cri.remove_image(image.id()).await.unwrap();
    until_used(&node, 0).await;
    assert!(before > 0);
    node.finish().await;
}

#[tokio::test]
async fn creations_and_removals_at_once_leave_each_container_its_image() {
    let mut node = Node::start(CRICKET).await;
    let name = node.busybox().await;
    let id = samples::busybox().id().to_owned();
    let pod_config = node.pod_config("race");
    let pod = node.cri.run_pod(&pod_config).await.unwrap();
    let (mut kept, mut gone) = (0, 0);
    for round in 0..20 {
        node.cri.pull(&name).await.unwrap();
        let config = requests::container(&format!("c{round}"), &name, &["sleep", "1000"]);
        let (created, removed) = tokio::join!(
            node.cri.create(&pod, &config, &pod_config),
            node.cri.remove_image(&id)
        );
        let there = node.cri.image(&id).await.unwrap().is_some();
        match (created, removed) {
            (Ok(container), Err(error)) => {
                assert!(error.message().contains("in use by container"), "{error}");
                assert!(there);
                node.cri.start(&container).await.unwrap();
                node.cri.remove(&container).await.unwrap();
                kept += 1;
            }
            (Err(error), Ok(())) => {
                assert!(error.message().contains("not on this node"), "{error}");
                assert!(!there);
                gone += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kept + gone, 20);
    node.finish().await;
}

#[tokio::test]
async fn a_pull_keeps_the_layers_that_it_shares_with_an_image_being_removed() {
    let mut node = Node::start(CRICKET).await;
    let first = sized("first", &[100_000, 200_000]);
    let second = sized("second", &[100_000, 200_000, 300_000]);
    let first_name = node.registry().push("shared", "1", &first);
    let second_name = node.registry().push("shared", "2", &second);
    for _ in 0..10 {
        node.cri.pull(&first_name).await.unwrap();
        let (pulled, removed) = tokio::join!(
            node.cri.pull(&second_name),
            node.cri.remove_image(&first_name)
        );
        removed.unwrap();
        let id = pulled.unwrap();
        let all = listed(&node);
        assert_eq!(all.len(), 1);
        let on_disk = of(&all, &id)["bytesOnDisk"].as_u64().unwrap();
        assert!(on_disk >= 600_000, "all layers are there: {on_disk}");
        until_used(&node, on_disk).await;
        let removals = (0..5).map(|_| node.cri.remove_image(&id));
        for removed in futures_util::future::join_all(removals).await {
            removed.unwrap();
        }
        until_used(&node, 0).await;
    }
    node.finish().await;
}

/// A tmpfs; unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path) -> Tmpfs {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let mount = mount
            .args(["-t", "tmpfs", "-o", "size=1g", "tmpfs"])
            .arg(at);
        assert!(mount.status().unwrap().success());
        Tmpfs(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // The test that fails here has failed before.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[tokio::test]
async fn an_imagestore_of_its_own_is_told_apart_from_the_containers_file_system() {
    let scratch = tempfile::tempdir().unwrap();
    let store = scratch.path().join("store");
    let tmpfs = Tmpfs::mount(&store);
    let mut node = Node::start(CRICKET).await;
    node.daemon.set_env("CONTAINER_IMAGESTORE", &store);
    node.crash().await;
    let name = node.busybox().await;
    let info = node.cri.image_fs_info(ImageFsInfoRequest {}).await.unwrap();
    let at = |usage: &FilesystemUsage| PathBuf::from(&usage.fs_id.as_ref().unwrap().mountpoint);
    let device = |path: &Path| std::os::unix::fs::MetadataExt::dev(&path.metadata().unwrap());
    let (images, containers) = (&info.image_filesystems[0], &info.container_filesystems[0]);
    assert_eq!(device(&at(images)), device(&store));
    assert!(at(containers).starts_with(node.dir()), "{containers:?}");
    assert_ne!(device(&at(containers)), device(&store));
    assert!(images.used_bytes.unwrap().value > 0);
    assert_eq!(containers.used_bytes.unwrap().value, 0);

    let script = "dd if=/dev/zero of=/big bs=1M count=4 2>/dev/null; sleep 1000";
    let (_, id, _) = node.run("writer", &name, &["sh", "-c", script]).await;
    let images_before = images.used_bytes.unwrap().value;
    for asked in 0.. {
        assert!(
            asked < 600,
            "what the container wrote is not counted after a minute"
        );
        // Asking is what has the writable layer measured.
        let stats = ContainerStatsRequest {
            container_id: id.clone(),
        };
        node.cri.container_stats(stats).await.unwrap();
        let info = node.cri.image_fs_info(ImageFsInfoRequest {}).await.unwrap();
        assert_eq!(
            info.image_filesystems[0].used_bytes.unwrap().value,
            images_before
        );
        if info.container_filesystems[0].used_bytes.unwrap().value >= 4 << 20 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    node.crash().await;
    assert!(
        node.cri.image(&name).await.unwrap().is_some(),
        "found again there"
    );
    node.finish().await;
    drop(tmpfs);
}
