//! What the daemon asks of the monitor.

use crate::wire::{DecodeError, EncodeError, List, Reader, Writer};
use crate::{MAX_CHUNK, MAX_STRINGS};

const CREATE: u8 = 1;
const WATCH: u8 = 2;
const START: u8 = 3;
const EXEC: u8 = 4;
const REOPEN_LOG: u8 = 5;
const ATTACH: u8 = 6;
const RESIZE: u8 = 7;
const STDIN_DATA: u8 = 8;
const CLOSE_STDIN: u8 = 9;

/// A packet from the daemon to the monitor. The crate's table says which answers it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Create the container; the first and only request on the socketpair.
    Create(Create<'a>),
    /// Tell the container's status now and whenever it changes.
    Watch,
    /// Start the created container. Where it has been started already: `Started` with that time.
    Start,
    /// Run a further process in the container.
    Exec(Exec<'a>),
    /// Open the log anew, after its file was renamed.
    ReopenLog {
        /// Where; empty: at the path used so far.
        path: &'a [u8],
    },
    /// Take part in the container's stdio from now on.
    Attach {
        /// Whether `StdinData` will come.
        stdin: bool,
        /// Whether to get stdout.
        stdout: bool,
        /// Whether to get stderr.
        stderr: bool,
    },
    /// Set the size of the container's terminal, in characters. Also within an attach.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Within an attach: bytes for the container's stdin, at most [`MAX_CHUNK`].
    StdinData(&'a [u8]),
    /// Within an attach: close the container's stdin after what was sent so far.
    CloseStdin,
}

/// How to create the container. The monitor runs, in the bundle directory,
/// `runtime global_args… --log runtime.log --log-format json create --bundle . --pid-file pidfile
/// [--console-socket …] create_args… container_id`, with its own environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Create<'a> {
    /// Absolute path of the OCI runtime; not searched in PATH.
    pub runtime: &'a [u8],
    /// Arguments before the runtime's subcommand, of each call: `--root`, `--systemd-cgroup`, …
    pub global_args: List<'a>,
    /// The container's id, as the runtime is to know it.
    pub container_id: &'a [u8],
    /// Arguments after `create`.
    pub create_args: List<'a>,
    /// Absolute path of the log in CRI format; empty: output is discarded.
    pub log_path: &'a [u8],
    /// Whether the container has a pty; must agree with `process.terminal` of its config.json.
    pub terminal: bool,
    /// Whether stdin stays open for attach; otherwise it is /dev/null.
    pub stdin: bool,
    /// Whether stdin is closed when the first attach with stdin ends.
    pub stdin_once: bool,
}

/// A further process. The monitor runs `runtime global_args… --log … --log-format json exec
/// --detach --pid-file … [--console-socket …] exec_args… container_id argv…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exec<'a> {
    /// Arguments after `exec`: `--cwd`, `--env`, `--user`, `--process`, … With `terminal` the
    /// monitor adds `--tty`.
    pub exec_args: List<'a>,
    /// The command and its arguments; empty where `exec_args` has `--process`.
    pub argv: List<'a>,
    /// Whether it gets a pty; then no descriptors come with the request and the pty's master
    /// comes with the answer. Otherwise exactly three come: stdin, stdout, stderr.
    pub terminal: bool,
    /// Whether the end of this connection kills the process and its descendants. Otherwise they are
    /// left, and nobody learns how the process ends.
    pub kill_on_hangup: bool,
}

impl<'a> Request<'a> {
    /// Writes the packet and returns its length in bytes.
    ///
    /// # Errors
    /// The packet is longer than the buffer or than [`MAX_PACKET`](crate::MAX_PACKET), a string
    /// holds a NUL, or there are more than [`MAX_STRINGS`] strings.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        match self {
            Self::Create(create) => create.encode(buffer),
            Self::Watch => Writer::new(buffer, WATCH).finish(),
            Self::Start => Writer::new(buffer, START).finish(),
            Self::Exec(exec) => exec.encode(buffer),
            Self::ReopenLog { path } => {
                let mut writer = Writer::new(buffer, REOPEN_LOG);
                writer.string(path);
                writer.finish()
            }
            Self::Attach {
                stdin,
                stdout,
                stderr,
            } => {
                let mut writer = Writer::new(buffer, ATTACH);
                writer.flag(*stdin);
                writer.flag(*stdout);
                writer.flag(*stderr);
                writer.finish()
            }
            Self::Resize { width, height } => {
                let mut writer = Writer::new(buffer, RESIZE);
                writer.u16(*width);
                writer.u16(*height);
                writer.finish()
            }
            Self::StdinData(data) if data.len() > MAX_CHUNK => Err(EncodeError::TooLong {
                needed: data.len(),
                bound: MAX_CHUNK,
            }),
            Self::StdinData(data) => {
                let mut writer = Writer::new(buffer, STDIN_DATA);
                writer.bytes(data);
                writer.finish()
            }
            Self::CloseStdin => Writer::new(buffer, CLOSE_STDIN).finish(),
        }
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// It is none that [`encode`](Self::encode) could have written.
    pub fn decode(packet: &'a [u8]) -> Result<Self, DecodeError> {
        let (mut reader, kind) = Reader::new(packet)?;
        let request = match kind {
            CREATE => Self::Create(Create::decode(&mut reader)?),
            WATCH => Self::Watch,
            START => Self::Start,
            EXEC => Self::Exec(Exec::decode(&mut reader)?),
            REOPEN_LOG => Self::ReopenLog {
                path: reader.string("path")?,
            },
            ATTACH => Self::Attach {
                stdin: reader.flag("stdin")?,
                stdout: reader.flag("stdout")?,
                stderr: reader.flag("stderr")?,
            },
            RESIZE => Self::Resize {
                width: reader.u16()?,
                height: reader.u16()?,
            },
            STDIN_DATA => match reader.bytes()? {
                data if data.len() <= MAX_CHUNK => Self::StdinData(data),
                _ => {
                    return Err(DecodeError::BadField {
                        field: "stdin data",
                    });
                }
            },
            CLOSE_STDIN => Self::CloseStdin,
            found => return Err(DecodeError::UnknownKind { found }),
        };
        reader.finish()?;
        Ok(request)
    }
}

impl<'a> Create<'a> {
    fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        check_count(self.global_args.len() + self.create_args.len())?;
        let mut writer = Writer::new(buffer, CREATE);
        writer.string(self.runtime);
        writer.list(&self.global_args);
        writer.string(self.container_id);
        writer.list(&self.create_args);
        writer.string(self.log_path);
        writer.flag(self.terminal);
        writer.flag(self.stdin);
        writer.flag(self.stdin_once);
        writer.finish()
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let create = Self {
            runtime: reader.string("runtime")?,
            global_args: reader.list("global arguments")?,
            container_id: reader.string("container id")?,
            create_args: reader.list("create arguments")?,
            log_path: reader.string("log path")?,
            terminal: reader.flag("terminal")?,
            stdin: reader.flag("stdin")?,
            stdin_once: reader.flag("stdin once")?,
        };
        if create.global_args.len() + create.create_args.len() > MAX_STRINGS {
            return Err(DecodeError::BadField {
                field: "create arguments",
            });
        }
        Ok(create)
    }
}

impl<'a> Exec<'a> {
    fn encode(&self, buffer: &mut [u8]) -> Result<usize, EncodeError> {
        check_count(self.exec_args.len() + self.argv.len())?;
        let mut writer = Writer::new(buffer, EXEC);
        writer.list(&self.exec_args);
        writer.list(&self.argv);
        writer.flag(self.terminal);
        writer.flag(self.kill_on_hangup);
        writer.finish()
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let exec = Self {
            exec_args: reader.list("exec arguments")?,
            argv: reader.list("argv")?,
            terminal: reader.flag("terminal")?,
            kill_on_hangup: reader.flag("kill on hangup")?,
        };
        if exec.exec_args.len() + exec.argv.len() > MAX_STRINGS {
            return Err(DecodeError::BadField { field: "argv" });
        }
        Ok(exec)
    }
}

fn check_count(count: usize) -> Result<(), EncodeError> {
    if count > MAX_STRINGS {
        Err(EncodeError::TooManyStrings { count })
    } else {
        Ok(())
    }
}
