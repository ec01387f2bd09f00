//! Telling systemd how the service does: `sd_notify(3)` and `sd_watchdog_enabled(3)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How long a service manager that does not read may hold up what it is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Open as long as the process lives: one that has no descriptor left can still say so.
static SOCKET: OnceLock<UnixDatagram> = OnceLock::new();

/// Opens what [`send`] needs, where a service manager wants to be told.
///
/// # Errors
/// When the kernel gives no socket.
pub fn open() -> io::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_some() && SOCKET.get().is_none() {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        // Whoever was first has opened the same.
        let _already = SOCKET.set(socket);
    }
    Ok(())
}

/// Sends state lines, `READY=1` for example, to whoever started the service with `Type=notify`.
/// Without such a parent, or when it does not listen, nothing happens: the service runs all the
/// same. Blocks, at most for [`PATIENCE`], while systemd is too busy to take it.
pub fn send(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(OsStr::from_bytes(path.as_bytes())),
    };
    let sent = open().and(address).and_then(|address| match SOCKET.get() {
        Some(socket) => socket.send_to_addr(state.as_bytes(), &address),
        None => Ok(0),
    });
    if let Err(error) = sent {
        tracing::warn!(%error, state, "service manager not notified");
    }
}

/// Text as the value of one state line: a line end would begin another one.
pub fn value(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// What `RELOADING=1` must be sent with: the monotonic clock in microseconds, by which systemd
/// tells this reload from an earlier one. 0 if the clock cannot be read, which Linux excludes.
pub fn monotonic_usec() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec()
            .saturating_mul(1_000_000)
            .saturating_add(now.tv_nsec() / 1000)
    })
}

/// After how long without `WATCHDOG=1` systemd ends this process; `None` where it does not.
pub fn watchdog() -> Option<Duration> {
    let pid = std::env::var_os("WATCHDOG_PID");
    asked_for(std::env::var_os("WATCHDOG_USEC"), pid, std::process::id())
}

/// `WATCHDOG_PID` names who is watched: the variables may have come down to another process.
fn asked_for(usec: Option<OsString>, pid: Option<OsString>, own: u32) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    if let Some(pid) = pid
        && number(pid) != Some(own.into())
    {
        return None;
    }
    let usec = number(usec?).filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names() {
        let ask = |usec: Option<&str>, pid: Option<&str>| {
            asked_for(usec.map(Into::into), pid.map(Into::into), 7)
        };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(ask(Some("60000000"), Some("7")), minute);
        assert_eq!(ask(Some("60000000"), None), minute);
        assert_eq!(ask(Some("60000000"), Some("8")), None);
        assert_eq!(ask(Some("60000000"), Some("")), None);
        assert_eq!(ask(None, Some("7")), None);
        for wrong in ["", "0", "-1", "1s", "99999999999999999999999"] {
            assert_eq!(ask(Some(wrong), None), None, "{wrong}");
        }
    }

    #[test]
    fn a_value_stays_on_its_line() {
        assert_eq!(value("a\nWATCHDOG=1\r"), "a WATCHDOG=1 ");
    }

    #[test]
    fn the_monotonic_clock_goes_on() {
        let before = monotonic_usec();
        assert!(before > 0 && monotonic_usec() >= before);
    }
}
