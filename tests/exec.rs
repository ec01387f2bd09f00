//! ExecSync: streams, exit codes, deadlines and bounds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::Node;
use tonic::Code;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// What one stream of ExecSync may hold (cri-api: 16 MiB).
const OUTPUT_MAX: usize = 16 << 20;

#[tokio::test]
async fn output_error_and_exit_code_come_back_apart() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("exec", &image, &["sleep", "1000"]).await;
    let script = ["sh", "-c", "echo out; echo err >&2; exit 5"];
    let reply = node.cri.exec(&id, &script, 10).await.unwrap();
    assert_eq!(
        (reply.stdout.as_slice(), reply.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(reply.exit_code, 5, "an exit code is no error");
    let killed = node
        .cri
        .exec(&id, &["sh", "-c", "kill -9 $$"], 10)
        .await
        .unwrap();
    assert_eq!(killed.exit_code, 137);
    node.finish().await;
}

#[tokio::test]
async fn a_command_beyond_its_timeout_is_killed_with_its_children() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("timeout", &image, &["sleep", "1000"]).await;
    let error = node
        .cri
        .exec(&id, &["sh", "-c", "sleep 777 & sleep 777"], 1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    node.until("the command's processes are gone", || {
        !node
            .processes(&id)
            .iter()
            .any(|(_, facts)| facts.contains("sleep 777"))
    })
    .await;
    assert_eq!(
        node.cri.exec(&id, &["true"], 10).await.unwrap().exit_code,
        0
    );
    node.finish().await;
}

#[tokio::test]
async fn a_daemon_killed_in_the_middle_leaves_neither_the_command_nor_its_children() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("orphans", &image, &["sleep", "1000"]).await;
    let (cri, container) = (node.cri.clone(), id.clone());
    let call = tokio::spawn(async move {
        let script = "(sleep 666 & sleep 666) & sleep 666";
        cri.exec(&container, &["sh", "-c", script], 0).await
    });
    let sleeping = |node: &Node| {
        let processes = node.processes(&id).into_iter();
        processes
            .filter(|(_, facts)| facts.starts_with("sleep 666"))
            .count()
    };
    node.until("the command runs", || sleeping(&node) == 3)
        .await;
    node.daemon.kill();
    call.await.unwrap().expect_err("the daemon has gone");
    node.until("the command has gone", || sleeping(&node) == 0)
        .await;
    node.daemon.launch();
    node.reconnect().await;
    let after = node.cri.exec(&id, &["true"], 10).await.unwrap();
    assert_eq!(after.exit_code, 0, "the container runs on");
    node.finish().await;
}

#[tokio::test]
async fn more_commands_than_the_monitor_takes_on_wait_for_their_turn() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("turns", &image, &["sleep", "1000"]).await;
    let runs = (0..100).map(|number| {
        let (cri, id) = (node.cri.clone(), id.clone());
        let script = format!("sleep 0.3; exit {number}");
        tokio::spawn(async move { cri.exec(&id, &["sh", "-c", &script], 0).await })
    });
    for (number, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
        let reply = run.await.unwrap().unwrap();
        assert_eq!(usize::try_from(reply.exit_code).unwrap(), number);
    }
    node.finish().await;
}

#[tokio::test]
async fn a_command_without_a_turn_in_time_is_refused_and_a_stop_is_not() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("full", &image, &["sleep", "1000"]).await;
    let (cri, container) = (node.cri.clone(), id.clone());
    let all = tokio::spawn(async move {
        let one = || cri.exec(&container, &["sleep", "555"], 0);
        futures_util::future::join_all((0..48).map(|_| one())).await
    });
    let running = |node: &Node| {
        let processes = node.processes(&id).into_iter();
        processes
            .filter(|(_, facts)| facts.starts_with("sleep 555"))
            .count()
    };
    node.until("as many run as may", || running(&node) == 48)
        .await;
    let refused = node.cri.exec(&id, &["true"], 1).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    node.cri.stop(&id, 0).await.unwrap();
    for ended in all.await.unwrap() {
        assert!(
            ended.is_err() || ended.is_ok_and(|reply| reply.exit_code == 137),
            "killed with the container"
        );
    }
    node.finish().await;
}

#[tokio::test]
async fn a_missing_command_is_named_and_the_container_lives_on() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("missing", &image, &["sleep", "1000"]).await;
    match node.cri.exec(&id, &["/no/such/command"], 10).await {
        Err(error) => assert!(error.message().contains("/no/such/command"), "{error:?}"),
        Ok(reply) => {
            assert!(matches!(reply.exit_code, 126 | 127), "{reply:?}");
            assert!(String::from_utf8_lossy(&reply.stderr).contains("/no/such/command"));
        }
    }
    assert_eq!(
        node.cri.exec(&id, &["true"], 10).await.unwrap().exit_code,
        0
    );
    node.finish().await;
}

#[tokio::test]
async fn output_beyond_its_bound_is_cut_and_the_command_still_ends() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("bound", &image, &["sleep", "1000"]).await;
    let script = ["sh", "-c", "head -c 20000000 /dev/zero; exit 4"];
    let reply = node.cri.exec(&id, &script, 60).await.unwrap();
    assert_eq!((reply.stdout.len(), reply.exit_code), (OUTPUT_MAX, 4));
    node.finish().await;
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_output_open_holds_nobody_up() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("grandchild", &image, &["sleep", "1000"]).await;
    let reply = node
        .cri
        .exec(&id, &["sh", "-c", "sleep 888 & echo started"], 60)
        .await
        .unwrap();
    assert_eq!(reply.stdout, b"started\n");
    node.finish().await;
}

#[tokio::test]
async fn commands_at_the_same_time_do_not_mix() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("many", &image, &["sleep", "1000"]).await;
    let runs = (0..20).map(|number| {
        let (cri, id) = (node.cri.clone(), id.clone());
        let script = format!("echo {number}; exit {number}");
        tokio::spawn(async move { cri.exec(&id, &["sh", "-c", &script], 600).await })
    });
    for (number, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
        let reply = run.await.unwrap().unwrap();
        assert_eq!(
            String::from_utf8(reply.stdout).unwrap(),
            format!("{number}\n")
        );
        assert_eq!(usize::try_from(reply.exit_code).unwrap(), number);
    }
    node.finish().await;
}

#[tokio::test]
async fn a_container_that_does_not_run_takes_no_command() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("ended", &image, &["true"]).await;
    node.cri.exited(&id).await;
    node.cri
        .exec(&id, &["true"], 10)
        .await
        .expect_err("it has exited");
    let unknown = node
        .cri
        .exec(&"0".repeat(64), &["true"], 10)
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    node.finish().await;
}
