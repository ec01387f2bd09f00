//! Why there is no configuration.

use std::path::PathBuf;

use super::place::Problem;

/// Why the configuration could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file that was asked for does not exist.
    #[error(
        "{}: no such configuration file, but {by} names it; write one with \
         `cricket config --default > {}`", path.display(), path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The flag or variable.
        by: String,
    },
    /// A device, socket or fifo stands where a file should.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// A file is too large to be a configuration.
    #[error("{}: larger than {limit} bytes, which no configuration file is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// A file is not text.
    #[error("{}: not UTF-8 text, byte {at} cannot be read", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is wrong.
        at: usize,
    },
    /// The drop-in directory has too many files.
    #[error("{}: more than {limit} drop-in files", dir.display())]
    TooManyDropIns {
        /// The directory.
        dir: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// The drop-in directory is too deep, or a link in it leads back.
    #[error("{}: more than {limit} directories deep; does a link lead back?", dir.display())]
    TooDeep {
        /// The directory that is too deep.
        dir: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// Files, variables or flags say things that cannot be.
    #[error("{}", .0.iter().map(Problem::with_excerpt).collect::<Vec<_>>().join("\n"))]
    Invalid(
        /// All of them, in the order in which they were found.
        Vec<Problem>,
    ),
    /// A file of the node that a key names, for containers, cannot be used.
    #[error("{key}: {}: {problem}", path.display())]
    NodeFile {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why, and the remedy.
        problem: String,
    },
    /// A program that the daemon runs is not installed.
    #[error("{what}: {detail}")]
    Binary {
        /// What the program is for: `default runtime "crun"`.
        what: String,
        /// Where it was looked for, and the remedy.
        detail: String,
    },
}
