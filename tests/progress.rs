//! Pulls on their way, as a person sees them: `cricket pull`, `cricket pulls`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cricket_harness::cri::{ImageSpec, PodSandboxConfig, PullImageRequest};
use cricket_harness::hostile::{Fault, Fixture, Gate};
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Client, Node};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the held layer that come at once.
const HELD_AT: usize = 1000;

/// A node, and a registry that holds the big layer of `app` back until the gate opens.
struct Stage {
    node: Node,
    registry: Fixture,
    gate: Gate,
    image: Image,
    name: String,
    big: String,
}

/// An image of a small layer and one that does not compress.
fn image(label: &str) -> Image {
    let noise: Vec<u8> = (0..200_000u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    Image::builder()
        .layer(Layer::new().file("noise", 0o644, &noise), Compression::None)
        .layer(Layer::new().file(label, 0o644, b"own"), Compression::Gzip)
        .set("Labels", json!({ "label": label }))
        .build()
}

impl Stage {
    async fn set(image_config: &str) -> Stage {
        let config = image_config.to_owned();
        let node = Node::start_with(CRICKET, |options| options.image_config = config).await;
        let registry = Fixture::start(node.net(), 5001);
        let image = image("app");
        let name = registry.push("app", "1", &image);
        let big = image.layers[0].digest.clone();
        let gate = Gate::default();
        registry.misbehave(&big, Fault::Hold(HELD_AT, gate.clone()));
        Stage {
            node,
            registry,
            gate,
            image,
            name,
            big,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.node.daemon.command();
        command.args(args);
        command
    }

    fn pulls(&self) -> Vec<Value> {
        let output = self.command(&["pulls", "-o", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        document["pulls"].as_array().unwrap().clone()
    }

    /// The pulls, once they are as `wanted` says.
    fn until(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let pulls = self.pulls();
            if wanted(&pulls) {
                return pulls;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {pulls:#?}");
        }
    }

    /// The pulls, once the big layer of the first one has stopped in the middle.
    fn until_held(&self) -> Vec<Value> {
        self.until("held in the middle", |pulls| {
            // One that was cancelled before stays listed as it was.
            pulls.first().is_some_and(|pull| {
                pull["state"] == "fetching" && layer(pull, &self.big)["fetchedBytes"] == HELD_AT
            })
        })
    }

    /// A pull as a kubelet asks for it.
    fn kubelet(&self, pod: &str, name: &str) -> tokio::task::JoinHandle<Result<String, String>> {
        let config: PodSandboxConfig = self.node.pod_config(pod);
        let request = PullImageRequest {
            image: Some(ImageSpec {
                image: name.to_owned(),
                ..ImageSpec::default()
            }),
            sandbox_config: Some(config),
            ..PullImageRequest::default()
        };
        let cri: Client = self.node.cri.clone();
        tokio::spawn(async move {
            let answer = cri.pull_request(request).await;
            answer.map_err(|error| format!("{error:?}"))
        })
    }
}

/// The layer of a pull with this digest; null where there is none.
fn layer(pull: &Value, digest: &str) -> Value {
    let layers = pull["layers"].as_array().into_iter().flatten();
    let mut found = layers.filter(|layer| layer["digest"] == digest);
    found.next().cloned().unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn finished(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

fn piped(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_of_the_kubelet_is_seen_with_its_pods_and_where_it_waits() {
    let stage = Stage::set("").await;
    let first = stage.kubelet("web", &stage.name);
    let held = stage.until_held();
    let second = stage.kubelet("shop", &stage.name);
    stage.until("two callers", |pulls| {
        pulls[0]["callers"]
            .as_array()
            .is_some_and(|callers| callers.len() == 2)
    });
    assert_eq!(held.len(), 1, "one pull for both: {held:#?}");
    assert_eq!(held[0]["state"], "fetching");
    assert_eq!(held[0]["callers"][0], "pod default/web");
    let big = layer(&held[0], &stage.big);
    assert_eq!(big["sizeBytes"], stage.image.layers[0].bytes.len());
    let url = format!(
        "http://{}/v2/app/blobs/{}",
        stage.registry.address(),
        stage.big
    );
    let waits = stage.until("silence", |pulls| {
        pulls[0]["waitsFor"][0]["silentMs"].as_u64() > Some(0)
    });
    assert_eq!(waits[0]["waitsFor"][0]["on"], url);

    stage.gate.open();
    for pull in [first, second] {
        assert_eq!(pull.await.unwrap().unwrap(), stage.image.id());
    }
    let done = stage.pulls();
    assert_eq!(done.len(), 1);
    assert_eq!(done[0]["state"], "done");
    assert_eq!(done[0]["outcome"], stage.image.id());
    let sum: usize = stage
        .image
        .layers
        .iter()
        .map(|layer| layer.bytes.len())
        .sum();
    assert_eq!(done[0]["fetchedBytes"], sum);
    let table = stage.command(&["pulls"]).output().unwrap();
    assert!(
        text(&table.stdout).contains("done "),
        "{}",
        text(&table.stdout)
    );
    stage.node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_another_pull_brings_is_shown_with_its_figures() {
    let stage = Stage::set("").await;
    let other = image("other");
    let other_name = stage.registry.push("other", "1", &other);
    let first = stage.kubelet("web", &stage.name);
    stage.until_held();
    let second = stage.kubelet("shop", &other_name);
    let seen = stage.until("the second one waits", |pulls| {
        pulls.len() == 2 && layer(&pulls[1], &stage.big)["waitsFor"]["on"].is_string()
    });
    let shared = layer(&seen[1], &stage.big);
    assert_eq!(
        (&shared["state"], &shared["fetchedBytes"]),
        (&json!("waiting"), &json!(HELD_AT))
    );
    let on = format!(
        "the pull of {}, which brings layer {}",
        stage.name, stage.big
    );
    assert_eq!(shared["waitsFor"]["on"], on);

    stage.gate.open();
    assert_eq!(first.await.unwrap().unwrap(), stage.image.id());
    assert_eq!(second.await.unwrap().unwrap(), other.id());
    let asked = |request: &&cricket_harness::http::Request| request.target.contains(&stage.big);
    assert_eq!(stage.registry.requests().iter().filter(asked).count(), 1);
    stage.node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_each_turn_is_a_line_and_the_id_is_the_output() {
    let stage = Stage::set("").await;
    stage.gate.open();
    let output = finished(piped(&mut stage.command(&["pull", &stage.name])));
    let (out, told) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert_eq!(out, format!("{}\n", stage.image.id()));
    assert!(
        told.contains(&format!("{}: done after", stage.name)),
        "{told}"
    );
    assert!(!told.contains('\x1b'), "{told:?}");

    let again = finished(piped(&mut stage.command(&["pull", "--quiet", &stage.name])));
    assert_eq!(
        (text(&again.stdout), text(&again.stderr)),
        (out, String::new())
    );

    let missing = stage.registry.name("nothing:1");
    let output = finished(piped(&mut stage.command(&["pull", &missing])));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"");
    let told = text(&output.stderr);
    let error = format!("cricket: pulling {missing}: ");
    assert!(
        told.contains(&error) && told.contains("not found"),
        "{told}"
    );
    let failed = stage.pulls();
    assert_eq!(failed[0]["state"], "failed");
    assert!(
        told.contains(failed[0]["outcome"].as_str().unwrap()),
        "{told} {failed:#?}"
    );
    stage.node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_each_layer_has_a_bar() {
    let stage = Stage::set("").await;
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = stage.command(&["pull", &stage.name]);
    command.stdout(Stdio::piped()).stderr(pty.slave);
    let child = command.spawn().unwrap();
    // its end of the terminal, which would keep it open
    drop(command);
    stage.until_held();
    let mut screen = File::from(pty.master);
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    let bar = format!("  {}", &stage.big[7..19]);
    while !(seen.contains(&bar) && seen.contains("fetching") && seen.contains("\x1b[")) {
        let count = screen.read(&mut buffer).unwrap();
        seen.push_str(&text(&buffer[..count]));
    }
    stage.gate.open();
    let rest = std::thread::spawn(move || {
        let mut rest = Vec::new();
        // EIO: the last one has closed the terminal
        drop(screen.read_to_end(&mut rest));
        text(&rest)
    });
    let output = finished(child);
    assert_eq!(text(&output.stdout), format!("{}\n", stage.image.id()));
    let rest = rest.join().unwrap();
    assert!(
        rest.ends_with("\x1b[J"),
        "nothing of the bars is left: {rest:?}"
    );
    stage.node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_pull_unless_somebody_else_wants_it() {
    let stage = Stage::set("").await;
    // Not SIGINT: where the tests run in the background of a shell, their children ignore that.
    let interrupt = |mut child: Child| {
        kill(
            Pid::from_raw(i32::try_from(child.id()).unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        child.wait().unwrap();
    };
    let alone = piped(&mut stage.command(&["pull", &stage.name]));
    stage.until_held();
    interrupt(alone);
    let seen = stage.until("cancelled", |pulls| pulls[0]["state"] == "cancelled");
    assert_eq!(seen[0]["outcome"], "the last caller went away");

    let first = piped(&mut stage.command(&["pull", &stage.name]));
    stage.until_held();
    let (cri, name) = (stage.node.cri.clone(), stage.name.clone());
    let second = tokio::spawn(async move { cri.pull(&name).await });
    stage.until("both", |pulls| pulls[0]["callers"][1] == "a CRI client");
    interrupt(first);
    stage.until("one left", |pulls| {
        pulls[0]["callers"] == json!(["a CRI client"])
    });
    stage.gate.open();
    assert_eq!(second.await.unwrap().unwrap(), stage.image.id());
    stage.node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_stalled_pull_names_the_url_that_was_silent() {
    let stage = Stage::set("pull_progress_timeout = \"1s\"\n").await;
    let url = format!(
        "http://{}/v2/app/blobs/{}",
        stage.registry.address(),
        stage.big
    );
    let error = stage.node.cri.pull(&stage.name).await.unwrap_err();
    let told = format!("{error:?}");
    assert!(
        told.contains(&format!("no data for 1s from {url}")),
        "{told}"
    );
    let table = stage.command(&["pulls"]).output().unwrap();
    assert!(
        text(&table.stdout).contains("no data for 1s from"),
        "{}",
        text(&table.stdout)
    );
    stage.node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_command_line() {
    let stage = Stage::set("").await;
    stage.gate.open();
    stage
        .registry
        .misbehave("/v2/", Fault::Basic("me:se:cret".into()));
    stage
        .registry
        .misbehave(&stage.big, Fault::Basic("me:se:cret".into()));
    let pull = |stage: &Stage, more: &[&str]| {
        let mut args = vec!["pull", "-q"];
        args.extend(more);
        args.push(&stage.name);
        finished(piped(&mut stage.command(&args)))
    };
    assert_eq!(pull(&stage, &[]).status.code(), Some(1));
    assert_eq!(
        pull(&stage, &["--creds", "me:wrong"]).status.code(),
        Some(1)
    );
    let good = pull(&stage, &["--creds", "me:se:cret"]);
    assert!(good.status.success(), "{}", text(&good.stderr));
    stage.node.cri.remove_image(&stage.name).await.unwrap();

    let host = stage.registry.address().to_string();
    let auth = json!({ "auths": { host: { "auth": "bWU6c2U6Y3JldA==" } } });
    let file = stage.node.dir().join("auth.json");
    std::fs::write(&file, auth.to_string()).unwrap();
    let good = pull(&stage, &["--authfile", file.to_str().unwrap()]);
    assert!(good.status.success(), "{}", text(&good.stderr));
    stage.registry.behave();
    stage.node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_another_pull_wants_comes_on_when_the_first_one_is_given_up() {
    let stage = Stage::set("").await;
    let other = image("other");
    let other_name = stage.registry.push("other", "1", &other);
    let mut first = piped(&mut stage.command(&["pull", &stage.name]));
    stage.until_held();
    let second = stage.kubelet("shop", &other_name);
    stage.until("the second one waits", |pulls| {
        pulls.len() == 2 && layer(&pulls[1], &stage.big)["waitsFor"]["on"].is_string()
    });
    let pid = Pid::from_raw(i32::try_from(first.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    first.wait().unwrap();
    let seen = stage.until("the first one is gone", |pulls| {
        pulls[1]["state"] == "cancelled"
    });
    let shared = layer(&seen[0], &stage.big);
    assert_eq!(
        shared["fetchedBytes"], HELD_AT,
        "not begun anew: {shared:#?}"
    );
    let on = shared["waitsFor"]["on"].as_str().unwrap();
    assert!(on.starts_with("a pull that was given up, "), "{on}");

    stage.gate.open();
    assert_eq!(second.await.unwrap().unwrap(), other.id());
    let asked = |request: &&cricket_harness::http::Request| request.target.contains(&stage.big);
    assert_eq!(stage.registry.requests().iter().filter(asked).count(), 1);
    let log = stage.node.daemon.log();
    assert!(log.contains("pull cancelled"), "{log}");
    stage.node.finish().await;
}
