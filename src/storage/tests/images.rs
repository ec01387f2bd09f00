//! Images: put, merge, move of names, removal, and what their layers do meanwhile.

use std::sync::atomic::AtomicU64;

use super::super::*;
use super::fixture::*;

fn layer(content: &str) -> Vec<u8> {
    Tar::default().file("file", content).end()
}

#[test]
fn an_image_is_listed_with_what_it_was_put_with_and_survives_a_restart() {
    let mut scratch = Scratch::new();
    let tars = [layer("one"), layer("two")];
    let new = NewImage {
        digests: vec!["r/a@sha256:1".into()],
        annotations: [("k".to_owned(), "v".to_owned())].into(),
        size_bytes: 0,
        ..new_image(&["r/a:1"], &tars)
    };
    let lease = scratch.store().lease();
    for tar in &tars {
        lease
            .unpack_layer(&digest(tar), &tar[..], &AtomicU64::new(0))
            .unwrap();
    }
    let put = scratch.store().put_image(new.clone()).unwrap();
    drop(lease);
    assert_eq!(put.id, digest(&config(&tars)).digest());
    for reopened in [false, true] {
        let store = if reopened {
            scratch.reopen(None)
        } else {
            scratch.store()
        };
        let image = store.image(&put.id).unwrap();
        assert_eq!((&image.names, &image.digests), (&new.names, &new.digests));
        assert_eq!(
            image.layers,
            tars.iter().map(|tar| digest(tar)).collect::<Vec<_>>()
        );
        assert_eq!(
            image.size_bytes, 1,
            "never 0: the kubelet's collector divides by it"
        );
        assert_eq!(image.annotations, new.annotations);
        assert_eq!(image.loaded, put.loaded);
        assert_eq!(image.config.history(), &None);
        assert_eq!(store.raw_config(&put.id).unwrap(), new.config);
        assert_eq!(store.raw_manifest(&put.id).unwrap(), new.manifest);
        assert!(store.has_layer(&digest(&tars[0])));
        assert_eq!(store.images().len(), 1);
        // Two roots, two files, and what is kept of two tars.
        let usage = store.usage();
        let occupied = tars.iter().map(|tar| occupied(&scratch.layer_path(tar)));
        let bytes = occupied.map(|(bytes, _)| bytes).sum();
        assert_eq!((usage.inodes, usage.bytes), (6, bytes));
    }
}

#[test]
fn names_merge_and_move() {
    let mut scratch = Scratch::new();
    let (one, two) = ([layer("one")], [layer("two")]);
    let first = scratch.image(&["a:latest"], &one);
    let again = scratch.image(&["b:1"], &one);
    assert_eq!(again.id, first.id);
    assert_eq!(again.names, ["a:latest", "b:1"]);
    let second = scratch.image(&["a:latest"], &two);
    for reopened in [false, true] {
        let store = if reopened {
            scratch.reopen(None)
        } else {
            scratch.store()
        };
        assert_eq!(store.image(&first.id).unwrap().names, ["b:1"]);
        assert_eq!(store.image(&second.id).unwrap().names, ["a:latest"]);
    }
}

#[test]
fn a_pull_under_another_manifest_comes_whole_or_not_at_all() {
    let mut scratch = Scratch::new();
    let tars = [layer("one")];
    let old = scratch.image(&["a:1"], &tars);
    let manifest = b"{\"schemaVersion\":2,\"annotations\":{}}".to_vec();
    let new = NewImage {
        manifest_digest: digest(&manifest),
        manifest,
        ..new_image(&["b:1"], &tars)
    };
    let directory = scratch.place("images").join(&old.id);
    let former = format!("manifest-{}", old.manifest_digest.digest());
    let added = format!("manifest-{}", new.manifest_digest.digest());
    let manifests = || {
        let files = std::fs::read_dir(&directory).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("manifest"))
            .collect::<Vec<_>>()
    };
    // As a kill leaves it before the record is replaced.
    std::fs::write(directory.join(&added), &new.manifest).unwrap();
    let store = scratch.reopen(None);
    let found = store.image(&old.id).unwrap();
    assert_eq!(found.manifest_digest, old.manifest_digest);
    assert_ne!(store.raw_manifest(&old.id).unwrap(), new.manifest);
    store.put_image(new.clone()).unwrap();
    assert_eq!(manifests(), std::slice::from_ref(&added));
    // As a kill leaves it after that.
    std::fs::write(directory.join(&former), "{}").unwrap();
    let store = scratch.reopen(None);
    let found = store.image(&old.id).unwrap();
    assert_eq!(found.names, ["a:1", "b:1"]);
    assert_eq!(found.manifest_digest, new.manifest_digest);
    assert_eq!(store.raw_manifest(&old.id).unwrap(), new.manifest);
    store.put_image(new_image(&["c:1"], &tars)).unwrap();
    assert_eq!(manifests(), [former]);
}

#[test]
fn removal_frees_the_layers_that_nothing_else_needs() {
    let scratch = Scratch::new();
    let (shared, own_a, own_b) = (layer("shared"), layer("a"), layer("b"));
    let a = scratch.image(&["a:1"], &[shared.clone(), own_a.clone()]);
    let b = scratch.image(&["b:1"], &[shared.clone(), own_b.clone()]);
    let store = scratch.store();
    assert!(store.remove_image(&a.id, &|| None).unwrap());
    assert!(store.image(&a.id).is_none());
    assert!(!store.remove_image(&a.id, &|| None).unwrap());
    scratch.settle();
    assert!(store.has_layer(&digest(&shared)) && store.has_layer(&digest(&own_b)));
    assert!(!store.has_layer(&digest(&own_a)));
    store
        .mount_root("c1", &b.layers, &RootOptions::default())
        .unwrap();
    assert!(store.remove_image(&b.id, &|| None).unwrap());
    scratch.settle();
    assert!(
        store.has_layer(&digest(&own_b)),
        "a container's root needs it"
    );
    store.remove_root("c1").unwrap();
    scratch.settle();
    for place in ["layers", "images", "trash", "staging", "containers"] {
        assert!(scratch.names(place).is_empty(), "{place}");
    }
    assert_eq!((store.usage().bytes, store.usage().inodes), (0, 0));
}

#[test]
fn a_layer_that_a_pull_found_stays_until_the_pull_has_ended() {
    let scratch = Scratch::new();
    let tars = [layer("shared")];
    let old = scratch.image(&["old:1"], &tars);
    let store = scratch.store();
    let pull = store.lease();
    assert!(pull.has_layer(&digest(&tars[0])));
    store.remove_image(&old.id, &|| None).unwrap();
    scratch.settle();
    store.put_image(new_image(&["new:1"], &tars)).unwrap();
    drop(pull);
    scratch.settle();
    assert!(store.has_layer(&digest(&tars[0])));
}

#[test]
fn an_image_without_its_layers_or_with_a_bad_config_is_not_taken() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let error = store
        .put_image(new_image(&["a:1"], &[layer("missing")]))
        .unwrap_err();
    assert!(
        matches!(error, StorageError::LayerMissing { .. }),
        "{error}"
    );
    let many: Vec<Vec<u8>> = (0..501u32).map(|i| i.to_le_bytes().to_vec()).collect();
    let with = |diff_ids: &str| {
        let rootfs = format!(r#"{{"type":"layers","diff_ids":{diff_ids}}}"#);
        format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{rootfs}}}"#).into_bytes()
    };
    let cases: [(Vec<u8>, &str); 6] = [
        (b"".to_vec(), "not an image configuration"),
        (b"[]".to_vec(), "not an image configuration"),
        (with(r#"["../../etc"]"#), "diff id"),
        (with(r#"["sha256:zz"]"#), "diff id"),
        (
            with(&format!(r#"["sha512:{}"]"#, "a".repeat(128))),
            "only sha256",
        ),
        (config(&many), "500"),
    ];
    for (config, word) in cases {
        let new = NewImage {
            config,
            ..new_image(&["a:1"], &[])
        };
        let error = store.put_image(new).unwrap_err().to_string();
        assert!(error.contains(word), "{word} is not in: {error}");
    }
    let huge = NewImage {
        config: vec![b' '; 9 << 20],
        ..new_image(&[], &[])
    };
    assert!(
        store
            .put_image(huge)
            .unwrap_err()
            .to_string()
            .contains("bytes long")
    );
    assert!(store.images().is_empty());
    for place in ["images", "staging"] {
        assert!(scratch.names(place).is_empty(), "{place}");
    }
}

#[test]
fn a_config_as_docker_writes_it_is_understood() {
    let scratch = Scratch::new();
    let config = br#"{"architecture":"amd64","os":"linux","docker_version":"20.10","container":"c",
        "config":{"Hostname":"","User":"","AttachStdin":false,"ExposedPorts":null,"Env":null,
            "Cmd":["sh"],"Entrypoint":null,"Volumes":null,"Labels":null,"OnBuild":null,
            "StopSignal":"SIGQUIT","WorkingDir":"","ArgsEscaped":true,"Image":"sha256:x",
            "Healthcheck":{"Test":["NONE"]}},
        "container_config":{"Cmd":null},"created":"2020-01-01T00:00:00Z","id":"old","parent":"x",
        "history":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
    let new = NewImage {
        config: config.to_vec(),
        ..new_image(&["docker:1"], &[])
    };
    let image = scratch.store().put_image(new).unwrap();
    assert!(image.layers.is_empty());
    let config = image.config.config().as_ref().unwrap();
    assert_eq!(config.stop_signal().as_deref(), Some("SIGQUIT"));
    assert_eq!(config.cmd().as_deref(), Some(&["sh".to_owned()][..]));
}

#[test]
fn pulls_and_removals_at_once_end_well() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let base = layer("base");
    std::thread::scope(|scope| {
        for i in 0..4 {
            let (base, scratch) = (base.clone(), &scratch);
            scope.spawn(move || {
                for round in 0..10 {
                    let tars = [base.clone(), layer(&format!("{i} {round}"))];
                    let name = format!("image{i}:latest");
                    let image = scratch.image(&[&name], &tars);
                    assert!(
                        image
                            .layers
                            .iter()
                            .all(|layer| scratch.store().has_layer(layer))
                    );
                    if round % 2 == 0 {
                        assert!(scratch.store().remove_image(&image.id, &|| None).unwrap());
                    }
                }
            });
        }
    });
    scratch.settle();
    assert_eq!(store.images().len(), 20);
    assert_eq!(scratch.names("layers").len(), 21);
    assert_eq!(
        store
            .images()
            .iter()
            .filter(|image| !image.names.is_empty())
            .count(),
        4
    );
}

#[test]
fn a_used_image_is_not_removed_and_the_user_is_asked_as_it_leaves_the_list() {
    let scratch = Scratch::new();
    let image = scratch.image(&["a:1"], &[layer("x")]);
    let error = scratch
        .store()
        .remove_image(&image.id, &|| Some("me".into()))
        .unwrap_err();
    assert!(matches!(error, StorageError::ImageInUse { .. }), "{error}");
    assert_eq!(scratch.store().images().len(), 1);
    assert_eq!(scratch.names("images").len(), 1);
    // Nobody is asked about what is not there.
    let nobody = || panic!("asked");
    assert!(
        !scratch
            .store()
            .remove_image(&"0".repeat(64), &nobody)
            .unwrap()
    );
}

#[test]
fn signatures_stay_with_an_image_and_gather_over_its_pulls() {
    let scratch = Scratch::new();
    let texts = |texts: &[&str]| -> Vec<String> { texts.iter().map(|t| (*t).to_owned()).collect() };
    let put = |signatures: &[&str]| {
        let new = NewImage {
            signatures: texts(signatures),
            ..new_image(&["a:1"], &[])
        };
        scratch.store().put_image(new).unwrap().id.clone()
    };
    let id = put(&[]);
    assert_eq!(scratch.store().signatures(&id).unwrap(), [] as [&str; 0]);
    put(&["one"]);
    put(&["two"]);
    put(&[]);
    assert_eq!(scratch.store().signatures(&id).unwrap(), ["one", "two"]);
}

/// The inode of an image's record: another one was written when it is another.
fn record_inode(scratch: &Scratch, id: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let path = scratch.place("images").join(id).join("image.json");
    std::fs::metadata(path).unwrap().ino()
}

#[test]
fn an_image_that_is_there_is_written_again_only_for_a_new_name_and_stays_durable() {
    let mut scratch = Scratch::new();
    let tars = [layer("one")];
    let put = scratch.image(&["r/a:1"], &tars);
    scratch.settle();
    let written = record_inode(&scratch, &put.id);
    let again = scratch.image(&["r/a:1"], &tars);
    assert_eq!((&again, record_inode(&scratch, &put.id)), (&put, written));
    scratch.image(&["r/b:1"], &tars);
    assert_ne!(record_inode(&scratch, &put.id), written);
    let store = scratch.reopen(Some("another boot"));
    assert_eq!(store.image(&put.id).unwrap().names, ["r/a:1", "r/b:1"]);
}

#[test]
fn an_image_whose_directory_was_taken_away_is_made_anew_by_a_pull() {
    let mut scratch = Scratch::new();
    let tars = [layer("one")];
    let id = scratch.image(&["r/a:1", "r/b:1"], &tars).id.clone();
    scratch.settle();
    std::fs::remove_dir_all(scratch.place("images").join(&id)).unwrap();
    scratch.image(&["r/a:1"], &tars);
    scratch.settle();
    let store = scratch.reopen(Some("another boot"));
    assert_eq!(store.image(&id).unwrap().names, ["r/a:1"]);
}
