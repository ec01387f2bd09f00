//! Creating the container.

use core::ffi::CStr;

use conmon::memory_cgroup::{Hierarchy, MAX_PATH, counter_path};
use conmon::{Create, MAX_MESSAGE, Reply, Request, Step, Stream};
use nostd_sys::{
    Access, Errno, Pid, Signal, SocketKind, Stdio, WaitStatus, bind, kill, listen, map, open,
    set_umask,
};

use super::clients::{CREATOR, Place, Role};
use super::console::Console;
use super::failure::{Failure, Subject};
use super::memory::Memory;
use super::text::Text;
use super::{Life, Monitor, runtime};

/// The names of the library as the system calls want them; the assertions below keep them the same.
pub(super) const SOCKET: &CStr = c"conmon.sock";
pub(super) const PID_FILE: &CStr = c"pidfile";
pub(super) const RUNTIME_LOG: &CStr = c"runtime.log";
const CONSOLE: &CStr = c"console.sock";

const _: () = {
    assert!(is_same(SOCKET, conmon::SOCKET_NAME));
    assert!(is_same(PID_FILE, conmon::PID_FILE));
    assert!(is_same(RUNTIME_LOG, conmon::RUNTIME_LOG));
};

pub(super) const fn is_same(c_string: &CStr, text: &str) -> bool {
    let (left, right) = (c_string.to_bytes(), text.as_bytes());
    let mut index = 0;
    while index < left.len() && index < right.len() && left[index] == right[index] {
        index += 1;
    }
    index == left.len() && index == right.len()
}

impl Monitor {
    /// Begins to create the container; the end of the runtime's process goes on with it.
    pub(super) fn create(&mut self, index: Place, packet: &[u8]) -> Result<(), Failure> {
        if !matches!(self.life, Life::Awaited) {
            let why = "the container is being created already";
            return Err(Failure::refused(Step::Phase, why));
        }
        debug_assert_eq!(index, CREATOR);
        let create = keep(packet)?;
        self.runtime.learn(&create);
        self.has_stdin = create.stdin;
        match self.prepare(&create) {
            Ok(runtime) => {
                self.life = Life::Creating {
                    runtime,
                    early_end: None,
                };
                Ok(())
            }
            Err(failure) => {
                self.undo_create();
                Err(failure)
            }
        }
    }

    fn prepare(&mut self, create: &Create<'static>) -> Result<Pid, Failure> {
        self.log.open(create.log_path)?;
        // Before the runtime runs, so that a second monitor in the same directory does no harm;
        // its file is nobody's but root's from the first moment.
        let umask = set_umask(0o177);
        let socket = bind(SocketKind::SeqPacket, SOCKET);
        set_umask(umask);
        self.listener = Some(socket.map_err(|e| stdio_failure(SOCKET, e))?);
        if create.terminal {
            self.console = Console::listen(CONSOLE).map_err(|e| stdio_failure(CONSOLE, e))?;
            let log = runtime::open_log(RUNTIME_LOG)?;
            self.command_line(create);
            let (stdin, stdout) = (&self.null, &self.null);
            return self.runtime.spawn(Stdio {
                stdin,
                stdout,
                stderr: &log,
            });
        }
        let ends = self
            .stdio
            .make_pipes(create)
            .map_err(|e| stdio_failure(c"pipe", e))?;
        self.command_line(create);
        self.runtime.spawn(ends.stdio(&self.null))
    }

    fn command_line(&mut self, create: &Create<'_>) {
        let command = self.runtime.begin(RUNTIME_LOG, "create");
        command
            .arg("--bundle")
            .arg(".")
            .arg("--pid-file")
            .path(PID_FILE);
        if create.terminal {
            command.arg("--console-socket").path(CONSOLE);
        }
        command.args(&create.create_args).container();
    }

    /// Keeps the end of what comes from the container's pipes while there is no container: it is
    /// the runtime that writes.
    pub(super) fn runtime_speaks(&mut self, stream: Stream) -> bool {
        let Some(count) = self.stdio.read(stream, self.buffers.output) else {
            return false;
        };
        if stream == Stream::Stderr {
            if self.said + count > self.buffers.records.len() {
                let keep = self.said.min(MAX_MESSAGE);
                self.buffers
                    .records
                    .copy_within(self.said - keep..self.said, 0);
                self.said = keep;
            }
            if let Some(room) = self.buffers.records.get_mut(self.said..self.said + count) {
                room.copy_from_slice(self.buffers.output.get(..count).unwrap_or_default());
                self.said += count;
            }
        }
        true
    }

    /// The runtime that was to create the container has ended.
    pub(super) fn created(&mut self, status: WaitStatus) {
        let Life::Creating { early_end, .. } = self.life else {
            return;
        };
        // Not more than a pipe can hold: nobody else writes to it yet.
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.runtime_speaks(stream) {}
        }
        let result = if status.is_success() {
            self.take_over()
        } else {
            let (said, buffers) = (self.said, &mut self.buffers);
            Err(runtime::failure(
                Step::Create,
                status,
                RUNTIME_LOG,
                said,
                buffers,
            ))
        };
        match result {
            Ok(pid) => {
                runtime::remove([CONSOLE]);
                self.life = Life::Created { pid };
                self.clients.set_role(CREATOR, Role::Watch);
                self.reply(CREATOR, &Reply::Created { pid: pid.number() });
                self.reply(CREATOR, &Reply::Status(self.status()));
                if let Some((_, status)) = early_end.filter(|(ended, _)| *ended == pid) {
                    self.init_ended(status);
                }
            }
            Err(failure) => {
                self.undo_create();
                self.life = Life::Awaited;
                // With its connection the monitor ends.
                self.fail(CREATOR, &failure);
            }
        }
    }

    /// Takes over what the runtime has made. If that fails there is a container that nobody knows
    /// of: its init is killed, and the daemon deletes it by its id.
    fn take_over(&mut self) -> Result<Pid, Failure> {
        let pid = runtime::read_pid(PID_FILE)
            .map_err(|errno| Failure::file(Step::Create, PID_FILE, errno))?;
        self.complete(pid).inspect_err(|_| {
            // It may have ended by itself.
            let _ = kill(pid, Signal::Kill);
        })?;
        Ok(pid)
    }

    fn complete(&mut self, pid: Pid) -> Result<(), Failure> {
        self.console.advance();
        match core::mem::replace(&mut self.console, Console::None) {
            Console::None if self.stdio.has_output() => {}
            console => {
                let Some(master) = console.into_master() else {
                    let why = "the runtime did not hand over the terminal: is process.terminal \
                               set in config.json?";
                    return Err(Failure::refused(Step::Stdio, why));
                };
                self.stdio
                    .take_master(master, self.has_stdin)
                    .map_err(|e| stdio_failure(CONSOLE, e))?;
            }
        }
        self.memory = self.open_oom_counter(pid).unwrap_or(Memory::UNKNOWN);
        match self.listener.as_ref().map(listen) {
            Some(Err(errno)) => Err(stdio_failure(SOCKET, errno)),
            _ => Ok(()),
        }
    }

    /// Opens the counter of out-of-memory kills of the container's cgroup.
    fn open_oom_counter(&mut self, pid: Pid) -> Option<Memory> {
        let proc: Text<32> = Text::of(format_args!("/proc/{}/cgroup", pid.number()));
        let file = open(proc.as_path(), Access::Read).ok()?;
        let (text, rest) = self.buffers.output.split_at_mut_checked(MAX_PATH * 4)?;
        let text = file.read_start(text).ok()?;
        let path = rest.first_chunk_mut::<MAX_PATH>()?;
        [Hierarchy::V2, Hierarchy::V1]
            .into_iter()
            .find_map(|hierarchy| {
                let length = counter_path(text, hierarchy, path)?;
                let path = CStr::from_bytes_with_nul(path.get(..length)?).ok()?;
                let counter = open(path, Access::Read).ok()?;
                Some(Memory::counted_by(counter, hierarchy == Hierarchy::V2))
            })
    }

    fn undo_create(&mut self) {
        // A socket that could not be bound is another monitor's.
        if self.listener.take().is_some() {
            runtime::remove([SOCKET, CONSOLE, PID_FILE, RUNTIME_LOG]);
        }
        self.log.undo();
    }
}

fn stdio_failure(path: &CStr, errno: Errno) -> Failure {
    Failure::file(Step::Stdio, path, errno)
}

/// Keeps the request for as long as the monitor lives: each later call of the runtime begins with
/// parts of it.
fn keep(packet: &[u8]) -> Result<Create<'static>, Failure> {
    const MEMORY: Subject = Subject::Fixed("memory for the request");
    let kept = map(packet.len()).map_err(|errno| Failure::system(Step::Request, MEMORY, errno))?;
    kept.copy_from_slice(packet);
    match Request::decode(kept) {
        Ok(Request::Create(create)) => Ok(create),
        Ok(_) => Err(Failure::refused(
            Step::Request,
            "this is no request to create",
        )),
        Err(error) => Err(Failure::packet(error)),
    }
}
