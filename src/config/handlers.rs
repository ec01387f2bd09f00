//! From the handlers of the file to programs on this machine.
//!
//! Files say names and leave things empty; this says which binary is run with which state
//! directory. It looks at the file system and so stays out of [`super::load()`], except for one
//! question: whether runc has to stand in for crun.

use std::path::{Path, PathBuf};

use super::choice::{CgroupManager, RuntimeType};
use super::error::ConfigError;
use super::load::Loaded;
use super::place::Problem;
use super::programs;
use super::quantity::EnvVar;
use super::tables::{Config, Handler, Runtime, handler};

/// A runtime handler whose programs exist.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyHandler {
    /// Its name, that of a RuntimeClass's handler.
    pub name: String,
    /// The OCI runtime.
    pub runtime_path: PathBuf,
    /// Where the OCI runtime keeps its state.
    pub runtime_root: PathBuf,
    /// cricket's conmon.
    pub monitor_path: PathBuf,
    /// A slice, `pod`, or empty for a cgroup of its own below the cgroup manager's root.
    pub monitor_cgroup: String,
    /// Environment of monitor and runtime.
    pub monitor_env: Vec<EnvVar>,
    /// Everything else.
    pub settings: Handler,
}

/// The handlers that can be used.
#[derive(Debug, Clone)]
pub struct Handlers {
    /// Name of the one for pods without RuntimeClass; it is in `ready`.
    pub default: String,
    /// By name.
    pub ready: Vec<ReadyHandler>,
    /// What was configured and cannot be used as it is.
    pub warnings: Vec<Problem>,
}

impl Handlers {
    /// Leaves out, with a warning, the handlers for which `fault` knows a reason; the default one
    /// must work.
    ///
    /// # Errors
    /// The fault of the default handler.
    pub fn leave_out<E: std::fmt::Display>(
        &mut self,
        loaded: &Loaded,
        key: &str,
        mut fault: impl FnMut(&ReadyHandler) -> Option<E>,
    ) -> Result<(), E> {
        let mut usable = Vec::new();
        for handler in std::mem::take(&mut self.ready) {
            match fault(&handler) {
                None => usable.push(handler),
                Some(error) if handler.name == self.default => return Err(error),
                Some(error) => {
                    let name = &handler.name;
                    let path = format!("crio.runtime.runtimes.{name}.{key}");
                    self.warnings.push(Problem::new(
                        loaded.origins.of(&path).clone(),
                        format!("runtime handler `{name}`: {error}; the handler is left out"),
                    ));
                }
            }
        }
        self.ready = usable;
        Ok(())
    }
}

/// The environment of a monitor when the file gives none, as in CRI-O.
const MONITOR_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds the programs of every handler.
///
/// A handler that cannot be used is left out with a warning, so that one broken RuntimeClass does
/// not take the node down; the default one must work. Built-in handlers that nobody asked for are
/// left out silently.
pub fn handlers(loaded: &Loaded) -> Result<Handlers, ConfigError> {
    let runtime = &loaded.config.runtime;
    let mut ready = Vec::new();
    let mut warnings = Vec::new();
    let is_new = |name: &&str| !runtime.runtimes.contains_key(*name);
    let built_in = handler::BUILT_IN.into_iter().filter(is_new);
    let built_in = built_in.map(|name| (name.to_owned(), Handler::built_in(name), false));
    let configured = runtime
        .runtimes
        .iter()
        .map(|(name, one)| (name.clone(), one.clone(), true));
    for (name, settings, asked_for) in configured.chain(built_in) {
        let is_default = name == runtime.default_runtime;
        match prepare(&name, settings, loaded, &mut warnings) {
            Ok(handler) => ready.push(handler),
            Err(error) if is_default => return Err(error),
            Err(error) if asked_for => {
                let path = format!("crio.runtime.runtimes.{name}");
                let origin = loaded.origins.of_table(&path).clone();
                warnings.push(Problem::new(
                    origin,
                    format!("{error}; the handler is left out"),
                ));
            }
            Err(_) => {}
        }
    }
    ready.sort_by(|a, b| a.name.cmp(&b.name));
    // The key for all handlers is blamed once, not once for each.
    warnings.dedup();
    Ok(Handlers {
        default: runtime.default_runtime.clone(),
        ready,
        warnings,
    })
}

/// cricket's pause binary.
pub fn pause_binary(loaded: &Loaded) -> Result<PathBuf, ConfigError> {
    match &loaded.config.runtime.pause_path {
        Some(path) => programs::executable(path, "pause_path"),
        None => programs::own(&programs::PAUSE, "the pause process", &loaded.sources),
    }
}

fn prepare(
    name: &str,
    mut settings: Handler,
    loaded: &Loaded,
    warnings: &mut Vec<Problem>,
) -> Result<ReadyHandler, ConfigError> {
    let runtime = &loaded.config.runtime;
    let mut binary_name = name;
    if settings.inherit_default_runtime && name != runtime.default_runtime {
        binary_name = &runtime.default_runtime;
        let default = runtime
            .runtimes
            .get(binary_name)
            .cloned()
            .unwrap_or_default();
        settings.runtime_path = default.runtime_path;
        settings.runtime_root = default.runtime_root;
        settings.runtime_type = default.runtime_type;
        settings.platform_runtime_paths = default.platform_runtime_paths;
    }
    let what = format!("runtime handler `{name}`");
    if settings.runtime_type == RuntimeType::Vm {
        let detail = "this version runs no runtimes of type `vm`".to_owned();
        return Err(ConfigError::Binary { what, detail });
    }
    let seconds = settings
        .container_create_timeout
        .max(handler::MIN_CREATE_TIMEOUT);
    settings.container_create_timeout = seconds;
    let runtime_path = runtime_binary((name, binary_name), &what, &settings, loaded, warnings)?;
    let monitor_path = monitor_binary(name, &what, &settings, loaded, warnings)?;
    let runtime_root = settings.runtime_root.clone();
    Ok(ReadyHandler {
        name: name.to_owned(),
        runtime_path,
        runtime_root: runtime_root.unwrap_or_else(|| Path::new("/run").join(binary_name)),
        monitor_path,
        monitor_cgroup: monitor_cgroup(&settings, &loaded.config),
        monitor_env: monitor_env(&settings, runtime),
        settings,
    })
}

/// `name` is the handler's, `binary_name` that of the program when no key names one.
fn runtime_binary(
    (name, binary_name): (&str, &str),
    what: &str,
    settings: &Handler,
    loaded: &Loaded,
    warnings: &mut Vec<Problem>,
) -> Result<PathBuf, ConfigError> {
    let platform = format!("{}/{}", std::env::consts::OS, go_arch());
    let of_platform = settings.platform_runtime_paths.get(&platform);
    let (named, key) = match (of_platform, &settings.runtime_path) {
        (Some(path), _) => (Some(Path::new(path)), "platform_runtime_paths"),
        (None, path) => (path.as_deref(), "runtime_path"),
    };
    if let Some(path) = named {
        let runtime = programs::runtime(path, what, &loaded.sources)?;
        if let Some(text) = runtime.instead {
            let key = format!("crio.runtime.runtimes.{name}.{key}");
            warnings.push(Problem::new(loaded.origins.of(&key).clone(), text));
        }
        return Ok(runtime.path);
    }
    programs::search(binary_name, &loaded.sources).ok_or_else(|| ConfigError::Binary {
        what: what.to_owned(),
        detail: format!(
            "there is no `{binary_name}` in $PATH ({}); install it, or set runtime_path in \
             [crio.runtime.runtimes.{binary_name}]",
            loaded
                .sources
                .search_path
                .as_deref()
                .unwrap_or_default()
                .display()
        ),
    })
}

/// Whether the keys of old (`conmon`, `conmon_cgroup`, `conmon_env`), where they are set, stand above
/// those of this handler: CRI-O has it so for its `oci` handlers alone.
pub(super) fn obeys_old_keys(settings: &Handler) -> bool {
    settings.runtime_type == RuntimeType::Oci
}

fn monitor_binary(
    name: &str,
    what: &str,
    settings: &Handler,
    loaded: &Loaded,
    warnings: &mut Vec<Problem>,
) -> Result<PathBuf, ConfigError> {
    let old = loaded.config.runtime.conmon.as_ref();
    let (named, key) = match old.filter(|_| obeys_old_keys(settings)) {
        Some(path) => (Some(path), "crio.runtime.conmon".to_owned()),
        None => (
            settings.monitor_path.as_ref(),
            format!("crio.runtime.runtimes.{name}.monitor_path"),
        ),
    };
    let monitor = programs::monitor(named.map(PathBuf::as_path), what, &loaded.sources)?;
    if let Some(text) = monitor.instead {
        warnings.push(Problem::new(loaded.origins.of(&key).clone(), text));
    }
    Ok(monitor.path)
}

/// CRI-O's default with systemd, which stands in many configurations. With cgroupfs there are no
/// slices, and CRI-O takes it for an empty one.
pub(super) const MONITOR_SLICE: &str = "system.slice";

fn monitor_cgroup(settings: &Handler, config: &Config) -> String {
    let old = config.runtime.conmon_cgroup.as_str();
    let named = match !old.is_empty() && obeys_old_keys(settings) {
        true => old,
        false => settings.monitor_cgroup.as_str(),
    };
    match (config.runtime.cgroup_manager, named) {
        (CgroupManager::Systemd, "") => MONITOR_SLICE,
        (CgroupManager::Cgroupfs, MONITOR_SLICE) => "",
        (_, named) => named,
    }
    .to_owned()
}

fn monitor_env(settings: &Handler, runtime: &Runtime) -> Vec<EnvVar> {
    let old = Some(&runtime.conmon_env).filter(|_| obeys_old_keys(settings));
    let set = old.into_iter().chain([&settings.monitor_env]);
    let path = || EnvVar {
        name: "PATH".to_owned(),
        value: MONITOR_PATH.to_owned(),
    };
    set.into_iter()
        .find(|env| !env.is_empty())
        .map_or_else(|| vec![path()], Vec::clone)
}

/// The architecture as Go and OCI platforms call it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
