//! `[crio.nri]`: node resource plugins.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::rules;
use crate::config::schema::table;

const NO_NRI: &str = "this version loads no NRI plugins";

table! {
    /// Node resource plugins.
    Nri {
        /// Let NRI plugins see and adjust pods and containers.
        enable_nri: bool = true, flag = "enable-nri", status = Accepted(NO_NRI);

        /// Socket for plugins that are started by others.
        nri_listen: PathBuf = "/var/run/nri/nri.sock" => rules::socket,
            flag = "nri-listen", status = Accepted(NO_NRI);

        /// Directory of plugins that the daemon starts.
        nri_plugin_dir: PathBuf = "/opt/nri/plugins",
            flag = "nri-plugin-dir", status = Accepted(NO_NRI);

        /// Directory of those plugins' configuration.
        nri_plugin_config_dir: PathBuf = "/etc/nri/conf.d",
            flag = "nri-plugin-config-dir", status = Accepted(NO_NRI);

        /// How long a plugin may take to register.
        nri_plugin_registration_timeout: Duration = Duration::from_secs(5),
            flag = "nri-plugin-registration-timeout", status = Accepted(NO_NRI);

        /// How long a plugin may take to answer.
        nri_plugin_request_timeout: Duration = Duration::from_secs(2),
            flag = "nri-plugin-request-timeout", status = Accepted(NO_NRI);

        /// Refuse plugins that are started by others.
        nri_disable_connections: bool = false,
            flag = "nri-disable-connections", status = Accepted(NO_NRI);

        nested {
            /// `[crio.nri.default_validator]`.
            default_validator: DefaultValidator,
        }
    }
}

table! {
    /// What plugins may not change.
    DefaultValidator {
        /// Check what plugins change.
        nri_enable_default_validator: bool = false, status = Accepted(NO_NRI);

        /// Refuse OCI hooks.
        nri_validator_reject_oci_hook_adjustment: bool = false, status = Accepted(NO_NRI);

        /// Refuse changes to the runtime's default seccomp profile.
        nri_validator_reject_runtime_default_seccomp_adjustment: bool = false,
            status = Accepted(NO_NRI);

        /// Refuse a seccomp profile where the pod asked for none.
        nri_validator_reject_unconfined_seccomp_adjustment: bool = false, status = Accepted(NO_NRI);

        /// Refuse changes to a seccomp profile that the pod names.
        nri_validator_reject_custom_seccomp_adjustment: bool = false, status = Accepted(NO_NRI);

        /// Refuse changes to namespaces.
        nri_validator_reject_namespace_adjustment: bool = false, status = Accepted(NO_NRI);

        /// Plugins without which no container is created.
        nri_validator_required_plugins: Vec<String> = [], status = Accepted(NO_NRI);

        /// Annotation by which a pod goes without them.
        nri_validator_tolerate_missing_plugins_annotation: String = "", status = Accepted(NO_NRI);
    }
}
