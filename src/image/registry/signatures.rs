//! Where simple signatures are fetched from: a lookaside server, which is no registry, and the
//! registry's own extension (containers/image, docs/signature-protocols.md).

use reqwest::header::{ACCEPT_ENCODING, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::body::Exchange;
use super::session::{Ask, Session};
use crate::image::error::ImageError;

/// Bytes of the extension's list, as in containers/image.
const MAX_LIST_BYTES: u64 = 4 << 20;

impl Session {
    /// Fetches a file of at most `limit` bytes from a server that is not the registry: without
    /// credentials, but with the same deadlines and the same eye for certificates. `None`: 404.
    pub async fn foreign_file(&self, url: &Url, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let step = format!("signature {url}");
        let exchange = Exchange {
            repository: self.repository(),
            step: &step,
        };
        let mut request = reqwest::Request::new(Method::GET, url.clone());
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = self.elsewhere(request, exchange).await?;
        match response.status() {
            StatusCode::OK => {
                let bytes = exchange.read(response, limit, self.timeouts()).await?;
                Ok(Some(bytes))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(exchange.refusal(response, self.timeouts()).await),
        }
    }

    /// Fetches the list of signatures that the registry itself has for a manifest: JSON.
    pub async fn extension_signatures(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let step = format!("signatures of {digest}");
        let exchange = Exchange {
            repository: self.repository(),
            step: &step,
        };
        let path = format!(
            "/extensions/v2/{}/signatures/{digest}",
            self.repository().path
        );
        let response = self.get(&path, Ask::default(), exchange).await?;
        exchange
            .read(response, MAX_LIST_BYTES, self.timeouts())
            .await
    }
}
