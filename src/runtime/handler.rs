//! Handlers: which OCI runtime runs a pod, chosen by the name in the pod's RuntimeClass.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::remembered::Remembered;
use super::{Features, RuntimeError};

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
    /// How long a call may take that sends a signal, changes limits or removes what is dead; start
    /// and exec have twice that (`runtime_call_timeout`).
    #[serde(default = "a_minute")]
    pub call_timeout: Duration,
}

/// What records hold that were written before the time was in them.
fn a_minute() -> Duration {
    Duration::from_secs(60)
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
    /// Annotations by which authors of its pods may ask the node for something, as prefixes
    /// (`allowed_annotations`).
    pub allowed_annotations: Vec<String>,
    /// Annotations of every pod of it, below the pod's own (`default_annotations`).
    pub default_annotations: BTreeMap<String, String>,
    /// Its programs for images of other platforms, by `os/architecture`
    /// (`platform_runtime_paths`).
    pub platform_paths: BTreeMap<String, PathBuf>,
    /// Whether the root is moved into place instead of pivot_root(2) (`no_pivot`).
    pub no_pivot: bool,
    /// How long `create` may take.
    pub create_timeout: Duration,
    /// The smallest memory limit that a container may ask for, in bytes: below it the runtime's
    /// own start would be killed for lack of memory.
    pub min_memory_bytes: i64,
    /// What pods of it can ask for; found out by [`Handlers::new`].
    pub features: Features,
}

impl Program {
    /// How long the runtime may take to start a container, or a command in one: hooks run then.
    pub fn start_timeout(&self) -> Duration {
        self.call_timeout.saturating_mul(2)
    }

    /// A call of it, as people are told what is waited for.
    pub fn call(&self, command: &str) -> String {
        format!("{} {command}", self.path.display())
    }

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

/// All configured handlers; they may change while the daemon runs. A pod keeps the one it was made
/// with.
#[derive(Debug)]
pub struct Handlers {
    known: ArcSwap<Known>,
    remembered: PathBuf,
}

/// Handlers whose features are known.
#[derive(Debug)]
pub struct Known {
    default: String,
    by_name: BTreeMap<String, Arc<Handler>>,
}

impl Handlers {
    /// The handlers of the configuration, whose programs have been found, the one named `default`
    /// serving pods without a class. Asks each runtime what it can do, all at once, and waits for a
    /// silent one no longer than the deadline of that; those whose answer is in the file
    /// `remembered` are not asked. `kernel`: its version, major and minor.
    ///
    /// # Errors
    /// When the default is not among them.
    pub async fn new(
        default: String,
        handlers: Vec<Handler>,
        kernel: (u32, u32),
        remembered: PathBuf,
    ) -> Result<Self, RuntimeError> {
        let mut answers = Remembered::read(&remembered);
        let known = known(default, handlers, kernel, &mut answers).await?;
        answers.write(&remembered);
        Ok(Self {
            known: ArcSwap::from_pointee(known),
            remembered,
        })
    }

    /// What [`Handlers::new`] does, all runtimes asked anew, to be taken up by
    /// [`Handlers::replace`].
    ///
    /// # Errors
    /// When the default is not among them.
    pub async fn ask(
        default: String,
        handlers: Vec<Handler>,
        kernel: (u32, u32),
    ) -> Result<Known, RuntimeError> {
        known(default, handlers, kernel, &mut Remembered::default()).await
    }

    /// The handler of this name; the empty name means the default.
    ///
    /// # Errors
    /// When there is no such handler.
    pub fn get(&self, name: &str) -> Result<Arc<Handler>, RuntimeError> {
        let known = self.known.load();
        let wanted = if name.is_empty() {
            &known.default
        } else {
            name
        };
        known
            .by_name
            .get(wanted)
            .cloned()
            .ok_or_else(|| RuntimeError::NoHandler {
                name: wanted.to_owned(),
                known: known.by_name.keys().cloned().collect(),
            })
    }

    /// Names and features of all handlers, in order; the first is the default once more, under the
    /// empty name: the kubelet looks it up like any other.
    pub fn features(&self) -> Vec<(String, Features)> {
        let known = self.known.load();
        let default = known.by_name.get(&known.default);
        let default = default.map(|handler| (String::new(), handler.features));
        let named = known.by_name.iter();
        let named = named.map(|(name, handler)| (name.clone(), handler.features));
        default.into_iter().chain(named).collect()
    }

    /// Takes up other handlers for pods that are made from now on.
    pub fn replace(&self, known: Known) {
        self.known.store(Arc::new(known));
        // They may have been asked because one is a script that runs another program now.
        Remembered::default().write(&self.remembered);
    }
}

async fn known(
    default: String,
    handlers: Vec<Handler>,
    kernel: (u32, u32),
    answers: &mut Remembered,
) -> Result<Known, RuntimeError> {
    let before: &Remembered = answers;
    let asked = handlers.into_iter().map(|mut handler| async move {
        let answer = match before.of(&handler.program.path) {
            Some(answer) => Some(answer),
            None => Features::of(&handler.program).await,
        };
        handler.features = answer.unwrap_or_default().with_kernel(kernel);
        (handler, answer)
    });
    let mut by_name = BTreeMap::new();
    for (handler, answer) in join_all(asked).await {
        if let Some(answer) = answer {
            answers.note(&handler.program.path, answer);
        }
        by_name.insert(handler.program.handler.clone(), Arc::new(handler));
    }
    if by_name.contains_key(&default) {
        Ok(Known { default, by_name })
    } else {
        Err(RuntimeError::NoHandler {
            name: default,
            known: by_name.into_keys().collect(),
        })
    }
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
                call_timeout: a_minute(),
            },
            monitor: "/bin/true".into(),
            environment: Vec::new(),
            monitor_cgroup: String::new(),
            privileged_without_host_devices: false,
            allowed_annotations: Vec::new(),
            default_annotations: BTreeMap::new(),
            platform_paths: BTreeMap::new(),
            no_pivot: false,
            create_timeout: Duration::from_secs(240),
            min_memory_bytes: 0,
            features: Features::default(),
        }
    }

    #[tokio::test]
    async fn the_empty_name_is_the_default_and_an_unknown_one_is_told_with_those_there_are() {
        let list = vec![handler("runc", "/bin/true"), handler("old", "/bin/false")];
        let scratch = tempfile::tempdir().unwrap();
        let kept = scratch.path().join("features.json");
        let handlers = Handlers::new("runc".into(), list, (6, 1), kept.clone());
        let handlers = handlers.await.unwrap();
        assert_eq!(handlers.get("").unwrap().program.handler, "runc");
        let features = handlers.features();
        let names: Vec<&str> = features.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["", "old", "runc"]);
        let error = handlers.get("kata").unwrap_err().to_string();
        assert!(error.contains("kata") && error.contains("runc"), "{error}");
        let list = vec![handler("runc", "/bin/true")];
        let missing = Handlers::new("kata".into(), list, (6, 1), kept);
        assert!(missing.await.unwrap_err().to_string().contains("kata"));
    }

    #[tokio::test]
    async fn a_handler_that_is_a_real_runc_makes_recursive_read_only_mounts() {
        let runc = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .chain(["/usr/sbin".into()])
            .map(|dir| dir.join("runc"))
            .find(|path| path.is_file())
            .expect("`make deps` installs runc");
        let list = vec![handler("runc", runc.to_str().unwrap())];
        let scratch = tempfile::tempdir().unwrap();
        let of = async |kernel| {
            let kept = scratch.path().join("features.json");
            let handlers = Handlers::new("runc".into(), list.clone(), kernel, kept).await;
            handlers.unwrap().get("").unwrap().features
        };
        assert!(of((6, 1)).await.recursive_read_only);
        assert_eq!(of((5, 4)).await, Features::default());
    }
}
