//! Lists as streams: the items of one snapshot, each once, in messages far below what a client
//! takes (16 MiB in the kubelet's).
//!
//! A message is made when the client is ready for it, so a client that goes away ends the work.

use cricket_proto::{Message, cri as wire};
use futures_util::stream;
use tonic::Status;
use tonic::codegen::BoxStream;

use super::{RuntimeApi, containers, metrics, pods, stats};

/// How large a message may become before the next item begins another.
const MESSAGE_BYTES: usize = 1 << 20;

/// An answer in parts.
pub(super) type Messages<T> = BoxStream<T>;

pub(super) fn pods(
    api: &RuntimeApi,
    request: wire::StreamPodSandboxesRequest,
) -> Result<Messages<wire::StreamPodSandboxesResponse>, Status> {
    let items = pods::items(api, request.filter)?;
    Ok(messages(items, |pod_sandboxes| {
        wire::StreamPodSandboxesResponse { pod_sandboxes }
    }))
}

pub(super) fn containers(
    api: &RuntimeApi,
    request: wire::StreamContainersRequest,
) -> Result<Messages<wire::StreamContainersResponse>, Status> {
    let items = containers::items(api, request.filter)?;
    Ok(messages(items, |containers| {
        wire::StreamContainersResponse { containers }
    }))
}

pub(super) async fn container_stats(
    api: &RuntimeApi,
    request: wire::StreamContainerStatsRequest,
) -> Result<Messages<wire::StreamContainerStatsResponse>, Status> {
    let items = stats::container_items(api, request.filter).await?;
    Ok(messages(items.into_iter(), |container_stats| {
        wire::StreamContainerStatsResponse { container_stats }
    }))
}

pub(super) async fn pod_stats(
    api: &RuntimeApi,
    request: wire::StreamPodSandboxStatsRequest,
) -> Result<Messages<wire::StreamPodSandboxStatsResponse>, Status> {
    let items = stats::pod_items(api, request.filter).await?;
    Ok(messages(items.into_iter(), |pod_sandbox_stats| {
        wire::StreamPodSandboxStatsResponse { pod_sandbox_stats }
    }))
}

pub(super) async fn pod_metrics(
    api: &RuntimeApi,
    _request: wire::StreamPodSandboxMetricsRequest,
) -> Result<Messages<wire::StreamPodSandboxMetricsResponse>, Status> {
    let items = metrics::pod_items(api).await?;
    Ok(messages(items.into_iter(), |pod_sandbox_metrics| {
        wire::StreamPodSandboxMetricsResponse {
            pod_sandbox_metrics,
        }
    }))
}

/// Messages with as many of the items as fit, at least one in each.
pub(super) fn messages<I, M>(
    items: impl Iterator<Item = I> + Send + 'static,
    message: fn(Vec<I>) -> M,
) -> Messages<M>
where
    I: Message + 'static,
    M: 'static,
{
    let mut items = items.peekable();
    let parts = std::iter::from_fn(move || {
        let mut part = Vec::new();
        let mut bytes = 0;
        while let Some(item) =
            items.next_if(|item| part.is_empty() || bytes + item.encoded_len() <= MESSAGE_BYTES)
        {
            bytes += item.encoded_len();
            part.push(item);
        }
        (!part.is_empty()).then(|| Ok(message(part)))
    });
    Box::pin(stream::iter(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    /// The sizes of the messages that items of these sizes come in.
    async fn parts(sizes: &[usize]) -> Vec<Vec<usize>> {
        let items: Vec<_> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
        messages(items.into_iter(), |part| part)
            .map(|part| part.unwrap().iter().map(Vec::len).collect())
            .collect()
            .await
    }

    #[tokio::test]
    async fn items_are_put_together_until_a_message_is_large_and_none_is_lost() {
        let (half, large) = (MESSAGE_BYTES / 2 - 10, 3 * MESSAGE_BYTES);
        for (sizes, expected) in [
            (vec![], vec![]),
            (vec![1, 2, 3], vec![vec![1, 2, 3]]),
            (vec![half, half, half], vec![vec![half, half], vec![half]]),
            (vec![1, large, 2], vec![vec![1], vec![large], vec![2]]),
            (vec![large, large], vec![vec![large], vec![large]]),
        ] {
            assert_eq!(parts(&sizes).await, expected, "{sizes:?}");
        }
    }
}
