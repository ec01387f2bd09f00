//! Serves the port: runs what comes over it, sends back what that writes and how it ends.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cricket_node::wire::{Command, Frame, Kind, MAX_PAYLOAD, PORT};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a shell says of a command that cannot be started.
const NOT_STARTED: i32 = 127;

/// Frames to the outside; each goes in one piece.
#[derive(Clone)]
struct Outside(Arc<Mutex<File>>);

impl Outside {
    fn send(&self, kind: Kind, id: u32, payload: Vec<u8>) {
        let frame = Frame { kind, id, payload };
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = frame.write(&mut *port) {
            eprintln!("agent: {error}");
        }
    }
}

/// A started program: its group, and where its input goes.
struct Started {
    group: Pid,
    input: Sender<Vec<u8>>,
}

/// Never returns while the port is there.
pub fn serve() -> io::Result<()> {
    let path = format!("/dev/virtio-ports/{PORT}");
    let mut port = OpenOptions::new().read(true).write(true).open(path)?;
    let outside = Outside(Arc::new(Mutex::new(port.try_clone()?)));
    let mut programs: HashMap<u32, Started> = HashMap::new();
    loop {
        let Some(frame) = Frame::read(&mut port)? else {
            // Nobody outside has opened the port; a read does not wait for that.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        match frame.kind {
            Kind::Sync => outside.send(Kind::Sync, frame.id, frame.payload),
            Kind::Run => {
                if let Some(started) = run(&outside, &frame) {
                    programs.insert(frame.id, started);
                }
            }
            Kind::In => {
                if let Some(program) = programs.get(&frame.id) {
                    // It may have closed its input or ended.
                    drop(program.input.send(frame.payload));
                }
            }
            Kind::Kill => {
                if let Some(program) = programs.remove(&frame.id) {
                    // Nobody of it may be left.
                    let _ = killpg(program.group, Signal::SIGKILL);
                }
            }
            Kind::Out | Kind::Err | Kind::Exit => {}
        }
    }
}

fn run(outside: &Outside, frame: &Frame) -> Option<Started> {
    match start(outside, frame) {
        Ok(started) => Some(started),
        Err(error) => {
            outside.send(Kind::Err, frame.id, format!("{error}\n").into_bytes());
            outside.send(Kind::Exit, frame.id, NOT_STARTED.to_le_bytes().to_vec());
            None
        }
    }
}

fn start(outside: &Outside, frame: &Frame) -> io::Result<Started> {
    let command: Command = serde_json::from_slice(&frame.payload).map_err(io::Error::other)?;
    let (program, arguments) = command
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("no program"))?;
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    let (input, bytes) = channel();
    if let Some(stdin) = child.stdin.take() {
        std::thread::spawn(move || feed(stdin, &bytes));
    }
    let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let (outside, id) = (outside.clone(), frame.id);
    std::thread::spawn(move || tell(&outside, id, child));
    Ok(Started { group, input })
}

/// Standard input, until an empty piece, or until the program takes no more.
fn feed(mut stdin: ChildStdin, bytes: &Receiver<Vec<u8>>) {
    for piece in bytes {
        if piece.is_empty() || stdin.write_all(&piece).is_err() {
            return;
        }
    }
}

fn tell(outside: &Outside, id: u32, mut child: Child) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let readers = [
        stdout.map(|from| forward(outside, Kind::Out, id, from)),
        stderr.map(|from| forward(outside, Kind::Err, id, from)),
    ];
    for reader in readers.into_iter().flatten() {
        drop(reader.join());
    }
    let code = match child.wait() {
        Ok(status) => status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
        Err(_) => NOT_STARTED,
    };
    outside.send(Kind::Exit, id, code.to_le_bytes().to_vec());
}

fn forward(
    outside: &Outside,
    kind: Kind,
    id: u32,
    mut from: impl Read + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let outside = outside.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; MAX_PAYLOAD];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            outside.send(kind, id, buffer[..length].to_vec());
        }
    })
}
