//! A layer on its way: pieces, silence, and going on after a broken connection.

use std::sync::Arc;

use bytes::{Buf, Bytes};
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

/// How often one layer is fetched anew from its first byte, by a registry that knows no ranges.
const MAX_RESTARTS: u32 = 3;

/// The stream of one layer. Counts bytes; whether they are the right ones is the reader's to check.
#[derive(Debug)]
pub struct Blob {
    session: Arc<Session>,
    descriptor: Descriptor,
    response: Response,
    received: u64,
    resumes: u32,
    /// How far it was when it had made progress last.
    progress_at: u64,
    /// How often it began again at the first byte.
    restarts: u32,
    /// Bytes of this answer that are here already.
    skip: u64,
    /// Where this answer ends: a registry may give a part of what is asked for.
    until: u64,
    place_is_new: bool,
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
            until: descriptor.size(),
            descriptor,
            response,
            received: 0,
            resumes: 0,
            progress_at: 0,
            restarts: 0,
            skip: 0,
            place_is_new: true,
            step,
        })
    }

    /// Where the bytes come from, after redirects, when that is news: at the beginning, and where a
    /// broken connection was resumed.
    pub fn new_place(&mut self) -> Option<String> {
        let is_new = std::mem::take(&mut self.place_is_new);
        is_new.then(|| place(self.response.url()))
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
                Ok(Some(mut chunk)) => {
                    let known = self.skip.min(chunk.len() as u64);
                    self.skip -= known;
                    // no longer than the chunk
                    chunk.advance(usize::try_from(known).unwrap_or(usize::MAX));
                    self.received += chunk.len() as u64;
                    if self.received > size {
                        return Err(ImageError::SizeMismatch {
                            what: exchange.what(),
                            expected: size,
                            actual: self.received,
                        });
                    }
                    if self.received > self.until {
                        return Err(self.truncated("a part is longer than it says".to_owned()));
                    }
                    if !chunk.is_empty() {
                        return Ok(Some(chunk));
                    }
                }
                Ok(None) if self.skip > 0 => {
                    return Err(self.truncated("the body ended".to_owned()));
                }
                Ok(None) if self.received == size => return Ok(None),
                Ok(None) if self.received == self.until => {
                    self.resume("the registry gave a part".to_owned()).await?;
                }
                Ok(None) => return Err(self.truncated("the body ended".to_owned())),
                Err(Broken::Silent(error)) => return Err(error),
                Err(Broken::Cut(cause)) => self.resume(cause).await?,
            }
        }
    }

    /// Asks for the rest on a new connection; `cause` is why. A registry that is away for a moment is
    /// asked again, each time after a longer pause.
    async fn resume(&mut self, cause: String) -> Result<(), ImageError> {
        if self.received - self.progress_at >= PROGRESS {
            self.resumes = 0;
            self.progress_at = self.received;
        }
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
        let goes_on = match response.status() {
            StatusCode::PARTIAL_CONTENT => self.part(&response).map(|until| (until, 0)),
            // the whole again: some know no ranges
            _ if self.whole(&response) && self.restarts < MAX_RESTARTS => {
                self.restarts += u32::from(self.received > 0);
                Some((self.descriptor.size(), self.received))
            }
            _ => None,
        };
        let Some((until, skip)) = goes_on else {
            return Err(self.truncated(format!("{cause}; the registry does not resume")));
        };
        (self.until, self.skip) = (until, skip);
        self.response = response;
        self.place_is_new = true;
        Ok(())
    }

    /// Where the part ends that an answer has, if that is the wanted one or its beginning, as RFC
    /// 9110 section 15.3.7 allows.
    fn part(&self, response: &Response) -> Option<u64> {
        let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let size = self.descriptor.size();
        let of_this = total == "*" || total.parse() == Ok(size);
        let until = last.parse::<u64>().ok()?.checked_add(1)?;
        let fits = first.parse() == Ok(self.received) && until > self.received && until <= size;
        (of_this && fits).then_some(until)
    }

    fn whole(&self, response: &Response) -> bool {
        let length = response.content_length();
        length.is_none_or(|length| length == self.descriptor.size())
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
