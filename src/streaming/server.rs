//! The streaming server: one HTTP request a connection, which becomes a session.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::handshake::{self, Upgrade};
use super::over_spdy::{Limits, over_spdy};
use super::remote_command::CommandProtocol;
use super::rooms::Rooms;
use super::tls::Tls;
use super::transport::Transport;
use super::{StreamRequest, StreamingError, TlsSettings, Urls, websocket};

/// Most connections at once; more wait until one ends.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take for TLS, and again for its request head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Largest request head, of lines and headers that a client chooses.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// What is read of a client that was refused, so that it sees the answer and no reset.
const MAX_REST_BYTES: u64 = 1 << 20;
/// How long a client that was refused may take to hang up.
const REST_TIME: Duration = Duration::from_secs(2);
/// How long a client may take to open the streams that it has asked for (containerd and CRI-O:
/// the same).
const CREATION: Duration = Duration::from_secs(30);
/// Longest idle time: a year is as good as for ever, and can be added to any clock.
const MAX_IDLE: Duration = Duration::from_secs(365 * 24 * 3600);
/// After which silence the kernel asks whether the client's host is still there, in seconds.
const KEEPALIVE_S: u32 = 60;
/// How long it waits for an answer before it asks again, in seconds.
const KEEPALIVE_AGAIN_S: u32 = 10;
/// After how many questions without an answer the client is gone: two minutes of silence in all.
/// The kernel's own defaults make it more than twelve.
const KEEPALIVE_QUESTIONS: u32 = 6;
/// How long to wait when the kernel has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the configuration says about the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// IP address or host name to listen on (`stream_address`).
    pub address: String,
    /// Port; 0: any free one (`stream_port`).
    pub port: u16,
    /// `None`: no TLS (`stream_enable_tls`).
    pub tls: Option<TlsSettings>,
    /// A session ends when no byte has come or gone for so long (`stream_idle_timeout`).
    pub idle: Duration,
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    urls: Arc<Urls>,
    limits: Limits,
}

/// What its connections share.
#[derive(Debug)]
struct Shared {
    tls: Option<Tls>,
    urls: Arc<Urls>,
    limits: Limits,
    rooms: Rooms,
}

impl Server {
    /// Listens, without answering yet.
    ///
    /// # Errors
    /// When the address is taken, or the certificates cannot be used.
    pub async fn bind(settings: Settings) -> Result<Self, StreamingError> {
        let Settings {
            address,
            port,
            tls,
            idle,
        } = settings;
        let tls = tls.map(Tls::load).transpose()?;
        let listening = async {
            let listener = TcpListener::bind((address.as_str(), port)).await?;
            let port = listener.local_addr()?.port();
            io::Result::Ok((listener, port))
        };
        let (listener, port) = listening.await.map_err(|source| StreamingError::Listen {
            address: address.clone(),
            port,
            source,
        })?;
        Ok(Self {
            listener,
            urls: Arc::new(Urls::new(tls.is_some(), &address, port)),
            tls,
            limits: Limits {
                idle: idle.min(MAX_IDLE),
                creation: CREATION,
            },
        })
    }

    /// Gives out URLs of this server.
    pub fn urls(&self) -> Arc<Urls> {
        Arc::clone(&self.urls)
    }

    /// Answers until `stop`; sessions may go on for `grace` after it.
    pub async fn serve(self, rooms: Rooms, stop: impl Future<Output = ()>, grace: Duration) {
        let shared = Arc::new(Shared {
            tls: self.tls,
            urls: self.urls,
            limits: self.limits,
            rooms,
        });
        let sessions = TaskTracker::new();
        tokio::select! {
            () = accept(&self.listener, &shared, &sessions) => {}
            () = stop => {}
        }
        drop(self.listener);
        sessions.close();
        if timeout(grace, sessions.wait()).await.is_err() {
            tracing::info!(sessions = sessions.len(), "streaming sessions cut off");
        }
    }
}

/// Gives each client a task of its own, for ever.
async fn accept(listener: &TcpListener, shared: &Arc<Shared>, sessions: &TaskTracker) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((tcp, _)) => {
                let shared = Arc::clone(shared);
                sessions.spawn(async move {
                    if let Err(error) = client(tcp, &shared).await {
                        tracing::debug!(%error, "streaming client");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no streaming client can be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One client, from its connection to the end of its session.
async fn client(tcp: TcpStream, shared: &Shared) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    keep_alive(&tcp)?;
    // Only asked for errors: the session reads and writes.
    let watched = TcpStream::from_std(tcp.as_fd().try_clone_to_owned()?.into())?;
    let transport = match &shared.tls {
        None => Transport::plain(tcp),
        Some(tls) => {
            let acceptor = TlsAcceptor::from(tls.config(Instant::now()).await);
            Transport::tls(timeout(HEAD_TIME, acceptor.accept(tcp)).await??)
        }
    };
    let (transport, session) = request(transport, &shared.urls).await;
    let Some((upgrade, request)) = session else {
        return hang_up(transport).await;
    };
    tracing::debug!(?upgrade, kind = request.kind(), "streaming session begins");
    let (rooms, limits) = (&shared.rooms, shared.limits);
    let session = async {
        match upgrade {
            Upgrade::Spdy(name) => {
                let protocol = CommandProtocol::named(name);
                over_spdy(transport, protocol, request, rooms, limits).await;
            }
            Upgrade::WebSocket(protocol) => {
                websocket::serve(transport, protocol, request, rooms, limits).await;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = session => ended,
        error = broken(&watched) => Err(error),
    }
}

/// Makes the kernel notice a client whose host is gone without a word.
fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    setsockopt(tcp, sockopt::TcpKeepIdle, &KEEPALIVE_S)?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &KEEPALIVE_AGAIN_S)?;
    setsockopt(tcp, sockopt::TcpKeepCount, &KEEPALIVE_QUESTIONS)?;
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    Ok(())
}

/// Waits until the kernel has given the connection up. A session that waits for whoever takes the
/// client's bytes does not read, and would not see it.
async fn broken(connection: &TcpStream) -> io::Error {
    match connection.ready(Interest::ERROR).await {
        Ok(_) => io::ErrorKind::ConnectionReset.into(),
        Err(error) => error,
    }
}

/// What a connection becomes.
type Session = (Upgrade, StreamRequest);

/// Reads one request and answers it. The session is `None` when it was refused.
async fn request(transport: Transport, urls: &Urls) -> (Transport, Option<Session>) {
    let session = OnceLock::new();
    let service = service_fn(|request: Request<Incoming>| {
        let answer = match answer(&request, urls) {
            Ok((upgrade, stream, answer)) => {
                // Set once: a connection has one request.
                drop(session.set((upgrade, stream)));
                answer
            }
            Err(refusal) => refusal,
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let mut connection = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(transport), service);
    // The head has its own limit; this is for a client that does not take the answer.
    let exchange = poll_fn(|context| connection.poll_without_shutdown(context));
    let exchanged = timeout(HEAD_TIME * 2, exchange).await;
    let parts = connection.into_parts();
    let mut transport = parts.io.into_inner();
    match exchanged {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "streaming client's request");
            return (transport, None);
        }
        Err(_) => return (transport, None),
    }
    transport.unread(parts.read_buf);
    (transport, session.into_inner())
}

type Answer = Response<Full<Bytes>>;

/// Finds what the client comes for, and chooses how.
fn answer(
    request: &Request<Incoming>,
    urls: &Urls,
) -> Result<(Upgrade, StreamRequest, Answer), Answer> {
    handshake::method(request.method())?;
    let Some(stream) = urls.redeem(request.uri().path()) else {
        let text = "this URL was used already, is older than a minute, or was never given out";
        return Err(handshake::refusal(StatusCode::NOT_FOUND, text));
    };
    if !request.body().is_end_stream() {
        let text = "a request that opens streams has no body";
        return Err(handshake::refusal(StatusCode::BAD_REQUEST, text));
    }
    let (upgrade, answer) = handshake::negotiate(request, &stream)?;
    Ok((upgrade, stream, answer))
}

/// Ends a connection so that the client can read the answer: with bytes of its own unread it would
/// see a reset.
async fn hang_up(mut transport: Transport) -> io::Result<()> {
    transport.shutdown().await?;
    let mut rest = transport.take(MAX_REST_BYTES);
    let mut nowhere = tokio::io::sink();
    let _read = timeout(REST_TIME, tokio::io::copy(&mut rest, &mut nowhere)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    #[tokio::test]
    async fn a_client_that_is_silent_is_asked_after_a_minute_and_given_up_after_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (tcp, _) = accepted.unwrap();
        keep_alive(&tcp).unwrap();
        assert!(getsockopt(&tcp, sockopt::KeepAlive).unwrap());
        let idle = getsockopt(&tcp, sockopt::TcpKeepIdle).unwrap();
        let again = getsockopt(&tcp, sockopt::TcpKeepInterval).unwrap();
        let questions = getsockopt(&tcp, sockopt::TcpKeepCount).unwrap();
        assert_eq!((idle, idle + again * questions), (60, 120));
    }
}
