//! What a streaming URL stands for: the CRI call that it was the answer to.

/// One call of Exec, Attach or PortForward, kept until its URL is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRequest {
    /// Run a command in a container (`runtime.v1.ExecRequest`).
    Exec {
        /// The container, by its full id.
        container: String,
        /// The command and its arguments.
        command: Vec<String>,
        /// On a pseudo terminal.
        terminal: bool,
        /// Which streams the client will open.
        wanted: WantedStreams,
    },
    /// Join a container's own streams (`runtime.v1.AttachRequest`).
    Attach {
        /// The container, by its full id.
        container: String,
        /// The container has a terminal.
        terminal: bool,
        /// Which streams the client will open.
        wanted: WantedStreams,
    },
    /// Reach ports in a pod (`runtime.v1.PortForwardRequest`).
    PortForward {
        /// The pod, by its full id.
        sandbox: String,
        /// The ports, for protocols that do not name them with each stream.
        ports: Vec<u16>,
    },
}

/// Which of the standard streams a client will open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WantedStreams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; never with a terminal.
    pub stderr: bool,
}

impl StreamRequest {
    /// What the client's path begins with.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward { .. } => "portforward",
        }
    }

    /// About how much memory it holds.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &String| size_of::<String>() + text.len();
        size_of::<Self>()
            + match self {
                Self::Exec {
                    container, command, ..
                } => container.len() + command.iter().map(text).sum::<usize>(),
                Self::Attach { container, .. } => container.len(),
                Self::PortForward { sandbox, ports } => {
                    sandbox.len() + ports.len() * size_of::<u16>()
                }
            }
    }
}
