//! The tar of a layer, byte for byte, out of the directory and what is kept beside it.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU64;

use super::fixture::*;

/// Unpacks `tar` and compares what the store gives back.
fn comes_back(what: &str, tar: &[u8]) {
    let scratch = Scratch::new();
    let lease = scratch.store().lease();
    let unpacked = lease.unpack_layer(&digest(tar), tar, &AtomicU64::new(0));
    unpacked.unwrap_or_else(|error| panic!("{what}: {error}"));
    let again = layer_tar(&scratch, tar).unwrap_or_else(|error| panic!("{what}: {error}"));
    let differs = again.iter().zip(tar).position(|(a, b)| a != b);
    assert_eq!((differs, again.len()), (None, tar.len()), "{what}");
    let verified = scratch.store().verify_layer(&digest(tar)).unwrap();
    assert_eq!(verified, tar.len() as u64, "{what}");
    assert_eq!(differences(&scratch, tar), [], "{what}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_tar_comes_back_whatever_its_entries_replace() {
    let new = Tar::default;
    let big = "big".repeat(100_000);
    let table = [
        ("nothing", Vec::new()),
        ("only the end", new().end()),
        ("no end", new().file("a", "1").0),
        (
            "much end",
            [new().file("a", "1").end(), vec![0; 9000]].concat(),
        ),
        (
            "an odd end",
            [new().file("a", "1").end(), vec![0; 77]].concat(),
        ),
        (
            "files",
            new().file("a", "1").file("b", &big).file("c", "").end(),
        ),
        (
            "a file twice",
            new().file("a", "one").file("a", "other").end(),
        ),
        (
            "a file three times, the last one empty",
            new().file("a", "1").file("a", "22").file("a", "").end(),
        ),
        (
            "a file replaced by each kind",
            new()
                .file("a", "1")
                .symlink("a", "b")
                .file("c", "2")
                .dir("c/")
                .file("c/d", "3")
                .file("e", "4")
                .raw(b'6', "e", "", b"", |_| {})
                .end(),
        ),
        (
            "a directory replaced, twice",
            new()
                .file("d/e/f", "1")
                .file("d/g", "2")
                .file("d", "3")
                .file("d", "4")
                .dir("x")
                .file("x/y", "5")
                .file("x", "6")
                .end(),
        ),
        (
            "a directory replaced that comes again",
            new()
                .file("d/f", "1")
                .symlink("d", "o")
                .raw(b'5', "d", "", b"", |_| {})
                .file("d/f", "22")
                .file("d/f", "333")
                .file("d", "4444")
                .end(),
        ),
        (
            "a replaced file that has another name",
            new()
                .file("a", "1")
                .hard_link("b", "a")
                .file("a", "2")
                .file("b", "3")
                .end(),
        ),
        (
            "a link to itself",
            new()
                .file("a", "1")
                .hard_link("a", "a")
                .hard_link("b", "./a")
                .end(),
        ),
        (
            "files through a link that is replaced",
            new()
                .dir("real")
                .symlink("link", "real")
                .file("link/f", "1")
                .file("link", "2")
                .dir("link/")
                .file("link/f", "3")
                .end(),
        ),
        (
            "a whiteout of what the layer has, and one with content",
            new()
                .file("a", "1")
                .file(".wh.a", "")
                .file("d/x", "2")
                .file(".wh.d", "ignored")
                .end(),
        ),
        (
            "opaque directories and aufs' own",
            new()
                .file("d/.wh..wh..opq", "said")
                .file("d/a", "1")
                .file(".wh..wh.plnk/77.1", "content")
                .file(".wh..wh.aufs", "")
                .end(),
        ),
        (
            "names and attributes in PAX records",
            new()
                .pax(&[
                    ("mtime", b"1.5"),
                    ("SCHILY.xattr.user.a", b"\n\0"),
                    ("comment", b"x"),
                ])
                .file("a", "1")
                .file(&"long/".repeat(60), "2")
                .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
                .dir("d")
                .raw(b'g', "global", "", b"17 comment=global\n", |_| {})
                .end(),
        ),
        ("padding that is not zero", {
            let mut tar = new().file("a", "1").end();
            tar[600..700].fill(b'x');
            tar
        }),
        (
            "devices, and a link with a size",
            new()
                .device(b'3', "null", 1, 3)
                .device(b'4', "disk", 8, 0)
                .file("a", "1")
                .raw(b'1', "l", "a", b"", |header| header.set_size(5))
                .file("b", "2")
                .end(),
        ),
    ];
    for (what, tar) in table {
        comes_back(what, &tar);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A tree with what archivers treat specially.
fn tree(root: &Path) {
    std::fs::create_dir_all(root.join("d/e")).unwrap();
    std::fs::write(root.join("d/e/file"), "content").unwrap();
    std::fs::write(root.join("empty"), "").unwrap();
    std::fs::hard_link(root.join("d/e/file"), root.join("linked")).unwrap();
    symlink("d/e", root.join("link")).unwrap();
    rustix::fs::setxattr(
        root.join("empty"),
        "user.x",
        b"\0\n=",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    run(Command::new("mkfifo").arg(root.join("fifo")));
    run(Command::new("mknod")
        .arg(root.join("dev"))
        .args(["c", "1", "3"]));
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    for i in 0..40 {
        use std::os::unix::fs::FileExt;
        sparse.write_all_at(b"an island", i << 16).unwrap();
    }
    sparse.set_len(50 << 16).unwrap();
}

#[test]
fn what_gnu_tar_writes_comes_back_in_every_format() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    tree(&root);
    let archive = scratch.path().join("layer.tar");
    let tar = |formats: &[&str]| {
        let _ = std::fs::remove_file(&archive);
        let mut command = Command::new("tar");
        run(command
            .args(formats)
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&root)
            .arg("."));
        comes_back(&format!("{formats:?}"), &std::fs::read(&archive).unwrap());
    };
    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        tar(&[
            "--format",
            format,
            "--exclude=./long*",
            "--exclude=./dev",
            "--exclude=./fifo",
        ]);
    }
    let long = format!("long{}", "-name".repeat(45));
    std::fs::write(root.join(&long), "long").unwrap();
    symlink(&long, root.join("long-link")).unwrap();
    tar(&["--format=gnu", "--sparse"]);
    tar(&["--format=pax", "--xattrs", "--xattrs-include=*"]);
    tar(&["--format=gnu", "--blocking-factor=1"]);
    // Appended to: the same names again, and no end marker between them.
    std::fs::write(root.join("d/e/file"), "other content").unwrap();
    run(Command::new("tar")
        .arg("-rf")
        .arg(&archive)
        .arg("-C")
        .arg(&root)
        .arg("."));
    comes_back("appended", &std::fs::read(&archive).unwrap());
}

#[test]
fn a_changed_file_is_named_and_so_is_a_layer_without_a_tar() {
    let tar = Tar::default()
        .file("d/same", "0")
        .file("d/file", "before")
        .end();
    type Change = fn(&Path);
    let table: [(Change, &str); 7] = [
        (
            |file| std::fs::write(file, "shorter").unwrap(),
            "d/file: it is 7 bytes long, not 6",
        ),
        (
            |file| std::fs::write(file, "bEfore").unwrap(),
            "d/file: its content is another",
        ),
        (
            |file| std::fs::remove_file(file).unwrap(),
            "d/file: it is gone",
        ),
        (
            |file| {
                std::fs::rename(file, file.with_extension("x")).unwrap();
                symlink("file.x", file).unwrap();
            },
            "d/file: it is gone, or another kind",
        ),
        (
            |file| {
                std::fs::remove_file(file).unwrap();
                std::fs::create_dir(file).unwrap();
            },
            "d/file: it is no regular file",
        ),
        (
            |file| {
                let parent = file.parent().unwrap();
                std::fs::rename(parent, parent.with_extension("x")).unwrap();
                symlink("d.x", parent).unwrap();
            },
            "d/same: it is gone",
        ),
        (
            |file| {
                let layer = file.ancestors().nth(3).unwrap();
                std::fs::remove_file(layer.join("tar-split.zst")).unwrap();
            },
            "tar-split.zst: open: No such file",
        ),
    ];
    for (change, expected) in table {
        let scratch = Scratch::new();
        scratch.image(&["a:1"], std::slice::from_ref(&tar));
        change(&scratch.layer_path(&tar).join("d/file"));
        let error = layer_tar(&scratch, &tar).unwrap_err();
        assert!(error.contains(expected), "{error}");
        let error = scratch.store().verify_layer(&digest(&tar)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_layer_from_before_says_that_it_has_no_tar() {
    let mut scratch = Scratch::new();
    let tar = Tar::default().file("a", "1").end();
    scratch.image(&["a:1"], std::slice::from_ref(&tar));
    scratch.settle();
    let record = scratch
        .place("layers")
        .join(digest(&tar).digest())
        .join("layer.json");
    let mut value: serde_json::Value = serde_json::from_str(&read(&record)).unwrap();
    assert_eq!(value["tar_bytes"], tar.len());
    value.as_object_mut().unwrap().remove("tar_bytes");
    std::fs::write(&record, value.to_string()).unwrap();
    scratch.reopen(None);
    let error = layer_tar(&scratch, &tar).unwrap_err();
    assert!(error.contains("an earlier version unpacked it"), "{error}");
    let error = scratch
        .store()
        .layer_tar(&digest(b"none"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not in the store"), "{error}");
}

#[test]
fn a_broken_split_is_an_error_and_never_another_tar() {
    let tar = Tar::default()
        .file("a", "1")
        .file("a", "22")
        .file("b/c", "333")
        .end();
    let scratch = Scratch::new();
    scratch.image(&["a:1"], std::slice::from_ref(&tar));
    let layer = scratch.place("layers").join(digest(&tar).digest());
    for name in ["tar-split.zst", "lost/index"] {
        let good = std::fs::read(layer.join(name)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            std::fs::write(layer.join(name), &bad).unwrap();
            // A flip in the compression's own header may mean the same.
            if let Ok(again) = layer_tar(&scratch, &tar) {
                assert!(again == tar, "{name}: byte {at}");
            }
            std::fs::write(layer.join(name), &good[..at]).unwrap();
            let Err(error) = layer_tar(&scratch, &tar) else {
                panic!("{name} cut at {at}: no error");
            };
            assert!(
                !error.contains("not a storage error"),
                "{name} cut at {at}: {error}"
            );
        }
        std::fs::write(layer.join(name), &good).unwrap();
    }
    assert_eq!(layer_tar(&scratch, &tar).unwrap(), tar);
}
