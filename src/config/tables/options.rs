//! Flags and variables that have no key in crio.conf.

use std::path::PathBuf;

use crate::config::choice::{LogFormat, RuntimeType};
use crate::config::quantity::ByteSize;
use crate::config::schema::table;
use crate::config::value::Item;

use super::Handler;

const NO_PPROF: &str = "the daemon is not a Go program and has no pprof";

table! {
    /// What only the command line and the environment can say.
    Options {
        /// Configuration file. When it is named here it must exist; an empty name reads none.
        config: String = "/etc/crio/crio.conf",
            flag = "config", short = Some('c'), env = "CONTAINER_CONFIG";

        /// Directory of further configuration files, which are applied to the configuration in
        /// lexical order of their names, directories inside it included.
        config_dir: String = "/etc/crio/crio.conf.d",
            flag = "config-dir", short = Some('d'), env = "CONTAINER_CONFIG_DIR";

        /// File for the daemon's log. Empty means standard error.
        log: Option<PathBuf> = None, flag = "log", env = "CONTAINER_LOG";

        /// How the log's lines are written: `text` or `json`.
        log_format: LogFormat = LogFormat::Text, flag = "log-format", env = "CONTAINER_LOG_FORMAT";

        /// A runtime handler, as NAME:PATH:ROOT and, if wanted, further
        /// :TYPE:PRIVILEGED_WITHOUT_HOST_DEVICES:CONFIG_PATH:MIN_MEMORY.
        runtimes: Vec<RuntimeFlag> = Vec::new(), flag = "runtimes", env = "CONTAINER_RUNTIMES";

        /// registries.conf to read instead of the system's.
        registries_conf: Option<PathBuf> = None,
            flag = "registries-conf", env = "CONTAINER_REGISTRIES_CONF";

        /// Directory of drop-ins for registries.conf instead of the system's.
        registries_conf_dir: Option<PathBuf> = None,
            flag = "registries-conf-dir", env = "CONTAINER_REGISTRIES_CONF_DIR";

        /// Directory that says where signatures of images are (containers-registries.d(5)), instead
        /// of /etc/containers/registries.d.
        registries_d: Option<PathBuf> = None,
            flag = "registries-d", env = "CONTAINER_REGISTRIES_D";

        /// Serve Go profiles.
        profile: bool = false,
            flag = "profile", env = "CONTAINER_PROFILE", status = Accepted(NO_PPROF);

        /// Port for Go profiles.
        profile_port: u16 = 6060_u16,
            flag = "profile-port", env = "CONTAINER_PROFILE_PORT", status = Accepted(NO_PPROF);

        /// File for a Go CPU profile.
        profile_cpu: String = "",
            flag = "profile-cpu", env = "CONTAINER_PROFILE_CPU", status = Accepted(NO_PPROF);

        /// File for a Go memory profile.
        profile_mem: String = "",
            flag = "profile-mem", env = "CONTAINER_PROFILE_MEM", status = Accepted(NO_PPROF);

        /// Serve Go profiles on the daemon's socket.
        enable_profile_unix_socket: bool = false,
            flag = "enable-profile-unix-socket", env = "ENABLE_PROFILE_UNIX_SOCKET",
            status = Accepted(NO_PPROF);
    }
}

/// A handler as the flag `--runtimes` writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeFlag {
    /// Name of the handler.
    pub name: String,
    /// What the flag says about it; the rest has its defaults.
    pub handler: Handler,
}

impl Item for RuntimeFlag {
    const EXPECTED: &'static str = "a handler such as `runc:/usr/bin/runc:/run/runc`";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, found `{text}`", Self::EXPECTED);
        let fields: Vec<&str> = text.split(':').collect();
        let [name, path, root, rest @ ..] = fields.as_slice() else {
            return Err(wrong());
        };
        if name.is_empty() || rest.len() > 4 {
            return Err(wrong());
        }
        let optional = |text: &str| match text {
            "" => Ok(None),
            path => PathBuf::parse(path).map(Some),
        };
        let mut handler = Handler {
            runtime_path: optional(path)?,
            runtime_root: optional(root)?,
            ..Handler::default()
        };
        let field = |at: usize| rest.get(at).copied().filter(|text| !text.is_empty());
        if let Some(kind) = field(0) {
            handler.runtime_type = RuntimeType::parse(kind)?;
        }
        handler.privileged_without_host_devices = field(1) == Some("true");
        handler.runtime_config_path = optional(field(2).unwrap_or_default())?;
        if let Some(size) = field(3) {
            handler.container_min_memory = ByteSize::parse(size)?;
        }
        Ok(Self {
            name: (*name).to_owned(),
            handler,
        })
    }

    fn print(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_ref().map(Item::print).unwrap_or_default();
        let Handler {
            runtime_path,
            runtime_root,
            runtime_config_path,
            ..
        } = &self.handler;
        format!(
            "{}:{}:{}:{}:{}:{}:{}",
            self.name,
            path(runtime_path),
            path(runtime_root),
            self.handler.runtime_type.as_str(),
            self.handler.privileged_without_host_devices,
            path(runtime_config_path),
            self.handler.container_min_memory.print(),
        )
    }
}
