//! A registry that misbehaves as it is told, path by path; told nothing, it is a good one.
//!
//! It serves what was put into it (`/v2/`, manifests, blobs; HEAD and GET), one request a
//! connection, on threads. Faults are looked up by a piece of the path, so that a test can spoil
//! one blob and leave the rest of a pull sound.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;

use crate::http::{self, Request};
use crate::image::{Blob, Image};
use crate::net::Net;

/// How long an answer waits at a gate that nobody opens.
const HELD_AT_MOST: Duration = Duration::from_secs(60);

/// What happens to a request whose path contains the piece the fault was registered for.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error status with this body.
    Status(u16, String),
    /// A status with these header lines (each ends in CRLF) and no body.
    Headers(u16, String),
    /// The first so many requests meet this fault, later ones a good answer.
    First(usize, Box<Fault>),
    /// A head that never ends.
    EndlessHead,
    /// 401 with `WWW-Authenticate: Bearer` for the fixture's own `/token`, until a request carries
    /// a token; `/token` asks for `Some("user:password")` or gives tokens to anyone.
    Bearer(Option<String>),
    /// 401 with a Basic challenge until the request carries this `user:password`.
    Basic(String),
    /// The right length is announced, the connection ends after so many bytes.
    Truncate(usize),
    /// One byte of the body is another.
    Corrupt,
    /// A body that never ends, in chunks.
    Endless,
    /// This body instead.
    Body(Vec<u8>),
    /// `Content-Length` says this, the body is the right one.
    Length(u64),
    /// 307 to this URL.
    Redirect(String),
    /// The head of a good answer, then silence while the client waits.
    Stall,
    /// So many bytes of a good answer, and the rest when the gate is opened.
    Hold(usize, Gate),
    /// The connection closes without a word.
    Close,
}

/// Where answers wait until a test lets them go.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets go what waits, and whatever comes later.
    pub fn open(&self) {
        *self.0.0.lock().expect("nobody panics with it") = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.0.lock().expect("nobody panics with it");
        let wait = self
            .0
            .1
            .wait_timeout_while(open, HELD_AT_MOST, |open| !*open);
        drop(wait.expect("nobody panics with it"));
    }
}

impl Fault {
    /// What the next request meets.
    fn next(&mut self) -> Option<Fault> {
        match self {
            Fault::First(0, _) => None,
            Fault::First(left, fault) => {
                *left -= 1;
                Some((**fault).clone())
            }
            other => Some(other.clone()),
        }
    }
}

/// A running fixture; its connections and threads end when it is dropped.
#[derive(Debug)]
pub struct Fixture {
    address: SocketAddr,
    listener: TcpListener,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By path below `/v2/`.
    content: HashMap<String, Blob>,
    faults: Vec<(String, Fault)>,
    requests: Vec<Request>,
    connections: Vec<TcpStream>,
}

impl Fixture {
    /// Listens on `port` of loopback inside `net`; 0 takes a free one.
    #[track_caller]
    pub fn start(net: &Net, port: u16) -> Fixture {
        Fixture::serve(net.listen(port))
    }

    /// Serves a listener made elsewhere.
    #[track_caller]
    pub fn serve(listener: TcpListener) -> Fixture {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (accepting, shared) = (listener.try_clone().unwrap(), Arc::clone(&state));
        std::thread::spawn(move || {
            for stream in accepting.incoming() {
                // The listener was shut down: the fixture is gone.
                let Ok(stream) = stream else { break };
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    lock(&shared).connections.extend(stream.try_clone());
                    // A client that goes away in the middle is part of the game.
                    drop(answer(&shared, &stream, address));
                    drop(stream.shutdown(Shutdown::Both));
                });
            }
        });
        Fixture {
            address,
            listener,
            state,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `127.0.0.1:PORT/REPOSITORY`, to be followed by `:tag` or `@digest`.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// Stores an image under `repository:tag` and returns its full name.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        for blob in image.blobs() {
            self.put_blob(repository, blob);
        }
        self.put_manifest(repository, tag, &image.manifest);
        format!("{}:{tag}", self.name(repository))
    }

    /// Stores a blob.
    pub fn put_blob(&self, repository: &str, blob: &Blob) {
        let path = format!("{repository}/blobs/{}", blob.digest);
        lock(&self.state).content.insert(path, blob.clone());
    }

    /// Stores a manifest or index under its digest and under `reference`.
    pub fn put_manifest(&self, repository: &str, reference: &str, manifest: &Blob) {
        for name in [reference, &manifest.digest] {
            let path = format!("{repository}/manifests/{name}");
            lock(&self.state).content.insert(path, manifest.clone());
        }
    }

    /// From now on, requests whose path contains `piece` meet this fault instead of another.
    pub fn misbehave(&self, piece: &str, fault: Fault) {
        let mut state = lock(&self.state);
        state.faults.retain(|(old, _)| old != piece);
        state.faults.push((piece.into(), fault));
    }

    /// Ends all faults.
    pub fn behave(&self) {
        lock(&self.state).faults.clear();
    }

    /// What clients have asked so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Wakes the accepting thread: a listener that is shut down refuses to accept.
        let listener = self.listener.as_raw_fd();
        let _ = nix::sys::socket::shutdown(listener, nix::sys::socket::Shutdown::Both);
        for connection in &lock(&self.state).connections {
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .expect("no thread panics while it holds the fixture's state")
}

fn answer(state: &Mutex<State>, stream: &TcpStream, address: SocketAddr) -> std::io::Result<()> {
    let Some(request) = http::read_request(&mut BufReader::new(stream))? else {
        return Ok(());
    };
    let path = request
        .target
        .split('?')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (fault, blob) = {
        let mut state = lock(state);
        state.requests.push(request.clone());
        let fault = state
            .faults
            .iter_mut()
            .find(|(piece, _)| path.contains(piece.as_str()));
        let fault = fault.and_then(|(_, fault)| fault.next());
        let blob = path
            .strip_prefix("/v2/")
            .and_then(|below| state.content.get(below));
        (fault, blob.cloned())
    };
    if path == "/token" && fault.is_none() {
        return token(state, stream, &request);
    }
    let blob = match blob {
        Some(blob) => blob,
        None if path == "/v2/" => Blob::new("application/json", b"{}".to_vec()),
        None if fault.is_some() => Blob::new("application/octet-stream", vec![b'x'; 4096]),
        None => return status(stream, 404, "", &error_body("NAME_UNKNOWN", &path)),
    };
    match fault {
        Some(fault) => misbehave(stream, &request, fault, &blob, address),
        None => good(stream, &request, &blob),
    }
}

fn good(mut stream: &TcpStream, request: &Request, blob: &Blob) -> std::io::Result<()> {
    stream.write_all(head(200, blob, blob.bytes.len() as u64, "").as_bytes())?;
    if request.method == "HEAD" {
        Ok(())
    } else {
        stream.write_all(&blob.bytes)
    }
}

fn misbehave(
    mut stream: &TcpStream,
    request: &Request,
    fault: Fault,
    blob: &Blob,
    address: SocketAddr,
) -> std::io::Result<()> {
    let length = blob.bytes.len() as u64;
    match fault {
        Fault::Status(code, body) => status(stream, code, "", &body),
        Fault::Headers(code, headers) => status(stream, code, &headers, ""),
        Fault::First(_, fault) => misbehave(stream, request, *fault, blob, address),
        Fault::EndlessHead => {
            stream.set_write_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            let line = format!("X-More: {}\r\n", "x".repeat(1000));
            loop {
                stream.write_all(line.as_bytes())?;
            }
        }
        Fault::Bearer(_) if has_authorization(request, "Bearer fixture-token") => {
            good(stream, request, blob)
        }
        Fault::Bearer(_) => {
            let challenge = format!(
                "WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"fixture\"\r\n"
            );
            status(
                stream,
                401,
                &challenge,
                &error_body("UNAUTHORIZED", "authentication required"),
            )
        }
        Fault::Basic(user) if has_authorization(request, &basic(&user)) => {
            good(stream, request, blob)
        }
        Fault::Basic(_) => {
            let challenge = "WWW-Authenticate: Basic realm=\"fixture\"\r\n";
            status(
                stream,
                401,
                challenge,
                &error_body("UNAUTHORIZED", "authentication required"),
            )
        }
        Fault::Truncate(at) => {
            stream.write_all(head(200, blob, length, "").as_bytes())?;
            stream.write_all(&blob.bytes[..at.min(blob.bytes.len())])
        }
        Fault::Corrupt => {
            let mut bytes = blob.bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            stream.write_all(head(200, blob, length, "").as_bytes())?;
            stream.write_all(&bytes)
        }
        Fault::Endless => endless(stream, blob),
        Fault::Body(bytes) => good(
            stream,
            request,
            &Blob {
                bytes: Arc::new(bytes),
                ..blob.clone()
            },
        ),
        Fault::Length(wrong) => {
            stream.write_all(head(200, blob, wrong, "").as_bytes())?;
            stream.write_all(&blob.bytes)
        }
        Fault::Redirect(url) => status(stream, 307, &format!("Location: {url}\r\n"), ""),
        Fault::Stall => {
            stream.write_all(head(200, blob, length, "").as_bytes())?;
            // Until the client gives up or the fixture ends.
            std::io::copy(&mut { stream }, &mut std::io::sink()).map(drop)
        }
        Fault::Hold(at, gate) => {
            let (first, rest) = blob.bytes.split_at(at.min(blob.bytes.len()));
            stream.write_all(head(200, blob, length, "").as_bytes())?;
            stream.write_all(first)?;
            gate.wait();
            stream.write_all(rest)
        }
        Fault::Close => Ok(()),
    }
}

fn endless(mut stream: &TcpStream, blob: &Blob) -> std::io::Result<()> {
    // A client that neither reads nor closes must not keep the thread for ever.
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        blob.media_type
    );
    stream.write_all(head.as_bytes())?;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    loop {
        stream.write_all(&chunk)?;
    }
}

fn token(state: &Mutex<State>, stream: &TcpStream, request: &Request) -> std::io::Result<()> {
    let wanted = lock(state)
        .faults
        .iter()
        .find_map(|(_, fault)| match fault {
            Fault::Bearer(user) => user.clone(),
            _ => None,
        });
    match wanted {
        Some(user) if !has_authorization(request, &basic(&user)) => status(
            stream,
            401,
            "",
            &error_body("UNAUTHORIZED", "wrong user or password"),
        ),
        _ => status(
            stream,
            200,
            "",
            "{\"token\":\"fixture-token\",\"expires_in\":300}",
        ),
    }
}

fn has_authorization(request: &Request, value: &str) -> bool {
    request.header("authorization") == Some(value)
}

fn basic(user: &str) -> String {
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(user))
}

fn error_body(code: &str, message: &str) -> String {
    format!("{{\"errors\":[{{\"code\":\"{code}\",\"message\":\"{message}\"}}]}}")
}

fn status(mut stream: &TcpStream, code: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let blob = Blob::new("application/json", Vec::new());
    stream.write_all(head(code, &blob, body.len() as u64, headers).as_bytes())?;
    stream.write_all(body.as_bytes())
}

fn head(code: u16, blob: &Blob, length: u64, more: &str) -> String {
    format!(
        "HTTP/1.1 {code} fixture\r\nContent-Type: {}\r\nContent-Length: {length}\r\n\
         Docker-Content-Digest: {}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\
         Connection: close\r\n{more}\r\n",
        blob.media_type, blob.digest
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_spoil_what_they_name_and_nothing_else() {
        let fixture = Fixture::serve(TcpListener::bind("127.0.0.1:0").unwrap());
        let blob = Blob::new("text/plain", b"good".to_vec());
        fixture.put_blob("a", &blob);
        fixture.put_blob("b", &blob);
        let get = |repository: &str, headers: &[(&str, &str)]| {
            let stream = TcpStream::connect(fixture.address()).unwrap();
            let target = format!("/v2/{repository}/blobs/{}", blob.digest);
            http::call(stream, "GET", &target, headers, b"")
        };
        fixture.misbehave("a/blobs", Fault::Corrupt);
        assert_eq!(get("b", &[]).unwrap().body, b"good");
        let spoiled = get("a", &[]).unwrap().body;
        assert!(spoiled.len() == 4 && spoiled != b"good");
        fixture.misbehave("a/blobs", Fault::Truncate(2));
        assert_eq!(get("a", &[]).unwrap().body, b"go");
        fixture.misbehave("a/blobs", Fault::Basic("me:secret".into()));
        assert_eq!(get("a", &[]).unwrap().status, 401);
        let login = [("Authorization", "Basic bWU6c2VjcmV0")];
        assert_eq!(get("a", &login).unwrap().body, b"good");
        fixture.misbehave("a/blobs", Fault::Close);
        assert!(get("a", &[]).is_err());
        fixture.behave();
        assert_eq!(get("a", &[]).unwrap().body, b"good");
        assert_eq!(fixture.requests().len(), 7);
    }
}
