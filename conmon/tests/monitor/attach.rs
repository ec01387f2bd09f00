//! Taking part in the container's stdio.

use conmon::{Reply, Request, Step, Stream};

use crate::harness::{Connection, Container, Wanted, describe, joined};

fn attach(container: &Container, stdin: bool) -> Connection {
    let connection = container.connect();
    connection.send(&Request::Attach {
        stdin,
        stdout: true,
        stderr: true,
    });
    assert_eq!(Reply::decode(&connection.receive().0), Ok(Reply::Done));
    connection
}

/// Output up to the end of the connection, stdout and stderr apart; and whether it was cut off.
fn output(connection: &Connection) -> (Vec<u8>, Vec<u8>, bool) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let (packet, _) = connection.receive();
        if packet.is_empty() {
            return (stdout, stderr, false);
        }
        match Reply::decode(&packet).unwrap() {
            Reply::Output {
                stream: Stream::Stdout,
                data,
            } => stdout.extend_from_slice(data),
            Reply::Output {
                stream: Stream::Stderr,
                data,
            } => stderr.extend_from_slice(data),
            Reply::Lagged => return (stdout, stderr, true),
            other => panic!("{}", describe(&other)),
        }
    }
}

fn read_until(connection: &Connection, wanted: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let (packet, _) = connection.receive();
        match Reply::decode(&packet).unwrap() {
            Reply::Output { data, .. } => seen.extend_from_slice(data),
            other => panic!("{}", describe(&other)),
        }
    }
    String::from_utf8(seen).unwrap()
}

fn with_stdin(script: &str) -> Wanted<'_> {
    let mut wanted = Wanted::script(script);
    wanted.stdin = true;
    wanted
}

#[test]
fn input_comes_back_as_output_and_the_end_of_input_is_seen() {
    let container = Container::create(&with_stdin("cat; echo done >&2"));
    let connection = attach(&container, true);
    container.start();
    connection.send(&Request::StdinData(b"one\n"));
    connection.send(&Request::StdinData(b"two\n"));
    connection.send(&Request::CloseStdin);
    let (stdout, stderr, lagged) = output(&connection);
    assert_eq!(
        (stdout.as_slice(), stderr.as_slice()),
        (b"one\ntwo\n".as_slice(), &b"done\n"[..])
    );
    assert!(!lagged);
    assert_eq!(container.wait().exit_code, 0);
    assert_eq!(joined(&container.records(), "stdout"), b"one\ntwo\n");
}

#[test]
fn much_input_arrives_whole_though_the_container_reads_late() {
    let script = "while [ ! -e /tmp/go ]; do sleep 0.01; done; cat >/tmp/got";
    let container = Container::run(&with_stdin(script));
    let connection = attach(&container, true);
    let data: Vec<u8> = (0..2_000_000_u32)
        .map(|number| number.to_le_bytes()[1])
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for chunk in data.chunks(conmon::MAX_CHUNK) {
                connection.send(&Request::StdinData(chunk));
            }
            connection.send(&Request::CloseStdin);
        });
        // While stdin is blocked the monitor serves everyone else.
        let (packet, _) = container.call(&Request::Watch);
        assert!(matches!(Reply::decode(&packet), Ok(Reply::Status(_))));
        container.release();
    });
    container.wait();
    let got = std::fs::read(container.bundle().join("rootfs/tmp/got")).unwrap();
    assert!(got == data, "{} bytes of {}", got.len(), data.len());
}

#[test]
fn without_stdin_the_container_reads_the_end_at_once() {
    let container = Container::run(&Wanted::script("cat; exit 6"));
    assert_eq!(container.wait().exit_code, 6);
}

#[test]
fn stdin_once_ends_with_the_first_attach_and_other_stdin_does_not() {
    let mut wanted = with_stdin("cat; exit 8");
    wanted.stdin_once = true;
    let container = Container::run(&wanted);
    // Neither an attach without stdin nor its end counts.
    drop(attach(&container, false));
    let connection = attach(&container, true);
    connection.send(&Request::StdinData(b"last words"));
    drop(connection);
    assert_eq!(container.wait().exit_code, 8);
    assert_eq!(joined(&container.records(), "stdout"), b"last words");

    let container = Container::run(&with_stdin("cat; exit 8"));
    let connection = attach(&container, true);
    connection.send(&Request::StdinData(b"one "));
    read_until(&connection, "one ");
    drop(connection);
    let connection = attach(&container, true);
    connection.send(&Request::StdinData(b"two"));
    read_until(&connection, "two");
    connection.send(&Request::CloseStdin);
    assert_eq!(container.wait().exit_code, 8);
}

#[test]
fn a_reader_that_does_not_read_is_cut_off_and_the_log_is_whole() {
    let script = "while [ ! -e /tmp/go ]; do sleep 0.01; done; seq 1 1000000";
    let container = Container::run(&Wanted::script(script));
    let lazy = attach(&container, false);
    container.release();
    container.wait();
    let (stdout, _, lagged) = output(&lazy);
    assert!(lagged);
    let expected: String = (1..=1_000_000)
        .map(|number| format!("{number}\n"))
        .collect();
    assert!(
        expected.as_bytes().starts_with(&stdout),
        "what it got is in order and without gaps"
    );
    assert!(joined(&container.records(), "stdout") == expected.as_bytes());
}

#[test]
fn a_terminal_has_a_size_and_echoes() {
    let mut wanted = with_stdin("stty size; while read x; do echo got $x; stty size; done");
    wanted.terminal = true;
    let container = Container::create(&wanted);
    // Before the process starts.
    let (packet, _) = container.call(&Request::Resize {
        width: 99,
        height: 33,
    });
    assert_eq!(Reply::decode(&packet), Ok(Reply::Done));
    let connection = attach(&container, true);
    container.start();
    read_until(&connection, "33 99\r\n");
    connection.send(&Request::Resize {
        width: 120,
        height: 40,
    });
    connection.send(&Request::StdinData(b"this\n"));
    read_until(&connection, "got this\r\n40 120\r\n");
    // Ctrl-D.
    connection.send(&Request::StdinData(b"\x04"));
    assert_eq!(container.wait().exit_code, 0);
    let log = container.records();
    assert!(log.iter().all(|record| record.stream == "stdout"));
    let logged = String::from_utf8(joined(&log, "stdout")).unwrap();
    assert!(logged.contains("got this\r\n40 120\r\n"), "{logged}");
}

#[test]
fn a_container_without_a_terminal_has_no_size() {
    let container = Container::run(&Wanted::script("sleep 1000"));
    let (packet, _) = container.call(&Request::Resize {
        width: 1,
        height: 1,
    });
    match Reply::decode(&packet).unwrap() {
        Reply::Failed {
            step: Step::Stdio,
            message,
            ..
        } => {
            assert_eq!(message, b"the container has no terminal");
        }
        other => panic!("{}", describe(&other)),
    }
}
