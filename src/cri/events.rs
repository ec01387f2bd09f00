//! `GetContainerEvents`: what happens to pods and containers, as it happens.

use cricket_proto::cri as wire;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::parts::Messages;
use super::{RuntimeApi, answer, code};
use crate::sandbox::Event;
use crate::state::Happening;

/// The events from now on. Without events the answer ends at once, as CRI-O's does: the kubelet
/// then lists instead.
///
/// A client that has missed some is told so by an error, which ends the answer: a kubelet lists
/// everything then and follows anew. Going on without them would leave it wrong for as long as nothing
/// else happens to the same pod.
pub(super) fn follow(api: &RuntimeApi) -> Messages<wire::ContainerEventResponse> {
    match api.sandboxes.events() {
        Some(events) => Box::pin(followed(events).map(|event| event.map(|event| message(&event)))),
        None => Box::pin(stream::empty()),
    }
}

fn followed<T: Clone>(events: Receiver<T>) -> impl Stream<Item = Result<T, tonic::Status>> {
    stream::unfold(Some(events), |events| async move {
        let mut events = events?;
        match events.recv().await {
            Ok(event) => Some((Ok(event), Some(events))),
            Err(RecvError::Lagged(lost)) => Some((Err(code::missed(lost)), None)),
            Err(RecvError::Closed) => None,
        }
    })
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
    async fn who_reads_too_slowly_is_told_and_ended_and_nobody_misses_some_in_silence() {
        let sender = broadcast::Sender::new(4);
        let slow = followed(sender.subscribe());
        let in_time = followed(sender.subscribe());
        let mut in_time = std::pin::pin!(in_time);
        for event in 0..10 {
            sender.send(event).unwrap();
            assert_eq!(in_time.next().await.unwrap().unwrap(), event);
        }
        drop(sender);
        assert!(in_time.next().await.is_none());
        let seen: Vec<_> = slow.collect().await;
        let [Err(told)] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        assert_eq!(told.code(), tonic::Code::Aborted);
        assert!(told.message().starts_with("6 events"), "{told}");
    }
}
