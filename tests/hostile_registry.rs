//! A registry that means harm: what it costs the daemon, and what the error says. The contents that
//! it may send are in `hostile_input.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::time::Duration;

use cricket_harness::cri::AuthConfig;
use cricket_harness::hostile::{Fault, Fixture};
use cricket_harness::image::{Blob, Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, leaks, memory};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// What one bad answer may cost at most over what the daemon has resident when it is idle. The largest
/// document that is read has 4 MiB, is read into a buffer that doubles, and is parsed.
const MOST_MEMORY: u64 = 40 << 20;
/// What no pull of this file takes: none of them waits for a stall.
const DEADLINE: Duration = Duration::from_secs(60);

fn small() -> Image {
    let content: Vec<u8> = (0..50_000_u32)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    Image::builder()
        .layer(Layer::new().file("f", 0o644, &content), Compression::Gzip)
        .build()
}

/// The image's manifest, changed.
fn manifest(image: &Image, change: impl FnOnce(&mut Value)) -> Fault {
    let mut json: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    change(&mut json);
    Fault::Body(json.to_string().into_bytes())
}

fn stored(node: &Node) -> Vec<PathBuf> {
    let mut files = leaks::files(&node.daemon.root());
    files.sort();
    files
}

/// Pulls what must fail in time and within bounds: every word is in the message, nothing is left.
async fn refused(node: &Node, name: &str, words: &[&str]) {
    let before = stored(node);
    let pid = node.daemon.pid();
    memory::forget_peak(pid);
    let idle = memory::peak(pid).unwrap();
    let pulled = tokio::time::timeout(DEADLINE, node.cri.pull(name)).await;
    let error = pulled
        .expect("the pull ends")
        .expect_err("the pull is refused");
    let message = error.message();
    for word in words {
        assert!(message.contains(word), "{word:?} in: {message}");
    }
    assert!(message.len() < 1000, "{message}");
    // the kernel counts pages by thread, and sums them up a little late
    let cost = memory::peak(pid).unwrap().saturating_sub(idle);
    println!("  {} KiB: {message}", cost >> 10);
    assert!(cost < MOST_MEMORY, "{} MiB: {message}", cost >> 20);
    // Staging may be deleted behind the answer's back.
    node.until("nothing is left of the pull", || stored(node) == before)
        .await;
    assert_eq!(node.cri.images().await.unwrap(), []);
}

/// Lets each fault spoil what it names; the image is pulled when it is over.
async fn each(cases: Vec<(&str, Fault, Vec<&str>)>, image: &Image) {
    let node = Node::start(CRICKET).await;
    let fixture = Fixture::start(node.net(), 5001);
    let name = fixture.push("app", "1", image);
    for (piece, fault, words) in cases {
        let shown: String = format!("{fault:?}").chars().take(80).collect();
        println!("{piece}: {shown}");
        fixture.misbehave(piece, fault);
        refused(&node, &name, &words).await;
        fixture.behave();
    }
    let id = node.cri.pull(&name).await.expect("now it behaves");
    assert_eq!(id, image.id());
    node.finish().await;
}

#[tokio::test]
async fn bodies_and_heads_without_end_cost_little() {
    let image = small();
    let layer = format!("blobs/{}", image.layers[0].digest);
    let config = format!("blobs/{}", image.config.digest);
    let huge = vec![b' '; 64 << 20];
    let cases = vec![
        ("manifests/1", Fault::Endless, vec!["manifest 1", "limit"]),
        ("manifests/1", Fault::EndlessHead, vec!["manifest 1"]),
        (
            "manifests/1",
            Fault::Body(huge),
            vec!["manifest 1", "limit"],
        ),
        (
            "manifests/1",
            Fault::Length(1 << 62),
            vec!["manifest 1", "limit"],
        ),
        (&config, Fault::Endless, vec![&image.config.digest, "limit"]),
        (&config, Fault::EndlessHead, vec![&image.config.digest]),
        (&layer, Fault::Endless, vec![&image.layers[0].digest]),
        (&layer, Fault::EndlessHead, vec![&image.layers[0].digest]),
        (&layer, Fault::Length(10), vec![&image.layers[0].digest]),
        (
            &layer,
            Fault::Length(1 << 62),
            vec!["size mismatch", "4611686018427387904"],
        ),
    ];
    each(cases, &image).await;
}

/// A layer of one file of 129 MiB of zeros, packed in a frame that asks for a window of 128 MiB (RFC
/// 8878): the tar's head as it is, and each block of the rest as the one byte that it repeats.
fn layer_with_a_large_window(name: &str) -> (Vec<u8>, String) {
    const BLOCK: u32 = 128 << 10;
    let blocks = (129 << 20) / BLOCK;
    let size = u64::from(blocks * BLOCK);
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let mut digest = Sha256::new();
    digest.update(header.as_bytes());
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3];
    let block = |kind: u32, size: u32, last: bool| {
        let [one, two, three, _] = (size << 3 | kind << 1 | u32::from(last)).to_le_bytes();
        [one, two, three]
    };
    frame.extend(block(0, 512, false));
    frame.extend(header.as_bytes());
    let zeros = vec![0; BLOCK as usize];
    for number in 1..=blocks {
        digest.update(&zeros);
        frame.extend(block(1, BLOCK, number == blocks));
        frame.push(0);
    }
    (frame, format!("sha256:{}", hex::encode(digest.finalize())))
}

#[tokio::test]
async fn one_large_zstd_window_at_a_time_is_in_memory() {
    const WINDOW: u64 = 128 << 20;
    let node = Node::start(CRICKET).await;
    let fixture = Fixture::start(node.net(), 5001);
    let layers: Vec<_> = ["a", "b", "c", "d"].map(layer_with_a_large_window).into();
    let ids: Vec<&str> = layers.iter().map(|(_, id)| id.as_str()).collect();
    let builder = Image::builder().diff_ids(&ids);
    let image = layers
        .iter()
        .fold(builder, |builder, (frame, _)| builder.gzip(frame.clone()));
    let image = image.build();
    let name = fixture.push("app", "1", &image);
    let pid = node.daemon.pid();
    memory::forget_peak(pid);
    let idle = memory::peak(pid).unwrap();
    assert_eq!(node.cri.pull(&name).await.unwrap(), image.id());
    let cost = memory::peak(pid).unwrap().saturating_sub(idle);
    println!("  {} MiB over idle", cost >> 20);
    assert!(cost < WINDOW + MOST_MEMORY, "{} MiB", cost >> 20);
    node.finish().await;
}

#[tokio::test]
async fn absurd_sizes_and_counts_are_refused_before_they_cost() {
    let image = small();
    let many = |json: &mut Value| {
        json["layers"] = vec![json["layers"][0].clone(); 10_000].into();
    };
    let sized = |what: &'static str, size: Value| {
        manifest(&image, move |json| match what {
            "config" => json["config"]["size"] = size,
            _ => json["layers"][0]["size"] = size,
        })
    };
    let one_of_itself = manifest(&image, |json| {
        *json = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "size": 1,
                "digest": format!("sha256:{:064}", 0)}]});
    });
    let deep = Fault::Body(b"[".repeat(3 << 20));
    let cases = vec![
        (
            "manifests/1",
            manifest(&image, many),
            vec!["limit of 500 layers"],
        ),
        (
            "manifests/1",
            sized("config", json!(1_u64 << 62)),
            vec!["configuration", "limit"],
        ),
        (
            "manifests/1",
            sized("config", json!(-1)),
            vec!["manifest 1"],
        ),
        (
            "manifests/1",
            sized("layer", json!(1_u64 << 62)),
            vec!["layer"],
        ),
        ("manifests/1", sized("layer", json!(u64::MAX)), vec![]),
        (
            "manifests/1",
            sized("layer", json!(1e300)),
            vec!["manifest 1"],
        ),
        ("manifests/1", deep, vec!["manifest 1"]),
        // every manifest of the repository is the same index, which names another digest
        ("manifests/", one_of_itself, vec!["digest mismatch"]),
    ];
    each(cases, &image).await;
}

#[tokio::test]
async fn answers_that_lead_in_a_circle_end() {
    let image = small();
    let layer = format!("blobs/{}", image.layers[0].digest);
    let here = "http://127.0.0.1:5001";
    let around = |path: &str| Fault::Headers(307, format!("Location: {here}/v2/{path}\r\n"));
    let challenge = |path: &str| {
        let realm = format!("WWW-Authenticate: Bearer realm=\"{here}{path}\"\r\n");
        Fault::Headers(401, realm)
    };
    let cases = vec![
        (
            "manifests/1",
            around("app/manifests/1"),
            vec!["more than 5 redirects"],
        ),
        (
            &layer,
            around(&format!("app/{layer}")),
            vec!["more than 5 redirects"],
        ),
        (
            "manifests/1",
            Fault::Redirect("https://127.0.0.1:1/".into()),
            vec!["127.0.0.1:1"],
        ),
        (
            "manifests/1",
            Fault::Redirect("file:///etc/shadow".into()),
            vec!["scheme \"file\""],
        ),
        // its token server is itself, and asks for a token
        (
            "/v2/app",
            challenge("/v2/app/token"),
            vec!["token from", "access denied: 401"],
        ),
        // no token satisfies it
        (
            "manifests/1",
            challenge("/token"),
            vec!["access denied: 401"],
        ),
        ("/v2/app", challenge("/v2/app/\u{7f}"), vec!["app"]),
        (
            "manifests/1",
            Fault::Headers(429, "Retry-After: 86400\r\n".into()),
            vec!["RegistryUnavailable: ", "429", "it asks to wait 86400 s"],
        ),
        (
            "manifests/1",
            Fault::Status(500, "x".repeat(1 << 20)),
            vec!["500", "after 3 tries"],
        ),
    ];
    each(cases, &image).await;
}

#[tokio::test]
async fn what_a_registry_gets_over_is_waited_for() {
    let node = Node::start(CRICKET).await;
    let fixture = Fixture::start(node.net(), 5001);
    let image = small();
    let name = fixture.push("app", "1", &image);
    let later = Fault::Headers(429, "Retry-After: 1\r\n".into());
    let layer = format!("blobs/{}", image.layers[0].digest);
    for (piece, fault) in [
        ("manifests/1", later),
        ("manifests/1", Fault::Status(503, String::new())),
        (layer.as_str(), Fault::Close),
    ] {
        fixture.misbehave(piece, Fault::First(1, Box::new(fault)));
        assert_eq!(node.cri.pull(&name).await.unwrap(), image.id(), "{piece}");
        node.cri.remove_image(&name).await.unwrap();
        fixture.behave();
    }
    node.finish().await;
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    let node = Node::start(CRICKET).await;
    let (fixture, other) = (
        Fixture::start(node.net(), 5001),
        Fixture::start(node.net(), 5002),
    );
    let image = small();
    let name = fixture.push("app", "1", &image);
    other.push("app", "1", &image);
    let layer: &Blob = &image.layers[0];
    let layer = format!("blobs/{}", layer.digest);
    let elsewhere = format!("http://127.0.0.1:5002/v2/app/{layer}");
    fixture.misbehave(&layer, Fault::Redirect(elsewhere));
    fixture.misbehave("manifests/1", Fault::Basic("me:s3cret".into()));
    // what asks for a password there gets none
    other.misbehave("/v2/app", Fault::Basic("me:s3cret".into()));
    let auth = AuthConfig {
        username: "me".into(),
        password: "s3cret".into(),
        ..Default::default()
    };
    let error = node.cri.pull_with(&name, Some(auth.clone())).await;
    let error = error.unwrap_err();
    assert!(error.message().contains("401"), "{error:?}");
    other.behave();
    let id = node.cri.pull_with(&name, Some(auth)).await.unwrap();
    assert_eq!(id, image.id());
    let asked = other.requests();
    assert!(asked.len() >= 2, "{asked:?}");
    for request in asked {
        assert_eq!(request.header("authorization"), None, "{request:?}");
    }
    assert!(!node.daemon.log().contains("s3cret"));
    node.finish().await;
}
