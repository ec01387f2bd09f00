//! Bodies within bounds: whole small documents, and the words of an error answer.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Response, StatusCode};

use super::retry::GaveUp;
use super::timeouts::Timeouts;
use crate::image::error::{ImageError, Repository};

/// How much of an error answer is read, and how much of it is shown.
const MAX_ERROR_BODY: usize = 16 << 10;
const MAX_EXCERPT: usize = 300;

/// One exchange, for its errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange<'a> {
    /// Whom we ask.
    pub repository: &'a Repository,
    /// What for.
    pub step: &'a str,
}

impl Exchange<'_> {
    pub(super) fn unavailable(&self, cause: impl Into<String>) -> ImageError {
        ImageError::Unavailable {
            repository: self.repository.clone(),
            step: self.step.to_owned(),
            cause: cause.into(),
        }
    }

    pub(super) fn denied(&self, cause: impl Into<String>) -> ImageError {
        ImageError::Denied {
            repository: self.repository.clone(),
            step: self.step.to_owned(),
            cause: cause.into(),
        }
    }

    pub(super) fn protocol(&self, cause: impl Into<String>) -> ImageError {
        ImageError::Protocol {
            repository: self.repository.clone(),
            step: self.step.to_owned(),
            cause: cause.into(),
        }
    }

    /// The content in errors about it.
    pub(super) fn what(&self) -> String {
        format!("{}: {}", self.repository, self.step)
    }

    /// Reads a whole document of at most `limit` bytes.
    pub(super) async fn read(
        &self,
        response: Response,
        limit: u64,
        timeouts: Timeouts,
    ) -> Result<Vec<u8>, ImageError> {
        let work = self.read_without_deadline(response, limit, timeouts.stall);
        match tokio::time::timeout(timeouts.document, work).await {
            Ok(result) => result,
            Err(_) => Err(self.unavailable(format!("no end within {:?}", timeouts.document))),
        }
    }

    async fn read_without_deadline(
        &self,
        mut response: Response,
        limit: u64,
        stall: Duration,
    ) -> Result<Vec<u8>, ImageError> {
        let too_large = || ImageError::TooLarge {
            what: self.what(),
            limit,
            unit: "bytes",
        };
        let promised = response.content_length();
        if promised.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        loop {
            let chunk = match self.chunk(&mut response, stall).await {
                Ok(chunk) => chunk,
                Err(Broken::Silent(error)) => return Err(error),
                Err(Broken::Cut(cause)) => {
                    return Err(ImageError::Truncated {
                        what: self.what(),
                        expected: promised,
                        actual: body.len() as u64,
                        cause,
                    });
                }
            };
            let Some(chunk) = chunk else { return Ok(body) };
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// The next piece of a body; `None` at its regular end.
    pub(super) async fn chunk(
        &self,
        response: &mut Response,
        stall: Duration,
    ) -> Result<Option<Bytes>, Broken> {
        match tokio::time::timeout(stall, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(Broken::Cut(chain(&error))),
            Err(_) => Err(Broken::Silent(self.unavailable(format!(
                "no data for {stall:?} from {}",
                place(response.url())
            )))),
        }
    }

    /// The error that an answer other than success means.
    pub(super) async fn refusal(&self, response: Response, timeouts: Timeouts) -> ImageError {
        let status = response.status();
        let gave_up = response.extensions().get::<GaveUp>().cloned();
        let words = self.excerpt(response, timeouts).await;
        let mut cause = if words.is_empty() {
            status.to_string()
        } else {
            format!("{status}: {words}")
        };
        if let Some(GaveUp(reason)) = gave_up {
            cause = format!("{cause} ({reason})");
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.denied(cause),
            StatusCode::NOT_FOUND => ImageError::NotFound {
                repository: self.repository.clone(),
                step: self.step.to_owned(),
                detail: if words.is_empty() {
                    words
                } else {
                    format!(": {words}")
                },
            },
            StatusCode::TOO_MANY_REQUESTS => self.unavailable(cause),
            other if other.is_server_error() => self.unavailable(cause),
            _ => self.protocol(format!("unexpected answer {cause}")),
        }
    }

    /// What an error answer says, cleaned for logs and pod events (protobuf wants UTF-8).
    async fn excerpt(&self, mut response: Response, timeouts: Timeouts) -> String {
        let mut body = Vec::new();
        let work = async {
            while body.len() < MAX_ERROR_BODY
                && let Ok(Some(chunk)) = self.chunk(&mut response, timeouts.stall).await
            {
                body.extend_from_slice(&chunk);
            }
        };
        // the words are only an extra: without them the status says enough
        let _ = tokio::time::timeout(timeouts.first_byte, work).await;
        body.truncate(MAX_ERROR_BODY);
        match (error_words(&body), std::str::from_utf8(&body)) {
            (Some(words), _) => clean(&words),
            (None, Ok(text)) => clean(text),
            // binary says nothing to anybody
            (None, Err(_)) => String::new(),
        }
    }
}

/// An error with its causes: reqwest prints only the outermost, which says nothing.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = inner.source();
    }
    text
}

/// A URL without its query and user, which may hold secrets: where something comes from.
pub(super) fn place(url: &reqwest::Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Why a body did not go on.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection ended; another one may go on from here.
    Cut(String),
    /// Nothing came for too long.
    Silent(ImageError),
}

/// distribution-spec "error codes": `{"errors":[{"code":…,"message":…}]}`
fn error_words(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors: Errors = serde_json::from_slice(body).ok()?;
    let words = errors
        .errors
        .iter()
        .map(|entry| format!("{} {}", entry.code, entry.message));
    Some(
        words
            .map(|words| words.trim().to_owned())
            .collect::<Vec<_>>()
            .join("; "),
    )
}

fn clean(text: &str) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.retain(|character| !character.is_control());
    if words.chars().count() > MAX_EXCERPT {
        words = words.chars().take(MAX_EXCERPT).chain(['…']).collect();
    }
    words
}
