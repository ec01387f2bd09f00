//! Keys whose value is one of a few words.

use super::value::Item;

/// Defines an enum and the words for it.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident, $expected:literal {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )+
        }

        impl $name {
            /// The word in the file.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }

        impl Item for $name {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $( $word => Ok(Self::$variant), )+
                    other => Err(format!("expected {}, found `{other}`", Self::EXPECTED)),
                }
            }

            fn print(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

choice! {
    /// Who creates cgroups; the kubelet must be told the same.
    CgroupManager, "`systemd` or `cgroupfs`" {
        /// Transient units over D-Bus.
        Systemd = "systemd",
        /// Directories below the cgroup mounts.
        Cgroupfs = "cgroupfs",
    }
}

choice! {
    /// The least important log message that is written.
    LogLevel, "`panic`, `fatal`, `error`, `warn`, `info`, `debug` or `trace`" {
        /// As `error`: a daemon that cannot go on says so in an error.
        Panic = "panic",
        /// As `error`.
        Fatal = "fatal",
        /// What went wrong and was not repaired.
        Error = "error",
        /// What someone should look at.
        Warn = "warn",
        /// One line per change of state.
        Info = "info",
        /// Steps of each operation.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// How the log's lines are written.
    LogFormat, "`text` or `json`" {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

choice! {
    /// What becomes of the volumes that an image declares.
    ImageVolumes, "`mkdir`, `bind` or `ignore`" {
        /// An empty directory in the container's root filesystem.
        Mkdir = "mkdir",
        /// A directory beside the container's bundle, bind mounted.
        Bind = "bind",
        /// Nothing.
        Ignore = "ignore",
    }
}

choice! {
    /// What an image name without a registry means when several registries could be meant.
    ShortNameMode, "`enforcing` or `disabled`" {
        /// An error.
        Enforcing = "enforcing",
        /// The first registry that has it.
        Disabled = "disabled",
    }
}

choice! {
    /// The kind of an OCI runtime.
    RuntimeType, "`oci`, `vm` or `pod`" {
        /// An executable with runc's command line.
        Oci = "oci",
        /// A containerd shim (version 2).
        Vm = "vm",
        /// CRI-O's kind for conmon-rs, run as `oci` here.
        Pod = "pod",
    }
}

choice! {
    /// Whether single containers may be checkpointed and restored.
    CheckpointLevel, "`none`, `checkpoint_only` or `checkpoint_restore`" {
        /// Neither.
        None = "none",
        /// Checkpoints are written, not restored.
        CheckpointOnly = "checkpoint_only",
        /// Both.
        CheckpointRestore = "checkpoint_restore",
    }
}

choice! {
    /// The oldest TLS version that a server of the daemon accepts.
    TlsVersion, "`VersionTLS12` or `VersionTLS13`" {
        /// TLS 1.2.
        Tls12 = "VersionTLS12",
        /// TLS 1.3.
        Tls13 = "VersionTLS13",
    }
}
