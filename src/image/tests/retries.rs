//! Registries that say "later", and tokens that end too early.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::case::*;
use super::fixture::{Fixture, Reply, Request, answer, serve_content};
use super::*;

fn later(status: u16, retry_after: &str) -> Reply {
    Reply::Answer {
        status,
        headers: vec![("Retry-After", retry_after.to_owned())],
        body: Vec::new(),
    }
}

/// Answers the first `times` requests of manifests with `reply`, and then as a good registry.
async fn at_first(times: usize, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Fixture {
    let (content, seen) = (good(), AtomicUsize::new(0));
    Fixture::start(move |request| {
        let early =
            request.path.contains("/manifests/") && seen.fetch_add(1, Ordering::SeqCst) < times;
        match early {
            true => reply(),
            false => serve_content(&content, request),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_waited_for() {
    let date = || later(429, "Sun, 06 Nov 1994 08:49:37 GMT");
    type Case = (&'static str, usize, Box<dyn Fn() -> Reply + Send + Sync>);
    let table: [Case; 7] = [
        ("429 with seconds", 4, Box::new(|| later(429, "0"))),
        ("429 with a date", 2, Box::new(date)),
        ("429 with nonsense", 4, Box::new(|| later(429, "soon"))),
        ("500", 2, Box::new(|| answer(500, ""))),
        ("503 with seconds", 2, Box::new(|| later(503, "0"))),
        ("504", 2, Box::new(|| answer(504, ""))),
        ("no answer", 2, Box::new(|| Reply::Raw(Vec::new()))),
    ];
    for (name, times, reply) in table {
        let registry = at_first(times, reply).await;
        let node = Node::insecure(&registry.address);
        let id = node.pull(&format!("{}/app:1", registry.address)).await;
        assert_eq!(id.expect(name), good().id, "{name}");
        assert_eq!(registry.count("/manifests/"), times + 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_unavailable_after_some_tries() {
    // (what it says each time, requests, what the error says)
    type Case = (fn() -> Reply, usize, &'static str);
    let table: [Case; 6] = [
        (
            || later(429, "0"),
            5,
            "429 Too Many Requests (after 5 tries)",
        ),
        (
            || later(429, "3600"),
            1,
            "it asks to wait 3600 s, more than the 60 s",
        ),
        (
            || later(503, "99999999999999999999"),
            1,
            "it asks to wait 4294967295 s",
        ),
        (
            || answer(500, "broken"),
            3,
            "500 Internal Server Error: broken (after 3 tries)",
        ),
        (|| answer(501, ""), 1, "501"),
        (|| Reply::Raw(Vec::new()), 3, "RegistryUnavailable"),
    ];
    for (reply, requests, says) in table {
        let registry = at_first(usize::MAX, reply).await;
        let node = Node::insecure(&registry.address);
        let error = node.pull(&format!("{}/app:1", registry.address)).await;
        let error = error.unwrap_err();
        assert!(unavailable(&error), "{says}: {error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert_eq!(registry.count("/manifests/"), requests, "{says}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_waits_for_a_registry_that_is_away_for_a_moment() {
    let (content, away) = (good(), AtomicUsize::new(0));
    let layer = content.layer(0);
    let blob = content.blobs[&layer].clone();
    let registry = Fixture::start(except(layer.clone(), move |request| {
        let begin: usize = match request.headers.get("range") {
            Some(range) => range[6..range.len() - 1].parse().unwrap(),
            None => {
                // half of it, and then it goes away
                let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", blob.len());
                return Reply::Raw([head.as_bytes(), &blob[..blob.len() / 2]].concat());
            }
        };
        if away.fetch_add(1, Ordering::SeqCst) < 3 {
            return answer(503, "");
        }
        let range = format!("bytes {begin}-{}/{}", blob.len() - 1, blob.len());
        Reply::Answer {
            status: 206,
            headers: vec![("Content-Range", range)],
            body: blob[begin..].to_vec(),
        }
    }))
    .await;
    let node = Node::insecure(&registry.address);
    let id = node.pull(&format!("{}/app:1", registry.address)).await;
    assert_eq!(id.unwrap(), content.id);
    assert_eq!(
        registry.count(&layer),
        5,
        "one half, three refusals, the rest"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_says_later_is_shown_and_holds_up_no_other_layer() {
    let content = good();
    let put_off = [content.layer(0), content.layer(1)];
    let (served, later_ones) = (content.clone(), put_off.clone());
    let slow = Fixture::start(move |request| {
        match later_ones.iter().any(|layer| request.path.contains(layer)) {
            true => later(429, "3600"),
            false => serve_content(&served, request),
        }
    })
    .await;
    let manifests = Fixture::start(except("/manifests/", |_| later(503, "3600"))).await;
    let conf = [&slow, &manifests].map(|registry| insecure(&registry.address));
    // one download at a time; and a wait that does not end, however slow this machine is
    let node = Node::with(&conf.concat(), |settings| {
        settings.parallel_layers = 1;
        settings.network.timeouts.retry_after = Duration::from_secs(2 * 3600);
    });
    let mut layers = Box::pin(node.pull_of(&slow));
    let mut resolving = Box::pin(node.pull_of(&manifests));
    let again = |pull: &PullSeen| {
        let mut waits = pull.waits_for.iter().filter_map(|wait| wait.again_in);
        waits.any(|again| again > Duration::from_secs(60))
    };
    let phases = |pull: &PullSeen| -> Vec<LayerPhase> {
        pull.layers.iter().map(|layer| layer.phase).collect()
    };
    // the third layer comes although the others have begun before it and are not here
    let wanted = [LayerPhase::Waiting, LayerPhase::Waiting, LayerPhase::Done];
    let told = async {
        loop {
            let pulls = node.images.pulls_seen();
            let of = |registry: &Fixture| {
                let mut pulls = pulls.iter();
                pulls.find(|pull| pull.reference.starts_with(&registry.address))
            };
            if let (Some(first), Some(second)) = (of(&slow), of(&manifests))
                && again(first)
                && phases(first) == wanted
                && again(second)
            {
                return second.phase;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        result = &mut layers => panic!("the pull ended: {result:?}"),
        result = &mut resolving => panic!("the pull ended: {result:?}"),
        phase = tokio::time::timeout(Duration::from_secs(60), told) => {
            assert_eq!(phase.expect("the third layer comes"), Phase::Waiting);
        }
    }
    for layer in put_off {
        assert_eq!(slow.count(&layer), 1, "not asked again before its time");
    }
}

/// A token server that gives `t1`, `t2`, … and says that each lives for `expires_in` seconds.
async fn tokens(expires_in: &'static str) -> Fixture {
    let given = AtomicUsize::new(0);
    Fixture::start(move |_| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        answer(
            200,
            format!("{{\"token\":\"t{number}\",\"expires_in\":{expires_in}}}"),
        )
    })
    .await
}

fn shown(request: &Request) -> &str {
    request
        .headers
        .get("authorization")
        .map_or("", String::as_str)
}

fn challenge(tokens: &str) -> Reply {
    let realm = format!("Bearer realm=\"http://{tokens}/token\",scope=\"repository:app:pull\"");
    Reply::Answer {
        status: 401,
        headers: vec![("WWW-Authenticate", realm)],
        body: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_the_middle_is_replaced_once() {
    let content = good();
    let server = tokens("300").await;
    let address = server.address.clone();
    let registry = Fixture::start(move |request| {
        let good_token = match request.path.contains(&content.layer(0)) {
            true => "Bearer t2",
            false => "Bearer t",
        };
        match shown(request).starts_with(good_token) {
            true => serve_content(&content, request),
            false => challenge(&address),
        }
    })
    .await;
    let node = Node::insecure(&registry.address);
    let id = node.pull(&format!("{}/app:1", registry.address)).await;
    assert_eq!(id.unwrap(), good().id);
    assert_eq!(server.log().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_no_token_satisfies_is_not_asked_for_ever() {
    let server = tokens("300").await;
    let address = server.address.clone();
    let registry = Fixture::start(move |_| challenge(&address)).await;
    let node = Node::insecure(&registry.address);
    let error = node.pull(&format!("{}/app:1", registry.address)).await;
    let error = error.unwrap_err();
    assert!(denied(&error), "{error}");
    assert_eq!(server.log().len(), 1);
    assert_eq!(registry.count("/manifests/"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_that_loops_is_an_error() {
    // to itself, and to a challenge of its own
    let around = |request: &Request| Reply::Answer {
        status: 307,
        headers: vec![("Location", request.path.clone())],
        body: Vec::new(),
    };
    let table: [(Handler, &str, usize); 2] = [
        (Box::new(around), "more than 5 redirects", 6),
        (
            Box::new(|request| challenge(&request.headers["host"])),
            "access denied: 401",
            1,
        ),
    ];
    for (handler, says, requests) in table {
        let server = Fixture::start(handler).await;
        let address = server.address.clone();
        let registry = Fixture::start(move |_| challenge(&address)).await;
        let node = Node::insecure(&registry.address);
        let error = node.pull(&format!("{}/app:1", registry.address)).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(says) && error.contains("token from http://"),
            "{error}"
        );
        assert_eq!(server.log().len(), requests, "{says}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_of_a_moment_share_a_token_and_later_ones_do_not() {
    for (lives, in_all) in [("300", 2), ("1", 3), ("\"odd\"", 2)] {
        let content = good();
        let (reached, open) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let server = tokens(lives).await;
        let address = server.address.clone();
        let (arrived, gate) = (Arc::clone(&reached), Arc::clone(&open));
        let registry = Fixture::start(move |request| {
            if !shown(request).starts_with("Bearer t") && request.path != "/v2/" {
                return challenge(&address);
            }
            if request.path.contains(&content.layer(0)) && gate.load(Ordering::SeqCst) == 0 {
                arrived.notify_one();
                return Reply::Stall(Vec::new());
            }
            serve_content(&content, request)
        })
        .await;
        let node = Node::insecure(&registry.address);
        let reference = format!("{}/app:1", registry.address);
        let by_digest = format!("{}/app@{}", registry.address, good().digest());
        let mut first = Box::pin(node.pull(&reference));
        tokio::select! {
            result = &mut first => panic!("the pull ended before its layer came: {result:?}"),
            () = reached.notified() => {}
        }
        // the second waits for the first's layer, and has met the challenge by then
        let mut second = Box::pin(node.pull(&by_digest));
        while registry.count(&by_digest[by_digest.find("sha256").unwrap()..]) < 2 {
            assert!(futures_util::poll!(&mut second).is_pending());
            tokio::task::yield_now().await;
        }
        open.store(1, Ordering::SeqCst);
        drop(first);
        assert_eq!(second.await.unwrap(), good().id, "{lives}");
        // now nobody pulls, and nothing is remembered
        node.pull(&reference).await.unwrap();
        assert_eq!(server.log().len(), in_all, "{lives}");
    }
}
