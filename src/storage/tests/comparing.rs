//! What is wrong with a layer beside the contents of its files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{FileType, Mode, XattrFlags, makedev};

use super::fixture::*;

/// Version 2 of a file capability, for one bit.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn some_of_everything() -> Vec<u8> {
    Tar::default()
        .dir("./")
        .dir_mode("dir/", 0o1777)
        .raw(b'0', "dir/file", "", b"content", |header| {
            header.set_mode(0o4755);
            header.set_uid(1000);
            header.set_gid(1001);
        })
        .hard_link("dir/same", "dir/file")
        .symlink("link", "dir/file")
        .symlink("way", "dir")
        .file("way/through", "")
        .device(b'3', "null", 1, 3)
        .raw(b'6', "fifo", "", b"", |header| header.set_mode(0o600))
        .pax(&[
            ("SCHILY.xattr.user.name", b"value"),
            ("SCHILY.xattr.security.capability", CAPABILITY),
        ])
        .file("able", "1")
        .file("dir/.wh..wh..opq", "")
        .file(".wh.gone", "")
        .end()
}

fn replace(path: &Path, by: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    by(path);
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn node(path: &Path, kind: FileType, device: u64) {
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).unwrap();
}

#[test]
fn what_was_changed_in_a_layer_is_named() {
    type Change = fn(&Path);
    let table: [(&str, &str, Change); 19] = [
        ("", "its mode is 0700, not 0755", |root| {
            set_mode(root, 0o700)
        }),
        ("dir", "its mode is 0777, not 1777", |root| {
            set_mode(root.join("dir"), 0o777)
        }),
        // A change of the owner takes the set-user-id bit as well: the owner is told first.
        ("dir/file", "its owner is 0:0, not 1000:1001", |root| {
            chown(root.join("dir/file"), Some(0), Some(0)).unwrap();
        }),
        ("dir/file", "its mode is 0755, not 4755", |root| {
            set_mode(root.join("dir/file"), 0o755)
        }),
        ("dir/file", "it is 3 bytes long, not 7", |root| {
            fs::OpenOptions::new()
                .write(true)
                .open(root.join("dir/file"))
                .unwrap()
                .set_len(3)
                .unwrap();
        }),
        (
            "dir/same",
            "it is no longer the same file as dir/file",
            |root| {
                replace(&root.join("dir/same"), |path| {
                    fs::write(path, "content").unwrap()
                });
            },
        ),
        ("dir/same", "it is gone", |root| {
            fs::remove_file(root.join("dir/same")).unwrap()
        }),
        ("link", "it leads to elsewhere, not to dir/file", |root| {
            replace(&root.join("link"), |path| {
                symlink("elsewhere", path).unwrap()
            });
        }),
        ("link", "its owner is 7:0, not 0:0", |root| {
            lchown(root.join("link"), Some(7), None).unwrap();
        }),
        ("link", "it is a RegularFile, not a Symlink", |root| {
            replace(&root.join("link"), |path| fs::write(path, "").unwrap());
        }),
        ("null", "it is device 0x105, not 0x103", |root| {
            replace(&root.join("null"), |path| {
                node(path, FileType::CharacterDevice, makedev(1, 5))
            });
        }),
        ("fifo", "its mode is 0644, not 0600", |root| {
            set_mode(root.join("fifo"), 0o644)
        }),
        ("fifo", "it is gone", |root| {
            fs::remove_file(root.join("fifo")).unwrap()
        }),
        (
            "able",
            "its extended attribute user.name is another or gone",
            |root| {
                rustix::fs::setxattr(
                    root.join("able"),
                    "user.name",
                    b"values",
                    XattrFlags::empty(),
                )
                .unwrap();
            },
        ),
        (
            "able",
            "its extended attribute security.capability is another or gone",
            |root| {
                rustix::fs::removexattr(root.join("able"), "security.capability").unwrap();
            },
        ),
        (
            "dir",
            "it no longer hides what the layers below have",
            |root| {
                rustix::fs::removexattr(root.join("dir"), "trusted.overlay.opaque").unwrap();
            },
        ),
        ("gone", "the mark that it does not exist is gone", |root| {
            fs::remove_file(root.join("gone")).unwrap();
        }),
        (
            "gone",
            "it no longer hides what the layers below have",
            |root| {
                replace(&root.join("gone"), |path| fs::create_dir(path).unwrap());
            },
        ),
        ("dir", "it is gone", |root| {
            fs::remove_dir_all(root.join("dir")).unwrap();
        }),
    ];
    let tar = some_of_everything();
    for (path, reason, change) in table {
        let scratch = Scratch::new();
        scratch.image(&["example.test/app:1"], std::slice::from_ref(&tar));
        assert_eq!(differences(&scratch, &tar), [], "before {path}: {reason}");
        change(&scratch.layer_path(&tar));
        let all = differences(&scratch, &tar);
        assert!(
            all.contains(&(path.into(), reason.to_owned())),
            "{path}: {reason}: {all:?}"
        );
    }
}
