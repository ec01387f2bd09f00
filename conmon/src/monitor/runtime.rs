//! The external runtime: its command line, its process, what it leaves.

use core::ffi::CStr;

use conmon::{Create, List, MAX_PACKET, MAX_STRINGS, Step};
use nostd_sys::{
    Access, Arguments, Argv, Errno, Fd, Pid, Spawner, Stdio, WaitStatus, metadata_of, open, unlink,
};

use super::buffers::Buffers;
use super::failure::{Failure, Subject};

/// Arguments of our own in one command line, more than there are.
const OWN_ARGUMENTS: usize = 32;

/// Room for the paths and names among them.
const OWN_BYTES: usize = 8 * 1024;

/// Mode of the runtime's log: it may quote the container's environment.
const LOG_MODE: u16 = 0o600;

pub(super) struct Runtime {
    spawner: Spawner,
    argv: Argv,
    /// What all calls have in common; as in the request, which is kept.
    program: &'static [u8],
    global_args: List<'static>,
    container_id: &'static [u8],
}

impl Runtime {
    pub(super) fn new(arguments: &Arguments) -> Result<Self, Errno> {
        let mut spawner = Spawner::new(arguments)?;
        spawner.spare_from_oom();
        // The global arguments come in one packet, those of a call in another.
        let bytes = 2 * (MAX_PACKET + MAX_STRINGS) + OWN_BYTES;
        let argv = Argv::with_capacity(bytes, 2 * MAX_STRINGS + OWN_ARGUMENTS)?;
        Ok(Self {
            spawner,
            argv,
            program: b"",
            global_args: List::EMPTY,
            container_id: b"",
        })
    }

    pub(super) fn learn(&mut self, create: &Create<'static>) {
        self.program = create.runtime;
        self.global_args = create.global_args;
        self.container_id = create.container_id;
    }

    /// Begins the command line `program global… --log LOG --log-format json COMMAND`.
    pub(super) fn begin(&mut self, log: &CStr, command: &'static str) -> &mut Self {
        self.argv.clear();
        self.argv.push(self.program);
        self.argv.push_all(&self.global_args);
        self.arg("--log")
            .path(log)
            .arg("--log-format")
            .arg("json")
            .arg(command)
    }

    pub(super) fn arg(&mut self, argument: &'static str) -> &mut Self {
        self.argv.push(argument.as_bytes());
        self
    }

    pub(super) fn path(&mut self, path: &CStr) -> &mut Self {
        self.argv.push(path.to_bytes());
        self
    }

    pub(super) fn args(&mut self, arguments: &List<'_>) -> &mut Self {
        self.argv.push_all(arguments);
        self
    }

    pub(super) fn container(&mut self) -> &mut Self {
        self.argv.push(self.container_id);
        self
    }

    /// Runs the command line.
    pub(super) fn spawn(&mut self, stdio: Stdio<'_>) -> Result<Pid, Failure> {
        self.spawner
            .spawn(&mut self.argv, stdio)
            .map_err(|errno| Failure::system(Step::Spawn, Subject::Program, errno))
    }

    pub(super) fn program(&self) -> &'static [u8] {
        self.program
    }

    pub(super) fn release(&mut self) {
        self.argv.release();
        self.spawner.release();
    }
}

/// Opens the runtime's log for the runtime's stderr: what it says before it has a log, and what its
/// language's runtime says when it crashes, then stands there too.
pub(super) fn open_log(path: &CStr) -> Result<Fd, Failure> {
    open(
        path,
        Access::Append {
            mode: LOG_MODE,
            exclusive: false,
        },
    )
    .map_err(|errno| Failure::file(Step::Stdio, path, errno))
}

/// Makes a failure of the runtime's end: its own words, from its log or from the first
/// `stderr_length` bytes of the buffer for records.
pub(super) fn failure(
    step: Step,
    status: WaitStatus,
    log: &CStr,
    stderr_length: usize,
    buffers: &mut Buffers,
) -> Failure {
    let log = open(log, Access::Read).ok();
    let text = log
        .and_then(|file| read_end(&file, buffers.output).ok())
        .unwrap_or_default();
    let log = buffers.output.get(..text).unwrap_or_default();
    let stderr = buffers.records.get(..stderr_length).unwrap_or_default();
    let length = conmon::runtime_message::last_message(log, stderr, buffers.message);
    Failure::runtime(step, status, length)
}

/// Reads the end of a file, as much as the buffer takes, and returns how much that is.
fn read_end(file: &Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let size = usize::try_from(metadata_of(file)?.size).unwrap_or(usize::MAX);
    file.read_at(buffer, size.saturating_sub(buffer.len()))
}

/// Reads a pid file of the runtime.
pub(super) fn read_pid(path: &CStr) -> Result<Pid, Errno> {
    let mut buffer = [0; 16];
    let text = open(path, Access::Read)?.read_start(&mut buffer)?;
    core::str::from_utf8(text)
        .ok()
        .and_then(|text| text.trim_ascii().parse().ok())
        .and_then(Pid::new)
        .ok_or(Errno::EINVAL)
}

/// Removes files that may or may not be there.
pub(super) fn remove<const N: usize>(paths: [&CStr; N]) {
    for path in paths {
        // Mostly it is not there; what cannot be removed goes with the bundle directory.
        let _ = unlink(path);
    }
}
