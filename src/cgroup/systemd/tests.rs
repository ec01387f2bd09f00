//! The client against a bus of the test's own, which is slow, refuses, hangs up or lies as told; the
//! real systemd is asked in the virtual machine (tests/node).

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use super::message::HEAD;
use super::*;
use crate::cgroup::{Cgroups, Controllers, Manager, Version};

/// What the fake does with the next call of the daemon's.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Answers with a job and ends it with this result.
    Job(&'static str),
    /// Answers with a job and says nothing more.
    JobForEver,
    /// Answers with a job; somebody else says it has ended, then systemd says `failed`.
    LiesOfOthers,
    /// Refuses with this name.
    Refuse(&'static str),
    /// Takes the call and hangs up.
    HangUp,
    /// Says nothing.
    Nothing,
    /// Sends what is no message.
    Rubbish,
    /// Answers without a job.
    Done,
}

/// A bus with systemd on it: the calls it got, by member and first argument.
struct Fake {
    dir: tempfile::TempDir,
    calls: mpsc::Receiver<(String, String)>,
}

impl Fake {
    /// Serves connections one after the other; each call takes the next of `deeds`, the last for ever.
    fn new(deeds: &[Does]) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("bus")).unwrap();
        let (told, calls) = mpsc::channel();
        let deeds = Mutex::new(VecDeque::from(deeds.to_vec()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // It ends when the client hangs up, or as told.
                drop(serve(stream, &deeds, &told));
            }
        });
        Fake { dir, calls }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("bus")
    }

    fn systemd(&self, patience: Duration) -> Systemd {
        let endpoint = Endpoint {
            socket: self.socket(),
            is_bus: true,
        };
        Systemd::at(vec![endpoint], patience)
    }

    /// The calls so far, without those that introduce a connection.
    fn called(&self) -> Vec<(String, String)> {
        let all = self.calls.try_iter();
        all.filter(|(member, _)| !matches!(member.as_str(), "Hello" | "AddMatch" | "Subscribe"))
            .collect()
    }
}

fn serve(
    mut stream: UnixStream,
    deeds: &Mutex<VecDeque<Does>>,
    told: &mpsc::Sender<(String, String)>,
) -> std::io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    assert!(line.starts_with(b"\0AUTH EXTERNAL "), "{line:?}");
    stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?;
    let mut begin = [0; 7];
    stream.read_exact(&mut begin)?;
    assert_eq!(&begin, b"BEGIN\r\n");
    let mut jobs = 0;
    loop {
        let mut message = vec![0; HEAD];
        stream.read_exact(&mut message)?;
        let length = message::length(message[..].try_into().unwrap()).unwrap();
        message.resize(length, 0);
        stream.read_exact(&mut message[HEAD..])?;
        let (serial, member, argument) = message::asked(&message);
        told.send((member.clone(), argument)).unwrap();
        if matches!(member.as_str(), "Hello" | "AddMatch" | "Subscribe") {
            stream.write_all(&message::reply(serial, "org.freedesktop.DBus", None))?;
            continue;
        }
        let deed = {
            let mut deeds = deeds.lock().unwrap_or_else(PoisonError::into_inner);
            let next = deeds.front().copied().unwrap_or(Does::Nothing);
            if deeds.len() > 1 {
                deeds.pop_front();
            }
            next
        };
        jobs += 1;
        let job = format!("/org/freedesktop/systemd1/job/{jobs}");
        let answer = message::reply(serial, ":1.1", Some(&job));
        match deed {
            Does::Job(result) => {
                stream.write_all(&answer)?;
                stream.write_all(&message::job_removed(":1.1", &job, result))?;
            }
            Does::JobForEver => stream.write_all(&answer)?,
            Does::LiesOfOthers => {
                stream.write_all(&answer)?;
                stream.write_all(&message::job_removed(":1.66", &job, "done"))?;
                stream.write_all(&message::job_removed(":1.1", &job, "failed"))?;
            }
            Does::Refuse(name) => stream.write_all(&message::refusal(serial, name, "no, sorry"))?,
            Does::HangUp => return Ok(()),
            Does::Nothing => {}
            Does::Rubbish => stream.write_all(&[0xff; 64])?,
            Does::Done => stream.write_all(&message::reply(serial, ":1.1", None))?,
        }
    }
}

/// Longer than anything here needs.
const LONG: Duration = Duration::from_secs(60);
/// So short that a test need not wait, for what never comes.
const SHORT: Duration = Duration::from_millis(300);

/// A scope for a process that is in none of that name.
const SCOPE: Scope<'static> = Scope {
    unit: "crio-conmon-ab.scope",
    slice: "system.slice",
    pid: 1,
};

#[tokio::test]
async fn a_scope_is_there_when_its_job_has_ended() {
    let fake = Fake::new(&[Does::Job("done")]);
    let systemd = fake.systemd(LONG);
    let all = (0..100).map(|_| systemd.start_scope(SCOPE));
    for outcome in futures_util::future::join_all(all).await {
        outcome.unwrap();
    }
    let call = ("StartTransientUnit".to_owned(), SCOPE.unit.to_owned());
    assert_eq!(fake.called(), vec![call; 100]);
}

#[tokio::test]
async fn a_connection_is_shared_and_made_anew_after_it_broke() {
    let fake = Fake::new(&[Does::HangUp, Does::Job("done")]);
    let systemd = fake.systemd(LONG);
    systemd.start_scope(SCOPE).await.unwrap();
    systemd.start_scope(SCOPE).await.unwrap();
    let hellos = fake
        .calls
        .try_iter()
        .filter(|(member, _)| member == "Hello");
    assert_eq!(
        hellos.count(),
        2,
        "one for each connection, none for a call"
    );
}

#[tokio::test]
async fn what_systemd_says_is_in_the_error_with_the_units_name() {
    let table = [
        (Does::Job("timeout"), "ended as \"timeout\""),
        (Does::LiesOfOthers, "ended as \"failed\""),
        (
            Does::Refuse("org.freedesktop.DBus.Error.InvalidArgs"),
            "no, sorry",
        ),
        (
            Does::JobForEver,
            "its job /org/freedesktop/systemd1/job/1 goes on",
        ),
        (Does::Nothing, "it has not answered"),
        (Does::HangUp, "hung up"),
        (Does::Rubbish, "a message of another byte order"),
        (
            Does::Refuse("org.freedesktop.systemd1.UnitExists"),
            "UnitExists",
        ),
    ];
    for (deed, wanted) in table {
        let fake = Fake::new(&[deed]);
        let patience = match deed {
            Does::Job(_) | Does::LiesOfOthers => LONG,
            Does::Refuse(name) if name != EXISTS => LONG,
            _ => SHORT,
        };
        let error = fake.systemd(patience).start_scope(SCOPE).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(wanted), "{deed:?}: {text}");
        assert!(
            text.contains("start unit crio-conmon-ab.scope"),
            "{deed:?}: {text}"
        );
    }
}

#[tokio::test]
async fn a_failed_unit_of_the_same_name_is_forgotten_first() {
    let fake = Fake::new(&[Does::Refuse(EXISTS), Does::Done, Does::Job("done")]);
    fake.systemd(LONG).start_scope(SCOPE).await.unwrap();
    let members: Vec<String> = fake.called().into_iter().map(|call| call.0).collect();
    let wanted = [
        "StartTransientUnit",
        "ResetFailedUnit",
        "StartTransientUnit",
    ];
    assert_eq!(members, wanted);
}

#[tokio::test]
async fn while_systemd_is_not_on_its_bus_a_call_is_made_again() {
    let deeds = AWAY
        .map(Does::Refuse)
        .into_iter()
        .chain([Does::Job("done")]);
    let fake = Fake::new(&deeds.collect::<Vec<_>>());
    fake.systemd(LONG).start_scope(SCOPE).await.unwrap();
    assert_eq!(fake.called().len(), AWAY.len() + 1);
}

#[tokio::test]
async fn an_outcome_counts_also_when_nobody_tells_of_the_jobs_end() {
    let fake = Fake::new(&[Does::JobForEver]);
    let systemd = fake.systemd(LONG);
    systemd.start_slice("a.slice", &|| true).await.unwrap();
    // A process that is where it should be; that of this test has a cgroup with a name on most hosts.
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    for line in own.lines() {
        let name = line.rsplit('/').next().unwrap();
        assert!(name.is_empty() || is_in(std::process::id(), name), "{line}");
    }
    assert!(!is_in(std::process::id(), "crio-conmon-ab.scope"));
}

#[tokio::test]
async fn a_slow_unit_does_not_hold_up_another() {
    let fake = Fake::new(&[Does::JobForEver, Does::Job("done")]);
    let systemd = fake.systemd(LONG);
    let slow = systemd.start_scope(SCOPE);
    tokio::pin!(slow);
    // Ordered: the first is on its way before the second is asked for.
    tokio::select! {
        biased;
        outcome = &mut slow => panic!("{outcome:?}"),
        () = tokio::task::yield_now() => {}
    }
    let second = Scope {
        unit: "crio-conmon-cd.scope",
        ..SCOPE
    };
    tokio::select! {
        outcome = slow => panic!("{outcome:?}"),
        outcome = systemd.start_scope(second) => outcome.unwrap(),
    }
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_asked_for() {
    let fake = Fake::new(&[Does::Done]);
    let systemd = fake.systemd(LONG);
    // Its order waits for the connection, which is made when this test waits.
    tokio::select! {
        biased;
        outcome = systemd.start_scope(SCOPE) => panic!("{outcome:?}"),
        () = std::future::ready(()) => {}
    }
    systemd.forget("crio-ab.scope").await.unwrap();
    let call = ("ResetFailedUnit".to_owned(), "crio-ab.scope".to_owned());
    assert_eq!(fake.called(), [call]);
}

#[tokio::test]
async fn a_monitor_outside_its_scope_is_moved_into_it_and_no_other() {
    let fake = Fake::new(&[Does::Job("done")]);
    let cgroups = |manager| Cgroups {
        version: Version::V2,
        manager,
        hierarchies: Vec::new(),
        controllers: Controllers::default(),
        mark: String::new(),
        systemd: fake.systemd(LONG),
    };
    let own = std::process::id();
    let systemd = cgroups(Manager::Systemd);
    assert!(systemd.misses_scope(own, "ab"));
    systemd.scope_monitor(own, "ab", "", "").await.unwrap();
    let call = ("StartTransientUnit".to_owned(), SCOPE.unit.to_owned());
    assert_eq!(fake.called(), [call]);
    // It has ended, or its id is none.
    assert!(!systemd.misses_scope(u32::MAX, "ab"));
    assert!(!systemd.misses_scope(own, "../ab"));
    // What the pod was made with counts.
    let cgroupfs = cgroups(Manager::Cgroupfs);
    for (parent, is_scoped) in [("", false), ("/a/b", false), ("/a.slice", true)] {
        assert_eq!(cgroupfs.uses_scopes(parent), is_scoped, "{parent:?}");
    }
    assert!(systemd.uses_scopes("") && !systemd.uses_scopes("/a/b"));
}

#[test]
fn a_process_is_in_the_scope_that_one_of_its_cgroups_is_named_after() {
    let scope = "crio-conmon-ab.scope";
    for (text, expected) in [
        ("0::/system.slice/crio-conmon-ab.scope\n", true),
        (
            "4:cpu:/\n1:name=systemd:/system.slice/crio-conmon-ab.scope\n",
            true,
        ),
        ("0::/system.slice/cricket.service\n", false),
        ("0::/system.slice/crio-conmon-abc.scope\n", false),
    ] {
        assert_eq!(names(text, scope), expected, "{text}");
    }
}

#[tokio::test]
async fn nobody_to_connect_to_is_told_at_once_with_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none");
    let endpoint = |is_bus| Endpoint {
        socket: socket.clone(),
        is_bus,
    };
    let systemd = Systemd::at(vec![endpoint(true), endpoint(false)], LONG);
    let text = systemd.start_scope(SCOPE).await.unwrap_err().to_string();
    for part in [socket.to_str().unwrap(), "connect", "dbus.service"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn systemds_own_socket_is_used_where_there_is_no_bus() {
    let fake = Fake::new(&[Does::Job("done")]);
    let nobody = Endpoint {
        socket: fake.dir.path().join("none"),
        is_bus: true,
    };
    let own = Endpoint {
        socket: fake.socket(),
        is_bus: false,
    };
    let systemd = Systemd::at(vec![nobody, own], LONG);
    systemd.start_scope(SCOPE).await.unwrap();
    let members: Vec<String> = fake.calls.try_iter().map(|call| call.0).collect();
    assert_eq!(members, ["Subscribe", "StartTransientUnit"]);
}

#[tokio::test]
async fn a_unit_that_is_not_there_is_forgotten_already() {
    let fake = Fake::new(&[Does::Refuse(NO_UNIT), Does::Done]);
    let systemd = fake.systemd(LONG);
    systemd.forget("crio-ab.scope").await.unwrap();
    systemd.forget("crio-ab.scope").await.unwrap();
    assert_eq!(fake.called().len(), 2);
}

#[tokio::test]
async fn an_unused_connection_is_closed() {
    let fake = Fake::new(&[Does::Done]);
    let mut systemd = fake.systemd(LONG);
    let endpoints = systemd.bus.endpoints();
    systemd.bus = Bus::new(endpoints, Duration::from_millis(10));
    for _ in 0..2 {
        systemd.forget("crio-ab.scope").await.unwrap();
        while systemd.bus.is_connected() {
            sleep(Duration::from_millis(10)).await;
        }
    }
    let hellos = fake
        .calls
        .try_iter()
        .filter(|(member, _)| member == "Hello");
    assert_eq!(hellos.count(), 2);
}
