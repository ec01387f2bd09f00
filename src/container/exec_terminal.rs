//! The process of a command on a terminal, as the OCI runtime reads it: only there can the
//! terminal's first size be given, so that the command never sees another.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::create::CONFIG;
use super::sources::io_error;
use super::{ContainerError, Containers, Record, TerminalSize};
use crate::state::Id;
use crate::sys::blocking;

/// The part of a bundle's config.json that further processes are like.
#[derive(Deserialize)]
struct Config {
    process: Value,
}

/// A process as the runtime reads it; removed when dropped.
#[derive(Debug)]
pub(super) struct ProcessFile(PathBuf);

impl ProcessFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ProcessFile {
    fn drop(&mut self) {
        // What cannot be removed goes with the bundle.
        let _left = fs::remove_file(&self.0);
    }
}

impl Containers {
    /// Writes the process of a command on a terminal into the container's bundle: the container's
    /// own with another command, a terminal and, like the peers', `TERM=xterm` unless it is set.
    pub(super) async fn terminal_process(
        &self,
        record: &Record,
        command: &[String],
        size: Option<TerminalSize>,
    ) -> Result<ProcessFile, ContainerError> {
        let bundle = self.rooms.run_dir.container(&record.id);
        let command = command.to_vec();
        blocking(move || {
            let config = bundle.join(CONFIG);
            let text = fs::read(&config).map_err(io_error("read", &config))?;
            let config: Config = serde_json::from_slice(&text)
                .map_err(io::Error::from)
                .map_err(io_error("read", &config))?;
            let process = on_terminal(config.process, command, size);
            let path = bundle.join(format!("exec-{}.json", Id::random()));
            let file = ProcessFile(path.clone());
            // It holds the container's environment.
            let mut options = fs::File::options();
            options.write(true).create_new(true).mode(0o600);
            options
                .open(&path)
                .and_then(|mut file| file.write_all(process.to_string().as_bytes()))
                .map_err(io_error("write", &path))?;
            Ok(file)
        })
        .await
    }
}

fn on_terminal(mut process: Value, command: Vec<String>, size: Option<TerminalSize>) -> Value {
    process["args"] = command.into();
    process["terminal"] = true.into();
    match size {
        Some(TerminalSize { width, height }) if width > 0 && height > 0 => {
            process["consoleSize"] = json!({ "height": height, "width": width });
        }
        _ => {
            process
                .as_object_mut()
                .map(|process| process.remove("consoleSize"));
        }
    }
    let variables = process.as_object_mut().map(|process| {
        let variables = process.entry("env").or_insert_with(|| json!([]));
        variables.as_array_mut()
    });
    if let Some(Some(variables)) = variables {
        let is_term = |one: &Value| one.as_str().is_some_and(|one| one.starts_with("TERM="));
        if !variables.iter().any(is_term) {
            variables.push("TERM=xterm".into());
        }
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_on_a_terminal_is_like_the_container_but_for_command_terminal_and_size() {
        let own = json!({
            "args": ["server"], "cwd": "/srv", "env": ["A=b"], "user": { "uid": 7, "gid": 8 },
            "consoleSize": { "height": 1, "width": 1 },
        });
        let size = |width, height| Some(TerminalSize { width, height });
        let expected = json!({
            "args": ["sh"], "cwd": "/srv", "env": ["A=b", "TERM=xterm"],
            "user": { "uid": 7, "gid": 8 }, "consoleSize": { "height": 24, "width": 80 },
            "terminal": true,
        });
        assert_eq!(
            on_terminal(own.clone(), vec!["sh".into()], size(80, 24)),
            expected
        );
        for unknown in [None, size(0, 24), size(80, 0)] {
            let process = on_terminal(own.clone(), vec!["sh".into()], unknown);
            assert_eq!(process.get("consoleSize"), None);
        }
    }

    #[test]
    fn a_container_that_names_its_terminal_keeps_that() {
        let process = on_terminal(json!({ "env": ["TERM=dumb"] }), vec![], None);
        assert_eq!(process["env"], json!(["TERM=dumb"]));
        let process = on_terminal(json!({}), vec![], None);
        assert_eq!(process["env"], json!(["TERM=xterm"]));
    }
}
