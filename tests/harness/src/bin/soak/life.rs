//! Lives of pods, one after the other, as a kubelet leads them: with commands, rotated logs, images that
//! come and go. A life that a kill cuts short is cleared up by the next calls, which must succeed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cricket_harness::client::Reply;
use cricket_harness::cri::{NamespaceMode, PodSandboxConfig};
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Client, Node, requests, samples};

use crate::Shared;
use crate::random::Random;

/// How often clearing up is tried, and how far apart: a daemon that was killed is back within seconds.
const TRIES: (u32, Duration) = (600, Duration::from_millis(100));
/// What containers do.
const COMMANDS: [&[&str]; 4] = [
    &["sleep", "1000"],
    &[
        "sh",
        "-c",
        "while true; do echo a line of output; usleep 10000; done",
    ],
    &[
        "sh",
        "-c",
        "trap 'exit 3' TERM; while true; do usleep 10000; done",
    ],
    &["true"],
];

/// What the lives are made of.
pub(crate) struct Lives {
    images: Vec<String>,
}

impl Lives {
    /// Pushes an image for each worker, and one for the witness. They share busybox' layer.
    pub(crate) async fn prepare(node: &mut Node, workers: u64) -> Self {
        let mut images = Vec::new();
        for number in 0..=workers {
            let own = format!("the layer of image {number}\n").repeat(20_000);
            let image = Image::builder()
                .layer(samples::busybox_layer(), Compression::Gzip)
                .layer(
                    Layer::new().file("own", 0o644, own.as_bytes()),
                    Compression::Gzip,
                )
                .build();
            let name = format!("soak-{number}");
            images.push(node.any_registry().push(&name, "latest", &image));
        }
        node.cri.pull(&images[0]).await.unwrap();
        Self { images }
    }

    /// The image of a worker, from 1 on; the witness' is 0.
    pub(crate) fn image(&self, number: usize) -> &str {
        &self.images[number]
    }

    pub(crate) fn worker(
        &self,
        number: u64,
        random: Random,
        node: &Node,
        shared: Arc<Shared>,
    ) -> Worker {
        let image = self.images[usize::try_from(number).unwrap() + 1].clone();
        let (cri, logs) = (node.cri.clone(), node.logs());
        let cgroup = node.cgroup();
        let config =
            move |name: &str| requests::pod(name, &format!("{cgroup}/pod-{number}"), &logs);
        Worker {
            number,
            image,
            random,
            cri,
            config: Box::new(config),
            shared,
        }
    }
}

pub(crate) struct Worker {
    number: u64,
    image: String,
    random: Random,
    cri: Client,
    config: Box<dyn Fn(&str) -> PodSandboxConfig + Send + Sync>,
    shared: Arc<Shared>,
}

impl Worker {
    /// Leads lives until it is over.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        for round in 0_u64.. {
            if shared.over.load(Ordering::SeqCst) {
                return;
            }
            let _living = shared.living.read().await;
            let chaos = shared.chaos.load(Ordering::SeqCst);
            let name = format!("soak-{}-{round}", self.number);
            let lived = Box::pin(self.life(&name)).await;
            shared.lives.fetch_add(1, Ordering::SeqCst);
            if let Err(error) = lived {
                assert!(chaos, "{name}: {error:?}, though nothing is killed");
                shared.failed.fetch_add(1, Ordering::SeqCst);
                self.clear(&name).await;
            }
            // Its log is the kubelet's, which removes it with the pod.
            let log = (self.config)(&name).log_directory;
            std::fs::remove_dir_all(log).unwrap();
        }
    }

    async fn life(&mut self, name: &str) -> Reply<()> {
        let mut config = (self.config)(name);
        let options = requests::pod_namespaces(&mut config);
        if self.random.once_in(4) {
            options.pid = NamespaceMode::Pod.into();
        }
        if self.random.once_in(4) {
            options.network = NamespaceMode::Node.into();
            config.hostname = String::new();
        }
        if self.cri.image(&self.image).await?.is_none() {
            self.cri.pull(&self.image).await?;
        }
        let pod = self.cri.run_pod(&config).await?;
        for number in 0..1 + self.random.below(2) {
            self.container(&pod, &config, number).await?;
        }
        if self.random.once_in(2) {
            self.cri.stop_pod(&pod).await?;
        }
        self.cri.remove_pod(&pod).await?;
        if self.random.once_in(4) {
            self.cri.remove_image(&self.image).await?;
        }
        Ok(())
    }

    async fn container(&mut self, pod: &str, config: &PodSandboxConfig, number: u64) -> Reply<()> {
        let which = usize::try_from(self.random.below(COMMANDS.len() as u64)).unwrap();
        let name = format!("c{number}");
        let asked = requests::container(&name, &self.image, COMMANDS[which]);
        let id = self.cri.create(pod, &asked, config).await?;
        if self.random.once_in(8) {
            // Never started: the pod's removal has to cope.
            return Ok(());
        }
        self.cri.start(&id).await?;
        if which + 1 < COMMANDS.len() {
            for _ in 0..self.random.below(3) {
                self.cri.exec(&id, &["echo", "a command"], 60).await?;
            }
            let log = Path::new(&config.log_directory).join(&name).join("0.log");
            if self.random.once_in(2) && std::fs::rename(&log, log.with_extension("old")).is_ok() {
                self.cri.reopen_log(&id).await?;
            }
        }
        if self.random.once_in(2) {
            let grace = i64::try_from(self.random.below(2)).unwrap();
            self.cri.stop(&id, grace).await?;
            self.cri.remove(&id).await?;
        }
        Ok(())
    }

    /// Removes what a kill has left of a life, as a kubelet would that has found it in the list.
    async fn clear(&self, name: &str) {
        let mut last = None;
        for _ in 0..TRIES.0 {
            match self.try_clear(name).await {
                Ok(()) => return,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(TRIES.1).await;
        }
        panic!("{name} cannot be removed: {last:?}");
    }

    async fn try_clear(&self, name: &str) -> Reply<()> {
        for pod in self.cri.pods().await? {
            if pod.metadata.is_some_and(|metadata| metadata.name == name) {
                self.cri.stop_pod(&pod.id).await?;
                self.cri.remove_pod(&pod.id).await?;
            }
        }
        Ok(())
    }
}
