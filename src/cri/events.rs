//! `GetContainerEvents`: what happens to pods and containers, as it happens.

use std::sync::Arc;

use cricket_proto::cri as wire;
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::parts::Messages;
use super::{RuntimeApi, answer};
use crate::sandbox::Event;
use crate::state::Happening;

/// The events from now on. Without events the answer ends at once, as CRI-O's does: the kubelet
/// then lists instead.
pub(super) fn follow(api: &RuntimeApi) -> Messages<wire::ContainerEventResponse> {
    match api.sandboxes.events() {
        Some(events) => Box::pin(stream::unfold(events, next)),
        None => Box::pin(stream::empty()),
    }
}

async fn next(
    mut events: Receiver<Arc<Event>>,
) -> Option<(
    Result<wire::ContainerEventResponse, tonic::Status>,
    Receiver<Arc<Event>>,
)> {
    let event = received(&mut events).await?;
    Some((Ok(message(&event)), events))
}

/// The next one that is still kept; `None` when there are no more to come.
async fn received<T: Clone>(events: &mut Receiver<T>) -> Option<T> {
    loop {
        match events.recv().await {
            Ok(event) => return Some(event),
            // The kubelet lists all pods now and then for such a case.
            Err(RecvError::Lagged(lost)) => {
                tracing::warn!(
                    lost,
                    "container events lost by a client that reads too slowly"
                );
            }
            Err(RecvError::Closed) => return None,
        }
    }
}

fn message(event: &Event) -> wire::ContainerEventResponse {
    let kind = match event.step {
        Happening::Created => wire::ContainerEventType::ContainerCreatedEvent,
        Happening::Started => wire::ContainerEventType::ContainerStartedEvent,
        Happening::Stopped => wire::ContainerEventType::ContainerStoppedEvent,
        Happening::Deleted => wire::ContainerEventType::ContainerDeletedEvent,
    };
    let containers = event.containers.iter();
    wire::ContainerEventResponse {
        container_id: event.id.to_string(),
        container_event_type: kind.into(),
        created_at: event.at_ns,
        pod_sandbox_status: Some(answer::pod_status(&event.pod)),
        containers_statuses: containers
            .map(|record| answer::container_status(record))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    #[tokio::test]
    async fn who_reads_too_slowly_loses_the_oldest_and_goes_on() {
        let sender = broadcast::Sender::new(4);
        let mut slow = sender.subscribe();
        for event in 0..10 {
            sender.send(event).unwrap();
        }
        drop(sender);
        let mut seen = Vec::new();
        while let Some(event) = received(&mut slow).await {
            seen.push(event);
        }
        assert_eq!(seen, [6, 7, 8, 9]);
    }
}
