//! Sorts the socket's connections by their first bytes: HTTP/2 is gRPC and goes to its server,
//! everything else is answered here as HTTP/1.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::http::HttpApi;

/// What each HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Connections that have not said yet what they speak; more wait to be accepted.
const UNDECIDED: usize = 256;
/// Connections of HTTP/1 at once; more are closed. cAdvisor has one or two.
const PLAIN: usize = 32;
/// The largest head of a request, in bytes; hyper takes no smaller bound.
const MAX_HEAD: usize = 8 << 10;
/// The most header lines of a request.
const MAX_HEADERS: usize = 64;
/// gRPC connections that wait for the server to take them.
const WAITING: usize = 16;
/// How long to wait when no connection can be accepted: descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// How long clients may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For what shows which protocol is spoken, and for the head of a request.
    head: Duration,
    /// For all that is said over one connection of HTTP/1; a client connects anew.
    whole: Duration,
}

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(10),
    whole: Duration::from_secs(300),
};

/// The connections that are answered as HTTP/1.
#[derive(Debug)]
pub struct Plain {
    stop: CancellationToken,
    open: TaskTracker,
}

impl Plain {
    /// What tells them to end once what they are at is answered.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until they have ended after [`stop`](Self::stop).
    pub async fn ended(self) {
        self.open.close();
        self.open.wait().await;
    }
}

/// Accepts connections until [`Plain::stop`], or until nobody takes those that speak gRPC: the
/// stream.
pub fn sort(
    listener: UnixListener,
    http: HttpApi,
) -> (ReceiverStream<io::Result<UnixStream>>, Plain) {
    sort_patiently(listener, Arc::new(http), PATIENCE)
}

fn sort_patiently(
    listener: UnixListener,
    http: Arc<HttpApi>,
    patience: Patience,
) -> (ReceiverStream<io::Result<UnixStream>>, Plain) {
    let (grpc, taken) = mpsc::channel(WAITING);
    let plain = Plain {
        stop: CancellationToken::new(),
        open: TaskTracker::new(),
    };
    let door = Door {
        grpc,
        http,
        patience,
        undecided: Arc::new(Semaphore::new(UNDECIDED)),
        plain: Arc::new(Semaphore::new(PLAIN)),
        stop: plain.stop.clone(),
        open: plain.open.clone(),
    };
    tokio::spawn(door.accept(listener));
    (ReceiverStream::new(taken), plain)
}

#[derive(Debug, Clone)]
struct Door {
    grpc: mpsc::Sender<io::Result<UnixStream>>,
    http: Arc<HttpApi>,
    patience: Patience,
    undecided: Arc<Semaphore>,
    plain: Arc<Semaphore>,
    stop: CancellationToken,
    open: TaskTracker,
}

impl Door {
    async fn accept(self, listener: UnixListener) {
        loop {
            // The semaphore is never closed.
            let Ok(turn) = Arc::clone(&self.undecided).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
                () = self.grpc.closed() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let door = self.clone();
                    tokio::spawn(async move {
                        let spoken = timeout(door.patience.head, speaks_http2(&stream)).await;
                        drop(turn);
                        match spoken {
                            Ok(Ok(true)) => drop(door.grpc.send(Ok(stream)).await),
                            Ok(Ok(false)) => door.answer(stream),
                            // It went away, or says nothing.
                            Ok(Err(_)) | Err(_) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connection to the CRI socket not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn answer(self, stream: UnixStream) {
        let Ok(turn) = Arc::clone(&self.plain).try_acquire_owned() else {
            tracing::debug!("connection of HTTP/1 to the CRI socket closed, there are too many");
            return;
        };
        let open = self.open.clone();
        open.spawn(async move {
            self.serve(stream).await;
            drop(turn);
        });
    }

    async fn serve(self, stream: UnixStream) {
        let service = service_fn(|request| Arc::clone(&self.http).answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience.head)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = timeout(self.patience.whole, async {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            connection.await
        });
        if let Ok(Err(error)) = ended.await {
            tracing::debug!(%error, "connection of HTTP/1 to the CRI socket ended");
        }
    }
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &UnixStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        stream.readable().await?;
        let decided = stream.try_io(Interest::READABLE, || {
            let read = recv(stream.as_raw_fd(), &mut seen, MsgFlags::MSG_PEEK)?;
            let seen = seen.get(..read).unwrap_or_default();
            match seen {
                [] => Err(io::ErrorKind::UnexpectedEof.into()),
                seen if !PREFACE.starts_with(seen) => Ok(false),
                seen if seen.len() == PREFACE.len() => Ok(true),
                // Ready again when there is more.
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match decided {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            decided => return decided,
        }
    }
}
