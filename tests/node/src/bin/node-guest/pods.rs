//! `pod up|check|gone|down`: pods for the short test, as a kubelet has them.

use std::path::Path;

use cricket_harness::archive::docker_save;
use cricket_harness::cri::{ContainerState, NamespaceMode, PodSandboxState};
use cricket_harness::{Client, requests, samples};
use serde::{Deserialize, Serialize};

use crate::{Outcome, daemon, scopes, units};

/// The image of all of them.
pub const IMAGE: &str = "localhost/busybox:latest";
/// Where they write.
pub const LOGS: &str = "/var/log/pods";

/// One pod with one container, told from `up` to the other verbs.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    pod: String,
    container: String,
    /// A word that this run of the container has made up.
    mark: String,
    /// The pod's, as systemd calls it.
    slice: String,
}

/// Runs one of the verbs.
pub async fn run(words: &[&str]) -> Outcome {
    let cri = daemon::connect().await?;
    let told = |text: &str| {
        serde_json::from_str::<Vec<Told>>(text).map_err(|error| format!("{text}: {error}"))
    };
    match words {
        ["up"] => up(&cri).await,
        ["check", text] => check(&cri, &told(text)?).await,
        ["gone", text, data] => gone(&cri, &told(text)?, data).await,
        ["down", text, data] => down(&cri, &told(text)?, data).await,
        _ => Err(format!("pod: not understood: {words:?}")),
    }
}

/// Loads [`IMAGE`], if it is not there.
pub async fn image(cri: &Client) -> Outcome {
    let image = cri.image(IMAGE).await.map_err(said("ImageStatus"))?;
    if image.is_none() {
        let file = Path::new("/var/tmp/busybox.tar");
        std::fs::write(file, docker_save(&[(samples::busybox(), &[IMAGE])]))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        cri.load(file).await.map_err(said("load"))?;
    }
    Ok(())
}

async fn up(cri: &Client) -> Outcome {
    image(cri).await?;
    let mut all = Vec::new();
    for (name, mode) in [
        ("own", NamespaceMode::Container),
        ("shared", NamespaceMode::Pod),
    ] {
        let mut pod = requests::pod(name, &scopes::parent(name), Path::new(LOGS));
        requests::pod_namespaces(&mut pod).pid = mode.into();
        let script = "cat /proc/sys/kernel/random/uuid >/mark; exec sleep 100000";
        let mut container = requests::container("main", IMAGE, &["sh", "-c", script]);
        requests::resources(&mut container).memory_limit_in_bytes = 64 << 20;
        if let Some(options) = &mut requests::security(&mut container).namespace_options {
            options.pid = mode.into();
        }
        let id = cri.run_pod(&pod).await.map_err(said("RunPodSandbox"))?;
        let container = cri.create(&id, &container, &pod).await;
        let container = container.map_err(said("CreateContainer"))?;
        cri.start(&container)
            .await
            .map_err(said("StartContainer"))?;
        let mark = exec(
            cri,
            &container,
            "until [ -s /mark ]; do sleep 0.1; done; cat /mark",
        )
        .await?;
        let limit = exec(cri, &container, "cat /sys/fs/cgroup/memory.max").await?;
        if limit.trim() != (64 << 20).to_string() {
            return Err(format!("{name}: memory.max is {limit:?}"));
        }
        all.push(Told {
            pod: id,
            container,
            mark,
            slice: scopes::slice(name),
        });
    }
    println!(
        "{}",
        serde_json::to_string(&all).map_err(|error| error.to_string())?
    );
    Ok(())
}

async fn check(cri: &Client, all: &[Told]) -> Outcome {
    for told in all {
        let pod = cri.pod(&told.pod).await.map_err(said("PodSandboxStatus"))?;
        if pod.state != i32::from(PodSandboxState::SandboxReady) {
            return Err(format!("pod {} is not ready", told.pod));
        }
        let container = cri.container(&told.container).await;
        let container = container.map_err(said("ContainerStatus"))?;
        if container.state != i32::from(ContainerState::ContainerRunning) {
            return Err(format!("container {}: {container:?}", told.container));
        }
        let mark = exec(cri, &told.container, "cat /mark").await?;
        if mark != told.mark {
            return Err(format!("container {} is another one now", told.container));
        }
        let scope = format!("crio-{}.scope", told.container);
        let slice = units::property(&scope, "Slice")?;
        if slice != told.slice {
            let wanted = &told.slice;
            return Err(format!("{scope} is in {slice:?} instead of {wanted:?}"));
        }
        units::processes(&scope)?;
    }
    Ok(())
}

/// After a reboot: a kubelet sees the pods as gone or not ready and makes new ones.
async fn gone(cri: &Client, all: &[Told], data: &str) -> Outcome {
    for pod in cri.pods().await.map_err(said("ListPodSandbox"))? {
        if pod.state == i32::from(PodSandboxState::SandboxReady) {
            return Err(format!("pod {} is ready after a reboot", pod.id));
        }
    }
    for container in cri.containers().await.map_err(said("ListContainers"))? {
        if container.state == i32::from(ContainerState::ContainerRunning) {
            return Err(format!("container {} runs after a reboot", container.id));
        }
    }
    if cri
        .image(IMAGE)
        .await
        .map_err(said("ImageStatus"))?
        .is_none()
    {
        return Err(format!("{IMAGE} is gone after a reboot"));
    }
    for told in all {
        // A kubelet removes what it knew; for what is gone that is no error.
        cri.stop_pod(&told.pod)
            .await
            .map_err(said("StopPodSandbox"))?;
        cri.remove_pod(&told.pod)
            .await
            .map_err(said("RemovePodSandbox"))?;
    }
    nothing_left(all, data).await
}

async fn down(cri: &Client, all: &[Told], data: &str) -> Outcome {
    for told in all {
        cri.stop_pod(&told.pod)
            .await
            .map_err(said("StopPodSandbox"))?;
        cri.remove_pod(&told.pod)
            .await
            .map_err(said("RemovePodSandbox"))?;
    }
    nothing_left(all, data).await
}

async fn nothing_left(all: &[Told], data: &str) -> Outcome {
    let mut left = daemon::left(data, &["containers", "staging", "trash", "quarantine"]).await;
    let ids: Vec<String> = all
        .iter()
        .flat_map(|told| [told.pod.clone(), told.container.clone()])
        .collect();
    left.extend(daemon::left_in_kernel(&ids));
    if left.is_empty() {
        return Ok(());
    }
    Err(format!("left behind: {}", left.join(" ")))
}

/// What a shell's script in a container writes; it must succeed.
pub async fn exec(cri: &Client, container: &str, script: &str) -> Outcome<String> {
    let reply = cri.exec(container, &["sh", "-c", script], 60).await;
    let reply = reply.map_err(said("ExecSync"))?;
    if reply.exit_code != 0 {
        let text = String::from_utf8_lossy(&reply.stderr).into_owned();
        return Err(format!("{script}: exit {}: {text}", reply.exit_code));
    }
    Ok(String::from_utf8_lossy(&reply.stdout).into_owned())
}

/// For `map_err`: which call failed, in the daemon's own words.
pub fn said<E: std::fmt::Debug>(call: &str) -> impl FnOnce(E) -> String {
    let call = call.to_owned();
    move |error| format!("{call}: {error:?}")
}
