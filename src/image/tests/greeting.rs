//! Registries that name their challenge at `/v2/` alone, and lookaside servers with a password.

use base64::Engine;

use super::content::Content;
use super::fixture::{Fixture, Reply, Request, answer, not_found, serve_content};
use super::*;

fn content() -> Content {
    super::case::good()
}

fn authorization(request: &Request) -> &str {
    request
        .headers
        .get("authorization")
        .map_or("", String::as_str)
}

fn basic(pair: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {pair}")
}

fn user(reference: &str, password: &str) -> PullRequest {
    PullRequest {
        auth: Some(RegistryAuth {
            username: "u".into(),
            password: password.into(),
            ..RegistryAuth::default()
        }),
        ..request(reference)
    }
}

/// Tells strangers `status`, and its challenge at `/v2/` only.
async fn shy(status: u16, header: String, challenge: String) -> Fixture {
    let content = content();
    Fixture::start(move |request| match authorization(request) == header {
        true => serve_content(&content, request),
        false if request.path == "/v2/" => Reply::Answer {
            status: 401,
            headers: vec![("WWW-Authenticate", challenge.clone())],
            body: Vec::new(),
        },
        false if status == 404 => not_found(),
        false => answer(status, ""),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hides_from_strangers_is_told_who_asks() {
    for status in [401, 403, 404] {
        let registry = shy(status, basic("u:p"), "Basic realm=\"x\"".into()).await;
        let reference = format!("{}/app:1", registry.address);
        let node = Node::insecure(&registry.address);
        let id = node.images.pull(user(&reference, "p")).await.unwrap();
        assert_eq!(id, content().id, "{status}");
        // who is not known there gets the registry's own words
        let node = Node::insecure(&registry.address);
        for auth in [None, Some(user(&reference, "wrong"))] {
            let request = auth.unwrap_or_else(|| request(&reference));
            let error = node.images.pull(request).await.unwrap_err();
            let is_right = match status {
                404 => matches!(error, ImageError::NotFound { .. }),
                _ => matches!(error, ImageError::Denied { .. }),
            };
            assert!(is_right, "{status}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_without_a_challenge_sends_a_stranger_to_the_token_server_too() {
    let tokens = Fixture::start(|_| answer(200, r#"{"token":"t0ken"}"#)).await;
    let realm = format!(
        "Bearer realm=\"http://{}/token\",service=\"reg\",scope=\"registry:catalog:*\"",
        tokens.address
    );
    let registry = shy(401, "Bearer t0ken".into(), realm).await;
    let node = Node::insecure(&registry.address);
    let reference = format!("{}/app:1", registry.address);
    assert_eq!(node.pull(&reference).await.unwrap(), content().id);
    let log = tokens.log();
    assert_eq!(log.len(), 1);
    assert!(
        log[0].path.contains("scope=repository%3Aapp%3Apull"),
        "{log:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_a_lookaside_url_is_for_its_server_and_never_shown() {
    let registry = Fixture::serving(&content()).await;
    let store = Fixture::start(|_| answer(403, "no")).await;
    let node = Node::insecure(&registry.address);
    let dir = &node.images.settings.trust.registries_d;
    std::fs::create_dir_all(dir).unwrap();
    let place = format!(
        "default-docker:\n  lookaside: http://me:s3%40cret@{}/s\n",
        store.address
    );
    std::fs::write(dir.join("a.yaml"), &place).unwrap();
    let signed = r#"[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nonexistent"}]"#;
    let policy = format!("{{\"default\":{signed}}}");
    std::fs::write(node.dir.path().join("policy.json"), policy).unwrap();
    let reference = format!("{}/app:1", registry.address);
    let error = node.pull(&reference).await.unwrap_err().to_string();
    assert!(error.contains("looking for it failed"), "{error}");
    assert!(
        error.contains(&format!("http://{}/s/app@", store.address)),
        "{error}"
    );
    assert!(!error.contains("s3") && !error.contains("me:"), "{error}");
    assert_eq!(authorization(&store.log()[0]), basic("me:s3@cret"));
    // nor where the server is away
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = free.local_addr().unwrap();
    drop(free);
    let text = format!("default-docker:\n  lookaside: http://me:s3cret@{away}/s\n");
    std::fs::write(dir.join("a.yaml"), text).unwrap();
    let error = node.pull(&reference).await.unwrap_err().to_string();
    assert!(error.contains(&format!("http://{away}/s/app@")), "{error}");
    assert!(!error.contains("s3") && !error.contains("me:"), "{error}");
    std::fs::write(dir.join("a.yaml"), &place).unwrap();
    // and what is no signature is named by its place
    store.become_(|request| match request.path.ends_with("signature-1") {
        true => answer(200, "<html>"),
        false => answer(404, ""),
    });
    let error = node.pull(&reference).await.unwrap_err().to_string();
    assert!(error.contains("/signature-1: not a signature"), "{error}");
    assert!(!error.contains("s3") && !error.contains("me:"), "{error}");
}

/// Blob stores are reached by URLs that are signed: the query is a password for a while.
#[tokio::test(flavor = "multi_thread")]
async fn the_signature_of_a_redirect_is_never_shown() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = free.local_addr().unwrap();
    drop(free);
    let registry = Fixture::start(super::case::except("/blobs/", move |_| Reply::Answer {
        status: 307,
        headers: vec![("Location", format!("http://{away}/b?X-Signature=s3cret"))],
        body: Vec::new(),
    }))
    .await;
    let node = Node::insecure(&registry.address);
    let error = node.pull(&format!("{}/app:1", registry.address)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains(&format!("http://{away}/b")), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}
