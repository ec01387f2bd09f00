//! Bad input from registries, images, requests and the configuration: a clear error that names the
//! thing and the step, nothing left behind, and the next correct call succeeds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;

use cricket_harness::cri::CreateContainerRequest;
use cricket_harness::hostile::{Fault, Fixture};
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, leaks, requests, samples, tools};
use serde_json::json;
use tonic::Code;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

fn small() -> Image {
    let content: Vec<u8> = (0..50_000_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    Image::builder()
        .layer(Layer::new().file("f", 0o644, &content), Compression::Gzip)
        .build()
}

/// What the image store holds on disk.
fn stored(node: &Node) -> Vec<PathBuf> {
    let mut files = leaks::files(&node.daemon.root());
    files.sort();
    files
}

/// Pulls what must fail; every word must be in the message, and the store as it was before.
async fn refused(node: &Node, name: &str, words: &[&str]) {
    let before = stored(node);
    let error = node.cri.pull(name).await.expect_err("the pull is refused");
    for word in words {
        let message = error.message();
        assert!(
            message.to_lowercase().contains(&word.to_lowercase()),
            "{word:?} in: {message}"
        );
    }
    // Staging may be deleted behind the answer's back.
    node.until("nothing is left of the pull", || stored(node) == before)
        .await;
    assert_eq!(node.cri.images().await.unwrap(), []);
}

#[tokio::test]
async fn what_a_broken_registry_sends_is_refused_with_the_reason() {
    let node = Node::start(CRICKET).await;
    let fixture = Fixture::start(node.net(), 5001);
    let image = small();
    let name = fixture.push("app", "1", &image);
    let repository = fixture.name("app");
    let layer = format!("blobs/{}", image.layers[0].digest);
    let config = format!("blobs/{}", image.config.digest);
    let huge = vec![b' '; 64 << 20];
    let denied = r#"{"errors":[{"code":"DENIED","message":"no entry for you"}]}"#;
    let cases: Vec<(&str, Fault, Vec<&str>)> = vec![
        (
            "manifests/1",
            Fault::Status(401, denied.into()),
            vec![&repository],
        ),
        (
            "manifests/1",
            Fault::Status(403, denied.into()),
            vec![&repository, "no entry for you"],
        ),
        (
            "manifests/1",
            Fault::Status(404, String::new()),
            vec![&repository, "not found"],
        ),
        (
            "manifests/1",
            Fault::Status(500, "oops".into()),
            vec!["500"],
        ),
        ("manifests/1", Fault::Body(huge), vec!["manifest"]),
        ("manifests/1", Fault::Endless, vec!["manifest"]),
        (
            "manifests/1",
            Fault::Body(b"not json".to_vec()),
            vec!["manifest"],
        ),
        (
            "manifests/1",
            Fault::Redirect("http://127.0.0.1:1/gone".into()),
            vec!["127.0.0.1:1"],
        ),
        (&layer, Fault::Truncate(1000), vec![&image.layers[0].digest]),
        (&layer, Fault::Corrupt, vec![&image.layers[0].digest]),
        (&layer, Fault::Close, vec![&image.layers[0].digest]),
        (&layer, Fault::Endless, vec![&image.layers[0].digest]),
        (
            &layer,
            Fault::Status(404, String::new()),
            vec![&image.layers[0].digest],
        ),
        (&layer, Fault::Length(10), vec![&image.layers[0].digest]),
        (&config, Fault::Corrupt, vec![&image.config.digest]),
        (&config, Fault::Truncate(5), vec![&image.config.digest]),
    ];
    for (piece, fault, words) in cases {
        println!(
            "{piece}: {}",
            format!("{fault:?}").chars().take(60).collect::<String>()
        );
        fixture.misbehave(piece, fault);
        refused(&node, &name, &words).await;
        fixture.behave();
    }
    assert_eq!(
        node.cri.pull(&name).await.expect("now it behaves"),
        image.id()
    );
    node.finish().await;
}

#[tokio::test]
async fn an_unreachable_registry_is_reported_as_such() {
    let node = Node::start(CRICKET).await;
    let name = "127.0.0.1:9/nobody/listens:1";
    let error = node.cri.pull(name).await.unwrap_err();
    assert!(
        error.message().starts_with("RegistryUnavailable"),
        "{error:?}"
    );
    assert_eq!(
        error.code(),
        tonic::Code::Unknown,
        "a kubelet reads the prefix of these alone"
    );
    assert!(error.message().contains("127.0.0.1:9"), "{error:?}");
    node.finish().await;
}

#[tokio::test]
async fn layers_that_reach_out_of_their_directory_touch_nothing() {
    let mut node = Node::start(CRICKET).await;
    let canary = node.dir().join("canary");
    std::fs::write(&canary, "untouched").unwrap();
    let up = "../".repeat(20);
    let absolute = canary.to_string_lossy().into_owned();
    let climbing = format!("{up}{}", absolute.trim_start_matches('/'));
    let dir = node.dir().to_string_lossy().into_owned();
    let through = |target: &str| {
        Layer::new()
            .symlink("door", target)
            .file("door/canary", 0o644, b"overwritten")
    };
    let cases = [
        (
            "dot-dot",
            Layer::new().file(&climbing, 0o644, b"overwritten"),
        ),
        (
            "absolute",
            Layer::new().file(&absolute, 0o644, b"overwritten"),
        ),
        ("symlink", through(&dir)),
        (
            "relative-symlink",
            through(&format!("{up}{}", dir.trim_start_matches('/'))),
        ),
        (
            "hard-link",
            Layer::new()
                .hard_link("copy", &climbing)
                .file("copy", 0o644, b"overwritten"),
        ),
        (
            "hard-link-absolute",
            Layer::new()
                .hard_link("copy", &absolute)
                .file("copy", 0o644, b"overwritten"),
        ),
        (
            "whiteout",
            Layer::new()
                .symlink("door", &dir)
                .file("door/.wh.canary", 0o644, b""),
        ),
    ];
    for (tag, layer) in cases {
        let image = Image::builder().layer(layer, Compression::Gzip).build();
        let name = node.registry().push("hostile", tag, &image);
        // Refused or made harmless: both are right, as long as nothing outside changes.
        match node.cri.pull(&name).await {
            Ok(id) => node.cri.remove_image(&id).await.unwrap(),
            Err(error) => {
                let layer = &image.layers[0].hex()[..12];
                let diff = &cricket_harness::image::digest(&image.tars[0])[7..19];
                let named = error.message().contains(layer) || error.message().contains(diff);
                assert!(named, "{tag}: names the layer: {error:?}");
            }
        }
        assert_eq!(
            std::fs::read_to_string(&canary).unwrap(),
            "untouched",
            "{tag}"
        );
    }
    let name = node.registry().push("good", "1", &small());
    node.cri.pull(&name).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn a_device_in_an_image_gives_no_access_to_the_machine() {
    let mut node = Node::start(CRICKET).await;
    // 1:1 is /dev/mem: whether the node is kept or dropped, opening it must fail.
    let layer = samples::busybox_layer().char_device("mem", 1, 1);
    let image = Image::builder().layer(layer, Compression::Gzip).build();
    let name = node.registry().push("device", "1", &image);
    if node.cri.pull(&name).await.is_ok() {
        let (_, id, _) = node.run("device", &name, &["sleep", "1000"]).await;
        let reply = node
            .cri
            .exec(&id, &["head", "-c", "1", "/mem"], 10)
            .await
            .unwrap();
        assert_ne!(reply.exit_code, 0, "{reply:?}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_gigabyte_of_zeros_in_a_megabyte_and_a_wrong_diff_id_are_refused() {
    let mut node = Node::start(CRICKET).await;
    let name = node.registry().push("bomb", "1", &samples::bomb());
    refused(&node, &name, &["bbbbbbbb"]).await;
    let wrong = format!("sha256:{}", "5".repeat(64));
    let image = Image::builder()
        .layer(Layer::new().file("f", 0o644, b"text"), Compression::Gzip)
        .diff_ids(&[&wrong])
        .build();
    let name = node.registry().push("lying", "1", &image);
    refused(&node, &name, &[&wrong]).await;
    let image = Image::builder()
        .tar(b"this is no tar archive".repeat(100), Compression::Gzip)
        .build();
    let name = node.registry().push("garbage", "1", &image);
    refused(&node, &name, &[]).await;
    let name = node.registry().push("good", "1", &small());
    node.cri.pull(&name).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn trust_is_required_and_a_refusal_says_which_rule() {
    let mut node = Node::start(CRICKET).await;
    let name = node.registry().push("app", "1", &small());
    let policy = node.daemon.policy_file();
    let good = std::fs::read(&policy).unwrap();
    std::fs::remove_file(&policy).unwrap();
    let file = policy.to_string_lossy().into_owned();
    refused(&node, &name, &[&file, "insecureAcceptAnything"]).await;
    std::fs::write(&policy, r#"{"default": [{"type": "reject"}]}"#).unwrap();
    refused(&node, &name, &["SignatureValidationFailed"]).await;
    std::fs::write(&policy, r#"{"default": [{"type": "signedBy"}]}"#).unwrap();
    refused(&node, &name, &[&file, "signedBy"]).await;
    std::fs::write(&policy, "{").unwrap();
    refused(&node, &name, &[&file]).await;
    std::fs::write(&policy, good).unwrap();
    node.cri.pull(&name).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn bad_containers_are_refused_by_name_and_leave_the_pod_usable() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let stranger = Image::builder()
        .layer(samples::busybox_layer(), Compression::Gzip)
        .set("User", json!("stranger"))
        .build();
    let stranger = node.registry().push("stranger", "1", &stranger);
    node.cri.pull(&stranger).await.unwrap();
    let config = node.pod_config("bad");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let sleep = ["sleep", "1000"];

    let mut relative = requests::container("relative", &image, &sleep);
    relative.mounts = vec![requests::mount("not/absolute".as_ref(), "/x", false)];
    let mut group = requests::container("group", &image, &sleep);
    requests::security(&mut group).run_as_group =
        Some(cricket_harness::cri::Int64Value { value: 1 });
    let mut capability = requests::container("capability", &image, &sleep);
    requests::security(&mut capability).capabilities = Some(cricket_harness::cri::Capability {
        add_capabilities: vec!["FLY".into()],
        ..Default::default()
    });
    let cases = [
        (
            requests::container("command", &image, &["/no/such/command"]),
            "/no/such/command",
        ),
        (requests::container("user", &stranger, &sleep), "stranger"),
        (
            requests::container("image", "127.0.0.1:5000/never:pulled", &sleep),
            "never",
        ),
        (relative, "not/absolute"),
        (group, "group"),
        (capability, "FLY"),
    ];
    for (container, word) in cases {
        let name = container.metadata.as_ref().unwrap().name.clone();
        let error = match node.cri.create(&pod, &container, &config).await {
            Err(error) => error,
            Ok(id) => {
                let error = node.cri.start(&id).await.expect_err(&name);
                node.cri.remove(&id).await.unwrap();
                error
            }
        };
        assert!(
            error.message().contains(word),
            "{name}: {word:?} in: {}",
            error.message()
        );
        assert_eq!(node.cri.containers().await.unwrap(), [], "{name}");
    }
    let good = requests::container("good", &image, &sleep);
    let good = node.run_in(&pod, &config, &good).await;
    assert_eq!(
        node.cri.exec(&good, &["true"], 10).await.unwrap().exit_code,
        0
    );
    node.finish().await;
}

#[tokio::test]
async fn a_container_without_its_pods_configuration_is_refused() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let pod = node.cri.run_pod(&node.pod_config("pod")).await.unwrap();
    let mut runtime = node.cri.runtime();
    let request = CreateContainerRequest {
        pod_sandbox_id: pod,
        config: Some(requests::container("main", &image, &["true"])),
        sandbox_config: None,
    };
    let refused = runtime.create_container(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert_eq!(refused.message(), "sandbox_config: is missing");
    assert_eq!(node.cri.containers().await.unwrap(), []);
    node.finish().await;
}

#[tokio::test]
async fn bad_pods_are_refused_and_the_next_good_one_runs() {
    let node = Node::start(CRICKET).await;
    let mut no_metadata = node.pod_config("a");
    no_metadata.metadata = None;
    let mut escaping = node.pod_config("b");
    escaping.linux.as_mut().unwrap().cgroup_parent = "/../../up".into();
    let mut sysctl = node.pod_config("c");
    sysctl.linux.as_mut().unwrap().sysctls = [("kernel.panic".to_owned(), "1".to_owned())].into();
    let mut hostname = node.pod_config("d");
    hostname.hostname = "x".repeat(300);
    for (config, word) in [
        (no_metadata, "metadata"),
        (escaping, "cgroup_parent"),
        (sysctl, "kernel.panic"),
        (hostname, "hostname"),
    ] {
        let error = node.cri.run_pod(&config).await.expect_err(word);
        assert!(
            error.message().contains(word),
            "{word}: {}",
            error.message()
        );
        assert_eq!(node.cri.pods().await.unwrap(), []);
        assert_eq!(node.left_behind(), Vec::<String>::new(), "{word}");
    }
    node.cri.run_pod(&node.pod_config("good")).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn a_missing_runtime_is_named() {
    let missing = "/no/such/runc";
    let node = Node::start(CRICKET).await;
    let file = node.daemon.config_file();
    let good = std::fs::read_to_string(&file).unwrap();
    let runtime = tools::need("runc").to_string_lossy().into_owned();
    let runtime = std::env::var("CRICKET_TEST_RUNTIME").unwrap_or(runtime);
    let mut node = node;
    assert!(node.daemon.stop().await.success());
    std::fs::write(&file, good.replace(&runtime, missing)).unwrap();
    node.daemon
        .try_launch()
        .expect_err("no daemon without its default runtime");
    assert!(node.daemon.log().contains(missing), "{}", node.daemon.log());
    std::fs::write(&file, good).unwrap();
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

#[tokio::test]
async fn mistakes_in_the_configuration_are_shown_where_they_are() {
    let mut node = Node::start(CRICKET).await;
    assert!(node.daemon.stop().await.success());
    let file = node.daemon.config_file();
    let good = std::fs::read_to_string(&file).unwrap();
    let path = file.to_string_lossy().into_owned();

    std::fs::write(&file, good.replace("default_runtime =", "default_runtme =")).unwrap();
    let check = tools::output(node.daemon.command().args(["config", "--check"]));
    let text = String::from_utf8_lossy(&check.stderr).into_owned();
    let text = text + &String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success(), "{text}");
    for word in [path.as_str(), "default_runtme", "default_runtime"] {
        assert!(text.contains(word), "{word} in: {text}");
    }

    let line = good
        .lines()
        .position(|line| line.starts_with("log_level"))
        .unwrap()
        + 1;
    std::fs::write(&file, good.replace("log_level = \"info\"", "log_level = 7")).unwrap();
    node.daemon
        .try_launch()
        .expect_err("a wrong type stops the daemon");
    let log = node.daemon.log();
    for word in [format!("{path}:{line}:"), "log_level".into()] {
        assert!(log.contains(&word), "{word} in: {log}");
    }
    std::fs::write(&file, good).unwrap();
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}
