//! The pod's life: namespaces, files, network and cgroup.
mod files;
mod namespaces;
use std::{io, path::PathBuf};
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("{step} {path}: {source}", path = path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("sysctl {name}={value}: {source}")]
    Sysctl {
        name: String,
        value: String,
        source: io::Error,
    },
}
