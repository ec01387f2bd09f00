//! `[crio.network]`: CNI.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::schema::table;

table! {
    /// Pod networks.
    Network {
        /// Name of the CNI network for pods. Empty means the first in `network_dir`.
        cni_default_network: String = "",
            flag = "cni-default-network", env = "CONTAINER_CNI_DEFAULT_NETWORK";

        /// Directory of CNI configuration; it is watched.
        network_dir: PathBuf = "/etc/cni/net.d/",
            flag = "cni-config-dir", env = "CONTAINER_CNI_CONFIG_DIR";

        /// Directories of CNI plugins, first match wins.
        plugin_dirs: Vec<PathBuf> = ["/opt/cni/bin/", "/usr/lib/cni/"],
            flag = "cni-plugin-dir", env = "CONTAINER_CNI_PLUGIN_DIR";

        /// Directory of CNI plugins that is searched after `plugin_dirs`.
        plugin_dir: Option<PathBuf> = None, status = Deprecated("use plugin_dirs");

        /// Directory of CNI results, in the format that libcni and Multus read. CRI-O does not know
        /// this key.
        cni_cache_dir: PathBuf = "/var/lib/cni";

        /// How long the CNI plugins of one pod may take to attach it, all together; as long again the
        /// pod may wait for its turn. `0s` means the default. CRI-O does not know this key.
        cni_add_timeout: Duration = Duration::from_secs(300);

        /// How long the CNI plugins of one pod may take to detach it, likewise. CRI-O does not know
        /// this key.
        cni_del_timeout: Duration = Duration::from_secs(60);

        /// How long plugins of a network of CNI 1.1 that were ready may answer STATUS with an error
        /// before the node's network counts as not ready. CRI-O asks no more with `0s` once they were
        /// ready; cricket asks every 15 seconds, and with `0s` an error counts at once.
        cni_status_grace_period: Duration = Duration::ZERO;
    }
}
