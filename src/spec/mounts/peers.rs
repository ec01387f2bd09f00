//! Which mount a path is on, and how that mount propagates: from the text of
//! /proc/self/mountinfo (proc_pid_mountinfo(5)), which the caller has read.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::inputs::Peers;

/// The propagation of the mount that holds a path. The path has to be one without symbolic
/// links. A path on no mount of the table counts as private.
pub fn peers(mountinfo: &[u8], path: &Path) -> Peers {
    let mut best: Option<(usize, Peers)> = None;
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        let Some(point) = fields.nth(4).map(unescape) else {
            continue;
        };
        let point = Path::new(std::ffi::OsStr::from_bytes(&point));
        let depth = point.components().count();
        // of two mounts at one point the later one is on top
        if path.starts_with(point) && best.is_none_or(|(known, _)| depth >= known) {
            best = Some((depth, propagation(fields.skip(1))));
        }
    }
    best.map_or(Peers::Private, |(_, peers)| peers)
}

/// The optional fields, which end with `-`.
fn propagation<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Peers {
    let mut peers = Peers::Private;
    for field in fields.take_while(|field| *field != b"-") {
        if field.starts_with(b"shared:") {
            return Peers::Shared;
        }
        if field.starts_with(b"master:") {
            peers = Peers::Slave;
        }
    }
    peers
}

/// Space, tab, newline and backslash stand as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        21 20 0:5 / /srv rw - tmpfs tmpfs rw\n\
        22 20 0:6 / /srv/slave rw master:1 propagate_from:2 - tmpfs tmpfs rw\n\
        23 20 0:7 / /both rw shared:3 master:1 - tmpfs tmpfs rw\n\
        24 20 0:8 / /with\\040space rw - tmpfs tmpfs rw\n\
        25 20 0:9 / /over rw - tmpfs tmpfs rw\n\
        26 25 0:9 / /over rw shared:9 - tmpfs tmpfs rw\n\
        broken line\n";

    #[test]
    fn the_deepest_and_last_mount_that_holds_the_path_counts() {
        for (path, want) in [
            ("/", Peers::Shared),
            ("/home/x", Peers::Shared),
            ("/srv", Peers::Private),
            ("/srv/slave/deep", Peers::Slave),
            ("/srv/slavery", Peers::Private),
            ("/both", Peers::Shared),
            ("/with space/x", Peers::Private),
            ("/over/x", Peers::Shared),
        ] {
            assert_eq!(peers(TABLE, Path::new(path)), want, "{path}");
        }
        assert_eq!(peers(b"", Path::new("/")), Peers::Private);
    }

    proptest::proptest! {
        #[test]
        fn no_table_makes_it_panic(table in "[0-9a-z/: \\\\\n-]{0,200}") {
            let _ = peers(table.as_bytes(), Path::new("/srv"));
        }
    }
}
