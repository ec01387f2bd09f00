//! When trust is decided: before a registry is asked, when the manifest and its signatures are
//! there, and when an archive is loaded. What decides is `trust`'s.

use std::sync::Arc;

use oci_spec::image::Digest;

use super::Images;
use super::error::ImageError;
use super::reference::Reference;
use super::trust::{Evidence, Origin, Trust};

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
}

/// Refuses an image of an archive, which has no signatures. Blocking.
pub(super) fn check_archive(
    trust: &Arc<Trust>,
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

/// Refuses an archive that no signature could help, before it is read. Blocking.
pub(super) fn refuse_archive_early(
    trust: &Arc<Trust>,
    origin: Origin<'_>,
) -> Result<(), ImageError> {
    let verdict = trust.first_look(origin, "")?;
    verdict.map_or(Ok(()), |verdict| verdict.or_refused(&origin))
}
