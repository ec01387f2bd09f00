//! Reads while a CNI plugin hangs for as many pods as a kubelet begins at once.

use std::fs;
use std::path::Path;
use std::time::Instant;

use cricket_harness::client::Reply;
use cricket_harness::cri::NamespaceMode;
use cricket_harness::{Client, Node, requests};

use crate::table::{Samples, Table};
use crate::target;

/// Pods that hang, and pods that run beside them.
const HANGING: usize = 20;
const RUNNING: usize = 20;
/// How often each read is made.
const ROUNDS: usize = 300;
/// What a read may take at most in 99 of 100 calls, in milliseconds.
const BOUND: f64 = 10.0;

/// On a node of its own; the reads that took longer than they may are returned.
pub async fn measure(table: &mut Table) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let mut node = start(scratch.path()).await;
    let image = node.busybox().await;
    for number in 0..RUNNING {
        let mut config = node.pod_config(&format!("running{number}"));
        requests::pod_namespaces(&mut config).network = NamespaceMode::Node.into();
        let pod = node.cri.run_pod(&config).await.unwrap();
        let container = requests::container("main", &image, &["sleep", "100000"]);
        node.run_in(&pod, &config, &container).await;
    }
    let calls: Vec<_> = (0..HANGING)
        .map(|number| {
            let (cri, config) = (node.cri.clone(), node.pod_config(&format!("hangs{number}")));
            tokio::spawn(async move { cri.run_pod(&config).await })
        })
        .collect();
    let begun = || fs::read_to_string(scratch.path().join("begun")).unwrap_or_default();
    node.until("the plugin hangs for all pods", || {
        begun().lines().count() == HANGING
    })
    .await;
    let missed = reads(&node.cri, table).await;
    let hang = calls.iter().filter(|call| !call.is_finished()).count();
    assert_eq!(hang, HANGING, "all pods still hang after the reads");
    fs::remove_file(scratch.path().join("hang")).unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    node.finish().await;
    missed
}

/// A node whose one plugin waits, with ADD, as long as there is a file `hang`.
async fn start(dir: &Path) -> Node {
    fs::write(dir.join("hang"), "").unwrap();
    let plugin = format!(
        "#!/bin/sh\ncat > /dev/null\n[ $CNI_COMMAND = ADD ] || exit 0\n\
         echo >> {dir}/begun\nwhile [ -e {dir}/hang ]; do sleep 1; done\n\
         number=$(printf '%d' \"0x$(printf %.4s $CNI_CONTAINERID)\")\n\
         echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"10.'$((number / 256))'.'$((number % 256))'.2/8\"}}]}}'\n",
        dir = dir.display()
    );
    Node::start_with(target::program(), |options| {
        let text = r#"{"cniVersion": "1.0.0", "name": "hangs", "type": "hangs"}"#;
        options.cni = Some(("10-hangs.conf".into(), text.into()));
        options.plugins = vec![("hangs".into(), plugin)];
    })
    .await
}

async fn reads(cri: &Client, table: &mut Table) -> Vec<String> {
    let pod = cri.pods().await.unwrap().remove(0).id;
    let container = cri.containers().await.unwrap().remove(0).id;
    let mut missed = Vec::new();
    let mut row = |call: &str, samples: Samples| {
        let what = format!("{call} while {HANGING} pods hang in CNI");
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
