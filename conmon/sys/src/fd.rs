//! Descriptors: one owner each, closed on drop; reading and writing them.

use crate::Errno;
use crate::arch::number;
use crate::errno::{call, call_again};
use crate::file::{CLOEXEC, NONBLOCK};

/// A descriptor and its owner.
#[derive(Debug, PartialEq, Eq)]
pub struct Fd(i32);

/// A descriptor for the time of a call.
pub type BorrowedFd<'a> = &'a Fd;

/// /dev/null, the daemon's socket and the like stand below this number in a fresh process.
const FIRST_FREE: usize = 3;

const F_GETFL: usize = 3;
const F_SETFL: usize = 4;
const F_DUPFD_CLOEXEC: usize = 1030;

impl Fd {
    /// Takes the descriptor that the kernel or the parent process gave.
    pub(crate) fn from_result(result: usize) -> Self {
        Self(i32::try_from(result).unwrap_or(-1))
    }

    /// Takes a descriptor that this process was started with.
    pub const fn inherited(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub fn number(&self) -> i32 {
        self.0
    }

    pub(crate) fn arg(&self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The same open file under another number, above stdio, closed on exec.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn duplicate(&self) -> Result<Self, Errno> {
        // SAFETY: fcntl with this command takes no pointer.
        unsafe { call(number::FCNTL, [self.arg(), F_DUPFD_CLOEXEC, FIRST_FREE]) }
            .map(Self::from_result)
    }

    /// Puts it at another number too, which stays open across exec.
    ///
    /// # Errors
    /// As dup3(2).
    pub fn duplicate_to(&self, target: u8) -> Result<(), Errno> {
        // SAFETY: dup3 takes no pointer.
        unsafe { call(number::DUP3, [self.arg(), usize::from(target), 0]) }.map(drop)
    }

    /// Makes reads and writes return [`Errno::EAGAIN`] instead of waiting.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn set_nonblocking(&self) -> Result<(), Errno> {
        // SAFETY: fcntl with these commands takes no pointer.
        unsafe {
            let flags = call(number::FCNTL, [self.arg(), F_GETFL])?;
            call(number::FCNTL, [self.arg(), F_SETFL, flags | NONBLOCK]).map(drop)
        }
    }

    /// Reads into the buffer; 0 is the end.
    ///
    /// # Errors
    /// As read(2).
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let args = [
            self.arg(),
            buffer.as_mut_ptr().expose_provenance(),
            buffer.len(),
        ];
        // SAFETY: the kernel writes at most the buffer's length to it.
        unsafe { call_again(number::READ, args) }
    }

    /// Reads from an offset of the file.
    ///
    /// # Errors
    /// As pread(2).
    pub fn read_at(&self, buffer: &mut [u8], offset: usize) -> Result<usize, Errno> {
        let args = [
            self.arg(),
            buffer.as_mut_ptr().expose_provenance(),
            buffer.len(),
            offset,
        ];
        // SAFETY: the kernel writes at most the buffer's length to it.
        unsafe { call_again(number::PREAD64, args) }
    }

    /// Reads from the file's start until the buffer is full or the file ends; returns what was
    /// read.
    ///
    /// # Errors
    /// As pread(2).
    pub fn read_start<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let mut length = 0;
        while let Some(room) = buffer.get_mut(length..)
            && !room.is_empty()
        {
            match self.read_at(room, length)? {
                0 => break,
                count => length += count,
            }
        }
        Ok(buffer.get(..length).unwrap_or_default())
    }

    /// Writes some of the bytes and returns how many.
    ///
    /// # Errors
    /// As write(2).
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let args = [self.arg(), bytes.as_ptr().expose_provenance(), bytes.len()];
        // SAFETY: the kernel reads at most the length of the bytes.
        unsafe { call_again(number::WRITE, args) }
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: close takes no pointer, and this is the number's only owner. Its error tells
        // nothing that could be acted on: the number is free again in any case.
        let _ = unsafe { call(number::CLOSE, [self.arg()]) };
    }
}

/// A pipe: its end to read, its end to write; both closed on exec.
///
/// # Errors
/// As pipe2(2).
pub fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [-1_i32; 2];
    let args = [ends.as_mut_ptr().expose_provenance(), CLOEXEC];
    // SAFETY: the kernel writes two descriptors to the array.
    unsafe { call(number::PIPE2, args) }?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}
