//! aarch64: how to enter the kernel, how to start a child on a stack of its own, how to copy.

use core::arch::asm;
use core::ffi::c_void;

/// The numbers of the system calls (include/uapi/asm-generic/unistd.h).
pub(crate) mod number {
    pub(crate) const DUP3: usize = 24;
    pub(crate) const FCNTL: usize = 25;
    pub(crate) const IOCTL: usize = 29;
    pub(crate) const UNLINKAT: usize = 35;
    pub(crate) const RENAMEAT: usize = 38;
    pub(crate) const STATFS: usize = 43;
    pub(crate) const FTRUNCATE: usize = 46;
    pub(crate) const FCHMOD: usize = 52;
    pub(crate) const OPENAT: usize = 56;
    pub(crate) const CLOSE: usize = 57;
    pub(crate) const PIPE2: usize = 59;
    pub(crate) const GETDENTS64: usize = 61;
    pub(crate) const READ: usize = 63;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const PREAD64: usize = 67;
    pub(crate) const PPOLL: usize = 73;
    pub(crate) const SIGNALFD4: usize = 74;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const CLOCK_GETTIME: usize = 113;
    pub(crate) const KILL: usize = 129;
    pub(crate) const RT_SIGACTION: usize = 134;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const SETSID: usize = 157;
    pub(crate) const UMASK: usize = 166;
    pub(crate) const PRCTL: usize = 167;
    pub(crate) const GETPID: usize = 172;
    pub(crate) const SOCKET: usize = 198;
    pub(crate) const BIND: usize = 200;
    pub(crate) const LISTEN: usize = 201;
    pub(crate) const SETSOCKOPT: usize = 208;
    pub(crate) const SENDMSG: usize = 211;
    pub(crate) const RECVMSG: usize = 212;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const MMAP: usize = 222;
    pub(crate) const MADVISE: usize = 233;
    pub(crate) const ACCEPT4: usize = 242;
    pub(crate) const WAIT4: usize = 260;
    pub(crate) const STATX: usize = 291;
    pub(crate) const FSOPEN: usize = 430;
    pub(crate) const FSCONFIG: usize = 431;
    pub(crate) const FSMOUNT: usize = 432;
}

/// One system call with six arguments; the others are calls of this one, since loading a register
/// that the kernel does not read costs nothing.
///
/// # Safety
/// As the call itself demands: pointers among the arguments must be valid for what it does.
pub(crate) unsafe fn syscall6(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the aarch64 system call convention; the kernel changes
    // x0 only. What the call does to memory is the caller's promise.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// clone(2) with `flags`; the child calls `entry(argument)` on `stack_top` and must not return.
///
/// # Safety
/// `stack_top` is the 16-aligned end of memory that nothing else uses until the child has exec'd
/// or ended, which with CLONE_VFORK is when this returns.
pub(crate) unsafe fn clone_on_stack(
    flags: usize,
    stack_top: *mut u8,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    let result: isize;
    // SAFETY: the child gets x0 = 0 and its own stack, so it never touches this frame; the parent
    // goes on behind the label with the registers that it had.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk 1",
            "2:",
            in("x8") number::CLONE,
            inlateout("x0") flags => result,
            in("x1") stack_top,
            in("x2") 0,
            in("x3") 0,
            in("x4") 0,
            in("x20") entry,
            in("x21") argument,
        );
    }
    result
}

/// Copies upwards: 16 bytes a step, then the rest byte by byte.
///
/// # Safety
/// As memcpy; also right where the target lies below the source and they overlap.
pub(crate) unsafe fn copy_upwards(target: *mut u8, source: *const u8, length: usize) {
    // SAFETY: the caller's ranges; the steps stay within them.
    unsafe {
        asm!(
            "subs {n}, {n}, #16",
            "b.lo 3f",
            "2:",
            "ldr {v:q}, [{s}], #16",
            "str {v:q}, [{t}], #16",
            "subs {n}, {n}, #16",
            "b.hs 2b",
            "3:",
            "adds {n}, {n}, #16",
            "b.eq 5f",
            "4:",
            "ldrb {b:w}, [{s}], #1",
            "strb {b:w}, [{t}], #1",
            "subs {n}, {n}, #1",
            "b.ne 4b",
            "5:",
            n = inout(reg) length => _,
            s = inout(reg) source => _,
            t = inout(reg) target => _,
            v = out(vreg) _,
            b = out(reg) _,
            options(nostack),
        );
    }
}

/// Copies downwards, for overlapping ranges with the target above the source.
///
/// # Safety
/// As memmove.
pub(crate) unsafe fn copy_downwards(target: *mut u8, source: *const u8, length: usize) {
    // SAFETY: the caller's ranges, from their last byte down.
    unsafe {
        asm!(
            "cbz {n}, 3f",
            "2:",
            "ldrb {b:w}, [{s}, #-1]!",
            "strb {b:w}, [{t}, #-1]!",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            "3:",
            n = inout(reg) length => _,
            s = inout(reg) source.add(length) => _,
            t = inout(reg) target.add(length) => _,
            b = out(reg) _,
            options(nostack),
        );
    }
}

/// Sets `length` bytes.
///
/// # Safety
/// As memset.
pub(crate) unsafe fn fill(target: *mut u8, byte: u8, length: usize) {
    // SAFETY: the caller's range.
    unsafe {
        asm!(
            "cbz {n}, 3f",
            "2:",
            "strb {b:w}, [{t}], #1",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            "3:",
            n = inout(reg) length => _,
            t = inout(reg) target => _,
            b = in(reg) u32::from(byte),
            options(nostack),
        );
    }
}
