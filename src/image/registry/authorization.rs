//! Who we are at one endpoint: what requests show, and how a challenge is answered.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use reqwest::header::HeaderValue;
use reqwest::{Response, StatusCode};

use super::body::Exchange;
use super::challenge::Challenge;
use super::connection::Connection;
use super::greeting;
use super::token::{self, bearer};
use super::tokens::{Tokens, Wanted};
use crate::image::credentials::{Credential, Found};
use crate::image::error::ImageError;

/// See the module.
#[derive(Debug)]
pub(super) struct Authorization {
    found: Found,
    tokens: Arc<Tokens>,
    /// What the last challenge led to. Never locked across an await.
    shown: Mutex<Option<HeaderValue>>,
    /// Whose turn it is to answer a challenge: layers that meet one at once want one token. Held
    /// while the token server is waited for, which has a deadline.
    answering: tokio::sync::Mutex<()>,
}

impl Authorization {
    pub fn new(found: Found, tokens: Arc<Tokens>) -> Authorization {
        let shown = match &found.credential {
            Some(Credential::RegistryToken(token)) => bearer(token),
            Some(Credential::Basic { .. } | Credential::IdentityToken(_)) | None => None,
        };
        Authorization {
            found,
            tokens,
            shown: Mutex::new(shown),
            answering: tokio::sync::Mutex::default(),
        }
    }

    /// What a request shows now.
    pub fn header(&self) -> Option<HeaderValue> {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether an answer of the registry may be another one to somebody it knows. `shown`: it has
    /// been told who we are.
    pub fn may_know_us(&self, response: &Response, shown: bool) -> bool {
        match response.status() {
            StatusCode::UNAUTHORIZED => true,
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                !shown && self.found.credential.is_some()
            }
            _ => false,
        }
    }

    /// Answers the challenge to a request that has shown `shown`, so that it can be sent again.
    pub async fn answer(
        &self,
        connection: &Connection,
        response: Response,
        shown: Option<HeaderValue>,
        exchange: Exchange<'_>,
    ) -> Result<(), ImageError> {
        let _turn = self.answering.lock().await;
        if self.header() != shown {
            // another request of this pull was faster
            return Ok(());
        }
        let challenges = greeting::challenges(connection, &response, exchange).await;
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let fixed = matches!(
            self.found.credential.as_ref(),
            Some(Credential::RegistryToken(_))
        );
        let value = match bearer {
            Some((realm, service, scope)) if !fixed => {
                let wanted = self.wanted(connection, realm, service.as_deref(), scope.as_deref());
                let known = self
                    .tokens
                    .get(&wanted)
                    .filter(|it| Some(it) != shown.as_ref());
                Some(match known {
                    Some(known) => known,
                    None => self
                        .fetch_token(connection, wanted)
                        .await
                        .map_err(|error| self.explain(error))?,
                })
            }
            None if challenges.contains(&Challenge::Basic) => self.basic_header(),
            Some(_) | None => None,
        };
        let Some(value) = value else {
            return Err(self.explain(exchange.refusal(response, connection.timeouts).await));
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// Adds to a refusal what the user can do about it.
    pub fn explain(&self, error: ImageError) -> ImageError {
        let ImageError::Denied {
            repository,
            step,
            cause,
        } = error
        else {
            return error;
        };
        let origin = &self.found.origin;
        let tried = match self.found.credential.as_ref() {
            None if origin.is_empty() => NO_CREDENTIALS.to_owned(),
            None => format!("{NO_CREDENTIALS}; looked for in {origin}"),
            Some(_) => format!("the given credentials were not accepted for it: {origin}"),
        };
        ImageError::Denied {
            repository,
            step,
            cause: format!("{cause} ({tried})"),
        }
    }

    /// What a challenge asks for.
    fn wanted(
        &self,
        connection: &Connection,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Wanted {
        let scope = scope.filter(|scope| !scope.is_empty()).map_or_else(
            || format!("repository:{}:pull", connection.repository.path),
            str::to_owned,
        );
        Wanted {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope,
            credential: self.found.credential.clone(),
        }
    }

    async fn fetch_token(
        &self,
        connection: &Connection,
        wanted: Wanted,
    ) -> Result<HeaderValue, ImageError> {
        let (value, lifetime) = token::fetch(connection, &wanted, self.basic_header()).await?;
        self.tokens.put(wanted, value.clone(), lifetime);
        Ok(value)
    }

    fn basic_header(&self) -> Option<HeaderValue> {
        let Some(Credential::Basic { username, password }) = self.found.credential.as_ref() else {
            return None;
        };
        let pair =
            base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

const NO_CREDENTIALS: &str =
    "no credentials were given for it; the repository may need some, or not exist";
