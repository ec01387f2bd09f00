//! From the kernel's first instruction to a function of type `fn(&Arguments) -> i32`, and the
//! symbols that the compiler wants where there is neither std nor libc.

use core::ffi::{CStr, c_char};

use crate::arch;

/// The program's arguments and environment, as the kernel laid them on the stack.
#[derive(Debug)]
pub struct Arguments {
    argv: *const *const c_char,
    envp: *const *const c_char,
}

impl Arguments {
    /// Reads the block that the kernel leaves at the first stack pointer: argc, argv, NULL, envp,
    /// NULL.
    ///
    /// # Safety
    /// `stack` is the stack pointer at the program's entry.
    pub unsafe fn from_stack(stack: *const usize) -> Self {
        // SAFETY: by the ABI the argument count lies first, then so many pointers and a NULL.
        unsafe {
            let count = *stack;
            let argv = stack.add(1).cast::<*const c_char>();
            Self {
                argv,
                envp: argv.add(count + 1),
            }
        }
    }

    /// The argument at `index`, the program's name being 0.
    pub fn get(&self, index: usize) -> Option<&CStr> {
        let mut argument = self.argv;
        // SAFETY: argv ends with NULL and the walk stops there; each other entry is a C string
        // that lives as long as the process.
        unsafe {
            for _ in 0..index {
                if (*argument).is_null() {
                    return None;
                }
                argument = argument.add(1);
            }
            if (*argument).is_null() {
                None
            } else {
                Some(CStr::from_ptr(*argument))
            }
        }
    }

    pub(crate) fn environment(&self) -> *const *const c_char {
        self.envp
    }
}

/// memcpy of the C standard.
///
/// # Safety
/// As there.
pub unsafe fn memcpy(target: *mut u8, source: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { arch::copy_upwards(target, source, length) };
    target
}

/// memmove of the C standard.
///
/// # Safety
/// As there.
pub unsafe fn memmove(target: *mut u8, source: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise; upwards is right where the target does not begin within the
    // source.
    unsafe {
        if target.addr().wrapping_sub(source.addr()) >= length {
            arch::copy_upwards(target, source, length);
        } else {
            arch::copy_downwards(target, source, length);
        }
    }
    target
}

/// memset of the C standard.
///
/// # Safety
/// As there.
pub unsafe fn memset(target: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: the caller's promise; C too takes the low byte of the int.
    unsafe { arch::fill(target, byte.to_le_bytes()[0], length) };
    target
}

/// memcmp of the C standard.
///
/// # Safety
/// As there.
pub unsafe fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: the caller's ranges. Volatile, or the compiler makes a call of memcmp of it.
        let (l, r) = unsafe {
            (
                left.add(index).read_volatile(),
                right.add(index).read_volatile(),
            )
        };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
    }
    0
}

/// strlen of the C standard.
///
/// # Safety
/// As there.
pub unsafe fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller's string ends with a NUL. Volatile, or the compiler makes a call of
    // strlen of it.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// Makes a program of `$main: fn(&Arguments) -> i32`, whose result is the exit code. To be used
/// once, at the root of a `#![no_std] #![no_main]` binary, linked as the package's build.rs says.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_arch = "x86_64")]
        ::core::arch::global_asm!(
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "and rsp, -16",
            "call {entry}",
            "ud2",
            entry = sym __entry,
        );

        #[cfg(target_arch = "aarch64")]
        ::core::arch::global_asm!(
            ".globl _start",
            "_start:",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, sp",
            "bl {entry}",
            "brk 1",
            entry = sym __entry,
        );

        extern "C" fn __entry(stack: *const usize) -> ! {
            let main: fn(&$crate::Arguments) -> i32 = $main;
            // SAFETY: `_start` above hands over the first stack pointer.
            let arguments = unsafe { $crate::Arguments::from_stack(stack) };
            $crate::exit(main(&arguments))
        }

        // A panic is a bug; there is nobody to read a message, and its text would cost pages.
        // 70 is EX_SOFTWARE.
        #[panic_handler]
        fn __panic(_: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::exit(70)
        }

        /// Named by core's unwind tables, which are built in whatever the profile's panic mode.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}

        /// As above.
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            $crate::exit(70)
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, length: usize) -> *mut u8 {
            // SAFETY: the compiler calls it as the C standard says.
            unsafe { $crate::entry::memcpy(target, source, length) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn memmove(target: *mut u8, source: *const u8, length: usize) -> *mut u8 {
            // SAFETY: as above.
            unsafe { $crate::entry::memmove(target, source, length) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn memset(target: *mut u8, byte: i32, length: usize) -> *mut u8 {
            // SAFETY: as above.
            unsafe { $crate::entry::memset(target, byte, length) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
            // SAFETY: as above.
            unsafe { $crate::entry::memcmp(left, right, length) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
            // SAFETY: as above.
            unsafe { $crate::entry::memcmp(left, right, length) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn strlen(string: *const u8) -> usize {
            // SAFETY: as above.
            unsafe { $crate::entry::strlen(string) }
        }
    };
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    #[test]
    fn copies_compares_and_fills_agree_with_the_standard_ones_at_every_length_and_overlap() {
        for length in 0..100_usize {
            for (from, to) in [
                (0, 200),
                (200, 0),
                (50, 50),
                (50, 51),
                (51, 50),
                (50, 67),
                (67, 50),
            ] {
                let original: Vec<u8> = (0..=255).chain(0..=255).collect();
                let mut expected = original.clone();
                expected.copy_within(from..from + length, to);
                let mut copied = original.clone();
                let base = copied.as_mut_ptr();
                // SAFETY: both ranges lie within the vector.
                unsafe { super::memmove(base.add(to), base.add(from), length) };
                assert_eq!(copied, expected, "{length} bytes from {from} to {to}");
                // SAFETY: as above.
                let order =
                    unsafe { super::memcmp(original.as_ptr().add(1), original.as_ptr(), length) };
                assert_eq!(order, i32::from(length > 0));
            }
            let mut filled = std::vec![1_u8; 128];
            // SAFETY: within the vector.
            unsafe { super::memset(filled.as_mut_ptr(), 0x5a5, length) };
            assert!(filled[..length].iter().all(|byte| *byte == 0xa5));
            assert!(filled[length..].iter().all(|byte| *byte == 1));
        }
    }
}
