//! The `annotations` section: what tools read from a bundle.
//!
//! Kata and gVisor learn here whether they start a pod or a container in one, cAdvisor, Falco and
//! the like whose it is. The keys are those of CRI-O, whose place we take. The container's own
//! annotations and its pod's come along, except those that are ours to set, and those by which
//! the node or an OCI runtime is told to do things: a pod's author must not, unless `allowed` says
//! so.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::inputs::{Inputs, PauseInputs, Pod};

mod allowed;
mod asked;
mod scope;

pub use allowed::{effective, idle_annotations, idle_entries, pointless};
pub use asked::{cgroup_rw, check_userns, shm_bytes, skips_labelled, umask, unified};
pub use scope::GRACE;

/// The prefix of all keys of ours.
const PREFIX: &str = "io.kubernetes.cri-o.";

/// Keys of ours (without prefix) that nobody else may set. Others with the prefix are a pod's
/// requests to the runtime and pass.
const OURS: [&str; 33] = [
    "Annotations",
    "CNIResult",
    "CgroupParent",
    "ContainerID",
    "ContainerName",
    "ContainerType",
    "Created",
    "HostName",
    "HostNetwork",
    "HostnamePath",
    "IP",
    "Image",
    "ImageName",
    "ImageRef",
    "ImageRepoDigests",
    "KubeName",
    "Labels",
    "LogPath",
    "Metadata",
    "MountPoint",
    "Name",
    "Namespace",
    "NamespaceOptions",
    "PortMappings",
    "PrivilegedRuntime",
    "ResolvPath",
    "RuntimeHandler",
    "SandboxID",
    "SandboxName",
    "SeccompProfilePath",
    "ShmPath",
    "Stdin",
    "StdinOnce",
];

/// Whether it is not ours to set.
fn is_foreign(key: &str) -> bool {
    if key == "io.container.manager" {
        return false;
    }
    match key.strip_prefix(PREFIX) {
        None => true,
        Some("TTY" | "Volumes") => false,
        Some(rest) => !OURS.contains(&rest) && !rest.starts_with("IP."),
    }
}

/// A growing set of annotations.
struct Notes(HashMap<String, String>);

impl Notes {
    fn set(&mut self, key: &str, value: impl ToString) {
        self.0.insert(format!("{PREFIX}{key}"), value.to_string());
    }

    fn pod(&mut self, pod: &Pod, created: &str) {
        self.set("SandboxID", &pod.id);
        self.set("SandboxName", &pod.full_name);
        self.set("KubeName", &pod.name);
        self.set("Namespace", &pod.namespace);
        self.set("HostName", &pod.hostname);
        self.set("HostNetwork", pod.netns.is_none());
        self.set("Created", created);
        for (index, ip) in pod.ips.iter().enumerate() {
            self.set(&format!("IP.{index}"), ip);
        }
        let files = [
            ("ResolvPath", &pod.files.resolv_conf),
            ("HostnamePath", &pod.files.hostname),
        ];
        for (key, path) in files.into_iter().chain([("ShmPath", &pod.files.shm)]) {
            if let Some(path) = path {
                self.set(key, path.display());
            }
        }
        if let Some(result) = &pod.cni_result {
            self.set("CNIResult", result);
        }
        self.0
            .insert("io.container.manager".to_owned(), "cri-o".to_owned());
    }
}

pub(super) fn container(inputs: &Inputs) -> HashMap<String, String> {
    let config = inputs.config;
    let passing =
        |(key, _): &(&String, &String)| allowed::passes(key, &inputs.pod.allowed_annotations);
    let own = config.annotations.iter().filter(passing);
    // what both say the container says
    let theirs = inputs.pod.annotations.iter().chain(own);
    let theirs = theirs.filter(|(key, _)| is_foreign(key));
    let mut notes = Notes(
        theirs
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    );
    notes.pod(inputs.pod, inputs.created);
    notes.set("ContainerType", "container");
    notes.set("ContainerID", inputs.id);
    notes.set("ContainerName", inputs.name);
    notes.set("Name", inputs.name);
    notes.set(
        "Metadata",
        json!({ "name": config.name, "attempt": config.attempt }),
    );
    let requested = match config.image.user_specified_image.as_str() {
        "" => &config.image.image,
        named => named,
    };
    notes.set("Image", requested);
    notes.set("ImageName", &inputs.image.name);
    notes.set("ImageRef", &inputs.image.reference);
    notes.set("MountPoint", inputs.root.display());
    notes.set("TTY", config.tty);
    notes.set("Stdin", config.stdin);
    notes.set("StdinOnce", config.stdin_once);
    notes.set(
        "LogPath",
        inputs
            .log_path
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
    );
    notes.set("Labels", text(&config.labels));
    notes.set("Annotations", text(&config.annotations));
    notes.set("Volumes", volumes(inputs));
    for (property, value) in scope::properties(inputs.cgroups_path, &config.annotations) {
        // Who may ask for another value has it.
        notes.0.entry(property).or_insert(value);
    }
    notes.0
}

pub(super) fn pause(inputs: &PauseInputs) -> HashMap<String, String> {
    let mut notes = Notes(HashMap::new());
    notes.pod(inputs.pod, inputs.created);
    notes.set("ContainerType", "sandbox");
    notes.set("ContainerID", &inputs.pod.id);
    notes.set("ContainerName", &inputs.pod.full_name);
    notes.set("Name", &inputs.pod.full_name);
    notes.set("MountPoint", inputs.root.display());
    notes.0
}

fn text(map: &BTreeMap<String, String>) -> String {
    json!(map).to_string()
}

fn volumes(inputs: &Inputs) -> String {
    let volume = |mount: &super::config::Mount| {
        json!({
            "container_path": mount.container_path,
            "host_path": mount.host_path,
            "readonly": mount.readonly,
        })
    };
    json!(inputs.config.mounts.iter().map(volume).collect::<Vec<_>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_author_does_not_set_our_keys() {
        for (key, foreign) in [
            ("example.com/x", true),
            ("io.kubernetes.cri-o.userns-mode", true),
            ("io.kubernetes.container.hash", true),
            ("io.kubernetes.cri-o.SandboxID", false),
            ("io.kubernetes.cri-o.IP.3", false),
            ("io.kubernetes.cri-o.TTY", false),
            ("io.container.manager", false),
        ] {
            assert_eq!(is_foreign(key), foreign, "{key}");
        }
    }
}
