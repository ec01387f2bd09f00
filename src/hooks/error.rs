//! What can be wrong with a hook that a container is to have.

use std::io;
use std::path::PathBuf;

/// Why a container cannot have the hooks that are for it.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The file says that the hook is for this container, and cannot be used.
    #[error("hook file {}: {problem}; mend or remove it", file.display())]
    File {
        /// The hook file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The hook's program is not there.
    #[error(
        "hook file {}: its program {}: {source}; install it or remove the file",
        file.display(), program.display()
    )]
    Program {
        /// The hook file.
        file: PathBuf,
        /// The program.
        program: PathBuf,
        /// Why it cannot be run.
        source: io::Error,
    },
}
