//! Containers that run out of memory: whoever of them the kernel kills, and however soon the end
//! comes after it, the reason is `OOMKilled`; and nobody else's is.

use cricket_harness::cri::ContainerStatus;
use cricket_harness::{Node, requests};
use futures_util::future::join_all;

use cricket_harness::faults::tries;

use super::CRICKET;

const LIMIT: i64 = 24 << 20;

/// Runs a container within the limit to its end.
async fn ended(node: &Node, pod: &str, name: &str, image: &str, script: &str) -> ContainerStatus {
    let config = node.pod_config("hungry");
    let mut container = requests::container(name, image, &["sh", "-c", script]);
    requests::resources(&mut container).memory_limit_in_bytes = LIMIT;
    let id = node.run_in(pod, &config, &container).await;
    node.cri.exited(&id).await
}

#[tokio::test]
async fn whoever_is_killed_for_memory_the_container_says_so_every_time() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let pod = node.cri.run_pod(&node.pod_config("hungry")).await.unwrap();
    let kinds = [
        ("first", "exec tail /dev/zero", 137, "OOMKilled"),
        // The container ends by itself, in the moment after.
        ("child", "tail /dev/zero; exit 3", 3, "OOMKilled"),
        ("good", "tail /dev/zero; exit 0", 0, "OOMKilled"),
        (
            "orphan",
            "(tail /dev/zero; touch /tmp/t) & until [ -e /tmp/t ]; do :; done; exit 5",
            5,
            "OOMKilled",
        ),
        ("signal", "sh -c 'kill -9 $$'; exit $?", 137, "Error"),
        ("error", "exit 137", 137, "Error"),
        ("little", "true", 0, "Completed"),
    ];
    for round in 0..tries(5, 100) {
        let ends = kinds.map(|(kind, script, ..)| {
            let (node, pod, image) = (&node, pod.as_str(), image.as_str());
            let name = format!("{kind}{round}");
            async move { ended(node, pod, &name, image, script).await }
        });
        let ends = Box::pin(join_all(ends)).await;
        for (status, (kind, _, code, reason)) in ends.iter().zip(kinds) {
            // Before the first victim's memory is free the kernel may take the shell as a second.
            let shell_too = reason == "OOMKilled" && status.exit_code == 137;
            assert!(
                (status.exit_code == code || shell_too) && status.reason == reason,
                "{kind} in round {round}: {status:?}"
            );
            node.cri.remove(&status.id).await.unwrap();
        }
    }
    node.finish().await;
}
