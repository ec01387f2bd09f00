//! Registries that answer badly, break off, go on for ever, or say nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::case::*;
use super::fixture::{Fixture, Reply, answer, not_found};
use super::*;

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
    ]
}

fn redirects() -> Vec<Case> {
    vec![
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
            "truncated",
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

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_are_errors_that_leave_nothing() {
    run(answers()).await;
    run(redirects()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sizes_are_errors_that_leave_nothing() {
    run(sizes()).await;
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
        // Longer than a fixture that does answer takes on a busy machine.
        let short = Duration::from_secs(2);
        settings.network.timeouts = Timeouts {
            first_byte: short,
            stall: short,
            backoff: Duration::from_millis(1),
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

/// What a registry answers to a Range from this byte on, of this blob: head and body.
type Resumed = fn(usize, &[u8]) -> (String, Vec<u8>);

fn part(range: std::ops::Range<usize>, total: &str, blob: &[u8]) -> (String, Vec<u8>) {
    let (first, last) = (range.start, range.end - 1);
    let head = format!("206 X\r\nContent-Range: bytes {first}-{last}/{total}");
    (head, blob[range].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_goes_on_by_every_answer_that_has_the_rest_and_by_no_other() {
    let table: [(&str, &str, Resumed); 9] = [
        ("the whole again", "", |_, blob| {
            (
                format!("200 X\r\nContent-Length: {}", blob.len()),
                blob.to_vec(),
            )
        }),
        ("the whole without a length", "", |_, blob| {
            ("200 X".to_owned(), blob.to_vec())
        }),
        ("two parts", "", |from, blob| {
            let until = (from + blob.len() / 4 + 1).min(blob.len());
            part(from..until, &blob.len().to_string(), blob)
        }),
        ("the rest of an unknown length", "", |from, blob| {
            part(from..blob.len(), "*", blob)
        }),
        ("a wrong start", "does not resume", |from, blob| {
            part(from + 1..blob.len(), "*", blob)
        }),
        (
            "a part of something else",
            "does not resume",
            |from, blob| part(from..blob.len(), &(blob.len() + 1).to_string(), blob),
        ),
        ("a part beyond the end", "does not resume", |from, blob| {
            let head = format!("206 X\r\nContent-Range: bytes {from}-{}/*", blob.len());
            (head, blob[from..].to_vec())
        }),
        ("more than the part", "longer than it says", |from, blob| {
            let (head, _) = part(from..from + 3, "*", blob);
            (head, blob[from..].to_vec())
        }),
        ("416", "416", |_, _| {
            ("416 X\r\nContent-Length: 0".to_owned(), Vec::new())
        }),
    ];
    for (name, says, resumed) in table {
        let content = good();
        let layer = content.layer(0);
        let blob = content.blobs[&layer].clone();
        let registry = Fixture::start(except(layer, move |request| {
            let Some(range) = request.headers.get("range") else {
                return Reply::Raw([head(blob.len()), blob[..blob.len() / 2].to_vec()].concat());
            };
            let from = range["bytes=".len()..range.len() - 1].parse().unwrap();
            let (head, body) = resumed(from, &blob);
            let head = format!("HTTP/1.1 {head}\r\n\r\n");
            Reply::Raw([head.into_bytes(), body].concat())
        }))
        .await;
        let node = Node::insecure(&registry.address);
        let before = node.on_disk().await;
        let pulled = node.pull(&format!("{}/app:1", registry.address)).await;
        match says {
            "" => assert_eq!(pulled.expect(name), content.id, "{name}"),
            says => {
                let error = pulled.expect_err(name).to_string();
                assert!(error.contains(says), "{name}: {error}");
                assert_eq!(node.on_disk().await, before, "{name}");
            }
        }
    }
}
