//! SIGHUP and changes of registries.conf while the daemon runs: what takes effect at once, what is
//! said about the rest, and that a mistake changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use cricket_harness::hostile::Fixture;
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, requests};
use cricket_proto::cri as wire;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
const RELOADED: &str = "configuration reloaded";
const REFUSED: &str = "everything is as before";

fn small() -> Image {
    Image::builder()
        .layer(Layer::new().file("f", 0o644, b"same"), Compression::Gzip)
        .build()
}

fn registries_conf(node: &Node) -> PathBuf {
    node.daemon.config_file().with_file_name("registries.conf")
}

/// Sends SIGHUP and waits until the log has one more line with `outcome`; the new part of the log.
async fn hup(node: &Node, outcome: &str) -> String {
    let before = node.daemon.log();
    let pid = i32::try_from(node.daemon.pid()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    let new = || node.daemon.log()[before.len()..].to_owned();
    node.until(outcome, || new().contains(outcome)).await;
    new()
}

fn replace(node: &Node, from: &str, to: &str) {
    let file = node.daemon.config_file();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

async fn info(node: &Node) -> std::collections::BTreeMap<String, String> {
    let request = wire::StatusRequest { verbose: true };
    node.cri
        .runtime()
        .status(request)
        .await
        .unwrap()
        .into_inner()
        .info
}

#[tokio::test]
async fn live_keys_take_effect_and_the_others_are_named() {
    let node = Node::start(CRICKET).await;
    let fixture = Fixture::start(node.net(), 5001);
    let name = fixture.push("app", "1", &small());
    node.cri.pull(&name).await.unwrap();
    assert!(!node.cri.image(&name).await.unwrap().unwrap().pinned);
    let runc = cricket_harness::tools::need("runc");
    let again = node.daemon.config_file().with_file_name("runc-again");
    symlink(&runc, &again).unwrap();
    replace(
        &node,
        "[crio.image]\n",
        &format!("[crio.image]\npinned_images = [\"{name}\"]\npull_progress_timeout = \"7s\"\n"),
    );
    replace(
        &node,
        "[crio.runtime.runtimes.runc]\n",
        &format!(
            "[crio.runtime.runtimes.again]\nruntime_path = {again:?}\nmonitor_cgroup = \"pod\"\n[crio.runtime.runtimes.runc]\n"
        ),
    );
    replace(&node, "log_level = \"info\"", "log_level = \"debug\"");
    let told = hup(&node, RELOADED).await;
    assert!(told.contains("crio.image.pinned_images") && told.contains("crio.runtime.log_level"));
    let until = "without effect until the daemon is restarted";
    node.until(until, || node.daemon.log().contains(until))
        .await;
    let log = node.daemon.log();
    let named = log.lines().find(|line| line.contains(until)).unwrap();
    assert!(
        named.contains("keys=\"crio.image.pull_progress_timeout\""),
        "{named}"
    );
    assert!(node.cri.image(&name).await.unwrap().unwrap().pinned);
    let config = info(&node).await["config"].clone();
    assert!(config.contains(&name), "{config}");
    assert!(!config.contains("7s"), "it is not in effect: {config}");
    let mut runtime = node.cri.runtime();
    let status = runtime.status(wire::StatusRequest { verbose: false });
    let handlers = status.await.unwrap().into_inner().runtime_handlers;
    assert!(handlers.iter().any(|handler| handler.name == "again"));
    // nothing has changed since: nothing to tell
    let told = hup(&node, RELOADED).await;
    assert!(told.contains("changed=\"\""), "{told}");
    node.finish().await;
}

#[tokio::test]
async fn a_mistake_anywhere_changes_nothing_and_is_told() {
    let node = Node::start(CRICKET).await;
    let good = fs::read_to_string(node.daemon.config_file()).unwrap();
    let registries = fs::read_to_string(registries_conf(&node)).unwrap();
    let pinned = good.replace(
        "[crio.image]\n",
        "[crio.image]\npinned_images = [\"new\"]\n",
    );
    let profile = node.daemon.config_file().with_file_name("seccomp.json");
    fs::write(&profile, "{").unwrap();
    let with =
        |key: &str| pinned.replacen("[crio.runtime]\n", &format!("[crio.runtime]\n{key}\n"), 1);
    let broken = [
        (with("log_level_ = ["), registries.as_str(), "crio.conf:"),
        (
            pinned.replace("default_runtime = \"runc\"", "default_runtime = \"none\""),
            &registries,
            "`none`",
        ),
        (
            with(&format!("seccomp_profile = {profile:?}")),
            &registries,
            "seccomp.json",
        ),
        (
            pinned.clone(),
            "[[registry]]\nlocation = \"x.io\"\nblocked = 3\n",
            "registries.conf: line 3",
        ),
    ];
    for (config, conf, want) in broken {
        fs::write(node.daemon.config_file(), config).unwrap();
        fs::write(registries_conf(&node), conf).unwrap();
        let told = hup(&node, REFUSED).await;
        assert!(told.contains(want), "{want}: {told}");
        let info = info(&node).await;
        assert!(!info["config"].contains("\"new\""), "{want}");
    }
    let trouble = info(&node).await["registries"].clone();
    assert!(trouble.contains("registries.conf: line 3"), "{trouble}");
    fs::write(node.daemon.config_file(), &pinned).unwrap();
    fs::write(registries_conf(&node), &registries).unwrap();
    hup(&node, RELOADED).await;
    let info = info(&node).await;
    assert!(info["config"].contains("\"new\""));
    assert!(
        info["registries"].contains("\"trouble\":\"\""),
        "{}",
        info["registries"]
    );
    node.finish().await;
}

#[tokio::test]
async fn registries_conf_is_taken_up_by_sighup_or_at_once_as_configured() {
    for at_once in [false, true] {
        let node = Node::start_with(CRICKET, |options| {
            options.image_config = format!("auto_reload_registries = {at_once}");
        })
        .await;
        let fixture = Fixture::start(node.net(), 5001);
        let name = fixture.push("app", "1", &small());
        let moved = "moved.test/app:1";
        let good = fs::read_to_string(registries_conf(&node)).unwrap();
        let more = format!(
            "{good}\n[[registry]]\nprefix = \"moved.test\"\nlocation = \"{}\"\ninsecure = true\n",
            fixture.name("")
        );
        fs::write(registries_conf(&node), more.replace(":5001/\"", ":5001\"")).unwrap();
        if !at_once {
            let error = node.cri.pull(moved).await.unwrap_err();
            assert!(
                error.message().starts_with("RegistryUnavailable"),
                "{error:?}"
            );
            hup(&node, RELOADED).await;
        }
        node.cri.pull(moved).await.unwrap();
        node.cri.pull(&name).await.unwrap();
        // a broken one is told by itself, and what was said before goes on to count
        fs::write(registries_conf(&node), "[[registry]]\nlocation = 7\n").unwrap();
        if at_once {
            let told = "registries.conf not read: what it said before goes on to count";
            node.until(told, || node.daemon.log().contains(told)).await;
            let trouble = info(&node).await["registries"].clone();
            assert!(trouble.contains("line 2"), "{trouble}");
        }
        node.cri.pull(moved).await.unwrap();
        node.finish().await;
    }
}

#[tokio::test]
async fn the_old_key_registries_is_searched_and_warned_about() {
    let node = Node::start_with(CRICKET, |options| {
        options.image_config = "registries = [\"127.0.0.1:5001\"]".into();
    })
    .await;
    let fixture = Fixture::start(node.net(), 5001);
    fixture.push("app", "1", &small());
    let log = node.daemon.log();
    assert!(
        log.contains("`registries` is deprecated: write unqualified-search-registries"),
        "{log}"
    );
    // registries.conf has a list of its own, which counts
    let error = node.cri.pull("app:1").await.unwrap_err();
    assert!(error.message().contains("docker.io"), "{error:?}");
    let text = fs::read_to_string(registries_conf(&node)).unwrap();
    let without = text.replace("unqualified-search-registries = [\"docker.io\"]\n", "");
    fs::write(registries_conf(&node), without).unwrap();
    hup(&node, RELOADED).await;
    node.cri.pull("app:1").await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn a_seccomp_profile_that_has_changed_counts_for_new_containers_from_sighup_on() {
    use wire::security_profile::ProfileType::RuntimeDefault;
    let deny = |call: &str| {
        serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]})
        .to_string()
    };
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let profile = node.daemon.config_file().with_file_name("seccomp.json");
    fs::write(&profile, deny("mkdir")).unwrap();
    let key = format!("[crio.runtime]\nseccomp_profile = {profile:?}\n");
    replace(&node, "[crio.runtime]\n", &key);
    let told = hup(&node, RELOADED).await;
    assert!(told.contains("crio.runtime.seccomp_profile"), "{told}");
    let config = node.pod_config("seccomp");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let start = async |name: &str| {
        let mut container = requests::container(name, &image, &["sleep", "1000"]);
        requests::security(&mut container).seccomp = Some(wire::SecurityProfile {
            profile_type: RuntimeDefault.into(),
            localhost_ref: String::new(),
        });
        node.run_in(&pod, &config, &container).await
    };
    let refused = async |id: &str, command: &[&str]| {
        let reply = node.cri.exec(id, command, 20).await.unwrap();
        reply.exit_code != 0
    };
    let (mkdir, link) = (["mkdir", "/d"], ["ln", "-s", "a", "/l"]);
    let before = start("before").await;
    assert!(refused(&before, &mkdir).await && !refused(&before, &link).await);
    // the path is the same, the file is not: CRI-O's SIGHUP reads it too
    fs::write(&profile, deny("symlink")).unwrap();
    let still = start("still").await;
    assert!(refused(&still, &mkdir).await, "nobody has asked for it yet");
    hup(&node, RELOADED).await;
    let after = start("after").await;
    assert!(!refused(&after, &mkdir).await && refused(&after, &link).await);
    assert!(
        refused(&before, &mkdir).await,
        "it keeps what it began with"
    );
    node.finish().await;
}
