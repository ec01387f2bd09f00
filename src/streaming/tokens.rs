//! Single-use tokens: what connects the answer to a CRI call with the client that comes for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::rand::{GetRandomFlags, getrandom};

use super::StreamRequest;

/// How long a token waits for its client (containerd and CRI-O: the same).
pub const LIFE: Duration = Duration::from_secs(60);
/// Most tokens that wait at once (containerd and CRI-O: the same).
pub const MAX_TOKENS: usize = 1000;
/// Most memory of all waiting requests: a command can be as long as a gRPC message.
pub const MAX_BYTES: usize = 16 << 20;
/// Random bytes of a token: nobody guesses one in its minute.
const RANDOM_BYTES: usize = 16;

/// No token can be given out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many streaming requests wait for their clients (at most {MAX_TOKENS}, {} MiB); retry later",
    MAX_BYTES >> 20
)]
pub struct TooManyTokens;

/// The requests whose URL was given out and not used yet.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    waiting: HashMap<String, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    request: StreamRequest,
    until: Instant,
}

impl Tokens {
    /// Keeps `request` until its token is used, or its time is over.
    ///
    /// # Errors
    /// When too many wait.
    pub(super) fn issue(
        &mut self,
        request: StreamRequest,
        now: Instant,
    ) -> Result<String, TooManyTokens> {
        self.waiting.retain(|_, waiting| waiting.until > now);
        let held: usize = self.waiting.values().map(Waiting::bytes).sum();
        if self.waiting.len() >= MAX_TOKENS || held + request.bytes() > MAX_BYTES {
            return Err(TooManyTokens);
        }
        let token = random();
        let until = now + LIFE;
        self.waiting
            .insert(token.clone(), Waiting { request, until });
        Ok(token)
    }

    /// The request of a token, once.
    pub(super) fn take(&mut self, token: &str, now: Instant) -> Option<StreamRequest> {
        let waiting = self.waiting.remove(token)?;
        (waiting.until > now).then_some(waiting.request)
    }
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.request.bytes()
    }
}

/// 16 bytes of the kernel's random number generator in base64url.
fn random() -> String {
    let mut bytes = [0; RANDOM_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        // An interrupted call is the only error that the kernel documents for valid arguments.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(command: &str) -> StreamRequest {
        StreamRequest::Exec {
            container: "c".into(),
            command: vec![command.into()],
            terminal: false,
            wanted: Default::default(),
        }
    }

    #[test]
    fn a_token_works_once_and_an_unknown_one_never() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let token = tokens.issue(request("ls"), now).unwrap();
        assert!(
            token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{token}"
        );
        assert_eq!(tokens.take("", now), None);
        assert_eq!(tokens.take(&token, now), Some(request("ls")));
        assert_eq!(tokens.take(&token, now), None);
    }

    #[test]
    fn a_token_is_worth_nothing_after_a_minute() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let [early, late] = ["a", "b"].map(|name| tokens.issue(request(name), now).unwrap());
        let last = now + LIFE - Duration::from_nanos(1);
        assert_eq!(tokens.take(&early, last), Some(request("a")));
        assert_eq!(tokens.take(&late, now + LIFE), None);
    }

    #[test]
    fn a_thousand_tokens_wait_and_the_next_must_until_one_is_used_or_old() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let mut last = String::new();
        for _ in 0..MAX_TOKENS {
            last = tokens.issue(request("x"), now).unwrap();
        }
        assert_eq!(tokens.issue(request("x"), now), Err(TooManyTokens));
        tokens.take(&last, now).unwrap();
        tokens.issue(request("x"), now).unwrap();
        assert_eq!(tokens.issue(request("x"), now), Err(TooManyTokens));
        tokens.issue(request("x"), now + LIFE).unwrap();
        assert_eq!(tokens.waiting.len(), 1);
    }

    #[test]
    fn long_commands_are_bounded_together() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let long = "x".repeat(MAX_BYTES / 2);
        tokens.issue(request(&long), now).unwrap();
        assert_eq!(tokens.issue(request(&long), now), Err(TooManyTokens));
        tokens.issue(request("ls"), now).unwrap();
    }
}
