//! The kernel's error numbers, as far as the monitor meets them.

use crate::arch;

/// Why a system call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// What it means, in the words of strerror(3); none for what the monitor does not meet.
            pub fn text(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such file or directory";
    EINTR = 4, "interrupted system call";
    EIO = 5, "input/output error";
    ENXIO = 6, "no such device or address";
    E2BIG = 7, "argument list too long";
    ENOEXEC = 8, "exec format error";
    ECHILD = 10, "no child processes";
    EAGAIN = 11, "resource temporarily unavailable";
    ENOMEM = 12, "cannot allocate memory";
    EACCES = 13, "permission denied";
    EEXIST = 17, "file exists";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "too many open files in system";
    EMFILE = 24, "too many open files";
    EFBIG = 27, "file too large";
    ENOSPC = 28, "no space left on device";
    EROFS = 30, "read-only file system";
    EPIPE = 32, "broken pipe";
    ENAMETOOLONG = 36, "file name too long";
    ELOOP = 40, "too many levels of symbolic links";
    ENOTSOCK = 88, "socket operation on non-socket";
    EMSGSIZE = 90, "message too long";
    EADDRINUSE = 98, "address already in use";
    EDQUOT = 122, "disk quota exceeded";
}

/// A system call whose arguments hold no pointer to memory that it writes.
///
/// # Safety
/// As the call itself demands: pointers among the arguments must be valid for what it does.
pub(crate) unsafe fn call<const N: usize>(number: usize, args: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    for (place, value) in all.iter_mut().zip(args) {
        *place = value;
    }
    // SAFETY: the caller's promise.
    check(unsafe { arch::syscall6(number, all) })
}

/// The same, begun anew while a signal interrupts it (stopping and continuing a process does).
///
/// # Safety
/// As [`call`].
pub(crate) unsafe fn call_again<const N: usize>(
    number: usize,
    args: [usize; N],
) -> Result<usize, Errno> {
    loop {
        // SAFETY: the caller's promise.
        match unsafe { call(number, args) } {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// The kernel answers -4095 to -1 for errors.
pub(crate) fn check(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno(i32::try_from(-result).unwrap_or(i32::MAX)))
}
