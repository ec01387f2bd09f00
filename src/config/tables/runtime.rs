//! `[crio.runtime]`: how containers are made and run, and `[crio.checkpoint_restore]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{Handler, Workload, handler};
use crate::config::choice::{CgroupManager, CheckpointLevel, LogLevel};
use crate::config::quantity::{Capability, CpuSet, Device, EnvVar, Sysctl, Ulimit};
use crate::config::rules;
use crate::config::schema::table;

const KUBERNETES_USERNS: &str = "pods get user namespaces from the kubelet (hostUsers: false)";
const NO_RESCTRL: &str = "this version sets no blockio or RDT classes";
const NO_IRQBALANCE: &str = "this version leaves irqbalance alone";

/// The capabilities of a container that asks for none: CRI-O's list.
const CAPABILITIES: [&str; 9] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "KILL",
];

fn capabilities() -> Vec<Capability> {
    CAPABILITIES
        .map(|name| Capability(format!("CAP_{name}")))
        .to_vec()
}

table! {
    /// How containers are made and run.
    Runtime {
        /// Handler for pods that name no RuntimeClass: a name of the table `runtimes`. Unless it is
        /// set, runc takes the place of crun on a machine that has runc and no crun.
        default_runtime: String = handler::DEFAULT => rules::not_empty,
            flag = "default-runtime", env = "CONTAINER_DEFAULT_RUNTIME";

        /// Resource limits of containers, as `nofile=1024:2048`. What is not listed is inherited
        /// from the daemon.
        default_ulimits: Vec<Ulimit> = Vec::new(),
            flag = "default-ulimits", env = "CONTAINER_DEFAULT_ULIMITS";

        /// Move the root filesystem into place instead of pivot_root(2), which a node whose root is
        /// a ramdisk needs.
        no_pivot: bool = false, flag = "no-pivot", env = "CONTAINER_NO_PIVOT";

        /// Directory of keys for encrypted images.
        decryption_keys_path: Option<PathBuf> = "/etc/crio/keys/",
            flag = "decryption-keys-path",
            status = Accepted("this version does not decrypt images");

        /// Further read-only stores of OCI artifacts.
        additional_artifact_stores: Vec<PathBuf> = [],
            status = Accepted("this version does not mount OCI artifacts");

        /// Path of the conmon binary. Empty looks beside the daemon's own binary and in its
        /// `../lib/cricket` and `../libexec/cricket`, then for `cricket-conmon` in $PATH. It must be
        /// cricket's own conmon: the C program of the same name speaks another protocol. Where it is
        /// set, it stands above monitor_path of the handlers.
        conmon: Option<PathBuf> = None, flag = "conmon", env = "CONTAINER_CONMON",
            status = Deprecated("use monitor_path of the handler");

        /// Cgroup of the monitors. Where it is set, it stands above monitor_cgroup of the handlers.
        conmon_cgroup: String = "", flag = "conmon-cgroup", env = "CONTAINER_CONMON_CGROUP",
            status = Deprecated("use monitor_cgroup of the handler");

        /// Environment of the monitors. Where it is set, it stands above monitor_env of the handlers.
        conmon_env: Vec<EnvVar> = Vec::new(), flag = "conmon-env", env = "CONTAINER_CONMON_ENV",
            status = Deprecated("use monitor_env of the handler");

        /// Path of cricket's pause binary, which runs in pods that share one PID namespace. Empty
        /// looks beside the daemon's own binary and in its `../lib/cricket` and
        /// `../libexec/cricket`, then for `cricket-pause` in $PATH. CRI-O does not know this key.
        pause_path: Option<PathBuf> = None;

        /// Variables for every container, as `NAME=value`; the image and the pod override them.
        default_env: Vec<EnvVar> = Vec::new(),
            flag = "default-env", env = "CONTAINER_DEFAULT_ENV";

        /// Smallest GOMAXPROCS that is set from a container's CPU request; 0 sets none.
        min_injected_gomaxprocs: i64 = 0,
            flag = "inject-gomaxprocs", env = "CONTAINER_INJECT_GOMAXPROCS",
            status = Accepted("this version does not set GOMAXPROCS");

        /// Separate pods by SELinux labels, where the node has SELinux. Where the key is not set and
        /// the node's kernel has SELinux on, it is `true`.
        selinux: bool = false, flag = "selinux", env = "CONTAINER_SELINUX";

        /// File with the default seccomp profile. Empty means the built-in one.
        seccomp_profile: Option<PathBuf> = None,
            flag = "seccomp-profile", env = "CONTAINER_SECCOMP_PROFILE";

        /// File with a seccomp profile for privileged containers, which have none otherwise.
        privileged_seccomp_profile: Option<PathBuf> = None,
            flag = "privileged-seccomp-profile", env = "CONTAINER_PRIVILEGED_SECCOMP_PROFILE";

        /// AppArmor profile of containers that ask for the runtime's default, where the node has
        /// AppArmor. `crio-default` is loaded when the daemon starts, which needs apparmor_parser:
        /// without it, and with none of that name loaded, such containers have none, and the log
        /// warns. Another must be loaded; `unconfined` means none.
        apparmor_profile: String = "crio-default",
            flag = "apparmor-profile", env = "CONTAINER_APPARMOR_PROFILE";

        /// File with blockio classes.
        blockio_config_file: Option<PathBuf> = None,
            flag = "blockio-config-file", status = Accepted(NO_RESCTRL);

        /// Read that file and look for block devices anew for every container.
        blockio_reload: bool = false,
            flag = "blockio-reload", status = Accepted(NO_RESCTRL);

        /// File with classes of the resctrl filesystem.
        rdt_config_file: Option<PathBuf> = None,
            flag = "rdt-config-file", status = Accepted(NO_RESCTRL);

        /// Directories of CDI device specifications; later ones win.
        cdi_spec_dirs: Vec<PathBuf> = ["/etc/cdi", "/var/run/cdi"],
            flag = "cdi-spec-dirs", env = "CONTAINER_CDI_SPEC_DIRS";

        /// Configuration of irqbalance that is edited for pods that ask for CPUs without interrupts.
        irqbalance_config_file: Option<PathBuf> = "/etc/sysconfig/irqbalance",
            flag = "irqbalance-config-file", status = Accepted(NO_IRQBALANCE);

        /// File with the mask to restore when the daemon starts; `disable` restores none.
        irqbalance_config_restore_file: String = "/etc/sysconfig/orig_irq_banned_cpus",
            flag = "irqbalance-config-restore-file", status = Accepted(NO_IRQBALANCE);

        /// Who creates cgroups; the kubelet asks for it and follows. Where the key is not set and
        /// systemd does not run the host, it is `cgroupfs`.
        cgroup_manager: CgroupManager = CgroupManager::Systemd,
            flag = "cgroup-manager", env = "CONTAINER_CGROUP_MANAGER";

        /// Capabilities of a container before what its pod adds and drops.
        default_capabilities: Vec<Capability> = capabilities(),
            flag = "default-capabilities", env = "CONTAINER_DEFAULT_CAPABILITIES";

        /// Put capabilities into the inheritable set too, as runtimes before Kubernetes 1.24 did.
        add_inheritable_capabilities: bool = false,
            flag = "add-inheritable-capabilities", env = "CONTAINER_ADD_INHERITABLE_CAPABILITIES";

        /// Kernel parameters of every pod, as `net.ipv4.ping_group_range=0 0`; the pod's own win.
        default_sysctls: Vec<Sysctl> = Vec::new(),
            flag = "default-sysctls", env = "CONTAINER_DEFAULT_SYSCTLS";

        /// Devices that a pod may ask for by the annotation `devices.crio.io` (older name:
        /// `io.kubernetes.cri-o.Devices`), where allowed_annotations of its handler or
        /// workload has it.
        allowed_devices: Vec<PathBuf> = ["/dev/fuse", "/dev/net/tun"],
            flag = "allowed-devices", env = "CONTAINER_ALLOWED_DEVICES";

        /// Devices for every container, as `/dev/host:/dev/container:rwm`.
        additional_devices: Vec<Device> = Vec::new(),
            flag = "additional-devices", env = "CONTAINER_ADDITIONAL_DEVICES";

        /// Give a container's devices to its runAsUser and runAsGroup.
        device_ownership_from_security_context: bool = false,
            flag = "device-ownership-from-security-context";

        /// Directories of OCI hooks: files `*.json` in the format of oci-hooks(5), versions 1.0.0
        /// and 0.1.0. A file in a later directory hides those of its name in earlier ones. They are
        /// looked at for every container that is created. One that cannot be used is in the log,
        /// and containers that it is for are refused with its name.
        hooks_dir: Vec<PathBuf> = ["/usr/share/containers/oci/hooks.d"],
            flag = "hooks-dir", env = "CONTAINER_HOOKS_DIR";

        /// Mounts for every container, as `/host:/container`.
        default_mounts: Vec<String> = [],
            status = Accepted("CRI-O dropped the key; write a mounts.conf for default_mounts_file");

        /// File in the format of containers-mounts.conf(5) with files and directories that every
        /// container gets a copy of. Empty means /etc/containers/mounts.conf, else
        /// /usr/share/containers/mounts.conf.
        default_mounts_file: Option<PathBuf> = None,
            flag = "default-mounts-file", env = "CONTAINER_DEFAULT_MOUNTS_FILE";

        /// Most processes in one container; 0 or less means no limit.
        pids_limit: i64 = -1, flag = "pids-limit", env = "CONTAINER_PIDS_LIMIT",
            status = Deprecated("use podPidsLimit of the kubelet");

        /// Regular expression for log messages that are written.
        log_filter: String = "", flag = "log-filter", env = "CONTAINER_LOG_FILTER",
            status = Accepted("this version filters log messages by level only");

        /// Least important log message that is written: `fatal`, `panic`, `error`, `warn`, `info`,
        /// `debug` or `trace`.
        log_level: LogLevel = LogLevel::Info,
            flag = "log-level", short = Some('l'), env = "CONTAINER_LOG_LEVEL";

        /// Largest container log in bytes, 8192 or more; negative means no limit.
        log_size_max: i64 = -1 => rules::log_size,
            flag = "log-size-max", env = "CONTAINER_LOG_SIZE_MAX",
            status = Accepted("use containerLogMaxSize of the kubelet");

        /// Write container output to the journal as well.
        log_to_journald: bool = false, flag = "log-journald", env = "CONTAINER_LOG_JOURNALD",
            status = Accepted("this version writes container output to log files only");

        /// Directory of exit files.
        container_exits_dir: Option<PathBuf> = "/var/run/crio/exits",
            flag = "container-exits-dir", env = "CONTAINER_EXITS_DIR",
            status = Accepted("an exit is recorded in the container's bundle");

        /// Directory of attach sockets.
        container_attach_socket_dir: Option<PathBuf> = "/var/run/crio",
            flag = "container-attach-socket-dir", env = "CONTAINER_ATTACH_SOCKET_DIR",
            status = Accepted("the monitor's socket is in the container's bundle");

        /// Where the host's root is mounted when the daemon itself runs in a container.
        bind_mount_prefix: Option<PathBuf> = None,
            flag = "bind-mount-prefix", env = "CONTAINER_BIND_MOUNT_PREFIX",
            status = Accepted("this version does not run in a container");

        /// Give every container a read-only root filesystem, privileged ones too, with a tmpfs on
        /// /run, /tmp and /var/tmp.
        read_only: bool = false, flag = "read-only", env = "CONTAINER_READ_ONLY";

        /// User ids of one user namespace for all containers.
        uid_mappings: String = "", flag = "uid-mappings", env = "CONTAINER_UID_MAPPINGS",
            status = Accepted(KUBERNETES_USERNS);

        /// Group ids of one user namespace for all containers.
        gid_mappings: String = "", flag = "gid-mappings", env = "CONTAINER_GID_MAPPINGS",
            status = Accepted(KUBERNETES_USERNS);

        /// Lowest user id of the host that a mapping may name.
        minimum_mappable_uid: i64 = -1,
            flag = "minimum-mappable-uid", env = "CONTAINER_MINIMUM_MAPPABLE_UID",
            status = Accepted(KUBERNETES_USERNS);

        /// Lowest group id of the host that a mapping may name.
        minimum_mappable_gid: i64 = -1,
            flag = "minimum-mappable-gid", env = "CONTAINER_MINIMUM_MAPPABLE_GID",
            status = Accepted(KUBERNETES_USERNS);

        /// Seconds that a container has to be gone after it was killed before stopping it counts as
        /// an error; less than 30 is taken as 30.
        ctr_stop_timeout: i64 = 30, flag = "ctr-stop-timeout", env = "CONTAINER_STOP_TIMEOUT";

        /// How long the OCI runtime may take to kill, update or delete a container; it may take
        /// twice as long to start one or a command in it (creating one has
        /// `container_create_timeout` of the handler). `0s` means the default. CRI-O does not know
        /// this key.
        runtime_call_timeout: Duration = Duration::from_secs(60);

        /// How long the file system of a mount's source may take to tell about it before creating
        /// the container fails: a dead one tells nothing for ever. It holds for the directory of
        /// the container's log too, and for each file of a volume that is labelled. `0s` means
        /// the default. CRI-O does not know this key.
        mount_source_timeout: Duration = Duration::from_secs(60);

        /// Start a pause process only for pods that share one PID namespace.
        drop_infra_ctr: bool = true, flag = "drop-infra-ctr", env = "CONTAINER_DROP_INFRA_CTR",
            status = Accepted("other pods never have a pause process");

        /// CPUs for pause processes. Empty means all.
        infra_ctr_cpuset: Option<CpuSet> = None,
            flag = "infra-ctr-cpuset", env = "CONTAINER_INFRA_CTR_CPUSET";

        /// CPUs that guaranteed containers may share when they ask for it.
        shared_cpuset: Option<CpuSet> = None,
            flag = "shared-cpuset", env = "CONTAINER_SHARED_CPUSET",
            status = Accepted("this version has no shared CPUs");

        /// Directory whose subdirectories netns, ipcns, utsns and userns pin the pods' namespaces.
        namespaces_dir: PathBuf = "/var/run",
            flag = "namespaces-dir", env = "CONTAINER_NAMESPACES_DIR";

        /// Path of CRI-O's pinns binary.
        pinns_path: Option<PathBuf> = None, flag = "pinns-path", env = "CONTAINER_PINNS_PATH",
            status = Accepted("the daemon pins namespaces itself");

        /// Mount sources that must exist: a container that names a missing one fails, where any
        /// other missing source is created as a directory.
        absent_mount_sources_to_reject: Vec<PathBuf> = [],
            flag = "absent-mount-sources-to-reject",
            env = "CONTAINER_ABSENT_MOUNT_SOURCES_TO_REJECT";

        /// Checkpoint and restore with criu.
        enable_criu_support: bool = true,
            flag = "enable-criu-support", env = "CONTAINER_ENABLE_CRIU_SUPPORT";

        /// Send container events to the kubelet, for its evented PLEG.
        enable_pod_events: bool = false,
            flag = "enable-pod-events", env = "ENABLE_POD_EVENTS";

        /// Leave the containers of host-network pods without SELinux label.
        hostnetwork_disable_selinux: bool = true,
            flag = "hostnetwork-disable-selinux", env = "CONTAINER_HOSTNETWORK_DISABLE_SELINUX";

        /// Leave host ports to the CNI plugins: they get them as capability `portMappings`.
        /// Otherwise cricket leads them to pods itself, by a table of nftables, and plugins do not
        /// get them. A pod keeps what it was made with.
        disable_hostport_mapping: bool = false,
            flag = "disable-hostport-mapping", env = "DISABLE_HOSTPORT_MAPPING";

        /// Time zone of containers: a name such as `Europe/Berlin`, or `Local` for the node's. Empty
        /// leaves it to the image.
        timezone: String = "" => rules::timezone,
            flag = "timezone", alias = "tz", env = "CONTAINER_TIME_ZONE";

        nested {
            /// `[crio.runtime.runtimes.NAME]`, by handler name.
            runtimes: BTreeMap<String, Handler>,
            /// `[crio.runtime.workloads.NAME]`, by workload name.
            workloads: BTreeMap<String, Workload>,
        }
    }
}

table! {
    /// Checkpoints of containers.
    CheckpointRestore {
        /// What may be done with single containers: `none`, `checkpoint_only` or
        /// `checkpoint_restore`. Without criu in $PATH it is `none`.
        container_level_enabled: CheckpointLevel = CheckpointLevel::CheckpointRestore;
    }
}
