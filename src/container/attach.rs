//! Attach: take part in the container's own streams.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::backlog::{Backlog, Stream};
use super::exec::Turn;
use super::pump::besides;
use super::{
    Container, ContainerError, Containers, Input, Output, Phase, Record, Streams, TerminalSize,
};
use crate::runtime::{Attachment, MAX_INPUT, Room, RuntimeError};

/// Most clients that are attached to one container at one time: what the monitor's 64 connections
/// leave beside commands and those who watch, start and stop.
pub(super) const MAX_ATTACHMENTS: usize = 8;

impl Container {
    /// Whether one more client could be attached: for a client that is to be sent there.
    ///
    /// # Errors
    /// When as many are attached as may be.
    pub async fn room_for_client(&self) -> Result<(), ContainerError> {
        self.attachment().await.map(drop)
    }

    async fn attachment(&self) -> Result<Turn, ContainerError> {
        let turn = self.attachments.take(Some(Instant::now())).await;
        turn.ok_or_else(|| self.attachments.busy(self))
    }
}

impl Containers {
    /// The created or running container of an id or a unique prefix of one, which can be attached
    /// to.
    ///
    /// # Errors
    /// When there is none, or more than one, or it has ended.
    pub fn alive(&self, prefix: &str) -> Result<Arc<Container>, ContainerError> {
        let container = self.find(prefix)?;
        let record = container.record();
        match record.phase {
            Phase::Created | Phase::Running { .. } => Ok(container),
            Phase::Making | Phase::Exited(_) => Err(ContainerError::NotAlive {
                id: record.id.clone(),
            }),
        }
    }

    /// Joins a client to the streams of a created or running container, from now on: nothing that
    /// was written before is shown. Returns when the container has ended and all that it wrote has
    /// been passed on, or when the client has gone; the client's ends are then shut down.
    ///
    /// The end of the client's input closes the container's where it was made with `stdin_once`,
    /// and does nothing otherwise. A client that leaves 17 MiB waiting is given those and then
    /// cut off: nobody else, nor the container, waits for it.
    ///
    /// # Errors
    /// When there is no such container, it has ended, as many are attached as may be, or the
    /// client was cut off.
    pub async fn attach(
        self: &Arc<Self>,
        id: &str,
        streams: Streams,
    ) -> Result<(), ContainerError> {
        let container = self.alive(id)?;
        let _turn = container.attachment().await?;
        let record = container.record();
        let stdin = streams.stdin.filter(|_| record.config.stdin);
        let (stdout, stderr) = (streams.stdout.is_some(), streams.stderr.is_some());
        let monitor = self.monitor(&record.id);
        let attachment = monitor.attach(stdin.is_some(), stdout, stderr).await?;
        let feed = async {
            if let Some(from) = stdin {
                feed(from, &attachment, record.config.stdin_once).await;
            }
        };
        let resize = async {
            if let Some(sizes) = streams.resize {
                resize(sizes, &attachment, &record).await;
            }
        };
        if stdout || stderr {
            let inputs = async {
                tokio::join!(feed, resize);
            };
            let outputs = pass_on(&attachment, streams.stdout, streams.stderr);
            Ok(besides(outputs, inputs).await?)
        } else {
            // Who only feeds has gone at the end of the input.
            besides(feed, resize).await;
            Ok(())
        }
    }
}

/// Passes on what the container writes until its end, or until the client takes no more.
async fn pass_on(
    attachment: &Attachment,
    stdout: Option<Output>,
    stderr: Option<Output>,
) -> Result<(), RuntimeError> {
    let backlog = Backlog::default();
    let collect = async {
        let mut room = Room::default();
        let end = loop {
            backlog.room().await;
            match attachment.next(&mut room).await {
                Ok(Some(piece)) => backlog.push(piece),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        backlog.end();
        end
    };
    let give = give(&backlog, stdout, stderr);
    tokio::pin!(collect, give);
    tokio::select! {
        end = &mut collect => {
            give.await;
            end
        }
        // The client has gone, for the container has not ended.
        () = &mut give => Ok(()),
    }
}

/// Gives the client what waits for it until the last byte, and half-closes its ends; or until it
/// takes no more.
async fn give(backlog: &Backlog, mut stdout: Option<Output>, mut stderr: Option<Output>) {
    while let Some((stream, data)) = backlog.take().await {
        let to = match stream {
            Stream::Stdout => &mut stdout,
            Stream::Stderr => &mut stderr,
        };
        if let Some(to) = to
            && to.write_all(&data).await.is_err()
        {
            return;
        }
    }
    for mut to in [stdout, stderr].into_iter().flatten() {
        // A client that has gone needs no end.
        let _gone = to.shutdown().await;
    }
}

/// Feeds the container until the client's input ends, or the container has ended.
async fn feed(mut from: Input, attachment: &Attachment, close: bool) {
    let mut buffer = vec![0; MAX_INPUT];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if attachment.feed(&buffer[..count]).await.is_err() {
            return;
        }
    }
    if close {
        // An error is the container's end, which the outputs show.
        let _ended = attachment.close_stdin().await;
    }
}

async fn resize(
    mut sizes: tokio::sync::mpsc::Receiver<TerminalSize>,
    attachment: &Attachment,
    record: &Record,
) {
    while let Some(TerminalSize { width, height }) = sizes.recv().await {
        if record.config.tty
            && width > 0
            && height > 0
            && attachment.resize(width, height).await.is_err()
        {
            return;
        }
    }
}
