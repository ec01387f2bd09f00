//! Port-forward over SPDY (`portforward.k8s.io`): each forwarded connection is a pair of streams,
//! one for data and one for the error, which the client ties together by a request id.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{self, Instant};

use super::inflow::STALLED;
use super::port_forward::{self, Cut, Farewell};
use super::rooms::FarEnds;
use super::spdy::{Headers, NewStream, Session};
use crate::container::{Input, Output};

/// Most pairs of which only one stream is there.
const MAX_HALVES: usize = 128;

/// Serves a port-forward connection until the client ends it. What goes wrong with a pair ends that
/// pair only. `creation` is how long a pair may be without its second stream.
///
/// A pair whose port takes nothing is cut off when it holds up others: the client's bytes for all
/// of them come one after the other, so the pair would end them all. Alone it may wait for ever.
pub async fn serve<Io: AsyncRead + AsyncWrite + Send + 'static>(
    session: &mut Session<Io>,
    sandbox: &str,
    rooms: &impl FarEnds,
    creation: Duration,
) {
    let mut halves = Halves::default();
    let mut forwards: FuturesUnordered<BoxFuture<'_, Option<u32>>> = FuturesUnordered::new();
    let mut cuts = HashMap::new();
    let inflow = session.inflow();
    loop {
        let expiry = halves.oldest().map(|since| since + creation);
        let others = cuts.len() + halves.0.len() > 1;
        tokio::select! {
            stream = session.next() => {
                let Some(stream) = stream else { return };
                // Dropped unless it completes a pair; an error shows as the end of the session.
                if let Ok(Some(Pair { port, data: (data_id, data), error })) = halves.take(stream).await {
                    let (cut, cutting) = Cut::new();
                    cuts.insert(data_id, cut);
                    let forward = port_forward::forward_one(rooms, sandbox, port, data, error, cutting);
                    forwards.push(forward.map(move |()| Some(data_id)).boxed());
                }
            }
            Some(ended) = forwards.next() => {
                if let Some(id) = ended {
                    cuts.remove(&id);
                }
            }
            id = inflow.stalled(STALLED), if others => {
                if let Some(cut) = cuts.remove(&id) {
                    cut.now(Farewell::Reset);
                }
            }
            () = time::sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {
                for half in halves.expired(creation) {
                    forwards.push(give_up(half).map(|()| None).boxed());
                }
            }
        }
    }
}

/// Tells the client that a pair was not completed, where it can be told; dropping resets.
async fn give_up(half: Half) {
    tracing::debug!(
        port = half.port,
        "timed out waiting for the second stream of a pair"
    );
    if let Side::Error(mut error) = half.side
        && error
            .write_all(b"timed out waiting for the data stream")
            .await
            .is_ok()
    {
        let _ = error.shutdown().await;
    }
}

/// A stream whose other one is not there yet.
struct Half {
    port: u16,
    since: Instant,
    side: Side,
}

enum Side {
    Data(Data),
    Error(Output),
}

/// A data stream, with its id.
type Data = (u32, (Input, Output));

struct Pair {
    port: u16,
    data: Data,
    error: Output,
}

/// By request id.
#[derive(Default)]
struct Halves(HashMap<u32, Half>);

impl Halves {
    fn oldest(&self) -> Option<Instant> {
        self.0.values().map(|half| half.since).min()
    }

    fn expired(&mut self, limit: Duration) -> Vec<Half> {
        let now = Instant::now();
        self.0
            .extract_if(|_, half| half.since + limit <= now)
            .map(|(_, half)| half)
            .collect()
    }

    fn fits(&self, label: &Label) -> Result<(), &'static str> {
        match self.0.get(&label.request) {
            Some(half) if matches!(half.side, Side::Data(_)) == label.is_data => {
                Err("a pair has two streams of one type")
            }
            None if self.0.len() >= MAX_HALVES => Err("too many pairs are incomplete"),
            _ => Ok(()),
        }
    }

    /// Takes a stream, or refuses it when its headers are wrong. The pair, when it is complete.
    async fn take<Io: AsyncRead + AsyncWrite + Send + 'static>(
        &mut self,
        stream: NewStream<'_, Io>,
    ) -> io::Result<Option<Pair>> {
        let label = match Label::read(stream.id(), stream.headers()) {
            Ok(label) => label,
            Err(reason) => return refuse(stream, reason).await,
        };
        if let Err(reason) = self.fits(&label) {
            return refuse(stream, reason).await;
        }
        let id = stream.id();
        let (input, output) = stream.accept().await?;
        let (input, output): (Input, Output) = (Box::new(input), Box::new(output));
        let side = if label.is_data {
            Side::Data((id, (input, output)))
        } else {
            Side::Error(output)
        };
        let Some(other) = self.0.remove(&label.request) else {
            let half = Half {
                port: label.port,
                since: Instant::now(),
                side,
            };
            self.0.insert(label.request, half);
            return Ok(None);
        };
        Ok(match (other.side, side) {
            (Side::Error(error), Side::Data(data)) => Some(Pair {
                port: label.port,
                data,
                error,
            }),
            (Side::Data(data), Side::Error(error)) => Some(Pair {
                port: other.port,
                data,
                error,
            }),
            // Looked at above.
            _ => None,
        })
    }
}

async fn refuse<Io: AsyncRead + AsyncWrite + Send + 'static>(
    stream: NewStream<'_, Io>,
    reason: &str,
) -> io::Result<Option<Pair>> {
    tracing::debug!(id = stream.id(), reason, "a port-forward stream is refused");
    stream.refuse().await?;
    Ok(None)
}

/// What the headers of a stream say.
#[derive(Debug, PartialEq, Eq)]
struct Label {
    request: u32,
    port: u16,
    is_data: bool,
}

impl Label {
    fn read(id: u32, headers: &Headers) -> Result<Self, &'static str> {
        let is_data = match headers.get("streamtype") {
            Some("data") => true,
            Some("error") => false,
            _ => return Err("its streamtype is neither data nor error"),
        };
        let port = headers
            .get("port")
            .and_then(|port| port.parse().ok())
            .filter(|port| *port > 0);
        let request = match headers.get("requestid") {
            Some(request) => request.parse().map_err(|_| "its requestid is no number")?,
            // Old clients have none and open the data stream right after the error stream.
            None if is_data => id.wrapping_sub(2),
            None => id,
        };
        Ok(Self {
            request,
            port: port.ok_or("its port is not in 1 to 65535")?,
            is_data,
        })
    }
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod tests;
