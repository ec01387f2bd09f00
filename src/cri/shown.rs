//! The configuration as it is shown to whoever asks. A reload changes it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

/// The configuration in effect, in the forms in which it is told.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// JSON, for the verbose `Status`.
    pub json: String,
    /// TOML, for `GET /config`.
    pub toml: Bytes,
    /// What CRI-O would call the image of a pod.
    pub pause_image: String,
}

/// The texts that count now.
#[derive(Debug, Default)]
pub struct Shown(ArcSwap<Texts>);

impl Shown {
    /// Shows these.
    pub fn new(texts: Texts) -> Self {
        Self(ArcSwap::from_pointee(texts))
    }

    /// Shows others from now on.
    pub fn replace(&self, texts: Texts) {
        self.0.store(Arc::new(texts));
    }

    /// What is shown.
    pub(super) fn texts(&self) -> Arc<Texts> {
        self.0.load_full()
    }
}
