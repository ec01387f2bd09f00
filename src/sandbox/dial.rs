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
        let sockets = sockets(record.namespaces.network.clone()).await?;
        sockets
            .connect(port)
            .await
            .map_err(|source| SandboxError::Dial {
                id: record.id.clone(),
                port,
                source,
            })
    }
}

impl Sockets {
    async fn connect(self, port: u16) -> io::Result<TcpStream> {
        let first = match connect(self.v4, (Ipv4Addr::LOCALHOST, port).into()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let second = match self.v6 {
            Ok(socket) => connect(socket, (Ipv6Addr::LOCALHOST, port).into()).await,
            Err(error) => Err(error),
        };
        // Of two refusals the first says as much as both.
        second.map_err(|_| first)
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::super::namespaces::{Wanted, pin, unpin};
    use super::*;
    use crate::state::Id;

    /// A network namespace with a listener on each address, and the listeners' ports.
    fn listening(
        directory: &Path,
        id: &Id,
        addresses: &'static [&'static str],
    ) -> (PathBuf, Vec<TcpListener>) {
        let wanted = Wanted {
            user: None,
            network: true,
            ipc: false,
            hostname: "dialled".into(),
            sysctls: vec![],
        };
        let netns = pin(directory, directory, id, &wanted)
            .unwrap()
            .network
            .unwrap();
        let inside = netns.clone();
        let listen = move || {
            setns(File::open(inside).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let listen = |address| TcpListener::bind(address).unwrap();
            addresses.iter().map(listen).collect()
        };
        let listeners = std::thread::spawn(listen).join().unwrap();
        (netns, listeners)
    }

    #[tokio::test]
    async fn a_port_is_reached_inside_the_namespace_by_either_family() {
        let directory = tempfile::tempdir().unwrap();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        for address in ["127.0.0.1:4001", "[::1]:4001"] {
            let id = Id::random();
            let addresses: &'static [&'static str] = match address {
                "[::1]:4001" => &["[::1]:4001"],
                _ => &["127.0.0.1:4001"],
            };
            let (netns, listeners) = listening(directory.path(), &id, addresses);
            let stream = sockets(Some(netns)).await.unwrap().connect(4001).await;
            let mut stream = stream.unwrap().into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            let (mut server, _) = listeners[0].accept().unwrap();
            server.write_all(b"hello").unwrap();
            drop(server);
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert_eq!(said, "hello");
            unpin(directory.path(), &id).unwrap();
        }
        let after = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_eq!(after, own, "this thread has not moved");
        // The same port outside is another one.
        let outside = sockets(None).await.unwrap().connect(4001).await;
        assert_eq!(
            outside.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }

    #[tokio::test]
    async fn a_port_without_a_listener_is_refused_and_a_namespace_that_is_gone_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let id = Id::random();
        let (netns, _) = listening(directory.path(), &id, &[]);
        let refused = sockets(Some(netns.clone())).await.unwrap().connect(9).await;
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        unpin(directory.path(), &id).unwrap();
        let gone = sockets(Some(netns.clone())).await.err().unwrap();
        assert!(
            gone.to_string().contains(&*netns.to_string_lossy()),
            "{gone}"
        );
    }
}
