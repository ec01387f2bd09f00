//! Messages of the kubelet in the domain's words. Every part of a message may be absent, and means
//! then what the CRI says its zero value means.

use std::net::IpAddr;
use std::time::Duration;

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::invalid;
use crate::container;
use crate::image::RegistryAuth;
use crate::network::{Dns, PortMapping, Protocol};
use crate::sandbox::PodConfig;
use crate::spec::config as spec;
use crate::state::PodName;

/// Most labels, annotations, variables or mounts of one object; how long they may be together is
/// bounded by the record that holds them.
const MAX_ENTRIES: usize = 100_000;

/// `RunPodSandboxRequest.config`.
pub(super) fn pod_config(config: Option<wire::PodSandboxConfig>) -> Result<PodConfig, Status> {
    let config = config.ok_or_else(|| invalid("config", "is missing"))?;
    let metadata = config
        .metadata
        .ok_or_else(|| invalid("config.metadata", "is missing"))?;
    bounded("config.labels", config.labels.len())?;
    bounded("config.annotations", config.annotations.len())?;
    let linux = config.linux.unwrap_or_default();
    Ok(PodConfig {
        name: PodName {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            attempt: metadata.attempt,
        },
        hostname: config.hostname,
        log_directory: config.log_directory,
        dns: config.dns_config.map(|dns| Dns {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }),
        port_mappings: config
            .port_mappings
            .into_iter()
            .map(port_mapping)
            .collect::<Result<_, _>>()?,
        labels: config.labels,
        annotations: config.annotations,
        cgroup_parent: linux.cgroup_parent,
        sysctls: linux.sysctls,
        security: sandbox_security(linux.security_context.unwrap_or_default())?,
        overhead: linux.overhead.map(resources),
        resources: linux.resources.map(resources),
    })
}

fn port_mapping(mapping: wire::PortMapping) -> Result<PortMapping, Status> {
    let port = |field: &str, port: i32| {
        u16::try_from(port).map_err(|_| invalid(field, &format!("{port} is not a port")))
    };
    let protocol = match wire::Protocol::try_from(mapping.protocol) {
        Ok(wire::Protocol::Tcp) => Protocol::Tcp,
        Ok(wire::Protocol::Udp) => Protocol::Udp,
        Ok(wire::Protocol::Sctp) => Protocol::Sctp,
        Err(_) => {
            let problem = format!("{} is not a protocol", mapping.protocol);
            return Err(invalid("config.port_mappings.protocol", &problem));
        }
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| {
            invalid(
                "config.port_mappings.host_ip",
                &format!("`{text}` is not an IP address"),
            )
        })?),
    };
    Ok(PortMapping {
        host_port: port("config.port_mappings.host_port", mapping.host_port)?,
        container_port: port(
            "config.port_mappings.container_port",
            mapping.container_port,
        )?,
        protocol,
        host_ip,
    })
}

fn sandbox_security(
    context: wire::LinuxSandboxSecurityContext,
) -> Result<spec::SandboxSecurity, Status> {
    let policy = context.supplemental_groups_policy;
    Ok(spec::SandboxSecurity {
        namespaces: namespaces(context.namespace_options.unwrap_or_default())?,
        selinux: context.selinux_options.map(selinux),
        run_as_user: context.run_as_user.map(|id| id.value),
        run_as_group: context.run_as_group.map(|id| id.value),
        readonly_rootfs: context.readonly_rootfs,
        supplemental_groups: context.supplemental_groups,
        supplemental_groups_policy: groups_policy(policy)?,
        privileged: context.privileged,
        seccomp: context
            .seccomp
            .map(|profile| security_profile(profile, "seccomp"))
            .transpose()?,
        apparmor: context
            .apparmor
            .map(|profile| security_profile(profile, "apparmor"))
            .transpose()?,
    })
}

/// `CreateContainerRequest.config`.
pub(super) fn container_config(
    config: Option<wire::ContainerConfig>,
) -> Result<container::Config, Status> {
    let config = config.ok_or_else(|| invalid("config", "is missing"))?;
    let metadata = config
        .metadata
        .ok_or_else(|| invalid("config.metadata", "is missing"))?;
    if metadata.name.is_empty() {
        return Err(invalid("config.metadata.name", "is empty"));
    }
    let image = config
        .image
        .ok_or_else(|| invalid("config.image", "is missing"))?;
    if image.image.is_empty() {
        return Err(invalid("config.image.image", "is empty"));
    }
    bounded("config.labels", config.labels.len())?;
    bounded("config.annotations", config.annotations.len())?;
    bounded("config.envs", config.envs.len())?;
    bounded("config.mounts", config.mounts.len())?;
    let stop_signal = match config.stop_signal {
        0 => None,
        number => Some(stop_signal(number)?),
    };
    let linux = config.linux.unwrap_or_default();
    let variable = |env: wire::KeyValue| spec::EnvVar {
        key: env.key,
        value: env.value,
    };
    Ok(container::Config {
        name: metadata.name,
        attempt: metadata.attempt,
        image: image_spec(image),
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        envs: config.envs.into_iter().map(variable).collect(),
        mounts: config
            .mounts
            .into_iter()
            .map(mount)
            .collect::<Result<_, _>>()?,
        devices: config.devices.into_iter().map(device).collect(),
        cdi_devices: config
            .cdi_devices
            .into_iter()
            .map(|device| device.name)
            .collect(),
        labels: config.labels,
        annotations: config.annotations,
        log_path: config.log_path,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        resources: linux.resources.map(resources),
        security: security(linux.security_context.unwrap_or_default())?,
        stop_signal,
    })
}

/// The signal's name: the message carries the number of a name, not of a signal.
fn stop_signal(number: i32) -> Result<String, Status> {
    let unknown = || {
        invalid(
            "config.stop_signal",
            &format!("{number} is not a known signal"),
        )
    };
    let signal = wire::Signal::try_from(number).map_err(|_| unknown())?;
    // SIGNAL_SIGRTMINPLUS1 and the like are the kernel's SIGRTMIN+1.
    let name = signal
        .as_str_name()
        .strip_prefix("SIGNAL_")
        .unwrap_or(signal.as_str_name());
    Ok(name.replace("PLUS", "+").replace("MINUS", "-"))
}

fn image_spec(image: wire::ImageSpec) -> spec::ImageSpec {
    spec::ImageSpec {
        image: image.image,
        annotations: image.annotations,
        user_specified_image: image.user_specified_image,
        runtime_handler: image.runtime_handler,
        image_ref: image.image_ref,
    }
}

fn mount(mount: wire::Mount) -> Result<spec::Mount, Status> {
    let propagation = match wire::MountPropagation::try_from(mount.propagation) {
        Ok(wire::MountPropagation::PropagationPrivate) => spec::Propagation::Private,
        Ok(wire::MountPropagation::PropagationHostToContainer) => {
            spec::Propagation::HostToContainer
        }
        Ok(wire::MountPropagation::PropagationBidirectional) => spec::Propagation::Bidirectional,
        Err(_) => {
            let problem = format!("{} is not a propagation", mount.propagation);
            return Err(invalid("config.mounts.propagation", &problem));
        }
    };
    Ok(spec::Mount {
        container_path: mount.container_path,
        host_path: mount.host_path,
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
        propagation,
        selinux_relabel: mount.selinux_relabel,
        uid_mappings: mount.uid_mappings.into_iter().map(id_mapping).collect(),
        gid_mappings: mount.gid_mappings.into_iter().map(id_mapping).collect(),
        image: mount.image.map(image_spec),
        image_sub_path: mount.image_sub_path,
        mount_options: mount.mount_options,
    })
}

fn id_mapping(mapping: wire::IdMapping) -> spec::IdMapping {
    spec::IdMapping {
        host_id: mapping.host_id,
        container_id: mapping.container_id,
        length: mapping.length,
    }
}

fn device(device: wire::Device) -> spec::Device {
    spec::Device {
        container_path: device.container_path,
        host_path: device.host_path,
        permissions: device.permissions,
    }
}

/// Limits of a container or a pod.
pub(super) fn resources(resources: wire::LinuxContainerResources) -> spec::Resources {
    let hugepages = resources.hugepage_limits.into_iter();
    spec::Resources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit_in_bytes,
        memory_swap_limit_in_bytes: resources.memory_swap_limit_in_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        hugepage_limits: hugepages
            .map(|limit| spec::HugepageLimit {
                page_size: limit.page_size,
                limit: limit.limit,
            })
            .collect(),
        unified: resources.unified,
    }
}

// The kubelet still fills the older AppArmor field beside the new one.
#[allow(deprecated)]
fn security(context: wire::LinuxContainerSecurityContext) -> Result<spec::Security, Status> {
    let capabilities = context.capabilities.unwrap_or_default();
    Ok(spec::Security {
        capabilities: spec::Capabilities {
            add: capabilities.add_capabilities,
            drop: capabilities.drop_capabilities,
            add_ambient: capabilities.add_ambient_capabilities,
        },
        privileged: context.privileged,
        namespaces: context.namespace_options.map(namespaces).transpose()?,
        selinux: context.selinux_options.map(selinux),
        run_as_user: context.run_as_user.map(|id| id.value),
        run_as_group: context.run_as_group.map(|id| id.value),
        run_as_username: context.run_as_username,
        readonly_rootfs: context.readonly_rootfs,
        supplemental_groups: context.supplemental_groups,
        supplemental_groups_policy: groups_policy(context.supplemental_groups_policy)?,
        no_new_privs: context.no_new_privs,
        masked_paths: context.masked_paths,
        readonly_paths: context.readonly_paths,
        seccomp: context
            .seccomp
            .map(|profile| security_profile(profile, "seccomp"))
            .transpose()?,
        apparmor: context
            .apparmor
            .map(|profile| security_profile(profile, "apparmor"))
            .transpose()?,
        apparmor_profile: context.apparmor_profile,
    })
}

fn namespaces(options: wire::NamespaceOption) -> Result<spec::NamespaceOptions, Status> {
    let userns = options.userns_options.map(|userns| {
        Ok::<_, Status>(spec::UserNamespace {
            mode: namespace_mode(userns.mode)?,
            uids: userns.uids.into_iter().map(id_mapping).collect(),
            gids: userns.gids.into_iter().map(id_mapping).collect(),
        })
    });
    Ok(spec::NamespaceOptions {
        network: namespace_mode(options.network)?,
        pid: namespace_mode(options.pid)?,
        ipc: namespace_mode(options.ipc)?,
        target_id: options.target_id,
        userns: userns.transpose()?,
    })
}

fn namespace_mode(mode: i32) -> Result<spec::NamespaceMode, Status> {
    match wire::NamespaceMode::try_from(mode) {
        Ok(wire::NamespaceMode::Pod) => Ok(spec::NamespaceMode::Pod),
        Ok(wire::NamespaceMode::Container) => Ok(spec::NamespaceMode::Container),
        Ok(wire::NamespaceMode::Node) => Ok(spec::NamespaceMode::Node),
        Ok(wire::NamespaceMode::Target) => Ok(spec::NamespaceMode::Target),
        Err(_) => Err(invalid(
            "security_context.namespace_options",
            &format!("{mode} is not a mode"),
        )),
    }
}

fn groups_policy(policy: i32) -> Result<spec::GroupsPolicy, Status> {
    match wire::SupplementalGroupsPolicy::try_from(policy) {
        Ok(wire::SupplementalGroupsPolicy::Merge) => Ok(spec::GroupsPolicy::Merge),
        Ok(wire::SupplementalGroupsPolicy::Strict) => Ok(spec::GroupsPolicy::Strict),
        Err(_) => Err(invalid(
            "security_context.supplemental_groups_policy",
            &format!("{policy} is not a policy"),
        )),
    }
}

fn security_profile(
    profile: wire::SecurityProfile,
    field: &str,
) -> Result<spec::SecurityProfile, Status> {
    match wire::security_profile::ProfileType::try_from(profile.profile_type) {
        Ok(wire::security_profile::ProfileType::RuntimeDefault) => {
            Ok(spec::SecurityProfile::RuntimeDefault)
        }
        Ok(wire::security_profile::ProfileType::Unconfined) => {
            Ok(spec::SecurityProfile::Unconfined)
        }
        Ok(wire::security_profile::ProfileType::Localhost) => {
            Ok(spec::SecurityProfile::Localhost(profile.localhost_ref))
        }
        Err(_) => Err(invalid(
            &format!("security_context.{field}.profile_type"),
            &format!("{} is not a kind of profile", profile.profile_type),
        )),
    }
}

fn selinux(options: wire::SeLinuxOption) -> spec::SelinuxOptions {
    spec::SelinuxOptions {
        user: options.user,
        role: options.role,
        kind: options.r#type,
        level: options.level,
    }
}

/// `PullImageRequest.auth`; a message whose fields are all empty is none.
pub(super) fn registry_auth(auth: Option<wire::AuthConfig>) -> Option<RegistryAuth> {
    let auth = auth.filter(|auth| *auth != wire::AuthConfig::default())?;
    Some(RegistryAuth {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    })
}

fn bounded(field: &str, count: usize) -> Result<(), Status> {
    if count <= MAX_ENTRIES {
        Ok(())
    } else {
        Err(invalid(
            field,
            &format!("{count} entries are more than {MAX_ENTRIES}"),
        ))
    }
}

/// A number of seconds; 0 and below mean none.
pub(super) fn seconds(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_of_nothing_but_metadata_is_understood() {
        let config = wire::PodSandboxConfig {
            metadata: Some(wire::PodSandboxMetadata {
                name: "p".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let pod = pod_config(Some(config)).unwrap();
        assert_eq!(pod.name.name, "p");
        assert_eq!(pod.dns, None);
        assert_eq!(pod.security, spec::SandboxSecurity::default());
    }

    #[test]
    fn what_is_missing_or_out_of_range_is_named() {
        let status = pod_config(None).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with("config"));
        let port = wire::PortMapping {
            host_port: 70_000,
            ..Default::default()
        };
        assert!(port_mapping(port).unwrap_err().message().contains("70000"));
        let ip = wire::PortMapping {
            host_ip: "localhost".into(),
            ..Default::default()
        };
        assert!(
            port_mapping(ip)
                .unwrap_err()
                .message()
                .contains("localhost")
        );
        let protocol = wire::PortMapping {
            protocol: 9,
            ..Default::default()
        };
        let refused = port_mapping(protocol).unwrap_err();
        assert!(refused.message().contains("config.port_mappings.protocol"));
        assert!(namespace_mode(9).is_err() && groups_policy(9).is_err());
        let no_image = wire::ContainerConfig {
            metadata: Some(wire::ContainerMetadata {
                name: "c".into(),
                attempt: 0,
            }),
            ..Default::default()
        };
        assert!(
            container_config(Some(no_image))
                .unwrap_err()
                .message()
                .contains("config.image")
        );
    }

    #[test]
    fn a_stop_signal_is_told_by_its_name() {
        let number = |name: &str| wire::Signal::from_str_name(name).map(|signal| signal as i32);
        let quit = number("SIGNAL_SIGQUIT")
            .or_else(|| number("SIGQUIT"))
            .unwrap();
        assert_eq!(stop_signal(quit).unwrap(), "SIGQUIT");
        let realtime = number("SIGNAL_SIGRTMINPLUS3")
            .or_else(|| number("SIGRTMINPLUS3"))
            .unwrap();
        assert_eq!(stop_signal(realtime).unwrap(), "SIGRTMIN+3");
        assert!(stop_signal(9999).is_err());
    }

    #[test]
    fn empty_credentials_are_none() {
        assert!(registry_auth(Some(wire::AuthConfig::default())).is_none());
        assert!(registry_auth(None).is_none());
        let auth = wire::AuthConfig {
            username: "u".into(),
            ..Default::default()
        };
        assert_eq!(registry_auth(Some(auth)).unwrap().username, "u");
    }
}
