//! `/v2/`: what a registry wants to see before it shows anything.
//!
//! Mostly its answer to the request itself says it. Some say 401 without a challenge there, and some
//! tell strangers that there is nothing (404) or that it is not for them (403), and name their token
//! server here alone: containers/image and docker always ask here first.

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Method, Response, StatusCode};

use super::body::Exchange;
use super::challenge::{self, Challenge};
use super::session::Session;

impl Session {
    /// Whether an answer of the registry may be another one to somebody it knows. `shown`: it has
    /// been told who we are.
    pub(super) fn may_know_us(&self, response: &Response, shown: bool) -> bool {
        match response.status() {
            StatusCode::UNAUTHORIZED => true,
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => !shown && self.credential().is_some(),
            _ => false,
        }
    }

    /// The challenges of an answer or, where it has none, of `/v2/`.
    pub(super) async fn challenges(
        &self,
        response: &Response,
        exchange: Exchange<'_>,
    ) -> Vec<Challenge> {
        let found = challenges_in(response);
        if !found.is_empty() {
            return found;
        }
        let Ok(url) = self.url("/v2/", exchange) else {
            return Vec::new();
        };
        let asked = self.execute(reqwest::Request::new(Method::GET, url), true, exchange);
        match asked.await {
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
}

fn challenges_in(response: &Response) -> Vec<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE);
    challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()))
}
