//! Further processes in the container.

use std::io::{Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;

use conmon::{Exec, List, Phase, Reply, Request, Step};

use crate::harness::{Connection, Container, Wanted, describe};

/// Everything up to the end.
fn read_all(mut end: std::io::PipeReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut end, &mut bytes).unwrap();
    bytes
}

fn null() -> OwnedFd {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

fn started(connection: &Connection) -> i32 {
    let (packet, _) = connection.receive();
    match Reply::decode(&packet).unwrap() {
        Reply::ExecStarted { pid } => pid,
        other => panic!("{}", describe(&other)),
    }
}

fn exited(connection: &Connection) -> (i32, i32) {
    let (packet, _) = connection.receive();
    match Reply::decode(&packet).unwrap() {
        Reply::ExecExited { exit_code, signal } => (exit_code, signal),
        other => panic!("{}", describe(&other)),
    }
}

fn forever() -> Container {
    Container::run(&Wanted::script("exec sleep 1000"))
}

#[test]
fn an_exec_has_its_own_stdio_and_exit_code() {
    let container = forever();
    let (stdin_end, mut stdin) = pipe().unwrap();
    let (stdout, stdout_end) = pipe().unwrap();
    let (stderr, stderr_end) = pipe().unwrap();
    let argv: [&[u8]; 3] = [b"sh", b"-c", b"cat; echo no >&2; exit 5"];
    let stdio = [stdin_end.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()];
    let connection = container.exec(&argv, stdio, false);
    drop((stdin_end, stdout_end, stderr_end));
    assert!(started(&connection) > 1);
    stdin.write_all(b"through").unwrap();
    drop(stdin);
    // The ends come only if the monitor keeps no copy of the descriptors.
    assert_eq!(read_all(stdout), b"through");
    assert_eq!(read_all(stderr), b"no\n");
    assert_eq!(exited(&connection), (5, 0));
    assert!(connection.receive().0.is_empty());
    assert_eq!(
        container.leftovers(),
        ["conmon.sock", "pidfile", "runtime.log"]
    );
    assert!(container.records().is_empty(), "an exec writes to no log");
}

#[test]
fn a_missing_command_fails_with_the_runtimes_message() {
    let container = forever();
    let null = null();
    let stdio = [null.as_fd(), null.as_fd(), null.as_fd()];
    let connection = container.exec(&[b"/no/such"], stdio, false);
    let (packet, _) = connection.receive();
    match Reply::decode(&packet).unwrap() {
        Reply::Failed {
            step: Step::Exec,
            runtime_exit_code: 255,
            message,
            ..
        } => {
            let message = String::from_utf8_lossy(message);
            assert!(
                message.contains("/no/such") && message.contains("no such file"),
                "{message}"
            );
            assert!(!message.contains("level="), "{message}");
        }
        other => panic!("{}", describe(&other)),
    }
    assert!(connection.receive().0.is_empty());
    assert_eq!(
        container.leftovers(),
        ["conmon.sock", "pidfile", "runtime.log"]
    );
}

#[test]
fn two_hundred_execs_that_end_at_once_are_all_told() {
    let container = forever();
    let null = null();
    thread::scope(|scope| {
        for worker in 0..4 {
            let (container, null) = (&container, &null);
            scope.spawn(move || {
                for turn in 0..50 {
                    let code = (worker * 50 + turn) % 256;
                    let script = format!("exit {code}");
                    let argv: [&[u8]; 3] = [b"sh", b"-c", script.as_bytes()];
                    let stdio = [null.as_fd(), null.as_fd(), null.as_fd()];
                    let connection = container.exec(&argv, stdio, false);
                    started(&connection);
                    assert_eq!(exited(&connection), (code, 0));
                }
            });
        }
    });
    assert_eq!(
        container.leftovers(),
        ["conmon.sock", "pidfile", "runtime.log"]
    );
}

#[test]
fn a_hang_up_kills_where_that_was_asked_for_and_only_there() {
    let container = forever();
    for kill in [true, false] {
        let null = null();
        let (mut alive, alive_end) = pipe().unwrap();
        let argv: [&[u8]; 3] = [
            b"sh",
            b"-c",
            b"echo up; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo still; exec sleep 1000",
        ];
        let stdio = [null.as_fd(), alive_end.as_fd(), null.as_fd()];
        let connection = container.exec(&argv, stdio, kill);
        drop(alive_end);
        started(&connection);
        let mut line = [0; 3];
        alive.read_exact(&mut line).unwrap();
        drop(connection);
        if kill {
            assert_eq!(read_all(alive), b"");
        } else {
            container.release();
            let mut line = [0; 6];
            alive.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"still\n");
        }
    }
}

#[test]
fn a_hang_up_ends_the_commands_children_too() {
    let container = forever();
    let null = null();
    let (mut alive, alive_end) = pipe().unwrap();
    // All of them hold the pipe.
    let argv: [&[u8]; 3] = [
        b"sh",
        b"-c",
        b"sh -c 'trap \"\" TERM HUP; sleep 1000 & echo up; wait' & sleep 1000; echo more",
    ];
    let stdio = [null.as_fd(), alive_end.as_fd(), null.as_fd()];
    let connection = container.exec(&argv, stdio, true);
    drop(alive_end);
    started(&connection);
    let mut line = [0; 3];
    alive.read_exact(&mut line).unwrap();
    drop(connection);
    // The end comes only with the end of all of them.
    assert_eq!(read_all(alive), b"");
}

#[test]
fn commands_that_were_left_take_no_places() {
    let container = forever();
    let null = null();
    for _ in 0..conmon::MAX_EXECS + 1 {
        let stdio = [null.as_fd(), null.as_fd(), null.as_fd()];
        let connection = container.exec(&[b"sleep", b"1000"], stdio, false);
        started(&connection);
    }
}

#[test]
fn a_hang_up_before_the_process_runs_kills_it_all_the_same() {
    let container = forever();
    let null = null();
    let (alive, alive_end) = pipe().unwrap();
    let stdio = [null.as_fd(), alive_end.as_fd(), null.as_fd()];
    drop(container.exec(&[b"sleep", b"1000"], stdio, true));
    drop(alive_end);
    // Its end comes only with the end of the process.
    assert_eq!(read_all(alive), b"");
}

#[test]
fn what_a_runtime_that_was_killed_left_is_in_nobodys_way() {
    let container = forever();
    let null = null();
    // runc's name for a pid file that it has not finished.
    std::fs::write(container.bundle().join(".exec-0.pid"), "").unwrap();
    let stdio = [null.as_fd(), null.as_fd(), null.as_fd()];
    let connection = container.exec(&[b"true"], stdio, false);
    started(&connection);
    assert_eq!(exited(&connection), (0, 0));
    assert_eq!(
        container.leftovers(),
        ["conmon.sock", "pidfile", "runtime.log"]
    );
}

#[test]
fn an_exec_with_a_terminal_gets_the_ptys_master() {
    let container = forever();
    let connection = container.connect();
    connection.send(&Request::Exec(Exec {
        exec_args: List::new(&[b"--env", b"WORD=hello"]),
        argv: List::new(&[
            b"sh",
            b"-c",
            b"echo $WORD; stty size; read x; echo got $x; exit 9",
        ]),
        terminal: true,
        kill_on_hangup: false,
    }));
    let (packet, mut fds) = connection.receive();
    assert!(matches!(
        Reply::decode(&packet),
        Ok(Reply::ExecStarted { .. })
    ));
    let mut master = std::fs::File::from(fds.remove(0));
    assert!(fds.is_empty());
    master.write_all(b"you\n").unwrap();
    let mut seen = Vec::new();
    let mut byte = [0];
    // A master says EIO at the end.
    while let Ok(1) = master.read(&mut byte) {
        seen.push(byte[0]);
    }
    let seen = String::from_utf8_lossy(&seen);
    assert!(
        seen.contains("hello\r\n") && seen.contains("got you\r\n"),
        "{seen}"
    );
    assert_eq!(exited(&connection), (9, 0));
    assert_eq!(
        container.leftovers(),
        ["conmon.sock", "pidfile", "runtime.log"]
    );
}

#[test]
fn an_exec_with_the_wrong_descriptors_is_refused() {
    let container = forever();
    let null = null();
    for (terminal, count) in [(false, 0), (false, 2), (true, 1), (true, 3)] {
        let connection = container.connect();
        let request = Request::Exec(Exec {
            exec_args: List::EMPTY,
            argv: List::new(&[b"true"]),
            terminal,
            kill_on_hangup: false,
        });
        connection.send_with(&request, &vec![null.as_fd(); count]);
        let (packet, _) = connection.receive();
        assert!(
            matches!(
                Reply::decode(&packet),
                Ok(Reply::Failed {
                    step: Step::Request,
                    ..
                })
            ),
            "{count} descriptors, terminal {terminal}"
        );
    }
}

#[test]
fn a_long_command_line_arrives_whole() {
    let container = forever();
    let null = null();
    let (stdout, stdout_end) = pipe().unwrap();
    let long = vec![b'x'; 100_000];
    let argv: [&[u8]; 5] = [b"sh", b"-c", b"echo ${#1}", b"sh", &long];
    let stdio = [null.as_fd(), stdout_end.as_fd(), null.as_fd()];
    let connection = container.exec(&argv, stdio, false);
    drop(stdout_end);
    started(&connection);
    assert_eq!(read_all(stdout), b"100000\n");
    assert_eq!(exited(&connection), (0, 0));
}

#[test]
fn an_exec_sees_the_end_of_its_container() {
    let container = forever();
    let null = null();
    let stdio = [null.as_fd(), null.as_fd(), null.as_fd()];
    let connection = container.exec(&[b"sleep", b"1000"], stdio, false);
    let pid = started(&connection);
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    container.runc(&["kill", &container.id, "KILL"]);
    // The kernel ends all processes of the PID namespace with its first.
    assert_eq!(exited(&connection), (137, 9));
    assert_eq!(container.wait().signal, 9);
}

#[test]
fn an_exec_in_a_container_that_was_not_started_is_answered() {
    let container = Container::create(&Wanted::script("exit 0"));
    let null = null();
    let stdio = [null.as_fd(), null.as_fd(), null.as_fd()];
    let connection = container.exec(&[b"true"], stdio, false);
    started(&connection);
    assert_eq!(exited(&connection), (0, 0));
    let (packet, _) = container.call(&Request::Watch);
    let Ok(Reply::Status(status)) = Reply::decode(&packet) else {
        panic!()
    };
    assert_eq!(status.phase, Phase::Created);
}
