//! Registries whose content is not what it should be.

use serde_json::json;

use super::case::*;
use super::content::{self, Content, Pack, image, sha256, tar};
use super::fixture::{Fixture, Reply, Request, answer};
use super::*;

fn layers() -> Vec<Case> {
    let layer = good().layer(0);
    let mut flipped = good().blobs[&layer].clone();
    flipped[40] ^= 1;
    let mut same_size = good().blobs[&layer].clone();
    same_size.reverse();
    let swapped = good().with_json(|json| json["layers"][0]["digest"] = good().layer(1).into());
    let foreign = good().with_json(|json| {
        json["layers"][1]["mediaType"] =
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    });
    let garbage = image(&[(b"this is no tar at all".repeat(100), Pack::Gzip)]);
    vec![
        case(
            "flipped bit",
            wrong_digest,
            "layer sha256:",
            except(layer.clone(), move |_| answer(200, flipped.clone())),
        ),
        case(
            "other bytes",
            wrong_digest,
            "digest mismatch",
            except(layer, move |_| answer(200, same_size.clone())),
        ),
        case("layers swapped", wrong_size, "", serving(swapped)),
        case(
            "wrong diff id",
            storage,
            "content's digest",
            serving(wrong_diff_id()),
        ),
        case(
            "foreign layer",
            unsupported,
            "foreign.diff.tar.gzip",
            serving(foreign),
        ),
        case("no tar", storage, "tar archive", serving(garbage)),
        case("escaping layer", storage, "../../x", serving(escaping())),
    ]
}

fn documents() -> Vec<Case> {
    let id = good().id;
    let fewer = good().with_json(|json| drop(json["layers"].as_array_mut().unwrap().pop()));
    let many =
        good().with_json(|json| json["layers"] = vec![json["layers"][0].clone(); 600].into());
    let artifact = good().with_json(|json| {
        json["config"]["mediaType"] = "application/x-ai".into();
        let title = "org.opencontainers.image.title";
        json["layers"][0]["annotations"] = serde_json::json!({ title: "../x" });
    });
    vec![
        case(
            "other configuration",
            wrong_digest,
            "configuration",
            except(id, |_| answer(200, "{}")),
        ),
        case(
            "fewer layers",
            malformed,
            "3 diff ids for 2 layers",
            serving(fewer),
        ),
        case(
            "many layers",
            too_large,
            "limit of 500 layers",
            serving(many),
        ),
        case(
            "artifact",
            malformed,
            "title \"../x\": its path goes through `..`",
            serving(artifact),
        ),
        case(
            "no JSON",
            malformed,
            "manifest 1",
            except("/manifests/", |_| answer(200, "<html>")),
        ),
        case("index of indexes", malformed, "not followed", nested_index),
    ]
}

/// A layer with an entry `../../x`.
fn escaping() -> Content {
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..8].copy_from_slice(b"../../x\0");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    image(&[(builder.into_inner().unwrap(), Pack::Gzip)])
}

/// An image whose first layer is right as a blob, and not what the configuration says.
fn wrong_diff_id() -> Content {
    let other = content::pack(&tar(&[("a", b"other")]), Pack::Gzip);
    let mut image = good().with_json(|json| {
        json["layers"][0]["digest"] = sha256(&other).into();
        json["layers"][0]["size"] = other.len().into();
    });
    image.blobs.insert(sha256(&other), other);
    image
}

/// Answers with an index that holds an index that holds an index.
fn nested_index(request: &Request) -> Reply {
    let entry = |digest: &str| {
        json!({"schemaVersion": 2, "mediaType": manifest::OCI_INDEX, "manifests": [
            {"mediaType": manifest::OCI_INDEX, "digest": digest, "size": 1},
        ]})
        .to_string()
    };
    let third = entry(&format!("sha256:{:064x}", 1));
    let second = entry(&sha256(third.as_bytes()));
    let first = entry(&sha256(second.as_bytes()));
    let wanted = request.path.rsplit('/').next().unwrap();
    let all = [&first, &second, &third];
    let found = all
        .into_iter()
        .find(|text| sha256(text.as_bytes()) == wanted);
    answer(200, found.unwrap_or(&first).clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_contents_are_errors_that_leave_nothing() {
    run(layers()).await;
    run(documents()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_refused_by_its_ratio() {
    let content = image(&[(tar(&[("zeros", &vec![0; 16 << 20])]), Pack::Gzip)]);
    let fixture = Fixture::serving(&content).await;
    let node = Node::insecure(&fixture.address);
    let before = node.on_disk().await;
    let error = node
        .pull(&format!("{}/app:1", fixture.address))
        .await
        .unwrap_err();
    assert!(
        storage(&error) && error.to_string().contains("limit"),
        "{error}"
    );
    assert_eq!(node.on_disk().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_rotted_on_disk_is_fetched_again() {
    let content = good();
    let fixture = Fixture::serving(&content).await;
    let node = Node::insecure(&fixture.address);
    let reference = format!("{}/app:1", fixture.address);
    node.pull(&reference).await.unwrap();
    node.pull(&reference).await.unwrap();
    assert_eq!(fixture.count(&content.id), 1, "known: not fetched again");
    let images = node.dir.path().join("root/cricket/images");
    std::fs::write(images.join(&content.id).join("config"), "{}").unwrap();
    assert_eq!(node.pull(&reference).await.unwrap(), content.id);
    assert_eq!(fixture.count(&content.id), 2);
}
