//! The bearer tokens of the moment, by what they are for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;

use crate::image::credentials::Credential;

/// Tokens that are kept; more are forgotten all at once, and fetched again.
const MAX_TOKENS: usize = 256;
/// No token is kept for longer, whatever its server says.
const LONGEST: Duration = Duration::from_secs(3600);
/// A token is not used in its last seconds.
const MARGIN: Duration = Duration::from_secs(5);

/// What a token is for. Two pulls that want the same share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    /// The token server's URL, as the registry names it.
    pub realm: String,
    /// The service that the registry calls itself, for the token server.
    pub service: Option<String>,
    /// What the token allows.
    pub scope: String,
    /// Who asks for it.
    pub credential: Option<Credential>,
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

    /// Keeps a token for its lifetime, at most an hour.
    pub(super) fn put(&self, wanted: Wanted, value: HeaderValue, lifetime: Duration) {
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
