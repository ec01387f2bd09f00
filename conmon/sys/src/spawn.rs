//! Running a program as a child.

use core::ffi::{c_char, c_void};

use crate::arch::{self, number};
use crate::errno::{call, check};
use crate::file::{Access, open};
use crate::process::wait_for;
use crate::{Arguments, Argv, Errno, Fd, Pid, exit, map, release, signal};

/// What a child gets as stdin, stdout and stderr; each above number 2 in this process.
#[derive(Debug, Clone, Copy)]
pub struct Stdio<'a> {
    /// Descriptor 0.
    pub stdin: &'a Fd,
    /// Descriptor 1.
    pub stdout: &'a Fd,
    /// Descriptor 2.
    pub stderr: &'a Fd,
}

/// Runs programs, with this process's environment and working directory.
#[derive(Debug)]
pub struct Spawner {
    stack: &'static mut [u8],
    environment: *const *const c_char,
    oom_score_adj: Option<[u8; 8]>,
}

/// Enough for three dup3, a handful of system calls and execve.
const STACK_BYTES: usize = 16 * 1024;

/// CLONE_VM | CLONE_VFORK | SIGCHLD: the child borrows this process's memory, instead of a copy of
/// its page tables, and this process waits until it has exec'd.
const AS_VFORK: usize = 0x100 | 0x4000 | 17;

/// What the child reads and writes, on the parent's stack.
struct Plan<'a> {
    stdio: Stdio<'a>,
    argv: *const *const c_char,
    environment: *const *const c_char,
    oom_score_adj: Option<&'a [u8]>,
    failure: Option<Errno>,
}

impl Spawner {
    /// A spawner that hands this process's environment on.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn new(arguments: &Arguments) -> Result<Self, Errno> {
        let environment = arguments.environment();
        Ok(Self {
            stack: map(STACK_BYTES)?,
            environment,
            oom_score_adj: None,
        })
    }

    /// Tells the kernel's out-of-memory killer to spare this process, but not its children. Where
    /// that is not permitted nothing changes.
    pub fn spare_from_oom(&mut self) {
        let mut before = [0; 8];
        let path = c"/proc/self/oom_score_adj";
        let changed = open(path, Access::Read)
            .and_then(|file| file.read(&mut before))
            .and_then(|_| open(path, Access::Write)?.write(b"-1000"));
        self.oom_score_adj = changed.ok().map(|_| before);
    }

    /// Runs the program with the command line `argv`, whose first argument is its path. Signals
    /// that this process blocks or ignores have their default action in it.
    ///
    /// # Errors
    /// There is no room for another process, or the program cannot be executed.
    pub fn spawn(&mut self, argv: &mut Argv, stdio: Stdio<'_>) -> Result<Pid, Errno> {
        let oom_score_adj = self.oom_score_adj.as_ref().map(|text| {
            let length = text
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(text.len());
            text.get(..length).unwrap_or_default()
        });
        let mut plan = Plan {
            stdio,
            argv: argv.terminated()?,
            environment: self.environment,
            oom_score_adj,
            failure: None,
        };
        let stack_top = self.stack.as_mut_ptr_range().end;
        // SAFETY: the stack is 16-aligned, as its mapping and its length are, and only used here.
        // The plan outlives the child's use of it, for CLONE_VFORK holds this process back.
        let result = unsafe {
            arch::clone_on_stack(AS_VFORK, stack_top, child, (&raw mut plan).cast::<c_void>())
        };
        let pid = Pid::from_result(check(result)?).ok_or(Errno::ECHILD)?;
        // SAFETY: the plan is a live local; read so because the child may have written it.
        match unsafe { (&raw const plan.failure).read_volatile() } {
            None => Ok(pid),
            Some(errno) => {
                // The child has ended; nobody is to find it among the ended children.
                let _ = wait_for(pid);
                Err(errno)
            }
        }
    }

    /// Gives the child's stack back to the kernel.
    pub fn release(&mut self) {
        release(self.stack);
    }
}

extern "C" fn child(plan: *mut c_void) -> ! {
    // SAFETY: `spawn` passes its plan, and waits while this runs.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    plan.failure = Some(execute(plan));
    exit(127)
}

/// Returns only if it fails.
fn execute(plan: &Plan<'_>) -> Errno {
    let Stdio {
        stdin,
        stdout,
        stderr,
    } = plan.stdio;
    for (fd, target) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
        if let Err(errno) = fd.duplicate_to(target) {
            return errno;
        }
    }
    if let Some(text) = plan.oom_score_adj {
        // It is worth no failure: the runtime sets the container's own value anyhow.
        let _ = open(c"/proc/self/oom_score_adj", Access::Write).and_then(|file| file.write(text));
    }
    signal::reset();
    // SAFETY: both arrays end with NULL and their entries are C strings; `Argv` is not empty.
    let result = unsafe {
        let program = (*plan.argv).expose_provenance();
        let argv = plan.argv.expose_provenance();
        call(
            number::EXECVE,
            [program, argv, plan.environment.expose_provenance()],
        )
    };
    result.err().unwrap_or(Errno::ENOEXEC)
}
