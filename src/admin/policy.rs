//! What the trust policy says about an image, on the wire.

use cricket_proto::admin as wire;

use super::AdminApi;
use crate::image::{Answer, Explained, ImageError, PullRequest, SignatureVerdict};

/// Asks the image room and puts its answer into a message.
pub(super) async fn test(
    api: &AdminApi,
    request: wire::TestPolicyRequest,
) -> Result<wire::TestPolicyResponse, ImageError> {
    let request = PullRequest {
        reference: request.image,
        namespace: request.namespace,
        ..PullRequest::default()
    };
    api.images.explain(&request).await.map(response)
}

fn response(explained: Explained) -> wire::TestPolicyResponse {
    let verdict = explained.verdict;
    wire::TestPolicyResponse {
        accepted: verdict.accepted(),
        image: explained.reference,
        manifest_digest: explained.manifest_digest.unwrap_or_default(),
        policy: verdict.policy.display().to_string(),
        scope: verdict.scope,
        trouble: explained.trouble.unwrap_or_default(),
        requirements: verdict.answers.into_iter().map(requirement).collect(),
    }
}

fn requirement(answer: Answer) -> wire::PolicyRequirement {
    let accepted = answer.outcome.is_ok();
    let (reason, signatures) = match answer.outcome {
        Ok(accepted) => (accepted.by, accepted.signatures),
        Err(refusal) => (refusal.reason, refusal.signatures),
    };
    wire::PolicyRequirement {
        requirement: answer.requirement,
        accepted,
        reason,
        signatures: signatures.into_iter().map(signature).collect(),
    }
}

fn signature(verdict: SignatureVerdict) -> wire::PolicySignature {
    let accepted = verdict.outcome.is_ok();
    wire::PolicySignature {
        place: verdict.place,
        accepted,
        reason: verdict.outcome.unwrap_or_else(|reason| reason),
    }
}
