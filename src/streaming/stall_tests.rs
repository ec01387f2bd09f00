//! Port-forward while one of the ports takes nothing: over SPDY, and over SPDY in a tunnel.

use std::net::Ipv4Addr;
use std::time::Duration;

use cricket_harness::spdy::{self as client, Frame, Receiver, Sender, stream_of};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::far_end::{FarEnd, echo};
use super::handshake::TUNNEL;
use super::over_spdy::{Limits, over_spdy};
use super::remote_command::CommandProtocol;
use super::{StreamRequest, websocket};

const LIMITS: Limits = Limits {
    idle: Duration::from_secs(24 * 3600),
    creation: Duration::from_secs(30),
};

/// More than fits anywhere between a client and a port that takes nothing, in mebibytes.
const TOO_MUCH: usize = 64;

fn request() -> StreamRequest {
    StreamRequest::PortForward {
        sandbox: "a-pod".into(),
        ports: Vec::new(),
    }
}

type Client = (Sender<DuplexStream>, Receiver<DuplexStream>);

fn over_a_connection() -> Client {
    let (ours, theirs) = duplex(64 * 1024);
    tokio::spawn(over_spdy(
        ours,
        CommandProtocol::V1,
        request(),
        &FarEnd,
        LIMITS,
    ));
    client::connect(theirs)
}

/// The client's frames go in messages, whatever their borders.
async fn through_a_tunnel() -> Client {
    let (ours, theirs) = duplex(64 * 1024);
    tokio::spawn(websocket::serve(ours, TUNNEL, request(), &FarEnd, LIMITS));
    let tunnel = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    let (mut to_server, mut from_server) = tunnel.split();
    let (inner, outer) = duplex(64 * 1024);
    let (mut from_client, mut to_client) = tokio::io::split(outer);
    tokio::spawn(async move {
        let mut piece = vec![0; 50_000];
        while let Ok(read @ 1..) = from_client.read(&mut piece).await {
            let message = Message::Binary(piece[..read].to_vec().into());
            if to_server.send(message).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = from_server.next().await {
            to_client.write_all(&message.into_data()).await.unwrap();
        }
    });
    client::connect(inner)
}

/// Listens on loopback, and accepts nothing of what it gets.
async fn takes_nothing() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.push(connection);
        }
    });
    port
}

/// Listens on loopback, and answers each piece that it gets.
async fn echo_each() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = connection.into_split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    port
}

/// The error stream and the data stream of a new pair.
async fn pair(sender: &mut Sender<DuplexStream>, port: &str, request: &str) -> [u32; 2] {
    let mut ids = [0; 2];
    for (id, kind) in ids.iter_mut().zip(["error", "data"]) {
        let headers = [("streamtype", kind), ("port", port), ("requestid", request)];
        *id = sender.open(&headers).await;
    }
    ids
}

async fn flood(sender: &mut Sender<DuplexStream>, stream: u32) {
    for _ in 0..TOO_MUCH {
        sender.data(stream, false, &vec![0; 1 << 20]).await;
    }
}

async fn one_port_stalls(client: Client) {
    let (mut sender, mut receiver) = client;
    let (good, bad) = (echo().await.to_string(), takes_nothing().await);
    let [good_error, good] = pair(&mut sender, &good, "1").await;
    let [bad_error, bad] = pair(&mut sender, &bad, "2").await;
    sender.data(good_error, true, b"").await;
    let sending = tokio::spawn(async move {
        flood(&mut sender, bad).await;
        sender.data(good, true, b"still here").await;
        sender
    });
    let mut frames = Vec::new();
    while !stream_of(&frames, good_error).1 {
        frames.push(receiver.next().await.expect("the connection lasts"));
    }
    assert_eq!(stream_of(&frames, good), (b"still here".to_vec(), true));
    while !stream_of(&frames, bad_error).1 {
        frames.push(receiver.next().await.expect("the connection lasts"));
    }
    // Go's client would end the whole connection at a text.
    assert_eq!(stream_of(&frames, bad_error), (Vec::new(), true));
    let reset = Frame::Reset {
        stream: bad,
        status: 5,
    };
    while !frames.contains(&reset) {
        frames.push(receiver.next().await.expect("the connection lasts"));
    }
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_port_that_takes_nothing_is_cut_off_when_others_wait_behind_it() {
    one_port_stalls(over_a_connection()).await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_takes_nothing_is_cut_off_in_a_tunnel_as_well() {
    one_port_stalls(through_a_tunnel().await).await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_takes_nothing_may_wait_when_it_is_alone() {
    let (mut sender, mut receiver) = over_a_connection();
    let port = takes_nothing().await;
    let [_, data] = pair(&mut sender, &port, "1").await;
    for _ in 0..2 {
        assert!(matches!(receiver.next().await, Some(Frame::Reply { .. })));
    }
    let sending = flood(&mut sender, data);
    let hour = Duration::from_secs(3600);
    assert!(timeout(hour, sending).await.is_err(), "TCP stops it");
    assert!(timeout(hour, receiver.next()).await.is_err(), "not told");
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_port_takes_nothing_is_told_so_and_the_others_go_on() {
    let ports = [takes_nothing().await, echo_each().await];
    let request = StreamRequest::PortForward {
        sandbox: "a-pod".into(),
        ports: ports.map(|port| port.parse().unwrap()).to_vec(),
    };
    let (ours, theirs) = duplex(64 * 1024);
    let protocol = "v4.channel.k8s.io";
    tokio::spawn(websocket::serve(ours, protocol, request, &FarEnd, LIMITS));
    let client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    let (mut to_server, mut from_server) = client.split();
    let sending = tokio::spawn(async move {
        for _ in 0..TOO_MUCH {
            let message = Message::Binary(vec![0; 1 << 20].into());
            to_server.send(message).await.unwrap();
        }
        let message = Message::Binary(b"\x02still here".to_vec().into());
        to_server.send(message).await.unwrap();
        to_server
    });
    let mut channels: [Vec<u8>; 4] = Default::default();
    // The first two bytes of each are its port.
    while channels[2].len() < 12 || channels[1].len() < 3 {
        let message = from_server.next().await.unwrap().unwrap().into_data();
        if let Some((channel, bytes)) = message.split_first() {
            channels[usize::from(*channel)].extend_from_slice(bytes);
        }
    }
    assert_eq!(channels[2][2..], *b"still here");
    let text = String::from_utf8_lossy(&channels[1][2..]);
    assert!(text.contains("took nothing for 10 seconds"), "{text}");
    assert_eq!(channels[3].len(), 2, "nothing went wrong");
    drop(sending.await.unwrap());
}
