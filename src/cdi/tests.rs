//! Specifications on disk, good and bad.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxDeviceType;
use serde_json::json;

use super::registry::MAX_FILE_BYTES;
use super::*;

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join(name), text).unwrap();
}

fn names(list: &[&str]) -> Vec<DeviceName> {
    let field: Vec<String> = list.iter().map(|name| (*name).to_owned()).collect();
    requested(&field, &BTreeMap::new()).unwrap()
}

/// A specification of kind `v.com/c` with one device `d` that sets a variable.
fn simple(value: &str) -> String {
    json!({"cdiVersion": "0.6.0", "kind": "v.com/c",
        "devices": [{"name": "d", "containerEdits": {"env": [format!("A={value}")]}}]})
    .to_string()
}

fn env(registry: &Registry, name: &str) -> Result<Vec<String>, String> {
    let resolved = registry.resolve(&names(&[name]));
    resolved
        .map(|edits| edits.env)
        .map_err(|error| error.to_string())
}

#[test]
fn devices_come_from_the_field_and_from_annotations_each_once() {
    let annotations = BTreeMap::from([
        (
            "cdi.k8s.io/plugin_x".to_owned(),
            "v.com/c=2,v.com/c=1".to_owned(),
        ),
        ("other".to_owned(), "not a name".to_owned()),
    ]);
    let got = requested(&["v.com/c=1".to_owned()], &annotations).unwrap();
    let got: Vec<_> = got.iter().map(DeviceName::as_str).collect();
    assert_eq!(got, ["v.com/c=1", "v.com/c=2"]);
}

#[test]
fn what_is_no_device_name_is_refused_with_its_field() {
    let long = format!("v.com/c={}", "x".repeat(5000));
    for (name, want) in [
        ("", "no `=`"),
        ("v.com/c", "no `=`"),
        ("v.com=x", "no `/`"),
        ("1v.com/c=x", "vendor"),
        ("v.com/c/d=x", "class"),
        ("v.com/c=", "the device"),
        ("v.com/c=a/b", "the device"),
        ("v.com/c=a\n", "the device"),
        ("v.com/c=a\0", "the device"),
        (&long, "too long"),
    ] {
        let error = requested(
            &["v.com/c=ok".to_owned(), name.to_owned()],
            &BTreeMap::new(),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("CDI_devices[1].name: ") && error.contains(want),
            "{error}"
        );
        assert!(error.len() < 400, "{error}");
    }
    let annotations = BTreeMap::from([("cdi.k8s.io/x".to_owned(), "v.com/c=1,".to_owned())]);
    let error = requested(&[], &annotations).unwrap_err().to_string();
    assert!(
        error.starts_with("annotations[cdi.k8s.io/x]: ``"),
        "{error}"
    );
    let many: Vec<_> = (0..2000)
        .map(|number| format!("v.com/c={number}"))
        .collect();
    assert!(requested(&many, &BTreeMap::new()).is_err());
}

#[test]
fn every_kind_of_edit_is_read_from_json_and_from_yaml() {
    let dir = tempfile::tempdir().unwrap();
    let spec = json!({"cdiVersion": "1.1.0", "kind": "v.com/gpu", "annotations": {"a": "b"},
        "containerEdits": {"env": ["ALL=1"], "additionalGids": [44]},
        "devices": [
            {"name": "0", "containerEdits": {
                "env": ["GPU=0"],
                "deviceNodes": [
                    {"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"},
                    {"path": "/dev/full", "type": "c", "major": 1, "minor": 9, "fileMode": 384, "uid": 7, "gid": 8}],
                "mounts": [{"hostPath": "/usr/lib/x.so", "containerPath": "/lib/x.so", "options": ["ro", "bind"]}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true"], "timeout": 5}],
                "intelRdt": {"closID": "gold", "enableMonitoring": true}}},
            {"name": "1", "containerEdits": {"env": ["GPU=1"]}}]});
    write(&dir.path().join("json"), "gpu.json", &spec.to_string());
    // every JSON document is a YAML document
    write(
        &dir.path().join("yaml"),
        "gpu.yaml",
        &serde_json::to_string_pretty(&spec).unwrap(),
    );
    for kind in ["json", "yaml"] {
        let registry = Registry::new(vec![dir.path().join(kind)]);
        let edits = registry
            .resolve(&names(&["v.com/gpu=1", "v.com/gpu=0"]))
            .unwrap();
        assert_eq!(
            edits.env,
            ["ALL=1", "GPU=1", "GPU=0"],
            "the common edits once, first"
        );
        assert_eq!(edits.additional_gids, [44]);
        let (null, access) = &edits.nodes[0];
        assert_eq!(
            (null.typ(), null.major(), null.minor()),
            (LinuxDeviceType::C, 1, 3)
        );
        assert_eq!(
            (null.path(), access.as_str()),
            (&PathBuf::from("/dev/gpu0"), "rw")
        );
        assert_eq!(null.file_mode(), Some(0o666));
        let (full, access) = &edits.nodes[1];
        assert_eq!(
            (full.major(), full.minor(), full.file_mode()),
            (1, 9, Some(0o600))
        );
        assert_eq!(
            (full.uid(), full.gid(), access.as_str()),
            (Some(7), Some(8), "rwm")
        );
        assert_eq!(edits.mounts[0].kind, "bind");
        assert_eq!(edits.hooks[0].0, crate::hooks::HookStep::CreateContainer);
        assert_eq!(edits.hooks[0].1.timeout(), Some(5));
        assert_eq!(edits.intel_rdt.unwrap().clos_id().as_deref(), Some("gold"));
    }
}

#[test]
fn a_later_directory_wins_and_two_files_of_one_directory_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let (static_dir, dynamic) = (dir.path().join("etc"), dir.path().join("run"));
    let registry = Registry::new(vec![static_dir.clone(), dynamic.clone()]);
    assert!(
        env(&registry, "v.com/c=d")
            .unwrap_err()
            .contains("unresolvable device v.com/c=d")
    );
    write(&static_dir, "a.json", &simple("static"));
    assert_eq!(env(&registry, "v.com/c=d").unwrap(), ["A=static"]);
    write(&dynamic, "a.json", &simple("dynamic"));
    assert_eq!(env(&registry, "v.com/c=d").unwrap(), ["A=dynamic"]);
    write(&dynamic, "b.json", &simple("other"));
    let error = env(&registry, "v.com/c=d").unwrap_err();
    assert!(
        error.contains("a.json") && error.contains("b.json"),
        "{error}"
    );
    std::fs::remove_dir_all(&dynamic).unwrap();
    assert_eq!(env(&registry, "v.com/c=d").unwrap(), ["A=static"]);
}

#[test]
fn a_file_written_anew_is_read_anew_and_an_unchanged_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(vec![dir.path().to_owned()]);
    write(dir.path(), "a.json", &simple("one"));
    assert_eq!(env(&registry, "v.com/c=d").unwrap(), ["A=one"]);
    // same length and, forced, same time: only a file that is not read again can say `one`
    let facts = std::fs::metadata(dir.path().join("a.json")).unwrap();
    write(dir.path(), "a.json", &simple("two"));
    let file = std::fs::File::options()
        .write(true)
        .open(dir.path().join("a.json"))
        .unwrap();
    file.set_modified(facts.modified().unwrap()).unwrap();
    assert_eq!(env(&registry, "v.com/c=d").unwrap(), ["A=one"]);
    write(dir.path(), "a.json", &simple("three"));
    assert_eq!(env(&registry, "v.com/c=d").unwrap(), ["A=three"]);
}

#[test]
fn a_bad_file_is_skipped_told_of_and_harms_no_other() {
    let edits = |edits: serde_json::Value| {
        json!({"cdiVersion": "0.6.0", "kind": "v.com/bad",
            "devices": [{"name": "d", "containerEdits": edits}]})
        .to_string()
    };
    let deep = "[".repeat(100_000);
    let huge = " ".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
    for (text, want) in [
        ("", "EOF"),
        ("null", "invalid type"),
        ("{", "EOF"),
        (deep.as_str(), "recursion limit"),
        (huge.as_str(), "larger than"),
        (
            r#"{"cdiVersion":"2.0.0","kind":"v.com/c"}"#,
            "cdiVersion: `2.0.0` is not known",
        ),
        (
            r#"{"cdiVersion":"0.6.0","kind":"c"}"#,
            "kind: there is no `/`",
        ),
        (
            r#"{"cdiVersion":"0.6.0","kind":"v.com/c","surprise":1}"#,
            "surprise",
        ),
        (
            &edits(json!({})),
            "devices[0].containerEdits: there are none",
        ),
        (&edits(json!({"env": ["A"]})), "env[0]: it is not KEY=value"),
        (&edits(json!({"env": ["A=\0"]})), "NUL"),
        (&edits(json!({"env": "A=1"})), "invalid type"),
        (
            &edits(json!({"deviceNodes": [{"path": "dev/x"}]})),
            "deviceNodes[0].path: `dev/x`",
        ),
        (
            &edits(json!({"deviceNodes": [{"path": "/x", "type": "z"}]})),
            "type: `z`",
        ),
        (
            &edits(json!({"deviceNodes": [{"path": "/x", "permissions": "rx"}]})),
            "permissions",
        ),
        (
            &edits(json!({"deviceNodes": [{"path": "/x", "fileMode": -1}]})),
            "invalid value",
        ),
        (
            &edits(json!({"mounts": [{"hostPath": "", "containerPath": "/x"}]})),
            "hostPath",
        ),
        (
            &edits(json!({"mounts": [{"hostPath": "/x", "containerPath": "x"}]})),
            "containerPath",
        ),
        (
            &edits(json!({"hooks": [{"hookName": "x", "path": "/x"}]})),
            "hookName: `x`",
        ),
        (
            &edits(json!({"hooks": [{"hookName": "poststop", "path": "x"}]})),
            "path",
        ),
        (&edits(json!({"intelRdt": {"closID": "../x"}})), "closID"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "bad.json", text);
        write(dir.path(), "good.json", &simple("good"));
        let registry = Registry::new(vec![dir.path().to_owned()]);
        assert_eq!(env(&registry, "v.com/c=d").unwrap(), ["A=good"]);
        let error = env(&registry, "v.com/bad=d").unwrap_err();
        assert!(
            error.contains("bad.json") && error.contains(want),
            "{error}, not {want}"
        );
    }
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&dir.path().join("pipe.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::create_dir(dir.path().join("dir.yaml")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", dir.path().join("gone.json")).unwrap();
    write(dir.path(), "good.json", &simple("good"));
    let registry = Registry::new(vec![dir.path().to_owned()]);
    assert_eq!(env(&registry, "v.com/c=d").unwrap(), ["A=good"]);
}

#[test]
fn a_node_that_is_not_on_the_host_and_network_devices_are_errors_that_name_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let with =
        |name: &str, edits: serde_json::Value| json!({"name": name, "containerEdits": edits});
    let spec = json!({"cdiVersion": "1.1.0", "kind": "v.com/c", "devices": [
        with("gone", json!({"deviceNodes": [{"path": "/dev/nonexistent-x"}]})),
        with("file", json!({"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/passwd"}]})),
        with("other", json!({"deviceNodes": [{"path": "/dev/null", "type": "b"}]})),
        with("net", json!({"netDevices": [{"hostInterfaceName": "eth7", "name": "eth1"}]}))]});
    write(dir.path(), "a.json", &spec.to_string());
    let registry = Registry::new(vec![dir.path().to_owned()]);
    for (name, want) in [
        ("gone", "device node /dev/nonexistent-x: No such file"),
        ("file", "device node /etc/passwd: is not a device"),
        ("other", "device node /dev/null: is not of the type"),
        ("net", "netDevices is not supported"),
    ] {
        let error = env(&registry, &format!("v.com/c={name}")).unwrap_err();
        assert!(
            error.contains(&format!("v.com/c={name}")) && error.contains(want),
            "{error}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_json_makes_it_panic(text in "[{}\\[\\]\":,a-z0-9\\\\]{0,120}") {
        let _ = document::parse(text.as_bytes(), document::Format::Json);
        let _ = document::parse(text.as_bytes(), document::Format::Yaml);
    }
}
