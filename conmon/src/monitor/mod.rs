//! The monitor: one thread, one loop over poll(2), every buffer and table of fixed size.
//!
//! The files here are its verbs ([`create`], [`start`], [`exec`], [`attach`], [`exit`]) and its
//! parts. A request that waits for a process of the runtime leaves a note in the client's role;
//! the process's end, seen by [`Monitor::reap`], answers it.

mod attach;
mod buffers;
mod client;
mod clients;
mod console;
mod create;
mod exec;
mod exit;
mod failure;
mod log;
mod memory;
mod runtime;
mod scratch;
mod start;
mod stdio;
mod text;
mod tree;

use conmon::{MAX_CLIENTS, MAX_EXECS, Phase, Status, Stream};
use nostd_sys::{
    Arguments, CHANGED, Errno, Fd, Pid, PollFd, READABLE, Signal, WRITABLE, WaitStatus,
    monotonic_ns, poll, reap, signal_fd,
};

use attach::Pace;
use buffers::Buffers;
use clients::{Clients, Place};
use console::Console;
use exec::Execs;
use exit::Ending;
use log::Log;
use memory::Memory;
use runtime::Runtime;
use scratch::Scratch;
use stdio::ContainerStdio;

/// How long the monitor keeps its buffers after the last event.
const IDLE_NS: u64 = 1_000_000_000;

/// What the monitor knows of its container.
enum Life {
    /// Nothing: the request to create it has not come.
    Awaited,
    /// The runtime is creating it. Its init may have ended before the runtime tells who it is.
    Creating {
        runtime: Pid,
        early_end: Option<(Pid, WaitStatus)>,
    },
    /// It is there.
    Created { pid: Pid },
}

pub(crate) struct Monitor {
    life: Life,
    /// The runtime's process that starts it.
    starting: Option<Pid>,
    /// 0 before start.
    started_at_ns: u64,
    /// How its init has ended.
    ending: Option<Ending>,
    memory: Memory,
    stdio: ContainerStdio,
    /// The container's own console, while it is created.
    console: Console,
    has_stdin: bool,
    log: Log,
    pace: Pace,
    runtime: Runtime,
    clients: Clients,
    execs: Execs,
    scratch: Scratch,
    listener: Option<Fd>,
    signals: Fd,
    null: Fd,
    buffers: Buffers,
    /// Whether the buffers may hold memory.
    is_warm: bool,
    /// How much the runtime has said on stderr, in the buffer for records.
    said: usize,
}

/// What a descriptor in the poll set stands for.
#[derive(Clone, Copy)]
enum Token {
    Signals,
    Console,
    ExecConsole(Place),
    Output(Stream),
    Stdin,
    Client(Place),
    Listener,
    Memory,
}

/// Signals, console, two outputs, stdin, listener, memory; the clients and the consoles of execs.
const MAX_POLLED: usize = 7 + MAX_CLIENTS + MAX_EXECS;

/// The poll set of one round.
struct PollSet {
    fds: [PollFd; MAX_POLLED],
    tokens: [Token; MAX_POLLED],
    count: usize,
}

impl PollSet {
    fn add(&mut self, fd: Option<&Fd>, events: i16, token: Token) {
        if let Some(fd) = fd
            && self.count < MAX_POLLED
        {
            self.fds[self.count] = PollFd::new(fd, events);
            self.tokens[self.count] = token;
            self.count += 1;
        }
    }
}

impl Monitor {
    pub(crate) fn new(arguments: &Arguments, daemon: Fd, null: Fd) -> Result<Self, Errno> {
        Ok(Self {
            life: Life::Awaited,
            starting: None,
            started_at_ns: 0,
            ending: None,
            memory: Memory::UNKNOWN,
            stdio: ContainerStdio::new()?,
            console: Console::None,
            has_stdin: false,
            log: Log::new()?,
            pace: Pace::new(),
            runtime: Runtime::new(arguments)?,
            clients: Clients::with_creator(daemon),
            execs: Execs::new(),
            scratch: Scratch::none(),
            listener: None,
            signals: signal_fd(&[Signal::Child])?,
            null,
            buffers: Buffers::new()?,
            is_warm: false,
            said: 0,
        })
    }

    /// Serves until the container has ended, or until it is clear that there will be none; returns
    /// the exit code.
    pub(crate) fn run(&mut self) -> i32 {
        let mut set = PollSet {
            fds: [PollFd::NONE; MAX_POLLED],
            tokens: [Token::Signals; MAX_POLLED],
            count: 0,
        };
        loop {
            if self.has_ended() {
                return self.finish();
            }
            if matches!(self.life, Life::Awaited) && self.clients.is_empty() {
                return 0;
            }
            self.fill(&mut set);
            match poll(&mut set.fds[..set.count], self.timeout_ns()) {
                Ok(0) => self.cool_down(),
                Ok(_) => {
                    self.is_warm = true;
                    for index in 0..set.count {
                        if set.fds[index].is_ready() {
                            self.serve(set.tokens[index]);
                        }
                    }
                }
                // Only a lack of kernel memory is left as a cause; whoever ends the container frees
                // some, and until then this is a loop.
                Err(_) => {}
            }
        }
    }

    /// The order matters: what a process has sent is looked at after its end was seen, and new
    /// clients come last, when no event of this round can mean their place any more.
    fn fill(&self, set: &mut PollSet) {
        set.count = 0;
        set.add(Some(&self.signals), READABLE, Token::Signals);
        set.add(self.memory.awaited(), CHANGED, Token::Memory);
        set.add(self.console.awaited(), READABLE, Token::Console);
        for (index, console) in self.execs.consoles() {
            set.add(Some(console), READABLE, Token::ExecConsole(index));
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            set.add(self.stdio.output(stream), READABLE, Token::Output(stream));
        }
        set.add(self.stdio.blocked_stdin(), WRITABLE, Token::Stdin);
        for (index, socket) in self.clients.sockets(self.stdio.blocked_stdin().is_some()) {
            set.add(Some(socket), READABLE, Token::Client(index));
        }
        // A socket that is bound but does not listen yet polls as hung up.
        if matches!(self.life, Life::Created { .. }) {
            set.add(self.listener.as_ref(), READABLE, Token::Listener);
        }
    }

    fn serve(&mut self, token: Token) {
        match token {
            Token::Signals => self.reap(),
            Token::Memory => self.memory.look(self.buffers.output),
            Token::Console => self.console.advance(),
            Token::ExecConsole(index) => self.execs.advance_console(index),
            Token::Output(stream) => self.output_ready(stream),
            Token::Stdin => self.stdio.stdin().flush(),
            Token::Client(index) => self.client_ready(index),
            Token::Listener => self.connection_ready(),
        }
    }

    fn timeout_ns(&self) -> Option<u64> {
        match &self.ending {
            Some(ending) => Some(
                ending
                    .deadline_ns(self.starting.is_some())
                    .saturating_sub(monotonic_ns()),
            ),
            None => self.is_warm.then_some(IDLE_NS),
        }
    }

    /// Gives the buffers back: nothing has happened for a while.
    fn cool_down(&mut self) {
        // While the container is created the buffer for records holds what the runtime has said.
        if self.ending.is_none() && !matches!(self.life, Life::Creating { .. }) {
            self.buffers.release();
            self.runtime.release();
            self.stdio.stdin().release();
            self.log.release();
            self.is_warm = false;
        }
    }

    /// Takes note of every child that has ended.
    fn reap(&mut self) {
        let mut signal = [0; 128];
        // What it says is less than wait4 says: several ends may be one signal.
        while self.signals.read(&mut signal).is_ok() {}
        while let Some((pid, status)) = reap() {
            self.child_ended(pid, status);
        }
    }

    fn child_ended(&mut self, pid: Pid, status: WaitStatus) {
        match self.life {
            Life::Creating { runtime, .. } if runtime == pid => return self.created(status),
            Life::Created { pid: init } if init == pid => return self.init_ended(status),
            _ => {}
        }
        if self.starting == Some(pid) {
            self.start_ended(status);
        } else if let Some(index) = self.execs.by_runtime(pid) {
            self.exec_runtime_ended(index, status);
        } else if let Some(index) = self.execs.by_pid(pid) {
            self.exec_ended(index, status);
        } else {
            self.stranger_ended(pid, status);
        }
    }

    /// An orphan has ended. It may be a process whose runtime has not been reaped yet: the kernel
    /// gives a runtime's orphans to this process when the last of its threads ends, a moment before
    /// the runtime itself can be waited for. Its pid file is written by then.
    fn stranger_ended(&mut self, pid: Pid, status: WaitStatus) {
        if let Life::Creating { early_end, .. } = &mut self.life
            && runtime::read_pid(create::PID_FILE) == Ok(pid)
        {
            *early_end = Some((pid, status));
        } else {
            self.execs.note_early_end(pid, status, &self.scratch);
        }
    }

    /// How the container is, as clients are told.
    fn status(&self) -> Status {
        let pid = match self.life {
            Life::Created { pid } => pid.number(),
            Life::Awaited | Life::Creating { .. } => 0,
        };
        let mut status = Status {
            phase: if self.started_at_ns == 0 {
                Phase::Created
            } else {
                Phase::Running
            },
            pid,
            started_at_ns: self.started_at_ns,
            finished_at_ns: 0,
            exit_code: 0,
            signal: 0,
            oom: false,
            log_dropped_bytes: self.log.dropped_bytes(),
        };
        if let Some(ending) = &self.ending {
            ending.describe(&mut status);
        }
        status
    }
}
