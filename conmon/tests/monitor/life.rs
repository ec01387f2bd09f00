//! From create to the exit record.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use conmon::{Phase, Reply, Request, Step};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::{Container, Wanted, describe, start_monitor};

#[test]
fn an_exit_code_is_recorded() {
    let mut container = Container::run(&Wanted::script("exit 42"));
    let status = container.wait();
    assert_eq!(
        (status.exit_code, status.signal, status.oom),
        (42, 0, false)
    );
    assert!(status.started_at_ns > 0);
    assert_eq!(container.monitor_exit_code(), Some(0));
    assert_eq!(container.leftovers(), ["exit"]);
}

#[test]
fn a_signal_is_recorded() {
    let container = Container::run(&Wanted::script("kill -KILL $$; exec sleep 1000"));
    // PID 1 of a namespace cannot kill itself.
    let (packet, _) = container.call(&Request::Watch);
    let Ok(Reply::Status(status)) = Reply::decode(&packet) else {
        panic!()
    };
    assert_eq!(status.phase, Phase::Running);
    kill(Pid::from_raw(status.pid), Signal::SIGKILL).unwrap();
    let status = container.wait();
    assert_eq!((status.exit_code, status.signal), (137, 9));
}

#[test]
fn a_container_that_dies_before_its_start_has_ended_all_the_same() {
    let container = Container::create(&Wanted::script("exit 0"));
    container.runc(&["kill", &container.id, "KILL"]);
    let status = container.wait();
    assert_eq!(
        (status.exit_code, status.signal, status.started_at_ns),
        (137, 9, 0)
    );
}

#[test]
fn each_watcher_sees_each_change() {
    // One that ends before its runtime has told of the start is never seen to run: it waits.
    let script = "while [ ! -e /tmp/go ]; do sleep 0.01; done";
    let container = Container::create(&Wanted::script(script));
    let watchers = [container.connect(), container.connect()];
    for watcher in &watchers {
        watcher.send(&Request::Watch);
        assert_eq!(watcher.status().phase, Phase::Created);
    }
    container.start();
    for watcher in &watchers {
        assert_eq!(watcher.status().phase, Phase::Running);
    }
    container.release();
    for watcher in &watchers {
        assert_eq!(watcher.status().phase, Phase::Exited);
        assert!(watcher.receive().0.is_empty(), "the monitor has ended");
    }
}

#[test]
fn starts_at_the_same_time_and_later_get_the_same_answer() {
    let container = Container::create(&Wanted::script("sleep 1000"));
    let starters = [
        container.connect(),
        container.connect(),
        container.connect(),
    ];
    for starter in &starters {
        starter.send(&Request::Start);
    }
    let answers: Vec<_> = starters.iter().map(|starter| starter.receive().0).collect();
    assert!(matches!(
        Reply::decode(&answers[0]),
        Ok(Reply::Started { .. })
    ));
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(container.call(&Request::Start).0, answers[0]);
}

/// A daemon that was killed asks again, perhaps when all that is missing is the runtime's own end.
#[test]
fn a_start_asked_again_after_the_containers_end_gets_the_first_ones_answer() {
    let scratch = TempDir::new().unwrap();
    let (slow, gate) = (scratch.path().join("slow"), scratch.path().join("gate"));
    let wait = format!(
        "#!/bin/sh\nrunc \"$@\" || exit\ncase \" $* \" in *' start '*)\n\
         while [ ! -e {} ]; do sleep 0.01; done;; esac\n",
        gate.display()
    );
    fs::write(&slow, wait).unwrap();
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let mut wanted = Wanted::script("exit 7");
    wanted.runtime = slow.to_str();
    let container = Container::create(&wanted);
    let pid: i32 = fs::read_to_string(container.scratch.join("bundle/pidfile"))
        .unwrap()
        .parse()
        .unwrap();
    let starters = [container.connect(), container.connect()];
    starters[0].send(&Request::Start);
    let until = Instant::now() + Duration::from_secs(60);
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < until, "it has not ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    starters[1].send(&Request::Start);
    fs::write(&gate, "").unwrap();
    for starter in &starters {
        let (packet, _) = starter.receive();
        let reply = Reply::decode(&packet);
        assert!(matches!(reply, Ok(Reply::Started { .. })), "{reply:?}");
    }
    let status = container.wait();
    assert_eq!(status.exit_code, 7);
    assert!(status.started_at_ns > 0);
}

#[test]
fn a_start_that_fails_says_why_and_the_monitor_stays() {
    let container = Container::create(&Wanted::script("exit 0"));
    // The runtime's state is gone: nothing that it could start.
    fs::rename(container.root(), container.scratch.join("elsewhere")).unwrap();
    let (packet, _) = container.call(&Request::Start);
    fs::rename(container.scratch.join("elsewhere"), container.root()).unwrap();
    match Reply::decode(&packet).unwrap() {
        Reply::Failed {
            step: Step::Start,
            runtime_exit_code: 1,
            message,
            ..
        } => {
            assert!(String::from_utf8_lossy(message).contains("does not exist"));
        }
        other => panic!("{}", describe(&other)),
    }
    container.start();
    assert_eq!(container.wait().exit_code, 0);
}

#[test]
fn a_container_killed_for_memory_is_known_as_such() {
    let script = "exec /bin/busybox awk 'BEGIN{x=\"xxxxxxxxxxxxxxxx\";while(1)x=x x}'";
    let mut wanted = Wanted::script(script);
    wanted.memory_limit = Some(32 << 20);
    let container = Container::run(&wanted);
    let status = container.wait();
    assert_eq!(
        (status.exit_code, status.signal, status.oom),
        (137, 9, true)
    );
}

fn failed_create(wanted: &Wanted<'_>, break_it: impl Fn(&Container)) -> (Container, Step, String) {
    let mut container = Container::prepare(wanted);
    break_it(&container);
    let packet = container.ask(wanted);
    let Ok(Reply::Failed { step, message, .. }) = Reply::decode(&packet) else {
        panic!("{:?}", Reply::decode(&packet))
    };
    let message = String::from_utf8(message.to_vec()).unwrap();
    assert!(
        container.daemon.receive().0.is_empty(),
        "the monitor has ended"
    );
    assert_eq!(container.monitor_exit_code(), Some(0));
    (container, step, message)
}

#[test]
fn a_missing_runtime_is_named_and_nothing_is_left() {
    let mut wanted = Wanted::script("exit 0");
    wanted.runtime = Some("/nowhere/runc");
    let (container, step, message) = failed_create(&wanted, |_| {});
    assert_eq!(step, Step::Spawn);
    assert_eq!(message, "/nowhere/runc: no such file or directory");
    assert!(
        container.leftovers().is_empty(),
        "{:?}",
        container.leftovers()
    );
    assert!(!container.log().exists());
}

#[test]
fn a_broken_bundle_gives_the_runtimes_own_message_and_nothing_is_left() {
    let wanted = Wanted::script("exit 0");
    let (container, step, message) = failed_create(&wanted, |container| {
        fs::write(container.bundle().join("config.json"), "{").unwrap();
    });
    assert_eq!(step, Step::Create);
    assert!(
        message.contains("unexpected end of JSON input") || message.contains("EOF"),
        "{message}"
    );
    assert!(
        container.leftovers().is_empty(),
        "{:?}",
        container.leftovers()
    );
    assert!(!container.log().exists());
}

#[test]
fn a_missing_command_is_the_runtimes_message_and_not_in_the_log() {
    let wanted = Wanted::script("exit 0");
    let (container, step, message) = failed_create(&wanted, |container| {
        fs::write(container.log(), "").unwrap();
        fs::remove_file(container.bundle().join("rootfs/bin/sh")).unwrap();
    });
    assert_eq!(step, Step::Create);
    assert!(message.contains("/bin/sh"), "{message}");
    assert_eq!(
        fs::read(container.log()).unwrap(),
        b"",
        "a log that was there before stays"
    );
}

#[test]
fn a_log_that_cannot_be_opened_is_a_clear_failure_and_nothing_is_left() {
    let wanted = Wanted::script("exit 0");
    let in_the_way = |container: &Container| fs::create_dir(container.log()).unwrap();
    let (container, step, message) = failed_create(&wanted, in_the_way);
    assert_eq!(step, Step::Log);
    assert_eq!(
        message,
        format!("{}: is a directory", container.log().display())
    );
    assert!(container.leftovers().is_empty());

    let mut container = Container::prepare(&wanted);
    let packet = container.ask_with_log(&container.daemon, &wanted, "/nowhere/at/all/0.log");
    match Reply::decode(&packet).unwrap() {
        Reply::Failed {
            step: Step::Log,
            errno,
            message,
            ..
        } => {
            assert_eq!(errno, nix::libc::ENOENT);
            assert_eq!(message, b"/nowhere/at/all/0.log: no such file or directory");
        }
        other => panic!("{}", describe(&other)),
    }
    assert_eq!(container.monitor_exit_code(), Some(0));
    assert!(container.leftovers().is_empty());
}

#[test]
fn a_monitor_without_a_request_ends_quietly() {
    let mut container = Container::prepare(&Wanted::script("exit 0"));
    nix::sys::socket::shutdown(
        std::os::fd::AsRawFd::as_raw_fd(&container.daemon.0),
        nix::sys::socket::Shutdown::Both,
    )
    .unwrap();
    assert_eq!(container.monitor_exit_code(), Some(0));
    assert!(container.leftovers().is_empty());
}

#[test]
fn a_second_monitor_in_the_same_bundle_is_refused_and_does_no_harm() {
    let wanted = Wanted::script("exit 3");
    let container = Container::create(&wanted);
    let (mut monitor, daemon) = start_monitor(&container.bundle(), "second");
    let packet = container.ask_on(&daemon, &wanted);
    assert_eq!(monitor.wait().unwrap().code(), Some(0));
    match Reply::decode(&packet).unwrap() {
        Reply::Failed {
            step: Step::Stdio,
            errno,
            ..
        } => {
            assert_eq!(errno, nix::libc::EADDRINUSE);
        }
        other => panic!("{}", describe(&other)),
    }
    container.start();
    assert_eq!(container.wait().exit_code, 3);
}

#[test]
fn a_killed_daemon_costs_nothing() {
    let wanted = Wanted::script("while [ ! -e /tmp/go ]; do sleep 0.01; done; exit 7");
    let mut container = Container::by_another_daemon(&wanted);
    let connection = container.connect();
    connection.send(&Request::Watch);
    let before = connection.status();
    assert_eq!(before.phase, Phase::Running);
    container.kill_the_daemon();
    assert!(Path::new(&format!("/proc/{}", before.pid)).exists());
    // A new daemon finds the same container by the monitor's socket.
    let reconnected = container.connect();
    reconnected.send(&Request::Watch);
    assert_eq!(reconnected.status(), before);
    // It ends while no daemon is there at all.
    drop((connection, reconnected));
    container.release();
    container.wait_for_the_monitor();
    let record = container.exit_record();
    assert_eq!(
        (record.pid, record.exit_code, record.signal),
        (before.pid, 7, 0)
    );
    assert_eq!(record.started_at_ns, before.started_at_ns);
}
