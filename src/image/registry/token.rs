//! The bearer token dance (distribution's "token authentication" and "OAuth2" documents).

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::body::Exchange;
use super::session::Session;
use crate::image::credentials::Credential;
use crate::image::error::ImageError;

/// Largest answer of a token server.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Session {
    /// Gets a token for this repository from `realm`; the value is the whole header.
    pub(super) async fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<HeaderValue, ImageError> {
        let step = format!(
            "token from {}",
            realm.split(['?', '#']).next().unwrap_or(realm)
        );
        let exchange = Exchange {
            repository: self.repository(),
            step: &step,
        };
        let mut url = Url::parse(realm)
            .map_err(|error| exchange.protocol(format!("realm {realm:?}: {error}")))?;
        self.check_scheme(&url)
            .map_err(|reason| exchange.denied(reason))?;
        let scope = scope.filter(|scope| !scope.is_empty()).map_or_else(
            || format!("repository:{}:pull", self.repository().path),
            str::to_owned,
        );
        let mut request = match self.credential() {
            Some(Credential::IdentityToken(token)) => {
                let body = oauth_body(&url, service, &scope, token);
                let mut request = reqwest::Request::new(Method::POST, url);
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, form);
                *request.body_mut() = Some(body.into());
                request
            }
            Some(Credential::Basic { .. } | Credential::RegistryToken(_)) | None => {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                query.append_pair("scope", &scope);
                if let Some(Credential::Basic { username, .. }) = self.credential() {
                    query.append_pair("account", username);
                }
                drop(query);
                reqwest::Request::new(Method::GET, url)
            }
        };
        if let Some(header) = self.basic_header() {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let response = self.execute(request, exchange).await?;
        if !response.status().is_success() {
            return Err(exchange.refusal(response, self.timeouts()).await);
        }
        let body = exchange
            .read(response, MAX_TOKEN_BYTES, self.timeouts())
            .await?;
        // serde would quote what it cannot read, and that may be a token
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| {
            exchange.protocol("the answer is not a token (JSON with \"token\" or \"access_token\")")
        })?;
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty());
        token
            .as_deref()
            .and_then(bearer)
            .ok_or_else(|| exchange.protocol("the answer has no token"))
    }
}

/// `Bearer <token>` as a header that logs do not show.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn oauth_body(url: &Url, service: Option<&str>, scope: &str, refresh_token: &str) -> String {
    // a URL's query and a form have the same encoding
    let mut form = url.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", service.unwrap_or_default())
        .append_pair("scope", scope)
        .append_pair("client_id", "cricket")
        .append_pair("refresh_token", refresh_token);
    form.query().unwrap_or_default().to_owned()
}
