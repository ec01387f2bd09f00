//! What bad registries get: the right error, nothing on disk, and the next correct pull works.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::content::{self, Content, Pack, image, sha256, tar};
use super::fixture::{Fixture, Reply, Request, answer, not_found, serve_content};
use super::*;

fn good() -> Content {
    image(&[
        (tar(&[("a", &[1; 100_000])]), Pack::Gzip),
        (tar(&[("b", b"second")]), Pack::Zstd),
        (tar(&[("c", b"third")]), Pack::Plain),
    ])
}

type Handler = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

struct Case {
    name: &'static str,
    handler: Handler,
    is: fn(&ImageError) -> bool,
    /// Part of the message: what the user needs.
    says: &'static str,
}

fn case(
    name: &'static str,
    is: fn(&ImageError) -> bool,
    says: &'static str,
    handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Case {
    Case {
        name,
        handler: Box::new(handler),
        is,
        says,
    }
}

/// Serves the good image, but for requests whose path contains `part`.
fn except(
    part: impl Into<String>,
    reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let (content, part) = (good(), part.into());
    move |request| {
        if request.path.contains(&part) {
            reply(request)
        } else {
            serve_content(&content, request)
        }
    }
}

/// Serves another image than the good one.
fn serving(content: Content) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| serve_content(&content, request)
}

fn unavailable(error: &ImageError) -> bool {
    matches!(error, ImageError::Unavailable { .. })
        && error.to_string().starts_with("RegistryUnavailable: ")
}

fn denied(error: &ImageError) -> bool {
    matches!(error, ImageError::Denied { .. })
}

fn missing(error: &ImageError) -> bool {
    matches!(error, ImageError::NotFound { .. })
}

fn protocol(error: &ImageError) -> bool {
    matches!(error, ImageError::Protocol { .. })
}

fn wrong_digest(error: &ImageError) -> bool {
    matches!(error, ImageError::DigestMismatch { .. })
}

fn wrong_size(error: &ImageError) -> bool {
    matches!(error, ImageError::SizeMismatch { .. })
}

fn truncated(error: &ImageError) -> bool {
    matches!(error, ImageError::Truncated { .. })
}

fn too_large(error: &ImageError) -> bool {
    matches!(error, ImageError::TooLarge { .. })
}

fn malformed(error: &ImageError) -> bool {
    matches!(error, ImageError::Malformed { .. })
}

fn unsupported(error: &ImageError) -> bool {
    matches!(error, ImageError::Unsupported { .. })
}

fn storage(error: &ImageError) -> bool {
    matches!(error, ImageError::Storage { .. })
}

fn head(length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 X\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

fn answers() -> Vec<Case> {
    let denied_body = r#"{"errors":[{"code":"DENIED","message":"not\u0007 for you"}]}"#;
    vec![
        case(
            "401 without challenge",
            denied,
            "no credentials were given",
            except("/manifests/", |_| answer(401, "")),
        ),
        case(
            "403",
            denied,
            "DENIED not for you",
            except("/manifests/", move |_| answer(403, denied_body)),
        ),
        case(
            "404",
            missing,
            "manifest 1: not found: MANIFEST_UNKNOWN",
            except("/manifests/", |_| not_found()),
        ),
        case(
            "404 of a layer",
            missing,
            "layer sha256:",
            except(good().layer(1), |_| not_found()),
        ),
        case(
            "429",
            unavailable,
            "429",
            except("/manifests/", |_| answer(429, "slow down")),
        ),
        case(
            "500 in binary",
            unavailable,
            "500",
            except("/manifests/", |_| answer(500, vec![0xff; 5000])),
        ),
        case(
            "204",
            malformed,
            "manifest 1",
            except("/manifests/", |_| answer(204, "")),
        ),
        case(
            "418",
            protocol,
            "unexpected answer 418",
            except("/manifests/", |_| answer(418, "tea")),
        ),
        case(
            "no HTTP",
            unavailable,
            "manifest 1",
            except("/manifests/", |_| Reply::Raw(b"SSH-2.0-x\r\n".to_vec())),
        ),
        case(
            "nothing",
            unavailable,
            "manifest 1",
            except("/manifests/", |_| Reply::Raw(Vec::new())),
        ),
        case(
            "redirects without end",
            protocol,
            "more than 5 redirects",
            except("/manifests/", |request| Reply::Answer {
                status: 307,
                headers: vec![("Location", request.path.clone())],
                body: Vec::new(),
            }),
        ),
        case(
            "redirect to a file",
            protocol,
            "scheme \"file\"",
            except("/blobs/", |_| Reply::Answer {
                status: 302,
                headers: vec![("Location", "file:///etc/shadow".into())],
                body: Vec::new(),
            }),
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let layer = good().layer(0);
    let blob = good().blobs[&layer].clone();
    let half = blob[..blob.len() / 2].to_vec();
    let cut = [head(blob.len()), half.clone()].concat();
    let unsized_half = [b"HTTP/1.1 200 X\r\n\r\n".to_vec(), half].concat();
    let size = blob.len();
    let limit = usize::try_from(manifest::MAX_MANIFEST_BYTES).unwrap();
    vec![
        case(
            "truncated layer",
            truncated,
            "does not resume",
            except(layer.clone(), move |_| Reply::Raw(cut.clone())),
        ),
        case(
            "layer without length that ends early",
            truncated,
            "truncated",
            except(layer.clone(), move |_| Reply::Raw(unsized_half.clone())),
        ),
        case(
            "layer that is longer",
            wrong_size,
            "size mismatch",
            except(layer.clone(), move |_| answer(200, vec![0; size + 1])),
        ),
        case(
            "endless layer",
            wrong_size,
            "size mismatch",
            except(layer.clone(), |_| {
                Reply::Endless(b"HTTP/1.1 200 X\r\n\r\n".to_vec())
            }),
        ),
        case(
            "wrong Content-Length",
            wrong_size,
            "size mismatch",
            except(layer, move |_| Reply::Raw(head(size - 1))),
        ),
        case(
            "truncated manifest",
            truncated,
            "manifest 1",
            except("/manifests/", |_| {
                Reply::Raw([head(100), b"{".to_vec()].concat())
            }),
        ),
        case(
            "big manifest",
            too_large,
            "manifest 1: larger than the limit",
            except("/manifests/", move |_| answer(200, vec![b' '; limit + 1])),
        ),
        case(
            "endless manifest",
            too_large,
            "manifest 1",
            except("/manifests/", |_| {
                Reply::Endless(b"HTTP/1.1 200 X\r\n\r\n".to_vec())
            }),
        ),
        case(
            "manifest that promises much",
            too_large,
            "manifest 1",
            except("/manifests/", |_| Reply::Raw(head(1 << 40))),
        ),
    ]
}

fn contents() -> Vec<Case> {
    let layer = good().layer(0);
    let id = good().id;
    let mut flipped = good().blobs[&layer].clone();
    flipped[40] ^= 1;
    let mut same_size = good().blobs[&layer].clone();
    same_size.reverse();
    let swapped = good().with_json(|json| json["layers"][0]["digest"] = good().layer(1).into());
    let mut wrong_diff = good();
    wrong_diff = wrong_diff.with_json(|json| {
        let other = content::pack(&tar(&[("a", b"other")]), Pack::Gzip);
        json["layers"][0]["digest"] = sha256(&other).into();
        json["layers"][0]["size"] = other.len().into();
    });
    let other = content::pack(&tar(&[("a", b"other")]), Pack::Gzip);
    wrong_diff.blobs.insert(sha256(&other), other);
    let fewer = good().with_json(|json| drop(json["layers"].as_array_mut().unwrap().pop()));
    let many =
        good().with_json(|json| json["layers"] = vec![json["layers"][0].clone(); 600].into());
    let foreign = good().with_json(|json| {
        json["layers"][1]["mediaType"] =
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    });
    let artifact = good().with_json(|json| json["config"]["mediaType"] = "application/x-ai".into());
    let garbage = image(&[(b"this is no tar at all".repeat(100), Pack::Gzip)]);
    let escaping = {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..8].copy_from_slice(b"../../x\0");
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
        image(&[(builder.into_inner().unwrap(), Pack::Gzip)])
    };
    vec![
        case(
            "flipped bit",
            wrong_digest,
            "layer sha256:",
            except(layer.clone(), move |_| answer(200, flipped.clone())),
        ),
        case(
            "other bytes",
            wrong_digest,
            "digest mismatch",
            except(layer, move |_| answer(200, same_size.clone())),
        ),
        case(
            "other configuration",
            wrong_digest,
            "configuration",
            except(id, |_| answer(200, "{}")),
        ),
        case("layers swapped", wrong_size, "", serving(swapped)),
        case(
            "wrong diff id",
            storage,
            "content's digest",
            serving(wrong_diff),
        ),
        case(
            "fewer layers",
            malformed,
            "3 diff ids for 2 layers",
            serving(fewer),
        ),
        case(
            "many layers",
            too_large,
            "limit of 500 layers",
            serving(many),
        ),
        case(
            "foreign layer",
            unsupported,
            "foreign.diff.tar.gzip",
            serving(foreign),
        ),
        case(
            "artifact",
            unsupported,
            "application/x-ai",
            serving(artifact),
        ),
        case("no tar", storage, "tar archive", serving(garbage)),
        case("escaping layer", storage, "../../x", serving(escaping)),
        case(
            "no JSON",
            malformed,
            "manifest 1",
            except("/manifests/", |_| answer(200, "<html>")),
        ),
        case(
            "index of itself",
            malformed,
            "not followed",
            |request: &Request| {
                let entry = |digest: &str| {
                    json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": [
                    {"mediaType": manifest::OCI_INDEX, "digest": digest, "size": 1}]})
                    .to_string()
                };
                let third = entry(&format!("sha256:{:064x}", 1));
                let second = entry(&sha256(third.as_bytes()));
                let first = entry(&sha256(second.as_bytes()));
                let all = [&first, &second, &third];
                let wanted = request.path.rsplit('/').next().unwrap();
                let found = all.iter().find(|text| sha256(text.as_bytes()) == wanted);
                answer(200, (*found.unwrap_or(&&first)).clone())
            },
        ),
    ]
}

async fn run(cases: Vec<Case>) {
    let content = good();
    let fixture = Fixture::serving(&content).await;
    let node = Node::insecure(&fixture.address);
    let reference = format!("{}/app:1", fixture.address);
    let before = node.on_disk().await;
    for case in cases {
        let name = case.name;
        fixture.become_(case.handler);
        let error = node.pull(&reference).await.expect_err(name);
        assert!((case.is)(error.root()), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(case.says), "{name}: {text}");
        assert!(
            text.len() < 800 && !text.contains(char::is_control),
            "{name}: {text}"
        );
        assert!(node.images.list(None).is_empty(), "{name}");
        assert_eq!(node.on_disk().await, before, "{name}");
    }
    fixture.become_(serving(content.clone()));
    assert_eq!(node.pull(&reference).await.unwrap(), content.id);
    assert_eq!(node.file(&content.id, 1, "b"), b"second");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_are_errors_that_leave_nothing() {
    run(answers()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sizes_are_errors_that_leave_nothing() {
    run(sizes()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_contents_are_errors_that_leave_nothing() {
    run(contents()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for conf in [String::new(), insecure(&address)] {
        let node = Node::new(&conf);
        let error = node.pull(&format!("{address}/app:1")).await.unwrap_err();
        assert!(
            unavailable(&error) && error.to_string().contains("refused"),
            "{error}"
        );
    }
    let node = Node::new("");
    let error = node.pull("no-such-host.invalid/app:1").await.unwrap_err();
    assert!(unavailable(&error), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_refused_by_its_ratio() {
    let content = image(&[(tar(&[("zeros", &vec![0; 16 << 20])]), Pack::Gzip)]);
    let fixture = Fixture::serving(&content).await;
    let node = Node::insecure(&fixture.address);
    let before = node.on_disk().await;
    let error = node
        .pull(&format!("{}/app:1", fixture.address))
        .await
        .unwrap_err();
    assert!(
        storage(&error) && error.to_string().contains("limit"),
        "{error}"
    );
    assert_eq!(node.on_disk().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_has_an_end() {
    let layer = good().layer(0);
    let cases: Vec<(&str, Handler)> = vec![
        (
            "no answer within",
            Box::new(except("/manifests/", |_| Reply::Stall(Vec::new()))),
        ),
        (
            "no data for",
            Box::new(except("/manifests/", |_| Reply::Stall(head(10)))),
        ),
        (
            "no data for",
            Box::new(except(layer, |_| Reply::Stall(head(good_size())))),
        ),
    ];
    let content = good();
    let fixture = Fixture::serving(&content).await;
    let node = Node::with(&insecure(&fixture.address), |settings| {
        let short = Duration::from_millis(300);
        settings.timeouts = Timeouts {
            first_byte: short,
            stall: short,
            ..Timeouts::default()
        };
    });
    let reference = format!("{}/app:1", fixture.address);
    let before = node.on_disk().await;
    for (says, handler) in cases {
        fixture.become_(handler);
        let error = node.pull(&reference).await.unwrap_err();
        assert!(
            unavailable(&error) && error.to_string().contains(says),
            "{says}: {error}"
        );
        assert_eq!(node.on_disk().await, before);
    }
    fixture.become_(serving(content.clone()));
    assert_eq!(node.pull(&reference).await.unwrap(), content.id);
}

fn good_size() -> usize {
    good().blobs[&good().layer(0)].len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_goes_on_where_it_broke() {
    let content = good();
    let layer = content.layer(0);
    let blob = content.blobs[&layer].clone();
    let requests = AtomicUsize::new(0);
    let fixture = Fixture::start(except(layer, move |request| {
        let begin = match request.headers.get("range") {
            Some(range) => range
                .trim_start_matches("bytes=")
                .trim_end_matches('-')
                .parse()
                .unwrap(),
            None => 0,
        };
        let end = (begin + blob.len() / 3).min(blob.len());
        let status = if requests.fetch_add(1, Ordering::Relaxed) == 0 {
            "200 X".to_owned()
        } else {
            format!(
                "206 X\r\nContent-Range: bytes {begin}-{}/{}",
                blob.len() - 1,
                blob.len()
            )
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            blob.len() - begin
        );
        Reply::Raw([head.as_bytes(), &blob[begin..end]].concat())
    }))
    .await;
    let node = Node::insecure(&fixture.address);
    assert_eq!(
        node.pull(&format!("{}/app:1", fixture.address))
            .await
            .unwrap(),
        content.id
    );
}
