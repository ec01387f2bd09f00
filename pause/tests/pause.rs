//! pause as the first process of a PID namespace.
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test may panic as the test itself"
)]

use std::fs;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// unshare(1) with pause as PID 1 of a namespace of its own; returns pause's pid outside, too.
fn in_a_namespace() -> (Child, Pid) {
    let unshare = Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            env!("CARGO_BIN_EXE_pause"),
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let pause = loop {
        let pid = fs::read_to_string(&children).unwrap();
        let pid = pid.trim();
        if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pause\n")
            && sleeps(pid)
        {
            break Pid::from_raw(pid.parse().unwrap());
        }
        std::thread::yield_now();
    };
    (unshare, pause)
}

/// Whether it has come as far as waiting for a signal; before that nothing makes it sleep.
fn sleeps(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line == "State:\tS (sleeping)")
}

#[test]
fn it_ends_with_code_0_on_sigterm_and_sigint() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut unshare, pause) = in_a_namespace();
        kill(pause, signal).unwrap();
        assert_eq!(unshare.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn it_outlives_other_signals_and_takes_orphans() {
    let (mut unshare, pause) = in_a_namespace();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGPIPE,
        Signal::SIGCHLD,
    ] {
        kill(pause, signal).unwrap();
    }
    // A shell in the namespace leaves a hundred orphans that end at once.
    let script = "for i in $(seq 100); do (true &) ; done";
    let entered = Command::new("nsenter")
        .args([&format!("--pid=/proc/{pause}/ns/pid"), "sh", "-c", script])
        .status()
        .unwrap();
    assert!(entered.success());
    // Each is reaped at some time; the last one by then.
    let children = format!("/proc/{pause}/task/{pause}/children");
    while !fs::read_to_string(&children).unwrap().is_empty() {
        std::thread::yield_now();
    }
    kill(pause, Signal::SIGTERM).unwrap();
    assert_eq!(unshare.wait().unwrap().code(), Some(0));
}
