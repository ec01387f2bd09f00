//! Which gRPC status an error of the domain is.
//!
//! The kubelet branches on few codes: `NotFound` for status calls, `DeadlineExceeded` for
//! `ExecSync`, and prefixes of the message, which its client finds only with code `Unknown`.

use std::sync::Arc;

use tonic::{Code, Status};

use crate::cdi::CdiError;
use crate::cgroup::CgroupError;
use crate::container::ContainerError;
use crate::image::ImageError;
use crate::runtime::RuntimeError;
use crate::sandbox::SandboxError;
use crate::security::apparmor::AppArmorError;
use crate::security::selinux::SelinuxError;
use crate::spec::SpecError;
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
        SandboxError::Selinux(error) => of_selinux(error),
        SandboxError::Exists { .. } => Code::AlreadyExists,
        SandboxError::NotReady { .. } | SandboxError::NoUserNamespaces { .. } => {
            Code::FailedPrecondition
        }
        SandboxError::Container(error) => return of_container(error),
        SandboxError::NotStopped(error) => return of_sandbox(error),
        SandboxError::Runtime(error) => of_runtime(error),
        SandboxError::Cgroup(error) => of_cgroup(error),
        SandboxError::ShuttingDown(_) => Code::Unavailable,
        SandboxError::Io { .. }
        | SandboxError::Sysctl { .. }
        | SandboxError::UserNamespace { .. }
        | SandboxError::Unreachable { .. }
        | SandboxError::PauseEnded
        | SandboxError::Dial { .. }
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
        ContainerError::NotStopped(error) => return of_container(error),
        // Its first word is looked for.
        ContainerError::Spec(SpecError::RecursiveReadOnlyUnsupported { .. }) => Code::Unknown,
        ContainerError::Invalid { .. }
        | ContainerError::Spec(_)
        | ContainerError::Seccomp(_)
        | ContainerError::Users(_) => Code::InvalidArgument,
        ContainerError::AppArmor(error) => of_apparmor(error),
        ContainerError::Selinux(error) => of_selinux(error),
        ContainerError::Cdi(CdiError::Name { .. } | CdiError::TooMany { .. }) => {
            Code::InvalidArgument
        }
        ContainerError::Exists { .. } => Code::AlreadyExists,
        ContainerError::NoImage { .. } => Code::NotFound,
        ContainerError::NotCreated { .. }
        | ContainerError::NotRunning { .. }
        | ContainerError::NotAlive { .. }
        | ContainerError::NotUpdatable { .. }
        | ContainerError::MemoryInUse { .. } => Code::FailedPrecondition,
        ContainerError::Busy { .. } => Code::ResourceExhausted,
        ContainerError::NoCheckpoints { .. } => Code::Unimplemented,
        ContainerError::ExecTimedOut { .. }
        | ContainerError::DeadMountSource { .. }
        | ContainerError::DeadLogDirectory { .. }
        | ContainerError::CheckpointRemains { .. } => Code::DeadlineExceeded,
        ContainerError::Runtime(error) => of_runtime(error),
        ContainerError::Image(error) => return of_image(error),
        ContainerError::Cgroup(error) => of_cgroup(error),
        ContainerError::ShuttingDown(_) => Code::Unavailable,
        ContainerError::Unkillable { .. }
        | ContainerError::Io { .. }
        | ContainerError::Cdi(_)
        | ContainerError::Hook(_)
        | ContainerError::ImageVolume { .. }
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

/// For a client that followed events and has missed some: it has to begin again.
pub(super) fn missed(lost: u64) -> Status {
    Status::aborted(format!(
        "{lost} events were not read in time and are gone: list pods and containers, then follow anew"
    ))
}

/// A request that cannot be understood.
pub(super) fn invalid(field: &str, problem: &str) -> Status {
    Status::invalid_argument(format!("{field}: {problem}"))
}

/// The status of an error about a container that no other call shares.
pub(super) fn plain(error: ContainerError) -> Status {
    of_container(Arc::new(error))
}

fn of_runtime(error: &RuntimeError) -> Code {
    match error {
        RuntimeError::NoHandler { .. } => Code::InvalidArgument,
        RuntimeError::Busy => Code::ResourceExhausted,
        RuntimeError::Cancelled => Code::FailedPrecondition,
        RuntimeError::TimedOut { .. } => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}

fn of_apparmor(error: &AppArmorError) -> Code {
    match error {
        AppArmorError::NotLoaded { .. } | AppArmorError::Name { .. } => Code::InvalidArgument,
        AppArmorError::NoParser | AppArmorError::Parser { .. } | AppArmorError::List { .. } => {
            Code::Unknown
        }
    }
}

fn of_selinux(error: &SelinuxError) -> Code {
    match error {
        SelinuxError::Part { .. }
        | SelinuxError::Unknown { .. }
        | SelinuxError::NotAllowed { .. } => Code::InvalidArgument,
        SelinuxError::Policy { .. } | SelinuxError::NoCategories | SelinuxError::Relabel { .. } => {
            Code::Unknown
        }
    }
}

fn of_cgroup(error: &CgroupError) -> Code {
    match error {
        CgroupError::Parent { .. } => Code::InvalidArgument,
        CgroupError::NoBus { .. } => Code::Unavailable,
        CgroupError::UnitSlow { .. } => Code::DeadlineExceeded,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Id;

    #[test]
    fn the_kubelet_gets_the_codes_that_it_branches_on() {
        let missing = || LookupError::Missing("abc".into());
        let ambiguous = || LookupError::Ambiguous("a".into());
        let id = Id::random;
        let container = |error: ContainerError| of_container(Arc::new(error)).code();
        let sandbox = |error: SandboxError| of_sandbox(Arc::new(error)).code();
        let timeout = std::time::Duration::from_secs(1);
        let timed_out = ContainerError::ExecTimedOut {
            id: id(),
            command: "x".into(),
            timeout,
        };
        let no_handler = || RuntimeError::NoHandler {
            name: "kata".into(),
            known: vec![],
        };
        let exists = SandboxError::Exists {
            name: Default::default(),
            id: id(),
        };
        let nested = SandboxError::Container(Arc::new(missing().into()));
        let unsupported = SpecError::RecursiveReadOnlyUnsupported {
            index: 0,
            container_path: "/x".into(),
        };
        let in_use = ImageError::InUse {
            id: "i".into(),
            user: "c".into(),
        };
        for (code, expected) in [
            (container(missing().into()), Code::NotFound),
            (container(unsupported.into()), Code::Unknown),
            (container(ambiguous().into()), Code::InvalidArgument),
            (container(timed_out), Code::DeadlineExceeded),
            (
                container(ContainerError::NoImage { image: "i".into() }),
                Code::NotFound,
            ),
            (
                container(ContainerError::NotRunning { id: id() }),
                Code::FailedPrecondition,
            ),
            (
                container(RuntimeError::Busy.into()),
                Code::ResourceExhausted,
            ),
            (container(RuntimeError::MonitorGone.into()), Code::Unknown),
            (
                container(ContainerError::Exists {
                    name: Default::default(),
                    id: id(),
                }),
                Code::AlreadyExists,
            ),
            (sandbox(missing().into()), Code::NotFound),
            (sandbox(exists), Code::AlreadyExists),
            (
                sandbox(SandboxError::NotReady { id: id() }),
                Code::FailedPrecondition,
            ),
            (sandbox(no_handler().into()), Code::InvalidArgument),
            (sandbox(nested), Code::NotFound),
            (of_image(&in_use).code(), Code::FailedPrecondition),
        ] {
            assert_eq!(code, expected);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = status(Code::Unknown, &"ä".repeat(MAX_MESSAGE_BYTES));
        assert_eq!(cut.message().len(), MAX_MESSAGE_BYTES);
        let cut = status(
            Code::Unknown,
            &format!("x{}", "ä".repeat(MAX_MESSAGE_BYTES)),
        );
        assert_eq!(cut.message().len(), MAX_MESSAGE_BYTES - 1);
    }
}
