//! Where signatures come from, and where they count: lookaside servers, registries that keep them, and
//! containers made of images that are here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cricket_harness::gpg::FOREVER;
use cricket_harness::trust::{Case, policy, signed_by};
use cricket_harness::{archive, http, requests, samples};
use serde_json::json;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// What a small web server answers to a path.
type Page = (u16, Vec<(String, String)>, Vec<u8>);
type Handler = Box<dyn Fn(&str) -> Page + Send>;

/// Serves pages until the test ends; the handler can be changed.
fn serve(listener: TcpListener, handler: Handler) -> Arc<Mutex<Handler>> {
    let handler = Arc::new(Mutex::new(handler));
    let asked = Arc::clone(&handler);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let asked = Arc::clone(&asked);
            std::thread::spawn(move || {
                let request = http::read_request(&mut BufReader::new(&stream));
                let Ok(Some(request)) = request else { return };
                let (status, headers, body) = (asked.lock().unwrap())(&request.target);
                let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                head += &format!("Content-Length: {}\r\n\r\n", body.len());
                // a client that refuses goes away in the middle
                drop(stream.write_all(head.as_bytes()));
                drop(stream.write_all(&body));
            });
        }
    });
    handler
}

fn found(body: &[u8]) -> Page {
    (200, Vec::new(), body.to_vec())
}

fn absent() -> Page {
    (404, Vec::new(), b"no".to_vec())
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn a_lookaside_server_is_asked_to_its_first_404_and_a_hostile_one_within_bounds() {
    let mut case = Case::start(CRICKET, "").await;
    let (good, file) = case.key("good", "ed25519", FOREVER);
    let (name, digest) = case.push("app", "1");
    let signature = case.gpg.sign_image(&good, &name, &digest, "");
    let base = format!("/sigs/app@{}", digest.replace(':', "="));
    let (one, two) = (format!("{base}/signature-1"), format!("{base}/signature-2"));
    let listener = case.node.net().listen(8081);
    let server = serve(listener, Box::new(|_| absent()));
    case.look_aside("http://127.0.0.1:8081/sigs");
    case.set_policy(&policy(&signed_by(&file)));
    let junk = case.gpg.sign(&good, b"not JSON", "", &[]);
    let endless = signature.clone();
    let redirected = signature.clone();
    let after_junk = signature.clone();
    let (first, second) = (one.clone(), one.clone());
    let table: Vec<(&str, Handler, Option<&str>)> = vec![
        (
            "the second is good",
            Box::new(move |path: &str| match path {
                path if path == first => found(&junk),
                path if path == two => found(&after_junk),
                _ => absent(),
            }),
            None,
        ),
        (
            "redirected",
            Box::new(move |path: &str| match path {
                "/elsewhere" => found(&redirected),
                path if path == second => {
                    let to = ("Location".to_owned(), "/elsewhere".to_owned());
                    (302, vec![to], Vec::new())
                }
                _ => absent(),
            }),
            None,
        ),
        (
            "nothing",
            Box::new(|_| absent()),
            Some("but the image has none"),
        ),
        (
            "endless",
            Box::new(move |_| found(&endless)),
            Some("128 signatures and no end"),
        ),
        (
            "huge",
            Box::new(|_| found(&vec![0x90; 5 << 20])),
            Some("larger than the limit of 1048576 bytes"),
        ),
        (
            "a page",
            Box::new(|_| found(b"<html>welcome</html>")),
            Some("not a signature: it begins with byte 0x3c"),
        ),
        (
            "garbage",
            Box::new(move |path: &str| match path == one {
                true => found(&[0x90; 1000]),
                false => absent(),
            }),
            Some("signature-1: not an OpenPGP"),
        ),
        (
            "circle",
            Box::new(|_| {
                (
                    302,
                    vec![("Location".to_owned(), "/circle".to_owned())],
                    Vec::new(),
                )
            }),
            Some("redirects"),
        ),
        (
            "forbidden",
            Box::new(|_| (403, Vec::new(), Vec::new())),
            Some("looking for it failed"),
        ),
    ];
    for (what, handler, reason) in table {
        *server.lock().unwrap() = handler;
        let ours = case.pull(&name).await;
        // skopeo of before the bound, as Debian 12 has it, reads such a store for ever
        let theirs = match what {
            "endless" => Err(String::new()),
            _ => case.skopeo(&name),
        };
        let row = format!("{what}:\nskopeo: {theirs:?}\ncricket: {ours:?}");
        assert_eq!(theirs.is_ok(), ours.is_ok(), "no agreement: {row}");
        match reason {
            None => ours.unwrap(),
            Some(reason) => {
                let error = ours.expect_err(what);
                assert!(error.starts_with("SignatureValidationFailed: "), "{row}");
                assert!(error.contains(reason), "{row}");
            }
        }
    }
    // who wants no signature does not mind a store that cannot be asked
    case.set_policy(&policy(&json!([{"type": "insecureAcceptAnything"}])));
    case.pull(&name).await.unwrap();
    case.finish().await;
}

#[tokio::test]
async fn a_registry_that_keeps_signatures_itself_is_asked_for_them() {
    let case = Case::start(CRICKET, "").await;
    let (good, file) = case.key("good", "ed25519", FOREVER);
    let image = samples::busybox();
    let name = "127.0.0.1:5001/app:1";
    let signature = case.gpg.sign_image(&good, name, &image.manifest.digest, "");
    let list = {
        use base64::Engine;
        let content = base64::engine::general_purpose::STANDARD.encode(signature);
        let entry = json!({"schemaVersion": 2, "name": "x", "type": "atomic", "content": content});
        json!({"signatures": [entry]}).to_string().into_bytes()
    };
    let keeps = ("X-Registry-Supports-Signatures".to_owned(), "1".to_owned());
    let listener = case.node.net().listen(5001);
    serve(
        listener,
        Box::new(move |path| {
            let manifest = &image.manifest;
            if path == "/v2/" {
                return (200, vec![keeps.clone()], b"{}".to_vec());
            }
            if path == "/v2/app/manifests/1" {
                let kind = ("Content-Type".to_owned(), manifest.media_type.clone());
                return (200, vec![kind], manifest.bytes.to_vec());
            }
            if path == format!("/extensions/v2/app/signatures/{}", manifest.digest) {
                return found(&list);
            }
            let blob = image.blobs().find(|blob| path.ends_with(&blob.digest));
            blob.map_or_else(absent, |blob| found(&blob.bytes))
        }),
    );
    let mut rules = policy(&json!([{"type": "reject"}]));
    rules["transports"]["docker"]["127.0.0.1:5001"] = signed_by(&file);
    case.set_policy(&rules);
    case.skopeo(name).unwrap();
    case.pull(name).await.unwrap();
    case.finish().await;
}

#[tokio::test]
async fn a_container_is_made_only_of_what_its_namespace_s_policy_accepts_now() {
    let policies = tempfile::tempdir().unwrap();
    let directory = policies.path().display();
    let mut case = Case::start(CRICKET, &format!("signature_policy_dir = \"{directory}\"")).await;
    let (good, file) = case.key("good", "ed25519", FOREVER);
    let accept = policy(&json!([{"type": "insecureAcceptAnything"}]));
    let want_key = policy(&signed_by(&file));
    let unsigned = case
        .node
        .registry()
        .push("unsigned", "1", samples::busybox());
    let signed = case.node.registry().push("signed", "1", samples::busybox());
    let digest = &samples::busybox().manifest.digest;
    let signature = case.gpg.sign_image(&good, &signed, digest, "");
    case.put("signed", digest, &signature);
    case.set_policy(&accept);
    let id = case.node.cri.pull(&unsigned).await.unwrap();
    assert_eq!(case.node.cri.pull(&signed).await.unwrap(), id);
    // no network, no store: what came with the pull is all there is
    fs::remove_dir_all(&case.store).unwrap();
    case.node.crash().await;
    let config = case.node.pod_config("pod");
    let pod = case.node.cri.run_pod(&config).await.unwrap();
    let try_create = async |name: &str, written: &str| {
        let mut container = requests::container(name, &id, &["true"]);
        container.image.as_mut().unwrap().user_specified_image = written.to_owned();
        let created = case.node.cri.create(&pod, &container, &config).await;
        created
            .map(drop)
            .map_err(|status| status.message().to_owned())
    };
    try_create("a", &unsigned).await.unwrap();
    case.set_policy(&want_key);
    try_create("b", &signed).await.unwrap();
    let error = try_create("c", &unsigned).await.unwrap_err();
    assert!(
        error.starts_with("SignatureValidationFailed: image "),
        "{error}"
    );
    assert!(
        error.contains("it is for \"127.0.0.1:5000/signed:1\""),
        "{error}"
    );
    // by the id alone it is one of its names that counts
    try_create("d", "").await.unwrap();

    // the pod's namespace has its own say, and it alone
    let own = policies.path().join("default.json");
    fs::write(&own, accept.to_string()).unwrap();
    try_create("e", &unsigned).await.unwrap();
    fs::write(&own, json!({"default": [{"type": "reject"}]}).to_string()).unwrap();
    let error = try_create("f", &signed).await.unwrap_err();
    assert!(
        error.contains("default.json scope default, requirement reject"),
        "{error}"
    );
    fs::write(&own, "{").unwrap();
    let error = try_create("g", &signed).await.unwrap_err();
    assert!(error.contains("default.json: "), "{error}");
    fs::remove_file(&own).unwrap();
    try_create("h", &signed).await.unwrap();
    case.finish().await;
}

#[tokio::test]
async fn a_loaded_image_runs_as_long_as_its_archive_is_trusted() {
    let case = Case::start(CRICKET, "").await;
    let tar = case.node.dir().join("image.tar");
    let name = "example.org/loaded:1";
    fs::write(&tar, archive::oci_layout_tar(&[(samples::busybox(), name)])).unwrap();
    let only = |path: &Path| {
        json!({
            "default": [{"type": "reject"}],
            "transports": {"oci-archive": {path.display().to_string(): [{"type": "insecureAcceptAnything"}]}},
        })
    };
    case.set_policy(&only(Path::new("/nonexistent")));
    let error = case.node.cri.load(&tar).await.unwrap_err();
    assert!(
        error.message().starts_with("SignatureValidationFailed: "),
        "{error:?}"
    );
    case.set_policy(&policy(&signed_by("/nonexistent/key")));
    let error = case.node.cri.load(&tar).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("scope default, requirement reject"),
        "{error:?}"
    );
    case.set_policy(&only(case.node.dir()));
    case.node.cri.load(&tar).await.unwrap();
    let config = case.node.pod_config("pod");
    let pod = case.node.cri.run_pod(&config).await.unwrap();
    let create = async |container: &str| {
        let container = requests::container(container, name, &["true"]);
        case.node.cri.create(&pod, &container, &config).await
    };
    create("a").await.unwrap();
    case.set_policy(&json!({"default": [{"type": "reject"}]}));
    let error = create("b").await.unwrap_err();
    assert!(
        error.message().starts_with("SignatureValidationFailed: "),
        "{error:?}"
    );
    case.finish().await;
}
