//! `[crio.image]`: pulling and trusting images.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::choice::{ImageVolumes, ShortNameMode};
use crate::config::rules;
use crate::config::schema::table;

table! {
    /// Pulling and trusting images.
    Image {
        /// What a name without a transport is read as; images come from registries only.
        default_transport: String = "docker://" => rules::transport,
            flag = "default-transport", env = "CONTAINER_DEFAULT_TRANSPORT";

        /// File with registry credentials for the whole node, in the format of
        /// containers-auth.json(5), for what the kubelet sends none for. Empty uses the files of the
        /// user that the daemon runs as.
        global_auth_file: Option<PathBuf> = None,
            flag = "global-auth-file", env = "CONTAINER_GLOBAL_AUTH_FILE";

        /// Directory with credentials for one pull of one namespace, `NAMESPACE-SHA256.json` with the
        /// SHA-256 of the repository's name, as crio-credential-provider writes them. The pull removes
        /// its file.
        namespaced_auth_dir: Option<PathBuf> = "/etc/crio/auth";

        /// Image that is reported as the pause image and kept from the kubelet's image collection.
        /// cricket runs its own pause binary and never pulls it.
        pause_image: String = "registry.k8s.io/pause:3.10.1",
            flag = "pause-image", env = "CONTAINER_PAUSE_IMAGE";

        /// File with credentials for the pause image.
        pause_image_auth_file: Option<PathBuf> = None,
            flag = "pause-image-auth-file", env = "CONTAINER_PAUSE_IMAGE_AUTH_FILE",
            status = Accepted("the pause image is never pulled");

        /// Command of the pause image.
        pause_command: String = "/pause",
            flag = "pause-command", env = "CONTAINER_PAUSE_COMMAND",
            status = Accepted("cricket runs its own pause binary");

        /// Images that the kubelet may not remove: a name, or with `*` at its end or at both ends a
        /// part of names. Upper and lower case are the same.
        pinned_images: Vec<String> = [],
            flag = "pinned-images", env = "CONTAINER_PINNED_IMAGES";

        /// Trust policy instead of /etc/containers/policy.json.
        signature_policy: Option<PathBuf> = None,
            flag = "signature-policy", env = "CONTAINER_SIGNATURE_POLICY";

        /// Directory of trust policies per namespace, `NAMESPACE.json`. A namespace that has a file
        /// there is ruled by it alone, the others by the policy for all.
        signature_policy_dir: Option<PathBuf> = "/etc/crio/policies",
            flag = "signature-policy-dir", env = "CONTAINER_SIGNATURE_POLICY_DIR";

        /// Registries that a name without a registry may be in, where registries.conf has no
        /// unqualified-search-registries. A key of older versions of CRI-O.
        registries: Vec<String> = [],
            flag = "registry", env = "CONTAINER_REGISTRIES",
            status = Deprecated(
                "write unqualified-search-registries = [\"HOST\"] with the same hosts into \
                 registries.conf"
            );

        /// Registries that are spoken to without TLS or without checking it: `host`, `host:port` or a
        /// range of addresses such as `10.0.0.0/8`, beside those with `insecure = true` in
        /// registries.conf. CRI-O from 1.35 on ignores this key.
        insecure_registries: Vec<String> = [],
            flag = "insecure-registry", env = "CONTAINER_INSECURE_REGISTRY";

        /// What becomes of volumes that an image declares: `mkdir`, `bind` or `ignore`.
        image_volumes: ImageVolumes = ImageVolumes::Mkdir,
            flag = "image-volumes", env = "CONTAINER_IMAGE_VOLUMES";

        /// Directory for blobs during a pull.
        big_files_temporary_dir: Option<PathBuf> = None,
            flag = "big-files-temporary-dir", env = "CONTAINER_BIG_FILES_TEMPORARY_DIR",
            status = Accepted("layers are unpacked from the socket without a temporary copy");

        /// Cgroup that images are pulled in, or `pod`.
        separate_pull_cgroup: String = "",
            flag = "separate-pull-cgroup", env = "PULL_IN_A_CGROUP",
            status = Accepted("pulls run in the daemon's own cgroup");

        /// Take up changes of registries.conf and its drop-ins at once; otherwise at the start and with
        /// SIGHUP only. A file that has become wrong changes nothing and is told in the log.
        auto_reload_registries: bool = false,
            flag = "auto-reload-registries", env = "AUTO_RELOAD_REGISTRIES";

        /// End a pull when no byte of a download has come for this long; `0s` means 60 seconds.
        pull_progress_timeout: Duration = Duration::ZERO,
            flag = "pull-progress-timeout", env = "CONTAINER_PULL_PROGRESS_TIMEOUT";

        /// Directory whose archives (`*.tar`, also gzip or zstd) and OCI layouts are loaded when the
        /// daemon starts, those that are new or have changed since. The socket does not wait for
        /// them: until an image is loaded, the kubelet sees it missing and tries again. One that is
        /// broken is told in the log and tried again at the next start. Their images may be
        /// collected as others are, unless `pinned_images` names them. Empty loads none. CRI-O has no
        /// such key.
        image_archives_dir: Option<PathBuf> = None,
            flag = "image-archives-dir", env = "CONTAINER_IMAGE_ARCHIVES_DIR";

        /// Mount OCI artifacts as image volumes: each blob is a file, named by its title.
        oci_artifact_mount_support: bool = true,
            flag = "oci-artifact-mount-support", env = "CONTAINER_OCI_ARTIFACT_SUPPORT";

        /// What an image name without a registry means when registries.conf lists several:
        /// `enforcing` is an error, `disabled` tries them in order.
        short_name_mode: ShortNameMode = ShortNameMode::Enforcing;
    }
}
