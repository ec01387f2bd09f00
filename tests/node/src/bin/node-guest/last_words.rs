//! `last-words`: a workload and a static pod that say, when they are told to end, whether they
//! still have a network, and one that goes on speaking. What they said is read after the next boot.

use std::path::Path;

use cricket_harness::cri::Capability;
use cricket_harness::{Client, requests};

use crate::pods::said;
use crate::{Outcome, daemon, scopes};

const IMAGE: &str = "localhost/busybox:latest";
/// Below it the logs outlive a reboot.
const LOGS: &str = "/var/log/last-words";
/// The gateway of the pod network; it says that it is up only where asking the gateway works.
const SCRIPT: &str = "connected() { ping -c 1 -W 3 10.85.0.1; }
    trap 'connected && echo bye, connected || echo bye, cut off; exit 0' TERM
    until connected; do sleep 0.2; done
    echo up; while :; do sleep 0.2; done";

/// Hears that it is to end, and does not.
const STUBBORN: &str =
    "trap 'echo told to end' TERM; echo up; while :; do sleep 0.5; echo here; done";
/// The kubelet's annotation of a container: its pod's grace period.
const GRACE: (&str, &str) = ("io.kubernetes.pod.terminationGracePeriod", "5");

/// Who speaks.
struct Speaker {
    name: &'static str,
    /// Where the kubelet has the pod from.
    source: &'static str,
    /// Empty: whatever makes the cgroups has one.
    parent: String,
    script: &'static str,
}

/// Runs all; the image is there already (`pod up`).
pub async fn run() -> Outcome {
    let cri = daemon::connect().await?;
    let speakers = [
        ("static", "file", String::new(), SCRIPT),
        ("workload", "api", String::new(), SCRIPT),
        ("stubborn", "api", scopes::parent("stubborn"), STUBBORN),
    ];
    for (name, source, parent, script) in speakers {
        let speaker = Speaker {
            name,
            source,
            parent,
            script,
        };
        speaker.start(&cri).await?;
    }
    Ok(())
}

impl Speaker {
    async fn start(&self, cri: &Client) -> Outcome {
        let mut pod = requests::pod(self.name, &self.parent, Path::new(LOGS));
        let source = ("kubernetes.io/config.source", self.source);
        let text = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        pod.annotations.extend([text(source)]);
        let id = cri.run_pod(&pod).await.map_err(said("RunPodSandbox"))?;
        let mut container = requests::container(self.name, IMAGE, &["sh", "-c", self.script]);
        container.annotations.extend([text(GRACE)]);
        requests::security(&mut container).capabilities = Some(Capability {
            add_capabilities: vec!["NET_RAW".into()],
            ..Default::default()
        });
        let container = cri.create(&id, &container, &pod).await;
        let container = container.map_err(said("CreateContainer"))?;
        cri.start(&container).await.map_err(said("StartContainer"))
    }
}
