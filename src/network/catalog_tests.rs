//! Tests of what is made of a configuration directory.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A configuration directory and a plugin directory with `good`.
struct Scratch {
    dir: tempfile::TempDir,
    plugins: Vec<PathBuf>,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = vec![dir.path().join("bin")];
        fs::create_dir(&plugins[0]).unwrap();
        fs::create_dir(dir.path().join("net.d")).unwrap();
        let this = Self { dir, plugins };
        this.plugin("good", 0o755);
        this
    }

    fn plugin(&self, name: &str, mode: u32) {
        let path = self.plugins[0].join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn conf_dir(&self) -> PathBuf {
        self.dir.path().join("net.d")
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.conf_dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn list(&self, file: &str, network: &str, plugin: &str) -> &Self {
        let text = format!(
            r#"{{"name":"{network}","cniVersion":"1.0.0","plugins":[{{"type":"{plugin}"}}]}}"#
        );
        self.write(file, &text)
    }

    fn read(&self, named: Option<&str>) -> Catalog {
        Catalog::read(&self.conf_dir(), &self.plugins, named)
    }

    fn default(&self) -> String {
        self.read(None).default.unwrap().name.clone()
    }

    fn reason(&self, named: Option<&str>) -> String {
        self.read(named).default.unwrap_err().reason
    }
}

#[test]
fn the_first_file_in_lexical_order_is_the_default_whatever_its_kind() {
    let scratch = Scratch::new();
    scratch
        .list("20-b.conflist", "b", "good")
        .write("10-a.conf", r#"{"name":"a","type":"good"}"#)
        .write("9-z.json", r#"{"name":"z","type":"good"}"#)
        .write("00-readme.txt", "not a configuration")
        .list("05-old.conflist.bak", "old", "good");
    assert_eq!(scratch.default(), "a");
    fs::remove_file(scratch.conf_dir().join("10-a.conf")).unwrap();
    assert_eq!(scratch.default(), "b");
}

#[test]
fn bad_files_are_skipped_and_named() {
    let scratch = Scratch::new();
    scratch
        .write("10-broken.conflist", "{")
        .write("20-no-type.conf", r#"{"name":"x"}"#);
    let reason = scratch.reason(None);
    for part in [
        "no usable CNI configuration",
        "10-broken.conflist is skipped: is not valid JSON",
        "20-no-type.conf is skipped: type",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    scratch.list("30-good.conflist", "good", "good");
    let catalog = scratch.read(None);
    assert_eq!(catalog.default.unwrap().name, "good");
    assert_eq!(catalog.problems.len(), 2);
}

#[test]
fn what_is_not_a_readable_regular_file_is_skipped_without_waiting() {
    let scratch = Scratch::new();
    let conf_dir = scratch.conf_dir();
    nix::unistd::mkfifo(
        &conf_dir.join("10-fifo.conf"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    std::os::unix::fs::symlink("/nonexistent", conf_dir.join("11-dangling.conf")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", conf_dir.join("12-endless.conf")).unwrap();
    fs::create_dir(conf_dir.join("13-dir.conf")).unwrap();
    scratch
        .write("14-huge.conf", &" ".repeat((1 << 20) + 1))
        .list("20.conflist", "n", "good");
    let catalog = scratch.read(None);
    assert_eq!(catalog.default.unwrap().name, "n");
    let problems: Vec<&str> = catalog.problems.iter().map(|(_, p)| p.as_str()).collect();
    assert_eq!(problems[0], "is not a regular file");
    assert!(problems[1].contains("No such file"), "{problems:?}");
    assert_eq!(problems[2], "is not a regular file");
    assert_eq!(problems[3], "is larger than 1048576 bytes");
    assert_eq!(problems.len(), 4);
}

#[test]
fn a_missing_directory_and_an_empty_one_say_what_to_do() {
    let scratch = Scratch::new();
    assert!(
        scratch
            .reason(None)
            .contains("put a .conflist, .conf or .json file there")
    );
    fs::remove_dir(scratch.conf_dir()).unwrap();
    let reason = scratch.reason(None);
    assert!(
        reason.contains("net.d does not exist; create it"),
        "{reason}"
    );
}

#[test]
fn a_missing_plugin_is_named_with_its_directories_and_the_next_network_is_not_taken() {
    let scratch = Scratch::new();
    scratch
        .list("10-a.conflist", "a", "absent")
        .list("20-b.conflist", "b", "good");
    let reason = scratch.reason(None);
    let bin = scratch.plugins[0].display().to_string();
    for part in [
        "network \"a\"",
        "10-a.conflist",
        "\"absent\" is missing in",
        &bin,
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    scratch.plugin("absent", 0o644);
    assert!(scratch.reason(None).contains("is not executable"));
    scratch.plugin("absent", 0o755);
    assert_eq!(scratch.default(), "a");
}

#[test]
fn a_network_asked_for_by_name_is_waited_for() {
    let scratch = Scratch::new();
    scratch.list("10-a.conflist", "a", "good");
    let reason = scratch.reason(Some("b"));
    assert!(
        reason.contains("is named \"b\"") && reason.ends_with("there are: \"a\""),
        "{reason}"
    );
    scratch.list("20-b.conflist", "b", "good");
    assert_eq!(scratch.read(Some("b")).default.unwrap().name, "b");
}

#[test]
fn of_two_networks_with_one_name_the_first_counts() {
    let scratch = Scratch::new();
    scratch
        .list("10-a.conflist", "same", "good")
        .list("20-b.conflist", "same", "absent");
    let catalog = scratch.read(None);
    assert_eq!(catalog.default.unwrap().plugins[0].kind, "good");
    assert!(
        catalog.problems[0]
            .1
            .contains("10-a.conflist has the same network name")
    );
}

#[test]
fn plugins_are_also_taken_from_the_networks_folder() {
    let scratch = Scratch::new();
    scratch.plugin("more", 0o755);
    scratch.write("10-a.conflist", r#"{"name":"a","cniVersion":"1.1.0"}"#);
    assert!(scratch.reason(None).contains("has no plugins"));
    scratch
        .write("a/20-more.conf", r#"{"type":"more"}"#)
        .write("a/10-good.conf", r#"{"type":"good"}"#)
        .write("a/30-other.json", r#"{"type":"other"}"#);
    let kinds = |catalog: Catalog| -> Vec<String> {
        catalog
            .default
            .unwrap()
            .plugins
            .iter()
            .map(|p| p.kind.clone())
            .collect()
    };
    assert_eq!(kinds(scratch.read(None)), ["good", "more"]);
    scratch.write("a/40-bad.conf", "{}");
    let reason = scratch.reason(None);
    assert!(reason.contains("40-bad.conf: type: is missing"), "{reason}");
}
