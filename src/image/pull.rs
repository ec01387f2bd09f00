//! The pull as an operation: joined by those who ask for the same, cancelled with the last of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::watch;

use super::Images;
use super::credentials::{Keyring, Left, Places, RegistryAuth};
use super::error::ImageError;
use super::fetch::{Caller, Fetch};
use super::progress::{Calling, Phase, PullSeen, Ticket, Underway};
use super::reference::Reference;
use super::registries::Registries;
use crate::sys::{self, blocking};

/// What to pull and for whom. Two equal requests are one pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PullRequest {
    /// The image as the pod's author wrote it.
    pub reference: String,
    /// The caller's credentials, if any.
    pub auth: Option<RegistryAuth>,
    /// The pod's Kubernetes namespace; empty where there is no pod.
    pub namespace: String,
    /// An auth file to be read instead of those of the configuration.
    pub auth_file: Option<PathBuf>,
}

type Outcome = Result<String, ImageError>;
type Running = Shared<BoxFuture<'static, Outcome>>;

/// A pull, and its place on the board.
type Begun = (Arc<Underway>, WeakShared<BoxFuture<'static, Outcome>>);

/// The pulls in flight. Weak: a pull lives as long as somebody waits for it, and when the last one
/// has gone, its future is dropped, and with it connections, threads' input and leases.
#[derive(Default)]
pub(super) struct Pulls {
    running: Mutex<HashMap<PullRequest, Begun>>,
}

impl std::fmt::Debug for Pulls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pulls")
    }
}

impl Pulls {
    /// The running pull of `request`, or a new one.
    fn join(&self, images: &Arc<Images>, request: PullRequest) -> (Arc<Underway>, Running) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((watch, pull)) = running.get(&request)
            // one that is done but still held by a waiter answers an older question
            && let Some(pull) = pull.upgrade().filter(|pull| pull.peek().is_none())
        {
            return (Arc::clone(watch), pull);
        }
        let ticket = images.progress.begin(&request.reference);
        let watch = Arc::clone(ticket.pull());
        let pull = run(Arc::clone(images), request.clone(), ticket);
        let pull = pull.boxed().shared();
        if let Some(weak) = pull.downgrade() {
            running.insert(request, (Arc::clone(&watch), weak));
        }
        (watch, pull)
    }

    /// Forgets pulls that nobody waits for, and that are done.
    fn sweep(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, (_, pull)| pull.upgrade().is_some_and(|pull| pull.peek().is_none()));
    }
}

impl Images {
    /// The references of the pulls in flight, and how long each has run.
    pub fn pulls_in_flight(&self) -> Vec<(String, Duration)> {
        self.progress.in_flight()
    }

    /// What the pulls in flight do, oldest first, and how the last ones ended, the last one first.
    pub fn pulls_seen(&self) -> Vec<PullSeen> {
        self.progress.seen()
    }

    /// Wakes when a pull begins, ends or changes its phase.
    pub fn pulls_changes(&self) -> watch::Receiver<u64> {
        self.progress.changes()
    }

    /// Pulls an image for nobody in particular.
    #[cfg(test)]
    pub async fn pull(self: &Arc<Self>, request: PullRequest) -> Result<String, ImageError> {
        self.begin_pull(request, String::new()).done().await
    }

    /// Pulls an image for `caller` (words for those who watch). Joins a pull of the same that is
    /// under way; dropping [`Pulling`] leaves it, and the last one to leave cancels it.
    pub fn begin_pull(self: &Arc<Self>, request: PullRequest, caller: String) -> Pulling {
        let (watch, running) = self.pulls.join(self, request);
        Pulling {
            calling: watch.call(caller),
            images: Arc::clone(self),
            running: Some(running),
        }
    }
}

/// A caller's part in a pull.
#[must_use = "dropped, it leaves the pull"]
pub struct Pulling {
    calling: Calling,
    images: Arc<Images>,
    running: Option<Running>,
}

impl Pulling {
    /// The pull's number in [`Images::pulls_seen`].
    pub fn number(&self) -> u64 {
        self.calling.pull().number()
    }

    /// The image's id.
    pub async fn done(&mut self) -> Result<String, ImageError> {
        match self.running.as_mut() {
            Some(running) => running.await,
            // only drop takes it
            None => unreachable!("a pull that was left is waited for"),
        }
    }
}

impl std::fmt::Debug for Pulling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulling")
            .field("number", &self.number())
            .finish_non_exhaustive()
    }
}

impl Drop for Pulling {
    /// Sweeps also when the pull is left in the middle.
    fn drop(&mut self) {
        drop(self.running.take());
        self.images.pulls.sweep();
    }
}

async fn run(images: Arc<Images>, request: PullRequest, ticket: Ticket) -> Outcome {
    let began = Instant::now();
    let outcome = pull_first(&images, &request, ticket.pull()).await;
    ticket.end(&outcome);
    if let Err(error) = &outcome {
        let elapsed_ms = began.elapsed().as_millis();
        tracing::warn!(image = request.reference, elapsed_ms, %error, "image not pulled");
    }
    // Nobody waits for it.
    drop(tokio::task::spawn_blocking(sys::memory::trim));
    outcome
}

/// Pulls the first of the full references that a short name may stand for and that is there.
async fn pull_first(images: &Arc<Images>, request: &PullRequest, watch: &Underway) -> Outcome {
    let current = Arc::clone(&images.registries);
    let registries = blocking(move || current.for_pull()).await?;
    let caller = caller(images, &registries, request, Left::Take).await?;
    let mut failures = Vec::new();
    for reference in registries.candidates(&request.reference)? {
        let began = Instant::now();
        watch.tries(reference.to_string());
        match pull_reference(images, &registries, &reference, (&caller, watch)).await {
            Ok(id) => {
                let elapsed_ms = began.elapsed().as_millis();
                tracing::info!(id, reference = %reference, elapsed_ms, "image pulled");
                return Ok(id);
            }
            Err(error) => failures.push(error),
        }
    }
    Err(join_failures(failures))
}

/// Who we are for this pull, wherever its image comes from.
pub(super) async fn caller(
    images: &Arc<Images>,
    registries: &Arc<Registries>,
    request: &PullRequest,
    left: Left,
) -> Result<Caller, ImageError> {
    let (places, request) = (images.settings.credentials.clone(), request.clone());
    let registries = Arc::clone(registries);
    blocking(move || {
        let PullRequest {
            reference,
            auth,
            namespace,
            auth_file,
        } = request;
        let places = auth_file.map_or(places, Places::only);
        let helpers = registries.credential_helpers();
        let keyring = Keyring::open(&places, auth, (&reference, &namespace, left), helpers)?;
        Ok(Caller { namespace, keyring })
    })
    .await
}

/// Pulls one full reference from the first of its endpoints that has it.
async fn pull_reference(
    images: &Arc<Images>,
    registries: &Registries,
    reference: &Reference,
    (caller, watch): (&Caller, &Underway),
) -> Outcome {
    let endpoints = registries.endpoints(reference)?;
    watch.reached(Phase::Verifying);
    let (room, asked, namespace) = (
        Arc::clone(images),
        reference.clone(),
        caller.namespace.clone(),
    );
    blocking(move || room.refuse_early(&asked, &namespace)).await?;
    // one lease for all endpoints: what a mirror gave before it broke need not come again
    let mut fetch = Fetch::new(images, reference, caller, watch);
    let mut failures = Vec::new();
    for endpoint in endpoints {
        match fetch.from(&endpoint).await {
            Ok(id) => {
                fetch.finish().await;
                return Ok(id);
            }
            Err(error) => {
                let local = matches!(
                    error,
                    ImageError::Storage { .. } | ImageError::NoSpace { .. }
                );
                failures.push(error);
                if local {
                    break;
                }
            }
        }
    }
    fetch.finish().await;
    Err(join_failures(failures))
}

pub(super) fn join_failures(mut failures: Vec<ImageError>) -> ImageError {
    match failures.pop() {
        Some(last) if failures.is_empty() => last,
        Some(last) => {
            let earlier: Vec<String> = failures.iter().map(ToString::to_string).collect();
            ImageError::Endpoints {
                last: Box::new(last),
                earlier: earlier.join("; "),
            }
        }
        // registries.rs: candidates and endpoints are never empty
        None => ImageError::malformed("registries.conf", "it leaves nowhere to pull from"),
    }
}
