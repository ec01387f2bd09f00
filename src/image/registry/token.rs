//! The bearer token dance (distribution's "token authentication" and "OAuth2" documents).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::body::Exchange;
use super::session::Session;
use crate::image::credentials::Credential;
use crate::image::error::ImageError;

/// Largest answer of a token server.
const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// Tokens that are kept; more are forgotten all at once, and fetched again.
const MAX_TOKENS: usize = 256;
/// No token is kept for longer, whatever its server says.
const LONGEST: Duration = Duration::from_secs(3600);
/// A token is not used in its last seconds.
const MARGIN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    /// Seconds; of any type, for it is only a hint.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Answer {
    /// 60 seconds where the server does not say, as the specification has it.
    fn lifetime(&self) -> Duration {
        Duration::from_secs(self.expires_in.as_u64().unwrap_or(60))
    }
}

/// What a token is for. Two pulls that want the same share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    realm: String,
    service: Option<String>,
    scope: String,
    credential: Option<Credential>,
}

/// The tokens of the pulls of the moment. It goes with the last session: an idle daemon keeps none.
#[derive(Default)]
pub struct Tokens {
    known: Mutex<HashMap<Wanted, (HeaderValue, Instant)>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// The token, if it is good for some more seconds.
    pub(super) fn get(&self, wanted: &Wanted) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, until) = known.get(wanted)?;
        (Instant::now() < *until).then(|| value.clone())
    }

    fn put(&self, wanted: Wanted, value: HeaderValue, lifetime: Duration) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.retain(|_, (_, until)| now < *until);
        if known.len() >= MAX_TOKENS {
            known.clear();
        }
        // what is asked for with it still has to arrive
        if let Some(rest) = lifetime.min(LONGEST).checked_sub(MARGIN) {
            known.insert(wanted, (value, now + rest));
        }
    }
}

impl Session {
    /// What a challenge asks for.
    pub(super) fn wanted(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Wanted {
        let scope = scope.filter(|scope| !scope.is_empty()).map_or_else(
            || format!("repository:{}:pull", self.repository().path),
            str::to_owned,
        );
        Wanted {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope,
            credential: self.credential().cloned(),
        }
    }

    /// Gets a token; the value is the whole header.
    pub(super) async fn fetch_token(&self, wanted: Wanted) -> Result<HeaderValue, ImageError> {
        let realm = &wanted.realm;
        let step = format!(
            "token from {}",
            realm.split(['?', '#']).next().unwrap_or(realm)
        );
        let exchange = Exchange {
            repository: self.repository(),
            step: &step,
        };
        let url = Url::parse(realm)
            .map_err(|error| exchange.protocol(format!("realm {realm:?}: {error}")))?;
        self.check_scheme(&url)
            .map_err(|reason| exchange.denied(reason))?;
        let mut request = token_request(url, &wanted);
        if let Some(header) = self.basic_header() {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let response = self.execute(request, true, exchange).await?;
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
        let lifetime = answer.lifetime();
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty());
        let value = token
            .as_deref()
            .and_then(bearer)
            .ok_or_else(|| exchange.protocol("the answer has no token"))?;
        self.tokens().put(wanted, value.clone(), lifetime);
        Ok(value)
    }
}

/// A GET with what we have, or a POST for a refresh token.
fn token_request(mut url: Url, wanted: &Wanted) -> reqwest::Request {
    if let Some(Credential::IdentityToken(token)) = &wanted.credential {
        let body = oauth_body(&url, wanted.service.as_deref(), &wanted.scope, token);
        let mut request = reqwest::Request::new(Method::POST, url);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        *request.body_mut() = Some(body.into());
        return request;
    }
    let mut query = url.query_pairs_mut();
    if let Some(service) = &wanted.service {
        query.append_pair("service", service);
    }
    query.append_pair("scope", &wanted.scope);
    if let Some(Credential::Basic { username, .. }) = &wanted.credential {
        query.append_pair("account", username);
    }
    drop(query);
    reqwest::Request::new(Method::GET, url)
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
