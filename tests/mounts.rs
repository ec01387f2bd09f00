//! Mounts as the kernel shows them: propagation, recursive read-only, nesting, sources, options.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cricket_harness::cri::*;
use cricket_harness::{Node, requests, tools};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A mount of the test's; gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// A tmpfs.
    fn tmpfs(at: &Path) -> Mounted {
        fs::create_dir_all(at).unwrap();
        let none = None::<&str>;
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        Mounted(at.to_owned())
    }

    /// A tmpfs with this propagation.
    fn with(at: &Path, flags: MsFlags) -> Mounted {
        let mounted = Mounted::tmpfs(at);
        let none = None::<&str>;
        mount(none, at, none, flags, none).unwrap();
        mounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone_already = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// What a shell command in the container writes.
async fn sh(node: &Node, container: &str, script: &str) -> String {
    let ran = node.cri.exec(container, &["sh", "-c", script], 10).await;
    let ran = ran.unwrap_or_else(|error| panic!("{script}: {error:?}"));
    String::from_utf8([ran.stdout, ran.stderr].concat())
        .unwrap()
        .trim()
        .to_owned()
}

fn propagating(host: &Path, to: &str, propagation: MountPropagation) -> Mount {
    Mount {
        propagation: propagation.into(),
        ..requests::mount(host, to, false)
    }
}

/// A pod that may hold privileged containers.
fn privileged_pod(node: &Node) -> PodSandboxConfig {
    let mut pod = node.pod_config("mounts");
    let linux = pod.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().privileged = true;
    pod
}

#[tokio::test]
async fn later_mounts_go_the_ways_that_propagation_says() {
    use MountPropagation::*;
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let shared = node.dir().join("shared");
    let tmpfs = Mounted::with(&shared, MsFlags::MS_SHARED);
    let pod = privileged_pod(&node);
    let id = node.cri.run_pod(&pod).await.unwrap();
    let modes = [
        ("private", PropagationPrivate, false, false),
        ("slave", PropagationHostToContainer, true, false),
        ("both", PropagationBidirectional, true, true),
    ];
    let mut containers = Vec::new();
    for (name, mode, ..) in modes {
        let mut container = requests::container(name, &image, &["sleep", "1000"]);
        container.mounts = vec![propagating(&shared, "/data", mode)];
        requests::security(&mut container).privileged = true;
        containers.push(node.run_in(&id, &pod, &container).await);
    }
    let later = Mounted::tmpfs(&shared.join("later"));
    fs::write(shared.join("later/word"), "seen").unwrap();
    for ((name, _, into, out), container) in modes.into_iter().zip(&containers) {
        let seen = sh(&node, container, "cat /data/later/word 2>/dev/null").await;
        assert_eq!(seen == "seen", into, "{name}: {seen}");
        let script =
            format!("mkdir /data/of-{name} && mount -t tmpfs none /data/of-{name} && echo made");
        assert_eq!(sh(&node, container, &script).await, "made");
        let at = shared.join(format!("of-{name}"));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mounts.contains(at.to_str().unwrap()), out, "{name}");
        if out {
            assert_eq!(sh(&node, container, "umount /data/of-both").await, "");
        }
    }
    drop((later, tmpfs));
    node.finish().await;
}

#[tokio::test]
async fn propagation_that_the_source_cannot_give_is_refused_with_the_remedy() {
    use MountPropagation::*;
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (private, master, slave) = ("private", "master", "slave").into_paths(node.dir());
    let mounts = [
        Mounted::with(&private, MsFlags::MS_PRIVATE),
        Mounted::with(&master, MsFlags::MS_SHARED),
    ];
    fs::create_dir(&slave).unwrap();
    let none = None::<&str>;
    mount(Some(&master), &slave, none, MsFlags::MS_BIND, none).unwrap();
    let bound = Mounted(slave.clone());
    mount(none, &slave, none, MsFlags::MS_SLAVE, none).unwrap();
    let pod = node.pod_config("mounts");
    let id = node.cri.run_pod(&pod).await.unwrap();
    for (host, mode, refused) in [
        (&private, PropagationBidirectional, Some("shared")),
        (&private, PropagationHostToContainer, Some("slave")),
        (&slave, PropagationBidirectional, Some("shared")),
        (&slave, PropagationHostToContainer, None),
        (&master, PropagationBidirectional, None),
    ] {
        let mut container = requests::container("main", &image, &["sleep", "1000"]);
        container.mounts = vec![propagating(host, "/data", mode)];
        let created = node.cri.create(&id, &container, &pod).await;
        match (created, refused) {
            (Ok(container), None) => node.cri.remove(&container).await.unwrap(),
            (Err(error), Some(needed)) => {
                let remedy = format!("mount --make-r{needed}");
                assert!(error.message().contains(&remedy), "{error:?}");
            }
            (created, refused) => panic!("{host:?} {mode:?}: {created:?}, not {refused:?}"),
        }
    }
    drop((bound, mounts));
    node.finish().await;
}

trait IntoPaths {
    fn into_paths(self, below: &Path) -> (PathBuf, PathBuf, PathBuf);
}

impl IntoPaths for (&str, &str, &str) {
    fn into_paths(self, below: &Path) -> (PathBuf, PathBuf, PathBuf) {
        (below.join(self.0), below.join(self.1), below.join(self.2))
    }
}

#[tokio::test]
async fn a_recursive_read_only_mount_holds_below_and_what_cannot_be_one_is_refused() {
    let mut node = Node::start_with(CRICKET, |options| {
        options.extra_config = format!(
            "[crio.runtime.runtimes.silent]\nruntime_path = \"{}\"\n",
            tools::need("false").display()
        );
    })
    .await;
    let image = node.busybox().await;
    let host = node.dir().join("host");
    let inner = Mounted::tmpfs(&host.join("inner"));
    let pod = node.pod_config("mounts");
    let id = node.cri.run_pod(&pod).await.unwrap();
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    let recursive = Mount {
        recursive_read_only: true,
        ..requests::mount(&host, "/recursive", true)
    };
    container.mounts = vec![requests::mount(&host, "/plain", true), recursive.clone()];
    let main = node.run_in(&id, &pod, &container).await;
    let touch = |path: &str| format!("touch {path}/x 2>/dev/null && echo can || echo cannot");
    for (path, want) in [
        ("/plain", "cannot"),
        ("/plain/inner", "can"),
        ("/recursive", "cannot"),
        ("/recursive/inner", "cannot"),
    ] {
        assert_eq!(sh(&node, &main, &touch(path)).await, want, "{path}");
    }
    let mounts = node.cri.container(&main).await.unwrap().mounts;
    assert!(mounts[1].recursive_read_only && mounts[1].readonly);

    container.metadata.as_mut().unwrap().name = "refused".into();
    let (mut writable, mut slave, mut both) =
        (recursive.clone(), recursive.clone(), recursive.clone());
    writable.readonly = false;
    slave.propagation = MountPropagation::PropagationHostToContainer.into();
    both.propagation = MountPropagation::PropagationBidirectional.into();
    for (mount, problem) in [
        (writable, "needs readonly"),
        (slave, "needs private propagation"),
        (both, "needs private propagation"),
    ] {
        container.mounts = vec![mount];
        let error = node.cri.create(&id, &container, &pod).await.unwrap_err();
        assert!(error.message().contains(problem), "{error:?}");
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
    }
    // A runtime that has no word of it: the kubelet looks for the first word, with code Unknown.
    let silent = node.pod_config("silent");
    let silent_id = node.cri.run_pod_with(&silent, "silent").await.unwrap();
    container.mounts = vec![recursive];
    let error = node
        .cri
        .create(&silent_id, &container, &silent)
        .await
        .unwrap_err();
    assert!(error.message().starts_with("RROUnsupported"), "{error:?}");
    assert_eq!(error.code(), tonic::Code::Unknown);
    drop(inner);
    node.finish().await;
}

#[tokio::test]
async fn nested_mounts_in_any_order_are_all_seen() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let host = |name: &str| {
        let path = node.dir().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("word"), name).unwrap();
        path
    };
    let (outer, middle, inner) = (host("outer"), host("middle"), host("inner"));
    let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];
    let all = [
        requests::mount(&outer, "/a", false),
        requests::mount(&middle, "/a/b", true),
        requests::mount(&inner, "/a/b/../b/c/", false),
    ];
    // A read-only mount needs the place of what is mounted in it.
    fs::create_dir(middle.join("c")).unwrap();
    let pod = node.pod_config("mounts");
    let id = node.cri.run_pod(&pod).await.unwrap();
    for (number, order) in orders.iter().enumerate() {
        let name = format!("c{number}");
        let mut container = requests::container(&name, &image, &["sleep", "1000"]);
        container.mounts = order.iter().map(|at| all[*at].clone()).collect();
        let created = node.run_in(&id, &pod, &container).await;
        let shown = sh(
            &node,
            &created,
            "cat /a/word /a/b/word /a/b/c/word; touch /a/b/x",
        )
        .await;
        assert!(shown.starts_with("outermiddleinner"), "{order:?}: {shown}");
        assert!(shown.contains("Read-only"), "{order:?}: {shown}");
        let mounts = node.cri.container(&created).await.unwrap().mounts;
        assert_eq!(mounts, container.mounts, "{order:?}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_source_is_resolved_made_when_missing_and_may_be_a_file() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let at = |name: &str| node.dir().join(name);
    fs::create_dir(at("real")).unwrap();
    fs::write(at("real/word"), "real").unwrap();
    std::os::unix::fs::symlink("real", at("link")).unwrap();
    let pod = node.pod_config("mounts");
    let id = node.cri.run_pod(&pod).await.unwrap();
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    container.mounts = vec![
        requests::mount(&at("link"), "/link", false),
        requests::mount(&at("link/word"), "/file", true),
        requests::mount(&at("link/not/yet"), "/made", false),
    ];
    let main = node.run_in(&id, &pod, &container).await;
    assert_eq!(sh(&node, &main, "cat /link/word /file").await, "realreal");
    assert_eq!(
        sh(&node, &main, "echo x > /made/new && cat /link/not/yet/new").await,
        "x"
    );
    assert!(at("real/not/yet/new").is_file());
    // The link stays what the client sent.
    let mounts = node.cri.container(&main).await.unwrap().mounts;
    assert_eq!(mounts, container.mounts);
    node.finish().await;
}

#[tokio::test]
async fn mount_options_are_applied_and_unknown_ones_refused() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let host = node.dir().join("host");
    fs::create_dir(&host).unwrap();
    tools::run(
        Command::new("cp")
            .args(["/bin/busybox"])
            .arg(host.join("true")),
    );
    let pod = node.pod_config("mounts");
    let id = node.cri.run_pod(&pod).await.unwrap();
    let with = |to: &str, options: &[&str]| Mount {
        mount_options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..requests::mount(&host, to, false)
    };
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    container.mounts = vec![
        with("/plain", &[]),
        with("/bare", &["noexec", "nodev", "nosuid"]),
    ];
    let main = node.run_in(&id, &pod, &container).await;
    assert_eq!(sh(&node, &main, "/plain/true && echo ran").await, "ran");
    let refused = sh(&node, &main, "/bare/true && echo ran").await;
    assert!(refused.contains("Permission denied"), "{refused}");
    let line = sh(&node, &main, "grep ' /bare ' /proc/self/mountinfo").await;
    for option in ["noexec", "nodev", "nosuid"] {
        assert!(line.contains(option), "{line}");
    }
    let mounts = node.cri.container(&main).await.unwrap().mounts;
    assert_eq!(mounts[1].mount_options, ["noexec", "nodev", "nosuid"]);
    container.metadata.as_mut().unwrap().name = "refused".into();
    for bad in ["exec", "suid", "remount", "bind", "", "noexec,rw"] {
        container.mounts = vec![with("/data", &[bad])];
        let error = node.cri.create(&id, &container, &pod).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{bad}");
        assert!(error.message().contains("mount_options"), "{error:?}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_container_that_sees_the_store_does_not_hold_the_roots_of_others() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    // The store becomes part of a shared mount, as it is on a node with systemd.
    let root = node.dir().join("root");
    let none = None::<&str>;
    mount(Some(&root), &root, none, MsFlags::MS_BIND, none).unwrap();
    let bound = Mounted(root.clone());
    mount(none, &root, none, MsFlags::MS_SHARED, none).unwrap();
    node.crash().await;
    let pod = node.pod_config("mounts");
    let id = node.cri.run_pod(&pod).await.unwrap();
    let other = requests::container("other", &image, &["sleep", "1000"]);
    let other = node.run_in(&id, &pod, &other).await;
    let mut watching = requests::container("watching", &image, &["sleep", "1000"]);
    watching.mounts = vec![requests::mount(&root, "/store", true)];
    let watching = node.run_in(&id, &pod, &watching).await;
    let holds = format!("grep -c {other}/merged /proc/self/mountinfo");
    assert_eq!(sh(&node, &watching, &holds).await, "1");
    node.cri.stop(&other, 0).await.unwrap();
    node.cri.remove(&other).await.unwrap();
    assert_eq!(sh(&node, &watching, &holds).await, "0");
    node.cri.remove(&watching).await.unwrap();
    node.daemon.kill();
    drop(bound);
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}
