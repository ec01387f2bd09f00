//! One repository at one endpoint: requests, authentication, redirects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, Url};

use super::body::{Exchange, place};
use super::challenge::Challenge;
use super::retry::Patience;
use super::token::{Tokens, bearer};
use super::transport::{Client, Timeouts, Transport, chain};
use super::{Blob, MAX_REDIRECTS};
use crate::image::credentials::{Credential, Found};
use crate::image::error::{ImageError, Repository};
use crate::image::manifest;
use crate::image::progress::Waits;
use crate::image::reference::DOCKER_HUB;
use crate::sys::blocking;
use oci_spec::image::Descriptor;

/// Hosts of one session besides the registry whose clients are kept; there are one or two.
const MAX_ELSEWHERE: usize = 16;

/// Where a session goes and how.
#[derive(Debug)]
pub struct Target {
    /// The repository at the endpoint.
    pub repository: Repository,
    /// Certificates are not checked, and plain HTTP is tried where HTTPS fails.
    pub insecure: bool,
    /// Who we are there, and how we know.
    pub found: Found,
    /// Where requests say what they wait for.
    pub waits: Arc<Waits>,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    transport: Arc<Transport>,
    client: Arc<Client>,
    /// Clients for the hosts that the registry has sent us to, by host and whether they may see our
    /// client certificate.
    elsewhere: Mutex<HashMap<(String, bool), Arc<Client>>>,
    tokens: Arc<Tokens>,
    target: Target,
    /// Scheme and authority.
    origin: Url,
    timeouts: Timeouts,
    /// What the last challenge led to. Never locked across an await.
    authorization: Mutex<Option<HeaderValue>>,
    /// Whose turn it is to answer a challenge: layers that meet one at once want one token. Held
    /// while the token server is waited for, which has a deadline.
    answering: tokio::sync::Mutex<()>,
}

/// What a request asks besides its path.
#[derive(Clone, Copy, Default)]
pub(super) struct Ask<'a> {
    pub accept: Option<&'a str>,
    /// First byte wanted.
    pub offset: u64,
}

/// A manifest document as it came.
#[derive(Debug)]
pub struct RawManifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The registry's word on its type.
    pub content_type: Option<String>,
    /// The registry keeps signatures itself ([`Session::extension_signatures`]).
    pub has_signatures: bool,
}

impl Session {
    /// Opens a session; for an insecure endpoint this finds out whether it speaks HTTPS.
    pub async fn open(
        transport: &Arc<Transport>,
        mut target: Target,
    ) -> Result<Session, ImageError> {
        let timeouts = transport.timeouts();
        let registry = target.repository.registry.clone();
        let listed = transport.insecure_hosts();
        target.insecure |= listed.cover(&registry, timeouts.connect).await;
        let (clients, insecure) = (Arc::clone(transport), target.insecure);
        let client = blocking(move || clients.client(&registry, insecure)).await?;
        let authorization = match &target.found.credential {
            Some(Credential::RegistryToken(token)) => bearer(token),
            Some(Credential::Basic { .. } | Credential::IdentityToken(_)) | None => None,
        };
        let origin = origin("https", &target.repository)?;
        let mut session = Session {
            transport: Arc::clone(transport),
            client,
            elsewhere: Mutex::default(),
            tokens: transport.tokens(),
            origin,
            timeouts,
            authorization: Mutex::new(authorization),
            answering: tokio::sync::Mutex::default(),
            target,
        };
        if insecure {
            session.choose_scheme().await?;
        }
        Ok(session)
    }

    /// HTTPS if anything answers there, else HTTP, as containers/image does it.
    async fn choose_scheme(&mut self) -> Result<(), ImageError> {
        let mut causes = Vec::new();
        for scheme in ["https", "http"] {
            self.origin = origin(scheme, &self.target.repository)?;
            let exchange = Exchange {
                repository: self.repository(),
                step: "ping",
            };
            let request = reqwest::Request::new(Method::GET, self.url("/v2/", exchange)?);
            let _waiting = self.target.waits.begin(place(request.url()));
            let sent = self.client.http.execute(request);
            match tokio::time::timeout(self.timeouts.first_byte, sent).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => causes.push(format!("{scheme}: {}", chain(&error))),
                Err(_) => causes.push(format!(
                    "{scheme}: no answer in {:?}",
                    self.timeouts.first_byte
                )),
            }
        }
        let exchange = Exchange {
            repository: self.repository(),
            step: "ping",
        };
        Err(exchange.unavailable(format!("{}; {}", causes.join("; "), CHECK)))
    }

    /// Fetches a manifest or index by tag or digest. The bytes are bounded, not yet verified.
    pub async fn manifest(&self, name: &str) -> Result<RawManifest, ImageError> {
        let step = format!("manifest {name}");
        let exchange = Exchange {
            repository: self.repository(),
            step: &step,
        };
        let path = format!("/v2/{}/manifests/{name}", self.repository().path);
        let accept = manifest::ACCEPT.join(", ");
        let ask = Ask {
            accept: Some(&accept),
            ..Ask::default()
        };
        let response = self.get(&path, ask, exchange).await?;
        let has_signatures = super::signatures::offered(&response);
        let header = response.headers().get(reqwest::header::CONTENT_TYPE);
        let content_type = header
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or(value).trim().to_owned());
        let _waiting = self.target.waits.begin(place(response.url()));
        let bytes = exchange
            .read(response, manifest::MAX_MANIFEST_BYTES, self.timeouts)
            .await?;
        Ok(RawManifest {
            bytes,
            content_type,
            has_signatures,
        })
    }

    /// Fetches an image's configuration of at most `limit` bytes. Not yet verified.
    pub async fn document(
        &self,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, ImageError> {
        self.small_blob("configuration", descriptor, limit).await
    }

    /// Fetches a small blob of at most `limit` bytes; `kind` names it in errors. Not yet verified.
    pub async fn small_blob(
        &self,
        kind: &str,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, ImageError> {
        let step = format!("{kind} {}", descriptor.digest());
        let exchange = Exchange {
            repository: self.repository(),
            step: &step,
        };
        let path = self.blob_path(descriptor);
        let response = self.get(&path, Ask::default(), exchange).await?;
        let _waiting = self.target.waits.begin(place(response.url()));
        exchange
            .read(response, limit.min(descriptor.size()), self.timeouts)
            .await
    }

    /// Starts to fetch a layer.
    pub async fn blob(self: &Arc<Self>, descriptor: &Descriptor) -> Result<Blob, ImageError> {
        Blob::open(Arc::clone(self), descriptor.clone()).await
    }

    pub(super) fn blob_path(&self, descriptor: &Descriptor) -> String {
        format!(
            "/v2/{}/blobs/{}",
            self.repository().path,
            descriptor.digest()
        )
    }

    /// The repository as errors name it.
    pub fn repository(&self) -> &Repository {
        &self.target.repository
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    pub(super) fn credential(&self) -> Option<&Credential> {
        self.target.found.credential.as_ref()
    }

    pub(super) fn basic_header(&self) -> Option<HeaderValue> {
        let Some(Credential::Basic { username, password }) = self.credential() else {
            return None;
        };
        let pair =
            base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether a URL that the registry names may be used: a secure registry cannot send us, or our
    /// credentials, over plain HTTP.
    pub(super) fn check_scheme(&self, url: &Url) -> Result<(), String> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.target.insecure => Ok(()),
            "http" => Err(format!(
                "the registry names {}, which is not encrypted; set insecure = \
                 true for it in registries.conf if that is meant",
                place(url)
            )),
            other => Err(format!("the registry names a URL with scheme {other:?}")),
        }
    }

    /// Sends a GET, answers one challenge, and returns a success or the error that it means.
    pub(super) async fn get(
        &self,
        path: &str,
        ask: Ask<'_>,
        exchange: Exchange<'_>,
    ) -> Result<Response, ImageError> {
        let mut answered = false;
        loop {
            let mut request = reqwest::Request::new(Method::GET, self.url(path, exchange)?);
            let headers = request.headers_mut();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some(accept) = ask
                .accept
                .and_then(|accept| HeaderValue::from_str(accept).ok())
            {
                headers.insert(ACCEPT, accept);
            }
            if ask.offset > 0 {
                headers.insert(RANGE, range_from(ask.offset));
            }
            let shown = self.authorization();
            if let Some(value) = &shown {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let response = self.execute(request, true, exchange).await?;
            let is_own = response.url().origin() == self.origin.origin();
            if is_own && !answered && self.may_know_us(&response, shown.is_some()) {
                answered = true;
                self.answer(response, shown, exchange).await?;
            } else if response.status().is_success() {
                return Ok(response);
            } else {
                return Err(self.explain(exchange.refusal(response, self.timeouts).await));
            }
        }
    }

    /// Sends a request and follows redirects. `Authorization` and client certificates stay with the
    /// first origin, and only a GET is sent again elsewhere. `trusted`: the first origin may see the
    /// client certificate that is for the registry.
    pub(super) async fn execute(
        &self,
        request: reqwest::Request,
        trusted: bool,
        exchange: Exchange<'_>,
    ) -> Result<Response, ImageError> {
        let first = request.url().origin();
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let mut next = request;
        for _ in 0..=MAX_REDIRECTS {
            let url = next.url().clone();
            let client = self
                .client_for(&url, trusted && url.origin() == first)
                .await?;
            let response = self.send(&client, next, exchange).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok());
            let target = location
                .and_then(|location| url.join(location).ok())
                .filter(|_| method == Method::GET)
                .ok_or_else(|| exchange.protocol("a redirect that cannot be followed"))?;
            self.check_scheme(&target)
                .map_err(|reason| exchange.protocol(reason))?;
            next = reqwest::Request::new(Method::GET, target);
            *next.headers_mut() = headers.clone();
            if next.url().origin() != first {
                next.headers_mut().remove(AUTHORIZATION);
            }
        }
        Err(exchange.protocol(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// The client for a URL that the registry has named. The token server (`trusted`: it gets our
    /// password too) may see our client certificate, a host after a redirect may not.
    async fn client_for(&self, url: &Url, trusted: bool) -> Result<Arc<Client>, ImageError> {
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        if url.origin() == self.origin.origin() {
            return Ok(Arc::clone(&self.client));
        }
        let key = (host, trusted);
        let clients = || {
            self.elsewhere
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(client) = clients().get(&key) {
            return Ok(Arc::clone(client));
        }
        let (transport, from) = (Arc::clone(&self.transport), Arc::clone(&self.client));
        let ((host, _), insecure) = (key.clone(), self.target.insecure);
        let make = move || transport.elsewhere(&from, &host, insecure, trusted);
        let client = blocking::<_, ImageError>(make).await?;
        let mut clients = clients();
        if clients.len() >= MAX_ELSEWHERE {
            clients.clear();
        }
        clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    /// Sends one request until it gets an answer that is not "later".
    async fn send(
        &self,
        client: &Client,
        request: reqwest::Request,
        exchange: Exchange<'_>,
    ) -> Result<Response, ImageError> {
        let url = request.url().clone();
        let _waiting = self.target.waits.begin(place(&url));
        let mut patience = Patience::new(self.timeouts);
        loop {
            let again = request
                .try_clone()
                .ok_or_else(|| exchange.protocol("a request that cannot be sent twice"))?;
            let limit = self.timeouts.first_byte;
            let pause = match tokio::time::timeout(limit, client.http.execute(again)).await {
                Ok(Ok(mut response)) => match patience.after(&mut response) {
                    Some(pause) => pause,
                    None => return Ok(response),
                },
                Ok(Err(error)) => match patience.after_broken(&error) {
                    Some(pause) => pause,
                    // the library shows the whole URL, and its query may be a signature
                    None => return Err(self.unsent(client, &url, &error.without_url(), exchange)),
                },
                Err(_) => {
                    let cause = format!(
                        "no answer within {limit:?} from {}{}",
                        place(&url),
                        self.way(&url)
                    );
                    return Err(exchange.unavailable(cause));
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// The error of a request that could not be sent, with what to do about it.
    fn unsent(
        &self,
        client: &Client,
        url: &Url,
        error: &reqwest::Error,
        exchange: Exchange<'_>,
    ) -> ImageError {
        let mut cause = format!("{}: {}", place(url), chain(error));
        cause.push_str(&client.advice(&self.repository().registry, &cause));
        cause.push_str(&self.way(url));
        exchange.unavailable(cause)
    }

    /// Through which proxy a URL is asked, if any.
    fn way(&self, url: &Url) -> String {
        let proxy = self.transport.proxies().name_of(url);
        proxy
            .map(|proxy| format!(" (through the proxy {proxy})"))
            .unwrap_or_default()
    }

    /// Answers the challenge to a request that has shown `shown`, so that it can be sent again.
    async fn answer(
        &self,
        response: Response,
        shown: Option<HeaderValue>,
        exchange: Exchange<'_>,
    ) -> Result<(), ImageError> {
        let _turn = self.answering.lock().await;
        if self.authorization() != shown {
            // another request of this pull was faster
            return Ok(());
        }
        let challenges = self.challenges(&response, exchange).await;
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let fixed = matches!(self.credential(), Some(Credential::RegistryToken(_)));
        let value = match bearer {
            Some((realm, service, scope)) if !fixed => {
                let wanted = self.wanted(realm, service.as_deref(), scope.as_deref());
                let known = self
                    .tokens
                    .get(&wanted)
                    .filter(|it| Some(it) != shown.as_ref());
                Some(match known {
                    Some(known) => known,
                    None => self
                        .fetch_token(wanted)
                        .await
                        .map_err(|error| self.explain(error))?,
                })
            }
            None if challenges.contains(&Challenge::Basic) => self.basic_header(),
            Some(_) | None => None,
        };
        let Some(value) = value else {
            return Err(self.explain(exchange.refusal(response, self.timeouts).await));
        };
        *self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// Adds to a refusal what the user can do about it.
    fn explain(&self, error: ImageError) -> ImageError {
        let ImageError::Denied {
            repository,
            step,
            cause,
        } = error
        else {
            return error;
        };
        let origin = &self.target.found.origin;
        let tried = match self.credential() {
            None if origin.is_empty() => NO_CREDENTIALS.to_owned(),
            None => format!("{NO_CREDENTIALS}; looked for in {origin}"),
            Some(_) => format!("the given credentials were not accepted for it: {origin}"),
        };
        ImageError::Denied {
            repository,
            step,
            cause: format!("{cause} ({tried})"),
        }
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn url(&self, path: &str, exchange: Exchange<'_>) -> Result<Url, ImageError> {
        self.origin
            .join(path)
            .map_err(|error| exchange.protocol(error.to_string()))
    }
}

const NO_CREDENTIALS: &str =
    "no credentials were given for it; the repository may need some, or not exist";

const CHECK: &str =
    "check that the name is right, that the registry runs, and the firewall between";

fn range_from(offset: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes={offset}-"))
        .unwrap_or(HeaderValue::from_static("bytes=0-"))
}

fn origin(scheme: &str, repository: &Repository) -> Result<Url, ImageError> {
    // the hub's API lives on a host of its own
    let host = if repository.registry == DOCKER_HUB {
        "registry-1.docker.io"
    } else {
        &repository.registry
    };
    Url::parse(&format!("{scheme}://{host}/"))
        .map_err(|error| ImageError::malformed(format!("registry {host:?}"), error))
}
