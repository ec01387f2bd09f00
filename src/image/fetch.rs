//! One image from one endpoint: resolve, configuration, layers, record.

use std::collections::HashSet;
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageConfiguration};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::Images;
use super::artifact;
use super::credentials::Keyring;
use super::decide::Served;
use super::error::{ImageError, Repository};
use super::layer::Layer;
use super::manifest::{self, Document, Manifest};
use super::platform::Platform;
use super::progress::{LayerProgress, Phase, Underway};
use super::reference::Reference;
use super::registries::Endpoint;
use super::registry::{Places, Session, Target};
use super::space::{Promised, Share};
use super::trust;
use super::unpack::Into;
use crate::storage::{Lease, NewArtifact, NewImage};
use crate::sys::blocking;

/// Indexes inside indexes that are followed.
const MAX_INDEX_DEPTH: usize = 2;

/// Who wants an image.
#[derive(Debug)]
pub(super) struct Caller {
    /// Whose trust policy counts; empty for the node's.
    pub namespace: String,
    /// Who we are towards registries.
    pub keyring: Keyring,
}

/// The work for one reference, at one endpoint after the other.
pub(super) struct Fetch<'a> {
    images: &'a Arc<Images>,
    reference: &'a Reference,
    caller: &'a Caller,
    watch: &'a Underway,
    lease: Arc<Lease>,
    unpacking: TaskTracker,
    places: Places,
}

/// A manifest as it came and what it says.
pub(super) struct Resolved {
    /// Digest of what the reference named: the index's, where there is one.
    top: String,
    /// The manifest's own, computed.
    pub digest: String,
    /// The registry keeps signatures itself.
    pub has_signatures: bool,
    bytes: Vec<u8>,
    manifest: Box<Manifest>,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(
        images: &'a Arc<Images>,
        reference: &'a Reference,
        caller: &'a Caller,
        watch: &'a Underway,
    ) -> Fetch<'a> {
        let lease = Arc::new(images.settings.store.lease());
        Fetch {
            images,
            reference,
            caller,
            watch,
            lease,
            unpacking: TaskTracker::new(),
            places: Places {
                own: Arc::new(Semaphore::new(1)),
                first: Arc::clone(&images.first_downloads),
                further: Arc::clone(&images.downloads),
            },
        }
    }

    /// Waits until nothing of a failed attempt is at work, and gives up what is not needed.
    pub(super) async fn finish(self) {
        self.unpacking.close();
        self.unpacking.wait().await;
        // freeing layers is disk work
        let freed = tokio::task::spawn_blocking(move || drop(self.lease)).await;
        debug_assert!(freed.is_ok(), "dropping a lease panicked");
    }

    /// Fetches the image from `endpoint` and returns its id.
    pub(super) async fn from(&mut self, endpoint: &Endpoint) -> Result<String, ImageError> {
        self.watch.reached(Phase::Resolving);
        let (session, resolved) = self.manifest(endpoint).await?;
        self.watch.reached(Phase::Verifying);
        let signatures = self.decide(&session, endpoint, &resolved).await?;
        self.watch.reached(Phase::Resolving);
        let what = |part: &str| format!("image {}: {part}", self.reference);
        let config = self.config(&session, &resolved.manifest.config).await?;
        if let Some(artifact) = artifact::of(&resolved.manifest, &what("manifest"))? {
            self.layers(&session, artifact.blobs).await?;
            self.watch.reached(Phase::Recording);
            let artifact = Some(artifact.new);
            return self.record(resolved, config, artifact, signatures).await;
        }
        let layers = resolved.manifest.layers.len();
        let (parsed, diff_ids) = manifest::parse_config(&config, layers, &what("configuration"))?;
        self.check_platform(&parsed)?;
        let layers = resolved.manifest.layers.iter().cloned();
        let layers: Vec<_> = layers.zip(diff_ids.into_iter().map(Into::Layer)).collect();
        self.layers(&session, layers).await?;
        self.watch.reached(Phase::Recording);
        self.record(resolved, config, None, signatures).await
    }

    /// The session with `endpoint`, and the image's manifest there.
    pub(super) async fn manifest(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(Arc<Session>, Resolved), ImageError> {
        let session = Arc::new(self.session(endpoint).await?);
        let resolved = self.resolve(&session, &endpoint.reference).await?;
        Ok((session, resolved))
    }

    /// Refuses what the policy does not accept; gives what is to be kept of the reasons to do so.
    async fn decide(
        &self,
        session: &Session,
        endpoint: &Endpoint,
        resolved: &Resolved,
    ) -> Result<Vec<String>, ImageError> {
        let served = Served {
            reference: self.reference,
            namespace: &self.caller.namespace,
            at: &endpoint.reference,
            digest: &resolved.digest,
            has_signatures: resolved.has_signatures,
        };
        let (verdict, evidence) = self.images.judge(session, served).await?;
        verdict.or_refused(self.reference)?;
        Ok(trust::texts(
            &evidence.manifest_digest,
            &evidence.signatures,
        ))
    }

    async fn session(&self, endpoint: &Endpoint) -> Result<Session, ImageError> {
        let keyring = &self.caller.keyring;
        let found = keyring.find(self.reference, &endpoint.reference);
        let found = found.await?;
        let repository = Repository {
            registry: endpoint.reference.registry.clone(),
            path: endpoint.reference.repository.clone(),
        };
        let target = Target {
            repository,
            insecure: endpoint.insecure,
            found,
            waits: Arc::clone(self.watch.waits()),
        };
        Session::open(&self.images.transport, target).await
    }

    /// Follows indexes to the manifest for this machine. Everything named by digest is verified.
    async fn resolve(
        &self,
        session: &Session,
        reference: &Reference,
    ) -> Result<Resolved, ImageError> {
        let mut name = reference.manifest_name().to_owned();
        let mut expected = reference.digest.as_ref().map(ToString::to_string);
        let mut top = None;
        for _ in 0..=MAX_INDEX_DEPTH {
            let raw = session.manifest(&name).await?;
            let what = format!("{}: manifest {name}", session.repository());
            let digest = format!("sha256:{}", hex::encode(Sha256::digest(&raw.bytes)));
            if let Some(expected) = expected.filter(|expected| *expected != digest) {
                return Err(ImageError::DigestMismatch {
                    what,
                    expected,
                    actual: digest,
                });
            }
            let top_digest = top.get_or_insert_with(|| digest.clone()).clone();
            match manifest::parse(&raw.bytes, raw.content_type.as_deref(), &what)? {
                Document::Manifest(manifest) => {
                    return Ok(Resolved {
                        top: top_digest,
                        digest,
                        has_signatures: raw.has_signatures,
                        bytes: raw.bytes,
                        manifest,
                    });
                }
                Document::Index(entries) => {
                    let entry = self.pick(&entries)?;
                    let digest = super::reference::parse_sha256(entry.digest().as_ref())
                        .map_err(|reason| ImageError::malformed(what, reason))?;
                    name = digest.to_string();
                    expected = Some(name.clone());
                }
            }
        }
        let what = format!("{}: manifest {name}", session.repository());
        Err(ImageError::malformed(
            what,
            "an index in an index in an index is not followed",
        ))
    }

    fn pick<'e>(&self, entries: &'e [Descriptor]) -> Result<&'e Descriptor, ImageError> {
        let platform = &self.images.settings.platform;
        platform
            .pick(entries)
            .ok_or_else(|| self.no_platform(Platform::offered(entries)))
    }

    fn no_platform(&self, offered: String) -> ImageError {
        let wanted = self.images.settings.platform.to_string();
        ImageError::NoPlatform {
            reference: self.reference.to_string(),
            wanted,
            offered,
        }
    }

    /// Another system cannot run here at all; another processor may, by emulation.
    fn check_platform(&self, config: &ImageConfiguration) -> Result<(), ImageError> {
        let platform = &self.images.settings.platform;
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        if os != platform.os {
            return Err(self.no_platform(format!("{os}/{architecture}")));
        }
        if architecture != platform.architecture {
            let image = self.reference.to_string();
            tracing::warn!(image, architecture, "the image is for another processor");
        }
        Ok(())
    }

    /// The configuration, from disk where the image is known and its file still right.
    async fn config(
        &self,
        session: &Session,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, ImageError> {
        let store = self.images.settings.store.clone();
        let id = descriptor.digest().digest().to_owned();
        let known = blocking::<_, ImageError>(move || {
            Ok(store.image(&id).and_then(|_| store.raw_config(&id).ok()))
        });
        let what = || format!("{}: configuration", session.repository());
        if let Some(bytes) = known.await?
            && check_content(&bytes, descriptor, what).is_ok()
        {
            return Ok(bytes);
        }
        let bytes = session
            .document(descriptor, manifest::MAX_CONFIG_BYTES)
            .await?;
        check_content(&bytes, descriptor, what)?;
        Ok(bytes)
    }

    /// Brings all layers, in parallel, if what is not here yet can fit. The first failure ends the
    /// others.
    async fn layers(
        &self,
        session: &Arc<Session>,
        layers: Vec<(Descriptor, Into)>,
    ) -> Result<(), ImageError> {
        let layers: Vec<_> = layers
            .into_iter()
            .map(|(descriptor, into)| {
                let (packed, content) = (descriptor.digest().as_ref(), into.layer().digest());
                let progress = LayerProgress::new(packed, descriptor.size(), content);
                (descriptor, into, Arc::new(progress))
            })
            .collect();
        let here = |into: &Into| match into {
            Into::Layer(diff_id) => self.lease.has_layer(diff_id),
            Into::File(file) => self.lease.has_layer(&file.layer) || self.lease.has_blob(file),
        };
        let mut once = HashSet::new();
        let missing = layers
            .iter()
            .filter(|(_, into, _)| !here(into) && once.insert(into.key()));
        let shares = missing.map(|(layer, _, progress)| Share::of(layer, progress));
        let _promised = self.promise(shares.collect()).await?;
        self.watch.has(
            layers
                .iter()
                .map(|(_, _, progress)| Arc::clone(progress))
                .collect(),
        );
        let mut by_content: Vec<(String, Vec<Layer>)> = Vec::new();
        for (descriptor, into, progress) in layers {
            let key = into.key().to_owned();
            let layer = Layer {
                progress,
                images: Arc::clone(self.images),
                session: Arc::clone(session),
                lease: Arc::clone(&self.lease),
                unpacking: self.unpacking.clone(),
                places: self.places.clone(),
                descriptor,
                into,
            };
            match by_content.iter_mut().find(|(known, _)| *known == key) {
                Some((_, same)) => same.push(layer),
                None => by_content.push((key, vec![layer])),
            }
        }
        bring(by_content.into_iter().map(|(_, same)| same)).await
    }

    async fn promise(&self, shares: Vec<Share>) -> Result<Promised, ImageError> {
        let promises = Arc::clone(&self.images.promises);
        let store = self.images.settings.store.clone();
        let reference = self.reference.to_string();
        blocking(move || promises.promise(&store, shares, reference)).await
    }

    async fn record(
        &self,
        resolved: Resolved,
        config: Vec<u8>,
        artifact: Option<NewArtifact>,
        signatures: Vec<String>,
    ) -> Result<String, ImageError> {
        let what = format!("image {}", self.reference);
        let manifest_digest = super::reference::parse_sha256(&resolved.digest)
            .map_err(|reason| ImageError::malformed(what.as_str(), reason))?;
        let size_bytes = resolved.manifest.size_bytes();
        let new = NewImage {
            manifest_digest,
            manifest: resolved.bytes,
            config,
            names: self.reference.tagged_name().into_iter().collect(),
            digests: vec![self.reference.repo_digest(&resolved.top)],
            size_bytes,
            annotations: resolved.manifest.annotations.into_iter().collect(),
            signatures,
        };
        let store = self.images.settings.store.clone();
        blocking(move || {
            let put = match artifact {
                Some(artifact) => store.put_artifact(&new, artifact),
                None => store.put_image(new),
            };
            match put {
                Ok(record) => Ok(record.id.clone()),
                Err(source) => Err(ImageError::Storage {
                    what,
                    source: Arc::new(source),
                }),
            }
        })
        .await
    }
}

/// Brings layers in parallel, and those of one content one after the other: what the first has
/// brought is there for the next.
async fn bring(layers: impl Iterator<Item = Vec<Layer>>) -> Result<(), ImageError> {
    let mut tasks = JoinSet::new();
    for same in layers {
        tasks.spawn(async move {
            for layer in same {
                layer.bring().await?;
            }
            Ok(())
        });
    }
    while let Some(joined) = tasks.join_next().await {
        let result = joined.unwrap_or_else(|error| Err(ImageError::malformed("layer", error)));
        if let Err(error) = result {
            tasks.shutdown().await;
            return Err(error);
        }
    }
    Ok(())
}

/// Whether a document is what its descriptor says.
fn check_content(
    bytes: &[u8],
    descriptor: &Descriptor,
    what: impl Fn() -> String,
) -> Result<(), ImageError> {
    let actual = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    if actual != descriptor.digest().as_ref() {
        let expected = descriptor.digest().to_string();
        return Err(ImageError::DigestMismatch {
            what: what(),
            expected,
            actual,
        });
    }
    let (expected, actual) = (descriptor.size(), bytes.len() as u64);
    if expected != actual {
        return Err(ImageError::SizeMismatch {
            what: what(),
            expected,
            actual,
        });
    }
    Ok(())
}
