//! The monitor of one container: `conmon <container id>`, started by the daemon in the bundle
//! directory with a socket as fd 0. The library of this package says what it speaks there.
#![no_std]
#![no_main]

mod monitor;

use nostd_sys::{
    Access, Arguments, Errno, Fd, Signal, become_subreaper, block, ignore, open, session_leader,
    set_name,
};

use monitor::Monitor;

nostd_sys::entry!(run);

/// EX_USAGE and EX_OSERR of sysexits.h.
const USAGE: i32 = 64;
const SYSTEM: i32 = 71;

fn run(arguments: &Arguments) -> i32 {
    let stderr = Fd::inherited(2);
    let Some(id) = arguments.get(1) else {
        return explain(
            &stderr,
            "conmon is started by cricket, one for each container\n",
        );
    };
    if id == c"--version" {
        let text = concat!("conmon ", env!("CARGO_PKG_VERSION"), " of cricket\n");
        // Nobody can be told that the version could not be told.
        let _ = Fd::inherited(1).write(text.as_bytes());
        return 0;
    }
    match leave_the_parent() {
        Ok((daemon, null)) => match Monitor::new(arguments, daemon, null) {
            Ok(mut monitor) => monitor.run(),
            Err(_) => SYSTEM,
        },
        Err(_) => explain(&stderr, "conmon: fd 0 is not the socket of a daemon\n"),
    }
}

fn explain(stderr: &Fd, text: &str) -> i32 {
    // Nobody can be told that it could not be explained.
    let _ = stderr.write(text.as_bytes());
    USAGE
}

/// Frees the process from the daemon's session, signals and descriptors. Returns the daemon's
/// socket and /dev/null, both above stdio.
fn leave_the_parent() -> Result<(Fd, Fd), Errno> {
    let daemon = Fd::inherited(conmon::DAEMON_FD).duplicate()?;
    daemon.set_nonblocking()?;
    let null = open(c"/dev/null", Access::ReadWrite)?.duplicate()?;
    // Children get stdio above 2, and nothing that is opened here may land there.
    for number in 0..=2 {
        null.duplicate_to(number)?;
    }
    // The end of the daemon's service must not end its containers: systemd sends SIGTERM, or as
    // CRI-O's units say SIGPIPE, to the whole cgroup.
    for signal in [
        Signal::Pipe,
        Signal::Hangup,
        Signal::Interrupt,
        Signal::Terminate,
    ] {
        ignore(signal);
    }
    block(&[Signal::Child]);
    set_name(c"conmon");
    // It cannot fail since Linux 3.4. QEMU's user emulation refuses it; there whoever starts this
    // can set it, since it outlives exec.
    let _ = become_subreaper();
    // Fails only for a process group's leader, which has what this is for.
    let _ = session_leader();
    Ok((daemon, null))
}
