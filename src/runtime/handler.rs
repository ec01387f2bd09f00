//! Handlers: which OCI runtime runs a pod, chosen by the name in the pod's RuntimeClass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RuntimeError;

/// An OCI runtime's program and where it keeps its state: what a container must be ended with, also
/// when the configuration has changed since it was made. Records hold it for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The name of the handler that it was configured as.
    pub handler: String,
    /// The program, absolute.
    pub path: PathBuf,
    /// Where it keeps its own state, its `--root`.
    pub root: PathBuf,
    /// Whether it makes cgroups through systemd, its `--systemd-cgroup`.
    pub systemd_cgroup: bool,
}

/// One `[crio.runtime.runtimes.NAME]` table: an OCI runtime and how it is called.
#[derive(Debug, Clone)]
pub struct Handler {
    /// The runtime.
    pub program: Program,
    /// The monitor's program, absolute.
    pub monitor: PathBuf,
    /// Environment of the monitor and, through it, of the runtime (`monitor_env`).
    pub environment: Vec<(String, String)>,
    /// Where monitors go (`monitor_cgroup`).
    pub monitor_cgroup: String,
    /// Whether privileged containers go without the host's devices.
    pub privileged_without_host_devices: bool,
    /// Experimental annotations that its pods may use, as prefixes (`allowed_annotations`).
    pub allowed_annotations: Vec<String>,
    /// Whether the root is moved into place instead of pivot_root(2) (`no_pivot`).
    pub no_pivot: bool,
    /// How long `create` may take.
    pub create_timeout: Duration,
    /// The smallest memory limit that a container may ask for, in bytes: below it the runtime's
    /// own start would be killed for lack of memory.
    pub min_memory_bytes: i64,
}

impl Program {
    /// The arguments before the runtime's subcommand.
    pub fn global_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--root".to_owned(),
            self.root.to_string_lossy().into_owned(),
        ];
        if self.systemd_cgroup {
            arguments.push("--systemd-cgroup".to_owned());
        }
        arguments
    }
}

/// All configured handlers.
#[derive(Debug)]
pub struct Handlers {
    default: String,
    by_name: BTreeMap<String, Arc<Handler>>,
}

impl Handlers {
    /// The handlers of the configuration, the one named `default` serving pods without a class.
    ///
    /// # Errors
    /// When the default is not among them, or its program or monitor cannot be run. Another
    /// handler whose program is missing is left out with a warning, as CRI-O does: one missing
    /// optional runtime must not take the node down.
    pub fn new(default: String, handlers: Vec<Handler>) -> Result<Self, RuntimeError> {
        let mut by_name = BTreeMap::new();
        for handler in handlers {
            match check_programs(&handler) {
                Err(error) if handler.program.handler == default => return Err(error),
                Err(error) => tracing::warn!(%error, "handler left out"),
                Ok(()) => drop(by_name.insert(handler.program.handler.clone(), Arc::new(handler))),
            }
        }
        if by_name.contains_key(&default) {
            Ok(Self { default, by_name })
        } else {
            Err(RuntimeError::NoHandler {
                name: default,
                known: by_name.into_keys().collect(),
            })
        }
    }

    /// The handler of this name; the empty name means the default.
    ///
    /// # Errors
    /// When there is no such handler.
    pub fn get(&self, name: &str) -> Result<Arc<Handler>, RuntimeError> {
        let wanted = if name.is_empty() { &self.default } else { name };
        self.by_name
            .get(wanted)
            .cloned()
            .ok_or_else(|| RuntimeError::NoHandler {
                name: wanted.to_owned(),
                known: self.by_name.keys().cloned().collect(),
            })
    }

    /// The names of all handlers, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

fn check_programs(handler: &Handler) -> Result<(), RuntimeError> {
    use std::os::unix::fs::PermissionsExt;
    for (key, path) in [
        ("runtime_path", &handler.program.path),
        ("monitor_path", &handler.monitor),
    ] {
        let runnable = std::fs::metadata(path)
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
        if !path.is_absolute() || !runnable {
            return Err(RuntimeError::Program {
                handler: handler.program.handler.clone(),
                key,
                path: path.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(name: &str, path: &str) -> Handler {
        Handler {
            program: Program {
                handler: name.into(),
                path: path.into(),
                root: "/run/x".into(),
                systemd_cgroup: false,
            },
            monitor: "/bin/true".into(),
            environment: Vec::new(),
            monitor_cgroup: String::new(),
            privileged_without_host_devices: false,
            allowed_annotations: Vec::new(),
            no_pivot: false,
            create_timeout: Duration::from_secs(240),
            min_memory_bytes: 0,
        }
    }

    #[test]
    fn a_missing_default_runtime_is_an_error_that_names_handler_key_and_path() {
        let error = Handlers::new("runc".into(), vec![handler("runc", "/nonexistent/runc")])
            .unwrap_err()
            .to_string();
        for part in ["runc", "runtime_path", "/nonexistent/runc"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_missing_other_runtime_is_left_out() {
        let list = vec![
            handler("runc", "/bin/true"),
            handler("kata", "/nonexistent/kata"),
        ];
        let handlers = Handlers::new("runc".into(), list).unwrap();
        assert_eq!(handlers.get("").unwrap().program.handler, "runc");
        let error = handlers.get("kata").unwrap_err().to_string();
        assert!(error.contains("kata") && error.contains("runc"), "{error}");
    }
}
