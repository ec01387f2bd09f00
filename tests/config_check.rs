//! `cricket config --check`: what it says of the files that decide about images, and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;

use cricket_harness::{Node, tools};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// The exit code, what it prints, and what it warns of.
fn check(node: &Node) -> (Option<i32>, String, String) {
    let output = tools::output(node.daemon.command().args(["config", "--check"]));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn the_check_reads_registries_policies_and_lookasides_as_the_daemon_would() {
    let node = Node::start(CRICKET).await;
    let config = node.daemon.config_file();
    let (code, told, warned) = check(&node);
    assert_eq!(
        (code, told.as_str()),
        (Some(0), "the configuration is in order\n"),
        "{warned}"
    );

    let (policy, registries) = (
        node.daemon.policy_file(),
        config.with_file_name("registries.conf"),
    );
    let good = [&policy, &registries].map(|file| fs::read_to_string(file).unwrap());
    let key = r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/no/key"}]}"#;
    fs::create_dir_all(node.daemon.registries_d()).unwrap();
    let lookaside = node.daemon.registries_d().join("a.yaml");
    for (file, text, place) in [
        (&policy, "{\n  \"default\": 7,\n", "line 3"),
        (&policy, key, "key file /no/key"),
        (
            &registries,
            "[[registry]]\nlocation = \"x.io\"\nblocked = 3\n",
            "line 3",
        ),
        (
            &registries,
            "short-nam-mode = \"enforcing\"\n",
            "did you mean `short-name-mode`",
        ),
        (&lookaside, "docker: [\n", "line"),
    ] {
        fs::write(file, text).unwrap();
        let (code, told, warned) = check(&node);
        assert_eq!((code, told.as_str()), (Some(1), ""), "{warned}");
        for word in ["warning: ", file.to_str().unwrap(), place] {
            assert!(warned.contains(word), "{word} is not in {warned}");
        }
        assert_eq!(warned.lines().count(), 1, "{warned}");
        for (file, text) in [&policy, &registries].into_iter().zip(&good) {
            fs::write(file, text).unwrap();
        }
    }
    // several at once: each in its line
    fs::write(&policy, "[]").unwrap();
    let (code, _, warned) = check(&node);
    assert_eq!((code, warned.lines().count()), (Some(1), 2), "{warned}");
    fs::remove_file(lookaside).unwrap();
    fs::write(&policy, &good[0]).unwrap();
    assert_eq!(check(&node).0, Some(0));
    node.finish().await;
}
