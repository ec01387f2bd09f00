//! CNI plugins that hang or are slow, for many pods at once, and a registry that stops sending:
//! what waits for them ends with an error that says so, and nothing else waits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use cricket_harness::cri::PodSandboxConfig;
use cricket_harness::faults::Row;
use cricket_harness::hostile::{Fault, Fixture};
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, leaks, meanwhile};
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;
use tonic::Status;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
/// How many pods a kubelet begins at once.
const PODS: usize = 20;

/// A plugin that hangs with a child of its own as long as there is a file `hang-ADD` or `hang-DEL`
/// in `dir`, is as slow with ADD as `slow` there says, and else gives an address that no other pod
/// has.
fn plugin(dir: &Path) -> String {
    format!(
        "#!/bin/sh\ncat > /dev/null\n\
         if [ -e {dir}/hang-$CNI_COMMAND ]; then\n\
         sleep 100000 & echo $CNI_COMMAND $$ >> {dir}/hanging; echo $CNI_COMMAND $! >> {dir}/hanging; wait\n\
         fi\n[ $CNI_COMMAND = ADD ] || exit 0\n\
         if [ -e {dir}/slow ]; then sleep $(cat {dir}/slow); fi\n\
         number=$(printf '%d' \"0x$(printf %.4s $CNI_CONTAINERID)\")\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.'$((number / 256))'.'$((number % 256))'.2/8\"}}]}}'\n",
        dir = dir.display()
    )
}

async fn node(dir: &Path, times: &str) -> Node {
    Node::start_with(CRICKET, |options| {
        let text = r#"{"cniVersion": "1.0.0", "name": "odd", "type": "odd"}"#;
        options.cni = Some(("10-odd.conf".into(), text.into()));
        options.plugins = vec![("odd".into(), plugin(dir))];
        options.network_config = times.into();
    })
    .await
}

/// The processes that have hung so far in this command.
fn hanging(dir: &Path, command: &str) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("hanging")).unwrap_or_default();
    let these = text
        .lines()
        .filter_map(|line| line.strip_prefix(command)?.trim().parse().ok());
    these.collect()
}

fn configs(node: &Node) -> Vec<PodSandboxConfig> {
    (0..PODS)
        .map(|number| node.pod_config(&format!("p{number}")))
        .collect()
}

fn run_all(node: &Node, configs: &[PodSandboxConfig]) -> Vec<JoinHandle<Result<String, Status>>> {
    let run = |config: &PodSandboxConfig| {
        let (cri, config) = (node.cri.clone(), config.clone());
        tokio::spawn(async move { cri.run_pod(&config).await })
    };
    configs.iter().map(run).collect()
}

/// Waits until the plugins of all pods run, and sees that all else goes on and that the daemon
/// names each plugin with its process.
async fn all_wait(node: &Node, image: &str) {
    let plugin = "CNI ADD of plugin `odd`, pid ";
    let each_waits = || {
        let mut waits = meanwhile::waits(node, "run sandbox");
        waits.retain(|what| what.starts_with(plugin));
        waits.sort();
        waits.dedup();
        waits.len() == PODS
    };
    node.until("a plugin runs for each pod", each_waits).await;
    meanwhile::reads(node).await;
    meanwhile::another_pod(node, "", image).await;
    meanwhile::reads(node).await;
}

#[tokio::test]
async fn a_plugin_that_never_returns_holds_up_its_own_pods_until_the_deadline() {
    let fault = "a CNI plugin never returns, for 20 pods";
    Row::repeat(fault, 3, async || {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let times = "cni_add_timeout = \"30s\"\ncni_del_timeout = \"3s\"";
        let mut node = node(dir, times).await;
        let image = node.busybox().await;
        fs::write(dir.join("hang-ADD"), "").unwrap();
        let configs = configs(&node);
        let calls = run_all(&node, &configs);
        all_wait(&node, &image).await;
        calls.iter().for_each(meanwhile::still_hangs);
        let file = node.dir().join("cni/bin/odd").display().to_string();
        for answer in join_all(calls).await {
            let status = answer.unwrap().expect_err("it hangs");
            for word in [&*file, "ADD", "process ", " s, so it was killed"] {
                assert!(status.message().contains(word), "no `{word}`: {status:?}");
            }
        }
        node.until("the plugins are gone", || {
            !hanging(dir, "ADD").iter().any(leaks::lives)
        })
        .await;
        assert_eq!(node.cri.pods().await.unwrap(), []);
        assert_eq!(node.left_behind(), Vec::<String>::new());

        fs::remove_file(dir.join("hang-ADD")).unwrap();
        let pod = node.cri.run_pod(&configs[0]).await.expect("mended");
        fs::write(dir.join("hang-DEL"), "").unwrap();
        let status = node.cri.stop_pod(&pod).await.expect_err("DEL hangs");
        for word in [&*file, "DEL", "process ", "within 3.0 s"] {
            assert!(status.message().contains(word), "no `{word}`: {status:?}");
        }
        assert_eq!(
            node.cri.pods().await.unwrap().len(),
            1,
            "it is listed still"
        );
        node.until("the plugins are gone", || {
            !hanging(dir, "DEL").iter().any(leaks::lives)
        })
        .await;
        fs::remove_file(dir.join("hang-DEL")).unwrap();
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_plugin_works_for_twenty_pods_at_once() {
    let fault = "a CNI plugin takes 60 s, for 20 pods at once";
    Row::repeat(fault, 3, async || {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let mut node = node(dir, "").await;
        let image = node.busybox().await;
        fs::write(dir.join("slow"), "60").unwrap();
        let calls = run_all(&node, &configs(&node));
        all_wait(&node, &image).await;
        calls.iter().for_each(meanwhile::still_hangs);
        for answer in join_all(calls).await {
            answer.unwrap().expect("slow is not wrong");
        }
        assert_eq!(node.cri.pods().await.unwrap().len(), PODS);
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_was_killed_under_a_hanging_plugin_serves_while_it_still_hangs() {
    let fault = "the daemon is killed while a CNI plugin hangs";
    Row::repeat(fault, 3, async || {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let mut node = node(dir, "cni_del_timeout = \"1h\"").await;
        for command in ["ADD", "DEL"] {
            fs::write(dir.join(format!("hang-{command}")), "").unwrap();
        }
        let config = node.pod_config("half");
        let (cri, wanted) = (node.cri.clone(), config.clone());
        let call = tokio::spawn(async move { cri.run_pod(&wanted).await });
        node.until("the plugin hangs", || hanging(dir, "ADD").len() == 2)
            .await;
        node.crash().await;
        call.await.unwrap().expect_err("nobody answers any more");
        // It serves, and DEL for what was half made hangs.
        meanwhile::reads(&node).await;
        node.until("DEL hangs", || hanging(dir, "DEL").len() == 2)
            .await;
        // The ADD that the dead daemon called does not go on beside it, and of two DELs only the later.
        assert!(!hanging(dir, "ADD").iter().any(leaks::lives));
        let first = hanging(dir, "DEL");
        assert!(first.iter().all(leaks::lives));
        node.crash().await;
        node.until("DEL hangs again", || hanging(dir, "DEL").len() == 4)
            .await;
        assert!(!first.iter().any(leaks::lives));
        for command in ["ADD", "DEL"] {
            fs::remove_file(dir.join(format!("hang-{command}"))).unwrap();
        }
        for pid in hanging(dir, "DEL") {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // The DEL that was killed has failed, so the pod is listed, and removing it works.
        let mut pods = Vec::new();
        while pods.is_empty() {
            pods = node.cri.pods().await.unwrap();
        }
        node.cri.stop_pod(&pods[0].id).await.unwrap();
        node.cri.remove_pod(&pods[0].id).await.unwrap();
        assert_eq!(node.left_behind(), Vec::<String>::new());
        node.cri.run_pod(&config).await.expect("the name is free");
        node.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_registry_that_stops_sending_holds_up_its_own_pull_alone() {
    let fault = "a registry stops sending";
    Row::repeat(fault, 3, async || {
        let mut node = Node::start_with(CRICKET, |options| {
            options.image_config = "pull_progress_timeout = \"30s\"".into();
        })
        .await;
        let image = node.busybox().await;
        let registry = Fixture::start(node.net(), 5001);
        let content: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        let silent = Image::builder()
            .layer(Layer::new().file("f", 0o644, &content), Compression::None)
            .build();
        let name = registry.push("silent", "1", &silent);
        let digest = silent.layers[0].digest.clone();
        registry.misbehave(&digest, Fault::Stall);
        let (cri, wanted) = (node.cri.clone(), name.clone());
        let call = tokio::spawn(async move { cri.pull(&wanted).await });
        let asked = || {
            let all = registry.requests();
            all.iter().any(|request| request.target.contains(&digest))
        };
        node.until("the layer is asked for", asked).await;
        meanwhile::reads(&node).await;
        meanwhile::other_pods(&node, "", &image, &call).await;
        meanwhile::reads(&node).await;
        let status = call.await.unwrap().expect_err("nothing comes");
        assert!(status.message().contains(&digest), "{status:?}");
        registry.behave();
        node.cri.pull(&name).await.expect("it sends again");
        node.finish().await;
    })
    .await;
}
