//! The text of /proc/self/mountinfo (proc_pid_mountinfo(5)): where something is mounted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

/// The most that is read: a node with 500 pods has below 2 MiB.
const MAX_BYTES: u64 = 16 << 20;

/// Unmounts what is mounted below a directory, which has no links in its path, with what is above it.
///
/// # Errors
/// When the mounts cannot be read, or one cannot be detached.
pub fn unmount_below(directory: &Path) -> io::Result<()> {
    let points = points()?;
    let below = points.iter().filter(|point| point.starts_with(directory));
    for point in below.rev() {
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

/// All mount points of this mount namespace, in the order in which they were mounted.
///
/// # Errors
/// When the file cannot be read.
pub fn points() -> io::Result<Vec<PathBuf>> {
    let mut text = Vec::new();
    File::open("/proc/self/mountinfo")?
        .take(MAX_BYTES)
        .read_to_end(&mut text)?;
    let lines = text.split(|byte| *byte == b'\n');
    let fifth = |line: &[u8]| Some(line.split(|byte| *byte == b' ').nth(4)?.to_vec());
    let points = lines.filter_map(fifth).map(|point| unescape(&point));
    Ok(points
        .map(|point| OsString::from_vec(point).into())
        .collect())
}

/// Blank, tab, newline and backslash are written as `\ooo`.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let code = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_codes_are_characters_and_all_else_stays() {
        for (text, want) in [
            (r"/mnt/other\040place", "/mnt/other place"),
            (r"\134040\011\012", "\\040\t\n"),
            (r"\04", r"\04"),
            (r"a\9", r"a\9"),
            ("", ""),
        ] {
            assert_eq!(unescape(text.as_bytes()), want.as_bytes(), "{text}");
        }
    }

    #[test]
    fn the_root_is_a_mount_point() {
        assert!(points().unwrap().contains(&PathBuf::from("/")));
    }
}
