//! Reads while all hangs at once that can: a CNI plugin for as many pods as a kubelet begins at once,
//! the OCI runtime in create and in exec, a dead file system, a registry.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use cricket_harness::client::Reply;
use cricket_harness::cri::{NamespaceMode, PodSandboxConfig};
use cricket_harness::daemon::Options;
use cricket_harness::fuse::DeadFs;
use cricket_harness::hostile::{Fault, Fixture};
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Client, Node, requests};
use tokio::task::JoinHandle;

use crate::table::{Samples, Table};
use crate::target;

/// Pods that hang, and pods that run beside them.
const HANGING: usize = 20;
const RUNNING: usize = 20;
/// Creations and commands that hang in the OCI runtime, of each so many.
const CALLS: usize = 5;
/// How often each read is made.
const ROUNDS: usize = 300;
/// What a read may take at most in 99 of 100 calls, in milliseconds.
const BOUND: f64 = 10.0;

/// On a node of its own; the reads that took longer than they may are returned.
pub async fn measure(table: &mut Table) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut node = Node::start_with(target::program(), |options| configure(dir, options)).await;
    let image = node.busybox().await;
    for number in 0..RUNNING {
        let (pod, config) = pod(&node, &format!("running{number}"), "").await;
        let container = requests::container("main", &image, &["sleep", "100000"]);
        node.run_in(&pod, &config, &container).await;
    }
    let place = tempfile::tempdir().unwrap();
    let mut dead = DeadFs::mount(place.path());
    let registry = Fixture::start(node.net(), 5001);
    let calls = hang(&node, &image, dir, (&dead, place.path()), &registry).await;
    let missed = reads(&node.cri, table).await;
    let hang = calls.iter().filter(|call| !call.is_finished()).count();
    assert_eq!(hang, calls.len(), "everything still hangs after the reads");
    fs::remove_file(dir.join("hang")).unwrap();
    dead.end();
    drop(dead);
    // What the dead file system and the registry held up fails.
    let mut came_off = 0;
    for call in calls {
        came_off += usize::from(call.await.unwrap());
    }
    assert_eq!(came_off, HANGING + 2 * CALLS, "all others come off");
    node.finish().await;
    missed
}

/// A plugin that waits, with ADD, as long as there is a file `hang`, and a runtime that does so with
/// create and exec; each notes in `begun` that it waits.
fn configure(dir: &Path, options: &mut Options) {
    let wait = format!(
        "echo >> {dir}/begun; while [ -e {dir}/hang ]; do sleep 1; done",
        dir = dir.display()
    );
    let plugin = format!(
        "#!/bin/sh\ncat > /dev/null\n[ $CNI_COMMAND = ADD ] || exit 0\n{wait}\n\
         number=$(printf '%d' \"0x$(printf %.4s $CNI_CONTAINERID)\")\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.'$((number / 256))'.'$((number % 256))'.2/8\"}}]}}'\n",
    );
    let text = r#"{"cniVersion": "1.0.0", "name": "hangs", "type": "hangs"}"#;
    options.cni = Some(("10-hangs.conf".into(), text.into()));
    options.plugins = vec![("hangs".into(), plugin)];
    let runtime = dir.join("runtime");
    let script = format!(
        "#!/bin/sh\nif [ -e {dir}/hang ]; then for word; do case $word in create|exec) {wait};; esac; done; fi\n\
         exec {runc} \"$@\"\n",
        dir = dir.display(),
        runc = options.runtime.display(),
    );
    fs::write(&runtime, script).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    options.extra_config = format!(
        "[crio.runtime.runtimes.hanging]\nruntime_path = \"{}\"\nruntime_root = \"{}/state\"\n\
         monitor_cgroup = \"pod\"\ncontainer_create_timeout = 240\n",
        runtime.display(),
        dir.display(),
    );
    options.runtime_config =
        "runtime_call_timeout = \"240s\"\nmount_source_timeout = \"240s\"".into();
    options.image_config = "pull_progress_timeout = \"60s\"".into();
}

/// A pod on the node's network.
async fn pod(node: &Node, name: &str, handler: &str) -> (String, PodSandboxConfig) {
    let mut config = node.pod_config(name);
    requests::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
    let pod = node.cri.run_pod_with(&config, handler).await.unwrap();
    (pod, config)
}

/// Begins all calls, each of which says whether it came off, and waits until they hang.
async fn hang(
    node: &Node,
    image: &str,
    dir: &Path,
    (dead, place): (&DeadFs, &Path),
    registry: &Fixture,
) -> Vec<JoinHandle<bool>> {
    let (sandbox, config) = pod(node, "slow", "hanging").await;
    let main = requests::container("main", image, &["sleep", "100000"]);
    let running = node.run_in(&sandbox, &config, &main).await;
    let silent = Image::builder()
        .layer(
            Layer::new().file("f", 0o644, &[7; 1 << 20]),
            Compression::None,
        )
        .build();
    let silent_name = registry.push("silent", "1", &silent);
    let layer = silent.layers[0].digest.clone();
    registry.misbehave(&layer, Fault::Stall);
    dead.stop();
    fs::write(dir.join("hang"), "").unwrap();

    let mut calls = Vec::new();
    for number in 0..HANGING {
        let (cri, config) = (node.cri.clone(), node.pod_config(&format!("hangs{number}")));
        calls.push(tokio::spawn(
            async move { cri.run_pod(&config).await.is_ok() },
        ));
    }
    for number in 0..CALLS {
        let (cri, pod, config) = (node.cri.clone(), sandbox.clone(), config.clone());
        let one = requests::container(&format!("slow{number}"), image, &["sleep", "100000"]);
        calls.push(tokio::spawn(async move {
            Box::pin(cri.create(&pod, &one, &config)).await.is_ok()
        }));
        let (cri, id) = (node.cri.clone(), running.clone());
        calls.push(tokio::spawn(async move {
            cri.exec(&id, &["true"], 0).await.is_ok()
        }));
    }
    let (cri, pod, config) = (node.cri.clone(), sandbox.clone(), config.clone());
    let mut one = requests::container("dead", image, &["sleep", "100000"]);
    let source = place.join("sub");
    one.mounts.push(requests::mount(&source, "/data", false));
    calls.push(tokio::spawn(async move {
        Box::pin(cri.create(&pod, &one, &config)).await.is_ok()
    }));
    let cri = node.cri.clone();
    calls.push(tokio::spawn(
        async move { cri.pull(&silent_name).await.is_ok() },
    ));

    let begun = || fs::read_to_string(dir.join("begun")).unwrap_or_default();
    let is_asked = || {
        let all = registry.requests();
        all.iter().any(|request| request.target.contains(&layer))
    };
    node.until("all of them hang", || {
        begun().lines().count() == HANGING + 2 * CALLS && is_asked()
    })
    .await;
    calls
}

async fn reads(cri: &Client, table: &mut Table) -> Vec<String> {
    let pod = cri.pods().await.unwrap().remove(0).id;
    let container = cri.containers().await.unwrap().remove(0).id;
    let mut missed = Vec::new();
    let mut row = |call: &str, samples: Samples| {
        let what = format!(
            "{call} while {HANGING} pods and {} calls hang",
            2 * CALLS + 2
        );
        table.add(&what, samples.fine_spread());
        if samples.percentile(99) > BOUND {
            missed.push(format!("{what}: p99 under {BOUND} ms"));
        }
    };
    row(
        "Version",
        repeated(|| cri.version(Default::default())).await,
    );
    row("Status", repeated(|| cri.status(Default::default())).await);
    row("ListPodSandbox", repeated(|| cri.pods()).await);
    row("PodSandboxStatus", repeated(|| cri.pod(&pod)).await);
    row("ListContainers", repeated(|| cri.containers()).await);
    row(
        "ContainerStatus",
        repeated(|| cri.container(&container)).await,
    );
    let stats = || cri.list_container_stats(Default::default());
    row("ListContainerStats", repeated(stats).await);
    row("ListImages", repeated(|| cri.images()).await);
    let space = || cri.image_fs_info(Default::default());
    row("ImageFsInfo", repeated(space).await);
    missed
}

async fn repeated<T, F: Future<Output = Reply<T>>>(call: impl Fn() -> F) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        call().await.unwrap();
        samples.since(begun);
    }
    samples
}
