//! What hostile, broken and oversized layers get: a clear error, and nothing left behind.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::*;
use super::fixture::*;

/// The layer is refused with all these words, leaves nothing, and the next one works.
fn refused(scratch: &Scratch, tar: &[u8], words: &[&str]) {
    let error = scratch.unpack(tar).expect_err(words[0]).to_string();
    for word in words.iter().copied().chain([digest(tar).as_ref()]) {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    nothing_left(scratch);
}

fn nothing_left(scratch: &Scratch) {
    scratch.settle();
    for place in ["layers", "staging", "trash", "quarantine"] {
        assert!(scratch.names(place).is_empty(), "{place}");
    }
    let good = Tar::default().file("good", "yes").end();
    scratch.unpack(&good).unwrap();
    scratch.settle();
}

#[test]
fn entries_that_try_to_get_out_or_cheat_overlayfs_are_refused() {
    let scratch = Scratch::new();
    let t = Tar::default;
    let deep = "a/".repeat(300);
    let cases: Vec<(Tar, &[&str])> = vec![
        (t().file("../evil", ""), &["../evil", "`..`"]),
        (t().file("a/../../evil", ""), &["`..`"]),
        (t().pax(&[("path", b"../evil")]).file("x", ""), &["`..`"]),
        (t().file("", ""), &["empty"]),
        (t().file(&deep, ""), &["256"]),
        (t().file(&"n".repeat(300), ""), &["255"]),
        (t().hard_link("h", "../../etc/passwd"), &["`..`"]),
        (
            t().hard_link("h", "/etc/passwd"),
            &["`h`", "not in this layer"],
        ),
        (
            t().symlink("s", "/").hard_link("h", "s/etc/passwd"),
            &["not in this layer"],
        ),
        (
            t().dir("d/").hard_link("h", "d"),
            &["hard link to a directory"],
        ),
        (
            t().file(".wh.w", "").hard_link("h", "w"),
            &["hard link to a whiteout"],
        ),
        (t().hard_link("h", "./"), &["hard link to the root"]),
        (
            t().device(b'3', "fake", 0, 0),
            &["`fake`", "0:0", "whiteouts"],
        ),
        (t().file(".wh.", ""), &["whiteout of no name"]),
        (t().file(".wh...", ""), &["whiteout of no name"]),
        (t().file(".wh.a/b", ""), &["below a whiteout"]),
        (t().symlink("l", ""), &["target is empty"]),
        (t().symlink(".", "/etc"), &["root can only be a directory"]),
        (
            t().file("f", "").file("f/g", ""),
            &["`f/g`", "not a directory"],
        ),
        (
            t().symlink("a", "b").symlink("b", "a").file("a/x", ""),
            &["round in symbolic links"],
        ),
        (
            t().symlink("a", "/nowhere").file("a/x", ""),
            &["not a directory"],
        ),
        (
            t().pax(&[("uid", b"4294967295")]).file("f", ""),
            &["user or group id"],
        ),
        (
            t().pax(&[("uid", b"-1")]).file("f", ""),
            &["user or group id"],
        ),
        (t().raw(b'Q', "odd", "", b"", |_| {}), &["unknown type"]),
    ];
    for (tar, words) in cases {
        refused(&scratch, &tar.end(), words);
    }
}

#[test]
fn broken_archives_are_refused_where_they_break() {
    let scratch = Scratch::new();
    let t = Tar::default;
    let whole = t().file("file", &"x".repeat(2000)).file("next", "").end();
    let mut flipped = whole.clone();
    flipped[10] ^= 1;
    let mut trailing = whole.clone();
    trailing.extend_from_slice(&t().file("hidden", "").0);
    let many = (0..9).fold(t(), |tar, _| tar.pax(&[("comment", b"x")]));
    let sparse = |offset: u64, length: u64, size: u64| {
        let mut gnu = tar::Header::new_gnu();
        gnu.as_gnu_mut().unwrap().name[0] = b's';
        gnu.as_gnu_mut().unwrap().typeflag = [b'S'];
        gnu.as_gnu_mut().unwrap().set_real_size(size);
        gnu.as_gnu_mut().unwrap().sparse[0].set_offset(offset);
        gnu.as_gnu_mut().unwrap().sparse[0].set_length(length);
        gnu.set_size(3);
        gnu.set_cksum();
        Tar(gnu.as_bytes().to_vec()).data(b"abc").end()
    };
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (
            whole[..1000].to_vec(),
            &["`file`", "inside a file's content"],
        ),
        (whole[..2600].to_vec(), &["byte 2600", "inside a header"]),
        (b"this is not a tar archive".to_vec(), &["inside a header"]),
        ([7; 4096].to_vec(), &["checksum"]),
        (flipped, &["checksum"]),
        (trailing, &["`next`", "data follows its end marker"]),
        (
            t().pax(&[("path", b"x")]).end(),
            &["after an extension header"],
        ),
        (
            t().raw(b'x', "p", "", b"99 a=b\n", |_| {})
                .file("f", "")
                .end(),
            &["PAX record"],
        ),
        (
            t().pax(&[("size", b"many")]).file("f", "").end(),
            &["no number"],
        ),
        (
            t().pax(&[("size", b"-5")]).file("f", "").end(),
            &["negative"],
        ),
        (
            t().pax(&[("mtime", b"noon")]).file("f", "").end(),
            &["mtime"],
        ),
        (t().pax(&[("path", b"a\0b")]).file("f", "").end(), &["NUL"]),
        (
            t().pax(&[("GNU.sparse.major", b"1")]).file("f", "").end(),
            &["not supported"],
        ),
        (
            t().raw(b'L', "l", "", &[b'a'; 2 << 20], |_| {})
                .file("f", "")
                .end(),
            &["1 MiB"],
        ),
        (many.file("f", "").end(), &["8 extension headers"]),
        (
            t().raw(b'0', "f", "", b"", |h| h.as_old_mut().mode = *b"rwxr-xr-")
                .end(),
            &["the mode"],
        ),
        (sparse(0, 3, 2), &["out of order"]),
        (sparse(1 << 40, 3, 1 << 50), &["bytes unpacked"]),
        (sparse(0, 2, 100), &["does not fit"]),
    ];
    for (tar, words) in cases {
        refused(&scratch, &tar, words);
    }
}

#[test]
fn content_that_is_not_what_the_config_promises_is_refused() {
    let scratch = Scratch::new();
    let promised = Tar::default().file("a", "what was built").end();
    let served = Tar::default().file("a", "something else").end();
    let lease = scratch.store().lease();
    let error = lease
        .unpack_layer(&digest(&promised), &served[..], &AtomicU64::new(0))
        .unwrap_err();
    assert!(
        matches!(&error, StorageError::DiffIdMismatch { expected, found }
        if *expected == digest(&promised).to_string() && *found == digest(&served).digest())
    );
    assert!(!lease.has_layer(&digest(&promised)));
    nothing_left(&scratch);
}

#[test]
fn an_error_of_the_reader_comes_back_unchanged() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "registry went silent",
            ))
        }
    }
    let scratch = Scratch::new();
    let tar = Tar::default().file("a", "x").0;
    let reader = (&tar[..]).chain(Broken);
    let result = scratch
        .store()
        .lease()
        .unpack_layer(&digest(&tar), reader, &AtomicU64::new(0));
    let Err(StorageError::LayerRead { source, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(source.kind(), io::ErrorKind::TimedOut);
    nothing_left(&scratch);
}

/// A file of zeros that compresses like one: one byte was read for a thousand.
struct Bomb {
    head: io::Cursor<Vec<u8>>,
    compressed: std::sync::Arc<AtomicU64>,
    given: u64,
}

impl Read for Bomb {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.head.read(buffer)? {
            0 => {
                buffer.fill(0);
                buffer.len()
            }
            count => count,
        };
        self.given += count as u64;
        self.compressed
            .store(1 + self.given / 1000, Ordering::Relaxed);
        Ok(count)
    }
}

#[test]
fn a_gigabyte_of_zeros_in_a_megabyte_is_refused_long_before_its_end() {
    // The floor is lowered from 256 MiB to keep the test short; the other bound ends it if it fails.
    let (floor, max_bytes) = (16 << 20, 128 << 20);
    let limits = LayerLimits {
        ratio_floor_bytes: floor,
        max_bytes,
        ..LayerLimits::default()
    };
    let scratch = Scratch::with(limits);
    let head = Tar::default()
        .raw(b'0', "zeros", "", b"", |h| h.set_size(100 << 20))
        .0;
    let compressed = std::sync::Arc::new(AtomicU64::new(0));
    let mut bomb = Bomb {
        head: io::Cursor::new(head),
        compressed: compressed.clone(),
        given: 0,
    };
    let lease = scratch.store().lease();
    let error = lease
        .unpack_layer(&digest(b"x"), &mut bomb, &compressed)
        .unwrap_err();
    assert!(
        matches!(error, StorageError::LayerLimit { limit: 200, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("`zeros`"));
    assert!(bomb.given < 2 * floor, "stopped at {}", bomb.given);
    nothing_left(&scratch);
}

#[test]
fn sizes_counts_and_free_space_are_bounded() {
    let limits = LayerLimits {
        max_bytes: 10_000,
        max_entries: 5,
        ..LayerLimits::default()
    };
    let scratch = Scratch::with(LayerLimits {
        reserve_bytes: 0,
        ..limits.clone()
    });
    let big = Tar::default()
        .raw(b'0', "big", "", b"", |h| h.set_size(1 << 40))
        .end();
    refused(&scratch, &big, &["`big`", "10000 bytes"]);
    let entries = (0..6)
        .fold(Tar::default(), |tar, i| tar.file(&i.to_string(), ""))
        .end();
    refused(&scratch, &entries, &["`5`", "5 entries"]);
    let long = Tar::default()
        .file("a", &"x".repeat(8000))
        .file("b", &"x".repeat(8000))
        .end();
    refused(&scratch, &long, &["10000 bytes"]);
    let scratch = Scratch::with(LayerLimits {
        reserve_bytes: 1 << 60,
        ..LayerLimits::default()
    });
    let error = scratch
        .unpack(&Tar::default().file("a", "").end())
        .unwrap_err();
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("remove images"), "{error}");
}

#[test]
fn only_sha256_and_plain_ids_are_taken() {
    let scratch = Scratch::new();
    let sha512 = format!("sha512:{}", "a".repeat(128)).parse().unwrap();
    let lease = scratch.store().lease();
    let error = lease
        .unpack_layer(&sha512, &b""[..], &AtomicU64::new(0))
        .unwrap_err();
    assert!(
        matches!(error, StorageError::DigestAlgorithm { .. }),
        "{error}"
    );
    for id in ["", ".", "..", "../x", "a/b", "a\0b", ".hidden"] {
        let error = scratch
            .store()
            .mount_root(id, &[], &RootOptions::default())
            .unwrap_err();
        assert!(
            matches!(error, StorageError::InvalidId { .. }),
            "{id:?}: {error}"
        );
        assert!(scratch.store().remove_root(id).is_err(), "{id:?}");
    }
}
