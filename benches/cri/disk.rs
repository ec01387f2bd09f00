//! A file system of the benchmark's own: ext4 as mkfs makes it, on a loop device, mounted where the
//! scratch directories go.
//!
//! What others delete on a shared disk slows down who makes files there (ext4 without a journal
//! looks at every inode that was freed lately), and what one daemon leaves dirty is written while
//! the other is measured. The benchmark runs as a child with `TMPDIR` there, so that it is unmounted
//! however the child ends.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use cricket_harness::tools;

/// Sparse; a run of the largest measurement holds 4 GB at once.
const BYTES: u64 = 12 << 30;

/// Set for the child.
const MARK: &str = "CRICKET_BENCH_DISK";

/// Runs this program again on a disk of its own; `None`: it is there already, or cannot be had.
pub fn again() -> Option<ExitCode> {
    if std::env::var_os(MARK).is_some() {
        return None;
    }
    let (mkfs, mount) = (tools::find("mkfs.ext4")?, tools::find("mount")?);
    let dir = tempfile::Builder::new().prefix("ck-disk").tempdir().ok()?;
    let (file, at) = (dir.path().join("image"), dir.path().join("d"));
    std::fs::create_dir(&at).ok()?;
    std::fs::File::create(&file).ok()?.set_len(BYTES).ok()?;
    let made = quiet(Command::new(mkfs).arg("-q").arg(&file))
        && quiet(Command::new(mount).args(["-o", "loop"]).arg(&file).arg(&at));
    if !made {
        eprintln!(
            "no loop device to be had: measuring on the disk of {}",
            at.display()
        );
        return None;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1));
    let status = command.env(MARK, "1").env("TMPDIR", &at).status();
    unmount(&at);
    match status {
        Ok(status) if status.success() => Some(ExitCode::SUCCESS),
        _ => Some(ExitCode::FAILURE),
    }
}

fn quiet(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The loop device goes with its last mount.
fn unmount(at: &Path) {
    if let Err(error) = nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH) {
        eprintln!("{}: unmount: {error}", at.display());
    }
}
