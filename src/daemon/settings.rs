//! From the configuration to what each room needs to know of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{DaemonError, House, security};
use crate::config::{
    self, CgroupManager, CheckpointLevel, Config, ImageVolumes, Loaded, ReadyHandler, TlsVersion,
};
use crate::container::{DeclaredVolumes, Profiles};
use crate::cri::{HttpApi, Shown};
use crate::runtime::{Features, Handler, Program};
use crate::security::apparmor::AppArmor;
use crate::security::capabilities::CapSet;
use crate::security::seccomp::Target;
use crate::security::selinux::Selinux;
use crate::spec::inputs::{Host, Ulimit};
use crate::storage::Store;
use crate::sys::resolved::resolved;
use crate::{cgroup, container, image, leaks, network, sandbox, spec, storage, streaming};

/// How long CNI may take for one pod's ADD when the configuration does not say: longer than the
/// kubelet waits, so that a retry joins.
const CNI_ADD: Duration = Duration::from_secs(300);
/// The same for one pod's DEL, for a call of the OCI runtime and for a look at a mount's source:
/// shorter than the two minutes that the kubelet waits, so that it hears the reason.
const A_MINUTE: Duration = Duration::from_secs(60);
/// The experimental annotations of pods on the default handler when its table says nothing: as
/// CRI-O has it.
const ALLOWED_BY_DEFAULT: [&str; 2] = ["io.containers.trace-syscall", "devices.crio.io"];
/// How many pods are attached at once.
const CNI_AT_ONCE: usize = 32;
/// How long a streaming session may be idle when the configuration does not say.
const STREAM_IDLE: Duration = Duration::from_secs(4 * 3600);
/// The least that a killed container gets to be gone (`ctr_stop_timeout`), in seconds.
const MIN_KILL_WAIT: i64 = 30;

pub(super) fn storage(config: &Config) -> storage::Settings {
    storage::Settings {
        // A link is what people make of a root that is to be on another disk.
        root: resolved(&config.root),
        imagestore: config.imagestore.as_deref().map(resolved),
        limits: storage::LayerLimits::default(),
    }
}

pub(super) fn images(loaded: &Loaded, store: Store) -> image::Settings {
    let image = &loaded.config.image;
    let mut settings = image::Settings::new(store);
    settings.registries = registries(loaded);
    settings.trust = trust(loaded);
    settings.credentials = credentials(&loaded.config);
    settings.network.insecure = image::InsecureHosts::new(&image.insecure_registries);
    settings.network.proxies = image::Proxies::from_environment(|name| std::env::var(name).ok());
    if !image.pull_progress_timeout.is_zero() {
        settings.network.timeouts.stall = image.pull_progress_timeout;
    }
    settings.pinned = pinned(&loaded.config);
    settings
}

/// The files that decide about images.
pub(super) fn image_files(loaded: &Loaded) -> image::CheckedFiles {
    image::CheckedFiles {
        registries: registries(loaded),
        trust: trust(loaded),
        certificates: image::Network::default().certificates,
    }
}

fn trust(loaded: &Loaded) -> image::TrustSettings {
    let image = &loaded.config.image;
    let usual = image::TrustSettings::default();
    image::TrustSettings {
        policy: image.signature_policy.clone().unwrap_or(usual.policy),
        namespaces: image.signature_policy_dir.clone(),
        registries_d: loaded
            .options
            .registries_d
            .clone()
            .unwrap_or(usual.registries_d),
        lookaside: usual.lookaside,
    }
}

/// Where registries.conf is, and what crio.conf says beside it.
pub(super) fn registries(loaded: &Loaded) -> image::Sources {
    let (image, options) = (&loaded.config.image, &loaded.options);
    let usual = image::Sources::usual();
    image::Sources {
        file: options.registries_conf.clone().unwrap_or(usual.file),
        drop_ins: options
            .registries_conf_dir
            .clone()
            .unwrap_or(usual.drop_ins),
        // CRI-O's key stands above registries.conf's own, also where nobody has set it
        short_name_mode: Some(match image.short_name_mode {
            crate::config::ShortNameMode::Enforcing => image::ShortNameMode::Enforcing,
            crate::config::ShortNameMode::Disabled => image::ShortNameMode::Disabled,
        }),
        search: image.registries.clone(),
        on_change: image.auto_reload_registries,
        ..usual
    }
}

fn credentials(config: &Config) -> image::CredentialPlaces {
    let image = &config.image;
    let uid = nix::unistd::geteuid();
    // a service of systemd's has no HOME
    let home = std::env::var_os("HOME").map(PathBuf::from).or_else(|| {
        let user = nix::unistd::User::from_uid(uid).ok().flatten()?;
        Some(user.dir)
    });
    let home = home.unwrap_or_else(|| "/root".into());
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    image::CredentialPlaces {
        namespaced: image.namespaced_auth_dir.clone(),
        global: image.global_auth_file.clone(),
        user: image::CredentialPlaces::of_user(uid.as_raw(), &home, variable),
        helper_path: None,
    }
}

/// What the kubelet must not collect: `pinned_images`, and `pause_image` as in CRI-O.
pub(super) fn pinned(config: &Config) -> image::Pinned {
    let patterns = config.image.pinned_images.iter().map(String::as_str);
    image::Pinned::new(patterns.chain([config.image.pause_image.as_str()]))
}

pub(super) fn network(config: &Config) -> network::Settings {
    let default = config.network.cni_default_network.clone();
    let legacy = config.network.plugin_dir.iter();
    network::Settings {
        conf_dir: config.network.network_dir.clone(),
        plugin_dirs: config
            .network
            .plugin_dirs
            .iter()
            .chain(legacy)
            .cloned()
            .collect(),
        cache_dir: config.network.cni_cache_dir.clone(),
        netns_dir: sandbox::netns_dir(&config.runtime.namespaces_dir),
        instance: config.runroot.clone(),
        host_ports_table: host_ports_table(&config.runroot),
        default_network: Some(default).filter(|name| !name.is_empty()),
        add_timeout: or(config.network.cni_add_timeout, CNI_ADD),
        del_timeout: or(config.network.cni_del_timeout, A_MINUTE),
        status_grace: config.network.cni_status_grace_period,
        concurrency: CNI_AT_ONCE,
    }
}

/// The nftables table of a daemon: another run root is another daemon, with a table of its own.
fn host_ports_table(runroot: &Path) -> String {
    if runroot == Config::default().runroot {
        return "cricket".to_owned();
    }
    let number = crc32fast::hash(runroot.as_os_str().as_encoded_bytes());
    format!("cricket-{number:08x}")
}

pub(super) fn cgroup_manager(config: &Config) -> cgroup::Manager {
    match config.runtime.cgroup_manager {
        CgroupManager::Systemd => cgroup::Manager::Systemd,
        CgroupManager::Cgroupfs => cgroup::Manager::Cgroupfs,
    }
}

pub(super) fn handler(ready: ReadyHandler, config: &Config, manager: cgroup::Manager) -> Handler {
    let is_default = ready.name == config.runtime.default_runtime;
    let mut allowed_annotations = ready.settings.allowed_annotations.clone();
    if is_default && allowed_annotations.is_empty() {
        allowed_annotations = ALLOWED_BY_DEFAULT.map(str::to_owned).into();
    }
    let seconds = u64::try_from(ready.settings.container_create_timeout).unwrap_or(0);
    let bytes = i64::try_from(ready.settings.container_min_memory.0).unwrap_or(i64::MAX);
    Handler {
        program: Program {
            handler: ready.name,
            path: ready.runtime_path,
            root: ready.runtime_root,
            systemd_cgroup: manager == cgroup::Manager::Systemd,
            call_timeout: or(config.runtime.runtime_call_timeout, A_MINUTE),
        },
        monitor: ready.monitor_path,
        environment: ready
            .monitor_env
            .into_iter()
            .map(|env| (env.name, env.value))
            .collect(),
        monitor_cgroup: ready.monitor_cgroup,
        privileged_without_host_devices: ready.settings.privileged_without_host_devices,
        allowed_annotations,
        default_annotations: ready.settings.default_annotations,
        platform_paths: platform_paths(ready.settings.platform_runtime_paths),
        no_pivot: config.runtime.no_pivot,
        create_timeout: Duration::from_secs(seconds),
        min_memory_bytes: bytes,
        // Asked for when all handlers are known.
        features: Features::default(),
    }
}

/// The programs for images of each platform.
fn platform_paths(paths: BTreeMap<String, String>) -> BTreeMap<String, PathBuf> {
    let path = |(platform, path): (String, String)| (platform, path.into());
    paths.into_iter().map(path).collect()
}

/// The entries of each `allowed_annotations` that allow nothing, or nothing that has an effect in this
/// version, each in one line.
pub(super) fn vain_annotations(config: &Config) -> Vec<String> {
    let runtime = &config.runtime;
    let handlers = runtime
        .runtimes
        .iter()
        .map(|(name, one)| (format!("runtimes.{name}"), &one.allowed_annotations));
    let workloads = runtime
        .workloads
        .iter()
        .map(|(name, one)| (format!("workloads.{name}"), &one.allowed_annotations));
    let told = |(table, allowed): (String, &Vec<String>)| {
        let place = format!("allowed_annotations of [crio.runtime.{table}]");
        let pointless = spec::pointless_annotations(allowed)
            .map(|entry| format!("{place}: `{entry}` is no annotation that has to be allowed"));
        let idle = spec::idle_entries(allowed)
            .map(|(entry, why)| format!("{place}: `{entry}` has no effect in this version: {why}"));
        pointless.chain(idle).collect::<Vec<_>>()
    };
    handlers.chain(workloads).flat_map(told).collect()
}

/// The workloads, by name.
fn workloads(config: &Config) -> Vec<spec::Workload> {
    let workload = |(name, workload): (&String, &config::Workload)| {
        let resources = &workload.resources;
        let cpuset = resources.cpuset.as_ref().map(|set| set.0.clone());
        spec::Workload {
            name: name.clone(),
            activation_annotation: workload.activation_annotation.clone(),
            annotation_prefix: workload.annotation_prefix.clone(),
            allowed_annotations: workload.allowed_annotations.clone(),
            resources: spec::Cpu {
                cpushares: resources.cpushares,
                cpuquota: resources.cpuquota,
                cpuperiod: resources.cpuperiod,
                cpuset: cpuset.unwrap_or_default(),
                cpulimit: resources.cpulimit,
            },
        }
    };
    config.runtime.workloads.iter().map(workload).collect()
}

pub(super) fn container(
    loaded: &Loaded,
    host: Host,
    profiles: Profiles,
    apparmor: Option<AppArmor>,
    selinux: Option<Arc<Selinux>>,
) -> Result<container::Settings, DaemonError> {
    let config = &loaded.config;
    let runtime = &config.runtime;
    let kill_wait = runtime.ctr_stop_timeout.max(MIN_KILL_WAIT);
    Ok(container::Settings {
        spec: spec(config)?,
        profiles,
        apparmor,
        selinux,
        cdi: security::cdi(config),
        hooks: security::hooks(config),
        workloads: workloads(config),
        devices: security::devices(config),
        files: security::files(loaded)?,
        seccomp_target: Target::native(host.kernel),
        declared_volumes: match config.image.image_volumes {
            ImageVolumes::Mkdir => DeclaredVolumes::Mkdir,
            ImageVolumes::Bind => DeclaredVolumes::Bind,
            ImageVolumes::Ignore => DeclaredVolumes::Ignore,
        },
        artifact_volumes: config.image.oci_artifact_mount_support,
        checkpoints: runtime.enable_criu_support
            && config.checkpoint_restore.container_level_enabled != CheckpointLevel::None,
        absent_sources_to_reject: runtime.absent_mount_sources_to_reject.clone(),
        kill_wait: Duration::from_secs(u64::try_from(kill_wait).unwrap_or(0)),
        mount_source_timeout: or(runtime.mount_source_timeout, A_MINUTE),
        stats_max_age: stats_max_age(config),
        host,
    })
}

fn spec(config: &Config) -> Result<spec::inputs::Settings, DaemonError> {
    let runtime = &config.runtime;
    let capabilities: Vec<&str> = runtime
        .default_capabilities
        .iter()
        .map(|capability| capability.0.as_str())
        .collect();
    let ulimit = |limit: &crate::config::Ulimit| Ulimit {
        name: limit.kind.clone(),
        soft: limit.soft,
        hard: limit.hard,
    };
    Ok(spec::inputs::Settings {
        default_env: runtime
            .default_env
            .iter()
            .map(|env| format!("{}={}", env.name, env.value))
            .collect(),
        default_capabilities: CapSet::of(&capabilities)?,
        add_inheritable_capabilities: runtime.add_inheritable_capabilities,
        default_ulimits: runtime.default_ulimits.iter().map(ulimit).collect(),
        pids_limit: runtime.pids_limit,
        // Of the handler, filled in for each container.
        container_min_memory: 0,
        privileged_without_host_devices: false,
        recursive_read_only: false,
        read_only: runtime.read_only,
        device_ownership_from_security_context: runtime.device_ownership_from_security_context,
        storage_roots: vec![config.root.clone()],
        // As the profiles are when a container is made.
        apparmor_default: None,
    })
}

pub(super) fn streaming(config: &Config) -> streaming::Settings {
    let api = &config.api;
    let tls = api.stream_enable_tls.then(|| streaming::TlsSettings {
        certificate: api.stream_tls_cert.clone(),
        key: api.stream_tls_key.clone(),
        client_authorities: api.stream_tls_ca.clone(),
        only_tls13: api.tls_min_version == TlsVersion::Tls13,
        cipher_suites: api.tls_cipher_suites.clone(),
    });
    let idle = api.stream_idle_timeout.filter(|idle| !idle.is_zero());
    streaming::Settings {
        address: api.stream_address.clone(),
        port: api.stream_port.0,
        tls,
        idle: idle.unwrap_or(STREAM_IDLE),
    }
}

pub(super) fn sandbox(
    config: &Config,
    pause: &Path,
    host: Host,
    selinux: Option<Arc<Selinux>>,
) -> sandbox::Settings {
    let runtime = &config.runtime;
    let cpuset = runtime.infra_ctr_cpuset.as_ref().map(|set| set.0.clone());
    sandbox::Settings {
        namespaces_dir: runtime.namespaces_dir.clone(),
        pause: pause.to_owned(),
        host,
        events: runtime.enable_pod_events,
        pause_cpuset: cpuset.unwrap_or_default(),
        selinux,
        host_network_without_selinux: runtime.hostnetwork_disable_selinux,
        default_sysctls: runtime
            .default_sysctls
            .iter()
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        stats_max_age: stats_max_age(config),
        host_ports_by_cni: runtime.disable_hostport_mapping,
    }
}

/// Where pods and containers may have left something.
pub(super) fn leaks(config: &Config, runtimes: Vec<Program>) -> leaks::Settings {
    leaks::Settings {
        namespaces_dir: config.runtime.namespaces_dir.clone(),
        storage: storage(config),
        runtimes,
        alone: false,
        wiping: false,
    }
}

/// What is told over HTTP/1.
pub(super) fn http(loaded: &Loaded, house: &House, shown: Arc<Shown>) -> HttpApi {
    let config = &loaded.config;
    HttpApi {
        sandboxes: Arc::clone(&house.sandboxes),
        storage_root: config.root.clone(),
        storage_image: config.imagestore.clone().unwrap_or_default(),
        pod_root: house.store.rootless_path(),
        systemd_cgroup: house.manager == cgroup::Manager::Systemd,
        shown,
    }
}

/// A time of the configuration, where zero means the default.
fn or(time: Duration, default: Duration) -> Duration {
    if time.is_zero() { default } else { time }
}

/// How old statistics may be: `collection_period`, or the key of old that it has replaced.
fn stats_max_age(config: &Config) -> Duration {
    let stats = &config.stats;
    let periods = [stats.collection_period, stats.stats_collection_period];
    let seconds = periods.into_iter().find(|period| *period > 0);
    Duration::from_secs(
        seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Workload;

    #[test]
    fn what_pods_are_allowed_in_vain_is_told_with_its_table() {
        let mut config = Config::default();
        let allowed = ["devices.crio.io", "cpu-quota.crio.io", "misspelt.crio.io"];
        let workload = Workload {
            allowed_annotations: allowed.map(str::to_owned).to_vec(),
            ..Workload::default()
        };
        config.runtime.workloads.insert("w".to_owned(), workload);
        let place = "allowed_annotations of [crio.runtime.workloads.w]";
        assert_eq!(
            vain_annotations(&config),
            [
                format!("{place}: `misspelt.crio.io` is no annotation that has to be allowed"),
                format!(
                    "{place}: `cpu-quota.crio.io` has no effect in this version: this version \
                     leaves the settings of processors alone"
                ),
            ]
        );
        assert!(vain_annotations(&Config::default()).is_empty());
    }
}
