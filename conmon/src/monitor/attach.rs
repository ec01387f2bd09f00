//! The container's output, to its log and to whoever is attached; their input, to the container.

use conmon::{MAX_CHUNK, Reply, Request, Step, Stream};
use nostd_sys::{Errno, poll, send, set_send_buffer, wall_clock_ns};

use super::clients::{Attach, Place, Role, places};
use super::failure::{Failure, Subject};
use super::{Life, Monitor};

/// How many bytes may wait for a reader before it is cut off, where the system permits.
const PATIENCE: i32 = 1024 * 1024;

/// Room for one more packet when the reader's buffer is full.
const LAST_WORD: i32 = PATIENCE + 64 * 1024;

/// Reads that follow each other within this time are a flood.
const FLOOD_NS: u64 = 500_000;

/// A read from here on, in bytes, needs no waiting to become large.
const LARGE: usize = 32 * 1024;

/// So many small reads of a flood before the monitor lets the pipe fill.
const FLOOD_READS: u32 = 8;

/// Each so many reads of a flood it does not wait, to see whether it still has to.
const PROBE_READS: u32 = 64;

/// How long it lets the pipe fill, to which the kernel's timers add as much again.
const FILL_NS: u64 = 50_000;

/// Whether the container floods in small writes. Woken for each of them, the monitor and the kernel
/// spend more on waking than on the bytes; waiting a moment makes each read a large one (2.5 to 3
/// CPU s/GB become 1.5). A container that fills the pipe by itself is never waited for: that would
/// halve its pace.
pub(super) struct Pace {
    last_ns: u64,
    small_reads: u32,
    has_waited: bool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            last_ns: 0,
            small_reads: 0,
            has_waited: false,
        }
    }

    fn note(&mut self, now_ns: u64, count: usize) {
        let is_flood = now_ns.wrapping_sub(self.last_ns) < FLOOD_NS;
        let is_small = count < LARGE || self.has_waited;
        self.small_reads = if is_flood && is_small {
            self.small_reads.wrapping_add(1)
        } else {
            0
        };
        self.last_ns = now_ns;
    }

    fn wait(&mut self) {
        self.has_waited =
            self.small_reads >= FLOOD_READS && !self.small_reads.is_multiple_of(PROBE_READS);
        if self.has_waited {
            // With nothing to wait for it only waits.
            let _ = poll(&mut [], Some(FILL_NS));
        }
    }
}

impl Monitor {
    pub(super) fn output_ready(&mut self, stream: Stream) {
        self.pace.wait();
        if matches!(self.life, Life::Creating { .. }) {
            self.runtime_speaks(stream);
        } else {
            self.pass_output(stream);
        }
    }

    /// Reads once and passes on; whether there was something.
    pub(super) fn pass_output(&mut self, stream: Stream) -> bool {
        let Some(count) = self.stdio.read(stream, self.buffers.output) else {
            return false;
        };
        let now_ns = wall_clock_ns();
        let data = self.buffers.output.get(..count).unwrap_or_default();
        self.log.write(stream, now_ns, data, self.buffers.records);
        self.pace.note(now_ns, count);
        for index in places() {
            if let Some(Role::Attach(attach)) = self.clients.role(index)
                && attach.takes(stream)
            {
                self.pass_to(index, attach, stream, count);
            }
        }
        true
    }

    /// Passes the first `count` bytes of the output buffer on to an attach.
    fn pass_to(&mut self, index: Place, attach: Attach, stream: Stream, count: usize) {
        let Some(socket) = self.clients.socket(index) else {
            return;
        };
        for data in self
            .buffers
            .output
            .get(..count)
            .unwrap_or_default()
            .chunks(MAX_CHUNK)
        {
            let reply = Reply::Output { stream, data };
            let Ok(length) = reply.encode(self.buffers.reply) else {
                return;
            };
            match send(
                socket,
                self.buffers.reply.get(..length).unwrap_or_default(),
                None,
            ) {
                Ok(()) => {}
                Err(Errno::EAGAIN) => {
                    set_send_buffer(socket, LAST_WORD);
                    self.finish_client(index, &Reply::Lagged);
                    return;
                }
                // Gone; what it has sent for stdin before is still to be read, and then its end.
                Err(_) => {
                    let silent = Attach {
                        stdin: attach.stdin,
                        stdout: false,
                        stderr: false,
                    };
                    self.clients.set_role(index, Role::Attach(silent));
                    return;
                }
            }
        }
    }

    pub(super) fn attach(&mut self, index: Place, attach: Attach) {
        if let Some(socket) = self.clients.socket(index) {
            set_send_buffer(socket, PATIENCE);
        }
        self.clients.set_role(index, Role::Attach(attach));
        self.reply(index, &Reply::Done);
    }

    pub(super) fn attach_packet(
        &mut self,
        attach: Attach,
        request: &Request<'_>,
    ) -> Result<(), Failure> {
        match request {
            Request::StdinData(data) if attach.stdin => {
                self.stdio.stdin().feed(data);
                Ok(())
            }
            Request::CloseStdin if attach.stdin => {
                self.stdio.close_stdin();
                Ok(())
            }
            Request::Resize { width, height } => self.resize(*width, *height),
            _ => Err(Failure::refused(
                Step::Request,
                "an attach takes no such packet",
            )),
        }
    }

    pub(super) fn resize(&self, width: u16, height: u16) -> Result<(), Failure> {
        match self.stdio.resize(width, height) {
            Some(Ok(())) => Ok(()),
            Some(Err(errno)) => Err(Failure::system(
                Step::Stdio,
                Subject::Fixed("terminal"),
                errno,
            )),
            None => Err(Failure::refused(
                Step::Stdio,
                "the container has no terminal",
            )),
        }
    }
}

impl Attach {
    fn takes(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}
