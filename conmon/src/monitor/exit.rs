//! The end of the container: its last output, the record, and the news.

use core::ffi::CStr;

use conmon::{ExitRecord, MAX_EXIT_RECORD, Phase, Reply, Status, Stream};
use nostd_sys::{
    Access, Errno, WaitStatus, chmod_file, monotonic_ns, open, rename, truncate, unlink,
    wall_clock_ns,
};

use super::clients::{Role, places};
use super::create::{PID_FILE, RUNTIME_LOG, SOCKET, is_same};
use super::{Monitor, runtime, tree};

const RECORD: &CStr = c"exit";
const RECORD_BEFORE: &CStr = c"exit.tmp";
const _: () = assert!(is_same(RECORD, conmon::EXIT_RECORD));

/// The record's mode, whoever has made the file.
const MODE: u16 = 0o600;

/// How long others may hold the container's output open after its end: a process that it left in
/// the host's PID namespace would hold it for ever.
const DRAIN_NS: u64 = 500_000_000;

/// How long the end waits for a runtime that is still starting the container.
const START_NS: u64 = 5_000_000_000;

/// A pipe holds at most 1 MiB (/proc/sys/fs/pipe-max-size), in reads of 64 KiB.
const LAST_READS: usize = 16;

/// How the container's init has ended.
pub(super) struct Ending {
    status: WaitStatus,
    finished_at_ns: u64,
    /// On the monotonic clock.
    seen_at_ns: u64,
    oom: bool,
}

impl Ending {
    /// When the monitor stops to wait for output, on the monotonic clock.
    pub(super) fn deadline_ns(&self, is_starting: bool) -> u64 {
        self.seen_at_ns + if is_starting { START_NS } else { DRAIN_NS }
    }

    /// The end, or what is earlier.
    pub(super) fn finished_at_ns(&self, other_ns: u64) -> u64 {
        self.finished_at_ns.min(other_ns)
    }

    pub(super) fn describe(&self, status: &mut Status) {
        status.phase = Phase::Exited;
        status.finished_at_ns = self.finished_at_ns;
        status.exit_code = self.status.exit_code();
        status.signal = self.status.signal();
        status.oom = self.oom;
    }
}

impl Monitor {
    /// The container's init has ended. Nobody is told before its output is in the log and the
    /// record is written.
    pub(super) fn init_ended(&mut self, status: WaitStatus) {
        // First: its cgroup may go at any moment.
        self.memory.look(self.buffers.output);
        self.ending = Some(Ending {
            status,
            finished_at_ns: wall_clock_ns(),
            seen_at_ns: monotonic_ns(),
            oom: false,
        });
    }

    /// Whether there is nothing more to wait for.
    pub(super) fn has_ended(&self) -> bool {
        let Some(ending) = &self.ending else {
            return false;
        };
        let is_starting = self.starting.is_some();
        (!is_starting && !self.stdio.has_output())
            || monotonic_ns() >= ending.deadline_ns(is_starting)
    }

    /// Writes the record, tells everyone, and returns the monitor's exit code.
    pub(super) fn finish(&mut self) -> i32 {
        // Runtimes that hang have nobody to wait for them any more.
        let hanging = self.starting.take().into_iter();
        for runtime in hanging.chain(self.execs.runtimes()) {
            tree::kill(runtime, &mut self.buffers);
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..LAST_READS {
                if !self.pass_output(stream) {
                    break;
                }
            }
        }
        // Those that it left have been ended since, some perhaps for lack of memory.
        self.memory.look(self.buffers.output);
        if let Some(ending) = &mut self.ending {
            ending.oom = self.memory.was_short(ending.status);
        }
        let status = self.status();
        let written = write_record(&status);
        runtime::remove([SOCKET, RUNTIME_LOG]);
        for index in places() {
            match self.clients.role(index) {
                Some(Role::Watch | Role::Exec(_)) => self.reply(index, &Reply::Status(status)),
                Some(Role::Start) => {
                    let why = "the container has ended";
                    self.fail(
                        index,
                        &super::failure::Failure::refused(conmon::Step::Phase, why),
                    );
                }
                _ => {}
            }
        }
        i32::from(written.is_err())
    }
}

fn write_record(status: &Status) -> Result<(), Errno> {
    let mut line = [0; MAX_EXIT_RECORD];
    let length = ExitRecord {
        pid: status.pid,
        exit_code: status.exit_code,
        signal: status.signal,
        oom: status.oom,
        started_at_ns: status.started_at_ns,
        finished_at_ns: status.finished_at_ns,
    }
    .encode(&mut line)
    .map_err(|_| Errno::EINVAL)?;
    // The pid file has done its duty, and its place on the disk is enough for the record: a full disk
    // loses no end. Where a runtime has left none, the record needs a place of its own.
    let access = match rename(PID_FILE, RECORD_BEFORE) {
        Ok(()) => Access::Write,
        Err(_) => Access::Replace { mode: MODE },
    };
    let file = open(RECORD_BEFORE, access)?;
    let line = line.split_at(length).0;
    match file.write(line) {
        Ok(count) if count == length => {
            truncate(&file, length as u64)?;
            chmod_file(&file, MODE)?;
            rename(RECORD_BEFORE, RECORD)
        }
        result => {
            // Half a record is worse than none.
            let _ = unlink(RECORD_BEFORE);
            result.and(Err(Errno::ENOSPC))
        }
    }
}
