//! A file system whose server can stop answering, as a dead network server does: fuse(4) spoken by
//! hand, because a crate for it would bring more than is needed.
//!
//! ```text
//! <mount>/sub/     an empty directory
//! <mount>/data     a file of one line
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The largest request: 128 KiB of data and its heads.
const BUFFER: usize = 256 << 10;
/// How often the server looks whether it is told something else.
const TICK: Duration = Duration::from_millis(10);
/// What `data` says.
const DATA: &[u8] = b"alive\n";

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// What the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    Answer,
    /// As if it had got SIGSTOP: requests stay in the kernel, whoever waits can be killed.
    Stopped,
    /// Takes requests and never answers: whoever waits cannot even be killed.
    Silent,
    End,
}

/// What test and server tell each other.
#[derive(Debug, Default)]
struct Told {
    mode: AtomicU8,
    /// The mode that the server is in.
    heard: AtomicU8,
    unanswered: AtomicUsize,
}

/// A mounted file system; unmounted when dropped, and whoever waits for it gets an error.
#[derive(Debug)]
pub struct DeadFs {
    at: PathBuf,
    told: Arc<Told>,
    server: Option<JoinHandle<()>>,
}

impl DeadFs {
    /// Mounts one at a directory; it answers.
    #[track_caller]
    pub fn mount(at: &Path) -> DeadFs {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.expect("/dev/fuse: the kernel has FUSE");
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("dead"), at, Some("fuse"), flags, Some(&*options)).unwrap();
        let told = Arc::new(Told::default());
        let heard = Arc::clone(&told);
        let server = std::thread::spawn(move || serve(&device, &heard));
        DeadFs {
            at: at.to_owned(),
            told,
            server: Some(server),
        }
    }

    /// As if the server had got SIGSTOP.
    pub fn stop(&self) {
        self.set(Mode::Stopped);
    }

    /// The server takes requests and never answers them.
    pub fn fall_silent(&self) {
        self.set(Mode::Silent);
    }

    /// How many requests it has taken and not answered.
    pub fn unanswered(&self) -> usize {
        self.told.unanswered.load(Ordering::SeqCst)
    }

    /// Ends the server: whoever waits gets an error.
    pub fn end(&mut self) {
        if let Some(server) = self.server.take() {
            self.set(Mode::End);
            server.join().expect("the server does not panic");
        }
    }

    /// Tells the server, and waits until it has heard.
    fn set(&self, mode: Mode) {
        self.told.mode.store(mode as u8, Ordering::SeqCst);
        while self.told.heard.load(Ordering::SeqCst) != mode as u8 {
            std::thread::sleep(TICK);
        }
    }
}

impl Drop for DeadFs {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.set(Mode::End);
            drop(server.join());
        }
        // A container that a failed test left may have it mounted too.
        if let Err(error) = umount2(&self.at, MntFlags::MNT_DETACH) {
            eprintln!("harness: {}: cannot unmount: {error}", self.at.display());
        }
    }
}

/// Serves until it is told to end; the device is closed with this, which ends what waits.
fn serve(device: &File, told: &Told) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let now = told.mode.load(Ordering::SeqCst);
        told.heard.store(now, Ordering::SeqCst);
        if now == Mode::End as u8 {
            return;
        }
        if now == Mode::Stopped as u8 || !readable(device) {
            if now == Mode::Stopped as u8 {
                std::thread::sleep(TICK);
            }
            continue;
        }
        let Ok(length) = (&*device).read(&mut buffer) else {
            continue;
        };
        let request = Request::of(&buffer[..length]);
        let Some(answer) = request.answer() else {
            continue;
        };
        if now == Mode::Answer as u8 {
            // Whoever asked may have been killed.
            let _gone = (&*device).write(&answer);
        } else {
            told.unanswered.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Whether there is a request; waits a tick for one.
fn readable(device: &File) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    let tick = PollTimeout::try_from(TICK).expect("a short time");
    poll(&mut fds, tick).is_ok_and(|count| count > 0)
}

/// A request, as far as it matters here (`struct fuse_in_header` of linux/fuse.h, and the body).
struct Request<'b> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'b [u8],
}

impl<'b> Request<'b> {
    fn of(bytes: &'b [u8]) -> Self {
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        Request {
            opcode: word(4),
            unique: long(8),
            node: long(16),
            body: &bytes[40..],
        }
    }

    /// The answer; none to what wants none.
    fn answer(&self) -> Option<Vec<u8>> {
        let answer = match self.opcode {
            // FORGET, INTERRUPT, BATCH_FORGET
            2 | 36 | 42 => return None,
            // INIT
            26 => Ok(init()),
            // LOOKUP
            1 => match self.body {
                b"data\0" => Ok(entry(2)),
                b"sub\0" => Ok(entry(3)),
                _ => Err(ENOENT),
            },
            // GETATTR
            3 => Ok([vec![0; 16], attributes(self.node)].concat()),
            // OPEN, OPENDIR: nothing is cached
            14 | 27 => Ok([0u64.to_ne_bytes(), 1u64.to_ne_bytes()].concat()),
            // READ
            15 => {
                let offset = u64::from_ne_bytes(self.body[8..16].try_into().unwrap());
                Ok(if offset == 0 {
                    DATA.to_vec()
                } else {
                    Vec::new()
                })
            }
            // STATFS
            17 => Ok(vec![0; 80]),
            // READDIR, RELEASE, RELEASEDIR, FLUSH
            28 | 18 | 29 | 25 => Ok(Vec::new()),
            _ => Err(ENOSYS),
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(errno) => (-errno, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).expect("a short answer");
        let mut whole = length.to_ne_bytes().to_vec();
        whole.extend(error.to_ne_bytes());
        whole.extend(self.unique.to_ne_bytes());
        whole.extend(body);
        Some(whole)
    }
}

/// `struct fuse_init_out`: version 7.31, no features.
fn init() -> Vec<u8> {
    let mut out = Vec::new();
    for word in [7u32, 31, 0, 0] {
        out.extend(word.to_ne_bytes());
    }
    for half in [12u16, 9] {
        out.extend(half.to_ne_bytes());
    }
    for word in [128u32 << 10, 1] {
        out.extend(word.to_ne_bytes());
    }
    out.resize(64, 0);
    out
}

/// `struct fuse_entry_out`: valid for no time, so that everything is asked again.
fn entry(node: u64) -> Vec<u8> {
    let mut out = node.to_ne_bytes().to_vec();
    out.resize(40, 0);
    out.extend(attributes(node));
    out
}

/// `struct fuse_attr`.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, size) = if node == 2 {
        (0o100_644_u32, DATA.len() as u64)
    } else {
        (0o040_755, 4096)
    };
    let mut out = Vec::new();
    for long in [node, size, 1, 0, 0, 0] {
        out.extend(long.to_ne_bytes());
    }
    for word in [0u32, 0, 0, mode, 2, 0, 0, 0, 4096, 0] {
        out.extend(word.to_ne_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_answers_until_it_is_stopped_and_ends_whoever_waits() {
        let dir = tempfile::tempdir().unwrap();
        let mut dead = DeadFs::mount(dir.path());
        let data = dir.path().join("data");
        assert_eq!(fs::read(&data).unwrap(), DATA);
        assert!(fs::metadata(dir.path().join("sub")).unwrap().is_dir());
        assert!(!dir.path().join("other").exists());
        dead.stop();
        let waits = std::thread::spawn(move || fs::read(data));
        std::thread::sleep(10 * TICK);
        assert!(!waits.is_finished());
        dead.end();
        assert!(waits.join().unwrap().is_err());
    }
}
