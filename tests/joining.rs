//! Calls that come again: a caller that gave up gets the finished result, two at once do the work
//! once, a stop's wait is only ever shortened, and removal cancels a creation.
//!
//! Pulls are joined too (`image::tests::pipeline`), but end when their last caller has gone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use cricket_harness::cri::*;
use cricket_harness::gate::Gate;
use cricket_harness::{Client, Node, requests};
use tokio::time::timeout;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
/// How long anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// An operation, and the call of the OCI runtime in the middle of it.
struct Row {
    operation: &'static str,
    verb: &'static str,
    /// How often the operation makes that call.
    calls: usize,
}

const ROWS: &[Row] = &[
    // The pod's pause process, and the container.
    Row {
        operation: "RunPodSandbox",
        verb: "create",
        calls: 1,
    },
    Row {
        operation: "CreateContainer",
        verb: "create",
        calls: 1,
    },
    Row {
        operation: "StartContainer",
        verb: "start",
        calls: 1,
    },
    Row {
        operation: "StopContainer",
        verb: "kill",
        calls: 1,
    },
    Row {
        operation: "RemoveContainer",
        verb: "delete",
        calls: 1,
    },
    Row {
        operation: "StopPodSandbox",
        verb: "kill",
        calls: 1,
    },
    Row {
        operation: "RemovePodSandbox",
        verb: "kill",
        calls: 1,
    },
];

#[derive(Debug, Clone)]
struct Call {
    operation: &'static str,
    pod: PodSandboxConfig,
    container: ContainerConfig,
    pod_id: String,
    container_id: String,
}

impl Call {
    /// Makes what the operation works on.
    async fn prepare(node: &Node, image: &str, operation: &'static str) -> Call {
        let mut pod = node.pod_config(&operation.to_ascii_lowercase());
        requests::pod_namespaces(&mut pod).pid = NamespaceMode::Pod.into();
        let mut call = Call {
            operation,
            container: requests::container("main", image, &["sleep", "1000"]),
            pod,
            pod_id: String::new(),
            container_id: String::new(),
        };
        if operation == "RunPodSandbox" {
            return call;
        }
        call.pod_id = node.cri.run_pod(&call.pod).await.unwrap();
        if operation == "CreateContainer" {
            return call;
        }
        let created = node.cri.create(&call.pod_id, &call.container, &call.pod);
        call.container_id = Box::pin(created).await.unwrap();
        if operation != "StartContainer" {
            node.cri.start(&call.container_id).await.unwrap();
        }
        call
    }

    /// What a caller gets: an id, where there is one.
    async fn make(self, cri: Client) -> Result<String, String> {
        let (pod, id) = (&self.pod_id, &self.container_id);
        let nothing = |()| String::new();
        let answer = match self.operation {
            "RunPodSandbox" => cri.run_pod(&self.pod).await,
            "CreateContainer" => Box::pin(cri.create(pod, &self.container, &self.pod)).await,
            "StartContainer" => cri.start(id).await.map(nothing),
            "StopContainer" => cri.stop(id, 0).await.map(nothing),
            "RemoveContainer" => cri.remove(id).await.map(nothing),
            "StopPodSandbox" => cri.stop_pod(pod).await.map(nothing),
            "RemovePodSandbox" => cri.remove_pod(pod).await.map(nothing),
            other => panic!("no test makes {other}"),
        };
        answer.map_err(|error| format!("{}: {error:?}", self.operation))
    }
}

/// How many calls have joined another so far.
fn joined(node: &Node) -> usize {
    node.daemon
        .log()
        .matches("joining the operation in flight")
        .count()
}

#[tokio::test]
async fn who_gave_up_and_who_comes_meanwhile_get_the_result_of_work_that_is_done_once() {
    let mut gate = None;
    let mut node = Node::start_with(CRICKET, |options| gate = Some(Gate::new(options))).await;
    let gate = gate.unwrap();
    let image = node.busybox().await;
    for Row {
        operation,
        verb,
        calls,
    } in ROWS
    {
        let call = Call::prepare(&node, &image, operation).await;
        let before = gate.begun(verb);
        gate.close(verb);
        let given_up = tokio::spawn(call.clone().make(node.cri.clone()));
        node.until(operation, || gate.begun(verb) > before).await;
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled(), "{operation}");

        let joined_before = joined(&node);
        let again = [(); 2].map(|()| tokio::spawn(call.clone().make(node.cri.clone())));
        node.until("both join", || joined(&node) == joined_before + 2)
            .await;
        assert_eq!(
            gate.begun(verb) - before,
            1,
            "{operation}: {verb} is made once"
        );
        gate.open(verb);
        let mut results = Vec::new();
        for one in again {
            results.push(timeout(PATIENCE, one).await.unwrap().unwrap().unwrap());
        }
        results.push(call.clone().make(node.cri.clone()).await.unwrap());
        assert!(
            results.iter().all(|one| *one == results[0]),
            "{operation}: {results:?}"
        );
        let made = gate.begun(verb) - before;
        assert!(
            made <= *calls + 2,
            "{operation}: {verb} was made {made} times"
        );
        if ["RunPodSandbox", "CreateContainer", "StartContainer"].contains(operation) {
            assert_eq!(made, *calls, "{operation}: {verb}");
        }
        remove(&node, &call).await;
    }
    node.finish().await;
}

/// Removes the call's pod, after which the same name can be had again.
async fn remove(node: &Node, call: &Call) {
    for pod in node.cri.pods().await.unwrap() {
        node.cri.remove_pod(&pod.id).await.unwrap();
    }
    let pod = node
        .cri
        .run_pod(&call.pod)
        .await
        .expect("no name stays taken");
    node.cri.remove_pod(&pod).await.unwrap();
}

#[tokio::test]
async fn a_longer_stop_does_not_lengthen_the_one_in_flight() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let deaf = "trap '' TERM; touch /tmp/ready; while true; do sleep 0.05; done";
    let (_, id, _) = node.run("deaf", &image, &["sh", "-c", deaf]).await;
    let ready = ["sh", "-c", "until [ -e /tmp/ready ]; do sleep 0.01; done"];
    node.cri.exec(&id, &ready, 20).await.unwrap();
    let stop = |seconds| {
        let (cri, id) = (node.cri.clone(), id.clone());
        tokio::spawn(async move { cri.stop(&id, seconds).await })
    };
    let short = stop(2);
    let request = StatusRequest { verbose: true };
    let waits = async {
        while !node.cri.status(request).await.unwrap().info["inFlight"].contains("end by itself") {}
    };
    timeout(PATIENCE, waits).await.unwrap();
    let long = stop(100_000);
    for one in [short, long] {
        timeout(PATIENCE, one).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(node.cri.container(&id).await.unwrap().exit_code, 137);
    node.finish().await;
}

#[tokio::test]
async fn stopping_and_removing_a_pod_cancels_what_is_being_created_in_it() {
    let mut gate = None;
    let mut node = Node::start_with(CRICKET, |options| gate = Some(Gate::new(options))).await;
    let gate = gate.unwrap();
    let image = node.busybox().await;
    for removed in [false, true] {
        let call = Call::prepare(&node, &image, "CreateContainer").await;
        let before = gate.begun("create");
        gate.close("create");
        let creation = tokio::spawn(call.clone().make(node.cri.clone()));
        node.until("the creation", || gate.begun("create") > before)
            .await;
        // The runtime hangs all the while.
        let ended = match removed {
            true => timeout(PATIENCE, node.cri.remove_pod(&call.pod_id)).await,
            false => timeout(PATIENCE, node.cri.stop_pod(&call.pod_id)).await,
        };
        ended.expect("not held up by the runtime").unwrap();
        let refused = timeout(PATIENCE, creation)
            .await
            .unwrap()
            .unwrap()
            .unwrap_err();
        assert!(refused.contains("stopped"), "{refused}");
        assert_eq!(node.cri.containers().await.unwrap(), []);
        gate.open("create");
        remove(&node, &call).await;
        assert_eq!(node.left_behind(), Vec::<String>::new());
    }
    node.finish().await;
}
