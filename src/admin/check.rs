//! The check of store and records: `CheckStore`, which tells how far it is and at last what it found.

use cricket_proto::admin as wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codegen::BoxStream;

use crate::checkup::{Checkup, Finding, Outcome, Remedy, Report};
use crate::storage::{Depth, Progress};
use crate::sys::blocking;

/// Messages that wait for a slow client; what does not fit of the progress is left out.
const WAITING: usize = 4;

/// Checks, and repairs if that is asked for. A client that goes away ends the check, and not a repair
/// that has begun.
pub(super) fn check(
    checkup: Checkup,
    request: wire::CheckStoreRequest,
) -> BoxStream<wire::CheckStoreUpdate> {
    let (updates, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let done = run(&checkup, request, &updates).await;
        // Nobody is there to be told only when the client has gone.
        let _gone = updates.send(done).await;
    });
    Box::pin(ReceiverStream::new(receiver))
}

async fn run(
    checkup: &Checkup,
    request: wire::CheckStoreRequest,
    updates: &mpsc::Sender<Result<wire::CheckStoreUpdate, Status>>,
) -> Result<wire::CheckStoreUpdate, Status> {
    let depth = if request.quick {
        Depth::Quick
    } else {
        Depth::Full
    };
    let (this, client) = (checkup.clone(), updates.clone());
    let report = blocking(move || {
        let mut watch = move |progress: Progress| {
            // A full channel only means that the client is slow.
            let _full = client.try_send(Ok(so_far(progress)));
            !client.is_closed()
        };
        this.check(depth, &mut watch)
            .map_err(|error| Failed(error.to_string()))
    });
    let mut report = report
        .await
        .map_err(|Failed(text)| Status::internal(text))?;
    if let Some(house) = checkup.house.as_ref().filter(|_| request.repair) {
        checkup
            .repair(&mut report, &house.store, request.force)
            .await;
    }
    Ok(wire::CheckStoreUpdate {
        report: Some(told(report)),
        ..wire::CheckStoreUpdate::default()
    })
}

struct Failed(String);

impl From<crate::sys::ShuttingDown> for Failed {
    fn from(error: crate::sys::ShuttingDown) -> Self {
        Self(error.to_string())
    }
}

/// How far a check has come, as it is told.
pub(crate) fn so_far(progress: Progress) -> wire::CheckStoreUpdate {
    wire::CheckStoreUpdate {
        layers: progress.layers as u64,
        of: progress.of as u64,
        bytes: progress.bytes,
        report: None,
    }
}

/// A report, as it is told.
pub(crate) fn told(report: Report) -> wire::CheckReport {
    let examination = report.examination;
    let aged = |(id, age): (String, std::time::Duration)| wire::UnreferencedLayer {
        id,
        age_seconds: age.as_secs(),
    };
    wire::CheckReport {
        findings: report.findings.into_iter().map(finding).collect(),
        images: examination.images.len() as u64,
        layers: examination.layers as u64,
        bytes: examination.bytes,
        roots: examination.roots.len() as u64,
        records: report.records as u64,
        unverifiable: examination.unverifiable,
        by_content: examination.by_content,
        unreferenced: examination.unreferenced.into_iter().map(aged).collect(),
    }
}

fn finding(finding: Finding) -> wire::Finding {
    let remedy = match finding.remedy {
        Remedy::RemoveImages(ids) => format!("--repair removes image {}", ids.join(", ")),
        Remedy::RemoveContainer(id) => format!("--repair --force removes container {id}"),
        Remedy::ByHand(text) => text,
    };
    let (repaired, outcome) = match finding.outcome {
        Outcome::Found => (false, String::new()),
        Outcome::Repaired(text) => (true, text),
        Outcome::Stays(text) => (false, text),
    };
    wire::Finding {
        what: finding.what,
        problem: finding.problem,
        affects: finding.affects,
        remedy,
        repaired,
        outcome,
    }
}
