//! What can go wrong with a pod's network, with the facts a person needs to act on it.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use super::hostport::taken::HostPortTaken;

/// Pods cannot get a network now; the text becomes the CRI condition `NetworkReady=false`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotReady {
    /// What is missing, where it was looked for and what to do about it.
    pub reason: String,
}

/// The operation a CNI plugin is asked for, as it stands in `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach the pod.
    Add,
    /// Detach the pod and release what it held.
    Del,
    /// Say whether pods can be attached (CNI 1.1).
    Status,
    /// Release what belongs to no attachment (CNI 1.1).
    Gc,
}

impl Command {
    /// The value of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a pod was not attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network to attach to.
    #[error("network not ready: {0}")]
    NotReady(#[from] NotReady),
    /// The id is already in the attachment cache: an ADD is never made twice.
    #[error(
        "sandbox {sandbox_id}: already attached, by the record {}; detach it first",
        path.display()
    )]
    AlreadyAttached {
        /// The pod sandbox.
        sandbox_id: String,
        /// The cache record.
        path: PathBuf,
    },
    /// A value of the pod cannot be handed to a plugin.
    #[error("sandbox {sandbox_id}: {field} {value:?} cannot be passed to CNI plugins: {rule}")]
    Unpassable {
        /// The pod sandbox.
        sandbox_id: String,
        /// The pod's field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The deadline passed before the operation's turn came.
    #[error("sandbox {sandbox_id}: CNI {command}: {} s passed waiting for {waits_for}", waited.as_secs())]
    Busy {
        /// The pod sandbox.
        sandbox_id: String,
        /// What was to be done.
        command: Command,
        /// How long it waited.
        waited: Duration,
        /// Who is in the way.
        waits_for: String,
    },
    /// A port of the node belongs to another pod.
    #[error("{0}")]
    HostPortTaken(#[from] HostPortTaken),
    /// The kernel's table of host ports could not be read or written.
    #[error(
        "{}nftables table inet {table}: {source}; host ports need a kernel with nf_tables, nft_nat, \
         nft_masq, nft_ct and nft_fib_inet, or disable_hostport_mapping",
        if sandbox_id.is_empty() { String::new() } else { format!("sandbox {sandbox_id}: ") }
    )]
    HostPorts {
        /// The pod sandbox; empty: all.
        sandbox_id: String,
        /// The table.
        table: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The counters of a pod's interfaces could not be read.
    #[error("network namespace {}: read the counters of its interfaces: {source}", netns.display())]
    Counters {
        /// Where it is pinned.
        netns: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A plugin did not do its work.
    #[error("sandbox {sandbox_id}: network {network:?}: plugin {plugin:?} {command}: {failure}")]
    Plugin {
        /// The pod sandbox.
        sandbox_id: String,
        /// The network's name in its configuration.
        network: String,
        /// The plugin's `type`.
        plugin: String,
        /// What it was asked for.
        command: Command,
        /// How it failed. Boxed, because it is much larger than the rest.
        failure: Box<PluginFailure>,
    },
    /// The plugins succeeded, but no address belongs to the pod's interface.
    #[error(
        "sandbox {sandbox_id}: network {network:?}: the plugins gave no address for {interface}; \
         check the ipam section of its configuration"
    )]
    NoAddress {
        /// The pod sandbox.
        sandbox_id: String,
        /// The network's name.
        network: String,
        /// The interface inside the pod.
        interface: String,
    },
    /// The attachment cache cannot be read or written.
    #[error("CNI cache {}: {step}: {source}", path.display())]
    Cache {
        /// File or directory.
        path: PathBuf,
        /// What was done with it.
        step: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A cache record is not one that libcni or cricket wrote.
    #[error("CNI cache {}: {problem}; it is left in place", path.display())]
    CacheContent {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The attachment failed, and so did cleaning up after it. The cache record is kept.
    #[error("{attach}; cleaning up after it: {cleanup} (tried again when the pod is stopped)")]
    CleanUp {
        /// Why the pod was not attached.
        #[source]
        attach: Box<NetworkError>,
        /// Why it was not detached either.
        cleanup: Box<NetworkError>,
    },
    /// The task was dropped with the runtime it ran in.
    #[error("sandbox {sandbox_id}: CNI {command} was stopped because the daemon is stopping")]
    Stopped {
        /// The pod sandbox.
        sandbox_id: String,
        /// What was being done.
        command: Command,
    },
}

/// How a plugin failed.
#[derive(Debug, thiserror::Error)]
pub enum PluginFailure {
    /// No such program in the plugin directories.
    #[error("{0}")]
    NotFound(#[from] MissingPlugin),
    /// The kernel refused to run it.
    #[error("{}: {source}", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The plugin's own error document.
    #[error(
        "{msg}{}{} (code {code})",
        Tail("; ", details),
        Tail("; stderr: ", stderr)
    )]
    Reported {
        /// CNI error code.
        code: u64,
        /// Short text.
        msg: String,
        /// Long text, may be empty.
        details: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// It ended badly and printed no error document.
    #[error(
        "{status}, without an error document{}{}",
        Tail("; stdout: ", stdout),
        Tail("; stderr: ", stderr)
    )]
    Ended {
        /// Exit code or signal.
        status: ExitStatus,
        /// The start of its output.
        stdout: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// It said it succeeded, but its result is not one.
    #[error(
        "its result is unusable: {problem}{}{}",
        Tail("; stdout: ", stdout),
        Tail("; stderr: ", stderr)
    )]
    BadResult {
        /// What is wrong with it.
        problem: String,
        /// The start of its output.
        stdout: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// It printed more than a result can be.
    #[error("it printed more than {limit} bytes and was killed")]
    TooMuchOutput {
        /// The bound on stdout.
        limit: usize,
    },
    /// It did not end in time; it and its children were killed.
    #[error(
        "no answer from {}, process {pid}, within {:.1} s, so it was killed{}",
        path.display(), after.as_secs_f32(), Tail("; stderr: ", stderr)
    )]
    Deadline {
        /// The program.
        path: PathBuf,
        /// The plugin's process.
        pid: u32,
        /// How long this plugin ran.
        after: Duration,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// A pipe to the plugin or waiting for it failed.
    #[error("{step}: {source}")]
    Io {
        /// What was done.
        step: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl PluginFailure {
    /// Whether a DEL that failed this way has nothing more to remove: the plugin says that it
    /// does not know the container (code 3), or that what it should remove is not there.
    /// go-cni accepts the same two texts, because older plugins have no better way to say it.
    pub fn means_already_gone(&self, netns_is_gone: bool) -> bool {
        let Self::Reported {
            code, msg, details, ..
        } = self
        else {
            return false;
        };
        let says = |text: &str| msg.contains(text) || details.contains(text);
        *code == UNKNOWN_CONTAINER
            || says("not found")
            || (netns_is_gone && says("no such file or directory"))
    }
}

/// CNI error code 3: the plugin does not know the container, no clean-up is needed.
const UNKNOWN_CONTAINER: u64 = 3;

/// A plugin that a configuration names and no plugin directory has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "plugin {plugin:?} {problem} in {}; install it there or add its directory to plugin_dirs",
    list(dirs)
)]
pub struct MissingPlugin {
    /// The plugin's `type`.
    pub plugin: String,
    /// Missing, or there but not executable.
    pub problem: &'static str,
    /// Where it was looked for, in this order.
    pub dirs: Vec<PathBuf>,
}

/// What is wrong with a network configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    /// It cannot be read.
    #[error("{step}: {source}")]
    Read {
        /// What was done with the file.
        step: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is a directory, a pipe, a device.
    #[error("is not a regular file")]
    NotAFile,
    /// It is larger than a configuration can be.
    #[error("is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// It is not JSON.
    #[error("is not valid JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// A field is missing, of a wrong type or value.
    #[error("{field}: {problem}")]
    Field {
        /// The field, with its place in the document.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing to run.
    #[error("has no plugins: add some under \"plugins\" or as *.conf files in {}", dir.display())]
    NoPlugins {
        /// Where more plugins would have been read from.
        dir: PathBuf,
    },
}

/// A text that is only there, with its introduction, when it is not empty.
struct Tail<'a>(&'static str, &'a String);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_empty() {
            return Ok(());
        }
        write!(f, "{}{}", self.0, self.1)
    }
}

/// The most of a foreign text that a message repeats: enough for any that is meant for people,
/// and messages travel in gRPC trailers and node conditions.
const MAX_EXCERPT: usize = 1 << 10;

/// The beginning of a foreign text.
pub(super) fn excerpt(mut text: String) -> String {
    if text.len() > MAX_EXCERPT {
        let end = (0..=MAX_EXCERPT)
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// Paths as a person lists them.
pub(super) fn list<P: AsRef<Path>>(paths: &[P]) -> String {
    if paths.is_empty() {
        return "no directory (plugin_dirs is empty)".to_owned();
    }
    paths
        .iter()
        .map(|p| p.as_ref().display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_are_cut_between_characters() {
        assert_eq!(excerpt("short".into()), "short");
        let long = excerpt("x".to_owned() + &"é".repeat(MAX_EXCERPT));
        assert!(long.ends_with("é…") && long.len() <= MAX_EXCERPT + '…'.len_utf8());
    }
}
