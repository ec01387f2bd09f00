//! Archives and layouts as the tools make them.

use serde_json::json;

use super::content::{
    self, Content, Pack, docker_image, image, index, layout, pack, tar, tar_of, write_files,
};
use super::*;

pub fn two() -> (Content, Content) {
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

/// A layout whose only layer goes on for a quarter of a terabyte, most of it a hole.
fn endless(dir: &Path) {
    let content = image(&[(tar(&[("a", b"first")]), Pack::Plain)]);
    let layer = content.layer(0);
    let length = 1_u64 << 38;
    let mut files = layout(&[("x.io/endless:1", &content)]);
    let file = |digest: &str| digest.replace("sha256:", "blobs/sha256/");
    let mut manifest: serde_json::Value = serde_json::from_slice(&content.bytes).unwrap();
    manifest["layers"][0]["size"] = length.into();
    let manifest = manifest.to_string().into_bytes();
    let mut index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
    index["manifests"][0]["digest"] = content::sha256(&manifest).into();
    index["manifests"][0]["size"] = manifest.len().into();
    files.insert(file(&content::sha256(&manifest)), manifest);
    files.insert("index.json".into(), index.to_string().into_bytes());
    write_files(dir, &files);
    let layer = std::fs::File::options()
        .write(true)
        .open(dir.join(file(&layer)));
    layer.unwrap().set_len(length).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_given_up_ends_and_leaves_nothing() {
    let node = Node::new("");
    let dir = node.dir.path().join("endless");
    endless(&dir);
    let before = node.on_disk().await;
    let mut loading = Box::pin(node.images.load(&dir));
    while node.on_disk().await == before {
        tokio::select! {
            loaded = &mut loading => panic!("it has an end: {loaded:?}"),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    drop(loading);
    let given_up = async {
        while node.on_disk().await != before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let given_up = tokio::time::timeout(Duration::from_secs(30), given_up).await;
    given_up.expect("it ends, and nothing is left of it");
}

pub async fn load(node: &Node, bytes: &[u8]) -> Result<Vec<Loaded>, ImageError> {
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

/// Go's archive/tar, and so docker and skopeo, say a size over 8 GiB in a PAX record only.
#[tokio::test(flavor = "multi_thread")]
async fn the_size_in_a_pax_record_counts() {
    let (bytes, id) = docker_save(false);
    let mut archive = Vec::new();
    let mut at = 0;
    while at + 512 <= bytes.len() && bytes[at] != 0 {
        let mut header = ::tar::Header::from_byte_slice(&bytes[at..at + 512]).clone();
        let size = usize::try_from(header.entry_size().unwrap()).unwrap();
        let record = format!("{} size={size}\n", 9 + size.to_string().len());
        let mut pax = ::tar::Header::new_ustar();
        pax.set_entry_type(::tar::EntryType::XHeader);
        pax.set_size(record.len() as u64);
        pax.set_cksum();
        header.set_size(0);
        header.set_cksum();
        archive.extend_from_slice(pax.as_bytes());
        archive.extend_from_slice(record.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
        archive.extend_from_slice(header.as_bytes());
        let end = at + 512 + size.next_multiple_of(512);
        archive.extend_from_slice(&bytes[at + 512..end]);
        at = end;
    }
    let node = Node::new("");
    assert_eq!(load(&node, &archive).await.unwrap()[0].id, id);
    assert_eq!(node.file(&id, 1, "a"), b"docker");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_docker_save_may_be_a_directory() {
    let (bytes, id) = docker_save(true);
    let node = Node::new("");
    let dir = node.dir.path().join("unpacked");
    ::tar::Archive::new(&bytes[..]).unpack(&dir).unwrap();
    let loaded = node.images.load(&dir).await.unwrap();
    assert_eq!(loaded[0].id, id);
    assert_eq!(node.file(&id, 1, "a"), b"docker");
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
