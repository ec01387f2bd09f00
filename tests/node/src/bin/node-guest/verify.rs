//! What the daemon has made of a disk after a power cut, asked as a kubelet and an administrator
//! would, and by hashing every file of every image again. Prints what it found as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use cricket_harness::cri::{ContainerState, PodSandboxState};
use cricket_harness::{Client, requests};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::images::{self, COUNT};
use crate::ledger::Ledger;
use crate::pods::said;
use crate::{Outcome, daemon, scopes};

/// Where an image is saved to be hashed.
const SAVED: &str = "/var/tmp/saved";

/// Verifies, then uses the store once more and empties it.
pub async fn run(data: &str) -> Outcome {
    let since = Instant::now();
    let cri = daemon::connect().await?;
    let ledger = Ledger::open(data)?;
    let mut damaged = Vec::new();
    let mut present = Vec::new();
    let all = cri.images().await.map_err(said("ListImages"))?;
    for image in &all {
        present.extend(image.repo_tags.iter().cloned());
        if let Err(error) = verify(&image.id) {
            damaged.push(error);
        }
    }
    let verified = since.elapsed();
    let names = ledger.names();
    let lost: Vec<_> = names
        .iter()
        .filter(|name| !present.contains(name))
        .collect();
    let mut left = alive(&cri).await?;
    left.extend(daemon::left(data, &["containers", "staging", "trash", "quarantine"]).await);
    let swept = since.elapsed();
    // All of them are removed now.
    for name in &names {
        ledger.remove(name)?;
    }
    let mut unusable = Vec::new();
    if let Err(error) = reuse(&cri, data).await {
        unusable.push(error);
    }
    left.extend(
        daemon::left(
            data,
            &["containers", "images", "layers", "staging", "trash"],
        )
        .await,
    );
    left.sort();
    left.dedup();
    let seconds = [verified, swept, since.elapsed()].map(|time| time.as_secs());
    let found = json!({
        "images": all.len(), "certain": names.len(), "lost": lost, "damaged": damaged,
        "left": left, "unusable": unusable,
        "seconds": seconds,
    });
    println!("{found}");
    Ok(())
}

/// Pods that are ready and containers that run, though nothing can.
async fn alive(cri: &Client) -> Outcome<Vec<String>> {
    let pods = cri.pods().await.map_err(said("ListPodSandbox"))?;
    let containers = cri.containers().await.map_err(said("ListContainers"))?;
    let ready = i32::from(PodSandboxState::SandboxReady);
    let running = i32::from(ContainerState::ContainerRunning);
    let pods = pods.into_iter().filter(|pod| pod.state == ready);
    let containers = containers.into_iter().filter(|one| one.state == running);
    Ok(pods
        .map(|pod| format!("ready pod {}", pod.id))
        .chain(containers.map(|one| format!("running container {}", one.id)))
        .collect())
}

/// Has `cricket save` make each layer's tar again from the files, and compares all digests: those
/// of the layers with the image's configuration, that one's with the image's id.
fn verify(id: &str) -> Outcome {
    // Of the image before.
    drop(std::fs::remove_dir_all(SAVED));
    let arguments = ["save", "--format", "oci-dir", "-o", SAVED, id];
    let output = std::process::Command::new("cricket")
        .args(arguments)
        .output();
    let output = output.map_err(|error| format!("cricket save: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("image {id}: {text}"));
    }
    let blobs = Path::new(SAVED).join("blobs/sha256");
    let mut content = BTreeMap::new();
    let entries = std::fs::read_dir(&blobs).map_err(|error| error.to_string())?;
    for entry in entries.flatten() {
        let bytes = std::fs::read(entry.path()).map_err(|error| error.to_string())?;
        let digest = hex::encode(Sha256::digest(&bytes));
        if entry.file_name().to_string_lossy() != digest {
            return Err(format!(
                "image {id}: blob {:?} is {digest}",
                entry.file_name()
            ));
        }
        content.insert(digest, bytes);
    }
    let config = content.get(id);
    let config = config.ok_or(format!(
        "image {id}: its configuration is not in what was saved"
    ))?;
    let config: Value = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    let layers = config["rootfs"]["diff_ids"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if layers.is_empty() {
        return Err(format!("image {id}: its configuration names no layers"));
    }
    for layer in &layers {
        let digest = layer
            .as_str()
            .unwrap_or_default()
            .trim_start_matches("sha256:");
        if !content.contains_key(digest) {
            return Err(format!("image {id}: layer {layer} is not what it was"));
        }
    }
    Ok(())
}

/// All images can be pulled, a container runs of one, and everything can be removed.
async fn reuse(cri: &Client, data: &str) -> Outcome {
    for number in 0..COUNT {
        let name = images::name(number);
        cri.pull(&name)
            .await
            .map_err(said(&format!("pull {name}")))?;
    }
    let config = requests::pod(
        "after",
        &scopes::parent("after"),
        &Path::new(data).join("log"),
    );
    let pod = cri.run_pod(&config).await.map_err(said("RunPodSandbox"))?;
    let command = ["sh", "-c", "exec sleep 10000"];
    let container = requests::container("main", &images::name(COUNT - 1), &command);
    let container = cri.create(&pod, &container, &config).await;
    let container = container.map_err(said("CreateContainer"))?;
    cri.start(&container)
        .await
        .map_err(said("StartContainer"))?;
    cri.remove_pod(&pod)
        .await
        .map_err(said("RemovePodSandbox"))?;
    for image in cri.images().await.map_err(said("ListImages"))? {
        cri.remove_image(&image.id)
            .await
            .map_err(said("RemoveImage"))?;
    }
    Ok(())
}
