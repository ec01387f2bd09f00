//! A bundle, a monitor on it, and whoever plays the daemon.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use conmon::{Create, Exec, ExitRecord, List, Phase, Reply, Request, Status};
use tempfile::TempDir;

pub use crate::bundle::Wanted;
use crate::bundle::make_bundle;
use crate::connection::pair;
pub use crate::connection::{Connection, describe};
pub use crate::records::{Record, joined, records};

/// A container with its monitor. Dropping it deletes the container and ends the monitor.
pub struct Container {
    pub id: String,
    pub scratch: PathBuf,
    /// Removes the scratch directory with it.
    _temporary: Option<TempDir>,
    pub monitor: Option<Child>,
    pub daemon: Connection,
    /// The process that plays the daemon, and the monitor that it started.
    other_daemon: Option<(Child, nix::unistd::Pid)>,
}

/// The monitor under test: another build of it where the variable says so, such as a release build
/// or one for another machine.
fn binary() -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_BIN_EXE_conmon"));
    std::env::var_os("CONMON_BINARY").map_or_else(default, PathBuf::from)
}

/// Starts a monitor in a bundle directory.
pub fn start_monitor(bundle: &Path, id: &str) -> (Child, Connection) {
    let (ours, theirs) = pair();
    let monitor = Command::new(binary())
        .arg(id)
        .current_dir(bundle)
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let daemon = Connection(ours);
    daemon.set_deadline();
    (monitor, daemon)
}

/// Where [`plays_the_daemon`] finds the scratch directory, and the container's id.
const DAEMON_SCRATCH: &str = "CONMON_TEST_SCRATCH";
const DAEMON_ID: &str = "CONMON_TEST_ID";

/// Not a test, but the process that [`Container::by_another_daemon`] starts to be killed.
#[test]
#[ignore = "run by another test as a process of its own"]
fn plays_the_daemon() {
    let scratch = PathBuf::from(std::env::var_os(DAEMON_SCRATCH).unwrap());
    let id = std::env::var(DAEMON_ID).unwrap();
    let (monitor, daemon) = start_monitor(&scratch.join("bundle"), &id);
    let monitor_pid = monitor.id();
    let monitor = Some(monitor);
    let container = Container {
        id,
        scratch,
        _temporary: None,
        monitor,
        daemon,
        other_daemon: None,
    };
    let packet = container.ask(&Wanted::script(""));
    assert!(matches!(Reply::decode(&packet), Ok(Reply::Created { .. })));
    container.start();
    println!("\nmonitor {monitor_pid}");
    // Held until the kill: nothing of this process is dropped.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    std::mem::forget(container);
}

impl Container {
    /// Makes the bundle and starts the monitor, without a request yet.
    pub fn prepare(wanted: &Wanted<'_>) -> Self {
        let temporary = TempDir::new().unwrap();
        let scratch = temporary.path().to_owned();
        let id = fresh_id();
        make_bundle(&scratch.join("bundle"), &id, wanted);
        let (monitor, daemon) = start_monitor(&scratch.join("bundle"), &id);
        let monitor = Some(monitor);
        Self {
            id,
            scratch,
            _temporary: Some(temporary),
            monitor,
            daemon,
            other_daemon: None,
        }
    }

    /// A started container whose daemon is another process.
    pub fn by_another_daemon(wanted: &Wanted<'_>) -> Self {
        // So the orphaned monitor becomes a child of this process, which can wait for its end.
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let temporary = TempDir::new().unwrap();
        let scratch = temporary.path().to_owned();
        let id = fresh_id();
        make_bundle(&scratch.join("bundle"), &id, wanted);
        let mut daemon = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "harness::plays_the_daemon",
                "--ignored",
                "--nocapture",
            ])
            .env(DAEMON_SCRATCH, &scratch)
            .env(DAEMON_ID, &id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
        let monitor = lines.find_map(|line| line.unwrap().strip_prefix("monitor ")?.parse().ok());
        let (unused, _) = pair();
        Self {
            id,
            scratch,
            _temporary: Some(temporary),
            monitor: None,
            daemon: Connection(unused),
            other_daemon: Some((daemon, nix::unistd::Pid::from_raw(monitor.unwrap()))),
        }
    }

    pub fn kill_the_daemon(&mut self) {
        let (daemon, _) = self.other_daemon.as_mut().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Waits for the end of the monitor whose daemon was killed.
    pub fn wait_for_the_monitor(&self) {
        let (_, monitor) = self.other_daemon.as_ref().unwrap();
        let end = nix::sys::wait::waitpid(*monitor, None).unwrap();
        assert_eq!(end, nix::sys::wait::WaitStatus::Exited(*monitor, 0));
    }

    /// Asks for the container.
    pub fn ask(&self, wanted: &Wanted<'_>) -> Vec<u8> {
        self.ask_on(&self.daemon, wanted)
    }

    pub fn ask_on(&self, daemon: &Connection, wanted: &Wanted<'_>) -> Vec<u8> {
        let log = if wanted.log {
            self.log()
        } else {
            PathBuf::new()
        };
        self.ask_with_log(daemon, wanted, log.to_str().unwrap())
    }

    pub fn ask_with_log(&self, daemon: &Connection, wanted: &Wanted<'_>, log: &str) -> Vec<u8> {
        let root = self.root();
        daemon.send(&Request::Create(Create {
            runtime: wanted.runtime.unwrap_or("/usr/sbin/runc").as_bytes(),
            global_args: List::new(&[b"--root", root.as_os_str().as_encoded_bytes()]),
            container_id: self.id.as_bytes(),
            create_args: List::new(&[b"--no-new-keyring"]),
            log_path: log.as_bytes(),
            terminal: wanted.terminal,
            stdin: wanted.stdin,
            stdin_once: wanted.stdin_once,
        }));
        daemon.receive().0
    }

    /// A created container.
    pub fn create(wanted: &Wanted<'_>) -> Self {
        let container = Self::prepare(wanted);
        let packet = container.ask(wanted);
        match Reply::decode(&packet).unwrap() {
            Reply::Created { pid } => assert!(pid > 1),
            other => panic!("{}", describe(&other)),
        }
        assert_eq!(container.daemon.status().phase, Phase::Created);
        container
    }

    /// A started container.
    pub fn run(wanted: &Wanted<'_>) -> Self {
        let container = Self::create(wanted);
        container.start();
        container
    }

    pub fn start(&self) {
        let (packet, _) = self.call(&Request::Start);
        match Reply::decode(&packet).unwrap() {
            Reply::Started { started_at_ns } => assert!(started_at_ns > 0),
            other => panic!("{}", describe(&other)),
        }
    }

    /// Waits for the end on the daemon's connection; checks the record against the status.
    pub fn wait(&self) -> Status {
        loop {
            let status = self.daemon.status();
            if status.phase == Phase::Exited {
                let record = self.exit_record();
                assert_eq!(record.pid, status.pid);
                assert_eq!(
                    (record.exit_code, record.signal),
                    (status.exit_code, status.signal)
                );
                assert_eq!(record.oom, status.oom);
                assert_eq!(record.started_at_ns, status.started_at_ns);
                assert_eq!(record.finished_at_ns, status.finished_at_ns);
                assert!(record.started_at_ns <= record.finished_at_ns);
                return status;
            }
        }
    }

    pub fn exit_record(&self) -> ExitRecord {
        ExitRecord::parse(&fs::read(self.bundle().join(conmon::EXIT_RECORD)).unwrap()).unwrap()
    }

    pub fn connect(&self) -> Connection {
        Connection::to(&self.bundle().join(conmon::SOCKET_NAME))
    }

    /// One request on a connection of its own, and its first answer.
    pub fn call(&self, request: &Request<'_>) -> (Vec<u8>, Vec<OwnedFd>) {
        let connection = self.connect();
        connection.send(request);
        connection.receive()
    }

    pub fn exec(&self, argv: &[&[u8]], stdio: [BorrowedFd<'_>; 3], kill: bool) -> Connection {
        let connection = self.connect();
        let request = Request::Exec(Exec {
            exec_args: List::EMPTY,
            argv: List::new(argv),
            terminal: false,
            kill_on_hangup: kill,
        });
        connection.send_with(&request, &stdio);
        connection
    }

    /// Makes the file that a script waits for.
    pub fn release(&self) {
        fs::write(self.bundle().join("rootfs/tmp/go"), "").unwrap();
    }

    pub fn bundle(&self) -> PathBuf {
        self.scratch.join("bundle")
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.join("runc")
    }

    pub fn log(&self) -> PathBuf {
        self.scratch.join("0.log")
    }

    pub fn records(&self) -> Vec<Record> {
        records(&self.log())
    }

    pub fn runc(&self, arguments: &[&str]) -> Output {
        Command::new("/usr/sbin/runc")
            .arg("--root")
            .arg(self.root())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Waits for the monitor's own end.
    pub fn monitor_exit_code(&mut self) -> Option<i32> {
        self.monitor.as_mut().unwrap().wait().unwrap().code()
    }

    /// What the bundle directory holds beyond what the test put there.
    pub fn leftovers(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.bundle())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "config.json" && name != "rootfs")
            .collect();
        names.sort();
        names
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.runc(&["delete", "--force", &self.id]);
        if let Some((daemon, _)) = &mut self.other_daemon {
            // The test may have killed it.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if let Some(monitor) = &mut self.monitor {
            // It may have ended by itself, as it should.
            let _ = monitor.kill();
            let _ = monitor.wait();
        }
    }
}

fn fresh_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("cricket-conmon-test-{}-{count}", std::process::id())
}
