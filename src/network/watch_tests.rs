//! Tests of noticing changes, on a real file system.

use std::{fs, os::unix::fs::PermissionsExt, os::unix::fs::symlink};

use crate::network::{Settings, catalog::Catalog};

use super::*;

/// Far beyond any delay: a test that fails may wait for it, one that passes never does.
const LONG: Duration = Duration::from_secs(60);

struct Scratch {
    dir: tempfile::TempDir,
    current: Arc<Current>,
    _watcher: Watcher,
}

impl Scratch {
    /// Nothing exists yet but the top directory. `prepare` makes what there should be.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let current = Arc::new(Current::read(&Settings {
            conf_dir: dir.path().join("etc/cni/net.d"),
            plugin_dirs: vec![dir.path().join("opt/bin")],
            cache_dir: dir.path().join("cache"),
            netns_dir: dir.path().join("netns"),
            instance: "/run/one".into(),
            host_ports_table: "cricket-test".into(),
            status_grace: Duration::ZERO,
            default_network: None,
            add_timeout: LONG,
            del_timeout: LONG,
            concurrency: 1,
        }));
        let watcher = Watcher::start(Arc::clone(&current)).unwrap();
        Self {
            dir,
            current,
            _watcher: watcher,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until the default network is this one, or there is none.
    async fn becomes(&self, network: Option<&str>) {
        let named = |c: &Catalog| c.default.as_ref().ok().map(|n| n.name.clone());
        let reached = self
            .current
            .until(LONG, |c| named(c).as_deref() == network)
            .await;
        assert!(reached, "wanted {network:?}: {:?}", self.current.catalog());
    }
}

fn list(name: &str) -> String {
    format!(r#"{{"name":"{name}","plugins":[{{"type":"good"}}]}}"#)
}

fn plugins(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("good"), "").unwrap();
    fs::set_permissions(dir.join("good"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn complete(top: &Path) {
    plugins(&top.join("opt/bin"));
    fs::create_dir_all(top.join("etc/cni/net.d")).unwrap();
    fs::write(top.join("etc/cni/net.d/50.conflist"), list("start")).unwrap();
}

#[tokio::test]
async fn files_that_appear_change_and_go_are_followed() {
    let scratch = Scratch::new(complete);
    scratch.becomes(Some("start")).await;
    fs::write(scratch.path("etc/cni/net.d/10.conflist"), list("first")).unwrap();
    scratch.becomes(Some("first")).await;
    fs::write(scratch.path("etc/cni/net.d/10.conflist"), list("changed")).unwrap();
    scratch.becomes(Some("changed")).await;
    fs::write(scratch.path("new"), list("renamed")).unwrap();
    fs::rename(
        scratch.path("new"),
        scratch.path("etc/cni/net.d/10.conflist"),
    )
    .unwrap();
    scratch.becomes(Some("renamed")).await;
    fs::rename(
        scratch.path("etc/cni/net.d/10.conflist"),
        scratch.path("away"),
    )
    .unwrap();
    scratch.becomes(Some("start")).await;
    fs::remove_file(scratch.path("etc/cni/net.d/50.conflist")).unwrap();
    scratch.becomes(None).await;
}

#[tokio::test]
async fn directories_made_step_by_step_after_the_start_are_found() {
    let scratch = Scratch::new(|_| {});
    scratch.becomes(None).await;
    fs::create_dir(scratch.path("etc")).unwrap();
    fs::create_dir(scratch.path("etc/cni")).unwrap();
    fs::create_dir(scratch.path("etc/cni/net.d")).unwrap();
    fs::write(scratch.path("etc/cni/net.d/10.conflist"), list("late")).unwrap();
    let missing = |c: &Catalog| {
        c.default
            .as_ref()
            .is_err_and(|e| e.reason.contains("\"good\" is missing"))
    };
    assert!(scratch.current.until(LONG, missing).await);
    plugins(&scratch.path("opt/bin"));
    scratch.becomes(Some("late")).await;
}

#[tokio::test]
async fn a_directory_that_is_removed_replaced_and_made_again_is_followed() {
    let scratch = Scratch::new(complete);
    scratch.becomes(Some("start")).await;
    fs::remove_dir_all(scratch.path("etc/cni")).unwrap();
    scratch.becomes(None).await;
    fs::create_dir_all(scratch.path("etc/cni/net.d")).unwrap();
    fs::write(scratch.path("etc/cni/net.d/10.conflist"), list("again")).unwrap();
    scratch.becomes(Some("again")).await;
    fs::create_dir(scratch.path("next")).unwrap();
    fs::write(scratch.path("next/10.conflist"), list("swapped")).unwrap();
    fs::rename(scratch.path("etc/cni/net.d"), scratch.path("old")).unwrap();
    fs::rename(scratch.path("next"), scratch.path("etc/cni/net.d")).unwrap();
    scratch.becomes(Some("swapped")).await;
    // The one that was swapped out is no longer heard.
    fs::write(scratch.path("etc/cni/net.d/05.conflist"), list("heard")).unwrap();
    scratch.becomes(Some("heard")).await;
}

#[tokio::test]
async fn plugins_that_go_and_come_are_noticed() {
    let scratch = Scratch::new(complete);
    scratch.becomes(Some("start")).await;
    fs::rename(scratch.path("opt/bin/good"), scratch.path("opt/bin/gone")).unwrap();
    scratch.becomes(None).await;
    fs::rename(scratch.path("opt/bin/gone"), scratch.path("opt/bin/good")).unwrap();
    scratch.becomes(Some("start")).await;
    fs::set_permissions(
        scratch.path("opt/bin/good"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    scratch.becomes(None).await;
}

#[tokio::test]
async fn a_symbolic_link_turned_to_another_directory_is_noticed() {
    let scratch = Scratch::new(|top| {
        complete(top);
        fs::rename(top.join("opt"), top.join("v1")).unwrap();
        fs::create_dir_all(top.join("v0/bin")).unwrap();
        symlink(top.join("v0"), top.join("opt")).unwrap();
    });
    scratch.becomes(None).await;
    symlink(scratch.path("v1"), scratch.path("next")).unwrap();
    fs::rename(scratch.path("next"), scratch.path("opt")).unwrap();
    scratch.becomes(Some("start")).await;
}

#[tokio::test]
async fn plugins_in_a_networks_folder_are_followed() {
    let scratch = Scratch::new(|top| {
        complete(top);
        fs::write(
            top.join("etc/cni/net.d/50.conflist"),
            r#"{"name":"folder"}"#,
        )
        .unwrap();
    });
    scratch.becomes(None).await;
    fs::create_dir(scratch.path("etc/cni/net.d/folder")).unwrap();
    fs::write(
        scratch.path("etc/cni/net.d/folder/10.conf"),
        r#"{"type":"good"}"#,
    )
    .unwrap();
    scratch.becomes(Some("folder")).await;
    fs::remove_file(scratch.path("etc/cni/net.d/folder/10.conf")).unwrap();
    scratch.becomes(None).await;
}

#[tokio::test]
async fn a_configuration_nested_without_end_does_not_end_the_thread() {
    let scratch = Scratch::new(complete);
    for (file, depth) in [("01.conflist", 126), ("02.conflist", 1 << 19)] {
        let nested = format!(r#"{{"x":{}"#, "[".repeat(depth));
        fs::write(scratch.path("etc/cni/net.d").join(file), nested).unwrap();
    }
    let skipped = |c: &Catalog| c.problems.len() == 2;
    assert!(scratch.current.until(LONG, skipped).await);
    fs::write(scratch.path("etc/cni/net.d/03.conflist"), list("next")).unwrap();
    scratch.becomes(Some("next")).await;
}

#[tokio::test]
async fn without_inotify_the_directory_is_polled() {
    let scratch = Scratch::new(complete);
    let current = Arc::new(Current::read(&Settings {
        conf_dir: scratch.path("etc/cni/net.d"),
        plugin_dirs: vec![scratch.path("opt/bin")],
        cache_dir: scratch.path("cache"),
        netns_dir: scratch.path("netns"),
        instance: "/run/one".into(),
        host_ports_table: "cricket-test".into(),
        status_grace: Duration::ZERO,
        default_network: None,
        add_timeout: LONG,
        del_timeout: LONG,
        concurrency: 1,
    }));
    let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    let (watched, heard) = (Arc::clone(&current), Arc::clone(&stop));
    let blind = Eyes {
        inotify: None,
        watches: HashMap::new(),
        partly_blind: false,
        poll: Duration::from_millis(1),
    };
    let thread = thread::spawn(move || blind.watch(&watched, &heard));
    // The thread reads once before its first wait: the second change is seen by polling only.
    for network in ["first", "second"] {
        fs::write(scratch.path("etc/cni/net.d/10.conflist"), list(network)).unwrap();
        let named = |c: &Catalog| c.default.as_ref().is_ok_and(|n| n.name == network);
        assert!(current.until(LONG, named).await);
    }
    rustix::io::write(&*stop, &1_u64.to_ne_bytes()).unwrap();
    thread.join().unwrap();
}

#[test]
fn what_is_missing_is_watched_for_in_the_directory_above() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    fs::create_dir(top.join("opt")).unwrap();
    let wanted = [
        top.join("etc/cni/net.d"),
        top.join("opt/a"),
        top.join("opt"),
    ];
    let targets = targets(wanted.iter().map(PathBuf::as_path));
    let names = |names: &[&str]| Filter::Names(names.iter().map(OsString::from).collect());
    assert_eq!(targets.get(top), Some(&names(&["etc"])));
    assert_eq!(targets.get(&top.join("opt")), Some(&Filter::All));
}
