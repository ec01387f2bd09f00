//! What the monitor answers.

use core::fmt;

use crate::wire::{DecodeError, EncodeError, Reader, Writer};
use crate::{MAX_CHUNK, MAX_MESSAGE};

const CREATED: u8 = 0x81;
const FAILED: u8 = 0x82;
const STATUS: u8 = 0x83;
const STARTED: u8 = 0x84;
const EXEC_STARTED: u8 = 0x85;
const EXEC_EXITED: u8 = 0x86;
const DONE: u8 = 0x87;
const OUTPUT: u8 = 0x88;
const LAGGED: u8 = 0x89;
const BUSY: u8 = 0x8a;

/// A packet from the monitor to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The container is created, its init waits for start.
    Created {
        /// Its init, as the daemon's PID namespace numbers it.
        pid: i32,
    },
    /// The request was not carried out.
    Failed {
        /// At what.
        step: Step,
        /// The cause as errno; 0 where no system call failed.
        errno: i32,
        /// The runtime's exit code, 128 + signal where a signal ended it; -1 where it did not run.
        runtime_exit_code: i32,
        /// The cause in words: the runtime's own message where it gave one. At most
        /// [`MAX_MESSAGE`] bytes, meant as UTF-8 but as hostile as the runtime's output.
        message: &'a [u8],
    },
    /// How the container is.
    Status(Status),
    /// The container runs.
    Started {
        /// Since when: nanoseconds since 1970, wall clock.
        started_at_ns: u64,
    },
    /// The exec'd process runs, or has run already.
    ExecStarted {
        /// The process, as the daemon's PID namespace numbers it.
        pid: i32,
    },
    /// The exec'd process has ended; always after `ExecStarted`.
    ExecExited {
        /// Its exit code; 128 + signal where a signal ended it.
        exit_code: i32,
        /// The signal that ended it, or 0.
        signal: i32,
    },
    /// The request was carried out.
    Done,
    /// Within an attach: what the container wrote.
    Output {
        /// Where to; with a terminal all is stdout.
        stream: Stream,
        /// At most [`MAX_CHUNK`] bytes.
        data: &'a [u8],
    },
    /// Within an attach: the last packet to a reader that was too slow. Nothing is lost to the log.
    Lagged,
    /// There are too many connections or exec'd processes; nothing was done.
    Busy,
}

/// How the container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Where in its life.
    pub phase: Phase,
    /// Its init; also after its end, when the number may be someone else's.
    pub pid: i32,
    /// Nanoseconds since 1970; 0 before start and where it never was started.
    pub started_at_ns: u64,
    /// Nanoseconds since 1970; 0 before the end.
    pub finished_at_ns: u64,
    /// The exit code; 128 + signal where a signal ended it; 0 before the end.
    pub exit_code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// Whether the kernel killed one of the container's processes for want of memory.
    pub oom: bool,
    /// Bytes of output that could not be written to the log, for want of space and the like.
    pub log_dropped_bytes: u64,
}

/// Where in its life the container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Created, not started.
    Created,
    /// Started.
    Running,
    /// Its init has ended, and the exit record is written.
    Exited,
}

/// One of the container's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// At what a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading the request: bad packet, wrong order, wrong descriptors.
    Request,
    /// Opening the log.
    Log,
    /// Making sockets, pipes or the terminal.
    Stdio,
    /// Starting the runtime's process.
    Spawn,
    /// `runtime create`.
    Create,
    /// `runtime start`.
    Start,
    /// `runtime exec`.
    Exec,
    /// The container is in another phase than the request needs.
    Phase,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "read request",
            Self::Log => "open log",
            Self::Stdio => "set up stdio",
            Self::Spawn => "run the runtime",
            Self::Create => "runtime create",
            Self::Start => "runtime start",
            Self::Exec => "runtime exec",
            Self::Phase => "check the container's phase",
        })
    }
}

impl<'a> Reply<'a> {
    /// Writes the packet and returns its length in bytes. Of a longer message than
    /// [`MAX_MESSAGE`] it writes the end.
    ///
    /// # Errors
    /// The packet does not fit the buffer, or the output is longer than [`MAX_CHUNK`].
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        match self {
            Self::Created { pid } => one_i32(buffer, CREATED, *pid),
            Self::Failed {
                step,
                errno,
                runtime_exit_code,
                message,
            } => {
                let mut writer = Writer::new(buffer, FAILED);
                writer.u8(step.to_wire());
                writer.i32(*errno);
                writer.i32(*runtime_exit_code);
                writer.bytes(
                    message
                        .split_at(message.len().saturating_sub(MAX_MESSAGE))
                        .1,
                );
                writer.finish()
            }
            Self::Status(status) => status.encode(buffer),
            Self::Started { started_at_ns } => {
                let mut writer = Writer::new(buffer, STARTED);
                writer.u64(*started_at_ns);
                writer.finish()
            }
            Self::ExecStarted { pid } => one_i32(buffer, EXEC_STARTED, *pid),
            Self::ExecExited { exit_code, signal } => {
                let mut writer = Writer::new(buffer, EXEC_EXITED);
                writer.i32(*exit_code);
                writer.i32(*signal);
                writer.finish()
            }
            Self::Done => Writer::new(buffer, DONE).finish(),
            Self::Output { data, .. } if data.len() > MAX_CHUNK => Err(EncodeError::TooLong {
                needed: data.len(),
                bound: MAX_CHUNK,
            }),
            Self::Output { stream, data } => {
                let mut writer = Writer::new(buffer, OUTPUT);
                writer.u8(stream.to_wire());
                writer.bytes(data);
                writer.finish()
            }
            Self::Lagged => Writer::new(buffer, LAGGED).finish(),
            Self::Busy => Writer::new(buffer, BUSY).finish(),
        }
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// It is none that [`encode`](Self::encode) could have written.
    pub fn decode(packet: &'a [u8]) -> Result<Self, DecodeError> {
        let (mut reader, kind) = Reader::new(packet)?;
        let reply = match kind {
            CREATED => Self::Created { pid: reader.i32()? },
            FAILED => Self::Failed {
                step: Step::from_wire(reader.u8()?)?,
                errno: reader.i32()?,
                runtime_exit_code: reader.i32()?,
                message: at_most(reader.bytes()?, MAX_MESSAGE, "message")?,
            },
            STATUS => Self::Status(Status::decode(&mut reader)?),
            STARTED => Self::Started {
                started_at_ns: reader.u64()?,
            },
            EXEC_STARTED => Self::ExecStarted { pid: reader.i32()? },
            EXEC_EXITED => Self::ExecExited {
                exit_code: reader.i32()?,
                signal: reader.i32()?,
            },
            DONE => Self::Done,
            OUTPUT => Self::Output {
                stream: Stream::from_wire(reader.u8()?)?,
                data: at_most(reader.bytes()?, MAX_CHUNK, "output")?,
            },
            LAGGED => Self::Lagged,
            BUSY => Self::Busy,
            found => return Err(DecodeError::UnknownKind { found }),
        };
        reader.finish()?;
        Ok(reply)
    }
}

fn one_i32(buffer: &mut [u8], kind: u8, value: i32) -> Result<usize, EncodeError> {
    let mut writer = Writer::new(buffer, kind);
    writer.i32(value);
    writer.finish()
}

fn at_most<'a>(
    bytes: &'a [u8],
    bound: usize,
    field: &'static str,
) -> Result<&'a [u8], DecodeError> {
    if bytes.len() > bound {
        Err(DecodeError::BadField { field })
    } else {
        Ok(bytes)
    }
}

impl Status {
    fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        let mut writer = Writer::new(buffer, STATUS);
        writer.u8(match self.phase {
            Phase::Created => 1,
            Phase::Running => 2,
            Phase::Exited => 3,
        });
        writer.i32(self.pid);
        writer.u64(self.started_at_ns);
        writer.u64(self.finished_at_ns);
        writer.i32(self.exit_code);
        writer.i32(self.signal);
        writer.flag(self.oom);
        writer.u64(self.log_dropped_bytes);
        writer.finish()
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            phase: match reader.u8()? {
                1 => Phase::Created,
                2 => Phase::Running,
                3 => Phase::Exited,
                _ => return Err(DecodeError::BadField { field: "phase" }),
            },
            pid: reader.i32()?,
            started_at_ns: reader.u64()?,
            finished_at_ns: reader.u64()?,
            exit_code: reader.i32()?,
            signal: reader.i32()?,
            oom: reader.flag("oom")?,
            log_dropped_bytes: reader.u64()?,
        })
    }
}

impl Stream {
    fn to_wire(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    fn from_wire(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            1 => Ok(Self::Stdout),
            2 => Ok(Self::Stderr),
            _ => Err(DecodeError::BadField { field: "stream" }),
        }
    }
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Request,
        Self::Log,
        Self::Stdio,
        Self::Spawn,
        Self::Create,
        Self::Start,
        Self::Exec,
        Self::Phase,
    ];

    fn to_wire(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Log => 2,
            Self::Stdio => 3,
            Self::Spawn => 4,
            Self::Create => 5,
            Self::Start => 6,
            Self::Exec => 7,
            Self::Phase => 8,
        }
    }

    fn from_wire(byte: u8) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|step| step.to_wire() == byte)
            .ok_or(DecodeError::BadField { field: "step" })
    }
}
