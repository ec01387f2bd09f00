//! A kill of the daemon on a full node: the time until it serves with everything listed, and whether
//! that takes an OCI runtime.
//!
//! On nodes of its own, because every call of the runtime is counted there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use cricket_harness::image::Compression;
use cricket_harness::layer::Layer;
use cricket_harness::{Image, Node, requests, samples};
use futures_util::future::join_all;

use crate::table::{Samples, Table};
use crate::target;

/// Running pods of the one node.
const PODS: usize = 100;
/// Ended containers of the other, in pods of ten.
const ENDED: usize = 1000;
const A_POD: usize = 10;
/// Its images.
const IMAGES: usize = 200;
/// How often the daemon is killed; the figures are of all.
const KILLS: usize = 7;
/// Pods that are made at a time.
const AT_ONCE: usize = 4;

/// Both nodes, one after the other.
pub async fn measure(table: &mut Table) {
    let mut node = Counted::start().await;
    let image = node.node.busybox().await;
    let pods: Vec<usize> = (0..PODS).collect();
    for some in pods.chunks(AT_ONCE) {
        let runs = some
            .iter()
            .map(|number| running(&node.node, &image, *number));
        join_all(runs).await;
    }
    node.kill(&format!("{PODS} running pods"), PODS, table)
        .await;
    node.node.finish().await;

    let mut node = Counted::start().await;
    let image = node.node.busybox().await;
    for number in 0..IMAGES {
        let text = format!("image {number}");
        let layer = Layer::new().file("text", 0o644, text.as_bytes());
        let built = Image::builder()
            .layer(samples::busybox_layer(), Compression::Gzip)
            .layer(layer, Compression::Gzip)
            .build();
        let name = node
            .node
            .registry()
            .push("many", &number.to_string(), &built);
        node.node.cri.pull(&name).await.unwrap();
    }
    let pods: Vec<usize> = (0..ENDED / A_POD).collect();
    for some in pods.chunks(AT_ONCE) {
        let runs = some.iter().map(|number| ended(&node.node, &image, *number));
        join_all(runs).await;
    }
    let what = format!("{ENDED} ended containers and {IMAGES} images");
    node.kill(&what, ENDED, table).await;
    node.node.finish().await;
}

async fn running(node: &Node, image: &str, number: usize) {
    let name = format!("full{number}");
    let _ids = node.run(&name, image, &["sleep", "100000"]).await;
}

async fn ended(node: &Node, image: &str, number: usize) {
    let config = node.pod_config(&format!("ended{number}"));
    let pod = node.cri.run_pod(&config).await.unwrap();
    for number in 0..A_POD {
        let container = requests::container(&format!("c{number}"), image, &["true"]);
        let id = node.run_in(&pod, &config, &container).await;
        node.cri.exited(&id).await;
    }
}

/// A node whose OCI runtime counts its calls.
struct Counted {
    node: Node,
    calls: tempfile::TempDir,
}

impl Counted {
    async fn start() -> Counted {
        let calls = tempfile::tempdir().unwrap();
        let node = Node::start_with(target::program(), |options| {
            let program = calls.path().join("counted-runtime");
            let (file, runc) = (calls.path().join("calls"), options.runtime.display());
            let text = format!(
                "#!/bin/sh\necho >> {}\nexec {runc} \"$@\"\n",
                file.display()
            );
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            options.runtime = program;
        });
        let node = node.await;
        Counted { node, calls }
    }

    fn calls(&self) -> usize {
        let text = fs::read_to_string(self.calls.path().join("calls"));
        text.map_or(0, |text| text.lines().count())
    }

    /// Kills the daemon with this much on the node, of which `count` containers are listed.
    async fn kill(&mut self, what: &str, count: usize, table: &mut Table) {
        // What the last exits have begun.
        let mut calls = 0;
        while self.calls() != calls {
            calls = self.calls();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut samples = Samples::default();
        for _ in 0..KILLS {
            self.node.daemon.kill();
            let begun = Instant::now();
            self.node.daemon.launch();
            self.node.reconnect().await;
            let listed = self.node.cri.containers().await.unwrap().len();
            samples.since(begun);
            assert_eq!(listed, count, "all containers are listed after the kill");
        }
        let called = self.calls() - calls;
        let spread = samples.spread();
        table.add(
            &format!("kill -9 with {what}"),
            format!("{spread} ({called} runtime calls)"),
        );
    }
}
