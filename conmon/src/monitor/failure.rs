//! Why a request is not carried out.

use core::ffi::CStr;
use core::fmt::{self, Write};

use conmon::{DecodeError, Reply, Step};
use nostd_sys::{Errno, WaitStatus};

use super::Monitor;
use super::clients::Place;
use super::text::Text;

/// What becomes a [`Reply::Failed`]. Small, as every function that can fail returns it: its words
/// are put together when they are sent.
pub(super) struct Failure {
    step: Step,
    errno: Option<Errno>,
    runtime_exit_code: i32,
    subject: Subject,
}

/// What the failure is about.
pub(super) enum Subject {
    /// Something with a name of ours; without an errno the whole message.
    Fixed(&'static str),
    /// A file of ours in the bundle directory.
    File(Text<16>),
    /// The log that was to be opened.
    Log,
    /// The runtime's program.
    Program,
    /// A bad packet.
    Packet(DecodeError),
    /// What the runtime said: so many bytes of the buffer for messages.
    Said(usize),
}

impl Failure {
    /// A system call on `subject` failed.
    pub(super) fn system(step: Step, subject: Subject, errno: Errno) -> Self {
        Self {
            step,
            errno: Some(errno),
            runtime_exit_code: -1,
            subject,
        }
    }

    /// A system call on a file of ours failed.
    pub(super) fn file(step: Step, path: &CStr, errno: Errno) -> Self {
        // Its name tells which it is, wherever it lies.
        let path = path.to_bytes();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let mut text = Text::new();
        text.push(name);
        Self::system(step, Subject::File(text), errno)
    }

    /// What is asked for cannot be.
    pub(super) fn refused(step: Step, why: &'static str) -> Self {
        Self {
            step,
            errno: None,
            runtime_exit_code: -1,
            subject: Subject::Fixed(why),
        }
    }

    /// The packet is bad.
    pub(super) fn packet(error: DecodeError) -> Self {
        let subject = Subject::Packet(error);
        Self {
            step: Step::Request,
            errno: None,
            runtime_exit_code: -1,
            subject,
        }
    }

    /// The runtime failed and said why, in the first `length` bytes of the buffer for messages.
    pub(super) fn runtime(step: Step, status: WaitStatus, length: usize) -> Self {
        let runtime_exit_code = status.exit_code();
        Self {
            step,
            errno: None,
            runtime_exit_code,
            subject: Subject::Said(length),
        }
    }
}

/// Words in a buffer; what does not fit is left out.
struct Words<'b> {
    buffer: &'b mut [u8],
    length: usize,
}

impl Words<'_> {
    fn push(&mut self, bytes: &[u8]) {
        for (place, byte) in self.buffer.iter_mut().skip(self.length).zip(bytes) {
            *place = *byte;
            self.length += 1;
        }
    }
}

impl Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl Monitor {
    /// Answers `Failed`.
    pub(super) fn reply_failed(&mut self, index: Place, failure: &Failure) {
        let buffer = core::mem::take(&mut self.buffers.message);
        let length = self.explain(failure, buffer);
        let message = buffer.get(..length).unwrap_or_default();
        let Failure {
            step,
            runtime_exit_code,
            ..
        } = *failure;
        let errno = failure.errno.map_or(0, |errno| errno.0);
        self.reply(
            index,
            &Reply::Failed {
                step,
                errno,
                runtime_exit_code,
                message,
            },
        );
        self.buffers.message = buffer;
    }

    fn explain(&self, failure: &Failure, buffer: &mut [u8]) -> usize {
        let mut words = Words { buffer, length: 0 };
        match &failure.subject {
            Subject::Fixed(text) => words.push(text.as_bytes()),
            Subject::File(name) => words.push(name.bytes()),
            Subject::Log => words.push(self.log.wanted_path()),
            Subject::Program => words.push(self.runtime.program()),
            // It never fails: what does not fit is left out.
            Subject::Packet(error) => drop(write!(words, "{error}")),
            // There already, and without an errno.
            Subject::Said(length) => words.length = *length,
        }
        if let Some(errno) = failure.errno {
            words.push(b": ");
            match errno.text() {
                Some(cause) => words.push(cause.as_bytes()),
                // As above.
                None => drop(write!(words, "errno {}", errno.0)),
            }
        }
        words.length
    }
}
