//! What the policy says about an image in a registry, told instead of done: `cricket policy test`.

use std::sync::Arc;

use super::Images;
use super::credentials::Left;
use super::decide::Served;
use super::error::ImageError;
use super::fetch::{Caller, Fetch};
use super::progress::Underway;
use super::pull::{PullRequest, caller, join_failures};
use super::reference::Reference;
use super::registries::{Endpoint, Registries};
use super::trust::{Origin, Verdict};
use crate::sys::blocking;

/// What a pull of this image would be told.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The full reference.
    pub reference: String,
    /// Digest of the manifest for this machine; `None` where the verdict needs none.
    pub manifest_digest: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why signatures could not be looked for, where that went wrong.
    pub trouble: Option<String>,
}

impl Images {
    /// The policy's verdict on an image as a pull would get it. Asks the registry for the manifest
    /// and the signatures, where the policy wants any, and for nothing else. Credentials that were
    /// left for one pull stay for it.
    ///
    /// # Errors
    /// As a pull, but for a refusal, which is an answer here.
    pub async fn explain(self: &Arc<Self>, request: &PullRequest) -> Result<Explained, ImageError> {
        let current = Arc::clone(&self.registries);
        let registries = blocking(move || current.for_pull()).await?;
        let caller = caller(self, &registries, request, Left::Look).await?;
        let mut told = Told::default();
        let candidates = registries.candidates(&request.reference)?;
        let alone = candidates.len() == 1;
        for reference in candidates {
            let explained = self.explain_one(&registries, &reference, (&caller, alone));
            if let Some(accepted) = told.add(explained.await) {
                return Ok(accepted);
            }
        }
        told.end()
    }

    async fn explain_one(
        self: &Arc<Self>,
        registries: &Registries,
        reference: &Reference,
        (caller, alone): (&Caller, bool),
    ) -> Result<Explained, ImageError> {
        let endpoints = registries.endpoints(reference)?;
        let (room, asked) = (Arc::clone(self), reference.clone());
        let namespace = caller.namespace.clone();
        let looked = blocking(move || room.trust.first_look(Origin::Registry(&asked), &namespace));
        // of several names the one counts that has the image
        if let Some(verdict) = looked.await?
            && (alone || !verdict.accepted())
        {
            return Ok(Explained {
                reference: reference.to_string(),
                manifest_digest: None,
                verdict,
                trouble: None,
            });
        }
        let unseen = Underway::unseen();
        let fetch = Fetch::new(self, reference, caller, &unseen);
        let mut told = Told::default();
        for endpoint in endpoints {
            let explained = self.explain_at(&fetch, &endpoint, (reference, caller));
            if let Some(accepted) = told.add(explained.await) {
                return Ok(accepted);
            }
        }
        told.end()
    }

    async fn explain_at(
        self: &Arc<Self>,
        fetch: &Fetch<'_>,
        endpoint: &Endpoint,
        (reference, caller): (&Reference, &Caller),
    ) -> Result<Explained, ImageError> {
        let (session, manifest) = fetch.manifest(endpoint).await?;
        let served = Served {
            reference,
            namespace: &caller.namespace,
            at: &endpoint.reference,
            digest: &manifest.digest,
            has_signatures: manifest.has_signatures,
        };
        let (verdict, evidence) = self.judge(&session, served).await?;
        Ok(Explained {
            reference: reference.to_string(),
            manifest_digest: Some(manifest.digest),
            verdict,
            trouble: evidence.trouble,
        })
    }
}

/// What places have said, asked one after the other as a pull asks them: it goes on after a refusal
/// as after a failure.
#[derive(Default)]
struct Told {
    refused: Option<Explained>,
    failures: Vec<ImageError>,
}

impl Told {
    /// Gives back what ends the search.
    fn add(&mut self, told: Result<Explained, ImageError>) -> Option<Explained> {
        match told {
            Ok(explained) if explained.verdict.accepted() => return Some(explained),
            Ok(explained) => self.refused = Some(explained),
            Err(error) => self.failures.push(error),
        }
        None
    }

    /// No place was accepted.
    fn end(self) -> Result<Explained, ImageError> {
        self.refused.ok_or_else(|| join_failures(self.failures))
    }
}
