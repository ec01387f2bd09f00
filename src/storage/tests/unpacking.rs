//! What honest layers become on disk.

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;

use super::super::*;
use super::fixture::*;

#[test]
fn a_tree_keeps_content_owners_modes_times_and_links() {
    let scratch = Scratch::new();
    let tar = Tar::default()
        .dir_mode("./", 0o750)
        .dir_mode("sticky/", 0o1777)
        .raw(b'0', "sticky/tool", "", b"#!x", |h| {
            h.set_mode(0o4755);
            h.set_uid(1000);
            h.set_gid(2000);
            h.set_mtime(1234);
        })
        .hard_link("again", "/sticky/tool")
        .symlink("absolute", "/etc/passwd")
        .raw(b'2', "owned", "nowhere", b"", |h| h.set_uid(7))
        .raw(b'0', "implied/parent/file", "", b"x", |_| {})
        .raw(b'6', "fifo", "", b"", |_| {})
        .device(b'3', "null", 1, 3)
        .device(b'4', "disk", 8, 0)
        .raw(b'7', "contiguous", "", b"c", |_| {})
        .raw(0, "old", "", b"o", |_| {})
        .raw(0, "olddir/", "", b"", |h| h.set_mode(0o700))
        .end();
    let lease = scratch.store().lease();
    let info = lease
        .unpack_layer(&digest(&tar), &tar[..], &AtomicU64::new(0))
        .unwrap();

    let root = scratch.layer_path(&tar);
    let meta = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap();
    assert_eq!(meta("").mode() & 0o7777, 0o750);
    assert_eq!(meta("sticky").mode() & 0o7777, 0o1777);
    assert_eq!(meta("sticky").mtime(), 1_000_000);
    let tool = meta("sticky/tool");
    assert_eq!(
        (tool.mode() & 0o7777, tool.uid(), tool.gid()),
        (0o4755, 1000, 2000)
    );
    assert_eq!((tool.mtime(), tool.nlink()), (1234, 2));
    assert_eq!(meta("again").ino(), tool.ino());
    assert_eq!(
        std::fs::read_link(root.join("absolute")).unwrap().to_str(),
        Some("/etc/passwd")
    );
    assert_eq!((meta("owned").uid(), meta("owned").mtime()), (7, 1_000_000));
    let implied = meta("implied/parent");
    assert_eq!((implied.mode() & 0o7777, implied.uid()), (0o755, 0));
    assert!(meta("fifo").file_type().is_fifo());
    assert!(meta("null").file_type().is_char_device());
    assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
    assert!(meta("disk").file_type().is_block_device());
    assert_eq!(read(root.join("contiguous")), "c");
    assert_eq!(read(root.join("old")), "o");
    assert_eq!(meta("olddir").permissions().mode() & 0o7777, 0o700);
    assert_eq!(
        (info.bytes, info.inodes),
        occupied(&root),
        "counted while unpacking"
    );
}

#[test]
fn pax_and_gnu_extensions_are_understood() {
    let scratch = Scratch::new();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let gnu_long = format!("{}/g", "e".repeat(120));
    let capability = b"\x01\0\0\x02\n\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::default()
        .raw(b'g', "global", "", b"18 comment=ignored\n", |_| {})
        .pax(&[
            ("path", long.as_bytes()),
            ("mtime", b"1350244992.023960108"),
            ("uid", b"3000000"),
            ("SCHILY.xattr.user.mine", b"kept"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"label"),
            ("SCHILY.xattr.security.capability", capability),
        ])
        .raw(b'0', "short", "", b"long", |_| {})
        .raw(
            b'L',
            "././@LongLink",
            "",
            format!("{gnu_long}\0").as_bytes(),
            |_| {},
        )
        .raw(b'0', "cut", "", b"gnu", |_| {})
        .pax(&[("size", b"5")])
        .raw(b'0', "sized", "", b"", |_| {})
        .data(b"12345")
        .raw(b'0', "base256", "", b"", |h| {
            h.as_old_mut().uid = [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
            h.as_old_mut().mtime = [0xff; 12];
        })
        .pax(&[("linkpath", long.as_bytes())])
        .hard_link("linked", "elsewhere")
        .raw(b'5', "dir-with-a-size/", "", b"", |h| h.set_size(4096))
        .end();
    let lease = scratch.store().lease();
    lease
        .unpack_layer(&digest(&tar), &tar[..], &AtomicU64::new(0))
        .unwrap();
    let root = scratch.layer_path(&tar);
    let file = root.join(&long);
    let meta = std::fs::metadata(&file).unwrap();
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec(), meta.uid()),
        (1350244992, 23960108, 3_000_000)
    );
    assert_eq!(xattr(&file, "user.mine").unwrap(), b"kept");
    assert!(xattr(&file, "security.capability").is_some());
    for dropped in [
        "user.overlay.opaque",
        "trusted.overlay.opaque",
        "security.selinux",
    ] {
        assert_eq!(xattr(&file, dropped), None, "{dropped}");
    }
    assert_eq!(read(root.join(gnu_long)), "gnu");
    assert_eq!(read(root.join("sized")), "12345");
    let meta = std::fs::metadata(root.join("base256")).unwrap();
    assert_eq!((meta.uid(), meta.mtime()), (0x7fff_ffff, -1));
    assert_eq!(read(root.join("linked")), "long");
}

#[test]
fn a_gnu_sparse_file_has_its_holes() {
    let scratch = Scratch::new();
    let mut gnu = tar::Header::new_gnu();
    let head = gnu.as_gnu_mut().unwrap();
    head.name[..6].copy_from_slice(b"sparse");
    head.typeflag = [b'S'];
    head.set_real_size(1 << 20);
    head.sparse[0].set_offset(4096);
    head.sparse[0].set_length(3);
    head.sparse[1].set_offset(1 << 20);
    head.sparse[1].set_length(0);
    gnu.set_size(3);
    gnu.set_mode(0o600);
    gnu.set_cksum();
    let tar = Tar(gnu.as_bytes().to_vec()).data(b"abc").end();
    let lease = scratch.store().lease();
    let none = AtomicU64::new(0);
    lease.unpack_layer(&digest(&tar), &tar[..], &none).unwrap();
    let path = scratch.layer_path(&tar).join("sparse");
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 1 << 20);
    assert_eq!(&bytes[4096..4099], b"abc");
    assert_eq!(bytes.iter().filter(|b| **b != 0).count(), 3);
    assert!(std::fs::metadata(path).unwrap().blocks() < 64);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let scratch = Scratch::new();
    let tar = Tar::default()
        .dir("d/")
        .file("d/inside", "gone")
        .file("d", "a file now")
        .file("f", "gone")
        .dir("f/")
        .file("f/inside", "there")
        .file("twice", "first")
        .file("twice", "second")
        .dir_mode("m/", 0o700)
        .file("m/kept", "kept")
        .dir_mode("m/", 0o751)
        .symlink("l", "m")
        .dir("l/")
        .file("l/inside", "a directory now")
        .symlink("k", "/m")
        .file("k", "not through the link")
        .dir("deep/er/")
        .file("deep/er/x", "")
        .symlink("deep", "m")
        .file("deep/y", "in m")
        .end();
    let lease = scratch.store().lease();
    let info = lease
        .unpack_layer(&digest(&tar), &tar[..], &AtomicU64::new(0))
        .unwrap();
    let root = scratch.layer_path(&tar);
    assert_eq!(read(root.join("d")), "a file now");
    assert_eq!(read(root.join("f/inside")), "there");
    assert_eq!(read(root.join("twice")), "second");
    assert_eq!(
        std::fs::metadata(root.join("m")).unwrap().mode() & 0o7777,
        0o751
    );
    assert_eq!(read(root.join("m/kept")), "kept");
    assert_eq!(read(root.join("l/inside")), "a directory now");
    assert_eq!(read(root.join("k")), "not through the link");
    assert_eq!(read(root.join("m/y")), "in m");
    assert_eq!((info.bytes, info.inodes), occupied(&root));
    scratch.settle();
    assert!(scratch.names("trash").is_empty());
}

#[test]
fn links_lead_inside_the_layer_wherever_they_point() {
    let scratch = Scratch::new();
    let outside = scratch.dir.path().to_str().unwrap().to_owned();
    let tar = Tar::default()
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .file("lib/x", "by a relative link")
        .symlink("abs", "/usr/lib")
        .file("abs/y", "by an absolute link")
        .symlink("up", "../../../../usr/lib")
        .file("up/z", "by a link that climbs")
        .symlink("out", &outside)
        .dir(&outside[1..])
        .file("out/canary", "inside")
        .hard_link("h", "abs/y")
        .end();
    let lease = scratch.store().lease();
    lease
        .unpack_layer(&digest(&tar), &tar[..], &AtomicU64::new(0))
        .unwrap();
    let root = scratch.layer_path(&tar);
    for (name, content) in [
        ("usr/lib/x", "by a relative link"),
        ("usr/lib/y", "by an absolute link"),
        ("usr/lib/z", "by a link that climbs"),
        ("h", "by an absolute link"),
    ] {
        assert_eq!(read(root.join(name)), content);
    }
    assert_eq!(read(root.join(&outside[1..]).join("canary")), "inside");
}

#[test]
fn an_archive_may_end_at_an_entry_and_may_be_padded() {
    let scratch = Scratch::new();
    let without_marker = Tar::default().file("a", "1").0;
    scratch.unpack(&without_marker).unwrap();
    let mut padded = Tar::default().file("a", "2").end();
    padded.resize(padded.len() + 100_000, 0);
    scratch.unpack(&padded).unwrap();
    scratch.unpack(b"").unwrap();
    scratch.unpack(&[0; 512]).unwrap();
}

struct Waiting<'a> {
    barrier: Option<&'a Barrier>,
    tar: &'a [u8],
}

impl Read for Waiting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(barrier) = self.barrier.take() {
            barrier.wait();
        }
        self.tar.read(buffer)
    }
}

#[test]
fn the_same_layer_unpacked_by_many_at_once_is_there_once() {
    let scratch = Scratch::new();
    let data = "x".repeat(100_000);
    let tar = (0..50)
        .fold(Tar::default(), |tar, i| tar.file(&format!("d/{i}"), &data))
        .end();
    let unpacking = Barrier::new(8);
    let one = || {
        let lease = scratch.store().lease();
        // Nobody gets a byte before all have found that the layer is not there.
        let reader = Waiting {
            barrier: Some(&unpacking),
            tar: &tar,
        };
        lease
            .unpack_layer(&digest(&tar), reader, &AtomicU64::new(0))
            .unwrap();
        lease
    };
    let leases: Vec<Lease> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    scratch.settle();
    assert_eq!(scratch.names("layers").len(), 1);
    assert!(scratch.names("staging").is_empty());
    assert!(scratch.names("trash").is_empty());
    drop(leases);
    scratch.settle();
    assert!(
        scratch.names("layers").is_empty(),
        "no lease, no image: freed"
    );
}
