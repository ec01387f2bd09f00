//! When a request is made again: "too many", "not now", and a connection that ended in between.
//!
//! One request waits at most [`Timeouts::retry_after`] in all and is made at most [`MAX_TRIES`]
//! times; then the caller gets the registry's answer. Nothing is made again whose connection was
//! refused or timed out: there is mostly another endpoint, and the kubelet comes back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::timeouts::Timeouts;

/// How often a request is made for "too many requests"; containers/image's figure.
const MAX_TRIES: u32 = 5;
/// How often it is made after a server's error, which mostly stays.
const MAX_TRIES_OF_ERROR: u32 = 3;

/// The patience left for one request.
#[derive(Debug)]
pub(super) struct Patience {
    timeouts: Timeouts,
    tries: u32,
    waited: Duration,
}

/// Why patience ended; rides on the answer, for its error.
#[derive(Debug, Clone)]
pub(super) struct GaveUp(pub String);

impl Patience {
    pub fn new(timeouts: Timeouts) -> Patience {
        Patience {
            timeouts,
            tries: 0,
            waited: Duration::ZERO,
        }
    }

    /// How long to wait before `response` is asked for once more; `None`: it stays as it is, with
    /// the reason on it where that is worth telling.
    pub fn after(&mut self, response: &mut Response) -> Option<Duration> {
        self.tries += 1;
        let most = match response.status() {
            StatusCode::TOO_MANY_REQUESTS => MAX_TRIES,
            StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => MAX_TRIES_OF_ERROR,
            _ => return None,
        };
        let wish = retry_after(response.headers(), SystemTime::now());
        let reason = match wish {
            _ if self.tries >= most => format!("after {} tries", self.tries),
            Some(wish) if self.waited + wish > self.timeouts.retry_after => format!(
                "it asks to wait {} s, more than the {} s that a pull waits",
                wish.as_secs(),
                self.timeouts.retry_after.as_secs()
            ),
            wish => {
                let pause = wish.unwrap_or_else(|| self.backoff());
                if self.waited + pause <= self.timeouts.retry_after {
                    self.waited += pause;
                    return Some(pause);
                }
                format!("after {} tries", self.tries)
            }
        };
        response.extensions_mut().insert(GaveUp(reason));
        None
    }

    /// The same for a request that got no answer because its connection ended.
    pub fn after_broken(&mut self, error: &reqwest::Error) -> Option<Duration> {
        self.tries += 1;
        if self.tries >= MAX_TRIES_OF_ERROR || !is_broken(error) {
            return None;
        }
        let pause = self.backoff();
        self.waited += pause;
        Some(pause)
    }

    /// Doubled each time; half of it is left to chance, so that pulls that failed together do not
    /// come back together.
    fn backoff(&self) -> Duration {
        let full = self.timeouts.backoff * 2u32.pow(self.tries.clamp(1, 8) - 1);
        // a keyed hash of nothing is as random as its keys
        let chance = RandomState::new().build_hasher().finish() % 1024;
        full / 2 + full.mul_f64(chance as f64 / 2048.0)
    }
}

/// Whether the connection ended once it stood: another one may do better.
fn is_broken(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind;
    if error.is_connect() || error.is_timeout() {
        return false;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let of_http = inner.downcast_ref::<hyper::Error>();
        let of_socket = inner.downcast_ref::<std::io::Error>();
        // canceled: the connection ended before the request was on it, as one does whose server
        // refuses our certificate after the handshake; the next one mostly gets to hear why
        let ended = |error: &hyper::Error| error.is_incomplete_message() || error.is_canceled();
        if of_http.is_some_and(ended)
            || of_socket.is_some_and(|error| {
                let kind = error.kind();
                matches!(
                    kind,
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
                )
            })
        {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// RFC 9110 section 10.2.3: seconds or a date. A date that has passed means at once.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // a number of any length; more than this is never waited for
        return Some(Duration::from_secs(
            text.parse().unwrap_or(u64::from(u32::MAX)),
        ));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    let at = SystemTime::from(date.timestamp());
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let table = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (text, want) in table {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            let found = retry_after(&headers, now);
            assert_eq!(found, want.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn backoff_grows_and_never_overflows() {
        let mut patience = Patience::new(Timeouts::default());
        let base = Timeouts::default().backoff;
        for tries in [0, 1, 2, 3, 1000] {
            patience.tries = tries;
            let full = base * 2u32.pow(tries.clamp(1, 8) - 1);
            let pause = patience.backoff();
            assert!(pause >= full / 2 && pause <= full, "{tries}: {pause:?}");
        }
    }
}
