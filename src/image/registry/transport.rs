//! HTTP clients and their deadlines.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::body::chain;
use super::certificates::Certificates;
use super::insecure::InsecureHosts;
use super::proxy::Proxies;
use super::timeouts::Timeouts;
use super::tls;
use super::tokens::Tokens;
use crate::image::error::ImageError;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Network {
    /// Deadlines and retries.
    pub timeouts: Timeouts,
    /// Proxies of the environment.
    pub proxies: Proxies,
    /// certs.d directories; the first that has one for a host counts.
    pub certificates: Vec<PathBuf>,
    /// crio.conf's `insecure_registries`.
    pub insecure: InsecureHosts,
}

impl Default for Network {
    /// The field's usual directories, no proxy.
    fn default() -> Network {
        Network {
            timeouts: Timeouts::default(),
            proxies: Proxies::default(),
            certificates: vec![
                "/etc/containers/certs.d".into(),
                "/etc/docker/certs.d".into(),
            ],
            insecure: InsecureHosts::default(),
        }
    }
}

/// An HTTP client for hosts with the same certificates.
#[derive(Debug)]
pub struct Client {
    pub(super) http: reqwest::Client,
    certificates: Certificates,
}

/// Makes HTTP clients and shares them among the pulls of the moment.
///
/// Between pulls there is none: the certificates and connection pools of an idle daemon are memory
/// for nothing. Hosts without certificates of their own share one; the others have one for each
/// content of their directory, so that a changed file counts from the next pull on.
#[derive(Debug)]
pub struct Transport {
    network: Network,
    clients: Mutex<HashMap<Key, Weak<Client>>>,
    tokens: Mutex<Weak<Tokens>>,
}

/// What makes two clients different.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    insecure: bool,
    certificates: [u8; 32],
}

impl Transport {
    /// A transport without any client yet.
    pub fn new(network: Network) -> Transport {
        Transport {
            network,
            clients: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// The deadlines that its sessions keep.
    pub fn timeouts(&self) -> Timeouts {
        self.network.timeouts
    }

    /// crio.conf's `insecure_registries`.
    pub(super) fn insecure_hosts(&self) -> &InsecureHosts {
        &self.network.insecure
    }

    /// The proxies of the environment.
    pub(super) fn proxies(&self) -> &Proxies {
        &self.network.proxies
    }

    /// The tokens of the pulls of the moment.
    pub(super) fn tokens(&self) -> Arc<Tokens> {
        let mut slot = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        slot.upgrade().unwrap_or_else(|| {
            let tokens = Arc::new(Tokens::default());
            *slot = Arc::downgrade(&tokens);
            tokens
        })
    }

    /// The client for `host` (with its port, as in a reference); `insecure` takes any certificate.
    /// Reads the host's certs.d directory, and the first one the system's certificates: blocking,
    /// some milliseconds.
    pub fn client(&self, host: &str, insecure: bool) -> Result<Arc<Client>, ImageError> {
        let certificates = Certificates::read(&self.network.certificates, host)?;
        self.with(certificates, insecure)
    }

    /// The client for `host`, which the registry that is asked with `from` has named. Blocking.
    pub(super) fn elsewhere(
        &self,
        from: &Client,
        host: &str,
        insecure: bool,
        trusted: bool,
    ) -> Result<Arc<Client>, ImageError> {
        let certificates = Certificates::read(&self.network.certificates, host)?;
        self.with(certificates.beside(&from.certificates, trusted), insecure)
    }

    fn with(&self, certificates: Certificates, insecure: bool) -> Result<Arc<Client>, ImageError> {
        let key = Key {
            insecure,
            certificates: certificates.digest,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, client| client.strong_count() > 0);
        if let Some(client) = clients.get(&key).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let client = Arc::new(Client {
            http: self.build(&certificates, insecure)?,
            certificates,
        });
        clients.insert(key, Arc::downgrade(&client));
        Ok(client)
    }

    fn build(
        &self,
        certificates: &Certificates,
        insecure: bool,
    ) -> Result<reqwest::Client, ImageError> {
        let proxies = self.network.proxies.clone();
        let through = reqwest::Proxy::custom(move |url| proxies.of(url).cloned());
        reqwest::Client::builder()
            .user_agent(concat!("cricket/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls::config(certificates, insecure)?)
            // also keeps the library from reading the environment by rules of its own
            .proxy(through)
            // redirects are followed by hand, see connection.rs: nobody else decides where credentials go
            .redirect(reqwest::redirect::Policy::none())
            // and so are retries, see retry.rs
            .retry(reqwest::retry::never())
            // one connection a layer: parallel layers do not share a congestion window, and a layer
            // that is unpacked slowly does not hold up the others as HTTP/2 flow control would
            .http1_only()
            .connect_timeout(self.network.timeouts.connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| ImageError::Tls {
                reason: chain(&error),
            })
    }
}

impl Client {
    /// What to do about a certificate that was not accepted, on either side; empty for other errors.
    pub(super) fn advice(&self, host: &str, cause: &str) -> String {
        let ours = [
            "BadCertificate",
            "CertificateRequired",
            "CertificateUnknown",
            "UnknownCA",
        ];
        let ours = ours.map(|alert| format!("received fatal alert: {alert}"));
        if ours.iter().any(|alert| cause.contains(alert)) {
            let place = format!("/etc/containers/certs.d/{host}");
            return match self.certificates.identities.as_slice() {
                [] => format!(
                    "; the registry wants a client certificate: NAME.cert and NAME.key in {place}"
                ),
                _ => "; the registry does not accept our client certificate".to_owned(),
            };
        }
        if !cause.contains("certificate") {
            return String::new();
        }
        let own = match &self.certificates.directory {
            Some(directory) => format!(" and those in {}", directory.display()),
            None => format!("; its own can be put into /etc/containers/certs.d/{host}/ca.crt"),
        };
        format!("; trusted are the system's authorities{own}")
    }
}
