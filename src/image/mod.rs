//! Images: what a reference means, whether it is trusted, where its bytes come from, and what is here.
//!
//! The room turns references into records of the storage room: `reference` and `registries` say what
//! a text names, `trust` whether policy.json accepts it, `credentials` who we are, `registry` talks to
//! registries, `manifest` and `platform` choose, `unpack` verifies and inflates, `pull`, `fetch`
//! and `layer` are the operation, `progress` is what one sees of it, `load` brings archives, `save`
//! makes them. It does not know what a layer looks like on disk (`storage/`), nor CRI's messages
//! (`cri/`).
//!
//! Nothing here waits for a network while it answers a question: [`Images::list`] and
//! [`Images::get`] are answered from memory.

mod artifact;
mod check;
mod credentials;
mod decide;
mod error;
mod explain;
mod fetch;
mod layer;
mod load;
mod manifest;
mod pinned;
mod platform;
mod progress;
mod pull;
mod query;
mod reference;
mod registries;
mod registry;
mod save;
mod space;
mod trust;
mod turns;
mod unpack;
mod zstd_frames;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::storage::Store;

pub use check::Files as CheckedFiles;
pub use credentials::{Places as CredentialPlaces, RegistryAuth};
pub use error::ImageError;
pub use explain::Explained;
#[cfg(test)]
use load::Loaded;
pub use pinned::Pinned;
pub use platform::Platform;
pub use progress::{LayerPhase, LayerSeen, Phase, PullSeen, WaitSeen};
pub use pull::{PullRequest, Pulling};
pub use query::{Image, User};
pub use registries::{ShortNameMode, Sources, State as RegistriesState};
#[cfg(test)]
use registry::Timeouts;
pub use registry::{InsecureHosts, Network, Proxies};
pub use save::{Format, Packing, Part, SaveRequest};
pub use trust::{Answer, Settings as TrustSettings, SignatureVerdict};

/// Pulls that have one layer on its way however slow the others are.
const FIRST_LAYERS: usize = 16;

/// What the room needs to know from the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where images are kept.
    pub store: Store,
    /// registries.conf and its drop-ins.
    pub registries: Sources,
    /// policy.json and what belongs to it.
    pub trust: TrustSettings,
    /// Where credentials are looked for.
    pub credentials: CredentialPlaces,
    /// What to pick from an index.
    pub platform: Platform,
    /// Layers that are downloaded and unpacked at the same time: so many of one pull, and those of all
    /// pulls beyond the first layer of each are one fewer together.
    pub parallel_layers: usize,
    /// Images that the kubelet must not collect, until [`Images::pin`] says otherwise.
    pub pinned: Pinned,
    /// How registries are reached.
    pub network: Network,
}

impl Settings {
    /// The field's usual files and the default bounds.
    pub fn new(store: Store) -> Settings {
        Settings {
            store,
            registries: Sources::usual(),
            trust: TrustSettings::default(),
            credentials: CredentialPlaces::default(),
            platform: Platform::host(),
            // containers/image's default; on a fast link 1 to 6 cost the same, on a slow one more win
            parallel_layers: 6,
            pinned: Pinned::default(),
            network: Network::default(),
        }
    }
}

/// The image room. One a daemon.
#[derive(Debug)]
pub struct Images {
    settings: Settings,
    transport: Arc<registry::Transport>,
    trust: Arc<trust::Trust>,
    pulls: pull::Pulls,
    progress: Arc<progress::Board>,
    turns: turns::Turns,
    promises: Arc<space::Promises>,
    /// For one layer of each pull.
    first_downloads: Arc<Semaphore>,
    /// For all further ones.
    downloads: Arc<Semaphore>,
    saves: Arc<Semaphore>,
    windows: Arc<zstd_frames::Windows>,
    registries: Arc<registries::Current>,
    pinned: ArcSwap<Pinned>,
}

impl Images {
    /// Makes the room. Reads nothing and connects nowhere.
    pub fn open(settings: Settings) -> Arc<Images> {
        Arc::new(Images {
            transport: Arc::new(registry::Transport::new(settings.network.clone())),
            trust: Arc::new(trust::Trust::new(settings.trust.clone())),
            pulls: pull::Pulls::default(),
            progress: Arc::default(),
            turns: turns::Turns::default(),
            promises: Arc::default(),
            first_downloads: Arc::new(Semaphore::new(FIRST_LAYERS)),
            downloads: Arc::new(Semaphore::new(settings.parallel_layers.max(1) - 1)),
            saves: Arc::new(Semaphore::new(save::MAX_SAVES)),
            windows: Arc::default(),
            registries: Arc::new(registries::Current::new(settings.registries.clone())),
            pinned: ArcSwap::from_pointee(settings.pinned.clone()),
            settings,
        })
    }

    /// Reads registries.conf from where these sources say, and as crio.conf now says beside it.
    /// Blocks.
    ///
    /// # Errors
    /// When it is wrong; what it said before goes on to count then.
    pub fn reload_registries(&self, sources: Sources) -> Result<(), ImageError> {
        self.registries.reload(sources)
    }

    /// Notices changes of registries.conf by itself, for as long as it is polled and where the
    /// sources say that they count at once.
    pub async fn watch_registries(&self) {
        Arc::clone(&self.registries).watch().await;
    }

    /// What is wrong with registries.conf.
    pub fn registries_state(&self) -> RegistriesState {
        self.registries.state()
    }
}

#[cfg(test)]
mod tests;
