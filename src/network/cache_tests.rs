//! Records of attachments: format, ownership, damage.

use super::*;
use serde_json::json;

const ID: &str = "5f0c3b8e9a4d4d0c8e3e7d1f2a6b9c0d5f0c3b8e9a4d4d0c8e3e7d1f2a6b9c0d";

/// Written by libcni 1.3.0 (AddNetworkList).
const GOLDEN: &str = include_str!("testdata/libcni-1.3.0-cache.json");

fn cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path().join("cni"));
    (dir, cache)
}

fn record() -> Record {
    let network =
        Network::parse_list(br#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#);
    let args = vec![("IgnoreUnknown".to_owned(), "1".to_owned())];
    Record::intent(
        &network.unwrap(),
        ID,
        "eth0",
        "/run/netns/x".into(),
        args,
        Map::new(),
    )
}

#[test]
fn a_record_of_libcni_is_read_and_written_alike() {
    let record: Record = serde_json::from_str(GOLDEN).unwrap();
    assert_eq!(record.container_id, ID);
    assert_eq!(record.network().unwrap().plugins[0].kind, "fake");
    assert_eq!(record.cni_args.as_ref().unwrap()[1].1, "default");
    assert_eq!(
        record.result.as_ref().unwrap()["ips"][0]["address"],
        "10.1.2.3/24"
    );
    let ours = serde_json::to_value(&record).unwrap();
    assert_eq!(ours, serde_json::from_str::<Value>(GOLDEN).unwrap());
}

#[test]
fn an_intent_is_replaced_by_the_result_and_removed() {
    let (_dir, cache) = cache();
    let mut record = record();
    cache.store(&record).unwrap();
    record.result = json!({"cniVersion": "1.0.0"}).as_object().cloned();
    cache.store(&record).unwrap();
    let found = cache.of(ID).unwrap();
    let [Found::Record(path, read)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(**read, record);
    assert!(path.ends_with(format!("results/n-{ID}-eth0")));
    assert_eq!(
        fs::read_dir(&cache.dir).unwrap().count(),
        1,
        "no temporary file stays"
    );
    cache.forget(&record).unwrap();
    cache.forget(&record).unwrap();
    assert!(cache.of(ID).unwrap().is_empty());
}

#[test]
fn a_cache_that_does_not_exist_is_empty() {
    let (_dir, cache) = cache();
    assert!(cache.of(ID).unwrap().is_empty());
    assert!(
        cache
            .pinned_in(Path::new("/"), Path::new("/run/one"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn only_our_attachments_of_our_namespaces_are_ours() {
    let (_dir, cache) = cache();
    let of = |id: &str, netns: &str| Record {
        container_id: id.into(),
        netns: netns.into(),
        ..record()
    };
    let ours = of(ID, &format!("/run/netns/{ID}"));
    for record in [
        &ours,
        &Record {
            owner: None,
            ..of("delegated", "/run/netns/delegated")
        },
        &of("other", "/run/other/netns/other"),
        &Record {
            instance: Some("/run/another".into()),
            ..of("neighbour", "/run/netns/neighbour")
        },
        &of("hosts", ""),
    ] {
        cache.store(record).unwrap();
    }
    assert_eq!(
        cache
            .pinned_in(Path::new("/run/netns"), Path::new("/run/one"))
            .unwrap(),
        [ours]
    );
}

#[test]
fn records_that_a_plugin_made_for_our_pod_are_left_to_it() {
    let (_dir, cache) = cache();
    let delegate = Record {
        network_name: "net1".into(),
        owner: None,
        ..record()
    };
    cache.store(&delegate).unwrap();
    assert!(cache.of(ID).unwrap().is_empty());
    cache.store(&record()).unwrap();
    assert_eq!(cache.of(ID).unwrap().len(), 1);
}

#[test]
fn damaged_and_foreign_files_are_told_apart() {
    let (_dir, cache) = cache();
    cache.store(&record()).unwrap();
    let results = cache.results();
    for (name, text) in [
        (format!("empty-{ID}-eth0"), ""),
        (format!("cut-{ID}-eth0"), r#"{"kind":"cniCa"#),
        (
            format!("types-{ID}-eth0"),
            r#"{"kind":"cniCacheV1","containerId":7}"#,
        ),
        (format!("legacy-{ID}-eth0"), r#"{"cniVersion":"0.4.0"}"#),
        ("somebody-elses".to_owned(), "x"),
    ] {
        fs::write(results.join(name), text).unwrap();
    }
    let damaged: Vec<String> = cache
        .of(ID)
        .unwrap()
        .iter()
        .filter(|f| matches!(f, Found::Damaged(..)))
        .map(|f| file_name(f.path()).split('-').next().unwrap().to_owned())
        .collect();
    assert_eq!(damaged, ["cut", "empty", "types"]);
    assert!(
        cache
            .pinned_in(Path::new("/run/netns"), Path::new("/run/one"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_record_whose_configuration_cannot_be_used_says_so() {
    for config in ["!!!", "e30=", "eyJuYW1lIjoibiJ9"] {
        let record = Record {
            config: config.into(),
            ..record()
        };
        assert!(record.network().unwrap_err().starts_with("config: "));
    }
}
