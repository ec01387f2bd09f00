//! Streamed commands, with and without a terminal.

use std::time::Duration;

use cricket_harness::leaks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Client, Node, script, until, words};
use crate::container::{ContainerError, Streams, TerminalSize};

/// How many processes of this command line run.
fn running(line: &str) -> usize {
    let all = leaks::processes_with(&[line.to_owned()]).into_iter();
    all.filter(|(_, facts)| facts.starts_with(line)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_and_the_exit_code_comes_after_the_last() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    let (mut client, streams) = Client::new();
    let mut stdin = client.stdin.take().unwrap();
    let command = script("cat; echo no >&2; exit 7");
    let exec = node.containers().exec_stream(&id, &command, false, streams);
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let feed = async {
        stdin.write_all(&bytes).await.unwrap();
        drop(stdin);
    };
    let mut seen = Vec::new();
    let (exit_code, (), read, stderr) = tokio::join!(
        exec,
        feed,
        client.stdout.read_to_end(&mut seen),
        client.stderr.read_u8()
    );
    assert_eq!(exit_code.unwrap(), 7);
    assert_eq!((read.unwrap(), stderr.unwrap()), (bytes.len(), b'n'));
    assert!(seen == bytes);
    assert_eq!(client.rest_of_stderr().await, "o\n");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_all_that_was_written_before_the_end() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    let (client, mut streams) = Client::new();
    streams.stdin = None;
    let mut stdout = client.stdout;
    let command = script("seq 1 30000");
    let slow = async {
        // Longer than what is left behind may write.
        tokio::time::sleep(Duration::from_millis(900)).await;
        let mut seen = String::new();
        stdout.read_to_string(&mut seen).await.unwrap();
        seen
    };
    let exec = node.containers().exec_stream(&id, &command, false, streams);
    let (exit_code, seen) = tokio::join!(exec, slow);
    assert_eq!(exit_code.unwrap(), 0);
    let expected: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    assert!(seen == expected, "{} bytes", seen.len());
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_behind_holds_nobody_up() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    for left in ["sleep 991", "yes"] {
        for terminal in [false, true] {
            let (mut client, streams) = Client::new();
            let command = script(&format!("trap '' HUP; {left} & sleep 0.1; exit 3"));
            let exec = node
                .containers()
                .exec_stream(&id, &command, terminal, streams);
            let (exit_code, _) = tokio::join!(exec, client.rest());
            assert_eq!(exit_code.unwrap(), 3, "{left}, terminal {terminal}");
        }
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_were_not_asked_for_are_null() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    let (mut client, mut streams) = Client::new();
    (streams.stdin, streams.stderr) = (None, None);
    let command = script("cat; readlink /proc/self/fd/0; readlink /proc/$$/fd/2; echo lost >&2");
    let exec = node.containers().exec_stream(&id, &command, false, streams);
    let (exit_code, seen) = tokio::join!(exec, client.rest());
    assert_eq!(exit_code.unwrap(), 0);
    assert_eq!(seen, "/dev/null\n/dev/null\n");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_size_from_the_start_and_takes_others() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    let (mut client, streams) = Client::new();
    let size = |width, height| TerminalSize { width, height };
    client.sizes.send(size(97, 31)).await.unwrap();
    let command = script("stty size; echo $TERM; read x; stty size; exit 4");
    let exec = node.containers().exec_stream(&id, &command, true, streams);
    let talk = async {
        assert_eq!(client.until("xterm\r\n").await, "31 97\r\nxterm\r\n");
        // Sizes of 0 are none.
        for size in [size(0, 0), size(120, 40)] {
            client.sizes.send(size).await.unwrap();
        }
        // The size goes another way than the line; the command asks only after the line.
        until("both sizes are taken", || client.sizes.capacity() == 8).await;
        client.say("go\n").await;
        client.rest().await
    };
    let (exit_code, seen) = tokio::join!(exec, talk);
    assert_eq!(exit_code.unwrap(), 4);
    assert_eq!(seen, "go\r\n40 120\r\n");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_a_terminal_is_hung_up_when_its_client_goes() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    for drops in [true, false] {
        let (mut client, streams) = Client::new();
        let command = script("echo up; sleep 992; sleep 992");
        let containers = node.containers();
        let exec = containers.exec_stream(&id, &command, true, streams);
        if drops {
            tokio::select! {
                ended = exec => panic!("{ended:?}"),
                _ = client.until("up\r\n") => {}
            }
        } else {
            // The command writes on, and nobody takes it.
            let command = script("echo up; while echo more; do sleep 0.01; done; sleep 992");
            let (left, streams) = Client::new();
            client = left;
            let exec = containers.exec_stream(&id, &command, true, streams);
            let leave = async {
                client.until("up\r\n").await;
                drop(client);
            };
            let (exit_code, ()) = tokio::join!(exec, leave);
            assert_eq!(exit_code.unwrap(), 129, "SIGHUP");
        }
        until("it has gone", || running("sleep 992") == 0).await;
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_terminal_is_left_with_an_end_of_input() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    let (mut client, streams) = Client::new();
    let command = script("echo up; cat; exec sleep 993");
    {
        let exec = node.containers().exec_stream(&id, &command, false, streams);
        tokio::select! {
            ended = exec => panic!("{ended:?}"),
            _ = client.until("up\n") => {}
        }
    }
    until("it goes on behind its input", || running("sleep 993") == 1).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_container() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    let (mut client, streams) = Client::new();
    let command = script("echo up; sleep 994");
    let exec = node.containers().exec_stream(&id, &command, false, streams);
    let stop = async {
        client.until("up\n").await;
        node.containers().stop(&id, Duration::ZERO).await.unwrap();
    };
    let (exit_code, ()) = tokio::join!(exec, stop);
    assert_eq!(exit_code.unwrap(), 137);
    let command = words(&["true"]);
    let refused = node
        .containers()
        .exec_stream(&id, &command, false, Streams::default());
    assert!(matches!(
        refused.await,
        Err(ContainerError::NotRunning { .. })
    ));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_missing_or_empty_is_an_error_that_says_so() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    for terminal in [false, true] {
        let missing = words(&["/no/such/command"]);
        let exec = node
            .containers()
            .exec_stream(&id, &missing, terminal, Streams::default());
        let error = exec.await.unwrap_err().to_string();
        assert!(error.contains("/no/such/command"), "{error}");
        let exec = node
            .containers()
            .exec_stream(&id, &[], terminal, Streams::default());
        assert!(matches!(exec.await, Err(ContainerError::Invalid { .. })));
    }
    let bundle = node.dir.path().join("run/cricket/containers").join(&id);
    let names = leaks::files(&bundle);
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("exec-")),
        "{names:?}"
    );
    node.finish().await;
}
