//! The container's stdin, stdout and stderr, as seen from outside: pipes or a pty's master.

use conmon::{Create, MAX_CHUNK, Stream};
use nostd_sys::{Errno, Fd, Stdio, chmod_file, map, pipe, release, set_window_size};

/// Mode of the container's ends. Programs open them anew by name (/dev/stdout), also in a user
/// namespace, where the runtime cannot give them to the container's user: their owner, the node's
/// root, has no id there. Nobody else gets at them: /proc/<pid>/fd is its process's alone.
const MODE: u16 = 0o666;

/// Our ends.
pub(super) struct ContainerStdio {
    stdin: Stdin,
    /// With a terminal its master.
    stdout: Option<Fd>,
    stderr: Option<Fd>,
    is_terminal: bool,
}

/// The container's ends, until the runtime has them; none: /dev/null.
pub(super) struct ContainerEnds {
    stdin: Option<Fd>,
    stdout: Fd,
    stderr: Fd,
}

impl ContainerEnds {
    pub(super) fn stdio<'a>(&'a self, null: &'a Fd) -> Stdio<'a> {
        Stdio {
            stdin: self.stdin.as_ref().unwrap_or(null),
            stdout: &self.stdout,
            stderr: &self.stderr,
        }
    }
}

impl ContainerStdio {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            stdin: Stdin::new()?,
            stdout: None,
            stderr: None,
            is_terminal: false,
        })
    }

    /// Makes the pipes of a container without terminal.
    pub(super) fn make_pipes(&mut self, create: &Create<'_>) -> Result<ContainerEnds, Errno> {
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        stdout.set_nonblocking()?;
        stderr.set_nonblocking()?;
        chmod_file(&stdout_end, MODE)?;
        chmod_file(&stderr_end, MODE)?;
        let mut stdin_end = None;
        if create.stdin {
            let (end, stdin) = pipe()?;
            stdin.set_nonblocking()?;
            chmod_file(&end, MODE)?;
            stdin_end = Some(end);
            self.stdin.fd = Some(stdin);
            self.stdin.is_once = create.stdin_once;
        }
        self.stdout = Some(stdout);
        self.stderr = Some(stderr);
        Ok(ContainerEnds {
            stdin: stdin_end,
            stdout: stdout_end,
            stderr: stderr_end,
        })
    }

    /// Takes the master of the container's terminal.
    pub(super) fn take_master(&mut self, master: Fd, has_stdin: bool) -> Result<(), Errno> {
        master.set_nonblocking()?;
        if has_stdin {
            self.stdin.fd = Some(master.duplicate()?);
        }
        self.stdout = Some(master);
        self.is_terminal = true;
        Ok(())
    }

    pub(super) fn output(&self, stream: Stream) -> Option<&Fd> {
        match stream {
            Stream::Stdout => self.stdout.as_ref(),
            Stream::Stderr => self.stderr.as_ref(),
        }
    }

    /// Whether there is more to come from the container.
    pub(super) fn has_output(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Reads what the container wrote, without waiting. None: nothing now. At its end the
    /// descriptor is closed.
    pub(super) fn read(&mut self, stream: Stream, buffer: &mut [u8]) -> Option<usize> {
        let place = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        match place.as_ref()?.read(buffer) {
            Err(Errno::EAGAIN) => None,
            // A pty's master says EIO when nobody holds the other side any more.
            Ok(0) | Err(_) => {
                *place = None;
                None
            }
            Ok(count) => Some(count),
        }
    }

    pub(super) fn stdin(&mut self) -> &mut Stdin {
        &mut self.stdin
    }

    /// The stdin to wait for, while bytes wait for it.
    pub(super) fn blocked_stdin(&self) -> Option<&Fd> {
        if self.stdin.is_blocked() {
            self.stdin.fd.as_ref()
        } else {
            None
        }
    }

    /// Closes the container's stdin once it has what was sent. A terminal has no end of input: its
    /// line discipline makes one of a Ctrl-D.
    pub(super) fn close_stdin(&mut self) {
        if !self.is_terminal {
            self.stdin.close();
        }
    }

    /// An attach with stdin has ended.
    pub(super) fn stdin_detached(&mut self) {
        if self.stdin.is_once {
            self.close_stdin();
        }
    }

    /// Sets the terminal's size; none if there is no terminal.
    pub(super) fn resize(&self, width: u16, height: u16) -> Option<Result<(), Errno>> {
        let master = self.stdout.as_ref().filter(|_| self.is_terminal)?;
        Some(set_window_size(master, width, height))
    }
}

/// The way into the container. At most one chunk waits for a container that does not read; as long
/// as one waits, no attach is read from.
pub(super) struct Stdin {
    fd: Option<Fd>,
    waiting: &'static mut [u8],
    start: usize,
    end: usize,
    closes_after: bool,
    is_once: bool,
}

impl Stdin {
    fn new() -> Result<Self, Errno> {
        let waiting = map(MAX_CHUNK)?;
        Ok(Self {
            fd: None,
            waiting,
            start: 0,
            end: 0,
            closes_after: false,
            is_once: false,
        })
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.start < self.end
    }

    /// Writes the data, or keeps what the container does not take now. Not to be called while it
    /// is blocked.
    pub(super) fn feed(&mut self, data: &[u8]) {
        if self.fd.is_none() {
            return;
        }
        if let Some(room) = self.waiting.get_mut(..data.len()) {
            room.copy_from_slice(data);
            self.start = 0;
            self.end = data.len();
            self.flush();
        }
    }

    /// Goes on with what waits.
    pub(super) fn flush(&mut self) {
        while self.is_blocked()
            && let Some(fd) = &self.fd
        {
            match fd.write(self.waiting.get(self.start..self.end).unwrap_or_default()) {
                Ok(count) => self.start += count,
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    // The container has closed its stdin: what waits for it is void.
                    self.fd = None;
                    self.end = self.start;
                }
            }
        }
        if self.closes_after {
            self.fd = None;
        }
    }

    fn close(&mut self) {
        self.closes_after = true;
        self.flush();
    }

    /// Gives the memory back; only while it is not blocked.
    pub(super) fn release(&mut self) {
        if !self.is_blocked() {
            release(self.waiting);
        }
    }
}
