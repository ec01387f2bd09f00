//! Attached clients.

use tokio::io::AsyncReadExt;

use super::{Client, Node};
use crate::container::{ContainerError, Streams, TerminalSize};
use crate::runtime::RuntimeError;

#[tokio::test(flavor = "multi_thread")]
async fn several_see_what_comes_and_all_streams_end_with_the_container() {
    let node = Node::start().await;
    let id = node
        .create(
            "read x; echo got $x; echo err >&2; read y; exit 0",
            |config| {
                config.stdin = true;
            },
        )
        .await;
    let (mut one, one_streams) = Client::new();
    let (mut two, mut two_streams) = Client::new();
    two_streams.stdin = None;
    let containers = node.containers();
    let talk = async {
        // Both are attached before anything is said: the first line reaches both.
        containers.start(&id).await.unwrap();
        one.say("word\n").await;
        one.until("got word\n").await;
        two.until("got word\n").await;
        one.say("end\n").await;
        let rest = (one.rest().await, two.rest().await);
        assert_eq!(rest, (String::new(), String::new()));
        assert_eq!(one.rest_of_stderr().await, "err\n");
        assert_eq!(two.rest_of_stderr().await, "err\n");
    };
    let (first, second, ()) = tokio::join!(
        containers.attach(&id, one_streams),
        containers.attach(&id, two_streams),
        talk
    );
    first.unwrap();
    second.unwrap();
    super::until("the end is known", || containers.alive(&id).is_err()).await;
    let ended = containers.attach(&id, Streams::default()).await;
    assert!(matches!(ended, Err(ContainerError::NotAlive { .. })));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_input_closes_stdin_only_where_it_is_meant_once() {
    let node = Node::start().await;
    for once in [true, false] {
        let id = node
            .run("while read x; do echo got $x; done; echo end", |config| {
                config.name = format!("once-{once}");
                config.stdin = true;
                config.stdin_once = once;
            })
            .await;
        let containers = node.containers();
        let (mut client, streams) = Client::new();
        let talk = async {
            client.say("a\n").await;
            client.until("got a\n").await;
            client.end_input();
            if once {
                assert_eq!(client.rest().await, "end\n");
            }
        };
        if once {
            let (attached, ()) = tokio::join!(containers.attach(&id, streams), talk);
            attached.unwrap();
        } else {
            tokio::select! {
                ended = containers.attach(&id, streams) => panic!("{ended:?}"),
                () = talk => {}
            }
            // The next client finds the input open.
            let (mut client, streams) = Client::new();
            let talk = async {
                client.say("b\n").await;
                client.until("got b\n").await;
            };
            tokio::select! {
                ended = containers.attach(&id, streams) => panic!("{ended:?}"),
                () = talk => {}
            }
        }
    }
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off_and_the_others_are_not() {
    let node = Node::start().await;
    // A round at a time, asked for by the client that reads: however slow the machine, it is
    // never far behind.
    let id = node
        .create(
            "while read x; do seq 1 200000; done; sleep 1000",
            |config| {
                config.stdin = true;
            },
        )
        .await;
    let round = (1..=200_000_u32)
        .map(|n| n.ilog10() as usize + 2)
        .sum::<usize>();
    let bytes = 24 * round;
    let containers = node.containers();
    let (mut idle, idle_streams) = Client::new();
    let (mut brisk, mut brisk_streams) = Client::new();
    brisk_streams.stderr = None;
    let read = async {
        containers.start(&id).await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut seen = 0;
        while seen < bytes {
            if seen % round == 0 {
                brisk.say("more\n").await;
            }
            let room = buffer.len().min(round - seen % round);
            seen += brisk.stdout.read(&mut buffer[..room]).await.unwrap();
        }
        seen
    };
    let talk = async {
        tokio::select! {
            ended = containers.attach(&id, brisk_streams) => panic!("{ended:?}"),
            seen = read => assert_eq!(seen, bytes),
        }
        // What waits is given, and then the end.
        idle.rest().await.len()
    };
    let (cut_off, given) = tokio::join!(containers.attach(&id, idle_streams), talk);
    assert!((1 << 24..bytes).contains(&given), "{given}");
    let Err(ContainerError::Runtime(error)) = cut_off else {
        panic!("{cut_off:?}");
    };
    assert!(matches!(error, RuntimeError::Lagged), "{error}");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_resized_through_an_attach() {
    let node = Node::start().await;
    let id = node
        .create("stty size; read x; stty size", |config| {
            (config.stdin, config.tty) = (true, true);
        })
        .await;
    let containers = node.containers();
    let (mut client, streams) = Client::new();
    let size = |width, height| TerminalSize { width, height };
    client.sizes.send(size(88, 22)).await.unwrap();
    let talk = async {
        super::until("the first size is taken", || client.sizes.capacity() == 8).await;
        containers.start(&id).await.unwrap();
        client.until("22 88\r\n").await;
        client.sizes.send(size(132, 50)).await.unwrap();
        super::until("the second size is taken", || client.sizes.capacity() == 8).await;
        client.say("go\n").await;
        client.rest().await
    };
    let (attached, seen) = tokio::join!(containers.attach(&id, streams), talk);
    attached.unwrap();
    assert_eq!(seen, "go\r\n50 132\r\n");
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_may_are_attached_and_one_more_is_told_so() {
    let node = Node::start().await;
    let id = node
        .run("while sleep 0.05; do echo tick; done", |_| ())
        .await;
    let containers = node.containers();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (mut client, streams) = Client::new();
        let (containers, id) = (containers.clone(), id.clone());
        let attached = tokio::spawn(async move { containers.attach(&id, streams).await });
        client.until("tick\n").await;
        clients.push((client, attached));
    }
    let (_client, streams) = Client::new();
    let refused = containers.attach(&id, streams).await;
    assert!(matches!(refused, Err(ContainerError::Busy { max: 8, .. })));
    // A client that goes makes room: at the next word nobody takes its output.
    let (client, attached) = clients.remove(0);
    drop(client);
    attached.await.unwrap().unwrap();
    let (mut client, streams) = Client::new();
    tokio::select! {
        ended = containers.attach(&id, streams) => panic!("{ended:?}"),
        _ = client.until("tick\n") => {}
    }
    node.finish().await;
}
