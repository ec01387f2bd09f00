//! The catalog that holds now. Reading it costs no disk and waits for nothing; it is replaced
//! whole when the directory is read again, and whoever waits for a network is woken.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use super::{Settings, catalog::Catalog, config::Network, error::NotReady};

/// The catalog and where it comes from.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) conf_dir: PathBuf,
    pub(super) plugin_dirs: Vec<PathBuf>,
    named: Option<String>,
    catalog: watch::Sender<Arc<Catalog>>,
    /// Held while reading, so that an older reading never replaces a newer one.
    reading: Mutex<()>,
}

impl Current {
    /// Reads the directory for the first time.
    pub(super) fn read(settings: &Settings) -> Self {
        let Settings {
            conf_dir,
            plugin_dirs,
            default_network,
            ..
        } = settings;
        let named = default_network.clone().filter(|name| !name.is_empty());
        let catalog = Catalog::read(conf_dir, plugin_dirs, named.as_deref());
        report(None, &catalog);
        Self {
            conf_dir: conf_dir.clone(),
            plugin_dirs: plugin_dirs.clone(),
            named,
            catalog: watch::Sender::new(Arc::new(catalog)),
            reading: Mutex::new(()),
        }
    }

    /// Reads the directory again. Blocks on the disk.
    pub(super) fn refresh(&self) {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Catalog::read(&self.conf_dir, &self.plugin_dirs, self.named.as_deref());
        let old = self.catalog();
        if *old != new {
            report(Some(&old), &new);
            self.catalog.send_replace(Arc::new(new));
        }
    }

    /// The catalog as read last.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.borrow())
    }

    /// The network pods get.
    pub(super) fn default_network(&self) -> Result<Arc<Network>, NotReady> {
        self.catalog.borrow().default.clone()
    }

    /// Tells when there is a new catalog.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    /// Waits until `wanted` holds, for so long.
    pub(super) async fn until(
        &self,
        patience: Duration,
        wanted: impl Fn(&Catalog) -> bool,
    ) -> bool {
        let mut changes = self.catalog.subscribe();
        // The sender lives as long as we do, so the wait ends by the condition or the time.
        timeout(patience, changes.wait_for(|catalog| wanted(catalog)))
            .await
            .is_ok()
    }
}

/// Logs what is new, once.
fn report(old: Option<&Catalog>, new: &Catalog) {
    for (path, problem) in &new.problems {
        if !old.is_some_and(|old| old.problems.iter().any(|(p, t)| p == path && t == problem)) {
            tracing::warn!(path = %path.display(), problem, "CNI configuration skipped");
        }
    }
    match (old.map(|old| &old.default), &new.default) {
        (Some(Ok(old)), Ok(new)) if old.name == new.name => {
            tracing::info!(network = new.name, "CNI configuration changed");
        }
        (_, Ok(new)) => tracing::info!(network = new.name, "network ready"),
        (Some(Err(old)), Err(new)) if old == new => {}
        (_, Err(reason)) => tracing::warn!(%reason, "network not ready"),
    }
}
