//! The reading side of a connection: frames taken apart, and each part given to whom it concerns.

use std::future::poll_fn;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf};
use tokio::sync::mpsc;

use super::error::SessionError;
use super::frame::{self, Control, HEAD_LEN, Head, ResetStatus};
use super::headers::{HeaderError, Headers, Inflater};
use super::stream::{Ending, Shared, Stream};

/// How much is read from the connection at a time.
const READ_BUFFER: usize = 64 * 1024;

/// How many streams may wait to be looked at before reading pauses.
pub const ARRIVALS: usize = 16;

const _: () = assert!(
    READ_BUFFER >= frame::MAX_BODY,
    "a control frame is read as a whole"
);

/// A stream that the client opened.
#[derive(Debug)]
pub struct Arrival {
    pub id: u32,
    pub headers: Headers,
    pub stream: Arc<Stream>,
    /// Nothing may be sent on it, not even a reply.
    pub unidirectional: bool,
}

/// The reading side of a connection.
#[derive(Debug)]
pub struct Incoming<Io> {
    io: ReadHalf<Io>,
    buffer: Box<[u8]>,
    /// What of `buffer` is read but not looked at yet.
    start: usize,
    end: usize,
    inflater: Inflater,
    /// The highest id that the client has used.
    last_stream: u32,
    shared: Arc<Shared<Io>>,
    arrivals: mpsc::Sender<Arrival>,
}

impl<Io: AsyncRead + AsyncWrite> Incoming<Io> {
    /// At the beginning of a connection.
    pub fn new(io: ReadHalf<Io>, shared: Arc<Shared<Io>>, arrivals: mpsc::Sender<Arrival>) -> Self {
        Self {
            io,
            buffer: vec![0; READ_BUFFER].into(),
            start: 0,
            end: 0,
            inflater: Inflater::new(),
            last_stream: 0,
            shared,
            arrivals,
        }
    }

    /// Reads until the client closes the connection.
    ///
    /// # Errors
    /// The connection breaks, or the client breaks the protocol.
    pub async fn run(&mut self) -> Result<(), SessionError> {
        loop {
            if self.waiting() == 0 && !self.read_more().await? {
                return Ok(());
            }
            self.need(HEAD_LEN).await?;
            let mut head = [0; HEAD_LEN];
            head.copy_from_slice(&self.buffer[self.start..self.start + HEAD_LEN]);
            self.start += HEAD_LEN;
            match Head::parse(head)? {
                Head::Data {
                    stream,
                    fin,
                    length,
                } => self.data(stream, fin, length).await?,
                Head::Control {
                    kind,
                    flags,
                    length,
                } => match frame::body_length(kind, length)? {
                    Some(length) => self.control(kind, flags, length).await?,
                    None => self.skip(length).await?,
                },
            }
        }
    }

    fn waiting(&self) -> usize {
        self.end - self.start
    }

    /// Whether there was more before the end of the connection. The buffer must not be full.
    async fn read_more(&mut self) -> Result<bool, SessionError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let read = self.io.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        self.shared.wire.activity().touch();
        Ok(read > 0)
    }

    /// Reads until there are so many bytes to look at; no more than the buffer holds.
    async fn need(&mut self, bytes: usize) -> Result<(), SessionError> {
        if self.buffer.len() - self.start < bytes {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.waiting());
        }
        while self.waiting() < bytes {
            if !self.read_more().await? {
                return Err(SessionError::Truncated);
            }
        }
        Ok(())
    }

    async fn skip(&mut self, mut length: usize) -> Result<(), SessionError> {
        while length > 0 {
            length -= self.part(length).await?;
        }
        Ok(())
    }

    /// Moves on by as many bytes, at most `length`, as are to hand: those just before `start`.
    async fn part(&mut self, length: usize) -> Result<usize, SessionError> {
        self.need(1).await?;
        let part = self.waiting().min(length);
        self.start += part;
        Ok(part)
    }

    async fn data(&mut self, id: u32, fin: bool, mut length: usize) -> Result<(), SessionError> {
        let Some(stream) = self.shared.find(id) else {
            // Data of a stream that was closed meanwhile is nothing unusual.
            if id > self.last_stream || id.is_multiple_of(2) {
                self.reset(id, ResetStatus::InvalidStream).await?;
            }
            return self.skip(length).await;
        };
        if stream.remote_done() {
            self.reset(id, ResetStatus::AlreadyClosed).await?;
            return self.skip(length).await;
        }
        while length > 0 {
            let part = self.part(length).await?;
            length -= part;
            let mut data = &self.buffer[self.start - part..self.start];
            while !data.is_empty() {
                let taken = poll_fn(|cx| self.shared.poll_receive(cx, id, &stream, data)).await;
                data = &data[taken..];
            }
        }
        if fin {
            self.shared.end_remote(id, &stream, Ending::Finished);
        }
        Ok(())
    }

    async fn control(&mut self, kind: u16, flags: u8, length: usize) -> Result<(), SessionError> {
        self.need(length).await?;
        let body = &self.buffer[self.start..self.start + length];
        self.start += length;
        match frame::parse_control(kind, flags, body)? {
            Control::SynStream {
                stream,
                fin,
                unidirectional,
                block,
            } => {
                let headers = Headers::parse(self.inflater.inflate(block)?);
                self.open(stream, fin, unidirectional, headers).await?;
            }
            // Nothing uses them, but the next block refers to them.
            Control::Headers { block } => {
                self.inflater.inflate(block)?;
            }
            Control::Reset { stream } => self.shared.abort(stream),
            // Those with even ids would be answers to ours.
            Control::Ping { id } if id % 2 == 1 => self.answer(&frame::ping(id)).await?,
            Control::Ping { .. } | Control::GoAway => {}
        }
        Ok(())
    }

    async fn open(
        &mut self,
        id: u32,
        fin: bool,
        unidirectional: bool,
        headers: Result<Headers, HeaderError>,
    ) -> Result<(), SessionError> {
        let status = match headers {
            Ok(headers) if id > self.last_stream => {
                self.last_stream = id;
                if let Some(stream) = self.shared.open(id, fin, unidirectional) {
                    let arrival = Arrival {
                        id,
                        headers,
                        stream,
                        unidirectional,
                    };
                    // Nobody takes streams any more when the connection is being closed.
                    let _ = self.arrivals.send(arrival).await;
                    return Ok(());
                }
                ResetStatus::Refused
            }
            _ => ResetStatus::ProtocolError,
        };
        self.last_stream = self.last_stream.max(id);
        self.reset(id, status).await
    }

    async fn reset(&mut self, id: u32, status: ResetStatus) -> Result<(), SessionError> {
        self.shared.abort(id);
        self.answer(&frame::reset(id, status)).await
    }

    /// Sends an answer. Waits, and so reads nothing more, while too many wait to be sent.
    async fn answer(&mut self, frame: &[u8]) -> Result<(), SessionError> {
        let result = poll_fn(|cx| self.shared.wire.poll_control(cx, frame)).await;
        // What we closed ourselves needs no answers.
        if result.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
            return Err(SessionError::Truncated);
        }
        Ok(())
    }
}
