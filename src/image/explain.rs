//! What the policy says about an image in a registry, told instead of done: `cricket policy test`.

use std::sync::Arc;

use super::Images;
use super::decide::Served;
use super::error::ImageError;
use super::fetch::{Caller, Fetch};
use super::progress::Underway;
use super::pull::{PullRequest, caller, join_failures};
use super::reference::Reference;
use super::registries::Registries;
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
    /// and the signatures, where the policy wants any, and for nothing else.
    ///
    /// # Errors
    /// As a pull, but for a refusal, which is an answer here.
    pub async fn explain(self: &Arc<Self>, request: &PullRequest) -> Result<Explained, ImageError> {
        let current = Arc::clone(&self.registries);
        let registries = blocking(move || current.for_pull()).await?;
        let caller = caller(self, &registries, request).await?;
        let mut failures = Vec::new();
        for reference in registries.candidates(&request.reference)? {
            match self.explain_one(&registries, &reference, &caller).await {
                Ok(explained) => return Ok(explained),
                Err(error) => failures.push(error),
            }
        }
        Err(join_failures(failures))
    }

    async fn explain_one(
        self: &Arc<Self>,
        registries: &Registries,
        reference: &Reference,
        caller: &Caller,
    ) -> Result<Explained, ImageError> {
        let endpoints = registries.endpoints(reference)?;
        let (room, asked) = (Arc::clone(self), reference.clone());
        let namespace = caller.namespace.clone();
        let looked = blocking(move || room.trust.first_look(Origin::Registry(&asked), &namespace));
        if let Some(verdict) = looked.await? {
            return Ok(Explained {
                reference: reference.to_string(),
                manifest_digest: None,
                verdict,
                trouble: None,
            });
        }
        let unseen = Underway::unseen();
        let fetch = Fetch::new(self, reference, caller, &unseen);
        let mut failures = Vec::new();
        for endpoint in endpoints {
            match fetch.manifest(&endpoint).await {
                Ok((session, manifest)) => {
                    let served = Served {
                        reference,
                        namespace: &caller.namespace,
                        at: &endpoint.reference,
                        digest: &manifest.digest,
                        has_signatures: manifest.has_signatures,
                    };
                    let (verdict, evidence) = self.judge(&session, served).await?;
                    return Ok(Explained {
                        reference: reference.to_string(),
                        manifest_digest: Some(manifest.digest),
                        verdict,
                        trouble: evidence.trouble,
                    });
                }
                Err(error) => failures.push(error),
            }
        }
        Err(join_failures(failures))
    }
}
