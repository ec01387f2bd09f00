//! Terminals.

use crate::arch::number;
use crate::errno::call;
use crate::{Errno, Fd};

const TIOCSWINSZ: usize = 0x5414;

/// Sets the size of the terminal whose master this is, in characters.
///
/// # Errors
/// As ioctl(2).
pub fn set_window_size(master: &Fd, width: u16, height: u16) -> Result<(), Errno> {
    // struct winsize: rows, columns, and their size in pixels, which nobody knows.
    let size = [height, width, 0, 0];
    let args = [
        master.arg(),
        TIOCSWINSZ,
        (&raw const size).expose_provenance(),
    ];
    // SAFETY: the kernel reads one struct winsize, four 16 bit numbers.
    unsafe { call(number::IOCTL, args) }.map(drop)
}
