//! Pulls through a proxy: the name is the proxy's to look up, and tunnels hold TLS.

use std::collections::HashMap;

use base64::Engine;
use cricket_harness::certificate;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::access_real::{serve_tls, trust};
use super::case::*;
use super::fixture::{Fixture, Request, serve_content};
use super::*;

/// A proxy that knows the names it was told, and keeps the heads of the requests for tunnels.
struct Tunnel {
    address: String,
    heads: Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tunnel {
    async fn start(names: &[(&str, &str)]) -> Tunnel {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let names: HashMap<String, String> = names
            .iter()
            .map(|(name, at)| ((*name).to_owned(), (*at).to_owned()))
            .collect();
        let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            let mut tunnels = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                tunnels.spawn(tunnel(client, names.clone(), Arc::clone(&seen)));
            }
        });
        Tunnel {
            address,
            heads,
            task,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn tunnel(
    client: TcpStream,
    names: HashMap<String, String>,
    seen: Arc<std::sync::Mutex<Vec<String>>>,
) {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().unwrap().push(head.clone());
    let name = head.split(' ').nth(1).unwrap_or_default();
    let Some(address) = names.get(name).filter(|_| head.starts_with("CONNECT ")) else {
        let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
        return;
    };
    let mut server = TcpStream::connect(address).await.unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let _ends = copy_bidirectional(&mut client, &mut server).await;
}

fn through(variables: &[(&str, String)]) -> Proxies {
    Proxies::from_environment(|name| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.clone())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_a_tunnel_with_the_proxys_password() {
    let content = good();
    let dir = tempfile::tempdir().unwrap();
    let files = certificate::named(dir.path(), "registry.test");
    let served = content.clone();
    let registry = serve_tls(&files, move |request| serve_content(&served, request)).await;
    let proxy = Tunnel::start(&[("registry.test:443", &registry.address)]).await;
    let node = Node::with("", |settings| {
        let url = format!("http://u:p%40ss@{}", proxy.address);
        settings.network.proxies = through(&[("HTTPS_PROXY", url)]);
        settings.network.certificates = vec![dir.path().join("certs.d")];
    });
    trust(&node, "registry.test", &files.authority);
    let id = node.pull("registry.test/app:1").await.unwrap();
    assert_eq!(id, content.id);
    let password = base64::prelude::BASE64_STANDARD.encode("u:p@ss");
    let heads = proxy.heads();
    assert!(!heads.is_empty());
    for head in heads {
        let head = head.to_lowercase();
        assert!(
            head.starts_with("connect registry.test:443 http/1.1"),
            "{head}"
        );
        let wanted = format!("proxy-authorization: basic {}", password.to_lowercase());
        assert!(head.contains(&wanted), "{head}");
    }
    // a name that the proxy does not want
    let error = node.pull("other.test/app:1").await.unwrap_err();
    let text = error.to_string();
    assert!(unavailable(&error), "{text}");
    assert!(
        text.contains(&format!("through the proxy {}", proxy.address)),
        "{text}"
    );
    assert!(!text.contains("p%40ss") && !text.contains("p@ss"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_redirects_and_token_servers_go_through_the_proxy_too() {
    // the proxy for plain HTTP gets whole URLs
    let content = good();
    let proxy = Fixture::start(move |request| {
        let Some(rest) = request.path.strip_prefix("http://") else {
            return fixture::answer(400, "not for a proxy");
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let bearer = request
            .headers
            .get("authorization")
            .map_or("", String::as_str);
        let location = |status, name, value: String| fixture::Reply::Answer {
            status,
            headers: vec![(name, value)],
            body: Vec::new(),
        };
        match host {
            "tokens.test" => fixture::answer(200, r#"{"token":"t"}"#),
            "registry.test" if path == "/v2/" => fixture::answer(200, "{}"),
            "registry.test" if bearer != "Bearer t" => {
                let realm = "Bearer realm=\"http://tokens.test/token\"".to_owned();
                location(401, "WWW-Authenticate", realm)
            }
            "registry.test" if path.contains("/blobs/") => {
                location(307, "Location", format!("http://blobs.test{path}"))
            }
            "registry.test" | "blobs.test" => {
                assert!(host != "blobs.test" || bearer.is_empty(), "{bearer}");
                let request = Request {
                    path: path.to_owned(),
                    ..request.clone()
                };
                serve_content(&content, &request)
            }
            other => fixture::answer(502, other),
        }
    })
    .await;
    let node = Node::with(&insecure("registry.test"), |settings| {
        let variables = [("http_proxy", proxy.address.clone())];
        settings.network.proxies = through(&variables);
    });
    assert_eq!(node.pull("registry.test/app:1").await.unwrap(), good().id);
    for host in ["tokens.test", "registry.test", "blobs.test"] {
        assert!(proxy.count(&format!("http://{host}/")) > 0, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_and_loopback_are_asked_directly() {
    let content = good();
    let registry = Fixture::serving(&content).await;
    let node = Node::with(&insecure(&registry.address), |settings| {
        // nothing listens there
        let nowhere = "127.0.0.1:1".to_owned();
        let variables = [("HTTP_PROXY", nowhere.clone()), ("HTTPS_PROXY", nowhere)];
        settings.network.proxies = through(&variables);
    });
    let reference = format!("{}/app:1", registry.address);
    assert_eq!(node.pull(&reference).await.unwrap(), content.id);
    let error = node
        .pull("registry.test/app:1")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("through the proxy 127.0.0.1:1"), "{error}");
}

/// A SOCKS5 proxy (RFC 1928, 1929) that wants a password and knows names.
struct Socks {
    address: String,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Socks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Socks {
    async fn start(password: &'static str, name: &str, at: &str) -> Socks {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let (name, at) = (name.to_owned(), at.to_owned());
        let task = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (name, at, seen) = (name.clone(), at.clone(), Arc::clone(&seen));
                // an early end is the client's business
                clients.spawn(async move {
                    let _ends = socks(client, password, &name, &at, &seen).await;
                });
            }
        });
        Socks {
            address,
            asked,
            task,
        }
    }
}

async fn socks(
    mut client: TcpStream,
    password: &str,
    name: &str,
    at: &str,
    seen: &std::sync::Mutex<Vec<String>>,
) -> std::io::Result<()> {
    assert_eq!(client.read_u8().await?, 5);
    let methods = text(&mut client).await?;
    let wanted = if password.is_empty() { 0 } else { 2 };
    if !methods.as_bytes().contains(&wanted) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, wanted]).await?;
    if wanted == 2 {
        assert_eq!(client.read_u8().await?, 1);
        let given = format!("{}:{}", text(&mut client).await?, text(&mut client).await?);
        client.write_all(&[1, u8::from(given != password)]).await?;
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    assert_eq!(head[..3], [5, 1, 0], "connect");
    // an address instead of a name would mean that we looked the name up
    assert_eq!(head[3], 3, "a name");
    let host = text(&mut client).await?;
    let target = format!("{host}:{}", client.read_u16().await?);
    seen.lock().unwrap().push(target.clone());
    let refused = u8::from(target != name) * 4;
    client
        .write_all(&[5, refused, 0, 1, 0, 0, 0, 0, 0, 0])
        .await?;
    if refused == 0 {
        let mut server = TcpStream::connect(at).await?;
        copy_bidirectional(&mut client, &mut server).await?;
    }
    Ok(())
}

/// Bytes with their number before them.
async fn text(client: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socks5_proxy_is_given_names_and_its_password() {
    let content = good();
    let dir = tempfile::tempdir().unwrap();
    let files = certificate::named(dir.path(), "registry.test");
    let served = content.clone();
    let registry = serve_tls(&files, move |request| serve_content(&served, request)).await;
    for (password, user) in [("", ""), ("u:p@ss", "u:p%40ss@")] {
        let name = "registry.test:443";
        let proxy = Socks::start(password, name, &registry.address).await;
        let node = Node::with("", |settings| {
            let url = format!("socks5://{user}{}", proxy.address);
            settings.network.proxies = through(&[("HTTPS_PROXY", url)]);
            settings.network.certificates = vec![dir.path().join("certs.d")];
        });
        trust(&node, "registry.test", &files.authority);
        let id = node.pull("registry.test/app:1").await.unwrap();
        assert_eq!(id, content.id);
        let asked = proxy.asked.lock().unwrap().clone();
        assert!(
            !asked.is_empty() && asked.iter().all(|it| it == name),
            "{asked:?}"
        );
        // a name that the proxy does not want
        let error = node.pull("other.test/app:1").await.unwrap_err();
        let text = error.to_string();
        assert!(unavailable(&error), "{text}");
        let through = format!("through the proxy {}", proxy.address);
        assert!(text.contains(&through) && !text.contains("p@ss"), "{text}");
    }
}
