//! `cricket check`: what is broken is named with what it affects, whether or not the daemon runs, and a
//! repair removes that and nothing else. `cricket wipe` removes everything, and only when told to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, leaks, samples};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A subcommand of cricket: its exit code and what it says, errors too.
fn cricket(node: &Node, arguments: &[&str]) -> (i32, String) {
    let mut command = node.daemon.command();
    let output = command.args(arguments).stdin(std::process::Stdio::null());
    let output = output.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[track_caller]
fn is_in_order(node: &Node) {
    let (code, text) = cricket(node, &["check"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("in order\n"), "{text}");
}

/// The only file of this name in the unpacked layers.
fn in_layers(node: &Node, name: &str) -> PathBuf {
    let files = leaks::files(&node.daemon.root().join("layers"));
    let mut found = files.into_iter().filter(|path| path.ends_with(name));
    let path = found
        .next()
        .unwrap_or_else(|| panic!("no {name} in any layer"));
    assert_eq!(found.next(), None);
    path
}

/// Changes one byte of a file, and not its length.
fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.last_mut().unwrap();
    *last ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The file of an image's manifest.
fn manifest(node: &Node, id: &str) -> PathBuf {
    let files = leaks::files(&node.daemon.root().join("images").join(id));
    let is_one = |path: &PathBuf| path.to_string_lossy().contains("/manifest-");
    files.into_iter().find(is_one).unwrap()
}

/// Two images on busybox' layer: `a` with the file `only-a` beside, `b` with `only-b`.
async fn two_images(node: &mut Node) -> [String; 2] {
    let mut names = Vec::new();
    for name in ["a", "b"] {
        let own = Layer::new()
            .dir("opt", 0o755)
            .file(&format!("opt/only-{name}"), 0o644, b"some content")
            .hard_link(&format!("opt/link-{name}"), &format!("opt/only-{name}"))
            .symlink("opt/symlink", "nowhere");
        let image = Image::builder()
            .layer(samples::busybox_layer(), Compression::Gzip)
            .layer(own, Compression::Zstd)
            .build();
        let name = node.registry().push(name, "latest", &image);
        node.cri.pull(&name).await.unwrap();
        names.push(name);
    }
    names.try_into().unwrap()
}

#[tokio::test]
async fn a_node_in_order_is_in_order_with_and_without_its_daemon() {
    let mut node = Node::start(CRICKET).await;
    let [image, _] = two_images(&mut node).await;
    node.run("lives", &image, &["sleep", "1000"]).await;
    is_in_order(&node);
    let (code, text) = cricket(&node, &["check", "--json", "--quick"]);
    assert_eq!(code, 0, "{text}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let counts =
        ["images", "layers", "roots", "records", "bytes"].map(|key| report[key].as_u64().unwrap());
    assert_eq!(counts, [2, 3, 1, 2, 0]);
    for none in ["unverifiable", "byContent"] {
        assert_eq!(report[none], serde_json::json!([]));
    }
    let layer = Layer::new()
        .file("twice", 0o644, b"1")
        .file("twice", 0o600, b"2");
    let replaced = Image::builder().layer(layer, Compression::Gzip).build();
    let name = node.registry().push("replaced", "1", &replaced);
    node.cri.pull(&name).await.unwrap();
    let (code, text) = cricket(&node, &["check"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("1 layers by content and number"), "{text}");
    node.cri.remove_image(replaced.id()).await.unwrap();
    assert!(node.daemon.stop().await.success());
    is_in_order(&node);
    // What is to be changed waits for no daemon, and finds nothing to do here.
    let (code, text) = cricket(&node, &["check", "--repair"]);
    assert_eq!(code, 0, "{text}");
    node.daemon.launch();
    node.reconnect().await;
    is_in_order(&node);
    node.finish().await;
}

#[tokio::test]
async fn a_broken_layer_is_named_and_its_images_go_and_what_others_share_stays() {
    let mut node = Node::start(CRICKET).await;
    let [broken, whole] = two_images(&mut node).await;
    let file = in_layers(&node, "only-a");
    spoil(&file);
    for daemon in ["runs", "does not"] {
        if daemon == "does not" {
            assert!(node.daemon.stop().await.success());
        }
        assert_eq!(cricket(&node, &["check", "--quick"]).0, 0);
        let (code, text) = cricket(&node, &["check"]);
        assert_eq!(code, 1, "{text}");
        for part in [
            file.to_str().unwrap(),
            &broken,
            "1 thing is wrong",
            "--repair removes image",
        ] {
            assert!(text.contains(part), "no {part}: {text}");
        }
        assert!(!text.contains(&whole), "{text}");
    }
    let (code, text) = cricket(&node, &["check", "--repair"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("repaired: image"), "{text}");
    node.daemon.launch();
    node.reconnect().await;
    is_in_order(&node);
    assert!(node.cri.image(&broken).await.unwrap().is_none());
    let (_, container, _) = node.run("whole", &whole, &["sleep", "1000"]).await;
    node.cri
        .exec(&container, &["cat", "/opt/only-b"], 10)
        .await
        .unwrap();
    // Pulled again it is whole again.
    node.cri.pull(&broken).await.unwrap();
    assert!(in_layers(&node, "only-a").exists());
    is_in_order(&node);
    node.finish().await;
}

#[tokio::test]
async fn files_that_are_gone_or_were_added_or_have_another_mode_are_seen() {
    let mut node = Node::start(CRICKET).await;
    two_images(&mut node).await;
    let file = in_layers(&node, "only-a");
    let added = file.with_file_name("added");
    fs::write(&added, "").unwrap();
    let (code, text) = cricket(&node, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("files and directories where there were"),
        "{text}"
    );
    fs::remove_file(&added).unwrap();
    is_in_order(&node);
    let as_it_was = fs::metadata(&file).unwrap().permissions();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o606)).unwrap();
    let (code, text) = cricket(&node, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("its mode is 0606, not 0644"), "{text}");
    fs::set_permissions(&file, as_it_was).unwrap();
    is_in_order(&node);
    fs::remove_file(&file).unwrap();
    let (code, text) = cricket(&node, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(file.to_str().unwrap()), "{text}");
    node.finish().await;
}

#[tokio::test]
async fn what_a_container_uses_stays_until_it_is_forced() {
    let mut node = Node::start(CRICKET).await;
    let [broken, _] = two_images(&mut node).await;
    let (_, container, _) = node.run("uses", &broken, &["sleep", "1000"]).await;
    let file = in_layers(&node, "only-a");
    spoil(&file);
    let (code, text) = cricket(&node, &["check", "--repair"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("affects container k8s_main_uses_"), "{text}");
    assert!(
        text.contains("not repaired: image") && text.contains("crictl rm -f"),
        "{text}"
    );
    assert!(file.exists());
    node.cri.exec(&container, &["true"], 10).await.unwrap();
    let (code, text) = cricket(&node, &["check", "--repair", "--force"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(node.cri.containers().await.unwrap(), []);
    is_in_order(&node);
    node.finish().await;
}

#[tokio::test]
async fn broken_documents_and_records_are_named_and_left_as_they_are_until_a_repair() {
    let mut node = Node::start(CRICKET).await;
    let [image, other] = two_images(&mut node).await;
    let (_, container, _) = node.run("record", &other, &["sleep", "1000"]).await;
    let id = node.cri.image(&image).await.unwrap().unwrap().id;
    assert!(node.daemon.stop().await.success());
    spoil(&manifest(&node, &id));
    let record = node
        .daemon
        .runroot()
        .join("containers")
        .join(&container)
        .join("record.json");
    let good = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    let (code, text) = cricket(&node, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains(&format!("image {id}: ")) && text.contains("its digest is not"),
        "{text}"
    );
    assert!(
        text.contains(&format!("record of container {container}: ")),
        "{text}"
    );
    assert_eq!(fs::read(&record).unwrap(), b"{");
    // Whose record is not understood may use any image.
    let (code, text) = cricket(&node, &["check", "--repair"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("is not understood"), "{text}");
    fs::write(&record, good).unwrap();
    let (code, text) = cricket(&node, &["check", "--repair"]);
    assert_eq!(code, 0, "{text}");
    node.daemon.launch();
    node.reconnect().await;
    is_in_order(&node);
    assert!(node.cri.image(&image).await.unwrap().is_none());
    node.cri.exec(&container, &["true"], 10).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn a_wipe_is_refused_while_anything_runs_and_without_a_word_of_a_person() {
    let mut node = Node::start(CRICKET).await;
    let [image, _] = two_images(&mut node).await;
    let (pod, _, _) = node.run("wiped", &image, &["sleep", "1000"]).await;
    let (code, text) = cricket(&node, &["wipe", "--force"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("the daemon runs; stop it first"), "{text}");
    node.daemon.kill();
    let (code, text) = cricket(&node, &["wipe", "--force"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("of pods run; start the daemon"), "{text}");
    node.daemon.launch();
    node.reconnect().await;
    node.cri.stop_pod(&pod).await.unwrap();
    assert!(node.daemon.stop().await.success());
    let (code, text) = cricket(&node, &["wipe"]);
    assert_eq!(code, 1, "{text}");
    for part in [
        &*image,
        "2 images",
        "3 layers",
        "1 records of pods",
        "MB on disk",
        "--force",
    ] {
        assert!(text.contains(part), "no {part}: {text}");
    }
    node.daemon.launch();
    node.reconnect().await;
    assert!(
        node.cri.image(&image).await.unwrap().is_some(),
        "nothing was removed"
    );
    assert_eq!(node.cri.pods().await.unwrap().len(), 1);
    assert!(node.daemon.stop().await.success());
    // What is not ours in the same root stays.
    let theirs = node.dir().join("root/overlay-images");
    fs::create_dir(&theirs).unwrap();
    let (code, text) = cricket(&node, &["wipe", "-f"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("wiped\n"), "{text}");
    assert!(theirs.exists());
    let rest = |dir: &str| leaks::files(&node.daemon.root().join(dir));
    for dir in ["layers", "images", "containers", "trash", "staging"] {
        assert_eq!(rest(dir), Vec::<PathBuf>::new());
    }
    assert_eq!(
        cricket(&node, &["wipe"]),
        (0, "there is nothing to remove\n".into())
    );
    node.daemon.launch();
    node.reconnect().await;
    assert_eq!(node.cri.pods().await.unwrap(), []);
    // The node works as a new one does.
    let pulled = node.cri.pull(&image).await.unwrap();
    assert!(!pulled.is_empty());
    node.finish().await;
}

#[tokio::test]
async fn a_wipe_ends_what_was_set_aside_and_no_daemon_can_end() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container, _) = node.run("aside", &image, &["sleep", "1000"]).await;
    node.daemon.kill();
    let bundle = node.daemon.runroot().join("containers").join(&container);
    fs::write(bundle.join("record.json"), "{").unwrap();
    node.daemon.launch();
    node.reconnect().await;
    node.cri.remove_pod(&pod).await.unwrap();
    let lives = !node.pids_of(&container).is_empty();
    assert!(lives, "a daemon ends nothing that it does not understand");
    let (code, text) = cricket(&node, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("`cricket wipe` or a reboot ends it"),
        "{text}"
    );
    assert!(node.daemon.stop().await.success());
    let (code, text) = cricket(&node, &["wipe"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("whose record was set aside"), "{text}");
    assert!(!node.pids_of(&container).is_empty());
    let (code, text) = cricket(&node, &["wipe", "--force"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(node.processes(&container), []);
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

#[tokio::test]
async fn an_image_whose_directory_was_taken_away_under_the_daemon_is_named_and_healed_by_a_pull() {
    let mut node = Node::start(CRICKET).await;
    let [image, _] = two_images(&mut node).await;
    let id = node.cri.image(&image).await.unwrap().unwrap().id;
    fs::remove_dir_all(node.daemon.root().join("images").join(&id)).unwrap();
    let (code, text) = cricket(&node, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains(&id[..12]) && text.contains("its directory is not there any more"),
        "{text}"
    );
    node.cri.pull(&image).await.unwrap();
    is_in_order(&node);
    node.finish().await;
}
