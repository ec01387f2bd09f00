//! The unix socket that the CRI is served on, from both sides.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tonic::transport::{Channel, Endpoint};

/// Root and the socket's group may talk to it, as to CRI-O's.
const MODE: u32 = 0o660;

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Someone serves it already.
    #[error("socket {path}: another process serves it; stop that first or choose another with --listen", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is something else under that name.
    #[error("socket {path}: there is a file of that name that is no socket", path = path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("socket {path}: {step}: {source}", path = path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Listens on the socket at `path`, mode 0660. What a daemon left that was killed is replaced; a
/// socket that somebody serves is not.
///
/// # Errors
/// Names the socket and the step.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let io = |step| {
        move |source| SocketError::Io {
            path: path.to_owned(),
            step,
            source,
        }
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("create its directory"))?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {
            if UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse {
                    path: path.to_owned(),
                });
            }
            fs::remove_file(path).map_err(io("remove the one that nobody serves"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io("look for an old one")(error)),
    }
    let listener = UnixListener::bind(path).map_err(io("bind"))?;
    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(io("set its mode"))?;
    Ok(listener)
}

/// Connects to the socket at `path` as a client.
///
/// # Errors
/// When nobody accepts. There is no deadline: the caller has one.
pub async fn connect(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            tokio::net::UnixStream::connect(path)
                .await
                .map(TokioIo::new)
        }
    });
    // The name is only for HTTP's authority; the connector decides where it goes.
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_served_one_and_a_file_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/crio.sock");
        let served = bind(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        assert!(matches!(bind(&path), Err(SocketError::InUse { .. })));
        drop(served);
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
