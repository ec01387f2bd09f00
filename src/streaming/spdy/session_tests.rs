use std::time::Duration;

use cricket_harness::spdy::{self as client, Frame, Receiver, Sender, control, syn_stream};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::stream::MAX_STREAMS;
use super::super::wire::{CONTROL_ROOM, MAX_DATA};
use super::*;
use crate::streaming::inflow::{CHUNK, SESSION_BYTES};

const IDLE: Duration = Duration::from_secs(3600);

fn connected() -> (
    Session<DuplexStream>,
    Sender<DuplexStream>,
    Receiver<DuplexStream>,
) {
    let (ours, theirs) = duplex(64 * 1024);
    let (sender, receiver) = client::connect(theirs);
    (Session::start(ours, IDLE), sender, receiver)
}

type Ends = (StreamReader<DuplexStream>, StreamWriter<DuplexStream>);

async fn accept(session: &mut Session<DuplexStream>) -> Ends {
    session
        .next()
        .await
        .expect("a stream arrives")
        .accept()
        .await
        .unwrap()
}

fn reply(stream: u32) -> Frame {
    Frame::Reply {
        stream,
        block: vec![0; 4],
    }
}

fn data(stream: u32, fin: bool, bytes: &[u8]) -> Frame {
    Frame::Data {
        stream,
        fin,
        bytes: bytes.to_vec(),
    }
}

#[tokio::test]
async fn a_stream_is_replied_to_then_carries_data_both_ways_and_ends_in_halves() {
    let (mut session, mut sender, mut receiver) = connected();
    let id = sender.open(&[("streamtype", "data"), ("port", "80")]).await;
    let new = session.next().await.unwrap();
    assert_eq!(new.headers().get("port"), Some("80"));
    let (mut reader, mut writer) = new.accept().await.unwrap();
    sender.data(id, false, b"to the ").await;
    sender.data(id, true, b"server").await;
    let mut received = String::new();
    reader.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "to the server");
    writer
        .write_all(b"to the client, after its end")
        .await
        .unwrap();
    writer.shutdown().await.unwrap();
    sender.close().await;
    session.close().await.unwrap();
    let frames = receiver.rest().await;
    let expected = [
        reply(1),
        data(1, false, b"to the client, after its end"),
        data(1, true, b""),
    ];
    assert_eq!(
        frames[..3],
        expected,
        "and the end may be lost on a client that has left"
    );
}

#[tokio::test]
async fn the_last_frame_is_goaway_and_unfinished_streams_are_reset_before_it() {
    let (mut session, mut sender, mut receiver) = connected();
    sender.open_types(&["a", "b"]).await;
    let (_reader, mut finished) = accept(&mut session).await;
    finished.shutdown().await.unwrap();
    let unfinished = accept(&mut session).await;
    let client = async {
        let frames = receiver.rest().await;
        sender.close().await;
        frames
    };
    let (closed, frames) = tokio::join!(session.close(), client);
    closed.unwrap();
    drop(unfinished);
    let end = [
        Frame::Reset {
            stream: 3,
            status: 5,
        },
        Frame::GoAway { last: 3, status: 0 },
    ];
    assert_eq!(
        frames,
        [vec![reply(1), data(1, true, b""), reply(3)], end.to_vec()].concat()
    );
}

#[tokio::test]
async fn pings_of_clients_are_sent_back_and_what_is_unknown_is_passed_over() {
    let (_session, mut sender, mut receiver) = connected();
    sender.raw(&control(4, 0, &[0; 12])).await;
    sender.raw(&control(9, 0, &[0; 8])).await;
    sender.raw(&control(7, 0, &[0; 8])).await;
    sender
        .raw(&control(0x7abc, 0xff, &vec![0xff; (1 << 24) - 1]))
        .await;
    sender.ping(2).await;
    sender.ping(7).await;
    assert_eq!(
        receiver.next().await,
        Some(Frame::Ping(7)),
        "that of id 2 is an answer to ours"
    );
}

#[tokio::test]
async fn a_refused_streams_headers_still_belong_to_the_context() {
    let (mut session, mut sender, mut receiver) = connected();
    let malformed = sender
        .headers()
        .compress(&client::header_list(&[("Port", "1")]));
    sender.raw(&syn_stream(1, 0, &malformed)).await;
    let unused = sender
        .headers()
        .compress(&client::header_list(&[("streamtype", "unused")]));
    sender
        .raw(&control(8, 0, &[&[0, 0, 0, 1], &unused[..]].concat()))
        .await;
    let reused = sender
        .headers()
        .compress(&client::header_list(&[("streamtype", "unused")]));
    sender.raw(&syn_stream(1, 0, &reused)).await;
    let block = sender
        .headers()
        .compress(&client::header_list(&[("streamtype", "first")]));
    sender.raw(&syn_stream(5, 0, &block)).await;
    session.next().await.unwrap().refuse().await.unwrap();
    let block = sender
        .headers()
        .compress(&client::header_list(&[("streamtype", "second")]));
    sender.raw(&syn_stream(7, 0, &block)).await;
    let second = session.next().await.unwrap();
    assert_eq!(
        (second.id(), second.headers().get("streamtype")),
        (7, Some("second"))
    );
    let reset = |stream, status| Some(Frame::Reset { stream, status });
    assert_eq!(receiver.next().await, reset(1, 1), "a name in upper case");
    assert_eq!(receiver.next().await, reset(1, 1), "an id that was used");
    assert_eq!(receiver.next().await, reset(5, 3), "refused");
}

#[tokio::test]
async fn data_for_no_stream_is_answered_only_when_there_never_was_one() {
    let (mut session, mut sender, mut receiver) = connected();
    let id = sender.open(&[("streamtype", "a")]).await;
    let ends = accept(&mut session).await;
    sender.data(99, false, b"never opened").await;
    sender.data(id, true, b"").await;
    sender.data(id, false, b"after the end").await;
    sender.data(id, false, b"after the reset").await;
    sender.ping(1).await;
    let reset = |stream, status| Some(Frame::Reset { stream, status });
    assert_eq!(receiver.next().await, Some(reply(id)));
    assert_eq!(receiver.next().await, reset(99, 2));
    assert_eq!(receiver.next().await, reset(id, 9));
    assert_eq!(receiver.next().await, Some(Frame::Ping(1)));
    drop(ends);
}

#[tokio::test]
async fn a_stream_that_the_client_gives_up_ends_in_both_directions() {
    let (mut session, mut sender, _receiver) = connected();
    let id = sender.open(&[("streamtype", "a")]).await;
    let (mut reader, mut writer) = accept(&mut session).await;
    sender.data(id, false, b"before").await;
    sender.reset(id).await;
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"before");
    let error = writer.write_all(b"too late").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_writer_that_waits_learns_that_its_stream_or_connection_is_gone() {
    for by_reset in [true, false] {
        let (mut session, mut sender, receiver) = connected();
        let id = sender.open(&[("streamtype", "a")]).await;
        let (mut reader, mut writer) = accept(&mut session).await;
        let writing = tokio::spawn(async move { writer.write_all(&vec![0; 1 << 22]).await });
        sender.data(id, false, b"now").await;
        reader.read_exact(&mut [0; 3]).await.unwrap();
        if by_reset {
            sender.reset(id).await;
        } else {
            drop((sender, receiver));
        }
        assert!(writing.await.unwrap().is_err(), "reset: {by_reset}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_an_error_to_readers_and_the_end_of_the_session() {
    let (mut session, mut sender, receiver) = connected();
    let id = sender.open(&[("streamtype", "a")]).await;
    let (mut reader, _writer) = accept(&mut session).await;
    sender.data(id, false, b"half a").await;
    drop((sender, receiver));
    let mut received = Vec::new();
    let error = reader.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(
        (received.as_slice(), error.kind()),
        (&b"half a"[..], io::ErrorKind::ConnectionReset)
    );
    assert!(session.next().await.is_none());
}

#[tokio::test]
async fn a_slow_reader_holds_a_bounded_buffer_and_loses_nothing() {
    let (mut session, mut sender, _receiver) = connected();
    let id = sender.open(&[("streamtype", "slow")]).await;
    let (mut reader, _writer) = accept(&mut session).await;
    let sent: Vec<u8> = (0..SESSION_BYTES + (1 << 20))
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        for chunk in sent.chunks(100_000) {
            sender.data(id, false, chunk).await;
        }
        sender.data(id, true, b"").await;
        sender
    });
    // Everything between here and there fills up; then nothing moves until the reader does.
    while session.inflow().free() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished(), "the client waits");
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await.unwrap();
    assert!(received == expected, "every byte arrives, in order");
    assert_eq!(session.inflow().free(), SESSION_BYTES / CHUNK);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_reader_that_is_dropped_holds_up_nothing() {
    let (mut session, mut sender, mut receiver) = connected();
    let id = sender.open(&[("streamtype", "unread")]).await;
    let (reader, _writer) = accept(&mut session).await;
    let sending = tokio::spawn(async move {
        sender.data(id, false, &vec![0; 15 << 20]).await;
        sender.data(id, false, &vec![0; 2 << 20]).await;
        sender.ping(1).await;
        sender
    });
    while session.inflow().free() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished());
    drop(reader);
    assert_eq!(receiver.next().await, Some(reply(id)));
    assert_eq!(receiver.next().await, Some(Frame::Ping(1)));
    assert_eq!(session.inflow().free(), SESSION_BYTES / CHUNK);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_but_does_not_read_makes_nothing_grow() {
    let (mut session, mut sender, mut receiver) = connected();
    let id = sender.open(&[("streamtype", "a")]).await;
    let (_reader, mut writer) = accept(&mut session).await;
    let _writing = tokio::spawn(async move { writer.write_all(&vec![0; 1 << 22]).await });
    let frames = CONTROL_ROOM;
    let sending = tokio::spawn(async move {
        for _ in 0..frames {
            sender.ping(1).await;
            sender.data(99, false, b"no such stream").await;
        }
    });
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished(), "the client has to wait");
    let waiting = session.shared.wire.pending();
    assert!(
        waiting <= MAX_DATA + CONTROL_ROOM,
        "{waiting} bytes wait to be sent"
    );
    assert_eq!(receiver.next().await, Some(reply(id)));
    let mut pings = 0;
    while pings < frames {
        pings += usize::from(receiver.next().await == Some(Frame::Ping(1)));
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_closed_ones_do_not_count() {
    let (mut session, mut sender, mut receiver) = connected();
    let opening = tokio::spawn(async move {
        for _ in 0..=MAX_STREAMS {
            sender.open(&[("streamtype", "a")]).await;
        }
        sender
    });
    let mut ends = Vec::new();
    let reading = tokio::spawn(async move {
        let mut refused = Vec::new();
        loop {
            match receiver.next().await.unwrap() {
                Frame::Reset { stream, status } => refused.push((stream, status)),
                Frame::Ping(_) => return (refused, receiver),
                _ => {}
            }
        }
    });
    for _ in 0..MAX_STREAMS {
        ends.push(accept(&mut session).await);
    }
    let mut sender = opening.await.unwrap();
    sender.ping(1).await;
    let (refused, _receiver) = reading.await.unwrap();
    let last = u32::try_from(2 * MAX_STREAMS + 1).unwrap();
    assert_eq!(refused, [(last, 3)]);
    ends.clear();
    let next = sender.open(&[("streamtype", "a")]).await;
    assert_eq!(session.next().await.unwrap().id(), next);
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_nothing_moves_and_not_before() {
    let (ours, theirs) = duplex(1024);
    let (mut sender, mut receiver) = client::connect(theirs);
    let mut session = Session::start(ours, Duration::from_secs(10));
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(9)).await;
        sender.ping(1).await;
        assert_eq!(receiver.next().await, Some(Frame::Ping(1)));
    }
    assert!(session.next().await.is_none());
    let (closed, frames) = tokio::join!(session.close(), receiver.rest());
    assert!(matches!(closed, Err(SessionError::Idle(_))), "{closed:?}");
    assert_eq!(frames, [Frame::GoAway { last: 0, status: 0 }]);
}

/// What a session makes of bytes: whatever they are, it takes them to their end.
async fn survives(bytes: Vec<u8>, chunk: usize) -> Result<(), SessionError> {
    let (ours, theirs) = duplex(1024);
    let (mut sender, mut receiver) = client::connect(theirs);
    let mut session = Session::start(ours, IDLE);
    let sending = async {
        for part in bytes.chunks(chunk) {
            sender.raw(part).await;
        }
        sender.close().await;
    };
    let serving = async {
        while let Some(stream) = session.next().await {
            let Ok((mut reader, mut writer)) = stream.accept().await else {
                break;
            };
            tokio::spawn(async move { tokio::io::copy(&mut reader, &mut writer).await });
        }
        session.close().await
    };
    let reading = async { while receiver.next().await.is_some() {} };
    tokio::join!(sending, serving, reading).1
}

fn well_formed() -> Vec<u8> {
    let mut headers = client::HeaderWriter::default();
    let mut bytes = Vec::new();
    for id in [1, 3, 5] {
        let block = headers.compress(&client::header_list(&[("streamtype", "a"), ("port", "80")]));
        bytes.extend(syn_stream(id, 0, &block));
        bytes.extend(client::data(id, id == 3, b"some bytes"));
        bytes.extend(control(6, 0, &[0, 0, 0, 1]));
        bytes.extend(control(4, 0, &[0; 4]));
    }
    bytes
}

#[tokio::test]
async fn frames_may_be_cut_anywhere_and_an_early_end_is_told_apart() {
    let all = well_formed();
    for chunk in [1, 3, 7, 8, 1000] {
        survives(all.clone(), chunk).await.unwrap();
    }
    for length in 0..all.len() {
        let result = survives(all[..length].to_vec(), 1000).await;
        assert!(
            matches!(result, Ok(()) | Err(SessionError::Truncated)),
            "{length} bytes: {result:?}"
        );
    }
    assert!(matches!(
        survives(all[..5].to_vec(), 9).await,
        Err(SessionError::Truncated)
    ));
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_and_says_why() {
    let bomb = client::HeaderWriter::default().compress(&vec![0; 1 << 20]);
    let table = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), None),
        ([0x80, 2, 0, 1, 0, 0, 0, 10].to_vec(), Some("version 2")),
        (control(6, 0, &[0; 3]), Some("PING frame of 3 bytes")),
        (
            control(1, 0, &vec![0; 1 << 20]),
            Some("SYN_STREAM frame of 1048576 bytes"),
        ),
        (syn_stream(2, 0, &bomb), Some("stream id 2")),
        (
            syn_stream(1, 0, &bomb),
            Some("more than 16384 bytes when inflated"),
        ),
        (
            syn_stream(1, 0, b"no zlib at all"),
            Some("cannot be inflated"),
        ),
    ];
    for (bytes, expected) in table {
        let result = survives(bytes, 4096).await;
        match expected {
            Some(text) => {
                let error = result.unwrap_err();
                assert!(
                    error.is_protocol() && error.to_string().contains(text),
                    "{error}"
                );
            }
            None => assert!(matches!(result, Err(SessionError::Truncated)), "{result:?}"),
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let limit = Duration::from_secs(20);
    runtime.block_on(async {
        time::timeout(limit, future)
            .await
            .expect("it does not hang")
    })
}

fn some_frame() -> impl Strategy<Value = Vec<u8>> {
    let body = || proptest::collection::vec(any::<u8>(), 0..64);
    prop_oneof![
        (0_u16..12, any::<u8>(), body())
            .prop_map(|(kind, flags, body)| control(kind, flags, &body)),
        (0_u32..9, any::<bool>(), body()).prop_map(|(id, fin, body)| client::data(id, fin, &body)),
        (1_u32..9).prop_map(|id| control(3, 0, &[id.to_be_bytes(), [0; 4]].concat())),
        any::<u32>().prop_map(|id| control(6, 0, &id.to_be_bytes())),
        body(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_sequence_of_frames_makes_a_session_panic_or_hang(
        frames in proptest::collection::vec(some_frame(), 0..30),
        well: bool,
        chunk in 1_usize..200,
    ) {
        let mut bytes = if well { well_formed() } else { Vec::new() };
        bytes.extend(frames.concat());
        let _ = run(survives(bytes, chunk));
    }

    #[test]
    fn no_altered_byte_makes_a_session_panic_or_hang(at in 0_usize..200, with: u8) {
        let mut bytes = well_formed();
        let at = at % bytes.len();
        bytes[at] = with;
        let _ = run(survives(bytes, 64));
    }
}
