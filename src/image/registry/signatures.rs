//! Where simple signatures are fetched from: a lookaside server, which is no registry, and the
//! registry's own extension (containers/image, docs/signature-protocols.md).

use base64::Engine;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::body::{Exchange, place};
use super::greeting;
use super::session::{Ask, Session};
use crate::image::error::ImageError;

/// Bytes of the extension's list, as in containers/image.
const MAX_LIST_BYTES: u64 = 4 << 20;

/// The user and password of a URL as a header, as Go's client sends them.
fn user_of(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair = decoded(url.username());
    pair.push(b':');
    pair.extend(decoded(url.password().unwrap_or_default()));
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What `%XX` in a part of a URL stands for (RFC 3986 section 2.1).
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.get(..2).filter(|_| first == b'%');
        let byte = pair.and_then(|pair| hex::decode(pair).ok()?.pop());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    bytes
}

impl Session {
    /// Fetches a file of at most `limit` bytes from a server that is not the registry: without the
    /// registry's credentials (a user and password in the URL are for this server), but with the
    /// same deadlines and the same eye for certificates. `None`: 404.
    pub async fn foreign_file(&self, url: &Url, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let step = format!("signature {}", place(url));
        let exchange = Exchange {
            repository: self.repository(),
            step: &step,
        };
        let mut bare = url.clone();
        // a URL that can have neither has none
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        let mut request = reqwest::Request::new(Method::GET, bare);
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(header) = user_of(url) {
            headers.insert(AUTHORIZATION, header);
        }
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

    /// Whether the registry says at `/v2/` that it keeps signatures itself, where containers/image
    /// asks. To strangers too: its 401 has the header as well.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn keeps_signatures(&self) -> Result<bool, ImageError> {
        let exchange = Exchange {
            repository: self.repository(),
            step: "whether it keeps signatures",
        };
        let url = self.connection().url("/v2/", exchange)?;
        let request = reqwest::Request::new(Method::GET, url);
        let asked = self.connection().execute(request, true, exchange, None);
        Ok(greeting::keeps_signatures(&asked.await?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_url_is_shown_as_it_was_meant() {
        let table = [
            ("https://l/s", None),
            ("https://u:p@l/s", Some("Basic dTpw")),
            // u%:p@
            ("https://u%25:p%40@l/s", Some("Basic dSU6cEA=")),
            ("https://u@l/s", Some("Basic dTo=")),
        ];
        for (url, want) in table {
            let header = user_of(&Url::parse(url).unwrap());
            let header = header.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(header, want, "{url}");
        }
        assert_eq!(decoded("%4"), b"%4");
        assert_eq!(decoded("%zz%41"), b"%zzA");
    }
}
