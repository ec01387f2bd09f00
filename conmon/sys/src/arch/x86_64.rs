//! x86-64: how to enter the kernel, how to start a child on a stack of its own, how to copy.

use core::arch::asm;
use core::ffi::c_void;

/// The numbers of the system calls (arch/x86/entry/syscalls/syscall_64.tbl).
pub(crate) mod number {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const MMAP: usize = 9;
    pub(crate) const RT_SIGACTION: usize = 13;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const IOCTL: usize = 16;
    pub(crate) const PREAD64: usize = 17;
    pub(crate) const MADVISE: usize = 28;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const SOCKET: usize = 41;
    pub(crate) const SENDMSG: usize = 46;
    pub(crate) const RECVMSG: usize = 47;
    pub(crate) const BIND: usize = 49;
    pub(crate) const LISTEN: usize = 50;
    pub(crate) const SETSOCKOPT: usize = 54;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const KILL: usize = 62;
    pub(crate) const FCNTL: usize = 72;
    pub(crate) const FTRUNCATE: usize = 77;
    pub(crate) const FCHMOD: usize = 91;
    pub(crate) const UMASK: usize = 95;
    pub(crate) const SETSID: usize = 112;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
    pub(crate) const STATFS: usize = 137;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const GETDENTS64: usize = 217;
    pub(crate) const CLOCK_GETTIME: usize = 228;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const UNLINKAT: usize = 263;
    pub(crate) const RENAMEAT: usize = 264;
    pub(crate) const PPOLL: usize = 271;
    pub(crate) const ACCEPT4: usize = 288;
    pub(crate) const SIGNALFD4: usize = 289;
    pub(crate) const DUP3: usize = 292;
    pub(crate) const PIPE2: usize = 293;
    pub(crate) const STATX: usize = 332;
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
    // SAFETY: the registers are those of the x86-64 system call convention; the kernel changes
    // rax, rcx and r11 only. What the call does to memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
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
    // SAFETY: the child gets rax = 0 and its own stack, so it never touches this frame; the parent
    // goes on behind the label with the registers that it had.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") number::CLONE => result,
            in("rdi") flags,
            in("rsi") stack_top,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Copies upwards. The compiler calls it for short and long copies alike, and the log's records are
/// short: so 16 bytes a step, and the rest by one load and store that overlaps the last step.
/// `rep movsb` takes longer to begin than a whole record takes so.
///
/// # Safety
/// As memcpy; also right where the target lies below the source and they overlap.
pub(crate) unsafe fn copy_upwards(target: *mut u8, source: *const u8, length: usize) {
    // SAFETY: the caller's ranges; the steps stay within them. What an overlapping store could
    // destroy is loaded before any store.
    unsafe {
        asm!(
            "cmp {n}, 16",
            "jb 3f",
            "movups {last}, [{s} + {n} - 16]",
            "lea {end}, [{t} + {n} - 16]",
            "2:",
            "movups {step}, [{s}]",
            "movups [{t}], {step}",
            "add {s}, 16",
            "add {t}, 16",
            "cmp {t}, {end}",
            "jb 2b",
            "movups [{end}], {last}",
            "jmp 9f",
            "3:",
            "cmp {n}, 8",
            "jb 4f",
            "mov {a}, [{s}]",
            "mov {end}, [{s} + {n} - 8]",
            "mov [{t}], {a}",
            "mov [{t} + {n} - 8], {end}",
            "jmp 9f",
            "4:",
            "test {n}, {n}",
            "jz 9f",
            "5:",
            "mov {a:l}, [{s}]",
            "mov [{t}], {a:l}",
            "inc {s}",
            "inc {t}",
            "dec {n}",
            "jnz 5b",
            "9:",
            n = inout(reg) length => _,
            s = inout(reg) source => _,
            t = inout(reg) target => _,
            a = out(reg) _,
            end = out(reg) _,
            last = out(xmm_reg) _,
            step = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Copies downwards, for overlapping ranges with the target above the source.
///
/// # Safety
/// As memmove.
pub(crate) unsafe fn copy_downwards(target: *mut u8, source: *const u8, length: usize) {
    if length == 0 {
        return;
    }
    // SAFETY: the caller's ranges, from their last byte down; the direction flag is restored.
    unsafe {
        asm!(
            "std",
            "rep movsb",
            "cld",
            inout("rcx") length => _,
            inout("rsi") source.add(length - 1) => _,
            inout("rdi") target.add(length - 1) => _,
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
            "rep stosb",
            inout("rcx") length => _,
            inout("rdi") target => _,
            in("al") byte,
            options(nostack),
        );
    }
}
