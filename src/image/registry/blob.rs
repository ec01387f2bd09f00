//! A layer on its way: pieces, silence, and going on after a broken connection.

use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use super::body::{Broken, Exchange, place};
use super::permit::Permit;
use super::session::{Ask, Session};
use crate::image::error::ImageError;

/// How often one layer goes on after a broken connection, without progress, before the pull fails.
const MAX_RESUMES: u32 = 3;
/// Bytes that are progress: a long layer over a bad line may break often. containers/image's figure.
const PROGRESS: u64 = 1 << 20;

/// The stream of one layer. Counts bytes; whether they are the right ones is the reader's to check.
#[derive(Debug)]
pub struct Blob {
    session: Arc<Session>,
    descriptor: Descriptor,
    response: Response,
    received: u64,
    resumes: u32,
    /// How far it was when it went on last.
    resumed_at: u64,
    step: String,
}

impl Blob {
    /// Asks for the layer. The `permit` is given up while the registry says "later".
    ///
    /// # Errors
    /// When there is no such blob, or the registry cannot be asked.
    pub async fn open(
        session: Arc<Session>,
        descriptor: Descriptor,
        permit: &Permit,
    ) -> Result<Blob, ImageError> {
        let step = format!("layer {}", descriptor.digest());
        let from = Ask {
            permit: Some(permit),
            ..Ask::default()
        };
        let response = request(&session, &descriptor, &step, from).await?;
        if let Some(length) = response.content_length()
            && length != descriptor.size()
        {
            return Err(ImageError::SizeMismatch {
                what: format!("{}: {step}", session.repository()),
                expected: descriptor.size(),
                actual: length,
            });
        }
        Ok(Blob {
            session,
            descriptor,
            response,
            received: 0,
            resumes: 0,
            resumed_at: 0,
            step,
        })
    }

    /// Where the bytes come from, after redirects; changes where a broken connection is resumed.
    pub fn place(&self) -> String {
        place(self.response.url())
    }

    /// The next piece, `None` at the end. Never more than the descriptor's size in all.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ImageError> {
        loop {
            let exchange = Exchange {
                repository: self.session.repository(),
                step: &self.step,
            };
            let stall = self.session.timeouts().stall;
            let size = self.descriptor.size();
            match exchange.chunk(&mut self.response, stall).await {
                Ok(Some(chunk)) => {
                    self.received += chunk.len() as u64;
                    if self.received > size {
                        return Err(ImageError::SizeMismatch {
                            what: exchange.what(),
                            expected: size,
                            actual: self.received,
                        });
                    }
                    return Ok(Some(chunk));
                }
                Ok(None) if self.received == size => return Ok(None),
                Ok(None) => return Err(self.truncated("the body ended".to_owned())),
                Err(Broken::Silent(error)) => return Err(error),
                Err(Broken::Cut(cause)) => self.resume(cause).await?,
            }
        }
    }

    /// Asks for the rest on a new connection; `cause` is why. A registry that is away for a moment is
    /// asked again, each time after a longer pause.
    async fn resume(&mut self, cause: String) -> Result<(), ImageError> {
        if self.received - self.resumed_at >= PROGRESS {
            self.resumes = 0;
        }
        self.resumed_at = self.received;
        let response = loop {
            if self.resumes == MAX_RESUMES {
                return Err(self.truncated(cause));
            }
            let pause = self.session.timeouts().backoff * self.resumes;
            self.resumes += 1;
            tokio::time::sleep(pause).await;
            // the permit stays: a thread waits for the rest
            let rest = Ask {
                offset: self.received,
                ..Ask::default()
            };
            match request(&self.session, &self.descriptor, &self.step, rest).await {
                Err(ImageError::Unavailable { .. }) => {}
                other => break other?,
            }
        };
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        let wanted = format!("bytes {}-", self.received);
        let continues = self.received == 0
            || response.status() == StatusCode::PARTIAL_CONTENT
                && range.is_some_and(|range| range.starts_with(&wanted));
        if !continues {
            return Err(self.truncated(format!("{cause}; the registry does not resume")));
        }
        self.response = response;
        Ok(())
    }

    fn truncated(&self, cause: String) -> ImageError {
        ImageError::Truncated {
            what: format!("{}: {}", self.session.repository(), self.step),
            expected: Some(self.descriptor.size()),
            actual: self.received,
            cause,
        }
    }
}

async fn request(
    session: &Session,
    descriptor: &Descriptor,
    step: &str,
    ask: Ask<'_>,
) -> Result<Response, ImageError> {
    let exchange = Exchange {
        repository: session.repository(),
        step,
    };
    session
        .get(&session.blob_path(descriptor), ask, exchange)
        .await
}
