//! OCI hooks: programs of the node that the OCI runtime runs at steps of a container's life.
//!
//! This room reads the hook files of the configured directories (oci-hooks(5), versions 1.0.0 and
//! 0.1.0) and says which hooks a container gets; `spec` writes them into its configuration, the OCI
//! runtime runs them. CDI devices bring hooks of their own, in the same words.
//!
//! Files are looked at whenever a container is created, and those that have not changed since are
//! not read again, so nothing watches the directories and nothing is ever stale. A file that
//! cannot be used takes nobody down: what says for which containers it is, those are refused with
//! its name and its mistake, and all others go on; where even that is not to be understood, it is
//! left out and the log names it.

mod directories;
mod document;
mod error;

pub use directories::{Directories, Scene};
pub use error::HookError;

/// When a hook runs (OCI runtime specification, "POSIX-platform Hooks").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookStep {
    /// Deprecated by the three after it.
    Prestart,
    /// In the runtime's namespaces, before the root is changed.
    CreateRuntime,
    /// In the container's namespaces, before the root is changed.
    CreateContainer,
    /// In the container, before its process.
    StartContainer,
    /// After the process has started.
    Poststart,
    /// After the container is deleted.
    Poststop,
}

impl HookStep {
    /// The step of this name, as the OCI runtime specification spells it.
    pub fn of(name: &str) -> Option<HookStep> {
        Some(match name {
            "prestart" => HookStep::Prestart,
            "createRuntime" => HookStep::CreateRuntime,
            "createContainer" => HookStep::CreateContainer,
            "startContainer" => HookStep::StartContainer,
            "poststart" => HookStep::Poststart,
            "poststop" => HookStep::Poststop,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
