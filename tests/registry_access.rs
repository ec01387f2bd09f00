//! How the daemon reaches registries by its configuration and environment: credentials on the node,
//! insecure_registries, proxies. The rules in detail are tested in the image room.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use base64::Engine;
use cricket_harness::Node;
use cricket_harness::hostile::{Fault, Fixture};
use cricket_harness::image::{Compression, Image, digest};
use cricket_harness::layer::Layer;
use serde_json::json;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

fn small() -> Image {
    Image::builder()
        .layer(Layer::new().file("f", 0o644, b"same"), Compression::Gzip)
        .build()
}

fn write_auth(file: &Path, key: &str, pair: &str) {
    let auth = base64::prelude::BASE64_STANDARD.encode(pair);
    let json = json!({"auths": {key: {"auth": auth}}});
    std::fs::write(file, json.to_string()).unwrap();
}

#[tokio::test]
async fn a_namespaces_credentials_are_used_once_before_the_nodes() {
    let scratch = tempfile::tempdir().unwrap();
    let (global, left) = (
        scratch.path().join("global.json"),
        scratch.path().join("ns"),
    );
    std::fs::create_dir(&left).unwrap();
    let node = Node::start_with(CRICKET, |options| {
        options.image_config = format!(
            "global_auth_file = {:?}\nnamespaced_auth_dir = {:?}",
            global.display().to_string(),
            left.display().to_string()
        );
    })
    .await;
    let fixture = Fixture::start(node.net(), 5001);
    let image = small();
    let name = fixture.push("app", "1", &image);
    fixture.misbehave("manifests/", Fault::Basic("team:right".into()));
    write_auth(&global, "127.0.0.1:5001/app", "team:wrong");
    let file = format!("team-{}.json", &digest(fixture.name("app").as_bytes())[7..]);
    let file = left.join(file);
    write_auth(&file, "127.0.0.1:5001", "team:right");
    let error = node.cri.pull_for(&name, "other").await.unwrap_err();
    let used = format!("\"127.0.0.1:5001/app\" in {}", global.display());
    assert!(error.message().contains(&used), "{error:?}");
    assert!(file.exists(), "it is another namespace's");
    assert_eq!(node.cri.pull_for(&name, "team").await.unwrap(), image.id());
    assert!(!file.exists());
    let error = node.cri.pull_for(&name, "team").await.unwrap_err();
    assert!(error.message().contains(&used), "{error:?}");
    write_auth(&global, "127.0.0.1:5001", "team:right");
    assert_eq!(node.cri.pull(&name).await.unwrap(), image.id());
    node.finish().await;
}

#[tokio::test]
async fn insecure_registries_of_crio_conf_are_spoken_to_without_tls() {
    for (entries, works) in [
        ("[]", false),
        ("['127.0.0.1:5055']", true),
        ("['127.0.0.0/8']", true),
    ] {
        let node = Node::start_with(CRICKET, |options| {
            options.image_config = format!("insecure_registries = {entries}");
        })
        .await;
        // not one of the ports that registries.conf calls insecure
        let fixture = Fixture::start(node.net(), 5055);
        let name = fixture.push("app", "1", &small());
        let pulled = node.cri.pull(&name).await;
        assert_eq!(pulled.is_ok(), works, "{entries}: {pulled:?}");
        node.finish().await;
    }
}

#[tokio::test]
async fn the_environments_proxy_is_asked_for_what_is_not_here() {
    let mut node = Node::start_with(CRICKET, |options| {
        options.registries =
            "\n[[registry]]\nlocation = \"registry.test\"\ninsecure = true\n".into();
    })
    .await;
    let proxy = Fixture::start(node.net(), 5001);
    node.daemon.stop().await;
    node.daemon
        .set_env("HTTP_PROXY", Path::new("http://me:s3cret@127.0.0.1:5001"));
    node.daemon
        .set_env("https_proxy", Path::new("127.0.0.1:5001"));
    node.daemon.launch();
    let cri = cricket_harness::Client::connect(&node.daemon.socket())
        .await
        .unwrap();
    let error = cri.pull("registry.test/app:1").await.unwrap_err();
    let message = error.message();
    assert!(
        message.starts_with("RegistryUnavailable") || message.contains("not found"),
        "{message}"
    );
    let asked = proxy.requests();
    let connect = asked
        .iter()
        .find(|request| request.method == "CONNECT")
        .unwrap();
    assert_eq!(connect.target, "registry.test:443");
    let plain = asked
        .iter()
        .find(|request| request.method == "GET")
        .unwrap();
    assert_eq!(plain.target, "http://registry.test/v2/");
    let password = base64::prelude::BASE64_STANDARD.encode("me:s3cret");
    let shown = format!("Basic {password}");
    assert_eq!(plain.header("proxy-authorization"), Some(shown.as_str()));
    // loopback is this node's own
    let image = small();
    let name = proxy.push("app", "1", &image);
    assert_eq!(cri.pull(&name).await.unwrap(), image.id());
    assert!(!node.daemon.log().contains("s3cret"));
    node.finish().await;
}
