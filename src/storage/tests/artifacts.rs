//! Artifacts: their files, what they share, and what a restart and a power cut leave of them.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use super::super::*;
use super::fixture::*;

fn file(title: &str, content: &str) -> ArtifactFile {
    ArtifactFile::new(&digest(content.as_bytes()), title).unwrap()
}

/// Puts an artifact of these files, (title, content).
fn put(scratch: &Scratch, name: &str, files: &[(&str, &str)]) -> std::sync::Arc<ImageRecord> {
    let lease = scratch.store().lease();
    let mut kept = Vec::new();
    for (title, content) in files {
        let file = file(title, content);
        lease.put_file(&file, content.as_bytes()).unwrap();
        kept.push(file);
    }
    let manifest = format!("{{\"of\":{files:?}}}").into_bytes();
    let new = NewImage {
        manifest_digest: digest(&manifest),
        manifest,
        config: b"{}".to_vec(),
        ..new_image(&[name], &[])
    };
    let artifact = NewArtifact {
        media_type: "a/b".into(),
        files: kept,
    };
    scratch.store().put_artifact(&new, artifact).unwrap()
}

#[test]
fn an_artifact_survives_a_restart_and_its_files_go_with_it() {
    let mut scratch = Scratch::new();
    let put = put(&scratch, "r/a:1", &[("d/one", "1"), ("two", "2")]);
    for reopened in [false, true] {
        if reopened {
            scratch.reopen(None);
        }
        let found = scratch.store().image(&put.id).unwrap();
        assert_eq!(found.artifact_type.as_deref(), Some("a/b"));
        assert_eq!((&found.layers, &found.names), (&put.layers, &put.names));
        let place = scratch.place("layers").join(found.layers[0].digest());
        assert_eq!(read(place.join("diff/d/one")), "1");
        let mode = |path| place.join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            [mode("diff"), mode("diff/d"), mode("diff/d/one")],
            [0o755, 0o755, 0o644]
        );
        // Three directories and two files.
        assert_eq!(scratch.store().usage().inodes, 5);
    }
    assert!(scratch.store().remove_image(&put.id, &|| None).unwrap());
    scratch.settle();
    assert!(scratch.names("layers").is_empty());
    assert_eq!(scratch.store().usage().bytes, 0);
}

#[test]
fn files_of_one_content_and_path_are_one_and_others_are_not() {
    let scratch = Scratch::new();
    let one = put(&scratch, "r/a:1", &[("f", "same"), ("g", "same")]);
    let two = put(&scratch, "r/a:2", &[("./f", "same"), ("f", "other")]);
    assert_eq!(one.layers[0], two.layers[0]);
    assert_eq!(scratch.names("layers").len(), 3);
    assert_ne!(one.id, two.id);
    assert_eq!(scratch.store().images().len(), 2);
    // Not the layer whose tar archive has the blob's digest.
    assert_ne!(one.layers[0], digest(b"same"));
}

#[test]
fn an_artifact_that_was_not_on_disk_for_certain_goes_with_the_power() {
    let mut scratch = Scratch::new();
    let put = put(&scratch, "r/a:1", &[("f", "1")]);
    scratch.close();
    let record = scratch.place("images").join(&put.id).join("image.json");
    let durable = read(&record);
    assert!(durable.contains("\"durable\":true"), "{durable}");
    std::fs::write(
        &record,
        durable.replace("\"durable\":true", "\"durable\":false"),
    )
    .unwrap();
    assert!(scratch.reopen(Some("another boot")).images().is_empty());
    scratch.settle();
    assert!(scratch.names("layers").is_empty());
}

#[test]
fn an_artifact_whose_manifest_or_record_is_another_is_set_aside() {
    /// From an artifact's id and its record to a file and what is put there.
    type Spoil = fn(&str, &str) -> (String, String);
    let spoil: [Spoil; 2] = [
        |id, _| (format!("manifest-{id}"), "{}".to_owned()),
        |_, record| {
            let broken = record.replace("\"layers\":[\"", "\"layers\":[\"../");
            ("image.json".to_owned(), broken)
        },
    ];
    for spoil in spoil {
        let mut scratch = Scratch::new();
        let put = put(&scratch, "r/a:1", &[("f", "1")]);
        scratch.close();
        let dir = scratch.place("images").join(&put.id);
        let (name, text) = spoil(&put.id, &read(dir.join("image.json")));
        std::fs::write(dir.join(name), text).unwrap();
        assert!(scratch.reopen(None).images().is_empty());
        assert_eq!(scratch.names("quarantine").len(), 1);
    }
}

#[test]
fn a_file_that_breaks_off_is_too_long_or_fills_the_disk_leaves_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("cut off"));
            }
            let count = buffer.len().min(self.0);
            self.0 -= count;
            Ok(count)
        }
    }
    let limits = |max_bytes, reserve_bytes| LayerLimits {
        max_bytes,
        reserve_bytes,
        ..LayerLimits::default()
    };
    let table = [
        (limits(1 << 30, 1 << 20), "cut off"),
        (limits(1 << 20, 1 << 20), "limit of 1048576 bytes"),
        (limits(1 << 30, 1 << 60), "are kept free"),
    ];
    for (limits, says) in table {
        let scratch = Scratch::with(limits);
        let lease = scratch.store().lease();
        let error = lease
            .put_file(&file("f", "x"), Broken(2 << 20))
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        scratch.settle();
        assert!(scratch.names("staging").is_empty() && scratch.names("layers").is_empty());
    }
}

#[test]
fn a_title_is_a_path_below_the_volume_or_refused() {
    let blob = digest(b"x");
    let long = "x".repeat(256);
    let deep = "x/".repeat(257);
    let table = [
        ("f", Some("f")),
        ("/etc/passwd", Some("etc/passwd")),
        ("./a//b/", Some("a/b")),
        (".wh.f", Some(".wh.f")),
        ("…", Some("…")),
        ("..", None),
        ("a/../../b", None),
        ("", None),
        ("/", None),
        ("a\0b", None),
        (&long, None),
        (&deep, None),
    ];
    for (title, want) in table {
        let found = ArtifactFile::new(&blob, title);
        assert_eq!(
            found.ok().map(|file| file.path).as_deref(),
            want,
            "{title:?}"
        );
    }
}
