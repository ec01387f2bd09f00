//! Errors of the command line and the exit codes, all in one place.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the command was not carried out, or `config --check`, `doctor leaks` or `check` found something |
//! | 2 | the command line is wrong; `doctor leaks` or `check` cannot tell what there is |
//! | 78 | the configuration is wrong (EX_CONFIG of sysexits.h): starting again does not help |

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The daemon ended with an error.
    #[error(transparent)]
    Daemon(Box<dyn Error + Send + Sync>),
    /// Nobody answers on the daemon's socket.
    #[error("no daemon answers on {}; is it running? --listen names another socket", socket.display())]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// What connecting said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A daemon runs and does not answer.
    #[error(
        "a daemon has the runroot, and none answers on {}; it is starting or stopping, hangs, or \
         serves another socket (--listen)",
        socket.display()
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What connecting said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The daemon refused.
    #[error("{what}: {message}")]
    Refused {
        /// What it was asked to do.
        what: String,
        /// What it answered.
        message: String,
    },
    /// A file that the command line names cannot be used.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The async runtime of a client command did not start.
    #[error("starting the client")]
    Runtime(#[source] std::io::Error),
    /// Standard output cannot be written.
    #[error("standard output")]
    Output(#[source] std::io::Error),
    /// The parser knows a command that has no code.
    #[error("unknown command `{0}`")]
    UnknownCommand(String),
}

impl CliError {
    /// That nobody answers, where it is known that somebody is there.
    pub(super) fn silent(self) -> CliError {
        match self {
            CliError::NoDaemon { socket, source } => CliError::Silent { socket, source },
            other => other,
        }
    }
}

const FAILED: u8 = 1;
const NOT_TOLD: u8 = 2;
const CONFIG: u8 = 78;

/// The code for something that did not work out, after it has been said.
pub fn failed() -> ExitCode {
    ExitCode::from(FAILED)
}

/// The code for a question that could not be answered, after it has been said.
pub fn not_told() -> ExitCode {
    ExitCode::from(NOT_TOLD)
}

/// The code of a parser's error, which is none for help.
pub fn usage(error: &clap::Error) -> ExitCode {
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(FAILED))
}

/// Prints an error with all its causes and gives its code.
pub fn report(error: &CliError) -> ExitCode {
    eprintln!("cricket: {}", chain(error));
    match error {
        CliError::Config(_) => ExitCode::from(CONFIG),
        _ => failed(),
    }
}

/// An error and its causes on one line.
pub(super) fn chain(error: &CliError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_its_causes_once() {
        let error = CliError::File {
            path: PathBuf::from("/x.tar"),
            source: std::io::Error::from_raw_os_error(2),
        };
        assert_eq!(
            chain(&error),
            "/x.tar: No such file or directory (os error 2)"
        );
        let error = CliError::Config(ConfigError::NotAFile {
            path: PathBuf::from("/etc/x"),
        });
        assert_eq!(chain(&error), "/etc/x: not a regular file");
    }
}
