//! `last-words`: a workload and a static pod that say, when they are told to end, whether they
//! still have a network. What they said is read after the next boot.

use std::path::Path;

use cricket_harness::cri::Capability;
use cricket_harness::requests;

use crate::pods::said;
use crate::{Outcome, daemon};

const IMAGE: &str = "localhost/busybox:latest";
/// Below it the logs outlive a reboot.
const LOGS: &str = "/var/log/last-words";
/// The gateway of the pod network; it says that it is up only where asking the gateway works.
const SCRIPT: &str = "connected() { ping -c 1 -W 3 10.85.0.1; }
    trap 'connected && echo bye, connected || echo bye, cut off; exit 0' TERM
    until connected; do sleep 0.2; done
    echo up; while :; do sleep 0.2; done";

/// Runs both; the image is there already (`pod up`).
pub async fn run() -> Outcome {
    let cri = daemon::connect().await?;
    for (name, source) in [("static", "file"), ("workload", "api")] {
        // No parent: whatever makes the cgroups has one.
        let mut pod = requests::pod(name, "", Path::new(LOGS));
        let annotation = ("kubernetes.io/config.source".to_owned(), source.to_owned());
        pod.annotations.extend([annotation]);
        let id = cri.run_pod(&pod).await.map_err(said("RunPodSandbox"))?;
        let mut container = requests::container(name, IMAGE, &["sh", "-c", SCRIPT]);
        requests::security(&mut container).capabilities = Some(Capability {
            add_capabilities: vec!["NET_RAW".into()],
            ..Default::default()
        });
        let container = cri.create(&id, &container, &pod).await;
        let container = container.map_err(said("CreateContainer"))?;
        let started = cri.start(&container).await;
        started.map_err(said("StartContainer"))?;
    }
    Ok(())
}
