//! Containers that end before anybody has looked: the code is theirs, also when the daemon is
//! killed while they start.

use cricket_harness::cri::ContainerState;
use cricket_harness::{Node, requests};
use futures_util::future::join_all;

use cricket_harness::faults::{Row, tries};

use super::CRICKET;

const CREATED: i32 = ContainerState::ContainerCreated as i32;

#[tokio::test]
async fn whoever_ends_at_once_ends_with_a_code_of_its_own() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("quick");
    let pod = node.cri.run_pod(&config).await.unwrap();
    for round in 0..tries(4, 100) {
        let one = |number: usize| {
            let code = (round * 64 + number * 7) % 256;
            let script = format!("exit {code}");
            let name = format!("quick{round}-{number}");
            let container = requests::container(&name, &image, &["sh", "-c", &script]);
            let (node, pod, config) = (&node, &pod, &config);
            async move {
                let id = node.run_in(pod, config, &container).await;
                let status = node.cri.exited(&id).await;
                let reason = if code == 0 { "Completed" } else { "Error" };
                assert_eq!(
                    (
                        usize::try_from(status.exit_code).unwrap(),
                        status.reason.as_str()
                    ),
                    (code, reason)
                );
                assert!(status.started_at > 0 && status.finished_at >= status.started_at);
                node.cri.remove(&id).await.unwrap();
            }
        };
        Box::pin(join_all((0..12).map(one))).await;
    }
    node.finish().await;
}

#[tokio::test]
async fn whoever_ends_while_the_daemon_is_killed_keeps_the_code() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("between");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut row = Row::new("kill -9 of the daemon while containers start and end at once");
    for round in 0..tries(6, 60) {
        row.tried();
        let mut ids = Vec::new();
        for number in 0..4 {
            let script = format!("exit {}", 10 + number);
            let name = format!("between{round}-{number}");
            let container = requests::container(&name, &image, &["sh", "-c", &script]);
            let id = node.cri.create(&pod, &container, &config).await;
            ids.push(id.unwrap());
        }
        let starts: Vec<_> = ids
            .iter()
            .map(|id| {
                let (cri, id) = (node.cri.clone(), id.clone());
                tokio::spawn(async move { cri.start(&id).await })
            })
            .collect();
        // Spread over the time that four starts take; where exactly does not matter.
        let wait = u64::try_from(round * 23 % 120).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        node.crash().await;
        join_all(starts).await;
        for (id, code) in ids.iter().zip(10..) {
            // One whose start was never begun is as it was, and can be started.
            if node.cri.container(id).await.unwrap().state == CREATED {
                drop(node.cri.start(id).await);
            }
            let status = node.cri.exited(id).await;
            if (status.exit_code, status.reason.as_str()) != (code, "Error") {
                row.lost(Err(format!("code {code} in round {round}: {status:?}")));
            }
            node.cri.remove(id).await.unwrap();
        }
    }
    node.finish().await;
    row.end();
}
