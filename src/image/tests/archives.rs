//! Archives and layouts, good and hostile.

use std::collections::BTreeMap;

use serde_json::json;

use super::content::{
    self, Content, Pack, docker_image, image, index, layout, pack, sha256, tar, tar_of, write_files,
};
use super::*;

type Files = BTreeMap<String, Vec<u8>>;

fn two() -> (Content, Content) {
    let shared = (tar(&[("a", &[1; 100_000])]), Pack::Gzip);
    (
        image(&[shared.clone(), (tar(&[("b", b"2")]), Pack::Zstd)]),
        docker_image(&[shared]),
    )
}

/// An archive as older `docker save` makes it: layers in directories, equal ones linked.
fn docker_save(linked: bool) -> (Vec<u8>, String) {
    let layer = tar(&[("a", b"docker")]);
    let content = docker_image(&[(layer.clone(), Pack::Plain), (layer.clone(), Pack::Plain)]);
    let config = content
        .blobs
        .values()
        .find(|blob| blob.starts_with(b"{"))
        .unwrap()
        .clone();
    let manifest = json!([{
        "Config": format!("{}.json", content.id), "RepoTags": ["app:1", "example.org/app:2"],
        "Layers": ["one/layer.tar", "two/layer.tar"],
    }]);
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    add(&format!("{}.json", content.id), &config);
    add("one/VERSION", b"1.0");
    add("one/layer.tar", &layer);
    if !linked {
        add("two/layer.tar", &layer);
    }
    add("manifest.json", manifest.to_string().as_bytes());
    if linked {
        let mut header = ::tar::Header::new_ustar();
        header.set_entry_type(::tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "two/layer.tar", "../one/layer.tar")
            .unwrap();
    }
    (builder.into_inner().unwrap(), content.id)
}

async fn load(node: &Node, bytes: &[u8]) -> Result<Vec<Loaded>, ImageError> {
    let path = node.dir.path().join("archive");
    std::fs::write(&path, bytes).unwrap();
    node.images.load(&path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_are_loaded_from_directories_and_tars_of_every_packing() {
    let (one, two) = two();
    let files = layout(&[
        ("docker.io/library/one:1", &one),
        ("x.io/two:2", &two),
        ("x.io/one:3", &one),
    ]);
    let archive = tar_of(&files);
    for packing in [None, Some(Pack::Plain), Some(Pack::Gzip), Some(Pack::Zstd)] {
        let node = Node::new("");
        let loaded = match packing {
            None => {
                let dir = node.dir.path().join("layout");
                write_files(&dir, &files);
                node.images.load(&dir).await
            }
            Some(packing) => load(&node, &pack(&archive, packing)).await,
        };
        let want = [
            Loaded {
                id: one.id.clone(),
                names: vec!["docker.io/library/one:1".into(), "x.io/one:3".into()],
            },
            Loaded {
                id: two.id.clone(),
                names: vec!["x.io/two:2".into()],
            },
        ];
        assert_eq!(loaded.unwrap(), want, "{packing:?}");
        assert_eq!(node.file(&one.id, 1, "b"), b"2");
        let record = node
            .images
            .get(&format!("x.io/two@{}", two.digest()))
            .unwrap()
            .unwrap()
            .record;
        assert_eq!(
            (record.id.as_str(), record.size_bytes),
            (two.id.as_str(), two.size())
        );
        assert_eq!(node.images.list(None).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_the_platform_is_loaded() {
    let (one, _) = two();
    let arm = content::build(
        &[(tar(&[("x", b"x")]), Pack::Gzip)],
        false,
        json!({}),
        "arm64",
    );
    let multi = index(&[("arm64", &arm), ("amd64", &one)], false);
    let node = Node::new("");
    let loaded = load(&node, &tar_of(&layout(&[("x.io/multi:1", &multi)])))
        .await
        .unwrap();
    assert_eq!(
        loaded,
        [Loaded {
            id: one.id,
            names: vec!["x.io/multi:1".into()]
        }]
    );
    let only = index(&[("arm64", &arm)], false);
    let error = load(&node, &tar_of(&layout(&[("", &only)])))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no image for linux/amd64"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_save_is_loaded_with_links_and_without() {
    for linked in [false, true] {
        let node = Node::new("");
        let (archive, id) = docker_save(linked);
        let names = vec![
            "docker.io/library/app:1".to_owned(),
            "example.org/app:2".into(),
        ];
        assert_eq!(
            load(&node, &archive).await.unwrap(),
            [Loaded {
                id: id.clone(),
                names
            }]
        );
        assert_eq!(node.file(&id, 1, "a"), b"docker");
        // once more: nothing to do, same answer
        assert_eq!(load(&node, &archive).await.unwrap()[0].id, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_applies_to_archives() {
    let node = Node::new("");
    let before = node.on_disk().await;
    let policy = node.dir.path().join("policy.json");
    let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
    let text = format!(
        r#"{{"default":[{{"type":"reject"}}],"transports":{{"oci-archive":{{"":{accept}}}}}}}"#
    );
    std::fs::write(&policy, text).unwrap();
    let error = load(&node, &docker_save(true).0).await.unwrap_err();
    assert!(
        error.to_string().starts_with("SignatureValidationFailed: "),
        "{error}"
    );
    assert_eq!(node.on_disk().await, before);
    load(&node, &tar_of(&layout(&[("", &two().0)])))
        .await
        .unwrap();
}

fn named(name: &[u8], kind: ::tar::EntryType, link: &str) -> Vec<u8> {
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

fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    use ::tar::EntryType as Kind;
    let one = two().0;
    let (layer, config, top) = (
        blob(&one.layer(0)),
        format!("blobs/sha256/{}", one.id),
        blob(&one.digest()),
    );
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
    let truncated = tar_of(&layout(&[("", &one)]));
    let mut long_name = ::tar::Header::new_gnu();
    long_name.set_entry_type(Kind::GNULongName);
    long_name.set_size(1 << 40);
    long_name.set_cksum();
    vec![
        ("nothing", Vec::new(), "neither an OCI layout"),
        ("garbage", b"x".repeat(2000), "broken tar archive"),
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

#[tokio::test(flavor = "multi_thread")]
async fn hostile_archives_are_refused_and_leave_nothing() {
    let node = Node::new("");
    let before = node.on_disk().await;
    for (name, bytes, says) in hostile() {
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
    assert_eq!(sha256(b"")[..10], *"sha256:e3b");
}
