//! `apparmor_parser`, the compiler of profiles: run with a deadline, its words bounded.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::AppArmorError;

/// The program's name.
pub(super) const PROGRAM: &str = "apparmor_parser";
/// How long it may take. Compiling takes it a tenth of a second.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// How much of its complaint is told.
const MAX_WORDS: u64 = 500;

/// Has `program` compile the profile and load it, over an older one of its name. Blocks, at most
/// for `deadline`.
///
/// # Errors
/// When the program is not there, refuses the profile, or has not ended in time: then it is killed.
pub(super) fn load(program: &str, profile: &str, deadline: Duration) -> Result<(), AppArmorError> {
    let problem = |problem: String| AppArmorError::Parser { problem };
    let mut child = start(program).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => AppArmorError::NoParser,
        _ => problem(error.to_string()),
    })?;
    let ended = feed(&mut child, profile).and_then(|()| wait(&child, deadline));
    // What it has started goes with it: the leader was not waited for, so the number is its group's.
    let _gone = kill_process_group(Pid::from_child(&child), Signal::KILL);
    let status = child.wait().map_err(|error| problem(error.to_string()))?;
    if !ended.map_err(|error| problem(error.to_string()))? {
        return Err(problem(format!("did not end within {deadline:?}")));
    }
    match status.success() {
        true => Ok(()),
        false => Err(problem(format!("{status}: {}", words(&mut child)))),
    }
}

/// Whether a program, which may be a path, could be started.
pub(super) fn is_there(program: &str) -> bool {
    let places = std::env::var_os("PATH").unwrap_or_default();
    // The daemon's has them, a user's who asks may not.
    let sbin = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    let mut places = std::env::split_paths(&places).chain(sbin);
    // A path that is absolute stays what it is.
    places.any(|place| place.join(program).is_file())
}

fn start(program: &str) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    Command::new(program)
        .args(["--skip-cache", "--replace"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// A pipe takes the whole profile, whether it is read or not.
fn feed(child: &mut Child, profile: &str) -> io::Result<()> {
    let Some(input) = child.stdin.take() else {
        return Ok(());
    };
    let mut input = not_waited_for(input.into())?;
    match input.write_all(profile.as_bytes()) {
        // It has ended before it read; how says more than this.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Whether it ended in time. More words than a pipe takes keep it from that.
fn wait(child: &Child, deadline: Duration) -> io::Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let since = Instant::now();
    loop {
        let left = deadline.saturating_sub(since.elapsed());
        let patience = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut watched = [PollFd::new(&process, PollFlags::IN)];
        match poll(&mut watched, Some(&patience)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The beginning of its complaint, in one line.
fn words(child: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take()
        && let Ok(stderr) = not_waited_for(stderr.into())
    {
        // What was there before somebody else's end of the pipe would be waited for.
        let _would_wait = stderr.take(MAX_WORDS).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn not_waited_for(pipe: OwnedFd) -> io::Result<std::fs::File> {
    rustix::io::ioctl_fionbio(&pipe, true)?;
    Ok(pipe.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SOON: Duration = Duration::from_millis(300);

    /// A program in the parser's place, and the file that its shell script may write to.
    fn parser(end: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let (program, got) = (dir.path().join("parser"), dir.path().join("got"));
        let script = format!("#!/bin/sh\ngot={}\n{end}\n", got.display());
        // Written by another process: what a test beside this one starts would hold it open for
        // writing for a moment, and no program runs then.
        let mut install = Command::new("install")
            .args(["-m755", "/dev/stdin"])
            .arg(&program)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = install.stdin.take().unwrap();
        input.write_all(script.as_bytes()).unwrap();
        drop(input);
        assert!(install.wait().unwrap().success());
        let program = program.to_str().unwrap().to_owned();
        (dir, program)
    }

    #[test]
    fn a_profile_goes_through_the_parser() {
        let (dir, program) = parser("echo \"$@\" >$got; cat >>$got");
        load(&program, "profile x {}", DEADLINE).unwrap();
        let got = fs::read_to_string(dir.path().join("got")).unwrap();
        assert_eq!(got, "--skip-cache --replace\nprofile x {}");
    }

    #[test]
    fn what_the_parser_says_against_it_is_told_and_has_an_end() {
        for (script, wanted) in [
            ("echo no such; echo abstraction; exit 3", "3: "),
            (
                "echo no such >&2; echo abstraction >&2; exit 3",
                "no such abstraction",
            ),
            ("exit 4", "4: "),
            ("head -c 20000 /dev/zero | tr '\\0' x >&2; exit 5", "5: xxx"),
            // Somebody else still has its standard error.
            ("sleep 1000 & echo left one >&2; exit 6", "6: left one"),
        ] {
            let (_dir, program) = parser(script);
            let error = load(&program, "profile x {}", DEADLINE).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(wanted) && error.len() < 700,
                "{script}: {error}"
            );
        }
        let error = load("/nonexistent/parser", "", DEADLINE).unwrap_err();
        assert!(error.to_string().contains("install it"), "{error}");
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_what_it_has_started() {
        for hangs in ["sleep 1000", "yes >&2"] {
            let (dir, program) = parser(&format!("echo $$ >$got; {hangs} & wait"));
            let error = load(&program, "profile x {}", SOON).unwrap_err();
            assert!(error.to_string().contains("did not end within"), "{error}");
            // It may have been ended before it could say who it is.
            let Ok(group) = fs::read_to_string(dir.path().join("got")) else {
                continue;
            };
            let group = group.trim().parse().unwrap_or(i32::MAX);
            // A killed orphan takes its time, and may wait for whoever reaps it.
            let members = || {
                fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
                    let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                    let Some((_, fields)) = stat.rsplit_once(')') else {
                        return false;
                    };
                    let mut fields = fields.split_whitespace();
                    fields.next() != Some("Z") && fields.nth(1) == Some(&group.to_string())
                })
            };
            let since = Instant::now();
            while members().count() > 0 {
                assert!(since.elapsed() < DEADLINE, "{hangs}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
