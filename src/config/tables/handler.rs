//! `[crio.runtime.runtimes.NAME]`: one OCI runtime and how it is used.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::choice::RuntimeType;
use crate::config::quantity::{ByteSize, EnvVar};
use crate::config::rules;
use crate::config::schema::table;

/// The handler that pods without a RuntimeClass get unless the configuration says otherwise.
pub const DEFAULT: &str = "crun";

/// The handlers that exist without being configured, when their binaries do.
pub const BUILT_IN: [&str; 2] = ["crun", "runc"];

const MIN_MEMORY: ByteSize = ByteSize(12 * 1024 * 1024);
/// What crun needs to set a container up, as CRI-O measured it.
const MIN_MEMORY_CRUN: ByteSize = ByteSize(500 * 1024);

/// The shortest time that a container's creation may be limited to, in seconds.
pub const MIN_CREATE_TIMEOUT: i64 = 30;

table! {
    /// One OCI runtime, chosen by the name of a RuntimeClass's handler.
    Handler {
        /// Path of the runtime's binary. Empty looks for the handler's name in $PATH. For one in
        /// `/usr/libexec/crio` that is not there any more, the name is looked for in $PATH too.
        runtime_path: Option<PathBuf> = None;

        /// Kind of the runtime: `oci` for runc's command line. `pod` (conmon-rs) is run as `oci`.
        runtime_type: RuntimeType = RuntimeType::Oci;

        /// Directory where the runtime keeps its state. Empty means `/run/NAME`.
        runtime_root: Option<PathBuf> = None;

        /// Configuration file of the runtime, for the type `vm` only.
        runtime_config_path: Option<PathBuf> = None,
            status = Accepted("this version runs no VM runtimes");

        /// Take runtime_path, runtime_type and runtime_root from the default handler.
        inherit_default_runtime: bool = false;

        /// Leave the host's devices out of privileged containers.
        privileged_without_host_devices: bool = false;

        /// Annotations by which a pod's author may ask the node for something; each covers those
        /// that begin with it. `devices.crio.io` is for the daemon; `io.containers.trace-syscall`
        /// for the OCI seccomp hook; of CRI-O's others, `shm-size.crio.io`, `umask.crio.io`,
        /// `unified-cgroup.crio.io`, `cgroup2-mount-hierarchy-rw.crio.io` and
        /// `try-skip-volume-selinux-label.crio.io` are obeyed, under their older names too, the rest
        /// has no effect, which the log says; `run.oci.`, `org.systemd.property.`, `org.criu.config` and
        /// `module.wasm.image/variant` are for runc and crun. What is not allowed is hidden from
        /// hooks and runtime. The default handler allows the first two when it says nothing.
        allowed_annotations: Vec<String> = [];

        /// Path of the monitor. Empty looks for it as `conmon` of `crio.runtime` does.
        monitor_path: Option<PathBuf> = None;

        /// Cgroup of the monitors. With systemd: a slice, or `pod` for the pod's; empty means
        /// `system.slice`. With cgroupfs: `pod`, or empty for one of their own, for which
        /// `system.slice` is taken too.
        monitor_cgroup: String = "";

        /// Environment of the monitors and, through them, of the runtime.
        monitor_env: Vec<EnvVar> = Vec::new();

        /// Where exec probes run: empty for the monitor's cgroup, `container` for the container's.
        monitor_exec_cgroup: String = "" => rules::exec_cgroup,
            status = Accepted("exec sessions always run in the container's cgroup");

        /// Path of the runtime's binary by the platform of a container's image, as
        /// `"linux/arm64" = "/usr/bin/crun-arm64"`. The entry for the node's own platform is for
        /// pause processes too; images of platforms without an entry have runtime_path.
        platform_runtime_paths: BTreeMap<String, String> = BTreeMap::new() => rules::platforms;

        /// Leave pulling to the runtime.
        runtime_pull_image: bool = false,
            status = Accepted("this version pulls every image itself");

        /// Smallest memory limit that a container may have; less is refused with a clear error
        /// instead of an end by OOM while it is set up. The built-in crun has 500KiB.
        container_min_memory: ByteSize = MIN_MEMORY;

        /// Do not sync the log file to disk when a container ends; the last lines may be lost with
        /// the machine's power.
        no_sync_log: bool = false,
            status = Accepted("logs are never synced, so that ending a container waits for no disk");

        /// Annotations for every pod of this handler, as hooks and runtime see them; the pod's own
        /// win where they are allowed. For crun's handlers: `"run.oci.handler" = "krun"`.
        default_annotations: BTreeMap<String, String> = BTreeMap::new();

        /// Let the monitor serve streaming sessions, for the type `pod` only.
        stream_websockets: bool = false,
            status = Accepted("the daemon serves streaming sessions itself");

        /// CPUs of exec sessions: empty for the container's, `first` for the first of them.
        exec_cpu_affinity: String = "" => rules::exec_affinity,
            status = Accepted("exec sessions run on all of the container's CPUs");

        /// Seccomp profile of this handler instead of the one of `crio.runtime`. A handler whose
        /// profile cannot be read is left out with a warning, unless it is the default.
        seccomp_profile: Option<PathBuf> = None;

        /// Seconds that creating a container may take; less than 30 is taken as 30.
        container_create_timeout: i64 = 240;
    }
}

impl Handler {
    /// The handler that exists without being configured.
    pub fn built_in(name: &str) -> Self {
        let mut handler = Self::default();
        if name == "crun" {
            handler.container_min_memory = MIN_MEMORY_CRUN;
        }
        handler
    }
}
