//! Whole sessions over WebSocket, with tungstenite at the client's end and doubles of what the
//! streams lead to.

use std::time::Duration;

use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::super::over_spdy::Limits;
use super::super::rooms::FarEnds;
use super::serve;
use crate::container::{ContainerError, Streams};
use crate::sandbox::SandboxError;
use crate::streaming::{StreamRequest, WantedStreams};

type Client = WebSocketStream<DuplexStream>;

/// A command that writes back what it reads, to standard output, and `done` to standard error.
#[derive(Debug)]
struct Echo;

impl FarEnds for Echo {
    async fn exec(
        &self,
        _container: &str,
        command: &[String],
        _terminal: bool,
        streams: Streams,
    ) -> Result<i32, ContainerError> {
        if let (Some(mut stdin), Some(mut stdout)) = (streams.stdin, streams.stdout) {
            drop(tokio::io::copy(&mut stdin, &mut stdout).await);
            drop(stdout.shutdown().await);
        }
        if let Some(mut stderr) = streams.stderr {
            drop(stderr.write_all(b"done").await);
            drop(stderr.shutdown().await);
        }
        Ok(command[0].parse().unwrap())
    }

    async fn attach(&self, _container: &str, streams: Streams) -> Result<(), ContainerError> {
        let mut resize = streams.resize.unwrap();
        let size = resize.recv().await.unwrap();
        let text = format!("{}x{}", size.width, size.height);
        drop(streams.stdout.unwrap().write_all(text.as_bytes()).await);
        Ok(())
    }

    /// A server that writes back what it reads.
    async fn dial(&self, _sandbox: &str, _port: u16) -> Result<TcpStream, SandboxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = tcp.into_split();
            drop(tokio::io::copy(&mut read, &mut write).await);
        });
        Ok(TcpStream::connect(address).await.unwrap())
    }
}

fn exec(code: &str, stdin: bool) -> StreamRequest {
    StreamRequest::Exec {
        container: "c".into(),
        command: vec![code.into()],
        terminal: false,
        wanted: WantedStreams {
            stdin,
            stdout: stdin,
            stderr: true,
        },
    }
}

/// A client of a session.
async fn client(protocol: &'static str, request: StreamRequest) -> Client {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let limits = Limits {
        idle: Duration::from_secs(60),
        creation: Duration::from_secs(30),
    };
    tokio::spawn(async move { serve(theirs, protocol, request, &Echo, limits).await });
    WebSocketStream::from_raw_socket(ours, Role::Client, None).await
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(bytes.to_vec().into())
}

/// All that comes until the server closes: the bytes of each of six channels, and the close code.
async fn rest(client: &mut Client) -> ([Vec<u8>; 6], u16) {
    let mut channels: [Vec<u8>; 6] = Default::default();
    while let Some(message) = client.next().await {
        match message.unwrap() {
            Message::Binary(bytes) => {
                channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
            }
            Message::Close(frame) => return (channels, frame.unwrap().code.into()),
            Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("no close frame");
}

#[tokio::test]
async fn a_client_of_version_5_ends_its_input_and_gets_the_outcome_last() {
    let mut client = client("v5.channel.k8s.io", exec("7", true)).await;
    let greeting = client.next().await.unwrap().unwrap();
    assert_eq!(greeting, binary(b"\x01"));
    client.send(binary(b"\0hello ")).await.unwrap();
    client
        .send(Message::Ping(b"there?".to_vec().into()))
        .await
        .unwrap();
    client.send(binary(b"\0world")).await.unwrap();
    client.send(binary(b"\xff\0")).await.unwrap();
    let (channels, code) = rest(&mut client).await;
    assert_eq!(channels[1], b"hello world");
    assert_eq!(channels[2], b"done");
    let status = String::from_utf8_lossy(&channels[3]);
    assert!(status.contains(r#""NonZeroExitCode""#), "{status}");
    assert!(status.contains(r#""message":"7""#), "{status}");
    assert_eq!(code, 1000);
}

#[tokio::test]
async fn the_oldest_protocols_tell_a_failure_as_text_and_success_by_nothing() {
    for protocol in ["", "channel.k8s.io"] {
        let mut one = client(protocol, exec("7", false)).await;
        let (channels, _) = rest(&mut one).await;
        let text = String::from_utf8_lossy(&channels[3]);
        assert!(text.contains('7') && !text.contains('{'), "{text}");
        let mut other = client(protocol, exec("0", false)).await;
        let (channels, code) = rest(&mut other).await;
        assert_eq!((channels[3].as_slice(), code), (&b""[..], 1000));
    }
}

#[tokio::test]
async fn base64_is_text_in_both_directions() {
    let mut client = client("v4.base64.channel.k8s.io", exec("0", false)).await;
    let mut texts = Vec::new();
    while let Some(Ok(Message::Text(text))) = client.next().await {
        texts.push(text.to_string());
    }
    // "done", and {"status":"Success"} in whatever form.
    assert_eq!(texts[..2], ["2", "2ZG9uZQ=="]);
    assert!(texts[2].starts_with("3eyJ"), "{texts:?}");
}

#[tokio::test]
async fn a_size_comes_on_channel_4() {
    let request = StreamRequest::Attach {
        container: "c".into(),
        terminal: true,
        wanted: WantedStreams {
            stdout: true,
            ..Default::default()
        },
    };
    let mut client = client("v4.channel.k8s.io", request).await;
    let size = b"\x04{\"Width\":77,\"Height\":33}\n";
    client.send(binary(size)).await.unwrap();
    let (channels, _) = rest(&mut client).await;
    assert_eq!(channels[1], b"77x33");
}

#[tokio::test]
async fn much_goes_both_ways_in_messages_of_any_size() {
    let client = client("v5.channel.k8s.io", exec("0", true)).await;
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut write, mut read) = client.split();
    let message = [&[0][..], &sent].concat();
    let writing = tokio::spawn(async move {
        write.send(binary(&message)).await.unwrap();
        write.send(binary(b"\xff\0")).await.unwrap();
    });
    let mut received = Vec::new();
    while let Some(Ok(message)) = read.next().await {
        let Message::Binary(bytes) = message else {
            break;
        };
        assert!(bytes.len() <= 64 << 10);
        if bytes[0] == 1 {
            received.extend_from_slice(&bytes[1..]);
        }
    }
    writing.await.unwrap();
    assert!(received == sent, "{}", received.len());
}

#[tokio::test]
async fn a_forwarded_port_is_named_first_and_then_carries_bytes() {
    let request = StreamRequest::PortForward {
        sandbox: "s".into(),
        ports: vec![80, 0x1234],
    };
    let mut client = client("v4.channel.k8s.io", request).await;
    client.send(binary(b"\0one")).await.unwrap();
    client.send(binary(b"\x02two")).await.unwrap();
    let mut channels: [Vec<u8>; 4] = Default::default();
    while channels[0].len() < 5 || channels[2].len() < 5 {
        let message = client.next().await.unwrap().unwrap().into_data();
        channels[usize::from(message[0])].extend_from_slice(&message[1..]);
    }
    let expected = [&b"\x50\0one"[..], b"\x50\0", b"\x34\x12two", b"\x34\x12"];
    assert_eq!(channels.each_ref().map(Vec::as_slice), expected);
}

#[tokio::test]
async fn a_client_that_breaks_a_rule_is_told_and_the_session_ends() {
    for (protocol, bytes, code) in [
        ("v5.channel.k8s.io", &b"\x82\x01x"[..], 1002_u16),
        ("v5.channel.k8s.io", b"\xf2\x80\0\0\0\0", 1002),
        ("v4.base64.channel.k8s.io", b"\x81\x83\0\0\0\x000!!", 1007),
    ] {
        let (mut ours, theirs) = tokio::io::duplex(1 << 16);
        let limits = Limits {
            idle: Duration::from_secs(60),
            creation: Duration::from_secs(30),
        };
        let request = exec("0", true);
        let session = tokio::spawn(async move {
            serve(theirs, protocol, request, &Echo, limits).await;
        });
        ours.write_all(bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        let mut read = Vec::new();
        ours.read_to_end(&mut read).await.unwrap();
        session.await.unwrap();
        assert_eq!(
            read[read.len() - 4..],
            [&[0x88, 2][..], &code.to_be_bytes()].concat()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_sent_away_and_its_command_dropped() {
    let mut client = client("v5.channel.k8s.io", exec("0", true)).await;
    let (_, code) = rest(&mut client).await;
    assert_eq!(code, 1001);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_command_and_not_memory() {
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let mut connection =
        super::Connection::new(theirs, super::Framing::Closable, super::Inflow::new(0));
    let mut writer = connection.writer(1);
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&written);
    drop(connection.reader(0));
    let work = async move {
        let chunk = vec![0; 32 << 10];
        while writer.write_all(&chunk).await.is_ok() {
            counter.fetch_add(chunk.len(), std::sync::atomic::Ordering::Relaxed);
        }
    };
    let session = tokio::spawn(connection.run(work, Duration::from_secs(3600)));
    let count = || written.load(std::sync::atomic::Ordering::Relaxed);
    // As long as the count grows, others get their turn; then it stands for good.
    let mut before = usize::MAX;
    while count() != before {
        before = count();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }
    assert!(count() <= 256 << 10, "{} bytes are in memory", count());
    drop(ours);
    session.await.unwrap();
}

/// A client with so much input sent, to a command that takes so many bytes of it each second.
async fn slow(mebibytes: usize, rate: usize) -> (SplitStream<Client>, tokio::task::JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let room = super::Inflow::new(super::SESSION_BYTES);
    let mut connection = super::Connection::new(theirs, super::Framing::Closable, room);
    let (mut reader, writer) = (connection.reader(0), connection.writer(1));
    let work = async move {
        let _kept = writer;
        let mut taken = vec![0; rate];
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            reader.read_exact(&mut taken).await.unwrap();
        }
    };
    tokio::spawn(connection.run(work, Duration::from_secs(3600)));
    let client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let (mut write, read) = client.split();
    let sending = tokio::spawn(async move {
        for _ in 0..mebibytes {
            write.send(binary(&vec![0; 1 << 20])).await.unwrap();
        }
        write.send(Message::Ping("behind".into())).await.unwrap();
        std::future::pending::<()>().await;
    });
    (read, sending)
}

#[tokio::test(start_paused = true)]
async fn a_ping_behind_input_that_nobody_takes_is_answered() {
    let (mut client, sending) = slow(15, 0).await;
    let pong = client.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("behind".into()));
    sending.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_stopped_hears_that_we_are_there_as_often_as_it_must() {
    // Stopped for good, and for a moment again and again.
    for rate in [0, 16 << 10] {
        let (mut client, sending) = slow(40, rate).await;
        for _ in 0..5 {
            let heard = tokio::time::timeout(Duration::from_secs(60), client.next());
            let pong = heard.await.unwrap().unwrap().unwrap();
            assert_eq!(pong, Message::Pong(Vec::new().into()));
        }
        sending.abort();
    }
}
