//! What can be wrong with a request for a container. All of it is found before anything is
//! started, and says which field is wrong, so that a pod's event tells its author what to change.

use std::path::PathBuf;

use super::config::NamespaceMode;
use crate::security::capabilities::CapabilityError;
use crate::security::selinux::SelinuxError;

/// Why there is no OCI configuration for a container.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A field whose value cannot be, in words.
    #[error("{field}: {problem}")]
    Invalid {
        /// The CRI field, with an index or key where there are several.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Neither the request nor the image says what to run.
    #[error("no command: set `command` or `args`, image {image} has neither entrypoint nor cmd")]
    NoCommand {
        /// The image's name.
        image: String,
    },
    /// An environment value that JSON cannot carry.
    #[error("envs: value of `{key}` is not UTF-8 (byte {at})")]
    EnvNotUtf8 {
        /// The variable.
        key: String,
        /// The first byte that is not.
        at: usize,
    },
    /// A privileged container in a pod that is not.
    #[error("no privileged container allowed in sandbox {sandbox}")]
    PrivilegedInPlainSandbox {
        /// The sandbox id.
        sandbox: String,
    },
    /// The capabilities.
    #[error("security_context.capabilities: {0}")]
    Capability(#[from] CapabilityError),
    /// A mount whose source would have to be an absolute path.
    #[error("mounts[{index}]: host path `{host_path}` for {container_path} is not absolute")]
    RelativeHostPath {
        /// Which of the request's mounts.
        index: usize,
        /// As sent.
        host_path: String,
        /// As sent.
        container_path: String,
    },
    /// Propagation that the source cannot give.
    #[error(
        "mounts[{index}]: {} is on a mount that is not {needed}, which its propagation needs; \
         make it so on the host (mount --make-r{needed})", host_path.display()
    )]
    NotPropagating {
        /// Which of the request's mounts.
        index: usize,
        /// The source on the host.
        host_path: PathBuf,
        /// `shared` or `slave`.
        needed: &'static str,
    },
    /// The handler or the kernel cannot do recursive read-only mounts. The kubelet looks for the
    /// first word (cri-api pkg/errors).
    #[error(
        "RROUnsupported: mounts[{index}]: {container_path} asks for a recursive read-only mount, \
         which needs Linux 5.12 and an OCI runtime whose `features` has `rro` (runc 1.1 and later)"
    )]
    RecursiveReadOnlyUnsupported {
        /// Which of the request's mounts.
        index: usize,
        /// As sent.
        container_path: String,
    },
    /// A namespace mode that means nothing here.
    #[error("namespace_options.{namespace}: {mode:?} {problem}")]
    Namespace {
        /// Which namespace.
        namespace: &'static str,
        /// The mode.
        mode: NamespaceMode,
        /// Why not.
        problem: &'static str,
    },
    /// A sysctl that would not stay in the pod.
    #[error("sysctls: `{key}` {problem}")]
    Sysctl {
        /// The key as sent.
        key: String,
        /// Why not.
        problem: &'static str,
    },
    /// SELinux labels.
    #[error("{0}")]
    Selinux(#[from] SelinuxError),
    /// A seccomp profile on a kernel without seccomp.
    #[error("security_context.seccomp: profile {profile} asked for, the kernel has no seccomp")]
    NoSeccomp {
        /// The file.
        profile: String,
    },
}

impl SpecError {
    /// A value that cannot be.
    pub(super) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> SpecError {
        SpecError::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }
}
