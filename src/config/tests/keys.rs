//! Every key that CRI-O knows is known, with CRI-O's default.

use std::collections::BTreeMap;

use crate::config::schema;
use crate::config::{Config, Options, Table};

/// Table, then `key = default` as CRI-O's crio.conf(5) and its code say them. Keys of our own and
/// defaults that differ on purpose are in [`OURS`].
const CRI_O: &str = r#"
crio
  root = "/var/lib/containers/storage"
  runroot = "/run/containers/storage"
  imagestore = ""
  storage_driver = "overlay"
  storage_option = []
  log_dir = "/var/log/crio/pods"
  version_file = "/var/run/crio/version"
  version_file_persist = ""
  clean_shutdown_file = "/var/lib/crio/clean.shutdown"
  internal_wipe = true
  internal_repair = true
crio.api
  listen = "/var/run/crio/crio.sock"
  stream_address = "127.0.0.1"
  stream_port = "0"
  stream_enable_tls = false
  stream_tls_cert = ""
  stream_tls_key = ""
  stream_tls_ca = ""
  stream_idle_timeout = ""
  tls_min_version = "VersionTLS12"
  tls_cipher_suites = []
  grpc_max_send_msg_size = 83886080
  grpc_max_recv_msg_size = 83886080
crio.runtime
  default_runtime = "crun"
  default_ulimits = []
  no_pivot = false
  decryption_keys_path = "/etc/crio/keys/"
  additional_artifact_stores = []
  conmon = ""
  conmon_cgroup = ""
  conmon_env = []
  default_env = []
  min_injected_gomaxprocs = 0
  selinux = false
  seccomp_profile = ""
  privileged_seccomp_profile = ""
  apparmor_profile = "crio-default"
  blockio_config_file = ""
  blockio_reload = false
  rdt_config_file = ""
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  irqbalance_config_file = "/etc/sysconfig/irqbalance"
  irqbalance_config_restore_file = "/etc/sysconfig/orig_irq_banned_cpus"
  cgroup_manager = "systemd"
  default_capabilities = ["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "KILL"]
  add_inheritable_capabilities = false
  default_sysctls = []
  allowed_devices = ["/dev/fuse", "/dev/net/tun"]
  additional_devices = []
  device_ownership_from_security_context = false
  hooks_dir = ["/usr/share/containers/oci/hooks.d"]
  default_mounts = []
  default_mounts_file = ""
  pids_limit = -1
  log_filter = ""
  log_level = "info"
  log_size_max = -1
  log_to_journald = false
  container_exits_dir = "/var/run/crio/exits"
  container_attach_socket_dir = "/var/run/crio"
  bind_mount_prefix = ""
  read_only = false
  uid_mappings = ""
  gid_mappings = ""
  minimum_mappable_uid = -1
  minimum_mappable_gid = -1
  ctr_stop_timeout = 30
  drop_infra_ctr = true
  infra_ctr_cpuset = ""
  shared_cpuset = ""
  namespaces_dir = "/var/run"
  pinns_path = ""
  absent_mount_sources_to_reject = []
  enable_criu_support = true
  enable_pod_events = false
  hostnetwork_disable_selinux = true
  disable_hostport_mapping = false
  timezone = ""
crio.runtime.runtimes.NAME
  runtime_path = ""
  runtime_type = "oci"
  runtime_root = ""
  runtime_config_path = ""
  inherit_default_runtime = false
  privileged_without_host_devices = false
  allowed_annotations = []
  monitor_path = ""
  monitor_cgroup = ""
  monitor_env = []
  monitor_exec_cgroup = ""
  platform_runtime_paths = {}
  runtime_pull_image = false
  container_min_memory = "12MiB"
  no_sync_log = false
  default_annotations = {}
  stream_websockets = false
  exec_cpu_affinity = ""
  seccomp_profile = ""
  container_create_timeout = 240
crio.runtime.workloads.NAME
  activation_annotation = ""
  annotation_prefix = ""
  allowed_annotations = []
crio.runtime.workloads.NAME.resources
  cpushares = 0
  cpuquota = 0
  cpuperiod = 0
  cpuset = ""
  cpulimit = 0
crio.checkpoint_restore
  container_level_enabled = "checkpoint_restore"
crio.image
  default_transport = "docker://"
  global_auth_file = ""
  namespaced_auth_dir = "/etc/crio/auth"
  pause_image = "registry.k8s.io/pause:3.10.1"
  pause_image_auth_file = ""
  pause_command = "/pause"
  pinned_images = []
  signature_policy = ""
  signature_policy_dir = "/etc/crio/policies"
  insecure_registries = []
  image_volumes = "mkdir"
  big_files_temporary_dir = ""
  separate_pull_cgroup = ""
  auto_reload_registries = false
  pull_progress_timeout = "0s"
  oci_artifact_mount_support = true
  short_name_mode = "enforcing"
crio.network
  cni_default_network = ""
  network_dir = "/etc/cni/net.d/"
  plugin_dirs = ["/opt/cni/bin/"]
  plugin_dir = ""
  cni_status_grace_period = "0s"
crio.metrics
  enable_metrics = false
  metrics_collectors = ["image_pulls_layer_size", "containers_events_dropped_total", "containers_oom_total", "processes_defunct", "operations_total", "operations_latency_seconds", "operations_latency_seconds_total", "operations_errors_total", "image_pulls_bytes_total", "image_pulls_skipped_bytes_total", "image_pulls_failure_total", "image_pulls_success_total", "image_layer_reuse_total", "containers_oom_count_total", "containers_seccomp_notifier_count_total", "resources_stalled_at_stage", "containers_stopped_monitor_count", "default_runtime"]
  metrics_host = "127.0.0.1"
  metrics_port = 9090
  metrics_socket = ""
  metrics_cert = ""
  metrics_key = ""
crio.tracing
  enable_tracing = false
  tracing_endpoint = "127.0.0.1:4317"
  tracing_sampling_rate_per_million = 0
crio.stats
  stats_collection_period = 0
  collection_period = 0
  included_pod_metrics = []
crio.nri
  enable_nri = true
  nri_listen = "/var/run/nri/nri.sock"
  nri_plugin_dir = "/opt/nri/plugins"
  nri_plugin_config_dir = "/etc/nri/conf.d"
  nri_plugin_registration_timeout = "5s"
  nri_plugin_request_timeout = "2s"
  nri_disable_connections = false
crio.nri.default_validator
  nri_enable_default_validator = false
  nri_validator_reject_oci_hook_adjustment = false
  nri_validator_reject_runtime_default_seccomp_adjustment = false
  nri_validator_reject_unconfined_seccomp_adjustment = false
  nri_validator_reject_custom_seccomp_adjustment = false
  nri_validator_reject_namespace_adjustment = false
  nri_validator_required_plugins = []
  nri_validator_tolerate_missing_plugins_annotation = ""
"#;

/// Keys that only cricket has, and defaults that are not CRI-O's.
const OURS: &[(&str, &str)] = &[
    // Debian and Arch ship the plugins in the second one.
    (
        "crio.network.plugin_dirs",
        "[\"/opt/cni/bin/\", \"/usr/lib/cni/\"]",
    ),
    ("crio.image.image_archives_dir", "\"\""),
    ("crio.network.cni_cache_dir", "\"/var/lib/cni\""),
    ("crio.runtime.pause_path", "\"\""),
    ("crio.network.cni_add_timeout", "\"5m\""),
    ("crio.network.cni_del_timeout", "\"1m\""),
    ("crio.runtime.runtime_call_timeout", "\"1m\""),
    ("crio.runtime.mount_source_timeout", "\"1m\""),
    ("crio.image.image_archives_dir", "\"\""),
    // of older versions of CRI-O
    ("crio.image.registries", "[]"),
];

/// Full name and default of every key, as the tables have them.
fn known() -> BTreeMap<String, String> {
    fn visit(path: &str, table: &dyn Table, found: &mut BTreeMap<String, String>) {
        if let Some(example) = table.example_child() {
            return visit(&format!("{path}.NAME"), example.as_ref(), found);
        }
        for key in table.keys() {
            let value = table.get(key.name).map(|value| value.to_string());
            found.insert(format!("{path}.{}", key.name), value.unwrap_or_default());
        }
        for (name, child) in table.children() {
            visit(&format!("{path}.{name}"), child, found);
        }
    }
    let mut found = BTreeMap::new();
    visit("crio", &Config::default(), &mut found);
    found
}

#[test]
fn every_key_of_cri_o_is_known_with_its_default() {
    let mut expected = BTreeMap::new();
    let mut table = "";
    for line in CRI_O.trim().lines() {
        match line.trim().split_once(" = ") {
            Some((key, value)) => expected.insert(format!("{table}.{key}"), value.to_owned()),
            None => {
                table = line.trim();
                None
            }
        };
    }
    expected.extend(
        OURS.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    assert_eq!(known(), expected);
}

#[test]
fn every_key_is_documented_in_sentences() {
    let config = schema::all().into_iter().map(|(_, keys)| keys);
    for key in config.chain([Options::default().keys()]).flatten() {
        let text = key.doc_lines().collect::<Vec<_>>().join(" ");
        assert!(
            text.len() > 10 && text.ends_with('.'),
            "{}: {text}",
            key.name
        );
        assert_eq!(text.matches('`').count() % 2, 0, "{}: {text}", key.name);
    }
}

#[test]
fn no_two_keys_have_the_same_flag_or_variable() {
    let tables: Vec<_> = schema::all();
    let keys = tables.iter().flat_map(|(_, keys)| keys.iter());
    let options = Options::default();
    let mut names = BTreeMap::new();
    for key in keys.chain(options.keys()) {
        for name in [key.flag, key.env, key.alias]
            .into_iter()
            .filter(|name| !name.is_empty())
        {
            let other = names.insert(name, key.name);
            assert_eq!(other, None, "{name} of {}", key.name);
        }
    }
}

#[test]
fn every_default_passes_its_own_check() {
    use crate::config::value::Input;
    fn visit(path: &str, table: &mut dyn Table) {
        for key in table.keys() {
            let Some(value) = table.get(key.name) else {
                continue;
            };
            let texts = match value {
                toml::Value::Table(_) => continue,
                toml::Value::String(text) => vec![text],
                toml::Value::Array(items) => items
                    .iter()
                    .filter_map(|item| item.as_str().map(str::to_owned))
                    .collect(),
                other => vec![other.to_string()],
            };
            let verdict = table.set(key.name, &Input::Text(&texts));
            let verdict = verdict.unwrap_or_else(|| panic!("{path}.{} cannot be set", key.name));
            assert_eq!(verdict, Ok(()), "{path}.{}", key.name);
        }
        let names: Vec<_> = table.children().into_iter().map(|(name, _)| name).collect();
        for name in names {
            visit(&format!("{path}.{name}"), table.child_mut(&name).unwrap());
        }
        if let Some(mut example) = table.example_child() {
            visit(&format!("{path}.NAME"), example.as_mut());
        }
    }
    let mut config = Config::default();
    visit("crio", &mut config);
    assert_eq!(config, Config::default());
}
