//! The domain's words as messages for the kubelet.

use std::time::Duration;

use cricket_proto::cri as wire;

use crate::container::{self, Reason};
use crate::image;
use crate::runtime::Features;
use crate::sandbox;
use crate::spec::config as spec;
use crate::storage::Usage;

/// One line of `ListPodSandbox`.
pub(super) fn pod(record: &sandbox::Record) -> wire::PodSandbox {
    wire::PodSandbox {
        id: record.id.to_string(),
        metadata: Some(pod_metadata(record)),
        state: pod_state(record.phase).into(),
        created_at: record.created_at_ns,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.handler.clone(),
    }
}

/// `PodSandboxStatusResponse.status`.
pub(super) fn pod_status(record: &sandbox::Record) -> wire::PodSandboxStatus {
    let mut ips = record.ips.iter().map(ToString::to_string);
    let network = wire::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| wire::PodIp { ip }).collect(),
    };
    wire::PodSandboxStatus {
        id: record.id.to_string(),
        metadata: Some(pod_metadata(record)),
        state: pod_state(record.phase).into(),
        created_at: record.created_at_ns,
        network: Some(network),
        linux: Some(wire::LinuxPodSandboxStatus {
            namespaces: Some(wire::Namespace {
                options: Some(namespaces(&record.config.security.namespaces)),
            }),
        }),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        runtime_handler: record.handler.clone(),
    }
}

pub(super) fn pod_metadata(record: &sandbox::Record) -> wire::PodSandboxMetadata {
    let name = record.config.name.clone();
    wire::PodSandboxMetadata {
        name: name.name,
        uid: name.uid,
        namespace: name.namespace,
        attempt: name.attempt,
    }
}

pub(super) fn pod_state(phase: sandbox::Phase) -> wire::PodSandboxState {
    match phase {
        sandbox::Phase::Ready => wire::PodSandboxState::SandboxReady,
        sandbox::Phase::Making | sandbox::Phase::NotReady => wire::PodSandboxState::SandboxNotready,
    }
}

/// One line of `ListContainers`.
pub(super) fn container(record: &container::Record) -> wire::Container {
    wire::Container {
        id: record.id.to_string(),
        pod_sandbox_id: record.pod.to_string(),
        metadata: Some(container_metadata(record)),
        image: Some(image_spec(&record.config.image)),
        image_ref: record.image.reference.clone(),
        state: container_state(&record.phase).into(),
        created_at: record.created_at_ns,
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        image_id: record.image.id.clone(),
    }
}

/// `ContainerStatusResponse.status`.
pub(super) fn container_status(record: &container::Record) -> wire::ContainerStatus {
    let exit = record.exit();
    let started_at = match &record.phase {
        container::Phase::Running { started_at_ns } => *started_at_ns,
        container::Phase::Exited(exit) => exit.started_at_ns,
        container::Phase::Making | container::Phase::Created => 0,
    };
    let shown_image = spec::ImageSpec {
        image: record.image.name.clone(),
        ..record.config.image.clone()
    };
    let log_path = record
        .log_path
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned());
    wire::ContainerStatus {
        id: record.id.to_string(),
        metadata: Some(container_metadata(record)),
        state: container_state(&record.phase).into(),
        created_at: record.created_at_ns,
        started_at,
        finished_at: exit.map_or(0, |exit| exit.finished_at_ns),
        exit_code: exit.map_or(0, |exit| exit.exit_code),
        image: Some(image_spec(&shown_image)),
        image_ref: record.image.reference.clone(),
        reason: exit
            .map_or("", |exit| Reason::as_str(exit.reason))
            .to_owned(),
        message: exit.map_or_else(String::new, |exit| exit.message.clone()),
        labels: record.config.labels.clone(),
        annotations: record.config.annotations.clone(),
        mounts: mounts(record),
        log_path: log_path.unwrap_or_default(),
        resources: record
            .config
            .resources
            .as_ref()
            .map(|resources| wire::ContainerResources {
                linux: Some(self::resources(resources)),
                windows: None,
            }),
        image_id: record.image.id.clone(),
        user: Some(wire::ContainerUser {
            linux: Some(user(&record.runs_as)),
        }),
        stop_signal: stop_signal(record.stop_signal).into(),
    }
}

pub(super) fn container_metadata(record: &container::Record) -> wire::ContainerMetadata {
    wire::ContainerMetadata {
        name: record.name.name.clone(),
        attempt: record.name.attempt,
    }
}

pub(super) fn container_state(phase: &container::Phase) -> wire::ContainerState {
    match phase {
        container::Phase::Making | container::Phase::Created => {
            wire::ContainerState::ContainerCreated
        }
        container::Phase::Running { .. } => wire::ContainerState::ContainerRunning,
        container::Phase::Exited(_) => wire::ContainerState::ContainerExited,
    }
}

fn user(user: &container::RunsAs) -> wire::LinuxContainerUser {
    wire::LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.groups.iter().map(|group| i64::from(*group)).collect(),
    }
}

/// The message's name for a signal of the kernel; the default where it has none.
fn stop_signal(number: i32) -> wire::Signal {
    let name = match number {
        34..=49 => format!("SIGRTMINPLUS{}", number - 34),
        50..=64 => format!("SIGRTMAXMINUS{}", 64 - number),
        _ => nix::sys::signal::Signal::try_from(number)
            .map_or("", |signal| signal.as_str())
            .into(),
    };
    let name = name.trim_end_matches("PLUS0").trim_end_matches("MINUS0");
    wire::Signal::from_str_name(&format!("SIGNAL_{name}"))
        .or_else(|| wire::Signal::from_str_name(name))
        .unwrap_or_default()
}

fn image_spec(image: &spec::ImageSpec) -> wire::ImageSpec {
    wire::ImageSpec {
        image: image.image.clone(),
        annotations: image.annotations.clone(),
        user_specified_image: image.user_specified_image.clone(),
        runtime_handler: image.runtime_handler.clone(),
        image_ref: image.image_ref.clone(),
    }
}

/// The mounts as they were asked for; those of images with the ids that the kubelet's collector and
/// users know them by.
fn mounts(record: &container::Record) -> Vec<wire::Mount> {
    let mut mounts: Vec<wire::Mount> = record.config.mounts.iter().map(mount).collect();
    for volume in &record.image_volumes {
        if let Some(image) = mounts
            .get_mut(volume.mount)
            .and_then(|mount| mount.image.as_mut())
        {
            image.image.clone_from(&volume.image_id);
            image.image_ref.clone_from(&volume.reference);
        }
    }
    mounts
}

fn mount(mount: &spec::Mount) -> wire::Mount {
    let propagation = match mount.propagation {
        spec::Propagation::Private => wire::MountPropagation::PropagationPrivate,
        spec::Propagation::HostToContainer => wire::MountPropagation::PropagationHostToContainer,
        spec::Propagation::Bidirectional => wire::MountPropagation::PropagationBidirectional,
    };
    wire::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation.into(),
        uid_mappings: mount.uid_mappings.iter().map(id_mapping).collect(),
        gid_mappings: mount.gid_mappings.iter().map(id_mapping).collect(),
        recursive_read_only: mount.recursive_read_only,
        image: mount.image.as_ref().map(image_spec),
        image_sub_path: mount.image_sub_path.clone(),
        mount_options: mount.mount_options.clone(),
    }
}

fn id_mapping(mapping: &spec::IdMapping) -> wire::IdMapping {
    wire::IdMapping {
        host_id: mapping.host_id,
        container_id: mapping.container_id,
        length: mapping.length,
    }
}

fn resources(resources: &spec::Resources) -> wire::LinuxContainerResources {
    let hugepages = resources.hugepage_limits.iter();
    wire::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit_in_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: hugepages
            .map(|limit| wire::HugepageLimit {
                page_size: limit.page_size.clone(),
                limit: limit.limit,
            })
            .collect(),
        unified: resources.unified.clone(),
        memory_swap_limit_in_bytes: resources.memory_swap_limit_in_bytes,
    }
}

fn namespaces(options: &spec::NamespaceOptions) -> wire::NamespaceOption {
    wire::NamespaceOption {
        network: namespace_mode(options.network).into(),
        pid: namespace_mode(options.pid).into(),
        ipc: namespace_mode(options.ipc).into(),
        target_id: options.target_id.clone(),
        userns_options: options.userns.as_ref().map(|userns| wire::UserNamespace {
            mode: namespace_mode(userns.mode).into(),
            uids: userns.uids.iter().map(id_mapping).collect(),
            gids: userns.gids.iter().map(id_mapping).collect(),
        }),
    }
}

fn namespace_mode(mode: spec::NamespaceMode) -> wire::NamespaceMode {
    match mode {
        spec::NamespaceMode::Pod => wire::NamespaceMode::Pod,
        spec::NamespaceMode::Container => wire::NamespaceMode::Container,
        spec::NamespaceMode::Node => wire::NamespaceMode::Node,
        spec::NamespaceMode::Target => wire::NamespaceMode::Target,
    }
}

/// One line of `ListImages`, and `ImageStatusResponse.image`.
pub(super) fn image(image: &image::Image) -> wire::Image {
    let record = &image.record;
    let (uid, username) = match image.user() {
        image::User::Uid(uid) => (Some(wire::Int64Value { value: uid }), String::new()),
        image::User::Name(name) => (None, name),
    };
    wire::Image {
        id: record.id.clone(),
        repo_tags: record.names.clone(),
        repo_digests: record.digests.clone(),
        size: record.size_bytes,
        uid,
        username,
        spec: Some(wire::ImageSpec {
            image: record.id.clone(),
            annotations: record.annotations.clone(),
            ..Default::default()
        }),
        pinned: image.pinned,
    }
}

/// One of `StatusResponse.runtime_handlers`.
pub(super) fn handler((name, features): (String, Features)) -> wire::RuntimeHandler {
    wire::RuntimeHandler {
        name,
        features: Some(wire::RuntimeHandlerFeatures {
            recursive_read_only_mounts: features.recursive_read_only,
            user_namespaces: features.user_namespaces,
        }),
    }
}

/// What is wrong with registries.conf, for `crictl info`.
pub(super) fn registries(state: &image::RegistriesState) -> serde_json::Value {
    serde_json::json!({ "trouble": state.trouble, "warnings": state.warnings })
}

/// The pulls in flight, for `crictl info`.
pub(super) fn pulls(pulls: &[(String, Duration)]) -> serde_json::Value {
    let told = |(image, since): &(String, Duration)| serde_json::json!({ "image": image, "seconds": since.as_secs_f64() });
    pulls.iter().map(told).collect()
}

/// What a file system's part of ours occupies; `timestamp_ns` is when that was asked.
pub(super) fn filesystem(usage: &Usage, timestamp_ns: i64) -> wire::FilesystemUsage {
    wire::FilesystemUsage {
        timestamp: timestamp_ns,
        fs_id: Some(wire::FilesystemIdentifier {
            mountpoint: usage.mountpoint.to_string_lossy().into_owned(),
        }),
        used_bytes: Some(wire::UInt64Value { value: usage.bytes }),
        inodes_used: Some(wire::UInt64Value {
            value: usage.inodes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_signal_has_its_name_in_the_message() {
        for (number, name) in [
            (15, "SIGTERM"),
            (3, "SIGQUIT"),
            (34, "SIGRTMIN"),
            (37, "SIGRTMINPLUS3"),
            (64, "SIGRTMAX"),
        ] {
            assert!(
                stop_signal(number).as_str_name().ends_with(name),
                "{number}"
            );
        }
    }
}
