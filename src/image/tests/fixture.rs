//! A registry in test code that misbehaves as told. It speaks just enough HTTP/1.1 and keeps a log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::content::Content;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What to do with a request.
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// These bytes, and the connection's end.
    Raw(Vec<u8>),
    /// These bytes, and then silence until the client goes.
    Stall(Vec<u8>),
    /// This head, and then zeros until the client goes.
    Endless(Vec<u8>),
}

pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::Answer {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server; it ends with this value.
pub struct Fixture {
    pub address: String,
    log: Arc<Mutex<Vec<Request>>>,
    handler: Arc<Mutex<Arc<Handler>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fixture {
    pub async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fixture {
        Fixture::start_with(None, handler).await
    }

    /// One that speaks HTTPS.
    pub async fn start_tls(
        tls: rustls::ServerConfig,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Fixture {
        Fixture::start_with(Some(TlsAcceptor::from(Arc::new(tls))), handler).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Fixture {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Mutex<Arc<Handler>>> = Arc::new(Mutex::new(Arc::new(handler)));
        let (seen, current) = (Arc::clone(&log), Arc::clone(&handler));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, current) = (Arc::clone(&seen), Arc::clone(&current));
                match tls.clone() {
                    None => connections.spawn(serve(stream, seen, current)),
                    Some(tls) => connections.spawn(async move {
                        // a client that does not like the certificate goes away
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, seen, current).await;
                        }
                    }),
                };
            }
        });
        Fixture {
            address,
            log,
            handler,
            task,
        }
    }

    /// Serves `content` as `app:1`, correctly.
    pub async fn serving(content: &Content) -> Fixture {
        let content = content.clone();
        Fixture::start(move |request| serve_content(&content, request)).await
    }

    pub fn become_(&self, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.handler.lock().unwrap() = Arc::new(handler);
    }

    pub fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// How many requests have a path that contains `part`.
    pub fn count(&self, part: &str) -> usize {
        self.log()
            .iter()
            .filter(|request| request.path.contains(part))
            .count()
    }
}

/// What a correct registry answers that has `content` as `app:1` and nothing else.
pub fn serve_content(content: &Content, request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap();
    if path == "/v2/" {
        return answer(200, "{}");
    }
    let Some(rest) = path.strip_prefix("/v2/app/") else {
        return not_found();
    };
    if let Some(name) = rest.strip_prefix("manifests/") {
        let all = std::iter::once(content).chain(&content.manifests);
        let mut all = all.chain(content.manifests.iter().flat_map(|below| &below.manifests));
        let found = all
            .find(|one| one.digest() == name)
            .or((name == "1").then_some(content));
        let Some(found) = found else {
            return not_found();
        };
        return Reply::Answer {
            status: 200,
            headers: vec![("Content-Type", found.media_type.to_owned())],
            body: found.bytes.clone(),
        };
    }
    let digest = rest.strip_prefix("blobs/").unwrap_or_default();
    let all = std::iter::once(content).chain(&content.manifests);
    match all.into_iter().find_map(|one| one.blobs.get(digest)) {
        Some(blob) => answer(200, blob.clone()),
        None => not_found(),
    }
}

pub fn not_found() -> Reply {
    answer(
        404,
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
    )
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: Arc<Mutex<Vec<Request>>>,
    handler: Arc<Mutex<Arc<Handler>>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        log.lock().unwrap().push(request.clone());
        let current = Arc::clone(&handler.lock().unwrap());
        match current(&request) {
            Reply::Answer {
                status,
                headers,
                body,
            } => {
                let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("\r\n");
                let sent = stream.write_all(&[head.as_bytes(), &body].concat()).await;
                if sent.is_err() {
                    return;
                }
            }
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Stall(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let mut sink = [0; 64];
                while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
                return;
            }
            Reply::Endless(head) => {
                let zeros = vec![0; 64 << 10];
                let _ = stream.write_all(&head).await;
                while stream.write_all(&zeros).await.is_ok() {}
                return;
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        // a TLS hello, from a client that tries HTTPS first, is not for us
        if bytes.first() == Some(&0x16) || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> = headers
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |text| text.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request {
        method,
        path,
        headers,
        body: String::from_utf8(body).ok()?,
    })
}
