use std::time::Duration;

use cricket_harness::spdy::{self as client, Frame, Receiver, Sender, stream_of};
use serde_json::{Value, json};
use tokio::io::{DuplexStream, duplex};

use super::super::far_end::FarEnd;
use super::*;

const ALL: WantedStreams = WantedStreams {
    stdin: true,
    stdout: true,
    stderr: true,
};
const NONE: WantedStreams = WantedStreams {
    stdin: false,
    stdout: false,
    stderr: false,
};
const LIMITS: Limits = Limits {
    idle: Duration::from_secs(3600),
    creation: Duration::from_secs(30),
};

fn exec(command: &[&str], terminal: bool, wanted: WantedStreams) -> StreamRequest {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    StreamRequest::Exec {
        container: "a container".to_owned(),
        command,
        terminal,
        wanted,
    }
}

type Client = (
    Sender<DuplexStream>,
    Receiver<DuplexStream>,
    tokio::task::JoinHandle<()>,
);

fn serve(request: StreamRequest, protocol: CommandProtocol) -> Client {
    let (ours, theirs) = duplex(64 * 1024);
    let served = tokio::spawn(over_spdy(ours, protocol, request, &FarEnd, LIMITS));
    let (sender, receiver) = client::connect(theirs);
    (sender, receiver, served)
}

/// Every frame until the server's end, then the client's.
async fn finish((mut sender, mut receiver, served): Client) -> Vec<Frame> {
    let frames = receiver.rest().await;
    sender.close().await;
    drop((sender, receiver));
    served.await.unwrap();
    frames
}

fn status_of(frames: &[Frame], error: u32) -> Value {
    let (status, ended) = stream_of(frames, error);
    assert!(ended, "the error stream has an end");
    serde_json::from_slice(&status).unwrap()
}

fn at(frames: &[Frame], wanted: impl Fn(&Frame) -> bool) -> usize {
    frames
        .iter()
        .position(wanted)
        .expect("there is such a frame")
}

fn fin_of(frames: &[Frame], id: u32) -> usize {
    at(
        frames,
        |frame| matches!(frame, Frame::Data { stream, fin: true, .. } if *stream == id),
    )
}

#[tokio::test]
async fn a_command_gets_its_input_and_gives_its_output_before_the_outcome() {
    let mut session = serve(exec(&["cat"], false, ALL), CommandProtocol::V4);
    let ids = session
        .0
        .open_types(&["error", "stdin", "stdout", "stderr"])
        .await;
    let [error, stdin, stdout, stderr] = ids[..] else {
        panic!("four streams")
    };
    let input: Vec<u8> = (0..300_000_u32)
        .map(|at| u8::try_from(at % 253).unwrap())
        .collect();
    let (sender, expected) = (&mut session.0, input.clone());
    let sending = async {
        for part in input.chunks(50_000) {
            sender.data(stdin, false, part).await;
        }
        sender.data(stdin, true, b"").await;
    };
    let receiver = &mut session.1;
    let ((), frames) = tokio::join!(sending, receiver.rest());
    assert!(
        stream_of(&frames, stdout) == (expected, true),
        "every byte comes back"
    );
    assert_eq!(stream_of(&frames, stderr), (b"300000".to_vec(), true));
    assert_eq!(
        status_of(&frames, error),
        json!({"metadata": {}, "status": "Success"})
    );
    let last_reply = frames
        .iter()
        .rposition(|f| matches!(f, Frame::Reply { .. }))
        .unwrap();
    let first_data = at(&frames, |frame| matches!(frame, Frame::Data { .. }));
    assert!(last_reply < first_data, "replies come before data");
    assert!(
        fin_of(&frames, stdin) < fin_of(&frames, stdout),
        "the way back of stdin ends first"
    );
    let status = at(
        &frames,
        |f| matches!(f, Frame::Data { stream, .. } if *stream == error),
    );
    assert!(
        fin_of(&frames, stdout).max(fin_of(&frames, stderr)) < status,
        "then the outcome"
    );
    assert_eq!(
        frames.last(),
        Some(&Frame::GoAway {
            last: stderr,
            status: 0
        })
    );
    finish(session).await;
}

#[tokio::test]
async fn the_outcome_is_told_as_the_version_has_it() {
    let exit = json!({
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: exit code 137",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "137"}]},
    });
    let reason = "error executing command in container: a container: no such command";
    let failed = json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {reason}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": reason}]},
        "code": 500,
    });
    let table = [
        (&["exit", "137"][..], CommandProtocol::V4, exit.to_string()),
        (&["exit", "137"], CommandProtocol::V5, exit.to_string()),
        (
            &["exit", "137"],
            CommandProtocol::V3,
            "command terminated with non-zero exit code: exit code 137".to_owned(),
        ),
        (&["exit", "0"], CommandProtocol::V1, String::new()),
        (&["nothing"], CommandProtocol::V4, failed.to_string()),
        (
            &["nothing"],
            CommandProtocol::V2,
            format!("Internal error occurred: {reason}"),
        ),
    ];
    for (command, protocol, expected) in table {
        let mut session = serve(exec(command, false, NONE), protocol);
        let error = session.0.open(&[("streamtype", "error")]).await;
        let frames = finish(session).await;
        let (text, ended) = stream_of(&frames, error);
        assert_eq!(
            (String::from_utf8(text).unwrap(), ended),
            (expected, true),
            "{command:?}"
        );
    }
}

#[tokio::test]
async fn sizes_come_through_however_they_are_cut_and_zeros_are_ignored() {
    let wanted = WantedStreams {
        stdout: true,
        ..NONE
    };
    let mut session = serve(exec(&["sizes", "3"], true, wanted), CommandProtocol::V4);
    let ids = session.0.open_types(&["resize", "stdout", "error"]).await;
    let [resize, stdout, _error] = ids[..] else {
        panic!("three streams")
    };
    session
        .0
        .data(resize, false, b"{\"Width\":80,\"Height\":24}\n{\"Wid")
        .await;
    session
        .0
        .data(resize, false, b"th\":0,\"Height\":5}\n{\"Width\":100,")
        .await;
    session
        .0
        .data(resize, false, b"\"Height\":30}{\"Width\":7,\"Height\":8}")
        .await;
    let frames = finish(session).await;
    assert_eq!(
        stream_of(&frames, stdout),
        (b"80x24 100x30 7x8 ".to_vec(), true)
    );
}

#[tokio::test]
async fn sizes_that_are_none_do_not_harm_the_command() {
    for bad in [
        &b"no JSON"[..],
        b"{\"Width\":99999,\"Height\":1}",
        &[b' '; 5000],
        &[b'['; 5000],
    ] {
        let wanted = WantedStreams {
            stdout: true,
            ..NONE
        };
        let mut session = serve(exec(&["sizes", "1"], true, wanted), CommandProtocol::V4);
        let ids = session.0.open_types(&["resize", "stdout", "error"]).await;
        session
            .0
            .data(ids[0], false, b"{\"Width\":80,\"Height\":24}")
            .await;
        session.0.data(ids[0], false, bad).await;
        let frames = finish(session).await;
        assert_eq!(stream_of(&frames, ids[1]), (b"80x24 ".to_vec(), true));
    }
}

#[tokio::test]
async fn an_attachment_ends_with_success() {
    let request = StreamRequest::Attach {
        container: "a container".to_owned(),
        terminal: false,
        wanted: WantedStreams {
            stdout: true,
            ..NONE
        },
    };
    let mut session = serve(request, CommandProtocol::V4);
    let ids = session.0.open_types(&["error", "stdout"]).await;
    let frames = finish(session).await;
    assert_eq!(stream_of(&frames, ids[1]), (b"attached".to_vec(), true));
    assert_eq!(status_of(&frames, ids[0])["status"], "Success");
}

#[tokio::test]
async fn streams_too_many_are_refused_and_unknown_ones_ignored() {
    let wanted = WantedStreams {
        stdout: true,
        ..NONE
    };
    let mut session = serve(exec(&["nothing"], false, wanted), CommandProtocol::V4);
    let ids = session
        .0
        .open_types(&["error", "error", "stdin", "unheard", "stdout"])
        .await;
    session.0.data(ids[2], false, &[0; 100]).await;
    let frames = finish(session).await;
    let refused = |id| {
        frames.contains(&Frame::Reset {
            stream: id,
            status: 3,
        })
    };
    let replied = |id| {
        frames.contains(&Frame::Reply {
            stream: id,
            block: vec![0; 4],
        })
    };
    assert!(refused(ids[1]), "a second error stream");
    assert!(
        replied(ids[2]) && !refused(ids[2]),
        "stdin that the request did not ask for"
    );
    assert!(
        replied(ids[3]) && !refused(ids[3]),
        "a type that nobody knows"
    );
    assert_eq!(status_of(&frames, ids[0])["reason"], "InternalError");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_open_its_streams_is_told_and_closed() {
    let mut session = serve(exec(&["cat"], false, ALL), CommandProtocol::V4);
    let ids = session.0.open_types(&["error", "stdin"]).await;
    let frames = finish(session).await;
    let text = "Internal error occurred: timed out waiting for client to create streams";
    assert_eq!(status_of(&frames, ids[0])["message"], text);
}

#[tokio::test]
async fn work_is_dropped_when_its_client_leaves() {
    let (mut sender, mut receiver, served) =
        serve(exec(&["wait"], false, NONE), CommandProtocol::V4);
    sender.open(&[("streamtype", "error")]).await;
    receiver.next().await.unwrap();
    drop((sender, receiver));
    served.await.unwrap();
}
