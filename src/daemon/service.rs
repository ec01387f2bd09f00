//! What the service manager is told while the daemon runs, and the watchdog.
//!
//! The watchdog is fed by a real round trip: a new connection to the daemon's own socket and calls
//! that go through the server and take the locks of all lists. A daemon that serves nobody, or
//! whose tables are locked for ever, is ended by systemd and started again, which costs no pod
//! anything.

use std::path::{Path, PathBuf};

use cricket_proto::cri::runtime_service_client::RuntimeServiceClient;
use cricket_proto::cri::{
    ContainerFilter, ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter, VersionRequest,
};

use crate::cri;
use crate::sys::{ShuttingDown, blocking, notify};

/// Round trips in the time after which systemd gives up: one may fail, on a busy node.
const ROUNDS: u32 = 3;
/// The id that lists are asked for: of nobody, so that the answer is short.
const NOBODY: &str = "watchdog";

/// That calls are answered from now on.
pub(super) fn ready(socket: &Path) {
    notify::send(&format!("READY=1\nSTATUS={}", serving(socket)));
}

/// That no new calls are answered.
pub(super) fn stopping() {
    notify::send("STOPPING=1\nSTATUS=stopping; containers go on");
}

/// That the configuration is being read again: systemd waits for [`reloaded`].
pub(super) fn reloading() {
    let now = notify::monotonic_usec();
    notify::send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
}

/// That a reload has ended, with why nothing has changed if it was refused.
pub(super) fn reloaded(socket: &Path, refused: Option<&str>) {
    let mut status = serving(socket);
    if let Some(reason) = refused {
        status = format!("{status}; reload refused: {}", notify::value(reason));
    }
    notify::send(&format!("READY=1\nSTATUS={status}"));
}

fn serving(socket: &Path) -> String {
    let socket = notify::value(&socket.to_string_lossy());
    format!("serving on {socket}")
}

/// Feeds systemd's watchdog, where the unit has one, for as long as it is polled.
pub(super) async fn feed_watchdog(socket: PathBuf) {
    let Some(limit) = notify::watchdog() else {
        return;
    };
    let round = limit / ROUNDS;
    let mut rounds = tokio::time::interval(round);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let refused = match tokio::time::timeout(round, round_trip(&socket)).await {
            Ok(Ok(())) => {
                // Fails only while the daemon ends.
                let feed = || {
                    notify::send("WATCHDOG=1");
                    Ok::<_, ShuttingDown>(())
                };
                let _ending = blocking(feed).await;
                continue;
            }
            Ok(Err(error)) => error,
            Err(late) => late.into(),
        };
        tracing::error!(
            error = %refused,
            socket = %socket.display(),
            "the daemon does not answer itself: systemd's watchdog is not fed, and restarts it \
             when that lasts {limit:?}; containers go on"
        );
    }
}

/// Asks the daemon as the kubelet does.
async fn round_trip(socket: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut client = RuntimeServiceClient::new(cri::connect(socket).await?);
    client.version(VersionRequest::default()).await?;
    let filter = PodSandboxFilter {
        id: NOBODY.into(),
        ..Default::default()
    };
    let filter = Some(filter);
    client
        .list_pod_sandbox(ListPodSandboxRequest { filter })
        .await?;
    let filter = ContainerFilter {
        id: NOBODY.into(),
        ..Default::default()
    };
    let filter = Some(filter);
    client
        .list_containers(ListContainersRequest { filter })
        .await?;
    Ok(())
}
