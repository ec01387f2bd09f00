//! Whatever order entries come in and whatever they are called: nothing outside is touched, nothing
//! panics, nothing is left after a refusal.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::super::StorageError;
use super::fixture::*;

#[derive(Debug, Clone)]
enum Step {
    File(String),
    Dir(String),
    Symlink(String, String),
    HardLink(String, String),
    Whiteout(String),
    Opaque(String),
    Fifo(String),
}

/// Few names, so that entries meet; and the ones that try to leave.
fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d"]),
        1 => prop::sample::select(vec!["..", ".", "", "canary", ".wh.a", "../.."]),
    ];
    (any::<bool>(), prop::collection::vec(part, 1..5)).prop_map(|(absolute, parts)| {
        format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
    })
}

/// Targets of symbolic links may be anything.
fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        path(),
        (1..12usize).prop_map(|ups| "../".repeat(ups)),
        (1..12usize).prop_map(|ups| format!("{}canary", "../".repeat(ups))),
        Just("/".to_owned()),
        Just("/proc/self/root".to_owned()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => path().prop_map(Step::File),
        3 => path().prop_map(Step::Dir),
        3 => (path(), target()).prop_map(|(name, target)| Step::Symlink(name, target)),
        2 => (path(), path()).prop_map(|(name, target)| Step::HardLink(name, target)),
        1 => path().prop_map(Step::Whiteout),
        1 => path().prop_map(Step::Opaque),
        1 => path().prop_map(Step::Fifo),
    ]
}

fn whiteout(path: &str, name: impl Fn(&str) -> String) -> String {
    match path.rsplit_once('/') {
        Some((parent, base)) => format!("{parent}/{}", name(base)),
        None => name(path),
    }
}

fn add(tar: Tar, step: &Step) -> Tar {
    match step {
        // As long as its name, so that one file in place of another has mostly another length.
        Step::File(name) => tar.file(name, &"content".repeat(name.len())),
        Step::Dir(name) => tar.dir(name),
        Step::Symlink(name, target) => tar.symlink(name, target),
        Step::HardLink(name, target) => tar.hard_link(name, target),
        Step::Whiteout(name) => tar.file(&whiteout(name, |base| format!(".wh.{base}")), ""),
        Step::Opaque(name) => tar.file(&whiteout(name, |_| ".wh..wh..opq".to_owned()), ""),
        Step::Fifo(name) => tar.raw(b'6', name, "", b"", |_| {}),
    }
}

/// Unpacks a layer and gives its tar back; the error of the first step only.
fn unpack_and_read(scratch: &Scratch, tar: &[u8]) -> Result<Vec<u8>, StorageError> {
    let lease = scratch.store().lease();
    lease.unpack_layer(&digest(tar), tar, &AtomicU64::new(0))?;
    assert_eq!(differences(scratch, tar), []);
    Ok(layer_tar(scratch, tar).unwrap())
}

/// Everything that stands outside of the store's own places.
fn outside(scratch: &Scratch) -> Vec<String> {
    let mut names = Vec::new();
    for place in [scratch.dir.path().to_path_buf(), scratch.place("")] {
        names.extend(std::fs::read_dir(place).unwrap().map(|entry| {
            let entry = entry.unwrap();
            format!(
                "{:?} {:?}",
                entry.path(),
                entry.metadata().unwrap().permissions()
            )
        }));
    }
    names.sort();
    names
}

#[test]
fn no_sequence_of_entries_acts_outside_of_its_layer() {
    let scratch = Scratch::new();
    let before = outside(&scratch);
    let config = ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..Default::default()
    };
    let unpacked = Cell::new(0);
    let refused = Cell::new(0);
    proptest!(config, |(steps in prop::collection::vec(step(), 1..12))| {
        let tar = steps.iter().fold(Tar::default(), add).end();
        match unpack_and_read(&scratch, &tar) {
            Ok(again) => {
                prop_assert!(again == tar, "the tar is another");
                 unpacked.set(unpacked.get() + 1);
            }
            Err(_) => refused.set(refused.get() + 1),
        }
        prop_assert_eq!(&outside(&scratch), &before);
    });
    let (unpacked, refused) = (unpacked.get(), refused.get());
    assert!(
        unpacked > 20 && refused > 20,
        "{unpacked} unpacked, {refused} refused"
    );
    scratch.settle();
    for place in ["layers", "staging", "trash"] {
        assert!(scratch.names(place).is_empty(), "{place}");
    }
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let scratch = Scratch::new();
    let good = Tar::default()
        .pax(&[("mtime", b"1.5")])
        .file("a", "abc")
        .dir("d/")
        .hard_link("l", "a");
    let good = good.end();
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..Default::default()
    };
    proptest!(config, |(flips in prop::collection::vec((0..good.len(), any::<u8>()), 1..6))| {
        let mut bad = good.clone();
        for (at, value) in flips {
            bad[at] = value;
            // With the right checksum the header's fields are looked at.
            let block = at / 512 * 512;
            let mut header = tar::Header::from_byte_slice(&bad[block..block + 512]).clone();
            header.set_cksum();
            bad[block..block + 512].copy_from_slice(header.as_bytes());
        }
        if let Ok(again) = unpack_and_read(&scratch, &bad) {
            prop_assert!(again == bad, "the tar is another");
        }
    });
}
