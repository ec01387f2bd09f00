//! `cricket policy test` answers what a pull would be told, and changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;

use cricket_harness::gpg::FOREVER;
use cricket_harness::hostile::{Fault, Fixture};
use cricket_harness::image::digest;
use cricket_harness::trust::{Case, policy, signed_by};
use cricket_harness::{Node, samples, tools};
use serde_json::json;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// The exit code and what is told.
fn told(node: &Node, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = node.daemon.command();
    let output = tools::output(command.args(["policy", "test"]).args(arguments));
    let texts = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&texts).into_owned(),
    )
}

#[tokio::test]
async fn credentials_that_were_left_for_a_pull_stay_for_it() {
    let left = tempfile::tempdir().unwrap();
    let node = Node::start_with(CRICKET, |options| {
        let directory = left.path().display().to_string();
        options.image_config = format!("namespaced_auth_dir = {directory:?}");
    })
    .await;
    // a requirement that needs the manifest, so that the registry is asked
    let rules = json!({"default": signed_by("/nonexistent.gpg")});
    fs::write(node.daemon.policy_file(), rules.to_string()).unwrap();
    let fixture = Fixture::start(node.net(), 5001);
    let image = samples::busybox();
    let name = fixture.push("app", "1", image);
    fixture.misbehave("manifests/", Fault::Basic("team:right".into()));
    let hash = &digest(fixture.name("app").as_bytes())[7..];
    let file = left.path().join(format!("team-{hash}.json"));
    let auth = {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.encode("team:right")
    };
    let auths = json!({"auths": {"127.0.0.1:5001": {"auth": auth}}});
    fs::write(&file, auths.to_string()).unwrap();
    for _ in 0..2 {
        let (code, out) = told(&node, &["--namespace", "team", &name]);
        assert_eq!(code, Some(1), "{out}");
        // the manifest was got, so the credentials were shown
        assert!(out.contains("the image has none"), "{out}");
    }
    let accept = json!({"default": [{"type": "insecureAcceptAnything"}]});
    fs::write(node.daemon.policy_file(), accept.to_string()).unwrap();
    let id = node.cri.pull_for(&name, "team").await.unwrap();
    assert_eq!(id, image.id());
    node.finish().await;
}

#[tokio::test]
async fn a_mirror_without_signatures_is_not_the_answer_where_the_registry_has_them() {
    let mut case = Case::start(CRICKET, "").await;
    let (good, file) = case.key("good", "ed25519", FOREVER);
    let (name, digest) = case.push("app", "1");
    let (_, copy) = case.push("copy/app", "1");
    assert_ne!(digest, copy, "the mirror has an image of its own");
    let signature = case.gpg.sign_image(&good, &name, &digest, "");
    case.put("app", &digest, &signature);
    case.set_policy(&policy(&signed_by(&file)));
    let conf = case.node.daemon.config_file();
    let conf = conf.with_file_name("registries.conf");
    let text = fs::read_to_string(&conf).unwrap();
    let mirrored = "[[registry]]\nprefix = \"127.0.0.1:5000/app\"\nlocation = \"127.0.0.1:5000/app\"\n\
         insecure = true\n[[registry.mirror]]\nlocation = \"127.0.0.1:5000/copy/app\"\ninsecure = true\n";
    fs::write(&conf, format!("{text}\n{mirrored}")).unwrap();
    case.node.daemon.kill();
    case.node.daemon.launch();
    case.node.reconnect().await;
    case.pull(&name).await.unwrap();
    let (code, out) = told(&case.node, &[&name]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.starts_with(&format!("{name}: accepted\n")), "{out}");
    assert!(out.contains(&format!("manifest     {digest}\n")), "{out}");
    // and without the signature there it is a refusal
    fs::remove_dir_all(&case.store).unwrap();
    case.pull(&name).await.unwrap_err();
    let (code, out) = told(&case.node, &[&name]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.starts_with(&format!("{name}: refused\n")), "{out}");
    case.finish().await;
}

#[tokio::test]
async fn of_a_short_name_the_registry_counts_that_a_pull_takes() {
    let node = Node::start_with(CRICKET, |options| {
        options.image_config = "short_name_mode = \"disabled\"".into();
    })
    .await;
    let conf = node.daemon.config_file().with_file_name("registries.conf");
    let text = fs::read_to_string(&conf).unwrap();
    let two = "[\"127.0.0.1:5001\", \"127.0.0.1:5002\"]";
    fs::write(&conf, text.replace("[\"docker.io\"]", two)).unwrap();
    let mut node = node;
    node.daemon.kill();
    node.daemon.launch();
    node.reconnect().await;
    let (first, second) = (
        Fixture::start(node.net(), 5001),
        Fixture::start(node.net(), 5002),
    );
    let image = samples::busybox();
    second.push("app", "1", image);
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    let reject = json!([{"type": "reject"}]);
    // (what is said of the first, of the second, whether the first has it, the answer)
    let table = [
        (&reject, &accept, false, "127.0.0.1:5002/app:1: accepted\n"),
        (&accept, &reject, false, "127.0.0.1:5002/app:1: refused\n"),
        (&reject, &accept, true, "127.0.0.1:5002/app:1: accepted\n"),
        (&accept, &reject, true, "127.0.0.1:5001/app:1: accepted\n"),
    ];
    for (of_first, of_second, there, answer) in table {
        if there {
            first.push("app", "1", image);
        }
        let rules = json!({
            "default": reject,
            "transports": {"docker": {"127.0.0.1:5001": of_first, "127.0.0.1:5002": of_second}},
        });
        fs::write(node.daemon.policy_file(), rules.to_string()).unwrap();
        let pulled = node.cri.pull("app:1").await;
        let (code, out) = told(&node, &["app:1"]);
        let row = format!("{answer}{out}{pulled:?}");
        assert!(out.starts_with(answer), "{row}");
        assert_eq!(code == Some(0), pulled.is_ok(), "{row}");
        if let Ok(id) = pulled {
            node.cri.remove_image(&id).await.unwrap();
        }
    }
    node.finish().await;
}
