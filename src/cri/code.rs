//! Which gRPC status an error of the domain is.
//!
//! The kubelet branches on few codes: `NotFound` for status calls, `DeadlineExceeded` for
//! `ExecSync`, and prefixes of the message, which its client finds only with code `Unknown`.

use tonic::{Code, Status};

use crate::cgroup::CgroupError;
use crate::container::ContainerError;
use crate::image::ImageError;
use crate::runtime::RuntimeError;
use crate::sandbox::SandboxError;
use crate::state::LookupError;

/// Messages longer than this are cut: they end up in events and gRPC trailers.
const MAX_MESSAGE_BYTES: usize = 4096;

/// The status of an error about a pod.
pub(super) fn of_sandbox(error: impl AsRef<SandboxError>) -> Status {
    let error = error.as_ref();
    let code = match error {
        SandboxError::Lookup(error) => of_lookup(error),
        SandboxError::Invalid { .. } | SandboxError::Spec(_) | SandboxError::User(_) => {
            Code::InvalidArgument
        }
        SandboxError::Exists { .. } => Code::AlreadyExists,
        SandboxError::NotReady { .. } => Code::FailedPrecondition,
        SandboxError::Container(error) => return of_container(error),
        SandboxError::Runtime(error) => of_runtime(error),
        SandboxError::Cgroup(error) => of_cgroup(error),
        SandboxError::ShuttingDown(_) => Code::Unavailable,
        SandboxError::Io { .. }
        | SandboxError::Sysctl { .. }
        | SandboxError::PauseEnded
        | SandboxError::NetworkNotReady(_)
        | SandboxError::Network(_)
        | SandboxError::Record(_) => Code::Unknown,
    };
    status(code, &error.to_string())
}

/// The status of an error about a container.
pub(super) fn of_container(error: impl AsRef<ContainerError>) -> Status {
    let error = error.as_ref();
    let code = match error {
        ContainerError::Lookup(error) => of_lookup(error),
        ContainerError::Invalid { .. }
        | ContainerError::Spec(_)
        | ContainerError::Seccomp(_)
        | ContainerError::Users(_) => Code::InvalidArgument,
        ContainerError::Exists { .. } => Code::AlreadyExists,
        ContainerError::NoImage { .. } => Code::NotFound,
        ContainerError::NotCreated { .. } | ContainerError::NotRunning { .. } => {
            Code::FailedPrecondition
        }
        ContainerError::ExecTimedOut { .. } => Code::DeadlineExceeded,
        ContainerError::Runtime(error) => of_runtime(error),
        ContainerError::Cgroup(error) => of_cgroup(error),
        ContainerError::ShuttingDown(_) => Code::Unavailable,
        ContainerError::Unkillable { .. }
        | ContainerError::Io { .. }
        | ContainerError::Image(_)
        | ContainerError::Storage(_)
        | ContainerError::Record(_) => Code::Unknown,
    };
    status(code, &error.to_string())
}

/// The status of an error about an image. The kubelet finds `RegistryUnavailable` and
/// `SignatureValidationFailed` at the beginning of the message only with code `Unknown`.
pub fn of_image(error: &ImageError) -> Status {
    let code = match error {
        ImageError::Reference { .. } => Code::InvalidArgument,
        ImageError::InUse { .. } => Code::FailedPrecondition,
        ImageError::NotFound { .. } => Code::NotFound,
        _ => Code::Unknown,
    };
    status(code, &error.to_string())
}

/// A request that cannot be understood.
pub(super) fn invalid(field: &str, problem: &str) -> Status {
    Status::invalid_argument(format!("{field}: {problem}"))
}

fn of_runtime(error: &RuntimeError) -> Code {
    match error {
        RuntimeError::NoHandler { .. } => Code::InvalidArgument,
        RuntimeError::Busy => Code::ResourceExhausted,
        RuntimeError::TimedOut { .. } => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}

fn of_cgroup(error: &CgroupError) -> Code {
    match error {
        CgroupError::Parent { .. } => Code::InvalidArgument,
        _ => Code::Unknown,
    }
}

fn of_lookup(error: &LookupError) -> Code {
    match error {
        LookupError::Missing(_) => Code::NotFound,
        LookupError::Ambiguous(_) => Code::InvalidArgument,
    }
}

fn status(code: Code, message: &str) -> Status {
    let end = (0..=MAX_MESSAGE_BYTES.min(message.len())).rfind(|at| message.is_char_boundary(*at));
    Status::new(code, &message[..end.unwrap_or(0)])
}
