//! Requests as a kubelet fills them: labels, annotations, log paths, namespace options.

use std::collections::BTreeMap;
use std::path::Path;

use crate::client;
use crate::cri::*;

/// A pod named `name` in its own network, PID namespace per container, as a kubelet asks.
pub fn pod(name: &str, cgroup_parent: &str, logs: &Path) -> PodSandboxConfig {
    let uid = format!("uid-{name}");
    let log_directory = logs.join(format!("default_{name}_{uid}"));
    std::fs::create_dir_all(&log_directory).unwrap();
    let options = NamespaceOption {
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: uid.clone(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: log_directory.to_string_lossy().into_owned(),
        labels: BTreeMap::from([
            ("io.kubernetes.pod.name".into(), name.into()),
            ("io.kubernetes.pod.namespace".into(), "default".into()),
            ("io.kubernetes.pod.uid".into(), uid),
        ]),
        annotations: BTreeMap::from([("kubernetes.io/config.source".into(), "api".into())]),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.into(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container named `name` that runs `command`.
pub fn container(name: &str, image: &str, command: &[&str]) -> ContainerConfig {
    let options = NamespaceOption {
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(client::spec(image)),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        labels: BTreeMap::from([("io.kubernetes.container.name".into(), name.into())]),
        annotations: BTreeMap::from([("io.kubernetes.container.restartCount".into(), "0".into())]),
        log_path: format!("{name}/0.log"),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                cpu_shares: 2,
                ..Default::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(options),
                masked_paths: ["/proc/kcore", "/proc/keys"].map(String::from).to_vec(),
                readonly_paths: ["/proc/sys"].map(String::from).to_vec(),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// The namespace options of a pod, to be changed by a test.
pub fn pod_namespaces(config: &mut PodSandboxConfig) -> &mut NamespaceOption {
    let linux = config.linux.get_or_insert_default();
    linux
        .security_context
        .get_or_insert_default()
        .namespace_options
        .get_or_insert_default()
}

/// The security context of a container, to be changed by a test.
pub fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

/// The resources of a container, to be changed by a test.
pub fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config
        .linux
        .get_or_insert_default()
        .resources
        .get_or_insert_default()
}

/// A bind mount.
pub fn mount(host: &Path, container: &str, readonly: bool) -> Mount {
    Mount {
        host_path: host.to_string_lossy().into_owned(),
        container_path: container.into(),
        readonly,
        ..Default::default()
    }
}
