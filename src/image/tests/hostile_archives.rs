//! Archives and layouts that lie or want out.

use std::collections::BTreeMap;

use ::tar::EntryType as Kind;
use serde_json::json;

use super::archives::{load, two};
use super::content::{Pack, docker_image, layout, tar, tar_of, write_files};
use super::*;

type Files = BTreeMap<String, Vec<u8>>;

/// Name, archive, what the error says.
type Case = (&'static str, Vec<u8>, &'static str);

fn named(name: &[u8], kind: Kind, link: &str) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    if !link.is_empty() {
        header.set_link_name_literal(link).unwrap();
    }
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

fn changed(change: impl FnOnce(&mut Files)) -> Vec<u8> {
    let mut files = layout(&[("x.io/app:1", &two().0)]);
    change(&mut files);
    tar_of(&files)
}

fn blob(digest: &str) -> String {
    digest.replace("sha256:", "blobs/sha256/")
}

fn tars() -> Vec<Case> {
    let truncated = tar_of(&layout(&[("", &two().0)]));
    let mut long_name = ::tar::Header::new_gnu();
    long_name.set_entry_type(Kind::GNULongName);
    long_name.set_size(1 << 40);
    long_name.set_cksum();
    vec![
        ("nothing", Vec::new(), "neither an OCI layout"),
        (
            "garbage",
            b"x\x1b[31m\n".repeat(300),
            "broken tar archive: a header's checksum is wrong: this is no tar",
        ),
        (
            "name with ..",
            named(b"a/../../b", Kind::Regular, ""),
            "leaves the archive",
        ),
        (
            "absolute name",
            named(b"/etc/passwd", Kind::Regular, ""),
            "absolute name",
        ),
        (
            "link out",
            named(b"l", Kind::Symlink, "../../etc/passwd"),
            "leaves the archive",
        ),
        (
            "absolute link",
            named(b"l", Kind::Symlink, "/etc/passwd"),
            "leaves the archive",
        ),
        (
            "hard link out",
            named(b"l", Kind::Link, "../x"),
            "leaves the archive",
        ),
        (
            "huge long name",
            long_name.as_bytes().to_vec(),
            "extended header over the limit",
        ),
        (
            "cut in a layer",
            truncated[..truncated.len() / 2].to_vec(),
            "archive",
        ),
        (
            "twice",
            [
                tar(&[("manifest.json", b"[]")])[..1024].to_vec(),
                tar(&[("manifest.json", b"[]")]),
            ]
            .concat(),
            "twice in it",
        ),
    ]
}

fn layouts() -> Vec<Case> {
    let one = two().0;
    let (layer, config, top) = (
        blob(&one.layer(0)),
        format!("blobs/sha256/{}", one.id),
        blob(&one.digest()),
    );
    vec![
        (
            "other version",
            changed(|files| {
                drop(files.insert(
                    "oci-layout".into(),
                    br#"{"imageLayoutVersion":"9"}"#.to_vec(),
                ))
            }),
            "version \"9\"",
        ),
        (
            "no index",
            changed(|files| drop(files.remove("index.json"))),
            "index.json: not in it",
        ),
        (
            "index no JSON",
            changed(|files| drop(files.insert("index.json".into(), b"{".to_vec()))),
            "index.json",
        ),
        (
            "huge JSON",
            changed(|files| {
                let limit = usize::try_from(manifest::MAX_CONFIG_BYTES).unwrap();
                files.insert("index.json".into(), vec![b' '; limit + 1]);
            }),
            "larger than the limit",
        ),
        (
            "missing manifest",
            changed(|files| drop(files.remove(&top))),
            "not in it",
        ),
        (
            "missing configuration",
            changed(|files| drop(files.remove(&config))),
            "not in it",
        ),
        (
            "missing layer",
            changed(|files| drop(files.remove(&layer))),
            "the layer is not in it",
        ),
        (
            "changed manifest",
            changed(|files| files.get_mut(&top).unwrap().push(b' ')),
            "digest mismatch",
        ),
        (
            "changed configuration",
            changed(|files| files.get_mut(&config).unwrap()[5] ^= 1),
            "digest mismatch",
        ),
        (
            "changed layer",
            changed(|files| files.get_mut(&layer).unwrap()[40] ^= 1),
            "digest mismatch",
        ),
        (
            "longer layer",
            changed(|files| files.get_mut(&layer).unwrap().push(0)),
            "size mismatch",
        ),
    ]
}

fn saves() -> Vec<Case> {
    let fake = docker_image(&[(tar(&[("a", b"other")]), Pack::Plain)]);
    let wrong_layer = {
        let config = fake
            .blobs
            .values()
            .find(|blob| blob.starts_with(b"{"))
            .unwrap()
            .clone();
        let manifest = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}]);
        tar(&[
            ("manifest.json", manifest.to_string().as_bytes()),
            ("c.json", &config),
            ("l.tar", &tar(&[("a", b"x")])),
        ])
    };
    let bad =
        |manifest: serde_json::Value| tar(&[("manifest.json", manifest.to_string().as_bytes())]);
    vec![
        ("docker: wrong layer", wrong_layer, "content's digest"),
        (
            "docker: config outside",
            bad(json!([{"Config": "../../etc/shadow", "Layers": []}])),
            "leaves the archive",
        ),
        (
            "docker: missing config",
            bad(json!([{"Config": "c", "Layers": []}])),
            "c: not in it",
        ),
        (
            "docker: bad tag",
            {
                let content = docker_image(&[]);
                let config = content.blobs.values().next().unwrap();
                let manifest = json!([{"Config": "c.json", "RepoTags": ["A B"], "Layers": []}]);
                tar(&[
                    ("manifest.json", manifest.to_string().as_bytes()),
                    ("c.json", config),
                ])
            },
            "RepoTags",
        ),
        ("docker: empty", bad(json!([])), "no image for"),
        (
            "docker: no list",
            tar(&[("manifest.json", b"{}")]),
            "manifest.json",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_archives_are_refused_and_leave_nothing() {
    let node = Node::new("");
    let before = node.on_disk().await;
    for (name, bytes, says) in tars().into_iter().chain(layouts()).chain(saves()) {
        let error = load(&node, &bytes).await.expect_err(name).to_string();
        assert!(error.contains(says), "{name}: {error}");
        assert_eq!(node.on_disk().await, before, "{name}");
    }
    let (one, _) = two();
    assert_eq!(
        load(&node, &tar_of(&layout(&[("", &one)]))).await.unwrap()[0].id,
        one.id
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_directory_cannot_point_outside() {
    let node = Node::new("");
    let before = node.on_disk().await;
    let (one, _) = two();
    let dir = node.dir.path().join("layout");
    write_files(&dir, &layout(&[("", &one)]));
    let outside = node.dir.path().join("outside");
    let inside = dir.join(blob(&one.layer(0)));
    std::fs::rename(&inside, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &inside).unwrap();
    let error = node.images.load(&dir).await.unwrap_err();
    assert!(error.to_string().contains(&blob(&one.layer(0))), "{error}");
    std::fs::remove_file(&inside).unwrap();
    nix::unistd::mkfifo(&inside, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = node.images.load(&dir).await.unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    assert_eq!(node.on_disk().await, before);
    let error = node
        .images
        .load(&node.dir.path().join("none"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("none: "), "{error}");
}
