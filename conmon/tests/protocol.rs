//! The packets and the exit record: whatever one end writes the other reads, and nothing else.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test may panic as the test itself"
)]

use conmon::{
    Create, DecodeError, EncodeError, Exec, ExitRecord, ExitRecordError, List, MAX_CHUNK,
    MAX_EXIT_RECORD, MAX_MESSAGE, MAX_PACKET, MAX_STRINGS, Phase, Reply, Request, Status, Step,
    Stream, VERSION,
};
use proptest::prelude::*;

fn request_packet(request: &Request<'_>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_PACKET];
    let length = request.encode(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn reply_packet(reply: &Reply<'_>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_PACKET];
    let length = reply.encode(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn requests<'a>() -> Vec<Request<'a>> {
    vec![
        Request::Create(Create {
            runtime: b"/usr/bin/runc",
            global_args: List::new(&[b"--root", b"/run/runc", b"--systemd-cgroup"]),
            container_id: b"0123",
            create_args: List::EMPTY,
            log_path: b"/var/log/pods/a/b/0.log",
            terminal: true,
            stdin: false,
            stdin_once: true,
        }),
        Request::Watch,
        Request::Start,
        Request::Exec(Exec {
            exec_args: List::new(&[b"--cwd", b"/"]),
            argv: List::new(&[b"sh", b"-c", b"", b"\xff\xfe"]),
            terminal: false,
            kill_on_hangup: true,
        }),
        Request::ReopenLog { path: b"" },
        Request::Attach {
            stdin: true,
            stdout: false,
            stderr: true,
        },
        Request::Resize {
            width: 80,
            height: u16::MAX,
        },
        Request::StdinData(b"\0bytes\n"),
        Request::CloseStdin,
    ]
}

fn replies<'a>() -> Vec<Reply<'a>> {
    vec![
        Reply::Created { pid: 4711 },
        Reply::Failed {
            step: Step::Create,
            errno: 2,
            runtime_exit_code: -1,
            message: b"no such file",
        },
        Reply::Status(Status {
            phase: Phase::Exited,
            pid: 1,
            started_at_ns: u64::MAX,
            finished_at_ns: 1,
            exit_code: 137,
            signal: 9,
            oom: true,
            log_dropped_bytes: 3,
        }),
        Reply::Started { started_at_ns: 1 },
        Reply::ExecStarted { pid: i32::MAX },
        Reply::ExecExited {
            exit_code: 255,
            signal: 0,
        },
        Reply::Done,
        Reply::Output {
            stream: Stream::Stderr,
            data: b"line\n",
        },
        Reply::Lagged,
        Reply::Busy,
    ]
}

#[test]
fn every_request_survives_the_packet() {
    for request in requests() {
        assert_eq!(Request::decode(&request_packet(&request)), Ok(request));
    }
}

#[test]
fn every_reply_survives_the_packet() {
    for reply in replies() {
        assert_eq!(Reply::decode(&reply_packet(&reply)), Ok(reply));
    }
}

#[test]
fn every_step_survives_the_packet() {
    use Step::{Create, Exec, Log, Phase, Request, Spawn, Start, Stdio};
    for step in [Request, Log, Stdio, Spawn, Create, Start, Exec, Phase] {
        let reply = Reply::Failed {
            step,
            errno: 0,
            runtime_exit_code: 1,
            message: b"",
        };
        assert_eq!(Reply::decode(&reply_packet(&reply)), Ok(reply));
    }
}

#[test]
fn a_packet_cut_anywhere_is_refused() {
    for packet in requests().iter().map(request_packet) {
        for end in 0..packet.len() {
            assert_eq!(Request::decode(&packet[..end]), Err(DecodeError::Truncated));
        }
    }
    for packet in replies().iter().map(reply_packet) {
        for end in 0..packet.len() {
            assert_eq!(Reply::decode(&packet[..end]), Err(DecodeError::Truncated));
        }
    }
}

#[test]
fn bytes_too_many_are_refused() {
    for mut packet in requests().iter().map(request_packet) {
        packet.push(0);
        assert_eq!(Request::decode(&packet), Err(DecodeError::TrailingBytes));
    }
    for mut packet in replies().iter().map(reply_packet) {
        packet.push(0);
        assert_eq!(Reply::decode(&packet), Err(DecodeError::TrailingBytes));
    }
}

#[test]
fn another_version_another_kind_and_the_wrong_direction_are_refused() {
    let found = VERSION + 1;
    assert_eq!(
        Request::decode(&[found, 2]),
        Err(DecodeError::WrongVersion { found })
    );
    assert_eq!(
        Reply::decode(&[found, 0x87]),
        Err(DecodeError::WrongVersion { found })
    );
    for packet in requests().iter().map(request_packet) {
        let found = packet[1];
        assert_eq!(
            Reply::decode(&packet),
            Err(DecodeError::UnknownKind { found })
        );
    }
    for packet in replies().iter().map(reply_packet) {
        let found = packet[1];
        assert_eq!(
            Request::decode(&packet),
            Err(DecodeError::UnknownKind { found })
        );
    }
}

#[test]
fn an_oversized_packet_is_refused_before_it_is_read() {
    assert_eq!(
        Request::decode(&vec![VERSION; MAX_PACKET + 1]),
        Err(DecodeError::Oversized)
    );
    assert_eq!(
        Reply::decode(&vec![VERSION; MAX_PACKET + 1]),
        Err(DecodeError::Oversized)
    );
}

#[test]
fn lists_that_lie_about_their_count_are_refused() {
    let packet = request_packet(&Request::Exec(Exec {
        exec_args: List::EMPTY,
        argv: List::new(&[b"a", b"b"]),
        terminal: false,
        kill_on_hangup: false,
    }));
    // version, kind, empty list (8 bytes), count of argv
    for count in [0_u32, 1, 3, 8192, u32::MAX] {
        let mut packet = packet.clone();
        packet[10..14].copy_from_slice(&count.to_le_bytes());
        assert!(Request::decode(&packet).is_err(), "count {count}");
    }
}

#[test]
fn a_command_line_beyond_the_bound_names_the_bound() {
    let long = vec![b'x'; MAX_PACKET];
    let exec = |argv: &[&[u8]]| {
        Request::Exec(Exec {
            exec_args: List::EMPTY,
            argv: List::new(argv),
            terminal: false,
            kill_on_hangup: false,
        })
        .encode(&mut vec![0; 2 * MAX_PACKET])
    };
    let error = exec(&[&long]).unwrap_err();
    assert_eq!(
        error,
        EncodeError::TooLong {
            needed: MAX_PACKET + 24,
            bound: MAX_PACKET
        }
    );
    assert!(error.to_string().contains("131072"), "{error}");
    assert_eq!(
        exec(&vec![b"x".as_slice(); MAX_STRINGS + 1]),
        Err(EncodeError::TooManyStrings {
            count: MAX_STRINGS + 1
        })
    );
    assert_eq!(exec(&[b"a\0b"]), Err(EncodeError::NulByte));
}

#[test]
fn a_string_with_a_nul_is_refused() {
    let mut packet = request_packet(&Request::ReopenLog { path: b"/log" });
    *packet.last_mut().unwrap() = 0;
    assert_eq!(
        Request::decode(&packet),
        Err(DecodeError::BadField { field: "path" })
    );
}

#[test]
fn of_a_long_message_the_end_is_sent() {
    let mut message = vec![b'-'; MAX_MESSAGE];
    message.extend_from_slice(b"the cause");
    let packet = reply_packet(&Reply::Failed {
        step: Step::Exec,
        errno: 0,
        runtime_exit_code: 1,
        message: &message,
    });
    let Ok(Reply::Failed { message, .. }) = Reply::decode(&packet) else {
        panic!()
    };
    assert_eq!(message.len(), MAX_MESSAGE);
    assert!(message.ends_with(b"the cause"));
}

#[test]
fn chunks_beyond_the_bound_are_refused_by_both_ends() {
    let data = vec![0; MAX_CHUNK + 1];
    let mut buffer = vec![0; MAX_PACKET];
    assert!(Request::StdinData(&data).encode(&mut buffer).is_err());
    assert!(
        Reply::Output {
            stream: Stream::Stdout,
            data: &data
        }
        .encode(&mut buffer)
        .is_err()
    );
    let mut packet = request_packet(&Request::StdinData(&data[1..]));
    packet[2..6].copy_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    packet.push(0);
    assert!(matches!(
        Request::decode(&packet),
        Err(DecodeError::BadField { .. })
    ));
}

const RECORD: ExitRecord = ExitRecord {
    pid: 4711,
    exit_code: 137,
    signal: 9,
    oom: true,
    started_at_ns: 1_790_000_000_000_000_001,
    finished_at_ns: 1_790_000_000_000_000_002,
};

#[test]
fn the_exit_record_is_this_line() {
    let mut buffer = [0; MAX_EXIT_RECORD];
    let length = RECORD.encode(&mut buffer).unwrap();
    assert_eq!(
        std::str::from_utf8(&buffer[..length]).unwrap(),
        "{\"version\":1,\"pid\":4711,\"exit_code\":137,\"signal\":9,\"oom\":true,\
         \"started_at_ns\":1790000000000000001,\"finished_at_ns\":1790000000000000002}\n"
    );
    assert_eq!(ExitRecord::parse(&buffer[..length]), Ok(RECORD));
    assert_eq!(
        RECORD.encode(&mut buffer[..length - 1]),
        Err(ExitRecordError::TooLong)
    );
}

#[test]
fn an_exit_record_may_have_space_another_order_and_unknown_keys() {
    let text = b" { \"pid\" : 4711, \"later\": true, \"version\": 1, \"exit_code\":137,\n\
        \"finished_at_ns\":1790000000000000002, \"signal\":9, \"oom\":true, \
        \"started_at_ns\":1790000000000000001 } \n";
    assert_eq!(ExitRecord::parse(text), Ok(RECORD));
}

#[test]
fn what_is_no_exit_record_is_refused_with_the_reason() {
    let mut buffer = [0; MAX_EXIT_RECORD];
    let length = RECORD.encode(&mut buffer).unwrap();
    let line = String::from_utf8(buffer[..length].to_vec()).unwrap();
    for end in 0..length - 1 {
        assert!(
            ExitRecord::parse(&line.as_bytes()[..end]).is_err(),
            "cut at {end}"
        );
    }
    let replaced = |from: &str, to: &str| ExitRecord::parse(line.replace(from, to).as_bytes());
    assert_eq!(
        replaced(":1,", ":2,"),
        Err(ExitRecordError::WrongVersion { found: 2 })
    );
    assert_eq!(
        replaced("4711", "4294967296"),
        Err(ExitRecordError::BadKey { key: "pid" })
    );
    assert_eq!(
        replaced("true", "1"),
        Err(ExitRecordError::BadKey { key: "oom" })
    );
    assert_eq!(
        replaced("\"signal\":9,", ""),
        Err(ExitRecordError::BadKey { key: "signal" })
    );
    assert_eq!(
        replaced("\"signal\":9,", "\"signal\":9,\"signal\":9,"),
        Err(ExitRecordError::BadKey { key: "signal" })
    );
    assert_eq!(
        replaced("1790000000000000001", "-1"),
        Err(ExitRecordError::BadKey {
            key: "started_at_ns"
        })
    );
    assert!(matches!(
        replaced("4711", "\"4711\""),
        Err(ExitRecordError::Syntax { .. })
    ));
    assert!(matches!(
        replaced("}", "}}"),
        Err(ExitRecordError::Syntax { .. })
    ));
    assert_eq!(
        ExitRecord::parse(&[b' '; MAX_EXIT_RECORD + 1]),
        Err(ExitRecordError::TooLong)
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
        kind in 0_u8..12,
    ) {
        let mut packet = vec![VERSION, kind];
        packet.extend_from_slice(&bytes);
        if let Ok(request) = Request::decode(&packet) {
            prop_assert_eq!(request_packet(&request), packet.clone());
        }
        packet[1] |= 0x80;
        if let Ok(reply) = Reply::decode(&packet) {
            prop_assert_eq!(reply_packet(&reply), packet);
        }
        let _ = ExitRecord::parse(&bytes);
    }

    #[test]
    fn a_flipped_byte_is_read_or_refused_without_a_panic(
        which in 0_usize..9, at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut packet = request_packet(&requests()[which]);
        let at = at.index(packet.len());
        packet[at] = byte;
        if let Ok(request) = Request::decode(&packet) {
            prop_assert_eq!(request_packet(&request), packet);
        }
    }

    #[test]
    fn any_command_line_survives_the_packet(
        argv in proptest::collection::vec(proptest::collection::vec(1_u8..=255, 0..64), 0..64),
    ) {
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        let request = Request::Exec(Exec {
            exec_args: List::EMPTY,
            argv: List::new(&argv),
            terminal: true,
            kill_on_hangup: false,
        });
        let packet = request_packet(&request);
        prop_assert_eq!(Request::decode(&packet), Ok(request));
    }

    #[test]
    fn any_exit_record_survives_the_file(
        pid in any::<i32>(), exit_code in any::<i32>(), signal in any::<i32>(), oom: bool,
        started_at_ns in 0..=i64::MAX.cast_unsigned(),
        finished_at_ns in 0..=i64::MAX.cast_unsigned(),
    ) {
        let record = ExitRecord { pid, exit_code, signal, oom, started_at_ns, finished_at_ns };
        let mut buffer = [0; MAX_EXIT_RECORD];
        let length = record.encode(&mut buffer).unwrap();
        prop_assert_eq!(ExitRecord::parse(&buffer[..length]), Ok(record));
    }
}
