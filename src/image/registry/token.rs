//! The bearer token dance (distribution's "token authentication" and "OAuth2" documents).

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::body::Exchange;
use super::connection::Connection;
use super::tokens::Wanted;
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

/// Gets a token, and how long it is good for; the value is the whole header. `basic`: who we are.
pub(super) async fn fetch(
    connection: &Connection,
    wanted: &Wanted,
    basic: Option<HeaderValue>,
) -> Result<(HeaderValue, Duration), ImageError> {
    let realm = &wanted.realm;
    let step = format!(
        "token from {}",
        realm.split(['?', '#']).next().unwrap_or(realm)
    );
    let exchange = Exchange {
        repository: &connection.repository,
        step: &step,
    };
    let url = Url::parse(realm)
        .map_err(|error| exchange.protocol(format!("realm {realm:?}: {error}")))?;
    connection
        .check_scheme(&connection.origin, &url)
        .map_err(|reason| exchange.denied(reason))?;
    let mut request = token_request(url, wanted);
    if let Some(header) = basic {
        request.headers_mut().insert(AUTHORIZATION, header);
    }
    let response = connection.execute(request, true, exchange, None).await?;
    if !response.status().is_success() {
        return Err(exchange.refusal(response, connection.timeouts).await);
    }
    let body = exchange
        .read(response, MAX_TOKEN_BYTES, connection.timeouts)
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
    Ok((value, lifetime))
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
