//! One repository at one endpoint: its manifests, its small blobs, and the GET that all use.

use std::sync::Arc;

use oci_spec::image::Descriptor;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, RANGE};
use reqwest::{Method, Response};

use super::authorization::Authorization;
use super::body::{Exchange, place};
use super::connection::Connection;
use super::greeting::keeps_signatures;
use super::permit::Permit;
use super::timeouts::Timeouts;
use super::transport::Transport;
use crate::image::credentials::Found;
use crate::image::error::{ImageError, Repository};
use crate::image::manifest;
use crate::image::progress::Waits;

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
    connection: Connection,
    authorization: Authorization,
}

/// What a request asks besides its path.
#[derive(Clone, Copy, Default)]
pub(super) struct Ask<'a> {
    pub accept: Option<&'a str>,
    /// First byte wanted.
    pub offset: u64,
    /// Given up while the registry says "later".
    pub permit: Option<&'a Permit>,
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
    pub async fn open(transport: &Arc<Transport>, target: Target) -> Result<Session, ImageError> {
        let Target {
            repository,
            insecure,
            found,
            waits,
        } = target;
        // kept while the session lives, see transport.rs
        let tokens = transport.tokens();
        let connection = Connection::open(transport, repository, insecure, waits).await?;
        Ok(Session {
            connection,
            authorization: Authorization::new(found, tokens),
        })
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
        let has_signatures = keeps_signatures(&response);
        let header = response.headers().get(reqwest::header::CONTENT_TYPE);
        let content_type = header
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or(value).trim().to_owned());
        let _waiting = self.connection.waits.begin(place(response.url()));
        let bytes = exchange
            .read(
                response,
                manifest::MAX_MANIFEST_BYTES,
                self.connection.timeouts,
            )
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
        let _waiting = self.connection.waits.begin(place(response.url()));
        exchange
            .read(
                response,
                limit.min(descriptor.size()),
                self.connection.timeouts,
            )
            .await
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
        &self.connection.repository
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.connection.timeouts
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
            let mut request =
                reqwest::Request::new(Method::GET, self.connection.url(path, exchange)?);
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
            let shown = self.authorization.header();
            if let Some(value) = &shown {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let connection = &self.connection;
            let response = connection
                .execute(request, true, exchange, ask.permit)
                .await?;
            let is_own = response.url().origin() == connection.origin.origin();
            let may = self.authorization.may_know_us(&response, shown.is_some());
            if is_own && !answered && may {
                answered = true;
                self.authorization
                    .answer(&self.connection, response, shown, exchange)
                    .await?;
            } else if response.status().is_success() {
                return Ok(response);
            } else {
                return Err(self
                    .authorization
                    .explain(exchange.refusal(response, self.connection.timeouts).await));
            }
        }
    }

    /// Sends a request to a server that is not the registry: without the registry's credentials and
    /// client certificate.
    pub(super) async fn elsewhere(
        &self,
        request: reqwest::Request,
        exchange: Exchange<'_>,
    ) -> Result<Response, ImageError> {
        self.connection
            .execute(request, false, exchange, None)
            .await
    }
}

fn range_from(offset: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes={offset}-"))
        .unwrap_or(HeaderValue::from_static("bytes=0-"))
}
