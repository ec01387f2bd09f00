//! A command line as execve wants it, in memory that was mapped once.

use core::ffi::c_char;

use crate::memory;
use crate::{Errno, map, release};

/// Arguments, copied one behind the other, and the array that points to them.
#[derive(Debug)]
pub struct Argv {
    bytes: &'static mut [u8],
    used: usize,
    pointers: &'static mut [*const c_char],
    count: usize,
    overflown: bool,
}

impl Argv {
    /// Room for so many bytes and arguments. Costs nothing until it is used.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn with_capacity(bytes: usize, arguments: usize) -> Result<Self, Errno> {
        Ok(Self {
            bytes: map(bytes)?,
            used: 0,
            pointers: memory::map_pointers(arguments + 1)?,
            count: 0,
            overflown: false,
        })
    }

    /// Begins a new command line.
    pub fn clear(&mut self) {
        self.used = 0;
        self.count = 0;
        self.overflown = false;
    }

    /// Appends an argument; one that does not fit makes the whole command line unusable.
    pub fn push(&mut self, argument: &[u8]) {
        let end = self.used + argument.len();
        let last = self.pointers.len() - 1;
        match self.bytes.get_mut(self.used..=end) {
            Some(room) if self.count < last => {
                room[..argument.len()].copy_from_slice(argument);
                room[argument.len()] = 0;
                self.pointers[self.count] = room.as_ptr().cast();
                self.count += 1;
                self.used = end + 1;
            }
            _ => self.overflown = true,
        }
    }

    /// Appends several.
    pub fn push_all<'a>(&mut self, arguments: impl IntoIterator<Item = &'a [u8]>) {
        for argument in arguments {
            self.push(argument);
        }
    }

    /// The array for execve(2), NULL at its end; the first argument is the program.
    pub(crate) fn terminated(&mut self) -> Result<*const *const c_char, Errno> {
        if self.overflown || self.count == 0 {
            return Err(Errno::E2BIG);
        }
        self.pointers[self.count] = core::ptr::null();
        Ok(self.pointers.as_ptr())
    }

    /// Gives its memory back to the kernel.
    pub fn release(&mut self) {
        self.clear();
        release(self.bytes);
        memory::release_pointers(self.pointers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ffi::CStr;
    use std::vec::Vec;

    fn read_back(argv: &mut Argv) -> Vec<Vec<u8>> {
        let mut pointer = argv.terminated().unwrap();
        let mut all = Vec::new();
        // SAFETY: the array ends with NULL, its entries are C strings.
        unsafe {
            while !(*pointer).is_null() {
                all.push(CStr::from_ptr(*pointer).to_bytes().to_vec());
                pointer = pointer.add(1);
            }
        }
        all
    }

    #[test]
    fn arguments_lie_in_order_also_after_clear_and_release() {
        let mut argv = Argv::with_capacity(4096, 8).unwrap();
        for _ in 0..2 {
            argv.push(b"/bin/sh");
            argv.push_all([b"".as_slice(), b"-c"]);
            assert_eq!(read_back(&mut argv), [b"/bin/sh".as_slice(), b"", b"-c"]);
            argv.clear();
            argv.push(b"x");
            assert_eq!(read_back(&mut argv), [b"x"]);
            argv.release();
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_until_cleared() {
        let mut argv = Argv::with_capacity(8, 2).unwrap();
        assert_eq!(argv.terminated(), Err(Errno::E2BIG));
        argv.push(b"1234567");
        assert!(argv.terminated().is_ok());
        argv.push(b"");
        assert_eq!(argv.terminated(), Err(Errno::E2BIG));
        argv.clear();
        argv.push_all([b"1".as_slice(), b"2"]);
        assert!(argv.terminated().is_ok());
        argv.push(b"3");
        assert_eq!(argv.terminated(), Err(Errno::E2BIG));
    }
}
