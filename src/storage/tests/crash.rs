//! What a kill, a power cut and another version leave, and what opening makes of it.

use super::super::*;
use super::fixture::*;

fn layer(content: &str) -> Vec<u8> {
    Tar::default().file("file", content).end()
}

/// Rewrites a field of an image's record.
fn edit(scratch: &Scratch, id: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let path = scratch.place("images").join(id).join("image.json");
    let mut record = serde_json::from_str(&read(&path)).unwrap();
    change(&mut record);
    std::fs::write(path, record.to_string()).unwrap();
}

#[test]
fn an_image_becomes_durable_in_the_background() {
    let scratch = Scratch::new();
    let image = scratch.image(&["a:1"], &[layer("a")]);
    scratch.settle();
    let path = scratch.place("images").join(&image.id).join("image.json");
    let record: serde_json::Value = serde_json::from_str(&read(path)).unwrap();
    assert_eq!(record["durable"], true);
    assert!(scratch.names("staging").is_empty());
}

#[test]
fn what_was_not_durable_before_a_power_cut_is_dropped_and_its_layers_too() {
    let mut scratch = Scratch::new();
    let (shared, own) = (layer("shared"), layer("own"));
    let safe = scratch.image(&["safe:1"], std::slice::from_ref(&shared));
    let risky = scratch.image(&["risky:1"], &[shared.clone(), own.clone()]);
    scratch.settle();
    edit(&scratch, &risky.id, |record| {
        record["durable"] = false.into()
    });
    let store = scratch.reopen(None);
    assert_eq!(
        store.images().len(),
        2,
        "the same boot: the page cache has it"
    );
    scratch.settle();
    edit(&scratch, &risky.id, |record| {
        record["durable"] = false.into()
    });
    let store = scratch.reopen(Some("another boot"));
    assert!(store.image(&safe.id).is_some() && store.image(&risky.id).is_none());
    assert!(store.has_layer(&digest(&shared)) && !store.has_layer(&digest(&own)));
    scratch.settle();
    assert_eq!(
        (scratch.names("images").len(), scratch.names("layers").len()),
        (1, 1)
    );
    assert!(scratch.names("quarantine").is_empty() && scratch.names("trash").is_empty());
}

/// The names that an image has in its record on disk.
fn names_on_disk(scratch: &Scratch, id: &str) -> Vec<String> {
    let path = scratch.place("images").join(id).join("image.json");
    let record: serde_json::Value = serde_json::from_str(&read(path)).unwrap();
    serde_json::from_value(record["names"].clone()).unwrap()
}

/// Two images, of which the later has taken the earlier one's name, as the disk is before that has
/// given it up: the later one durable or not.
fn name_in_the_air(scratch: &mut Scratch, durable: bool) -> [String; 2] {
    let old = scratch.image(&["moving:1"], &[layer("old")]);
    let new = scratch.image(&["moving:1"], &[layer("new")]);
    scratch.settle();
    assert!(names_on_disk(scratch, &old.id).is_empty());
    scratch.close();
    edit(scratch, &old.id, |record| {
        record["names"] = ["moving:1"].as_slice().into()
    });
    edit(scratch, &new.id, |record| {
        record["durable"] = durable.into()
    });
    [old.id.clone(), new.id.clone()]
}

#[test]
fn a_name_whose_new_image_a_power_cut_took_is_the_old_images_again() {
    let mut scratch = Scratch::new();
    let [old, new] = name_in_the_air(&mut scratch, false);
    let store = scratch.reopen(Some("another boot"));
    assert!(store.image(&new).is_none());
    assert_eq!(store.image(&old).unwrap().names, ["moving:1"]);
}

#[test]
fn a_name_that_a_kill_left_at_two_images_is_the_later_ones() {
    for durable in [false, true] {
        let mut scratch = Scratch::new();
        let [old, new] = name_in_the_air(&mut scratch, durable);
        for _ in 0..2 {
            let store = scratch.reopen(None);
            assert_eq!(store.image(&new).unwrap().names, ["moving:1"]);
            assert!(store.image(&old).unwrap().names.is_empty());
        }
        scratch.settle();
        assert!(names_on_disk(&scratch, &old).is_empty());
    }
}

#[test]
fn an_image_that_lost_a_name_and_is_put_again_does_not_win_it_back() {
    let mut scratch = Scratch::new();
    let [old, new] = name_in_the_air(&mut scratch, false);
    scratch.reopen(None);
    scratch.image(&["other:1"], &[layer("old")]);
    let store = scratch.reopen(None);
    assert_eq!(store.image(&old).unwrap().names, ["other:1"]);
    assert_eq!(store.image(&new).unwrap().names, ["moving:1"]);
}

#[test]
fn the_manifest_of_an_earlier_version_is_read_under_its_former_name() {
    let mut scratch = Scratch::new();
    let image = scratch.image(&["a:1"], &[layer("a")]);
    let manifest = scratch.store().raw_manifest(&image.id).unwrap();
    scratch.close();
    let directory = scratch.place("images").join(&image.id);
    let name = format!("manifest-{}", image.manifest_digest.digest());
    std::fs::rename(directory.join(name), directory.join("manifest")).unwrap();
    let store = scratch.reopen(None);
    assert_eq!(store.raw_manifest(&image.id).unwrap(), manifest);
}

#[test]
fn files_that_a_power_cut_left_empty_are_dropped_and_fill_no_quarantine() {
    let mut scratch = Scratch::new();
    let safe = scratch.image(&["safe:1"], &[layer("safe")]);
    let mut lost = Vec::new();
    for i in 0..4 {
        lost.push(scratch.image(&[&format!("lost:{i}")], &[layer(&i.to_string())]));
    }
    scratch.settle();
    for image in &lost {
        edit(&scratch, &image.id, |record| {
            record["durable"] = false.into()
        });
    }
    let image = |i: usize, file: &str| scratch.place("images").join(&lost[i].id).join(file);
    std::fs::write(image(0, "image.json"), "").unwrap();
    std::fs::write(image(1, "image.json"), [0; 300]).unwrap();
    std::fs::write(image(2, "config"), "").unwrap();
    let record = scratch
        .place("layers")
        .join(lost[3].layers[0].digest())
        .join("layer.json");
    std::fs::write(record, "").unwrap();
    let store = scratch.reopen(Some("another boot"));
    assert_eq!(store.images().len(), 1);
    assert!(store.image(&safe.id).is_some());
    scratch.settle();
    assert_eq!(
        (scratch.names("images").len(), scratch.names("layers").len()),
        (1, 1)
    );
    assert!(scratch.names("quarantine").is_empty());
}

#[test]
fn rubbish_of_a_kill_is_swept() {
    let mut scratch = Scratch::new();
    let image = scratch.image(&["a:1"], &[layer("a")]);
    let orphan = layer("orphan");
    let lease = scratch.store().lease();
    lease
        .unpack_layer(&digest(&orphan), &orphan[..], &Default::default())
        .unwrap();
    // A killed process drops no lease.
    std::mem::forget(lease);
    scratch.settle();
    let store = scratch.store.take().unwrap();
    let locks = &store.shared.places._locks;
    for lock in locks {
        rustix::fs::flock(lock, rustix::fs::FlockOperation::Unlock).unwrap();
    }
    for half_made in ["staging/5f.1.1/diff/etc", "trash/t.1.2/diff"] {
        std::fs::create_dir_all(scratch.place(half_made)).unwrap();
    }
    std::fs::write(scratch.place("staging/record"), "{\"half").unwrap();
    let new = scratch
        .place("images")
        .join(&image.id)
        .join("image.json.new");
    std::fs::write(new, "{\"half").unwrap();
    let store = scratch.reopen(None);
    assert_eq!(store.images().len(), 1);
    assert!(!store.has_layer(&digest(&orphan)));
    scratch.settle();
    for place in ["staging", "trash", "quarantine"] {
        assert!(scratch.names(place).is_empty(), "{place}");
    }
    assert_eq!(scratch.names("layers").len(), 1);
    scratch.image(&["a:2"], &[layer("a"), orphan]);
}

#[test]
fn what_is_not_understood_is_set_aside_and_not_deleted() {
    let mut scratch = Scratch::new();
    let spoil: [fn(&Scratch, &str); 5] = [
        |s, id| edit(s, id, |record| record["version"] = 2.into()),
        |s, id| std::fs::write(s.place("images").join(id).join("image.json"), "{\"half").unwrap(),
        |s, id| std::fs::remove_file(s.place("images").join(id).join("config")).unwrap(),
        |s, id| std::fs::write(s.place("images").join(id).join("config"), "{}").unwrap(),
        |s, id| {
            let images = s.place("images");
            std::fs::rename(images.join(id), images.join("odd name")).unwrap();
        },
    ];
    for (i, spoil) in spoil.into_iter().enumerate() {
        let good = scratch.image(&["good:1"], &[layer("good")]);
        let bad = scratch.image(&["bad:1"], &[layer("bad")]);
        scratch.settle();
        spoil(&scratch, &bad.id);
        let store = scratch.reopen(None);
        assert_eq!(store.images().len(), 1, "{i}");
        assert!(store.image(&good.id).is_some());
        assert_eq!(scratch.names("quarantine").len(), i + 1);
    }
    let good = layer("good");
    let record = scratch
        .place("layers")
        .join(digest(&good).digest())
        .join("layer.json");
    std::fs::write(record, "{\"version\":9}").unwrap();
    let store = scratch.reopen(None);
    assert!(store.images().is_empty(), "its layer is set aside");
    assert_eq!(scratch.names("quarantine").len(), 6);
    scratch.image(&["good:1"], &[good]);
}

#[test]
fn unknown_fields_of_a_record_are_kept_when_it_is_rewritten() {
    let mut scratch = Scratch::new();
    let image = scratch.image(&["a:1"], &[layer("a")]);
    scratch.settle();
    edit(&scratch, &image.id, |record| {
        record["of_a_later_version"] = "kept".into()
    });
    scratch.reopen(None);
    scratch.image(&["a:2"], &[layer("a")]);
    let record = read(scratch.place("images").join(&image.id).join("image.json"));
    assert!(
        record.contains("kept") && record.contains("a:2"),
        "{record}"
    );
}

#[test]
fn roots_are_adopted_after_a_kill_and_swept_after_a_reboot() {
    let mut scratch = Scratch::new();
    let tar = layer("a");
    let image = scratch.image(&["a:1"], std::slice::from_ref(&tar));
    let options = RootOptions::default();
    let root = scratch
        .store()
        .mount_root("c1", &image.layers, &options)
        .unwrap();
    std::fs::write(root.join("written"), "x").unwrap();
    scratch
        .store()
        .mount_root("c2", &image.layers, &options)
        .unwrap();
    let store = scratch.reopen(None);
    store.remove_image(&image.id, &|| None).unwrap();
    scratch.settle();
    let store = scratch.store();
    assert!(store.has_layer(&digest(&tar)), "the roots were remembered");
    assert_eq!(store.sweep_roots(|id| id == "c1"), ["c2"]);
    assert_eq!(
        store.mount_root("c1", &image.layers, &options).unwrap(),
        root
    );
    assert_eq!(read(root.join("written")), "x");

    std::fs::create_dir_all(scratch.place("containers/no-record/diff")).unwrap();
    let store = scratch.reopen(Some("another boot"));
    assert!(
        !store.has_layer(&digest(&tar)),
        "nothing of another boot is mounted"
    );
    assert_eq!(store.sweep_roots(|_| false), ["c1", "no-record"]);
    scratch.settle();
    assert!(scratch.names("containers").is_empty());
}

#[test]
fn a_store_has_one_daemon() {
    let mut scratch = Scratch::new();
    let settings = Settings {
        root: scratch.dir.path().join("root"),
        imagestore: None,
        limits: LayerLimits::default(),
    };
    let error = Store::open(settings.clone()).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    scratch.close();
    scratch.store = Some(Store::open(settings).unwrap());
}

#[test]
fn images_may_live_apart_from_containers() {
    let mut scratch = Scratch::new();
    scratch.close();
    let imagestore = scratch.dir.path().join("images");
    let settings = Settings {
        root: scratch.dir.path().join("root"),
        imagestore: Some(imagestore.clone()),
        limits: LayerLimits {
            reserve_bytes: 1 << 20,
            ..LayerLimits::default()
        },
    };
    scratch.store = Some(Store::open(settings).unwrap());
    let image = scratch.image(&["a:1"], &[layer("a")]);
    let root = scratch
        .store()
        .mount_root("c1", &image.layers, &RootOptions::default())
        .unwrap();
    assert_eq!(read(root.join("file")), "a");
    assert!(root.starts_with(scratch.dir.path().join("root/cricket/containers")));
    assert!(imagestore.join("cricket/images").join(&image.id).exists());
    assert_eq!(
        scratch.store().usage().mountpoint,
        imagestore.join("cricket")
    );
}
