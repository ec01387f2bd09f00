//! Reaching a port in a pod, for port-forward: no program is run for it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{SandboxError, Sandboxes};
use crate::sys::blocking;

/// How long each address may take. It is on the pod's loopback interface, which answers at once
/// unless the server's backlog is full.
const CONNECT: Duration = Duration::from_secs(10);

/// A socket for each family, made in one network namespace; of the second the error, where a
/// kernel has no IPv6.
struct Sockets {
    v4: TcpSocket,
    v6: io::Result<TcpSocket>,
}

impl Sandboxes {
    /// Connects to a port of a ready pod, in its network namespace: on 127.0.0.1, else on ::1.
    ///
    /// # Errors
    /// When there is no such pod, it is not ready, the port is 0, or nobody listens there.
    pub async fn dial(self: &Arc<Self>, id: &str, port: u16) -> Result<TcpStream, SandboxError> {
        let record = self.ready(id)?.record();
        if port == 0 {
            return Err(SandboxError::Invalid {
                field: "port",
                problem: "0 is no port; name one from 1 to 65535".to_owned(),
            });
        }
        let refused = |source| SandboxError::Dial {
            id: record.id.clone(),
            port,
            source,
        };
        let netns = record.namespaces.network.clone();
        let Sockets { v4, v6 } = sockets(netns).await?;
        let first = match connect(v4, (Ipv4Addr::LOCALHOST, port).into()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let Ok(v6) = v6 else {
            return Err(refused(first));
        };
        // Of two refusals the first says as much as both.
        connect(v6, (Ipv6Addr::LOCALHOST, port).into())
            .await
            .map_err(|_| refused(first))
    }
}

async fn connect(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, socket.connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // What a client types is not to wait for more.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes sockets in the network namespace that is pinned at this path, or in the host's.
async fn sockets(netns: Option<PathBuf>) -> Result<Sockets, SandboxError> {
    let Some(path) = netns else {
        return make().map_err(SandboxError::io(
            "make a socket in",
            "the host's network".as_ref(),
        ));
    };
    blocking(move || made_in(&path)).await
}

/// A thread of its own, for a worker must never be left in a pod's namespace. The sockets stay in
/// it, whoever connects them.
fn made_in(netns: &Path) -> Result<Sockets, SandboxError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("dial".into())
            .spawn_scoped(scope, || {
                let enter = || {
                    setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
                    make()
                };
                enter().map_err(SandboxError::io("make a socket in", netns))
            })
            .map_err(SandboxError::io("start a thread to dial in", netns))?
            .join()
            // A panic aborts the process, so a thread that ends has a result.
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn make() -> io::Result<Sockets> {
    Ok(Sockets {
        v4: TcpSocket::new_v4()?,
        v6: TcpSocket::new_v6(),
    })
}
