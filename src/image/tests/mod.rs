//! The room as a whole: a real registry (`real`), a misbehaving one (`hostile`, `corrupt`, `access`),
//! archives (`archives`, `hostile_archives`), all into a real store on disk.

mod access;
mod access_real;
mod archives;
mod case;
mod content;
mod corrupt;
mod fixture;
mod greeting;
mod hostile;
mod hostile_archives;
mod measure;
mod pipeline;
mod proxies;
mod real;
mod retries;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::storage;

const ACCEPT: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

/// A node with an empty store, a policy that accepts everything, and registries.conf as given.
struct Node {
    dir: tempfile::TempDir,
    images: Arc<Images>,
}

impl Node {
    fn new(registries_conf: &str) -> Node {
        Node::with(registries_conf, |_| {})
    }

    fn with(registries_conf: &str, change: impl FnOnce(&mut Settings)) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let store = storage::Store::open(storage::Settings {
            root: dir.path().join("root"),
            imagestore: None,
            limits: storage::LayerLimits {
                reserve_bytes: 0,
                // small, so that a bomb need not be big
                ratio_floor_bytes: 4 << 20,
                ..Default::default()
            },
        })
        .unwrap();
        let mut settings = Settings::new(store);
        settings.registries.file = dir.path().join("registries.conf");
        settings.registries.drop_ins = dir.path().join("registries.conf.d");
        settings.registries.alias_cache = dir.path().join("short-name-aliases.conf");
        settings.trust.policy = dir.path().join("policy.json");
        settings.trust.registries_d = dir.path().join("registries.d");
        settings.platform = platform();
        settings.network.timeouts.backoff = Duration::from_millis(1);
        std::fs::write(&settings.registries.file, registries_conf).unwrap();
        std::fs::write(&settings.trust.policy, ACCEPT).unwrap();
        change(&mut settings);
        Node {
            images: Images::open(settings),
            dir,
        }
    }

    fn insecure(registry: &str) -> Node {
        Node::new(&insecure(registry))
    }

    async fn pull(&self, reference: &str) -> Result<String, ImageError> {
        self.images.pull(request(reference)).await
    }

    /// Pulls what the fixture serves.
    async fn pull_of(&self, registry: &fixture::Fixture) -> Result<String, ImageError> {
        self.pull(&format!("{}/app:1", registry.address)).await
    }

    fn store(&self) -> storage::Store {
        self.images.settings.store.clone()
    }

    /// Every file and directory of the store.
    async fn on_disk(&self) -> BTreeSet<PathBuf> {
        let (store, root) = (self.store(), self.dir.path().join("root"));
        tokio::task::spawn_blocking(move || {
            assert!(
                store.settle(Duration::from_secs(60)),
                "the store's background work goes on"
            );
            let mut found = BTreeSet::new();
            walk(&root, &mut found);
            found
        })
        .await
        .unwrap()
    }

    /// The content of a file of an image's layer `index`.
    fn file(&self, id: &str, index: usize, name: &str) -> Vec<u8> {
        let record = self.store().image(id).unwrap();
        let layer = record.layers[index].digest();
        let root = self
            .dir
            .path()
            .join("root/cricket/layers")
            .join(layer)
            .join("diff");
        std::fs::read(root.join(name)).unwrap()
    }
}

fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    let entries = match std::fs::read_dir(dir) {
        // It has gone since its parent was listed: a pull that was given up cleans up behind us.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        entries => entries.unwrap(),
    };
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found);
        }
        found.insert(entry.path());
    }
}

fn insecure(registry: &str) -> String {
    format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n")
}

fn request(reference: &str) -> PullRequest {
    PullRequest {
        reference: reference.to_owned(),
        ..PullRequest::default()
    }
}

/// The same on every machine that the tests run on.
fn platform() -> Platform {
    Platform {
        os: "linux".into(),
        architecture: "amd64".into(),
        variant: None,
    }
}
