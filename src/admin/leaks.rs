//! What nobody owns, and sweeping it: `FindLeaks`.

use cricket_proto::admin as wire;
use tonic::Status;

use crate::leaks::{Leak, LeakError, Leaks, Swept};

/// Finds what has no owner, and sweeps it if that is asked for.
pub(super) async fn find(
    leaks: &Leaks,
    request: &wire::FindLeaksRequest,
) -> Result<wire::FindLeaksResponse, Status> {
    let status = |error: LeakError| Status::internal(error.to_string());
    if !request.fix {
        let found = leaks.find().await.map_err(status)?;
        return Ok(wire::FindLeaksResponse {
            leaks: found.into_iter().map(told).collect(),
            ..wire::FindLeaksResponse::default()
        });
    }
    // In a task of its own: a client that goes away leaves no half of a sweep.
    let leaks = leaks.clone();
    let fixed = tokio::spawn(async move { leaks.fix().await }).await;
    let swept = fixed.unwrap_or_else(|_| Err(crate::sys::ShuttingDown.into()));
    Ok(answer(swept.map_err(status)?))
}

/// What a sweep has done, as it is told.
pub(crate) fn answer(swept: Swept) -> wire::FindLeaksResponse {
    let all = |leaks: Vec<Leak>| leaks.into_iter().map(told).collect();
    wire::FindLeaksResponse {
        leaks: all(swept.left),
        swept: all(swept.gone),
        problems: swept.problems,
    }
}

/// One thing, as it is told.
pub(crate) fn told(leak: Leak) -> wire::Leak {
    wire::Leak {
        kind: leak.kind.as_str().to_owned(),
        id: leak.id.map(String::from).unwrap_or_default(),
        name: leak.name,
    }
}
