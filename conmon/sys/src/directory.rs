//! What is in a directory.

use core::ffi::CStr;

use crate::arch::number;
use crate::errno::call_again;
use crate::{Errno, Fd};

/// Reads names of a directory, as many as the buffer takes. None are left when there are none.
///
/// # Errors
/// As getdents64(2): it is no directory, or one that has been removed.
pub fn names<'b>(directory: &Fd, buffer: &'b mut [u8]) -> Result<Names<'b>, Errno> {
    let args = [
        directory.arg(),
        buffer.as_mut_ptr().expose_provenance(),
        buffer.len(),
    ];
    // SAFETY: the kernel writes at most the buffer's length to it.
    let length = unsafe { call_again(number::GETDENTS64, args) }?;
    Ok(Names(buffer.get(..length).unwrap_or_default()))
}

/// Names of a directory, with `.` and `..`.
#[derive(Debug)]
pub struct Names<'b>(&'b [u8]);

/// Where struct linux_dirent64 has the length of the record, and its name.
const LENGTH: usize = 16;
const NAME: usize = 19;

impl<'b> Iterator for Names<'b> {
    type Item = &'b CStr;

    fn next(&mut self) -> Option<&'b CStr> {
        let length = *self.0.get(LENGTH..)?.first_chunk()?;
        let (record, rest) = self
            .0
            .split_at_checked(usize::from(u16::from_ne_bytes(length)))?;
        self.0 = rest;
        CStr::from_bytes_until_nul(record.get(NAME..)?).ok()
    }
}
