//! Streams over WebSocket, as newer clients and browsers speak it: exec and attach in numbered
//! channels, port-forward in numbered channels or as SPDY inside messages.
//!
//! What a command's streams mean is `remote_command`'s, what a port's bytes are `port_forward`'s.

mod channel;
mod connection;
mod frame;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::pin::pin;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use self::channel::{ChannelWriter, Framing};
use self::connection::Connection;
use super::handshake::TUNNEL;
use super::inflow::{CHUNK, Inflow, SESSION_BYTES, STALLED};
use super::over_spdy::{Limits, over_spdy};
use super::port_forward::{Cut, Farewell, forward_one};
use super::remote_command::{self, Channels, CommandProtocol};
use super::rooms::FarEnds;
use super::{StreamRequest, WantedStreams};
use crate::container::{Input, Output};

/// Channels of exec and attach.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// A whole session, from the upgrade to the end of the connection.
pub(super) async fn serve<Io>(
    io: Io,
    protocol: &'static str,
    request: StreamRequest,
    rooms: &impl FarEnds,
    limits: Limits,
) where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (framing, protocol) = match protocol {
        TUNNEL => (Framing::Raw, CommandProtocol::V1),
        "v5.channel.k8s.io" => (Framing::Closable, CommandProtocol::V5),
        "v4.channel.k8s.io" => (Framing::Binary, CommandProtocol::V4),
        "v4.base64.channel.k8s.io" => (Framing::Base64, CommandProtocol::V4),
        "base64.channel.k8s.io" => (Framing::Base64, CommandProtocol::V1),
        _ => (Framing::Binary, CommandProtocol::V1),
    };
    // Within the tunnel SPDY has the room.
    let room = if framing == Framing::Raw {
        CHUNK
    } else {
        SESSION_BYTES
    };
    let connection = Connection::new(io, framing, Inflow::new(room));
    match request {
        StreamRequest::PortForward { .. } if framing == Framing::Raw => {
            tunnel(connection, request, rooms, limits).await;
        }
        StreamRequest::PortForward { sandbox, ports } => {
            forward(connection, &sandbox, &ports, rooms, limits).await;
        }
        StreamRequest::Exec { wanted, .. } | StreamRequest::Attach { wanted, .. } => {
            let (connection, channels) = channels(connection, wanted);
            let work = remote_command::run(&request, channels, protocol, rooms);
            connection.run(work, limits.idle).await;
        }
    }
}

/// The channels of exec and attach. An empty message tells the client, and proxies between, that
/// they are there.
fn channels<Io: AsyncRead + AsyncWrite>(
    mut connection: Connection<Io>,
    wanted: WantedStreams,
) -> (Connection<Io>, Channels) {
    let first = match wanted {
        WantedStreams { stdout: true, .. } => STDOUT,
        WantedStreams { stderr: true, .. } => STDERR,
        _ => ERROR,
    };
    connection.greet(first);
    let resize: Input = Box::new(connection.reader(RESIZE));
    let stdin = wanted.stdin.then(|| connection.reader(STDIN));
    let output = |channel| Box::new(connection.writer(channel)) as Output;
    let channels = Channels {
        stdin: stdin.map(|reader| Box::new(reader) as Input),
        stdout: wanted.stdout.then(|| output(STDOUT)),
        stderr: wanted.stderr.then(|| output(STDERR)),
        error: output(ERROR),
        resize: Some(resize),
    };
    (connection, channels)
}

/// SPDY inside messages: a port-forward whose connections the client makes one by one.
async fn tunnel<Io>(
    mut connection: Connection<Io>,
    request: StreamRequest,
    rooms: &impl FarEnds,
    limits: Limits,
) where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = tokio::io::join(connection.reader(0), connection.writer(0));
    let work = over_spdy(io, CommandProtocol::V1, request, rooms, limits);
    connection.run(work, limits.idle).await;
}

/// One connection for each port of the request: channel `2i` carries the bytes of the `i`th, `2i +
/// 1` what went wrong with it.
async fn forward<Io>(
    mut connection: Connection<Io>,
    sandbox: &str,
    ports: &[u16],
    rooms: &impl FarEnds,
    limits: Limits,
) where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut forwards = Vec::new();
    let mut cuts = HashMap::new();
    for (data, port) in (0..).step_by(2).zip(ports) {
        let from_client: Input = Box::new(connection.reader(data));
        let (to_client, error) = (connection.writer(data), connection.writer(data + 1));
        let (cut, cutting) = Cut::new();
        cuts.insert(u32::from(data), cut);
        forwards.push(async move {
            let Ok((to_client, error)) = announce(to_client, error, *port).await else {
                return;
            };
            forward_one(
                rooms,
                sandbox,
                *port,
                (from_client, to_client),
                error,
                cutting,
            )
            .await;
        });
    }
    let inflow = connection.inflow();
    let work = async {
        let mut forwards = pin!(join_all(forwards));
        loop {
            tokio::select! {
                _ = &mut forwards => return,
                channel = inflow.stalled(STALLED) => {
                    cuts.retain(|_, cut: &mut Cut| !cut.is_late());
                    // Alone it may wait for ever.
                    if cuts.len() > 1 && let Some(cut) = cuts.remove(&channel) {
                        cut.now(Farewell::Text);
                    }
                }
            }
        }
    };
    connection.run(work, limits.idle).await;
}

/// The first message of both channels is the port, little endian.
async fn announce(
    mut data: ChannelWriter,
    mut error: ChannelWriter,
    port: u16,
) -> std::io::Result<(Output, Output)> {
    data.write_all(&port.to_le_bytes()).await?;
    error.write_all(&port.to_le_bytes()).await?;
    Ok((Box::new(data), Box::new(error)))
}
