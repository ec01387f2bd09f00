//! Logs: structured events on standard error or in a file.
//!
//! Rooms write `tracing` events with fields; here it is decided which appear, where and how.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::{self, format::FmtSpan};

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, message, fields.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The log file could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("log file {path}: open: {source}", path = path.display())]
pub struct LogError {
    path: PathBuf,
    source: io::Error,
}

/// Starts logging for the whole process: events of `level` and above, to `file` or, without one,
/// to standard error, which is the journal under systemd.
///
/// # Errors
/// When the file cannot be opened for appending.
pub fn start(level: LevelFilter, format: Format, file: Option<&Path>) -> Result<(), LogError> {
    let builder = fmt::fmt()
        .with_max_level(level)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    match (file, format) {
        (None, Format::Text) => builder.with_ansi(false).with_writer(io::stderr).init(),
        (None, Format::Json) => builder.json().with_writer(io::stderr).init(),
        (Some(path), format) => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|source| LogError {
                    path: path.to_owned(),
                    source,
                })?;
            let builder = builder.with_ansi(false).with_writer(Mutex::new(file));
            match format {
                Format::Text => builder.init(),
                Format::Json => builder.json().init(),
            }
        }
    }
    Ok(())
}

/// The level of a name that the configuration has accepted (`log_level`); `fatal` and `panic`,
/// which CRI-O knows beside `error`, show errors.
pub fn level(name: &str) -> LevelFilter {
    match name {
        "fatal" | "panic" | "error" => LevelFilter::ERROR,
        "warn" | "warning" => LevelFilter::WARN,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => LevelFilter::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_names_of_crio_conf_are_levels() {
        for (name, filter) in [
            ("fatal", LevelFilter::ERROR),
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("trace", LevelFilter::TRACE),
        ] {
            assert_eq!(level(name), filter);
        }
    }
}
