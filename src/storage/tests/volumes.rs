//! Image volumes on the real overlayfs.

use super::super::*;
use super::fixture::*;

#[test]
fn an_image_volume_shows_the_layers_read_only_and_goes_with_the_root() {
    let mut scratch = Scratch::new();
    let base = Tar::default().file("base", "").end();
    let lower = Tar::default().file("gone", "").file("stays", "lower").end();
    let upper = Tar::default().file(".wh.gone", "").file("run", "").end();
    let own = scratch.image(&["own:1"], std::slice::from_ref(&base));
    let id = scratch.image(&["volume:1"], &[lower.clone(), upper.clone()]);
    let options = RootOptions::default();
    let layers = [&lower, &upper].map(|tar| digest(tar));
    let store = scratch.store();
    let early = store.mount_image_volume("c1", 0, &layers, &options);
    assert!(early.is_err(), "not without a root");
    store.mount_root("c1", &[digest(&base)], &options).unwrap();
    let volume = store
        .mount_image_volume("c1", 3, &layers, &options)
        .unwrap();
    let again = store
        .mount_image_volume("c1", 3, &layers, &options)
        .unwrap();
    assert_eq!(again, volume);
    // One layer, where overlayfs wants two, and none at all.
    let single = store
        .mount_image_volume("c1", 4, &layers[..1], &options)
        .unwrap();
    let none = store.mount_image_volume("c1", 5, &[], &options).unwrap();
    assert!(!volume.join("gone").exists() && volume.join("run").exists());
    assert_eq!(read(volume.join("stays")), "lower");
    assert!(single.join("gone").exists());
    assert_eq!(std::fs::read_dir(&none).unwrap().count(), 0);
    let error = std::fs::write(volume.join("new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let mounts = read("/proc/self/mountinfo");
    let line = mounts
        .lines()
        .find(|line| line.contains(volume.to_str().unwrap()));
    let line = line.unwrap();
    assert!(
        line.contains("ro,nosuid,nodev") && !line.contains("noexec"),
        "{line}"
    );

    // The layers outlive the image's record, also over a restart, but not the root.
    store.remove_image(&id.id, &|| None).unwrap();
    let store = scratch.reopen(None);
    assert_eq!(read(volume.join("stays")), "lower");
    assert!(store.settle(std::time::Duration::from_secs(60)));
    assert!(scratch.layer_path(&upper).exists());
    scratch.store().remove_root("c1").unwrap();
    scratch.settle();
    assert!(!scratch.layer_path(&upper).exists());
    let mounts = read("/proc/self/mountinfo");
    assert!(
        !mounts.contains(scratch.dir.path().to_str().unwrap()),
        "{mounts}"
    );
    scratch.store().remove_image(&own.id, &|| None).unwrap();
}

#[test]
fn an_image_of_as_many_layers_as_may_be_is_a_root_and_a_volume() {
    let scratch = Scratch::new();
    let numbered = |number| Tar::default().file(&format!("f{number}"), "").end();
    let tars: Vec<Vec<u8>> = (0..500).map(numbered).collect();
    let image = scratch.image(&["many:1"], &tars);
    let (store, options) = (scratch.store(), RootOptions::default());
    let root = store.mount_root("c1", &image.layers, &options).unwrap();
    let volume = store
        .mount_image_volume("c1", 0, &image.layers, &options)
        .unwrap();
    for seen in [root, volume] {
        assert_eq!(std::fs::read_dir(seen).unwrap().count(), 500);
    }
    store.remove_root("c1").unwrap();
}
