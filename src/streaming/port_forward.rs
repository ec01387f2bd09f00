//! One forwarded connection: a client's pair of streams and a port in a pod, whatever protocol
//! carries them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::inflow::STALLED;
use super::rooms::FarEnds;
use crate::container::{Input, Output};

/// How long the direction that is left may stand still when the other has ended. containerd gives
/// it one second, which cuts off a server that thinks for longer after the end of a request.
const HALF_CLOSED: Duration = Duration::from_secs(300);

/// Bytes that are moved at a time.
const CHUNK: usize = 32 * 1024;

/// Ends a connection for which reading waits while others could go on.
#[derive(Debug)]
pub struct Cut(oneshot::Sender<Farewell>);

/// A connection's end of its [`Cut`].
pub type Cutting = oneshot::Receiver<Farewell>;

/// What the client of a connection that is cut off sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// The data stream is reset and the error stream empty: at a text there, Go's client would
    /// end all connections (client-go/tools/portforward/portforward.go).
    Reset,
    /// Why, on the error stream: in channels, which cannot be reset.
    Text,
}

impl Cut {
    /// Both ends.
    pub fn new() -> (Self, Cutting) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Whether the connection has ended already.
    pub fn is_late(&self) -> bool {
        self.0.is_closed()
    }

    /// Ends the connection.
    pub fn now(self, farewell: Farewell) {
        // One that has just ended of itself does not mind.
        let _ended = self.0.send(farewell);
    }
}

/// Connects a pair of streams to a port of a pod until both directions have ended, or it is cut
/// off. What goes wrong is told on the error stream and concerns no other pair.
pub async fn forward_one(
    rooms: &impl FarEnds,
    sandbox: &str,
    port: u16,
    data: (Input, Output),
    mut error: Output,
    cut: Cutting,
) {
    let (input, mut output) = data;
    let carried = async {
        let connection = rooms
            .dial(sandbox, port)
            .await
            .map_err(|error| error.to_string())?;
        let _ = connection.set_nodelay(true);
        let (read, write) = connection.into_split();
        both_ways(input, write, read, &mut output)
            .await
            .map_err(|error| error.to_string())
    };
    // Either way the input is dropped here: what still comes is thrown away.
    let result = tokio::select! {
        result = carried => result.map_err(|reason| (reason, Farewell::Text)),
        Ok(farewell) = cut => Err((stalled(), farewell)),
    };
    match result {
        Ok(()) => {
            let _ = output.shutdown().await;
        }
        Err((reason, farewell)) => {
            tracing::info!(sandbox, port, reason, "port-forward failed");
            let text = format!("error forwarding port {port} to pod {sandbox}, uid : {reason}");
            // The data stream is reset, by being dropped, only when the client could have read why.
            if farewell == Farewell::Text {
                let _ = error.write_all(text.as_bytes()).await;
            }
        }
    }
    let _ = error.shutdown().await;
}

fn stalled() -> String {
    let limit = STALLED.as_secs();
    format!("the port took nothing for {limit} seconds, while other ports waited behind it")
}

/// Copies in both directions. When one has ended, its end is passed on, and the other goes on for
/// as long as it moves.
async fn both_ways(
    mut input: Input,
    mut to_port: impl tokio::io::AsyncWrite + Unpin,
    mut from_port: impl tokio::io::AsyncRead + Unpin,
    output: &mut Output,
) -> std::io::Result<()> {
    let (sent, received) = (Moved::default(), Moved::default());
    let mut there = std::pin::pin!(copy(&mut input, &mut to_port, &sent));
    let mut back = std::pin::pin!(copy(&mut from_port, output, &received));
    tokio::select! {
        result = &mut there => {
            result?;
            while_it_moves(back, &received).await
        }
        result = &mut back => {
            result?;
            while_it_moves(there, &sent).await
        }
    }
}

/// How many bytes a direction has moved.
#[derive(Debug, Default)]
struct Moved(std::sync::atomic::AtomicU64);

impl Moved {
    fn add(&self, bytes: usize) {
        self.0
            .fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

async fn copy(
    from: &mut (impl tokio::io::AsyncRead + Unpin + ?Sized),
    to: &mut (impl tokio::io::AsyncWrite + Unpin + ?Sized),
    moved: &Moved,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..read]).await?;
        moved.add(read);
    }
}

/// Waits for a direction until it ends or stands still for too long. Either is a good end.
async fn while_it_moves(
    mut direction: std::pin::Pin<&mut impl Future<Output = std::io::Result<()>>>,
    moved: &Moved,
) -> std::io::Result<()> {
    loop {
        let before = moved.bytes();
        match tokio::time::timeout(HALF_CLOSED, &mut direction).await {
            Ok(result) => return result,
            Err(_) if moved.bytes() == before => return Ok(()),
            Err(_) => {}
        }
    }
}
