//! What an onlooker gets: copies, as of one moment.

use std::collections::HashMap;
use std::time::Duration;

/// Where a pull stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accepted; the configuration of registries and credentials is read. Or: a registry has said
    /// "later", and nothing else goes on.
    Waiting,
    /// Finds out what the reference names: manifests and the image's configuration.
    Resolving,
    /// Asks whether the image is trusted.
    Verifying,
    /// Its layers are downloaded and unpacked.
    Fetching,
    /// All layers are there; the image is recorded.
    Recording,
    /// The image is here.
    Done,
    /// It ended with an error.
    Failed,
    /// Its last caller went away.
    Cancelled,
}

/// Where a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerPhase {
    /// For its turn.
    Waiting,
    /// Its bytes come and are unpacked on the way.
    Fetching,
    /// All bytes came; the last ones are unpacked.
    Unpacking,
    /// It was here already.
    Exists,
    /// It came and was verified.
    Done,
}

/// Something outside that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitSeen {
    /// A URL, or words.
    pub on: String,
    /// How long nothing has come from there.
    pub silent: Duration,
    /// It has said "later": how long until it is asked again.
    pub again_in: Option<Duration>,
}

/// A layer of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSeen {
    /// Digest of its packed bytes.
    pub digest: String,
    /// Digest of its content, hex.
    pub content: String,
    /// Packed bytes in all.
    pub size_bytes: u64,
    /// Packed bytes that came.
    pub fetched_bytes: u64,
    /// Bytes of its content that were unpacked.
    pub unpacked_bytes: u64,
    /// Packed bytes, over the last seconds.
    pub bytes_per_second: u64,
    /// Where it stands.
    pub phase: LayerPhase,
    /// What it waits for, if anything.
    pub waits_for: Option<WaitSeen>,
}

/// A pull, in flight or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSeen {
    /// Its number, from 1, in the order of beginning.
    pub number: u64,
    /// As it was asked for.
    pub reference: String,
    /// The full reference that is tried; empty before the first.
    pub trying: String,
    /// Who waits for it.
    pub callers: Vec<String>,
    /// Callers beyond those.
    pub more_callers: usize,
    /// When it began, in nanoseconds since 1970.
    pub began_ns: i64,
    /// How long it has run, or ran.
    pub elapsed: Duration,
    /// Where it stands.
    pub phase: Phase,
    /// The image's id, or why there is none; empty before the end.
    pub outcome: String,
    /// Packed bytes that came for it.
    pub fetched_bytes: u64,
    /// Its layers, lowest first; none before they are known and after the end.
    pub layers: Vec<LayerSeen>,
    /// What it waits for: requests without an answer, and silent layers.
    pub waits_for: Vec<WaitSeen>,
}

impl PullSeen {
    /// The last state of a pull: `outcome` is an id or an error, or nothing for one that was
    /// cancelled. Layers are forgotten, so that what is remembered is small.
    pub(super) fn end(&mut self, outcome: Option<Result<String, String>>) {
        (self.phase, self.outcome) = match outcome {
            Some(Ok(id)) => (Phase::Done, id),
            Some(Err(error)) => (Phase::Failed, error),
            None => (Phase::Cancelled, "the last caller went away".to_owned()),
        };
        self.layers = Vec::new();
        if self.phase == Phase::Done {
            self.waits_for.clear();
        }
    }
}

/// Shows a layer that waits for another pull's download with that one's figures. `left`: downloads
/// whose pull has gone.
pub(super) fn join(pulls: &mut [PullSeen], left: &[LayerSeen]) {
    let mut coming: HashMap<String, (LayerSeen, String)> = HashMap::new();
    let comes =
        |layer: &&LayerSeen| matches!(layer.phase, LayerPhase::Fetching | LayerPhase::Unpacking);
    for layer in left.iter().filter(comes) {
        let words = "a pull that was given up".to_owned();
        coming.insert(layer.content.clone(), (layer.clone(), words));
    }
    for pull in pulls.iter() {
        for layer in &pull.layers {
            if comes(&layer) {
                let found = (layer.clone(), format!("the pull of {}", pull.reference));
                coming.insert(layer.content.clone(), found);
            }
        }
    }
    for pull in pulls {
        for layer in &mut pull.layers {
            if layer.phase != LayerPhase::Waiting {
                continue;
            }
            let Some((other, bringer)) = coming.get(&layer.content) else {
                continue;
            };
            // the other may be packed differently
            layer.size_bytes = other.size_bytes;
            layer.fetched_bytes = other.fetched_bytes;
            layer.unpacked_bytes = other.unpacked_bytes;
            layer.bytes_per_second = other.bytes_per_second;
            let wait = WaitSeen {
                on: format!("{bringer}, which brings layer {}", layer.digest),
                silent: other
                    .waits_for
                    .as_ref()
                    .map_or(Duration::ZERO, |wait| wait.silent),
                again_in: None,
            };
            layer.waits_for = Some(wait.clone());
            pull.waits_for.push(wait);
        }
    }
}
