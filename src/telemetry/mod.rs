//! Logs: structured events on standard error or in a file.
//!
//! Rooms write `tracing` events with fields; here it is decided which appear, where and how.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, writer::BoxMakeWriter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

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
/// to standard error, which is the journal under systemd. What the libraries below have to say is
/// shown from warnings on: at `debug` they tell of every frame of every connection.
///
/// # Errors
/// When the file cannot be opened for appending.
pub fn start(level: LevelFilter, format: Format, file: Option<&Path>) -> Result<Level, LogError> {
    let writer = match file {
        None => BoxMakeWriter::new(io::stderr),
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let open = |source| LogError {
                path: path.to_owned(),
                source,
            };
            BoxMakeWriter::new(Mutex::new(file.map_err(open)?))
        }
    };
    let (shown, handle) = reload::Layer::new(shown(level));
    let lines = fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_writer(writer);
    let registry = tracing_subscriber::registry().with(shown);
    match format {
        Format::Text => registry.with(lines).init(),
        Format::Json => registry.with(lines.json()).init(),
    }
    Ok(Level(handle))
}

/// The level of the log while it runs.
#[derive(Debug, Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

impl Level {
    /// Shows events of `level` and above from now on.
    pub fn set(&self, level: LevelFilter) {
        // it fails only when the log is gone, and then nothing is shown anyway
        let _gone = self.0.reload(shown(level));
    }
}

fn shown(level: LevelFilter) -> Targets {
    Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_default(level.min(LevelFilter::WARN))
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
