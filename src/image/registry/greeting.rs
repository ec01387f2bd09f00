//! `/v2/`: what a registry wants to see before it shows anything.
//!
//! Mostly its answer to the request itself says it. Some say 401 without a challenge there, and some
//! tell strangers that there is nothing (404) or that it is not for them (403), and name their token
//! server here alone: containers/image and docker always ask here first.

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Method, Response, StatusCode};

use super::body::Exchange;
use super::challenge::{self, Challenge};
use super::connection::Connection;

/// The header of a registry that keeps signatures itself (containers/image,
/// docs/signature-protocols.md).
const KEEPS_SIGNATURES: &str = "x-registry-supports-signatures";

/// Whether the answer says that the registry keeps signatures itself.
pub(super) fn keeps_signatures(response: &Response) -> bool {
    let value = response.headers().get(KEEPS_SIGNATURES);
    value.is_some_and(|value| value == "1")
}

/// The challenges of an answer or, where it has none, of `/v2/`.
pub(super) async fn challenges(
    connection: &Connection,
    response: &Response,
    exchange: Exchange<'_>,
) -> Vec<Challenge> {
    let found = challenges_in(response);
    if !found.is_empty() {
        return found;
    }
    let Ok(url) = connection.url("/v2/", exchange) else {
        return Vec::new();
    };
    let request = reqwest::Request::new(Method::GET, url);
    match connection.execute(request, true, exchange, None).await {
        Ok(greeting) if greeting.status() == StatusCode::UNAUTHORIZED => {
            let mut found = challenges_in(&greeting);
            for challenge in &mut found {
                // a scope there is not the repository's
                if let Challenge::Bearer { scope, .. } = challenge {
                    *scope = None;
                }
            }
            found
        }
        // the answer to the request itself is the error
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn challenges_in(response: &Response) -> Vec<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE);
    challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()))
}
