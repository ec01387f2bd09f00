//! When trust is decided: before a registry is asked, when the manifest and its signatures are
//! there, when an archive is loaded, and again when a container is made of what is here. What
//! decides is `trust`'s.

use std::sync::Arc;

use oci_spec::image::Digest;

use super::Images;
use super::error::ImageError;
use super::reference::Reference;
use super::registry::Session;
use super::trust::{self, Evidence, Kept, Origin, Trust, Verdict};
use crate::storage::ImageRecord;
use crate::sys::blocking;

/// A manifest that a registry has served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Served<'a> {
    /// The image as its user named it, and the Kubernetes namespace it is for.
    pub reference: &'a Reference,
    /// See `reference`.
    pub namespace: &'a str,
    /// The repository that served it: perhaps a mirror's.
    pub at: &'a Reference,
    /// The manifest's digest, computed.
    pub digest: &'a str,
    /// The registry keeps signatures itself.
    pub has_signatures: bool,
}

impl Images {
    /// Refuses what no signature could help, before anybody is asked for anything. Blocking.
    pub(super) fn refuse_early(
        &self,
        reference: &Reference,
        namespace: &str,
    ) -> Result<(), ImageError> {
        let verdict = self
            .trust
            .first_look(Origin::Registry(reference), namespace)?;
        verdict.map_or(Ok(()), |verdict| verdict.or_refused(reference))
    }

    /// Looks for the signatures of a manifest and lets the policy judge it. Returns the verdict and
    /// what is to be kept with the image.
    pub(super) async fn judge(
        &self,
        session: &Session,
        served: Served<'_>,
    ) -> Result<(Verdict, Evidence), ImageError> {
        let manifest_digest = trust::digest(served.digest)?;
        let settings = self.trust.settings();
        let found = async {
            let extension = served.has_signatures || self.extension(session, served).await?;
            trust::signatures(settings, session, served.at, &manifest_digest, extension).await
        };
        let found = found.await;
        let (signatures, trouble) = match found {
            Ok(signatures) => (signatures, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        if let Some(trouble) = &trouble {
            let image = served.reference.to_string();
            tracing::warn!(image, trouble, "signatures could not be looked for");
        }
        let evidence = Evidence {
            reference: Some(served.reference.clone()),
            manifest_digest,
            signatures,
            trouble,
        };
        let (trust, namespace) = (Arc::clone(&self.trust), served.namespace.to_owned());
        let reference = served.reference.clone();
        blocking(move || {
            let origin = Origin::Registry(&reference);
            let verdict = trust.verdict(origin, &namespace, &evidence)?;
            Ok((verdict, evidence))
        })
        .await
    }

    /// Whether the registry says at its door that it keeps signatures; asked where one is needed.
    async fn extension(&self, session: &Session, served: Served<'_>) -> Result<bool, ImageError> {
        let (trust, namespace) = (Arc::clone(&self.trust), served.namespace.to_owned());
        let reference = served.reference.clone();
        let looked = blocking(move || trust.first_look(Origin::Registry(&reference), &namespace));
        match looked.await? {
            None => session.keeps_signatures().await,
            Some(_) => Ok(false),
        }
    }

    /// Refuses to run an image of the node that the policy does not accept now. `wanted` is how the
    /// client names it, `written` how the pod's author did, if the client says so. Where no
    /// signature is needed, this costs a `stat` or two.
    ///
    /// # Errors
    /// When the image is refused: why.
    pub async fn check_use(
        &self,
        record: &Arc<ImageRecord>,
        (wanted, written): (&str, &str),
        namespace: &str,
    ) -> Result<(), ImageError> {
        let mut open = Vec::new();
        let mut refused = None;
        for reference in self.intended(record, wanted, written) {
            let origin = Origin::Registry(&reference);
            match self.trust.first_look(origin, namespace)? {
                None => open.push(reference),
                Some(verdict) => match verdict.or_refused(&reference) {
                    Ok(()) => return Ok(()),
                    Err(error) => refused = Some(error),
                },
            }
        }
        let (store, trust) = (self.settings.store.clone(), Arc::clone(&self.trust));
        let (record, namespace) = (Arc::clone(record), namespace.to_owned());
        blocking(move || {
            let texts = store.signatures(&record.id);
            let texts = texts.map_err(|source| ImageError::Storage {
                what: format!("image {}: signatures", record.id),
                source: Arc::new(source),
            })?;
            check_kept(&trust, &namespace, &record, (&open, &Kept::read(&texts)))
                .map_err(|error| error.or(refused).unwrap_or_else(|| unnamed(&record)))
        })
        .await
    }

    /// What the user meant: of a short name those that the image has. An id says nothing about trust;
    /// then it is the names under which the image came.
    fn intended(&self, record: &ImageRecord, wanted: &str, written: &str) -> Vec<Reference> {
        let text = if written.is_empty() { wanted } else { written };
        let all = self.known_registries().stored_candidates(text);
        let known: Vec<Reference> = all
            .iter()
            .filter(|reference| record_has(record, reference))
            .cloned()
            .collect();
        match (known.is_empty(), all.is_empty()) {
            (false, _) => known,
            (true, false) => all,
            (true, true) => {
                let names = record.names.iter().chain(&record.digests);
                names.filter_map(|name| name.parse().ok()).collect()
            }
        }
    }
}

fn record_has(record: &ImageRecord, reference: &Reference) -> bool {
    match &reference.digest {
        Some(digest) => record
            .digests
            .contains(&reference.repo_digest(digest.as_ref())),
        None => reference
            .tagged_name()
            .is_some_and(|name| record.names.contains(&name)),
    }
}

/// Whether one of the names is good with the signatures that the image has kept, or the image came
/// from an archive that is still trusted. An error without words: there was nothing to judge.
fn check_kept(
    trust: &Trust,
    namespace: &str,
    record: &ImageRecord,
    (names, kept): (&[Reference], &Kept),
) -> Result<(), Option<ImageError>> {
    let mut first = None;
    for origin in kept.origins() {
        let looked = trust.first_look(origin, namespace).map_err(Some)?;
        if looked.is_some_and(|verdict| verdict.accepted()) {
            return Ok(());
        }
    }
    // images of equal content may have had several manifests; one of them is enough
    let now = record.manifest_digest.to_string();
    let others = kept.signatures.keys().filter(|digest| **digest != now);
    let manifests: Vec<&String> = [&now].into_iter().chain(others).collect();
    for reference in names {
        for manifest in &manifests {
            let evidence = Evidence {
                reference: Some(reference.clone()),
                manifest_digest: trust::digest(manifest).map_err(Some)?,
                signatures: kept.signatures.get(*manifest).cloned().unwrap_or_default(),
                trouble: None,
            };
            let origin = Origin::Registry(reference);
            let verdict = trust.verdict(origin, namespace, &evidence).map_err(Some)?;
            match verdict.or_refused(reference) {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
    }
    Err(first)
}

/// The image has no name that a policy could be asked about.
fn unnamed(record: &ImageRecord) -> ImageError {
    ImageError::Rejected {
        reference: record.id.clone(),
        reason: "it has no name on this node, and the request does not say the one that its user \
                 wrote (image.user_specified_image), so no scope of the policy fits it"
            .to_owned(),
    }
}

/// Refuses an archive that no signature could help, before it is read. Blocking.
pub(super) fn refuse_archive_early(trust: &Trust, origin: Origin<'_>) -> Result<(), ImageError> {
    let verdict = trust.first_look(origin, "")?;
    verdict.map_or(Ok(()), |verdict| verdict.or_refused(&origin))
}

/// Refuses an image of an archive, which has no signatures. Blocking.
pub(super) fn check_archive(
    trust: &Trust,
    origin: Origin<'_>,
    manifest_digest: &Digest,
) -> Result<(), ImageError> {
    let evidence = Evidence {
        reference: None,
        manifest_digest: manifest_digest.clone(),
        signatures: Vec::new(),
        trouble: None,
    };
    trust.verdict(origin, "", &evidence)?.or_refused(&origin)
}
