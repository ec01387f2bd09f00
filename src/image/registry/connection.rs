//! Requests to one endpoint and to the hosts that it names: schemes, clients, redirects, retries.
//!
//! Who we are there is for `authorization` to say; here is only kept that it does not follow a
//! redirect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::{AUTHORIZATION, LOCATION};
use reqwest::{Method, Response, Url};

use super::body::{Exchange, chain, place};
use super::permit::Permit;
use super::retry::Patience;
use super::timeouts::Timeouts;
use super::transport::{Client, Transport};
use crate::image::error::{ImageError, Repository};
use crate::image::progress::Waits;
use crate::image::reference::DOCKER_HUB;
use crate::sys::blocking;

/// Hops followed for one request.
const MAX_REDIRECTS: usize = 5;
/// Hosts besides the registry whose clients are kept; there are one or two.
const MAX_ELSEWHERE: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    transport: Arc<Transport>,
    client: Arc<Client>,
    /// Clients for the hosts that the registry has sent us to, by host and whether they may see our
    /// client certificate.
    elsewhere: Mutex<HashMap<(String, bool), Arc<Client>>>,
    /// The repository as errors name it.
    pub repository: Repository,
    /// Certificates are not checked, and plain HTTP is tried where HTTPS fails.
    insecure: bool,
    /// Where requests say what they wait for.
    pub waits: Arc<Waits>,
    /// Scheme and authority.
    pub origin: Url,
    pub timeouts: Timeouts,
}

impl Connection {
    /// For an insecure endpoint this finds out whether it speaks HTTPS.
    pub async fn open(
        transport: &Arc<Transport>,
        repository: Repository,
        insecure: bool,
        waits: Arc<Waits>,
    ) -> Result<Connection, ImageError> {
        let timeouts = transport.timeouts();
        let registry = repository.registry.clone();
        let listed = transport.insecure_hosts();
        let insecure = insecure || listed.cover(&registry, timeouts.connect).await;
        let clients = Arc::clone(transport);
        let client = blocking(move || clients.client(&registry, insecure)).await?;
        let mut connection = Connection {
            transport: Arc::clone(transport),
            client,
            elsewhere: Mutex::default(),
            origin: origin("https", &repository)?,
            repository,
            insecure,
            waits,
            timeouts,
        };
        if insecure {
            connection.choose_scheme().await?;
        }
        Ok(connection)
    }

    /// HTTPS if anything answers there, else HTTP, as containers/image does it.
    async fn choose_scheme(&mut self) -> Result<(), ImageError> {
        let mut causes = Vec::new();
        for scheme in ["https", "http"] {
            self.origin = origin(scheme, &self.repository)?;
            let exchange = Exchange {
                repository: &self.repository,
                step: "ping",
            };
            let request = reqwest::Request::new(Method::GET, self.url("/v2/", exchange)?);
            let _waiting = self.waits.begin(place(request.url()));
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
            repository: &self.repository,
            step: "ping",
        };
        Err(exchange.unavailable(format!("{}; {}", causes.join("; "), CHECK)))
    }

    /// Whether a URL that `from` names may be used: a secure server cannot send us, or our
    /// credentials, over plain HTTP.
    pub(super) fn check_scheme(&self, from: &Url, url: &Url) -> Result<(), String> {
        let is_registry = from.origin() == self.origin.origin();
        match url.scheme() {
            "http" if self.insecure => Ok(()),
            _ => scheme_from(from, is_registry, url),
        }
    }

    /// Sends a request and follows redirects. `Authorization` and client certificates stay with the
    /// first origin, and only a GET is sent again elsewhere. `trusted`: the first origin may see the
    /// client certificate that is for the registry. A `permit` is not held while one says "later".
    pub(super) async fn execute(
        &self,
        request: reqwest::Request,
        trusted: bool,
        exchange: Exchange<'_>,
        permit: Option<&Permit>,
    ) -> Result<Response, ImageError> {
        let first = request.url().origin();
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let mut next = request;
        for _ in 0..=MAX_REDIRECTS {
            let url = next.url().clone();
            let client = self
                .client_for(&url, trusted && url.origin() == first)
                .await?;
            let response = self.send(&client, next, exchange, permit).await?;
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
            self.check_scheme(&url, &target)
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
        let ((host, _), insecure) = (key.clone(), self.insecure);
        let make = move || transport.elsewhere(&from, &host, insecure, trusted);
        let client = blocking::<_, ImageError>(make).await?;
        let mut clients = clients();
        if clients.len() >= MAX_ELSEWHERE {
            clients.clear();
        }
        clients.insert(key, Arc::clone(&client));
        Ok(client)
    }

    /// Sends one request until it gets an answer that is not "later". A `permit` is not held
    /// meanwhile.
    async fn send(
        &self,
        client: &Client,
        request: reqwest::Request,
        exchange: Exchange<'_>,
        permit: Option<&Permit>,
    ) -> Result<Response, ImageError> {
        let url = request.url().clone();
        let mut patience = Patience::new(self.timeouts);
        loop {
            let again = request
                .try_clone()
                .ok_or_else(|| exchange.protocol("a request that cannot be sent twice"))?;
            let limit = self.timeouts.first_byte;
            let waiting = self.waits.begin(place(&url));
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
            drop(waiting);
            let _later = self.waits.later(place(&url), pause);
            match permit {
                Some(permit) => permit.rest(pause).await,
                None => tokio::time::sleep(pause).await,
            }
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
        cause.push_str(&client.advice(&self.repository.registry, &cause));
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

    /// A path at the endpoint.
    pub(super) fn url(&self, path: &str, exchange: Exchange<'_>) -> Result<Url, ImageError> {
        self.origin
            .join(path)
            .map_err(|error| exchange.protocol(error.to_string()))
    }
}

/// Whether one server may name this URL of another. `is_registry`: it is the one that
/// registries.conf knows, and not a store for signatures or one that was redirected to.
fn scheme_from(from: &Url, is_registry: bool, url: &Url) -> Result<(), String> {
    let named = place(url);
    match url.scheme() {
        "https" => Ok(()),
        // a lookaside server that is asked without encryption already
        "http" if from.scheme() == "http" => Ok(()),
        "http" if is_registry => Err(format!(
            "the registry names {named}, which is not encrypted; set insecure = true for it in \
             registries.conf if that is meant"
        )),
        "http" => Err(format!(
            "{} leads to {named}, which is not encrypted; have it lead to an https URL",
            place(from)
        )),
        other if is_registry => Err(format!("the registry names a URL with scheme {other:?}")),
        other => Err(format!(
            "{} leads to a URL with scheme {other:?}",
            place(from)
        )),
    }
}

const CHECK: &str =
    "check that the name is right, that the registry runs, and the firewall between";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encrypted_leads_to_nothing_that_is_not() {
        let table = [
            ("https://r/", true, "https://o/b?q", ""),
            ("https://r/", true, "http://o/b?q", "set insecure = true"),
            ("https://r/", true, "ftp://o/", "scheme \"ftp\""),
            ("https://l/s", false, "https://o/s", ""),
            (
                "https://l/s?q",
                false,
                "http://o/b?q",
                "https://l/s leads to http://o/b, which",
            ),
            ("http://l/s", false, "http://o/s", ""),
            (
                "http://l/s",
                false,
                "file:///etc/shadow",
                "http://l/s leads",
            ),
        ];
        for (from, is_registry, to, says) in table {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            let reason = scheme_from(&from, is_registry, &to)
                .err()
                .unwrap_or_default();
            assert_eq!(reason.is_empty(), says.is_empty(), "{to}: {reason}");
            assert!(reason.contains(says), "{reason}");
            assert!(!reason.contains('?'), "{reason}");
        }
    }
}
