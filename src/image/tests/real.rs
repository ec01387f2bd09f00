//! docker-registry, as a registry that nobody here wrote, and skopeo, as such a client.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::content::{self, Content, Pack, docker_image, image, index, tar};
use super::*;
use crate::image::query::User;

/// A docker-registry of its own on loopback; it ends with this value.
pub struct Registry {
    child: Child,
    pub address: String,
    scheme: &'static str,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Registry {
    pub fn start() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        Registry::run(dir, "http", "")
    }

    /// One that speaks HTTPS with a certificate that it signed itself.
    fn start_tls() -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("key.pem"), dir.path().join("cert.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args([
                "-days",
                "2",
                "-subj",
                "/CN=test",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "openssl made no certificate");
        let tls = format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            cert.display(),
            key.display()
        );
        Registry::run(dir, "https", &tls)
    }

    /// Ends it, and starts one with the same images and more in its configuration (`http` is the
    /// last section).
    pub fn again(mut self, scheme: &'static str, more: &str) -> Registry {
        let dir = std::mem::replace(&mut self._dir, tempfile::tempdir().unwrap());
        drop(self);
        Registry::run(dir, scheme, more)
    }

    fn run(dir: tempfile::TempDir, scheme: &'static str, tls: &str) -> Registry {
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n{tls}",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        // Where the distribution has no package of it, `make deps` has built it here.
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/docker-registry");
        let program = if std::path::Path::new(built).exists() {
            built
        } else {
            "docker-registry"
        };
        let mut child = Command::new(program)
            .arg("serve")
            .arg(&config)
            // version 3 sends traces to localhost otherwise
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is needed: `make deps` sees to it");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("docker-registry ended").unwrap();
            if let Some((_, after)) = line.split_once("listening on ") {
                break after
                    .chars()
                    .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
                    .collect();
            }
        };
        // what it writes later must not fill the pipe
        std::thread::spawn(move || lines.for_each(drop));
        Registry {
            child,
            address,
            scheme,
            _dir: dir,
        }
    }

    pub async fn push(&self, repository: &str, tags: &[&str], content: &Content) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .build()
            .unwrap();
        for below in &content.manifests {
            Box::pin(self.push(repository, &[], below)).await;
        }
        let base = format!("{}://{}/v2/{repository}", self.scheme, self.address);
        for (digest, blob) in &content.blobs {
            let begun = client
                .post(format!("{base}/blobs/uploads/"))
                .send()
                .await
                .unwrap();
            let mut url = begun
                .url()
                .join(begun.headers()["location"].to_str().unwrap())
                .unwrap();
            url.query_pairs_mut().append_pair("digest", digest);
            let put = client.put(url).body(blob.clone()).send().await.unwrap();
            assert_eq!(put.status(), 201, "blob {digest}");
        }
        let digest = content.digest();
        for name in tags.iter().copied().chain([digest.as_str()]) {
            let put = client
                .put(format!("{base}/manifests/{name}"))
                .header("Content-Type", content.media_type)
                .body(content.bytes.clone())
                .send()
                .await
                .unwrap();
            assert_eq!(
                put.status(),
                201,
                "manifest {name}: {}",
                put.text().await.unwrap()
            );
        }
    }
}

fn layers(packs: &[Pack]) -> Vec<(Vec<u8>, Pack)> {
    let layer = |(index, pack): (usize, &Pack)| {
        let own = format!("layer{index}");
        (
            tar(&[("shared", own.as_bytes()), (&own, &[b'x'; 70_000])]),
            *pack,
        )
    };
    packs.iter().enumerate().map(layer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packing_and_media_type_is_pulled() {
    let registry = Registry::start();
    let node = Node::insecure(&registry.address);
    let mixed = layers(&[Pack::Gzip, Pack::Zstd, Pack::Plain, Pack::Gzip]);
    let docker = layers(&[Pack::Gzip, Pack::Plain]);
    for (name, content) in [
        ("oci", image(&mixed)),
        ("docker", docker_image(&docker)),
        ("none", image(&[])),
    ] {
        registry.push(name, &["1"], &content).await;
        let reference = format!("{}/{name}:1", registry.address);
        let id = node.pull(&reference).await.unwrap();
        assert_eq!(id, content.id, "{name}");
        let found = node.images.get(&reference).unwrap().unwrap();
        assert_eq!(found.record.id, id);
        assert_eq!(found.record.names, std::slice::from_ref(&reference));
        assert_eq!(
            found.record.digests,
            [format!("{}/{name}@{}", registry.address, content.digest())]
        );
        assert_eq!(found.record.size_bytes, content.size());
    }
    let id = image(&mixed).id;
    for index in 0..4 {
        assert_eq!(
            node.file(&id, index, "shared"),
            format!("layer{index}").as_bytes()
        );
        assert_eq!(
            node.file(&id, index, &format!("layer{index}")).len(),
            70_000
        );
    }
    assert_eq!(node.images.list(None).len(), 3);
    assert!(node.images.usage().bytes > 4 * 70_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_the_image_of_the_platform() {
    let registry = Registry::start();
    let node = Node::insecure(&registry.address);
    let base = layers(&[Pack::Gzip]);
    let config = serde_json::json!({"User": "1000:5"});
    let amd = content::build(&base, false, config.clone(), "amd64");
    let arm = content::build(&base, false, config, "arm64");
    let inner = index(&[("amd64", &amd), ("arm64", &arm)], false);
    let outer = index(&[("", &inner)], false);
    let list = index(&[("arm64", &arm), ("amd64", &amd)], true);
    let foreign = index(&[("arm64", &arm)], false);
    registry.push("multi", &["flat"], &inner).await;
    registry.push("multi", &["list"], &list).await;
    registry.push("multi", &["foreign"], &foreign).await;
    for (tag, content) in [("flat", &inner), ("list", &list)] {
        let reference = format!("{}/multi:{tag}", registry.address);
        assert_eq!(node.pull(&reference).await.unwrap(), amd.id, "{tag}");
        let record = node.images.get(&reference).unwrap().unwrap().record;
        // what the reference resolved to, not the manifest below it
        assert!(record.digests.contains(&format!(
            "{}/multi@{}",
            registry.address,
            content.digest()
        )));
        assert_eq!(record.manifest_digest.to_string(), amd.digest());
    }
    let record = node.images.get(&amd.id).unwrap().unwrap();
    assert_eq!(record.record.names.len(), 2);
    assert_eq!(record.user(), User::Uid(1000));
    let error = node
        .pull(&format!("{}/multi:foreign", registry.address))
        .await
        .unwrap_err();
    assert!(
        matches!(error.root(), ImageError::NoPlatform { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("linux/amd64; the index offers linux/arm64"),
        "{error}"
    );
    registry.push("multi", &["nested"], &outer).await;
    let node = Node::insecure(&registry.address);
    assert_eq!(
        node.pull(&format!("{}/multi:nested", registry.address))
            .await
            .unwrap(),
        amd.id
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_references_find_the_same_image() {
    let registry = Registry::start();
    let address = &registry.address;
    let conf = format!(
        "unqualified-search-registries = [\"{address}\"]\n[aliases]\n\"nick\" = \"{address}/team/app\"\n{}",
        insecure(address)
    );
    let node = Node::new(&conf);
    let content = image(&layers(&[Pack::Gzip]));
    registry
        .push("team/app", &["1", "2", "latest"], &content)
        .await;
    let digest = content.digest();
    for tag in ["1", "2"] {
        node.pull(&format!("{address}/team/app:{tag}"))
            .await
            .unwrap();
    }
    // untagged, short, by alias: three more ways to the tag `latest`
    for name in [
        format!("{address}/team/app"),
        "team/app".into(),
        "nick".into(),
    ] {
        assert_eq!(node.pull(&name).await.unwrap(), content.id, "{name}");
    }
    let id = content.id.as_str();
    let table = [
        id.to_owned(),
        format!("sha256:{id}"),
        id[..12].to_owned(),
        format!("sha256:{}", &id[..12]),
        format!("{address}/team/app:1"),
        format!("{address}/team/app"),
        format!("{address}/team/app@{digest}"),
        format!("{address}/team/app:1@{digest}"),
        "team/app:2".into(),
        "nick".into(),
        format!("nick@{digest}"),
    ];
    for text in &table {
        let found = node
            .images
            .get(text)
            .unwrap()
            .unwrap_or_else(|| panic!("{text}: not found"));
        assert_eq!(found.record.id, id, "{text}");
        assert_eq!(found.record.names.len(), 3);
        assert_eq!(node.images.list(Some(text)).len(), 1, "{text}");
    }
    let missing = [
        format!("{address}/team/app:3"),
        "f".repeat(64),
        "sha256:ffff".into(),
        "other".into(),
    ];
    for text in &missing {
        assert!(node.images.get(text).unwrap().is_none(), "{text}");
        assert!(node.images.list(Some(text)).is_empty(), "{text}");
    }
    node.images.get("upper/CASE").map(drop).unwrap_err();
    // one removal takes all names
    node.images.remove("team/app:2", |_| None).await.unwrap();
    assert!(node.images.list(None).is_empty());
    node.images.remove("team/app:2", |_| None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_digest_there_is_no_name_and_a_moved_tag_leaves_the_old_image() {
    let registry = Registry::start();
    let node = Node::insecure(&registry.address);
    let (old, new) = (
        image(&layers(&[Pack::Gzip])),
        image(&layers(&[Pack::Gzip, Pack::Zstd])),
    );
    registry.push("app", &["1"], &old).await;
    let by_digest = format!("{}/app@{}", registry.address, old.digest());
    assert_eq!(node.pull(&by_digest).await.unwrap(), old.id);
    let record = node.images.get(&old.id).unwrap().unwrap().record;
    assert_eq!(
        (record.names.len(), record.digests.as_slice()),
        (0, &[by_digest.clone()][..])
    );
    let tag = format!("{}/app:1", registry.address);
    assert_eq!(node.pull(&tag).await.unwrap(), old.id);
    registry.push("app", &["1"], &new).await;
    assert_eq!(node.pull(&tag).await.unwrap(), new.id);
    assert_eq!(node.images.get(&tag).unwrap().unwrap().record.id, new.id);
    let left = node.images.get(&old.id).unwrap().unwrap().record;
    assert!(left.names.is_empty(), "{:?}", left.names);
    assert_eq!(node.images.list(None).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_stays_and_a_removed_one_leaves_nothing() {
    let registry = Registry::start();
    let node = Node::insecure(&registry.address);
    let before = node.on_disk().await;
    let (one, two) = (
        image(&layers(&[Pack::Gzip])),
        image(&layers(&[Pack::Gzip, Pack::Zstd])),
    );
    registry.push("one", &["latest"], &one).await;
    registry.push("two", &["latest"], &two).await;
    let names = ["one", "two"].map(|name| format!("{}/{name}", registry.address));
    let (first, second) = tokio::join!(node.pull(&names[0]), node.pull(&names[1]));
    assert_eq!(
        (first.unwrap(), second.unwrap()),
        (one.id.clone(), two.id.clone())
    );
    let kept = one.id.clone();
    let used = move |id: &str| (id == kept).then(|| "container c0ffee".to_owned());
    let error = node
        .images
        .remove(&names[0], used.clone())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("in use by container c0ffee"),
        "{error}"
    );
    let removals = (0..5).map(|_| node.images.remove(&two.id, used.clone()));
    for removed in futures_util::future::join_all(removals).await {
        removed.unwrap();
    }
    // the layer that both had is still whole
    assert_eq!(node.file(&one.id, 0, "shared"), b"layer0");
    let pinned = || node.images.get(&one.id).unwrap().unwrap().pinned;
    assert!(!pinned());
    node.images.pin(Pinned::new(["*/ONE*"]));
    assert!(pinned(), "at once");
    node.images.remove(&one.id[..10], |_| None).await.unwrap();
    assert_eq!(node.on_disk().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_registry_needs_insecure() {
    let registry = Registry::start_tls();
    let content = image(&layers(&[Pack::Gzip]));
    registry.push("app", &["latest"], &content).await;
    let reference = format!("{}/app", registry.address);
    let strict = Node::new("");
    let error = strict.pull(&reference).await.unwrap_err();
    assert!(
        error.to_string().starts_with("RegistryUnavailable: "),
        "{error}"
    );
    assert!(
        error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
    let trusting = Node::insecure(&registry.address);
    assert_eq!(trusting.pull(&reference).await.unwrap(), content.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_skopeo_copies_is_loaded_with_the_same_ids() {
    let registry = Registry::start();
    let content = image(&layers(&[Pack::Gzip, Pack::Gzip]));
    registry.push("app", &["1"], &content).await;
    let dir = tempfile::tempdir().unwrap();
    for (transport, name) in [
        ("oci", "layout"),
        ("oci-archive", "oci.tar"),
        ("docker-archive", "docker.tar"),
    ] {
        let target = format!(
            "{transport}:{}:example.org/app:1",
            dir.path().join(name).display()
        );
        let source = format!("docker://{}/app:1", registry.address);
        let copied = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--src-tls-verify=false",
                &source,
                &target,
            ])
            .status()
            .expect("skopeo is needed: `make deps` installs it");
        assert!(copied.success(), "{target}");
        let node = Node::new("");
        let loaded = node.images.load(&dir.path().join(name)).await.unwrap();
        let names = vec!["example.org/app:1".to_owned()];
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].names, names, "{transport}");
        assert_eq!(
            node.file(&loaded[0].id, 1, "shared"),
            b"layer1",
            "{transport}"
        );
        if transport != "docker-archive" {
            // docker's archive has a configuration of its own form
            assert_eq!(loaded[0].id, content.id, "{transport}");
        }
    }
}
