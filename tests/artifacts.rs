//! OCI artifacts: pulled from a registry, listed, mounted as volumes, kept, removed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::client::spec;
use cricket_harness::cri::*;
use cricket_harness::hostile::Fixture;
use cricket_harness::image::{Blob, Image as Built, architecture};
use cricket_harness::{Node, leaks, requests};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const TITLE: &str = "org.opencontainers.image.title";

/// What `oras push` makes of these files, (title, content).
fn artifact(files: &[(&str, &[u8])]) -> Built {
    artifact_with(files, |_| ())
}

/// The same after `change` has had its way with the manifest.
fn artifact_with(files: &[(&str, &[u8])], change: impl FnOnce(&mut Value)) -> Built {
    let config = Blob::new(EMPTY, b"{}".to_vec());
    let blob = |(_, content): &(&str, &[u8])| Blob::new("text/plain", content.to_vec());
    let layers: Vec<Blob> = files.iter().map(blob).collect();
    let titled = layers.iter().zip(files).map(|(blob, (title, _))| {
        let mut descriptor = blob.descriptor();
        descriptor["annotations"] = json!({ TITLE: title });
        descriptor
    });
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.test.model",
        "config": config.descriptor(), "layers": titled.collect::<Vec<_>>(),
        "annotations": {"made": "here"},
    });
    change(&mut manifest);
    Built {
        manifest: Blob::new(MANIFEST, manifest.to_string().into_bytes()),
        config,
        layers,
        tars: Vec::new(),
    }
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

/// Runs a container with these mounts; what `script` says in it.
async fn said(node: &Node, busybox: &str, mounts: Vec<Mount>, script: &str) -> (String, String) {
    let name = format!("pod{}", node.cri.ids().len());
    let pod_config = node.pod_config(&name);
    let pod = node.cri.run_pod(&pod_config).await.unwrap();
    let mut config = requests::container("main", busybox, &["sleep", "1000"]);
    config.mounts = mounts;
    let id = node.run_in(&pod, &pod_config, &config).await;
    let reply = node.cri.exec(&id, &["sh", "-c", script], 10).await.unwrap();
    (id, String::from_utf8(reply.stdout).unwrap())
}

#[tokio::test]
async fn an_artifact_is_pulled_listed_mounted_and_removed_as_an_image_is() {
    let mut node = Node::start(CRICKET).await;
    let busybox = node.busybox().await;
    let before = used(&node).await;
    let built = artifact(&[
        ("weights/part-1", b"first"),
        ("weights/deep/part-2", b"second"),
        ("/README.md", b"read me"),
        ("empty", b""),
    ]);
    let name = node.registry().push("model", "1", &built);
    let digest = format!(
        "{}@{}",
        node.registry().name("model"),
        built.manifest.digest
    );

    let id = node.cri.pull(&name).await.unwrap();
    assert_eq!(
        id,
        built.manifest.hex(),
        "as CRI-O: many have the same config"
    );
    for wanted in [&name, &digest, &id, &id[..8].to_owned()] {
        let image = node.cri.image(wanted).await.unwrap().unwrap();
        assert_eq!(image.id, id);
        assert_eq!(image.repo_tags, std::slice::from_ref(&name));
        assert_eq!(image.repo_digests, std::slice::from_ref(&digest));
        let bytes: usize = built.blobs().map(|blob| blob.bytes.len()).sum();
        assert_eq!(image.size, bytes as u64);
        assert_eq!((image.uid, image.username.as_str()), (None, ""));
        assert!(!image.pinned);
    }
    assert_eq!(node.cri.images().await.unwrap().len(), 2);
    assert!(used(&node).await > before, "it counts as an image");

    let mounts = vec![
        volume(&name, "/whole", ""),
        volume(&id, "/part", "weights/deep"),
    ];
    let script = "cd /whole; cat weights/part-1 weights/deep/part-2 README.md empty /part/part-2; \
                  stat -c %a README.md weights; touch new 2>&1; echo x 2>&1 > README.md";
    let (container, out) = said(&node, &busybox, mounts, script).await;
    assert!(
        out.starts_with("firstsecondread mesecond644\n755\n"),
        "{out}"
    );
    assert!(out.contains("Read-only file system"), "{out}");
    let shown = node.cri.container(&container).await.unwrap().mounts;
    let shown = shown[0].image.as_ref().unwrap();
    assert_eq!((&shown.image, &shown.image_ref), (&id, &digest));

    let error = node.cri.remove_image(&name).await.unwrap_err();
    assert!(error.message().contains("as a volume"), "{error}");
    assert!(error.message().contains("main"), "{error}");
    node.crash().await;
    let read = ["cat", "/part/part-2"];
    let reply = node.cri.exec(&container, &read, 10).await.unwrap();
    assert_eq!(reply.stdout, b"second");
    node.cri
        .remove_image(&id)
        .await
        .expect_err("after kill -9 too");
    node.cri.remove(&container).await.unwrap();
    node.cri.remove_image(&id).await.unwrap();
    assert_eq!(node.cri.image(&name).await.unwrap(), None);
    until_used(&node, before).await;
    node.finish().await;
}

/// What the image store says it uses.
async fn used(node: &Node) -> u64 {
    let info = node.cri.image_fs_info(ImageFsInfoRequest {}).await.unwrap();
    info.image_filesystems[0].used_bytes.unwrap().value
}

/// Waits until it uses so much: files are freed in the background.
async fn until_used(node: &Node, bytes: u64) {
    for _ in 0..2000 {
        if used(node).await == bytes {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not {bytes} bytes but {} after 20 s", used(node).await);
}

#[tokio::test]
async fn artifacts_share_files_and_the_last_one_of_a_path_is_seen() {
    let mut node = Node::start(CRICKET).await;
    let busybox = node.busybox().await;
    let large = vec![7; 1 << 20];
    let one = artifact(&[("large", &large), ("a", b"one")]);
    let two = artifact(&[
        ("large", &large),
        ("a", b"one"),
        ("a", b"two"),
        ("./a//b", b"below"),
    ]);
    let first = node.registry().push("model", "1", &one);
    let second = node.registry().push("model", "2", &two);
    node.cri.pull(&first).await.unwrap();
    let before = used(&node).await;
    node.cri.pull(&second).await.unwrap();
    assert!(
        used(&node).await - before < 64 << 10,
        "the large one is there once"
    );
    let mounts = vec![volume(&second, "/m", "")];
    let (_, out) = said(&node, &busybox, mounts, "cat /m/a/b; wc -c < /m/large").await;
    assert_eq!(
        out, "below1048576\n",
        "a directory above a file of its name"
    );
    node.cri.remove_image(&first).await.unwrap();

    // The tag moves to another artifact, and then to an image.
    let id = node.cri.pull(&second).await.unwrap();
    node.registry().push("model", "2", &one);
    assert_eq!(node.cri.pull(&second).await.unwrap(), one.manifest.hex());
    assert_eq!(
        node.cri.image(&id).await.unwrap().unwrap().repo_tags,
        [] as [&str; 0]
    );
    node.registry()
        .push("model", "2", cricket_harness::samples::busybox());
    node.cri.pull(&second).await.unwrap();
    let left = node.cri.image(one.manifest.hex()).await.unwrap().unwrap();
    assert_eq!(left.repo_tags, [] as [&str; 0]);
    node.finish().await;
}

#[tokio::test]
async fn a_blob_of_many_titles_is_fetched_and_stored_once() {
    let mut node = Node::start(CRICKET).await;
    let busybox = node.busybox().await;
    let fixture = Fixture::start(node.net(), 5001);
    let large = vec![7; 8 << 20];
    let one = artifact(&[("large", &large), ("deep/er/same", &large), ("x", b"x")]);
    let two = artifact(&[("other", &large)]);
    let names = [
        fixture.push("model", "1", &one),
        fixture.push("model", "2", &two),
    ];
    let idle = used(&node).await;
    let (first, second) = tokio::join!(node.cri.pull(&names[0]), node.cri.pull(&names[1]));
    let (first, second) = (first.unwrap(), second.unwrap());
    let asked = |digest: &str| {
        let requests = fixture.requests();
        requests
            .iter()
            .filter(|one| one.target.contains(digest))
            .count()
    };
    assert_eq!(asked(&one.layers[0].digest), 1, "{:?}", fixture.requests());
    let occupied = used(&node).await - idle;
    let once = 8 << 20..9 << 20;
    assert!(once.contains(&occupied), "{occupied} bytes");
    let bytes: u64 = leaks::files(&node.daemon.root().join("layers"))
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok())
        .filter(|file| file.is_file())
        .map(|file| file.blocks() * 512 / file.nlink())
        .sum();
    assert!(bytes > 8 << 20, "{bytes} bytes");
    let script = "cd /m; cmp large deep/er/same && cmp large /n/other && wc -c < large";
    let mounts = || vec![volume(&names[0], "/m", ""), volume(&names[1], "/n", "")];
    let (container, out) = said(&node, &busybox, mounts(), script).await;
    assert_eq!(out, "8388608\n");

    // after a restart too one of them keeps the bytes, and the last one frees them
    node.crash().await;
    assert_eq!(used(&node).await - idle, occupied);
    node.cri.remove(&container).await.unwrap();
    node.cri.remove_image(&first).await.unwrap();
    let mounts = vec![volume(&names[1], "/n", "")];
    let (container, out) = said(&node, &busybox, mounts, "wc -c < /n/other").await;
    assert_eq!(out, "8388608\n");
    assert!(once.contains(&(used(&node).await - idle)));
    node.cri.pull(&names[0]).await.unwrap();
    assert_eq!(asked(&one.layers[0].digest), 1, "it is here");
    node.cri.remove(&container).await.unwrap();
    node.cri.remove_image(&first).await.unwrap();
    node.cri.remove_image(&second).await.unwrap();
    until_used(&node, idle).await;
    node.finish().await;
}

#[tokio::test]
async fn what_is_no_image_is_told_by_config_or_type_and_helm_charts_are_artifacts() {
    let mut node = Node::start(CRICKET).await;
    let busybox = node.busybox().await;
    let typed = artifact_with(&[("f", b"typed")], |manifest| {
        manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
    });
    let chart = artifact_with(&[("f", b"chart")], |manifest| {
        manifest.as_object_mut().unwrap().remove("artifactType");
        manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
        let layer = &mut manifest["layers"][0];
        layer["mediaType"] = "application/vnd.cncf.helm.chart.content.v1.tar+gzip".into();
        layer["annotations"] = json!({"org.cnai.model.filepath": "chart.tgz"});
    });
    let untitled = artifact_with(&[("f", b"nameless"), ("g", b"named")], |manifest| {
        manifest["layers"][0]
            .as_object_mut()
            .unwrap()
            .remove("annotations");
    });
    // The entry of an index may be an artifact too.
    let listed = [(architecture(), &typed)];
    node.registry().push_index("kinds", "index", &listed);
    let index = node.registry().name("kinds:index");
    let id = node.cri.pull(&index).await.unwrap();
    assert_eq!(id, typed.manifest.hex());
    node.cri.remove_image(&index).await.unwrap();
    let cases = [(typed, "f\n"), (chart, "chart.tgz\n"), (untitled, "g\n")];
    for (number, (built, files)) in cases.iter().enumerate() {
        let name = node.registry().push("kinds", &number.to_string(), built);
        assert_eq!(node.cri.pull(&name).await.unwrap(), built.manifest.hex());
        let (_, out) = said(&node, &busybox, vec![volume(&name, "/m", "")], "ls /m").await;
        assert_eq!(out, *files);
        let pod_config = node.pod_config("run");
        let pod = node.cri.run_pod(&pod_config).await.unwrap();
        let config = requests::container("main", &name, &["sleep", "1000"]);
        let refused = node
            .cri
            .create(&pod, &config, &pod_config)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains("artifact"), "{refused}");
        node.cri.remove_pod(&pod).await.unwrap();
    }
    node.finish().await;
}

#[tokio::test]
async fn a_hostile_artifact_leaves_nothing() {
    let mut node = Node::start(CRICKET).await;
    node.busybox().await;
    let long = format!("{}/x", "d".repeat(256));
    let deep = "d/".repeat(300);
    let titles = [
        "../../../etc/cron.d/x",
        "a/../../x",
        "..",
        "/",
        ".",
        "a\0b",
        &long,
        &deep,
    ];
    let mut cases: Vec<(Built, &str)> = titles
        .iter()
        .map(|title| (artifact(&[("fine", b"fine"), (title, b"evil")]), "title"))
        .collect();
    let many: Vec<(&str, &[u8])> = vec![("f", b"x"); 501];
    cases.push((artifact(&many), "layers"));
    let sized = |size: u64| {
        artifact_with(&[("f", b"content")], |manifest| {
            manifest["layers"][0]["size"] = size.into()
        })
    };
    cases.push((
        artifact_with(&[("f", b"x")], |manifest| {
            manifest["config"]["size"] = (1_u64 << 40).into();
        }),
        "configuration",
    ));
    cases.push((sized(6), "6 bytes"));
    cases.push((sized(8), "8"));
    let before = used(&node).await;
    let images = node.daemon.root().join("images");
    let layers = node.daemon.root().join("layers");
    let count = |dir: &std::path::Path| std::fs::read_dir(dir).unwrap().count();
    let were = (count(&images), count(&layers));
    for (number, (built, says)) in cases.iter().enumerate() {
        let name = node.registry().push("evil", &number.to_string(), built);
        let error = node.cri.pull(&name).await.unwrap_err();
        assert!(error.message().contains(says), "{says}: {error}");
        assert!(!error.message().contains(char::is_control), "{error}");
        assert!(error.message().len() < 600, "{error}");
    }
    until_used(&node, before).await;
    let staging = node.daemon.root().join("staging");
    node.until("files of failed pulls are gone", || {
        count(&staging) == 0 && (count(&images), count(&layers)) == were
    })
    .await;
    node.finish().await;
}

#[tokio::test]
async fn artifacts_follow_policy_pins_and_their_switch() {
    let mut node = Node::start_with(CRICKET, |options| {
        options.image_config =
            "oci_artifact_mount_support = false\npinned_images = [\"*kept*\"]".into();
        options.policy = Some(
            json!({"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker":
                {"127.0.0.1:5000/evil": [{"type": "reject"}]}}})
            .to_string(),
        );
    })
    .await;
    let busybox = node.busybox().await;
    let built = artifact(&[("f", b"x")]);
    let kept = node.registry().push("kept", "1", &built);
    let evil = node.registry().push("evil", "1", &built);
    let error = node.cri.pull(&evil).await.unwrap_err();
    assert!(
        error.message().starts_with("SignatureValidationFailed"),
        "{error}"
    );
    node.cri.pull(&kept).await.unwrap();
    assert!(node.cri.image(&kept).await.unwrap().unwrap().pinned);
    let archive = node.dir().join("saved.tar");
    let mut save = std::process::Command::new(CRICKET);
    let save = save.arg("--config").arg(node.daemon.config_file());
    let save = save.args(["--config-dir=", "save", "-o"]).arg(&archive);
    let refused = save.arg(&kept).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("an artifact (application/vnd.test.model)"),
        "{said}"
    );
    assert!(!archive.exists());
    let pod_config = node.pod_config("off");
    let pod = node.cri.run_pod(&pod_config).await.unwrap();
    let mut config = requests::container("main", &busybox, &["sleep", "1000"]);
    config.mounts = vec![volume(&kept, "/m", "")];
    let error = node
        .cri
        .create(&pod, &config, &pod_config)
        .await
        .unwrap_err();
    assert!(
        error.message().starts_with("ImageVolumeMountFailed"),
        "{error}"
    );
    assert!(
        error.message().contains("oci_artifact_mount_support"),
        "{error}"
    );
    node.finish().await;
}
