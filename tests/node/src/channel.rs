//! The outside's end of the agent: runs programs in the guest, streams their output, brings back
//! exit codes and files. Output may hold any bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::NodeError;
use crate::machine::Console;
use crate::wire::{Command, Frame, Kind, MAX_PAYLOAD, NONCE};

/// How often a wait looks whether the guest is still alive.
const LOOK: Duration = Duration::from_millis(200);

type Waiting = Arc<Mutex<HashMap<u32, Sender<Frame>>>>;

/// See the module.
#[derive(Debug)]
pub struct Channel {
    to: Mutex<UnixStream>,
    waiting: Waiting,
    next: AtomicU32,
    console: Arc<Console>,
}

/// What a program did.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// 128 + the signal, as shells have it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A program that runs inside.
#[derive(Debug)]
pub struct Running<'a> {
    channel: &'a Channel,
    id: u32,
    frames: Receiver<Frame>,
    command: String,
    line: Vec<u8>,
    errors: Vec<u8>,
    code: Option<i32>,
}

impl Channel {
    /// Waits until QEMU has made the port's socket and the agent inside answers on it.
    pub fn open(
        socket: &Path,
        console: &Arc<Console>,
        limit: Duration,
    ) -> Result<Channel, NodeError> {
        let since = Instant::now();
        let during = "the agent's start";
        let mut stream = loop {
            if let Ok(stream) = UnixStream::connect(socket) {
                break stream;
            }
            console.check(during, since, limit)?;
            std::thread::sleep(LOOK);
        };
        let mut nonce = vec![0; NONCE];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut nonce))
            .map_err(NodeError::io("/dev/urandom"))?;
        let sync = Frame {
            kind: Kind::Sync,
            id: 0,
            payload: nonce,
        };
        let mut wanted = Vec::new();
        let step = || NodeError::io(format!("{}: write", socket.display()));
        sync.write(&mut wanted).map_err(step())?;
        stream.write_all(&wanted).map_err(step())?;
        let waiting = Waiting::default();
        let from = stream
            .try_clone()
            .map_err(NodeError::io("clone a socket"))?;
        let (sender, in_step) = channel();
        let shared = Arc::clone(&waiting);
        std::thread::spawn(move || {
            if skip_to(&from, &wanted).is_ok() {
                // Nobody waits any more once the limit is over.
                let _ = sender.send(());
                dispatch(from, &shared);
            }
            // Whoever still waits sees that its sender has gone.
            lock(&shared).clear();
        });
        loop {
            match in_step.recv_timeout(LOOK) {
                Ok(()) => break,
                Err(_) => console.check(during, since, limit)?,
            }
        }
        Ok(Channel {
            to: Mutex::new(stream),
            waiting,
            next: AtomicU32::new(1),
            console: Arc::clone(console),
        })
    }

    /// Starts a program.
    pub fn start(&self, argv: &[&str]) -> Result<Running<'_>, NodeError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, frames) = channel();
        lock(&self.waiting).insert(id, sender);
        let command = Command {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        };
        let payload = serde_json::to_vec(&command)
            .map_err(|error| NodeError::Malformed(error.to_string()))?;
        if payload.len() > MAX_PAYLOAD {
            let text = format!("a command line of {} bytes", payload.len());
            return Err(NodeError::Malformed(text));
        }
        self.send(Kind::Run, id, payload)?;
        Ok(Running {
            channel: self,
            id,
            frames,
            command: argv.join(" "),
            line: Vec::new(),
            errors: Vec::new(),
            code: None,
        })
    }

    /// Runs a program to its end, whatever that is.
    pub fn run(&self, limit: Duration, argv: &[&str]) -> Result<Output, NodeError> {
        let running = self.start(argv)?;
        self.send(Kind::In, running.id, Vec::new())?;
        running.output(limit)
    }

    /// Runs a program that must exit 0; gives its standard output as text.
    pub fn good(&self, limit: Duration, argv: &[&str]) -> Result<String, NodeError> {
        let output = self.run(limit, argv)?;
        if output.code != 0 {
            return Err(inside(&argv.join(" "), &output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes a file inside.
    pub fn put(&self, path: &str, bytes: &[u8], limit: Duration) -> Result<(), NodeError> {
        let running = self.start(&["tee", path])?;
        for piece in bytes.chunks(MAX_PAYLOAD) {
            self.send(Kind::In, running.id, piece.to_vec())?;
        }
        self.send(Kind::In, running.id, Vec::new())?;
        let output = running.output(limit)?;
        if output.code == 0 && output.stdout == bytes {
            return Ok(());
        }
        Err(inside(&format!("tee {path}"), &output))
    }

    fn send(&self, kind: Kind, id: u32, payload: Vec<u8>) -> Result<(), NodeError> {
        let frame = Frame { kind, id, payload };
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        frame
            .write(&mut *to)
            .map_err(NodeError::io("write to the virtual machine's agent"))
    }
}

impl Running<'_> {
    /// The next line of its standard output, without its end; `None` when it has ended.
    pub fn line(&mut self, limit: Duration) -> Result<Option<String>, NodeError> {
        let since = Instant::now();
        loop {
            if let Some(at) = self.line.iter().position(|byte| *byte == b'\n') {
                let rest = self.line.split_off(at + 1);
                let line = std::mem::replace(&mut self.line, rest);
                return Ok(Some(String::from_utf8_lossy(&line[..at]).into_owned()));
            }
            if self.code.is_some() {
                return Ok(None);
            }
            self.next(since, limit)?;
        }
    }

    /// Waits until it has ended and gives what [`Running::line`] has not taken yet.
    pub fn output(mut self, limit: Duration) -> Result<Output, NodeError> {
        let since = Instant::now();
        loop {
            if let Some(code) = self.code {
                return Ok(Output {
                    code,
                    stdout: std::mem::take(&mut self.line),
                    stderr: std::mem::take(&mut self.errors),
                });
            }
            self.next(since, limit)?;
        }
    }

    /// As [`Running::output`], when anything but exit code 0 is a failure.
    pub fn succeed(self, limit: Duration) -> Result<String, NodeError> {
        let command = self.command.clone();
        let output = self.output(limit)?;
        if output.code != 0 {
            return Err(inside(&command, &output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Takes one frame, or looks whether to go on waiting.
    fn next(&mut self, since: Instant, limit: Duration) -> Result<(), NodeError> {
        let console = &self.channel.console;
        match self.frames.recv_timeout(LOOK) {
            Ok(frame) => match frame.kind {
                Kind::Out => self.line.extend(frame.payload),
                Kind::Err => self.errors.extend(frame.payload),
                Kind::Exit => {
                    let code = frame.payload.try_into();
                    let code = code.map_err(|_| NodeError::Malformed("no exit code".into()))?;
                    self.code = Some(i32::from_le_bytes(code));
                }
                kind => return Err(NodeError::Malformed(format!("{kind:?} from the agent"))),
            },
            Err(RecvTimeoutError::Timeout) => console.check(&self.command, since, limit)?,
            Err(RecvTimeoutError::Disconnected) => return Err(console.ended(&self.command)),
        }
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.channel.waiting).remove(&self.id);
        if self.code.is_none() {
            // A machine that has gone has no program to end.
            drop(self.channel.send(Kind::Kill, self.id, Vec::new()));
        }
    }
}

fn inside(command: &str, output: &Output) -> NodeError {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    NodeError::Inside {
        command: command.to_owned(),
        code: output.code,
        output: String::from_utf8_lossy(&text).into_owned(),
    }
}

/// Reads until the last bytes read are `wanted`.
fn skip_to(mut from: &UnixStream, wanted: &[u8]) -> std::io::Result<()> {
    let mut seen = vec![0; wanted.len()];
    let mut byte = [0];
    while seen != wanted {
        from.read_exact(&mut byte)?;
        seen.rotate_left(1);
        if let Some(last) = seen.last_mut() {
            *last = byte[0];
        }
    }
    Ok(())
}

/// Hands each frame to who waits for it, until the port's end.
fn dispatch(mut from: UnixStream, waiting: &Waiting) {
    while let Ok(Some(frame)) = Frame::read(&mut from) {
        if let Some(waits) = lock(waiting).get(&frame.id) {
            // Its owner may be going away at this moment.
            drop(waits.send(frame));
        }
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u32, Sender<Frame>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
