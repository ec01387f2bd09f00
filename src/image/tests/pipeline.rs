//! What is promised of a layer's way: it comes once, whoever wants it, it does not begin where it
//! cannot fit, and every packing that carries a tar is read.

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::content::{Content, Pack, image, sha256, tar};
use super::fixture::{Fixture, Reply, Request, serve_content};
use super::real::Registry;
use super::*;

/// `number` files of a mebibyte each, which pack to next to nothing.
fn empty_files(number: usize) -> Vec<u8> {
    let names: Vec<String> = (0..number).map(|index| format!("file{index}")).collect();
    let content = vec![0; 1 << 20];
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), content.as_slice()))
        .collect();
    tar(&files)
}

/// A node whose store is below `root` and keeps `reserve_bytes` free.
fn node_at(registry: &str, root: &Path, reserve_bytes: u64) -> Node {
    Node::with(&insecure(registry), |settings| {
        settings.store = storage::Store::open(storage::Settings {
            root: root.to_owned(),
            imagestore: None,
            limits: storage::LayerLimits {
                reserve_bytes,
                ..Default::default()
            },
        })
        .unwrap();
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_fit_is_refused_before_a_layer_is_asked_for() {
    let content = image(&[(tar(&[("a", &[1; 5000])]), Pack::Plain)]);
    let registry = Fixture::serving(&content).await;
    let dir = tempfile::tempdir().unwrap();
    let node = node_at(&registry.address, dir.path(), 1 << 60);
    let reference = format!("{}/app:1", registry.address);
    let error = node.pull(&reference).await.unwrap_err();
    let ImageError::NoSpace { needed, .. } = error.root() else {
        panic!("{error:?}");
    };
    assert_eq!(*needed, content.blobs[&content.layer(0)].len() as u64);
    let text = error.to_string();
    for part in ["6656 bytes at least", "are kept free", "remove images"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(registry.count(&content.layer(0)), 0);
}

/// A tmpfs, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn of(size: &str) -> Small {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let (none, options) = (Some("none"), Some(options.as_str()));
        mount(none, dir.path(), Some("tmpfs"), MsFlags::empty(), options).unwrap();
        Small(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_ends_the_pull_and_nothing_is_left_on_it() {
    let disk = Small::of("16m");
    let fits = image(&[(empty_files(4), Pack::Gzip)]);
    // the free space is looked at every 64 MiB, so this is the kernel's own word
    let fills = image(&[(empty_files(40), Pack::Gzip)]);
    let registry = Fixture::serving(&fills).await;
    let node = node_at(&registry.address, disk.0.path(), 0);
    let reference = format!("{}/app:1", registry.address);
    let error = node.pull(&reference).await.unwrap_err();
    let ImageError::Storage { source, .. } = error.root() else {
        panic!("{error:?}");
    };
    assert!(
        matches!(**source, storage::StorageError::DiskFull { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("remove images"), "{error}");
    assert!(node.images.list(None).is_empty());
    node.on_disk().await;
    registry.become_(move |request| serve_content(&fits, request));
    node.pull(&reference).await.unwrap();
}

/// Serves `first` as app:1 and `second` as other:1.
fn two(first: &Content, second: &Content, request: &Request) -> Reply {
    match request.path.strip_prefix("/v2/other/") {
        None => serve_content(first, request),
        Some(rest) => {
            let path = format!("/v2/app/{rest}");
            let request = Request {
                path,
                ..request.clone()
            };
            serve_content(second, &request)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_images_that_do_not_fit_together_are_not_pulled_together() {
    let disk = Small::of("16m");
    // incompressible as far as anybody says: 9 MiB each
    let content = |seed: u8| {
        let mut block = Vec::new();
        for index in 0..(9u32 << 20) / 32 {
            block.extend(Sha256::digest([[seed; 4], index.to_le_bytes()].concat()));
        }
        image(&[(tar(&[("f", &block)]), Pack::Plain)])
    };
    let (first, second) = (content(1), content(2));
    let layer = first.layer(0);
    let (reached, stalling) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(true)));
    let registry = {
        let (reached, stalling) = (Arc::clone(&reached), Arc::clone(&stalling));
        let (first, second) = (first.clone(), second.clone());
        Fixture::start(move |request| {
            if request.path.contains(&layer) && stalling.load(Ordering::SeqCst) {
                reached.notify_one();
                return Reply::Stall(Vec::new());
            }
            two(&first, &second, request)
        })
        .await
    };
    let node = node_at(&registry.address, disk.0.path(), 0);
    let (app, other) = (
        format!("{}/app:1", registry.address),
        format!("{}/other:1", registry.address),
    );
    let mut stalled = Box::pin(node.pull(&app));
    tokio::select! {
        result = &mut stalled => panic!("the pull ended before its layer came: {result:?}"),
        () = reached.notified() => {}
    }
    let error = node.pull(&other).await.unwrap_err();
    let ImageError::NoSpace {
        needed, promised, ..
    } = error.root()
    else {
        panic!("{error:?}");
    };
    assert!(*needed > 9 << 20 && *promised > 9 << 20, "{error:?}");
    let text = error.to_string();
    assert!(text.contains("and the pulls in flight"), "{text}");
    assert_eq!(registry.count(&second.layer(0)), 0);
    // what was promised to a pull that is given up is free again
    drop(stalled);
    assert_eq!(node.pull(&other).await.unwrap(), second.id);
    node.on_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_two_images_comes_once_and_the_second_takes_over_from_a_first_that_fails() {
    let shared = (tar(&[("shared", &[7; 50_000])]), Pack::Gzip);
    let own = |name: &str| (tar(&[(name, name.as_bytes())]), Pack::Gzip);
    let (first, second) = (
        image(&[shared.clone(), own("first")]),
        image(&[shared, own("second")]),
    );
    let (layer, own) = (first.layer(0), second.layer(1));
    let stalling = Arc::new(AtomicBool::new(true));
    let (reached, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let registry = {
        let (stalling, layer) = (Arc::clone(&stalling), layer.clone());
        let (reached, other) = (Arc::clone(&reached), Arc::clone(&other));
        Fixture::start(move |request| {
            if request.path.contains(&own) {
                other.notify_one();
            }
            if request.path.contains(&layer) {
                reached.notify_one();
                if stalling.load(Ordering::SeqCst) {
                    let blob = &first.blobs[&layer];
                    let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", blob.len());
                    return Reply::Stall([head.as_bytes(), &blob[..20]].concat());
                }
            }
            two(&first, &second, request)
        })
        .await
    };
    let node = Node::with(&insecure(&registry.address), |settings| {
        settings.network.timeouts.stall = Duration::from_secs(2);
    });
    let names = ["app", "other"].map(|name| format!("{}/{name}:1", registry.address));
    let before = node.on_disk().await;
    let mut asked = 0;
    let id = loop {
        let mut pulls = names.each_ref().map(|name| Box::pin(node.pull(name)));
        let [one, two] = &mut pulls;
        tokio::select! {
            result = &mut *one => panic!("the pull ended without its layer: {result:?}"),
            () = reached.notified() => {}
        }
        tokio::select! {
            result = &mut *two => panic!("the pull ended without its layer: {result:?}"),
            () = other.notified() => {}
        }
        asked += 1;
        assert_eq!(
            registry.count(&layer),
            asked,
            "both want it, one downloads it"
        );
        let [one, two] = pulls;
        drop(one);
        if asked == 2 {
            // what the first has begun fails only now, and so the second begins its own
            stalling.store(false, Ordering::SeqCst);
            break two.await.unwrap();
        }
        drop(two);
        let given_up = async {
            while node.on_disk().await != before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let given_up = tokio::time::timeout(Duration::from_secs(60), given_up).await;
        given_up.expect("nobody wants it, and nothing is left of it");
    };
    assert_eq!(node.file(&id, 0, "shared").len(), 50_000);
    assert_eq!(registry.count(&layer), 3, "given up, failed, whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_whose_layers_do_not_come_does_not_stop_the_others() {
    let layer = |name: &str| (tar(&[(name, name.as_bytes())]), Pack::Gzip);
    let names: Vec<String> = (0..8).map(|number| format!("slow{number}")).collect();
    let slow: Vec<_> = names.iter().map(|name| layer(name)).collect();
    let (slow, fine) = (image(&slow), image(&[layer("a"), layer("b")]));
    let silent: Vec<String> = (0..8).map(|index| slow.layer(index)).collect();
    let asked = Arc::new(Notify::new());
    let registry = {
        let (fine, asked) = (fine.clone(), Arc::clone(&asked));
        Fixture::start(move |request| {
            if silent.iter().any(|layer| request.path.contains(layer)) {
                asked.notify_one();
                return Reply::Stall(b"HTTP/1.1 200 X\r\n\r\n".to_vec());
            }
            two(&slow, &fine, request)
        })
        .await
    };
    let node = Node::insecure(&registry.address);
    let pulls = ["app", "other"].map(|name| format!("{}/{name}:1", registry.address));
    let mut silent = Box::pin(node.pull(&pulls[0]));
    while registry.count("/v2/app/blobs/") < 1 + node.images.settings.parallel_layers {
        tokio::select! {
            result = &mut silent => panic!("the pull ended without its layers: {result:?}"),
            () = asked.notified() => {}
        }
    }
    let id = tokio::select! {
        result = &mut silent => panic!("the pull ended without its layers: {result:?}"),
        result = node.pull(&pulls[1]) => result.unwrap(),
    };
    assert_eq!(id, fine.id);
    let at_once = 1 + node.images.settings.parallel_layers;
    assert_eq!(
        registry.count("/v2/app/blobs/"),
        at_once,
        "no more of one pull"
    );
}

/// An estargz layer as docs/estargz.md of stargz-snapshotter has it: a gzip member for each header
/// and each content, the table of contents as the last entry, and an empty member that says where
/// that begins. The uncompressed tar has all of it, so its digest does too.
fn estargz() -> (Vec<u8>, Vec<u8>) {
    let member = |bytes: &[u8]| content::pack(bytes, Pack::Gzip);
    let toc = br#"{"version":1,"entries":[{"name":"a","type":"reg","size":5}]}"#;
    let whole = tar(&[
        (".no.prefetch.landmark", &[0xf]),
        ("a", b"hello"),
        ("stargz.index.json", toc),
    ]);
    let mut packed = Vec::new();
    let mut toc_at = 0;
    for (index, block) in whole.chunks(512).enumerate() {
        if index == 4 {
            toc_at = packed.len();
        }
        packed.extend(member(block));
    }
    let subfield = format!("{toc_at:016x}STARGZ");
    let mut footer = flate2::GzBuilder::new()
        .extra([b"SG\x16\0", subfield.as_bytes()].concat())
        .write(Vec::new(), flate2::Compression::none());
    footer.flush().unwrap();
    packed.extend(footer.finish().unwrap());
    (whole, packed)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estargz_layer_is_read_as_the_gzip_layer_that_it_is() {
    let (whole, packed) = estargz();
    let mut content = image(&[(whole, Pack::Plain)]);
    let old = content.layer(0);
    content.blobs.remove(&old);
    content = content.with_json(|json| {
        json["layers"][0] = serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": sha256(&packed), "size": packed.len(),
            "annotations": {"containerd.io/snapshot/stargz/toc.digest": sha256(b"toc")},
        });
    });
    content.blobs.insert(sha256(&packed), packed);
    let registry = Fixture::serving(&content).await;
    let node = Node::insecure(&registry.address);
    let id = node
        .pull(&format!("{}/app:1", registry.address))
        .await
        .unwrap();
    assert_eq!(node.file(&id, 0, "a"), b"hello");
    // they are entries of the tar, and other runtimes that do not pull lazily keep them as well
    assert_eq!(node.file(&id, 0, ".no.prefetch.landmark"), [0xf]);
    assert!(node.file(&id, 0, "stargz.index.json").starts_with(b"{"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_skopeo_packs_as_zstd_chunked_is_read_as_zstd() {
    let registry = Registry::start();
    let noise: Vec<u8> = (0..90_000u64)
        .map(|n| ((n * n) >> 7).to_le_bytes()[0])
        .collect();
    let content = image(&[(tar(&[("a", b"hello"), ("b", &noise)]), Pack::Plain)]);
    registry.push("plain", &["1"], &content).await;
    let name = |repository: &str| format!("docker://{}/{repository}:1", registry.address);
    let copied = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet"])
        .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
        .args(["--format", "oci", "--dest-compress-format", "zstd:chunked"])
        .args([name("plain"), name("chunked")])
        .status()
        .expect("skopeo is needed: `make deps` installs it");
    assert!(copied.success());
    let base = format!("http://{}/v2/chunked", registry.address);
    let get = |path: String| async move {
        let client = reqwest::Client::new().get(path);
        let client = client.header("Accept", "application/vnd.oci.image.manifest.v1+json");
        client.send().await.unwrap().bytes().await.unwrap()
    };
    let manifest = get(format!("{base}/manifests/1")).await;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = &manifest["layers"][0];
    assert!(
        layer["annotations"]["io.containers.zstd-chunked.manifest-position"].is_string()
            || layer["annotations"]["io.github.containers.zstd-chunked.manifest-position"]
                .is_string(),
        "not a zstd:chunked layer: {layer}"
    );
    let node = Node::insecure(&registry.address);
    let reference = format!("{}/chunked:1", registry.address);
    let id = node.pull(&reference).await.unwrap();
    assert_eq!(node.file(&id, 0, "a"), b"hello");
    assert_eq!(node.file(&id, 0, "b"), noise);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_url_of_a_manifest_is_ever_asked() {
    let elsewhere = Fixture::start(|_| super::fixture::not_found()).await;
    let urls = serde_json::json!([format!("http://{}/layer", elsewhere.address)]);
    let content = image(&[(tar(&[("a", b"hello")]), Pack::Gzip)]);
    let registry = Fixture::serving(&content).await;
    let node = Node::insecure(&registry.address);
    let reference = format!("{}/app:1", registry.address);
    let foreign = [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ];
    for media_type in foreign {
        let bad = content.with_json(|json| {
            json["layers"][0]["mediaType"] = media_type.into();
            json["layers"][0]["urls"] = urls.clone();
        });
        registry.become_(move |request| serve_content(&bad, request));
        let error = node.pull(&reference).await.unwrap_err();
        assert!(matches!(error.root(), ImageError::Unsupported { .. }));
        for part in [media_type, &content.layer(0), "not in the registry"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    // a usual layer that may also be had elsewhere is had from the registry
    let also = content.with_json(|json| json["layers"][0]["urls"] = urls.clone());
    registry.become_(move |request| serve_content(&also, request));
    node.pull(&reference).await.unwrap();
    assert!(elsewhere.log().is_empty(), "{:?}", elsewhere.log());
}
