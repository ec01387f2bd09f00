//! What the streams of exec and attach are to a container: a client's ends, whatever protocol
//! carries them.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Where bytes for the process come from. Its end closes the process's standard input.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;

/// Where the process's output goes. It is shut down (half-closed) after the last byte.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// A client's ends of a process's standard streams. An absent one was not asked for.
#[derive(Default)]
pub struct Streams {
    /// Bytes for standard input.
    pub stdin: Option<Input>,
    /// Takes standard output, or what a terminal shows.
    pub stdout: Option<Output>,
    /// Takes standard error; absent with a terminal.
    pub stderr: Option<Output>,
    /// The sizes that the client's terminal takes; the first may come before the process runs.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("resize", &self.resize.is_some())
            .finish()
    }
}
