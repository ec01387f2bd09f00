//! `[crio]`: where things are kept.

use std::path::PathBuf;

use super::{Api, CheckpointRestore, Image, Metrics, Network, Nri, Runtime, Stats, Tracing};
use crate::config::schema::table;

table! {
    /// The whole configuration: the keys of `[crio]` and the tables below it.
    Config {
        /// Directory for what must survive a reboot: images, layers, writable layers of
        /// containers. Everything of cricket is below its subdirectory `cricket`, so the directory
        /// can be shared with podman.
        root: PathBuf = "/var/lib/containers/storage",
            flag = "root", short = Some('r'), env = "CONTAINER_ROOT";

        /// Directory for what describes running pods and ends with a reboot; it should be on a
        /// tmpfs. Everything of cricket is below its subdirectory `cricket`.
        runroot: PathBuf = "/run/containers/storage",
            flag = "runroot", env = "CONTAINER_RUNROOT";

        /// Directory for newly pulled images instead of the one in `root`. Empty means `root`.
        imagestore: Option<PathBuf> = None,
            flag = "imagestore", env = "CONTAINER_IMAGESTORE";

        /// Storage driver.
        storage_driver: String = "overlay" => crate::config::rules::overlay,
            flag = "storage-driver", short = Some('s'), env = "CONTAINER_STORAGE_DRIVER";

        /// Options of the storage driver, as `overlay.mountopt=nodev`.
        storage_option: Vec<String> = [],
            flag = "storage-opt", env = "CONTAINER_STORAGE_OPT",
            status = Accepted("overlay mounts take their options from what the kernel supports");

        /// Directory for container logs when the kubelet names none.
        log_dir: PathBuf = "/var/log/crio/pods",
            flag = "log-dir", env = "CONTAINER_LOG_DIR",
            status = Accepted("a container has a log file where the kubelet names a directory");

        /// File that tells a reboot from a restart.
        version_file: Option<PathBuf> = "/var/run/crio/version",
            flag = "version-file", env = "CONTAINER_VERSION_FILE",
            status = Accepted("records carry the boot id; nothing is wiped after a reboot, `cricket wipe` asks");

        /// File that tells an upgrade from a restart.
        version_file_persist: Option<PathBuf> = None,
            flag = "version-file-persist", env = "CONTAINER_VERSION_FILE_PERSIST",
            status = Accepted("records are versioned; images are never wiped after an upgrade");

        /// File whose absence tells that the machine was not shut down cleanly.
        clean_shutdown_file: Option<PathBuf> = "/var/lib/crio/clean.shutdown",
            flag = "clean-shutdown-file", env = "CONTAINER_CLEAN_SHUTDOWN_FILE",
            status = Accepted("every image records by itself whether it reached the disk");

        /// Wipe containers after a reboot and images after an upgrade when the daemon starts.
        internal_wipe: bool = true,
            flag = "internal-wipe", env = "CONTAINER_INTERNAL_WIPE",
            status = Accepted("what nobody owns is always swept, nothing else is wiped");

        /// Check and repair the storage after an unclean shutdown.
        internal_repair: bool = true,
            flag = "internal-repair", env = "CONTAINER_INTERNAL_REPAIR",
            status = Accepted("what did not reach the disk is always dropped; `cricket check` finds the rest");

        nested {
            /// `[crio.api]`.
            api: Api,
            /// `[crio.runtime]`.
            runtime: Runtime,
            /// `[crio.checkpoint_restore]`.
            checkpoint_restore: CheckpointRestore,
            /// `[crio.image]`.
            image: Image,
            /// `[crio.network]`.
            network: Network,
            /// `[crio.metrics]`.
            metrics: Metrics,
            /// `[crio.tracing]`.
            tracing: Tracing,
            /// `[crio.stats]`.
            stats: Stats,
            /// `[crio.nri]`.
            nri: Nri,
        }
    }
}
