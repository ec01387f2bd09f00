use std::net::Ipv4Addr;

use cricket_harness::spdy::{self as client, Frame, Receiver, Sender, stream_of};
use tokio::io::{DuplexStream, duplex};

use super::super::far_end::{FarEnd, echo};
use super::*;

const CREATION: Duration = Duration::from_secs(30);

type Client = (
    Sender<DuplexStream>,
    Receiver<DuplexStream>,
    tokio::task::JoinHandle<()>,
);

fn connected() -> Client {
    let (ours, theirs) = duplex(64 * 1024);
    let mut session = Session::start(ours, Duration::from_secs(3600));
    let served = tokio::spawn(async move {
        serve(&mut session, "a-pod", &FarEnd, CREATION).await;
        let _ = session.close().await;
    });
    let (sender, receiver) = client::connect(theirs);
    (sender, receiver, served)
}

async fn open(sender: &mut Sender<DuplexStream>, port: &str, request: &str, kind: &str) -> u32 {
    sender
        .open(&[("streamtype", kind), ("port", port), ("requestid", request)])
        .await
}

/// Reads until this stream has ended, by FIN or reset.
async fn until_end(receiver: &mut Receiver<DuplexStream>, id: u32, frames: &mut Vec<Frame>) {
    loop {
        let frame = receiver.next().await.expect("the connection lasts");
        let ended = match &frame {
            Frame::Data { stream, fin, .. } => *fin && *stream == id,
            Frame::Reset { stream, .. } => *stream == id,
            _ => false,
        };
        frames.push(frame);
        if ended {
            return;
        }
    }
}

#[tokio::test]
async fn pairs_are_tied_by_their_request_and_carry_bytes_both_ways() {
    let port = echo().await.to_string();
    let (mut sender, mut receiver, _served) = connected();
    let first_error = open(&mut sender, &port, "7", "error").await;
    let second_error = open(&mut sender, &port, "8", "error").await;
    let second = open(&mut sender, &port, "8", "data").await;
    let first = open(&mut sender, &port, "7", "data").await;
    for error in [first_error, second_error] {
        sender.data(error, true, b"").await;
    }
    sender.data(first, true, b"of the first").await;
    sender.data(second, true, b"of the second").await;
    let mut frames = Vec::new();
    for error in [first_error, second_error] {
        if !stream_of(&frames, error).1 {
            until_end(&mut receiver, error, &mut frames).await;
        }
    }
    assert_eq!(stream_of(&frames, first), (b"of the first".to_vec(), true));
    assert_eq!(
        stream_of(&frames, second),
        (b"of the second".to_vec(), true)
    );
    for error in [first_error, second_error] {
        assert_eq!(
            stream_of(&frames, error),
            (Vec::new(), true),
            "nothing went wrong"
        );
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_ends_its_own_pair_only() {
    let good = echo().await.to_string();
    // Bound and not listening: nobody else can take it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let bad = socket.local_addr().unwrap().port().to_string();
    let (mut sender, mut receiver, _served) = connected();
    let error = open(&mut sender, &bad, "1", "error").await;
    let data = open(&mut sender, &bad, "1", "data").await;
    let mut frames = Vec::new();
    until_end(&mut receiver, data, &mut frames).await;
    let text = String::from_utf8(stream_of(&frames, error).0).unwrap();
    let begin = format!("error forwarding port {bad} to pod a-pod, uid : connect to");
    assert!(
        text.starts_with(&begin) && text.contains("refused"),
        "{text}"
    );
    assert_eq!(
        frames.last(),
        Some(&Frame::Reset {
            stream: data,
            status: 5
        })
    );
    open(&mut sender, &good, "2", "error").await;
    let data = open(&mut sender, &good, "2", "data").await;
    sender.data(data, true, b"still here").await;
    until_end(&mut receiver, data, &mut frames).await;
    assert_eq!(stream_of(&frames, data), (b"still here".to_vec(), true));
}

#[tokio::test]
async fn old_clients_without_request_ids_open_data_after_error() {
    let port = echo().await.to_string();
    let (mut sender, mut receiver, _served) = connected();
    sender
        .open(&[("streamtype", "error"), ("port", &port)])
        .await;
    let data = sender
        .open(&[("streamtype", "data"), ("port", &port)])
        .await;
    sender.data(data, true, b"old").await;
    let mut frames = Vec::new();
    until_end(&mut receiver, data, &mut frames).await;
    assert_eq!(stream_of(&frames, data), (b"old".to_vec(), true));
}

#[tokio::test]
async fn streams_with_wrong_headers_are_refused() {
    let (mut sender, mut receiver, _served) = connected();
    let table = [
        (&[][..], "nothing"),
        (&[("streamtype", "data"), ("requestid", "1")], "no port"),
        (
            &[("streamtype", "data"), ("requestid", "1"), ("port", "0")],
            "port 0",
        ),
        (
            &[
                ("streamtype", "data"),
                ("requestid", "1"),
                ("port", "65536"),
            ],
            "port 65536",
        ),
        (
            &[("streamtype", "data"), ("requestid", "1"), ("port", "-1")],
            "port -1",
        ),
        (
            &[("streamtype", "data"), ("requestid", "x"), ("port", "1")],
            "request x",
        ),
        (
            &[("streamtype", "stdin"), ("requestid", "1"), ("port", "1")],
            "stdin",
        ),
    ];
    for (headers, what) in table {
        let stream = sender.open(headers).await;
        assert_eq!(
            receiver.next().await,
            Some(Frame::Reset { stream, status: 3 }),
            "{what}"
        );
    }
    let first = open(&mut sender, "80", "5", "data").await;
    let again = open(&mut sender, "80", "5", "data").await;
    assert!(matches!(receiver.next().await, Some(Frame::Reply { stream, .. }) if stream == first));
    assert_eq!(
        receiver.next().await,
        Some(Frame::Reset {
            stream: again,
            status: 3
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_stays_incomplete_is_given_up_and_the_connection_stays() {
    let (mut sender, mut receiver, served) = connected();
    let error = open(&mut sender, "80", "1", "error").await;
    let data = open(&mut sender, "80", "2", "data").await;
    let mut frames = Vec::new();
    until_end(&mut receiver, error, &mut frames).await;
    assert_eq!(
        stream_of(&frames, error).0,
        b"timed out waiting for the data stream"
    );
    if !frames.contains(&Frame::Reset {
        stream: data,
        status: 5,
    }) {
        until_end(&mut receiver, data, &mut frames).await;
    }
    sender.ping(1).await;
    assert_eq!(receiver.next().await, Some(Frame::Ping(1)));
    drop((sender, receiver));
    served.await.unwrap();
}
