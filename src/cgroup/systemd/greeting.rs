//! Finding systemd's bus, connecting to it, and saying who we are (D-Bus specification, "Server
//! Addresses" and "Authentication Protocol").

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::call::{Endpoint, Fault};

/// Where the system's bus listens, when the environment does not say otherwise.
const BUS: &str = "/run/dbus/system_bus_socket";
/// systemd's own socket, for hosts without a D-Bus daemon.
const PRIVATE: &str = "/run/systemd/private";
/// The longest line of the greeting.
const MAX_LINE: usize = 512;

/// Where to look for systemd, given $DBUS_SYSTEM_BUS_ADDRESS.
pub(super) fn endpoints(address: Option<&str>) -> Vec<Endpoint> {
    let named: Vec<PathBuf> = address.map(paths).unwrap_or_default();
    let buses = match named.is_empty() {
        true => vec![PathBuf::from(BUS)],
        false => named,
    };
    let bus = |socket| Endpoint {
        socket,
        is_bus: true,
    };
    let private = Endpoint {
        socket: PRIVATE.into(),
        is_bus: false,
    };
    buses.into_iter().map(bus).chain([private]).collect()
}

/// The sockets in an address such as `unix:path=/run/dbus/socket,guid=1;tcp:host=a`.
fn paths(address: &str) -> Vec<PathBuf> {
    let path = |one: &str| {
        let keys = one.strip_prefix("unix:")?.split(',');
        let mut paths = keys.filter_map(|key| key.strip_prefix("path="));
        unescape(paths.next()?)
    };
    address.split(';').filter_map(path).collect()
}

/// `%20` and the like in an address.
fn unescape(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    let path = PathBuf::from(String::from_utf8(bytes).ok()?);
    path.is_absolute().then_some(path)
}

/// Connects to the first endpoint where somebody listens, and is known there.
pub(super) async fn connect(endpoints: &[Endpoint]) -> Result<(UnixStream, bool), Fault> {
    let mut problem = "no address".to_owned();
    for (number, endpoint) in endpoints.iter().enumerate() {
        match UnixStream::connect(&endpoint.socket).await {
            Ok(mut stream) => {
                let told = |error| Fault::Lost(tell(&endpoint.socket, "greet it", &error));
                greet(&mut stream).await.map_err(told)?;
                return Ok((stream, endpoint.is_bus));
            }
            // The first is the one that should be there.
            Err(error) if number == 0 => problem = tell(&endpoint.socket, "connect", &error),
            Err(_) => {}
        }
    }
    Err(Fault::Absent(problem))
}

fn tell(socket: &Path, step: &str, error: &io::Error) -> String {
    format!("{}: {step}: {error}", socket.display())
}

/// EXTERNAL: the kernel tells the other side our user, we only have to claim the same.
async fn greet(stream: &mut UnixStream) -> io::Result<()> {
    let user = nix::unistd::geteuid().to_string();
    let hex: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
    let hello = format!("\0AUTH EXTERNAL {hex}\r\n");
    stream.write_all(hello.as_bytes()).await?;
    let line = line(stream).await?;
    if !line.starts_with("OK ") {
        return Err(io::Error::other(format!(
            "it answers {line:?} to AUTH EXTERNAL"
        )));
    }
    stream.write_all(b"BEGIN\r\n").await
}

async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    // Nothing is sent before BEGIN but this line; a byte at a time leaves what follows alone.
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(io::Error::other(
                "it answers with a line longer than 512 bytes",
            ));
        }
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_bus_and_systemds_own_socket_is_the_last_resort() {
        let table = [
            (None, vec![BUS]),
            (Some("unix:path=/a%20b,guid=0"), vec!["/a b"]),
            (
                Some("tcp:host=h;unix:path=/a;unix:path=/b"),
                vec!["/a", "/b"],
            ),
            (Some("unix:abstract=x"), vec![BUS]),
            (Some("unix:path=relative"), vec![BUS]),
            (Some("unix:path=/%zz"), vec![BUS]),
            (Some(""), vec![BUS]),
        ];
        for (address, want) in table {
            let found = endpoints(address);
            let (last, buses) = found.split_last().unwrap();
            let sockets: Vec<&Path> = buses.iter().map(|it| it.socket.as_path()).collect();
            let want: Vec<&Path> = want.into_iter().map(Path::new).collect();
            assert_eq!(sockets, want, "{address:?}");
            assert!(buses.iter().all(|it| it.is_bus));
            assert_eq!(
                (last.socket.as_path(), last.is_bus),
                (Path::new(PRIVATE), false)
            );
        }
    }
}
