//! Who may pull, from where, and who pulls together: tokens, redirects, mirrors, policy, joining.

use base64::Engine;
use tokio::sync::Notify;

use super::content::{Content, Pack, image, tar};
use super::fixture::{Fixture, Reply, Request, answer, serve_content};
use super::*;

fn content() -> Content {
    image(&[
        (tar(&[("a", &[1; 100_000])]), Pack::Gzip),
        (tar(&[("b", b"2")]), Pack::Gzip),
    ])
}

fn basic(pair: &str) -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

fn authorization(request: &Request) -> &str {
    request
        .headers
        .get("authorization")
        .map_or("", String::as_str)
}

fn challenge(value: String) -> Reply {
    Reply::Answer {
        status: 401,
        headers: vec![("WWW-Authenticate", value)],
        body: Vec::new(),
    }
}

/// Serves the content to those who show `header`; others get `challenge_with`.
fn guarded(
    header: &str,
    challenge_with: String,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let (content, header) = (content(), header.to_owned());
    move |request| match authorization(request) == header {
        true => serve_content(&content, request),
        false => challenge(challenge_with.clone()),
    }
}

fn with_auth(reference: &str, auth: RegistryAuth) -> PullRequest {
    PullRequest {
        auth: Some(auth),
        ..request(reference)
    }
}

fn user(username: &str, password: &str) -> RegistryAuth {
    RegistryAuth {
        username: username.into(),
        password: password.into(),
        ..RegistryAuth::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_is_asked_with_what_we_have() {
    // (what we have, what the token server must see)
    let identity = RegistryAuth {
        identity_token: "r3fresh".into(),
        ..RegistryAuth::default()
    };
    let encoded = RegistryAuth {
        auth: basic("u:p")["Basic ".len()..].into(),
        ..RegistryAuth::default()
    };
    let table = [
        (None, "GET", ""),
        (Some(user("u", "p")), "GET", "Basic dTpw"),
        (Some(encoded), "GET", "Basic dTpw"),
        (Some(identity), "POST", ""),
    ];
    for (auth, method, header) in table {
        let tokens = Fixture::start(|_| answer(200, r#"{"token":"t0ken","expires_in":60}"#)).await;
        let realm = format!(
            "Bearer realm=\"http://{}/token\",service=\"reg\",scope=\"repository:app:pull\"",
            tokens.address
        );
        let registry = Fixture::start(guarded("Bearer t0ken", realm)).await;
        let node = Node::insecure(&registry.address);
        let reference = format!("{}/app:1", registry.address);
        let id = node
            .images
            .pull(PullRequest {
                auth,
                ..request(&reference)
            })
            .await
            .unwrap();
        assert_eq!(id, content().id);
        let log = tokens.log();
        assert_eq!(log.len(), 1, "one token for the whole pull");
        assert_eq!(
            (log[0].method.as_str(), authorization(&log[0])),
            (method, header)
        );
        let asked = format!("{}&{}", log[0].path, log[0].body);
        assert!(
            asked.contains("service=reg") && asked.contains("scope=repository%3Aapp%3Apull"),
            "{asked}"
        );
        assert_eq!(asked.contains("refresh_token=r3fresh"), method == "POST");
        // the password goes to the token server, never to the registry
        assert!(
            registry
                .log()
                .iter()
                .all(|request| !authorization(request).starts_with("Basic"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_and_registry_tokens_are_sent_as_they_are() {
    let token = RegistryAuth {
        registry_token: "abc".into(),
        ..RegistryAuth::default()
    };
    for (auth, header) in [
        (user("u", "p"), basic("u:p")),
        (token, "Bearer abc".to_owned()),
    ] {
        let registry = Fixture::start(guarded(&header, "Basic realm=\"x\"".into())).await;
        let node = Node::insecure(&registry.address);
        let reference = format!("{}/app:1", registry.address);
        assert_eq!(
            node.images
                .pull(with_auth(&reference, auth.clone()))
                .await
                .unwrap(),
            content().id
        );
        let wrong = RegistryAuth {
            username: "u".into(),
            password: "s3cret".into(),
            ..auth
        };
        let wrong = RegistryAuth {
            registry_token: String::new(),
            ..wrong
        };
        let other = Node::insecure(&registry.address);
        let error = other.images.pull(with_auth(&reference, wrong)).await;
        if header == basic("u:p") {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("access denied: 401"), "{error}");
            assert!(
                error.contains("the given credentials were not accepted"),
                "{error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_that_fails_is_named() {
    let table: [(u16, &str, &str); 5] = [
        (401, "", "access denied"),
        (503, "", "RegistryUnavailable: "),
        (200, "not json", "not a token"),
        (200, r#"{"token":""}"#, "has no token"),
        (200, r#"{"token":"a\nb"}"#, "has no token"),
    ];
    for (status, body, says) in table {
        let tokens = Fixture::start(move |_| answer(status, body)).await;
        let realm = format!("Bearer realm=\"http://{}/token\"", tokens.address);
        let registry = Fixture::start(guarded("Bearer never", realm)).await;
        let node = Node::insecure(&registry.address);
        let error = node
            .pull(&format!("{}/app:1", registry.address))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{status} {body}: {error}");
        assert!(
            error.contains(&format!("token from http://{}/token", tokens.address)),
            "{error}"
        );
    }
    let registry = Fixture::start(guarded("x", "Bearer realm=\"gopher://x\"".into())).await;
    let node = Node::insecure(&registry.address);
    let error = node
        .pull(&format!("{}/app:1", registry.address))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("gopher"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_carries_no_credentials() {
    let content = content();
    let elsewhere = Fixture::serving(&content).await;
    let target = elsewhere.address.clone();
    let guard = guarded(&basic("u:p"), "Basic realm=\"x\"".into());
    let registry = Fixture::start(move |request| {
        let reply = guard(request);
        if request.path.contains("/blobs/") && authorization(request) == basic("u:p") {
            let location = format!("http://{target}{}?signature=1", request.path);
            return Reply::Answer {
                status: 307,
                headers: vec![("Location", location)],
                body: Vec::new(),
            };
        }
        reply
    })
    .await;
    let node = Node::insecure(&registry.address);
    let reference = format!("{}/app:1", registry.address);
    let id = node
        .images
        .pull(with_auth(&reference, user("u", "p")))
        .await
        .unwrap();
    assert_eq!(id, content.id);
    assert_eq!(elsewhere.log().len(), 3);
    for request in elsewhere.log() {
        assert_eq!(authorization(&request), "", "{request:?}");
        assert!(!format!("{request:?}").contains("dTpw"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_of_another_host_is_not_answered() {
    let phisher = Fixture::start(|_| challenge("Basic realm=\"give\"".into())).await;
    let target = phisher.address.clone();
    let registry = Fixture::start(move |request| match request.path.as_str() {
        "/v2/" => answer(200, "{}"),
        _ => Reply::Answer {
            status: 302,
            headers: vec![("Location", format!("http://{target}/x"))],
            body: Vec::new(),
        },
    })
    .await;
    let node = Node::insecure(&registry.address);
    let reference = format!("{}/app:1", registry.address);
    let error = node
        .images
        .pull(with_auth(&reference, user("u", "p")))
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Denied { .. }), "{error}");
    assert!(
        phisher
            .log()
            .iter()
            .all(|request| authorization(request).is_empty())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_come_first_without_the_callers_credentials_and_may_fail() {
    let content = content();
    let broken = Fixture::start({
        let content = content.clone();
        move |request| match request.path.contains(&content.layer(1)) {
            true => answer(200, "short"),
            false => serve_content(&content, request),
        }
    })
    .await;
    let registry = Fixture::start(guarded(&basic("u:p"), "Basic realm=\"x\"".into())).await;
    let conf = format!(
        "[[registry]]\nlocation = \"{0}\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"{1}\"\n\
         insecure = true\n",
        registry.address, broken.address
    );
    let node = Node::new(&conf);
    let reference = format!("{}/app:1", registry.address);
    let id = node
        .images
        .pull(with_auth(&reference, user("u", "p")))
        .await
        .unwrap();
    assert_eq!(id, content.id);
    // the name is the one that was asked for, not the mirror's
    let record = node.images.get(&reference).unwrap().unwrap().record;
    assert_eq!(record.names, [reference]);
    assert!(
        broken
            .log()
            .iter()
            .all(|request| authorization(request).is_empty())
    );
    // the second layer had to come from the registry
    assert!(registry.count(&content.layer(1)) >= 1);
    // when the last one fails too, it says what was tried
    let node = Node::new(&conf);
    let error = node
        .pull(&format!("{}/app:1", registry.address))
        .await
        .unwrap_err();
    assert!(matches!(error.root(), ImageError::Denied { .. }), "{error}");
    assert!(
        error.to_string().contains("tried before: ") && error.to_string().contains(&broken.address)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_refuses_is_asked_before_the_registry() {
    let registry = Fixture::serving(&content()).await;
    let node = Node::insecure(&registry.address);
    let reference = format!("{}/app:1", registry.address);
    let policy = node.dir.path().join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"reject"}]}"#).unwrap();
    let error = node.pull(&reference).await.unwrap_err();
    assert!(
        error.to_string().starts_with("SignatureValidationFailed: "),
        "{error}"
    );
    std::fs::remove_file(&policy).unwrap();
    let error = node.pull(&reference).await.unwrap_err();
    assert!(matches!(error, ImageError::PolicyMissing { .. }), "{error}");
    std::fs::write(&policy, "{").unwrap();
    node.pull(&reference).await.unwrap_err();
    assert!(registry.log().is_empty());
    std::fs::write(&policy, ACCEPT).unwrap();
    node.pull(&reference).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_registries_conf_is_reported_by_the_pull() {
    let node = Node::new("[[registry]]\nlokation = \"x\"\n");
    let error = node.pull("x.io/app:1").await.unwrap_err().to_string();
    assert!(
        error.contains("registries.conf: ") && error.contains("lokation"),
        "{error}"
    );
    assert!(node.images.get("x.io/app:1").unwrap().is_none());
    std::fs::write(
        node.dir.path().join("registries.conf"),
        "[[registry]]\nlocation=\"x.io\"\nblocked=true",
    )
    .unwrap();
    let error = node.pull("x.io/app:1").await.unwrap_err();
    assert!(matches!(error, ImageError::Blocked { .. }), "{error}");
}

/// A registry whose layers come only when `gate` opens.
async fn gated(content: &Content, gate: Arc<Gate>) -> Fixture {
    let content = content.clone();
    Fixture::start(move |request| {
        if request.path.contains(&content.layer(0)) {
            gate.reached.notify_one();
            let blob = &content.blobs[&content.layer(0)];
            if !gate.open.load(std::sync::atomic::Ordering::SeqCst) {
                let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", blob.len());
                return Reply::Stall([head.as_bytes(), &blob[..50]].concat());
            }
        }
        serve_content(&content, request)
    })
    .await
}

#[derive(Default)]
struct Gate {
    open: std::sync::atomic::AtomicBool,
    reached: Notify,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_pull_twice_is_one_download_and_outlives_its_first_caller() {
    let content = content();
    let (reached, go) = (
        Arc::new(Notify::new()),
        Arc::new(std::sync::Barrier::new(2)),
    );
    let registry = {
        let (content, reached, go) = (content.clone(), Arc::clone(&reached), Arc::clone(&go));
        Fixture::start(move |request| {
            if request.path.contains(&content.layer(0)) {
                reached.notify_one();
                tokio::task::block_in_place(|| go.wait());
            }
            serve_content(&content, request)
        })
        .await
    };
    let node = Node::insecure(&registry.address);
    let reference = format!("{}/app:1", registry.address);
    let mut first = Box::pin(node.pull(&reference));
    tokio::select! {
        result = &mut first => panic!("the pull ended before its layer came: {result:?}"),
        () = reached.notified() => {}
    }
    let mut second = Box::pin(node.pull(&reference));
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    let (id, ()) = tokio::join!(second, async {
        let go = Arc::clone(&go);
        tokio::task::spawn_blocking(move || go.wait())
            .await
            .unwrap();
    });
    assert_eq!(id.unwrap(), content.id);
    assert_eq!(
        registry.count("/blobs/"),
        3,
        "configuration and two layers, once each"
    );
    assert_eq!(registry.count("/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn different_pulls_of_one_layer_download_it_once() {
    let content = content();
    let registry = Fixture::serving(&content).await;
    let node = Node::insecure(&registry.address);
    let by_digest = format!("{}/app@{}", registry.address, content.digest());
    let names = [format!("{}/app:1", registry.address), by_digest];
    let pulls = names.iter().map(|name| node.pull(name));
    for id in futures_util::future::join_all(pulls).await {
        assert_eq!(id.unwrap(), content.id);
    }
    assert_eq!(registry.count(&content.layer(0)), 1);
    assert_eq!(registry.count(&content.layer(1)), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_nobody_waits_for_leaves_nothing() {
    let content = content();
    let gate = Arc::new(Gate::default());
    let registry = gated(&content, Arc::clone(&gate)).await;
    let node = Node::insecure(&registry.address);
    let before = node.on_disk().await;
    let reference = format!("{}/app:1", registry.address);
    let mut pull = Box::pin(node.pull(&reference));
    tokio::select! {
        result = &mut pull => panic!("the pull ended before its layer came: {result:?}"),
        () = gate.reached.notified() => {}
    }
    drop(pull);
    // the unpacking threads end by themselves now that their input has gone
    while node.on_disk().await != before {
        tokio::task::yield_now().await;
    }
    gate.open.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(node.pull(&reference).await.unwrap(), content.id);
}
