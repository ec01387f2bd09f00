//! Root filesystems on the real overlayfs.

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::*;
use super::fixture::*;
use crate::sys::user_namespace::{self, Range};

fn mount(scratch: &Scratch, id: &str, layers: &[Vec<u8>]) -> PathBuf {
    let layers: Vec<_> = layers.iter().map(|tar| digest(tar)).collect();
    let path = scratch
        .store()
        .mount_root(id, &layers, &RootOptions::default())
        .unwrap();
    assert!(path.ends_with(format!("containers/{id}/merged")));
    path
}

fn listing(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_lies_below() {
    let scratch = Scratch::new();
    let lower = Tar::default()
        .file("gone", "")
        .file("stays", "lower")
        .dir("opaque/")
        .file("opaque/old", "")
        .dir("dir/")
        .file("dir/gone", "")
        .file("dir/stays", "")
        .dir("removed/")
        .file("removed/x", "")
        .dir("again/")
        .file("again/old", "")
        .dir("before/")
        .file("before/old", "")
        .dir("implied/")
        .file("implied/old", "")
        .file("replaced", "lower")
        .dir("late/")
        .file("late/old", "")
        .file("wasfile", "lower")
        .dir("wasdir/")
        .file("wasdir/x", "")
        .end();
    let upper = Tar::default()
        .file(".wh.gone", "")
        .file("dir/.wh.gone", "")
        .file("opaque/new", "")
        .file("opaque/.wh..wh..opq", "")
        // As some builders write the removal of a whole tree.
        .file(".wh.removed", "")
        .file("removed/.wh.x", "")
        // Removed and made again, in both orders: nothing of the old one shows.
        .file(".wh.again", "")
        .dir("again/")
        .file("again/new", "")
        .dir("before/")
        .file("before/new", "")
        .file(".wh.before", "")
        .file(".wh.implied", "")
        .file("implied/new", "")
        .file("replaced", "upper")
        .file(".wh.replaced", "")
        .file("late/.wh..wh..opq", "")
        .file("late/new", "")
        .dir("wasfile/")
        .file("wasfile/in", "")
        .file("wasdir", "upper")
        .file(".wh..wh.plnk/1", "")
        .file(".wh.never-there", "")
        .end();
    let image = scratch.image(&[], &[lower.clone(), upper.clone()]);
    assert_eq!(image.layers.len(), 2);
    let root = mount(&scratch, "c1", &[lower, upper]);
    let expected: [(&str, &[&str]); 9] = [
        (
            "",
            &[
                "again", "before", "dir", "implied", "late", "opaque", "replaced", "stays",
                "wasdir", "wasfile",
            ],
        ),
        ("opaque", &["new"]),
        ("dir", &["stays"]),
        ("again", &["new"]),
        ("before", &["new"]),
        ("implied", &["new"]),
        ("late", &["new"]),
        ("wasfile", &["in"]),
        ("../diff", &[]),
    ];
    for (dir, names) in expected {
        assert_eq!(listing(&root.join(dir)), names, "{dir}");
    }
    assert_eq!(read(root.join("replaced")), "upper");
    assert_eq!(read(root.join("stays")), "lower");
    assert_eq!(read(root.join("wasdir")), "upper");
}

#[test]
fn a_root_is_written_to_without_touching_the_layers_and_goes_completely() {
    let scratch = Scratch::new();
    let tar = Tar::default()
        .dir_mode("./", 0o1751)
        .file("file", "layer")
        .end();
    scratch.image(&[], std::slice::from_ref(&tar));
    let root = mount(&scratch, "c1", std::slice::from_ref(&tar));
    assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o7777, 0o1751);
    std::fs::write(root.join("file"), "container").unwrap();
    std::fs::write(root.join("new"), "x").unwrap();
    assert_eq!(read(scratch.layer_path(&tar).join("file")), "layer");
    assert_eq!(
        mount(&scratch, "c1", std::slice::from_ref(&tar)),
        root,
        "mounted: the same"
    );
    assert_eq!(read(root.join("file")), "container");

    let store = scratch.store();
    store.unmount_root("c1").unwrap();
    store.unmount_root("c1").unwrap();
    assert!(listing(&root).is_empty());
    mount(&scratch, "c1", std::slice::from_ref(&tar));
    assert_eq!(
        read(root.join("file")),
        "container",
        "mounted again: what was written is there"
    );

    store.remove_root("c1").unwrap();
    store.remove_root("c1").unwrap();
    assert_eq!(store.root_usage("c1"), None);
    scratch.settle();
    assert!(scratch.names("containers").is_empty() && scratch.names("trash").is_empty());
    let mounts = read("/proc/self/mountinfo");
    assert!(!mounts.contains(scratch.dir.path().to_str().unwrap()));
}

#[test]
fn roots_of_no_layer_of_one_and_of_128_can_be_mounted_below_a_long_path() {
    let dir = tempfile::tempdir().unwrap();
    // With this the paths of the layers are over 255 bytes, and have what overlayfs would split at.
    let long = dir.path().join("a:b,c\\d").join("n".repeat(200));
    let mut scratch = Scratch::new();
    scratch.close();
    let limits = LayerLimits {
        reserve_bytes: 1 << 20,
        ..LayerLimits::default()
    };
    for root in [scratch.dir.path().join("root"), long] {
        let settings = Settings {
            root,
            imagestore: None,
            limits: limits.clone(),
        };
        scratch.store = Some(Store::open(settings).unwrap());
        let tars: Vec<_> = (0..128)
            .map(|i| Tar::default().file(&format!("f{i}"), "x").end())
            .collect();
        scratch.image(&[], &tars);
        for (id, count) in [("none", 0), ("one", 1), ("many", 128)] {
            let root = mount(&scratch, id, &tars[..count]);
            assert_eq!(listing(&root).len(), count);
            std::fs::write(root.join("writable"), "x").unwrap();
        }
        assert_eq!(
            scratch.store().sweep_roots(|id| id == "one"),
            ["many", "none"]
        );
        assert_eq!(scratch.store().sweep_roots(|_| false), ["one"]);
        scratch.close();
    }
}

#[test]
fn mounting_by_option_string_gives_the_same_root() {
    let scratch = Scratch::new();
    let tars: Vec<_> = (0..128)
        .map(|i| Tar::default().file(&format!("f{i}"), "x").end())
        .collect();
    scratch.image(&[], &tars);
    let root = mount(&scratch, "c1", &[]);
    let place = root.parent().unwrap();
    scratch.store().unmount_root("c1").unwrap();
    std::fs::remove_dir_all(place.join("work")).unwrap();
    std::fs::create_dir(place.join("work")).unwrap();
    let target = dir::Dir::open_or_create(&root).unwrap();
    let overlay = overlay::Overlay {
        lowers: tars.iter().map(|tar| scratch.layer_path(tar)).collect(),
        upper: Some(overlay::Upper {
            diff: place.join("diff"),
            work: place.join("work"),
        }),
        target: std::os::fd::AsFd::as_fd(&target),
        options: &RootOptions {
            nodev: true,
            ..RootOptions::default()
        },
    };
    overlay.mount_by_string().unwrap();
    assert_eq!(listing(&root).len(), 128);
    let mounts = read("/proc/self/mountinfo");
    let line = mounts
        .lines()
        .find(|line| line.contains(root.to_str().unwrap()))
        .unwrap();
    assert!(
        line.contains("nodev") && line.contains("volatile"),
        "{line}"
    );
}

/// A user namespace, for as long as the descriptor is open, and a root in it.
fn mapped() -> (std::os::fd::OwnedFd, RootOptions) {
    let range = |outside| Range {
        inside: 0,
        outside,
        length: 65_536,
    };
    let (uids, gids) = (range(300_000), range(400_000));
    let file = user_namespace::unpopulated(uids, gids).unwrap();
    let userns = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    let options = RootOptions {
        ids: Some(RootIds { userns, uids, gids }),
        ..RootOptions::default()
    };
    (file, options)
}

#[test]
fn a_root_for_a_user_namespace_shows_the_images_ids_as_the_pods_and_leaves_no_layer_attached() {
    let scratch = Scratch::new();
    let tars = [
        Tar::default().file("old", "old").end(),
        Tar::default().file("new", "new").end(),
    ];
    scratch.image(&[], &tars);
    let (_userns, options) = mapped();
    let layers: Vec<_> = tars.iter().map(|tar| digest(tar)).collect();
    let root = scratch.store().mount_root("c1", &layers, &options).unwrap();
    let plain = mount(&scratch, "c2", &tars);
    for (name, root, want) in [
        ("old", &root, (300_000, 400_000)),
        ("new", &root, (300_000, 400_000)),
        ("", &root, (300_000, 400_000)),
        ("old", &plain, (0, 0)),
    ] {
        let facts = root.join(name).metadata().unwrap();
        assert_eq!((facts.uid(), facts.gid()), want, "{name}");
    }
    // What is written to is copied up, with the owner that it shows.
    std::fs::write(root.join("old"), "changed").unwrap();
    let upper = root.parent().unwrap().join("diff/old").metadata().unwrap();
    assert_eq!((upper.uid(), upper.gid()), (300_000, 400_000));
    assert_eq!(read(plain.join("old")), "old");
    assert!(!read("/proc/self/mountinfo").contains("/c1/idmapped"));
    scratch.store().remove_root("c1").unwrap();
    scratch.store().remove_root("c1").unwrap();
}

#[test]
fn a_root_that_a_pods_root_cannot_get_to_is_refused_with_the_directory_in_the_way() {
    let scratch = Scratch::new();
    let tar = Tar::default().file("x", "").end();
    scratch.image(&[], std::slice::from_ref(&tar));
    let (_userns, options) = mapped();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(scratch.dir.path(), mode).unwrap();
    let error = scratch.store().mount_root("c1", &[digest(&tar)], &options);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("chmod o+x"), "{error}");
    let path = scratch.dir.path().display().to_string();
    assert!(error.starts_with(&path), "{error}");
}

#[test]
fn a_root_that_cannot_be_made_leaves_nothing() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let missing = digest(b"missing");
    let error = store
        .mount_root("c1", &[missing], &RootOptions::default())
        .unwrap_err();
    assert!(error.to_string().contains("container c1"), "{error}");
    // The kernel here has no SELinux, so it refuses the label, and says why.
    let options = RootOptions {
        mount_label: Some("bad label".into()),
        nodev: false,
        ids: None,
    };
    let error = store.mount_root("c1", &[], &options).unwrap_err();
    assert!(matches!(error, StorageError::Root { .. }), "{error}");
    scratch.settle();
    assert!(scratch.names("containers").is_empty());
    assert_eq!(store.root_usage("c1"), None);
    store
        .mount_root("c1", &[], &RootOptions::default())
        .unwrap();
}

#[test]
fn usage_of_a_root_comes_at_once_and_is_measured_behind() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let root = store
        .mount_root("c1", &[], &RootOptions::default())
        .unwrap();
    std::fs::write(root.join("file"), vec![1; 1 << 20]).unwrap();
    assert_eq!(
        store.root_usage("c1").unwrap().inodes,
        1,
        "not measured yet"
    );
    scratch.settle();
    let usage = store.root_usage("c1").unwrap();
    assert_eq!(usage.inodes, 2);
    assert!(usage.bytes >= 1 << 20, "{usage:?}");
    assert_eq!(usage.mountpoint, scratch.place("containers"));
    assert_eq!(store.roots_usage(), usage);
    assert_eq!(store.root_usage("c2"), None);
}

#[test]
fn a_layer_that_an_image_has_twice_counts_where_it_is_uppermost() {
    let scratch = Scratch::new();
    // Docker's layer for a step that changed no file.
    let nothing = Tar::default().end();
    let layer = Tar::default()
        .file("f", "layer")
        .dir("d/")
        .file("d/own", "")
        .file(".wh.hidden", "")
        .end();
    let other = Tar::default()
        .file("f", "other")
        .file(".wh.d", "")
        .file("hidden", "")
        .file("other", "")
        .end();
    let all = [&nothing, &layer, &other, &nothing, &layer, &nothing].map(Clone::clone);
    let image = scratch.image(&["twice:1"], &all);
    let root = mount(&scratch, "c1", &all);
    let volume = scratch
        .store()
        .mount_image_volume("c1", 0, &image.layers, &RootOptions::default())
        .unwrap();
    for seen in [&root, &volume] {
        assert_eq!(listing(seen), ["d", "f", "other"]);
        assert_eq!(listing(&seen.join("d")), ["own"]);
        assert_eq!(read(seen.join("f")), "layer");
    }
    // The same directory without its lower self.
    let apart = mount(&scratch, "c2", &[nothing, other, layer]);
    assert_eq!(listing(&apart), listing(&root));
    for id in ["c1", "c2"] {
        scratch.store().remove_root(id).unwrap();
    }
}
