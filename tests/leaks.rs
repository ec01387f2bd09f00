//! What pods and containers leave behind that nobody owns: `cricket doctor leaks` finds all of it and
//! nothing else, with and without a daemon, and sweeps it; so does the start of a daemon.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cricket_harness::{Node, leaks, requests};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::XattrFlags;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// `cricket doctor leaks` with these flags: its exit code and what it says, errors too.
fn doctor(node: &Node, flags: &[&str]) -> (i32, String) {
    let output = node
        .daemon
        .command()
        .args(["doctor", "leaks"])
        .args(flags)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// The kinds that are listed of one id.
fn kinds(node: &Node, id: &str) -> BTreeSet<String> {
    let (code, text) = doctor(node, &["--json"]);
    assert_eq!(code, 1, "{text}");
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let leaks = found["leaks"].as_array().unwrap().iter();
    let of_id = leaks.filter(|leak| leak["id"] == id);
    of_id
        .map(|leak| leak["kind"].as_str().unwrap().to_owned())
        .collect()
}

/// Takes a pod's and a container's records away, as a person might, or a broken file system.
fn lose_records(node: &Node, pod: &str, container: &str) {
    let runroot = node.daemon.runroot();
    for path in [
        runroot.join("sandboxes").join(pod),
        runroot.join("containers").join(container),
    ] {
        fs::remove_file(path.join("record.json")).unwrap();
        // What is mounted in the pod's directory, its shared memory, is in the way, and stays.
        let _stays = fs::remove_dir_all(&path);
    }
}

#[tokio::test]
async fn all_that_a_lost_pod_leaves_is_found_and_swept_while_no_daemon_runs() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container, _) = node.run("lost", &image, &["sleep", "1000"]).await;
    assert_eq!(doctor(&node, &[]).0, 0);
    assert!(node.daemon.stop().await.success());
    assert_eq!(
        doctor(&node, &[]),
        (0, "nothing without an owner\n".into()),
        "what runs while the daemon does not has its owner"
    );
    lose_records(&node, &pod, &container);
    let of_pod = [
        "attachment",
        "cgroup",
        "directory",
        "ip lease",
        "link",
        "mount",
        "namespace",
    ];
    assert_eq!(kinds(&node, &pod), of_pod.map(String::from).into());
    let of_container = ["cgroup", "directory", "mount", "process", "runtime state"];
    assert_eq!(
        kinds(&node, &container),
        of_container.map(String::from).into()
    );
    let (code, text) = doctor(&node, &["--fix"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("swept:"), "{text}");
    assert_eq!(doctor(&node, &[]), (0, "nothing without an owner\n".into()));
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

#[tokio::test]
async fn all_that_a_lost_pod_leaves_is_swept_at_the_start_of_a_daemon() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container, _) = node.run("lost", &image, &["sleep", "1000"]).await;
    node.daemon.kill();
    lose_records(&node, &pod, &container);
    node.daemon.launch();
    node.reconnect().await;
    node.until("the sweep", || {
        let log = node.daemon.log();
        [&pod, &container].iter().all(|id| {
            log.lines()
                .any(|line| line.contains(id.as_str()) && line.contains("swept"))
        })
    })
    .await;
    assert_eq!(doctor(&node, &[]), (0, "nothing without an owner\n".into()));
    node.finish().await;
}

#[tokio::test]
async fn a_running_daemon_finds_and_sweeps_beside_pods_that_go_on() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, stays, _) = node.run("stays", &image, &["sleep", "1000"]).await;
    let id = "0123456789abcdef".repeat(4);
    let root = node.daemon.root().join("containers").join(&id);
    fs::create_dir_all(root.join("merged")).unwrap();
    mount(
        Some("none"),
        &root.join("merged"),
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let pause = node.daemon.runroot().join("pause").join(&id);
    fs::create_dir_all(&pause).unwrap();
    assert_eq!(
        kinds(&node, &id),
        ["directory", "mount"].map(String::from).into()
    );
    let (code, text) = doctor(&node, &["--fix"]);
    assert!(text.contains("without an owner") || code == 0, "{text}");
    assert!(
        !pause.exists() && leaks::mounts_below(&root).is_empty(),
        "{text}"
    );
    let reply = node.cri.exec(&stays, &["echo", "alive"], 10).await.unwrap();
    assert_eq!(reply.stdout, b"alive\n");
    // The store that is open did not see the directory come; the next start does.
    node.crash().await;
    node.until("the sweep", || !root.exists()).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_just_being_made_or_removed_is_called_a_leak() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut lives = Vec::new();
    for number in 0..4 {
        let (cri, image) = (node.cri.clone(), image.clone());
        let configs: Vec<_> = (0..3)
            .map(|round| node.pod_config(&format!("life-{number}-{round}")))
            .collect();
        lives.push(tokio::spawn(async move {
            for config in configs {
                let pod = cri.run_pod(&config).await.unwrap();
                let container = requests::container("main", &image, &["sleep", "1000"]);
                let id = cri.create(&pod, &container, &config).await.unwrap();
                cri.start(&id).await.unwrap();
                cri.remove_pod(&pod).await.unwrap();
            }
        }));
    }
    let mut looked = 0;
    while looked == 0 || lives.iter().any(|life| !life.is_finished()) {
        for flags in [&[][..], &["--fix"]] {
            let (code, text) = tokio::task::block_in_place(|| doctor(&node, flags));
            let told = (flags, code, text.as_str());
            assert_eq!(told, (flags, 0, "nothing without an owner\n"));
        }
        looked += 1;
    }
    for life in lives {
        life.await.unwrap();
    }
    node.finish().await;
}

/// Things of others that look like ours, and must be there whatever we do.
struct Foreign {
    cgroups: Vec<PathBuf>,
    pin: PathBuf,
    files: Vec<PathBuf>,
}

impl Foreign {
    fn make(node: &Node) -> Foreign {
        let id = "fedcba9876543210".repeat(4);
        let top = Path::new("/sys/fs/cgroup");
        let hierarchy = if top.join("cgroup.controllers").exists() {
            top.to_owned()
        } else {
            top.join("memory")
        };
        let parent = hierarchy.join(node.cgroup().trim_start_matches('/'));
        // Of a CRI-O, which marks nothing, and of another cricket.
        let cgroups = vec![
            parent.join(format!("crio-{id}")),
            parent.join(format!("crio-conmon-{id}")),
        ];
        for path in &cgroups {
            fs::create_dir_all(path).unwrap();
        }
        let (mark, another) = ("trusted.cricket", b"/run/another");
        rustix::fs::setxattr(&cgroups[1], mark, another, XattrFlags::CREATE).unwrap();
        let pin = node.daemon.namespaces().join("netns").join(&id);
        fs::create_dir_all(pin.parent().unwrap()).unwrap();
        fs::write(&pin, "/run/another").unwrap();
        let own = Some("/proc/self/ns/net");
        mount(own, &pin, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let results = node.dir().join("cni/cache/results");
        let leases = node.dir().join("cni/leases/ck");
        let state = node.dir().join("run/runc").join(&id);
        for dir in [&results, &leases, &state] {
            fs::create_dir_all(dir).unwrap();
        }
        let attachment = |owner: &str| {
            format!(
                r#"{{"kind":"cniCacheV1","containerId":"{id}","config":"e30=","ifName":"eth0",
                    "networkName":"ck","netns":"{}"{owner}}}"#,
                pin.display()
            )
        };
        let texts = [
            (results.join(format!("ck-{id}-eth0")), attachment("")),
            (
                results.join(format!("ck2-{id}-eth0")),
                attachment(r#","owner":"cricket","instance":"/run/another""#),
            ),
            (leases.join("10.88.77.200"), format!("{id}\r\neth0")),
            (
                state.join("state.json"),
                r#"{"config":{"labels":["bundle=/run/containers/another"]}}"#.into(),
            ),
        ];
        let mut files = Vec::new();
        for (path, text) in texts {
            fs::write(&path, text).unwrap();
            files.push(path);
        }
        Foreign {
            cgroups,
            pin,
            files,
        }
    }

    #[track_caller]
    fn is_whole(&self) {
        for path in self.cgroups.iter().chain(&self.files) {
            assert!(path.exists(), "{} has been removed", path.display());
        }
        let pin = self.pin.to_string_lossy().into_owned();
        assert!(leaks::mounts().contains(&pin), "{pin} has been unmounted");
    }

    fn remove(self) {
        umount2(&self.pin, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(&self.pin).unwrap();
        for path in self.cgroups.iter().rev() {
            fs::remove_dir(path).unwrap();
        }
        for path in &self.files {
            fs::remove_file(path).unwrap();
        }
        fs::remove_dir(self.files.last().unwrap().parent().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn things_of_others_are_neither_named_nor_touched() {
    let mut node = Node::start(CRICKET).await;
    let foreign = Foreign::make(&node);
    for flags in [&[][..], &["--fix"]] {
        assert_eq!(
            doctor(&node, flags),
            (0, "nothing without an owner\n".into())
        );
    }
    foreign.is_whole();
    node.crash().await;
    // A stop that succeeds ends after the sweep of the start, or the sweep found nothing.
    assert!(node.daemon.stop().await.success());
    foreign.is_whole();
    for flags in [&[][..], &["--fix"]] {
        assert_eq!(
            doctor(&node, flags),
            (0, "nothing without an owner\n".into())
        );
    }
    foreign.is_whole();
    foreign.remove();
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

#[tokio::test]
async fn a_container_whose_record_was_set_aside_keeps_all_that_it_has() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, container, _) = node.run("aside", &image, &["sleep", "1000"]).await;
    node.daemon.kill();
    let record = node
        .daemon
        .runroot()
        .join("containers")
        .join(&container)
        .join("record.json");
    let good = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    node.daemon.launch();
    node.reconnect().await;
    assert_eq!(
        doctor(&node, &["--fix"]),
        (0, "nothing without an owner\n".into())
    );
    assert!(!node.pids_of(&container).is_empty());
    node.daemon.kill();
    let kept = node.daemon.runroot().join("quarantine").join(&container);
    fs::rename(&kept, record.parent().unwrap()).unwrap();
    fs::write(&record, good).unwrap();
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

#[tokio::test]
async fn what_cannot_be_told_is_an_error_of_its_own() {
    let node = Node::start(CRICKET).await;
    let socket = node.daemon.socket();
    let away = socket.with_extension("away");
    fs::rename(&socket, &away).unwrap();
    let (code, text) = doctor(&node, &["--fix"]);
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("a daemon has the runroot, and none answers"),
        "{text}"
    );
    fs::rename(&away, &socket).unwrap();
    node.finish().await;
}

#[tokio::test]
async fn what_a_power_cut_has_emptied_is_found_and_detached_although_nothing_else_is_left() {
    let mut node = Node::start(CRICKET).await;
    node.daemon.kill();
    let id = "0123456789abcdef".repeat(4);
    let results = node.dir().join("cni/cache/results");
    fs::create_dir_all(&results).unwrap();
    let record = results.join(format!("ck-{id}-eth0"));
    let lease = node.dir().join("cni/leases/ck/10.88.99.9");
    fs::create_dir_all(lease.parent().unwrap()).unwrap();
    for path in [&record, &lease] {
        let file = fs::File::create(path).unwrap();
        // Of a boot before this one.
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000))
            .unwrap();
    }
    assert_eq!(kinds(&node, &id), ["attachment"].map(String::from).into());
    node.daemon.launch();
    node.reconnect().await;
    node.until("the sweep", || !record.exists() && !lease.exists())
        .await;
    assert_eq!(doctor(&node, &[]), (0, "nothing without an owner\n".into()));
    node.finish().await;
}
