//! Taking part in a container's own stdio, through its monitor.

use conmon::{MAX_CHUNK, Reply, Request, Stream};

use super::RuntimeError;
use super::connection::Connection;
use super::monitor::{ANSWER, Monitor, next, unexpected, within};

/// Most bytes of input in one packet.
pub const MAX_INPUT: usize = MAX_CHUNK;
/// The largest packet of output: its bytes, and in front of them version, kind, stream and length.
const PACKET: usize = MAX_CHUNK + 64;

/// One client's part in a container's stdio, until it is dropped or the container ends.
#[derive(Debug)]
pub struct Attachment {
    connection: Connection,
}

/// What a container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'b> {
    /// On standard output, or on its terminal.
    Stdout(&'b [u8]),
    /// On standard error.
    Stderr(&'b [u8]),
}

/// Room for one [`Piece`].
#[derive(Debug)]
pub struct Room(Box<[u8]>);

impl Default for Room {
    fn default() -> Self {
        Self(vec![0; PACKET].into_boxed_slice())
    }
}

impl Monitor {
    /// Takes part in the container's stdio from now on: nothing that was written before comes.
    ///
    /// # Errors
    /// When the monitor does not answer or takes on no more.
    pub async fn attach(
        &self,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> Result<Attachment, RuntimeError> {
        let connection = self.connect()?;
        let request = Request::Attach {
            stdin,
            stdout,
            stderr,
        };
        connection.send(&request, &[]).await?;
        match within(ANSWER, "attach", next(&connection)).await?.reply()? {
            Reply::Done => Ok(Attachment { connection }),
            other => Err(unexpected("attach", other)),
        }
    }
}

impl Attachment {
    /// Waits for what the container writes next; `None` at its end. Whoever does not ask for a
    /// mebibyte is cut off with [`RuntimeError::Lagged`]: neither the container nor its log nor
    /// another client waits.
    ///
    /// # Errors
    /// When the client has lagged, or the monitor refused what was fed.
    pub async fn next<'b>(&self, room: &'b mut Room) -> Result<Option<Piece<'b>>, RuntimeError> {
        match self.connection.receive_into(&mut room.0).await? {
            None => Ok(None),
            Some(Reply::Output {
                stream: Stream::Stdout,
                data,
            }) => Ok(Some(Piece::Stdout(data))),
            Some(Reply::Output {
                stream: Stream::Stderr,
                data,
            }) => Ok(Some(Piece::Stderr(data))),
            Some(Reply::Lagged) => Err(RuntimeError::Lagged),
            Some(other) => Err(unexpected("attach", other)),
        }
    }

    /// Sends bytes, at most [`MAX_INPUT`], to the container's standard input. Waits while the
    /// container does not read.
    ///
    /// # Errors
    /// When the container has ended.
    pub async fn feed(&self, data: &[u8]) -> Result<(), RuntimeError> {
        self.connection.send(&Request::StdinData(data), &[]).await
    }

    /// Closes the container's standard input after what was fed.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub async fn close_stdin(&self) -> Result<(), RuntimeError> {
        self.connection.send(&Request::CloseStdin, &[]).await
    }

    /// Sets the size of the container's terminal, in characters.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), RuntimeError> {
        let request = Request::Resize { width, height };
        self.connection.send(&request, &[]).await
    }
}
