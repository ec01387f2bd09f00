//! Pulls for those who watch: `WatchPulls` and `PullImage`.
//!
//! A message is made when the client is ready for it, so a slow client gets fewer and nothing piles
//! up; while nothing is pulled nothing ticks.

use std::sync::Arc;
use std::time::Duration;

use cricket_proto::admin as wire;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::BoxStream;

use crate::cri::of_image;
use crate::image::{
    Images, LayerPhase, LayerSeen, Phase, PullRequest, PullSeen, Pulling, RegistryAuth, WaitSeen,
};

/// The least time between two messages of a stream.
const TICK: Duration = Duration::from_millis(100);

/// Snapshots as the client asked for them.
pub(super) fn watch(
    images: &Arc<Images>,
    request: &wire::WatchPullsRequest,
) -> BoxStream<wire::WatchPullsResponse> {
    let watcher = Watcher {
        images: Arc::clone(images),
        changes: images.pulls_changes(),
        number: request.number,
        once: request.once,
        last: None,
        next: Instant::now(),
    };
    Box::pin(stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        let pulls = watcher.next().await;
        let over = watcher.once || watcher.number != 0 && pulls.iter().all(is_over);
        let answer = Ok(wire::WatchPullsResponse { pulls });
        Some((answer, (!over).then_some(watcher)))
    }))
}

/// A pull, shown on its way.
pub(super) fn pull(
    images: &Arc<Images>,
    request: wire::PullImageRequest,
) -> Result<BoxStream<wire::PullImageUpdate>, Status> {
    let wire::PullImageRequest {
        image,
        username,
        password,
        auth_file,
    } = request;
    if image.is_empty() {
        return Err(Status::invalid_argument("image: is empty"));
    }
    if !auth_file.is_empty() && !auth_file.starts_with('/') {
        let told = format!("auth_file: `{auth_file}` is not absolute");
        return Err(Status::invalid_argument(told));
    }
    let auth = (!username.is_empty()).then(|| RegistryAuth {
        username,
        password,
        ..RegistryAuth::default()
    });
    let pull = PullRequest {
        reference: image,
        auth,
        namespace: String::new(),
        auth_file: (!auth_file.is_empty()).then(|| auth_file.into()),
    };
    let changes = images.pulls_changes();
    let pulling = images.begin_pull(pull, "cricket pull".to_owned());
    let watcher = Watcher {
        images: Arc::clone(images),
        changes,
        number: pulling.number(),
        once: false,
        last: None,
        next: Instant::now(),
    };
    let state = Some((pulling, watcher));
    Ok(Box::pin(stream::unfold(state, |state| async move {
        let (mut pulling, mut watcher) = state?;
        match update(&mut pulling, &mut watcher).await {
            Ok(update) if update.image_ref.is_empty() => {
                Some((Ok(update), Some((pulling, watcher))))
            }
            end => Some((end, None)),
        }
    })))
}

/// The next state of the pull, or its end.
async fn update(
    pulling: &mut Pulling,
    watcher: &mut Watcher,
) -> Result<wire::PullImageUpdate, Status> {
    tokio::select! {
        biased;
        done = pulling.done() => Ok(wire::PullImageUpdate {
            image_ref: done.map_err(|error| of_image(&error))?,
            pull: watcher.look().pop(),
        }),
        mut pulls = watcher.next() => Ok(wire::PullImageUpdate {
            pull: pulls.pop(),
            image_ref: String::new(),
        }),
    }
}

/// One client's view.
struct Watcher {
    images: Arc<Images>,
    changes: watch::Receiver<u64>,
    /// Of the pull that is asked for; 0: all.
    number: u64,
    once: bool,
    last: Option<Vec<wire::Pull>>,
    /// The next message is not sent before.
    next: Instant,
}

impl Watcher {
    /// Waits until there is something new to see.
    async fn next(&mut self) -> Vec<wire::Pull> {
        loop {
            tokio::time::sleep_until(self.next).await;
            self.changes.mark_unchanged();
            let pulls = self.look();
            if self.last.as_ref() != Some(&pulls) {
                self.next = Instant::now() + TICK;
                self.last = Some(pulls.clone());
                return pulls;
            }
            if pulls.iter().all(is_over) {
                // never an error: the room that sends it lives as long as `images`
                let _ = self.changes.changed().await;
            } else {
                self.next = Instant::now() + TICK;
            }
        }
    }

    fn look(&self) -> Vec<wire::Pull> {
        let pulls = self.images.pulls_seen().into_iter();
        let wanted = pulls.filter(|pull| self.number == 0 || pull.number == self.number);
        wanted.map(of_pull).collect()
    }
}

fn is_over(pull: &wire::Pull) -> bool {
    matches!(
        pull.phase(),
        wire::PullPhase::PullDone | wire::PullPhase::PullFailed | wire::PullPhase::PullCancelled
    )
}

fn of_pull(pull: PullSeen) -> wire::Pull {
    let phase = match pull.phase {
        Phase::Waiting => wire::PullPhase::PullWaiting,
        Phase::Resolving => wire::PullPhase::PullResolving,
        Phase::Verifying => wire::PullPhase::PullVerifying,
        Phase::Fetching => wire::PullPhase::PullFetching,
        Phase::Recording => wire::PullPhase::PullRecording,
        Phase::Done => wire::PullPhase::PullDone,
        Phase::Failed => wire::PullPhase::PullFailed,
        Phase::Cancelled => wire::PullPhase::PullCancelled,
    };
    wire::Pull {
        number: pull.number,
        reference: pull.reference,
        trying: pull.trying,
        callers: pull.callers,
        more_callers: u32::try_from(pull.more_callers).unwrap_or(u32::MAX),
        began_ns: pull.began_ns,
        elapsed_ms: millis(pull.elapsed),
        phase: phase.into(),
        outcome: pull.outcome,
        fetched_bytes: pull.fetched_bytes,
        layers: pull.layers.into_iter().map(of_layer).collect(),
        waits_for: pull.waits_for.into_iter().map(of_wait).collect(),
    }
}

fn of_layer(layer: LayerSeen) -> wire::PullLayer {
    let phase = match layer.phase {
        LayerPhase::Waiting => wire::PullLayerPhase::LayerWaiting,
        LayerPhase::Fetching => wire::PullLayerPhase::LayerFetching,
        LayerPhase::Unpacking => wire::PullLayerPhase::LayerUnpacking,
        LayerPhase::Exists => wire::PullLayerPhase::LayerExists,
        LayerPhase::Done => wire::PullLayerPhase::LayerDone,
    };
    wire::PullLayer {
        digest: layer.digest,
        size_bytes: layer.size_bytes,
        fetched_bytes: layer.fetched_bytes,
        unpacked_bytes: layer.unpacked_bytes,
        bytes_per_second: layer.bytes_per_second,
        phase: phase.into(),
        waits_for: layer.waits_for.map(of_wait),
    }
}

fn of_wait(wait: WaitSeen) -> wire::PullWait {
    wire::PullWait {
        on: wait.on,
        silent_ms: millis(wait.silent),
        again_in_ms: wait.again_in.map(millis),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
