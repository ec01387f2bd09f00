//! Full disks: the root, the run root and the logs on small file systems without a byte or without
//! an inode. Pulls and new pods say what is missing and leave nothing; what runs can be listed,
//! stopped and removed, no end of a container is lost, and with space all goes on as before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use cricket_harness::cri::{ContainerState, PodSandboxState};
use cricket_harness::faults::Row;
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, leaks, meanwhile, requests, tools};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tonic::Status;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A small file system mounted over a directory; gone when dropped.
struct Small {
    at: PathBuf,
    _image: Option<tempfile::NamedTempFile>,
}

impl Small {
    fn tmpfs(at: &Path, options: &str) -> Small {
        let flags = MsFlags::empty();
        mount(Some("small"), at, Some("tmpfs"), flags, Some(options)).unwrap();
        let at = at.to_owned();
        Small { at, _image: None }
    }

    /// An ext4 of 400 MiB, of which 256 are kept free by pulls.
    fn ext4(at: &Path, inodes: u32) -> Small {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(400 << 20).unwrap();
        let mut make = Command::new(tools::need("mkfs.ext4"));
        make.args(["-q", "-F", "-m", "0", "-N", &inodes.to_string()]);
        tools::run(make.arg(image.path()));
        let mut mount = Command::new(tools::need("mount"));
        tools::run(mount.args(["-o", "loop"]).arg(image.path()).arg(at));
        Small {
            at: at.to_owned(),
            _image: Some(image),
        }
    }

    /// Leaves no byte; whoever writes even a name needs one sooner or later.
    fn fill(&self) {
        let mut filler = File::create(self.at.join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0x55; size];
            while filler.write_all(&piece).is_ok() {}
        }
        filler.sync_all().unwrap();
    }

    /// Leaves no inode.
    fn fill_inodes(&self) {
        let fillers = self.at.join("fillers");
        fs::create_dir(&fillers).unwrap();
        for number in 0.. {
            if File::create(fillers.join(number.to_string())).is_err() {
                return;
            }
        }
    }

    fn free(&self) {
        for path in ["filler", "fillers"].map(|name| self.at.join(name)) {
            let _one_of_them = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.at, MntFlags::MNT_DETACH) {
            eprintln!("{}: {error}", self.at.display());
        }
    }
}

/// A node whose daemon begins anew with a small file system in the place of `part`.
async fn node_with(part: &str, make: impl FnOnce(&Path) -> Small) -> (Node, Small) {
    let mut node = Node::start(CRICKET).await;
    assert!(node.daemon.stop().await.success());
    let small = make(&node.dir().join(part));
    node.daemon.launch();
    node.reconnect().await;
    (node, small)
}

/// Ends the node: nothing is left on the small file system either.
async fn finish(mut node: Node, small: Small) {
    for pod in node.cri.pods().await.unwrap() {
        node.cri.stop_pod(&pod.id).await.unwrap();
        node.cri.remove_pod(&pod.id).await.unwrap();
    }
    assert!(node.daemon.stop().await.success());
    for place in [
        "root/cricket/containers",
        "run/cricket/containers",
        "run/cricket/sandboxes",
    ] {
        let left = leaks::files(&node.dir().join(place));
        assert_eq!(left, Vec::<PathBuf>::new());
    }
    drop(small);
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

fn another_image(node: &mut Node) -> String {
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    let image = Image::builder()
        .layer(Layer::new().file("f", 0o644, &content), Compression::Gzip)
        .build();
    node.registry().push("another", "1", &image)
}

#[track_caller]
fn has(status: &Status, words: &[&str]) {
    for word in words {
        assert!(status.message().contains(word), "no `{word}`: {status:?}");
    }
}

/// Everything of the store but the counters of time.
fn stored(node: &Node) -> Vec<PathBuf> {
    let mut files = leaks::files(&node.daemon.root());
    files.sort();
    files
}

/// On a full root: nothing new begins, what is there can be used, stopped and removed, and a daemon
/// that is started finds all of it. `words` are in the error of a pull.
async fn lives_on_a_full_root(
    (mut node, small): (Node, Small),
    fill: impl Fn(&Small),
    words: &[&str],
) {
    let image = node.busybox().await;
    let another = another_image(&mut node);
    let (pod, running, config) = node.run("full", &image, &["sleep", "1000"]).await;
    let mut talking = requests::container("talking", &image, &["sh", "-c", "sleep 1000; exit 4"]);
    talking.log_path = String::new();
    let talking = node.run_in(&pod, &config, &talking).await;
    fill(&small);
    let before = stored(&node);

    let status = node.cri.pull(&another).await.expect_err("it does not fit");
    has(&status, words);
    let new = requests::container("new", &image, &["true"]);
    let status = node
        .cri
        .create(&pod, &new, &config)
        .await
        .expect_err("full");
    has(&status, &["No space left on device", "root"]);
    assert_eq!(stored(&node), before, "nothing is left of what did not fit");

    meanwhile::reads(&node).await;
    let said = node
        .cri
        .exec(&running, &["echo", "here"], 30)
        .await
        .unwrap();
    assert_eq!(said.stdout, b"here\n");
    node.crash().await;
    meanwhile::reads(&node).await;
    assert_eq!(node.cri.images().await.unwrap().len(), 1);
    let states = node.cri.containers().await.unwrap();
    let state = i32::from(ContainerState::ContainerRunning);
    assert!(states.len() == 2 && states.iter().all(|one| one.state == state));
    let said = node
        .cri
        .exec(&running, &["echo", "still"], 30)
        .await
        .unwrap();
    assert_eq!(said.stdout, b"still\n");

    node.cri.stop(&running, 0).await.unwrap();
    assert_eq!(node.cri.exited(&running).await.exit_code, 137);
    node.cri.remove(&running).await.unwrap();
    node.cri.stop_pod(&pod).await.unwrap();
    assert_eq!(node.cri.exited(&talking).await.exit_code, 137);
    node.cri.remove_pod(&pod).await.unwrap();
    assert_eq!(node.cri.containers().await.unwrap(), []);
    node.cri
        .remove_image(&image)
        .await
        .expect("that frees space");
    assert_eq!(node.cri.images().await.unwrap().len(), 0);

    small.free();
    node.cri.pull(&another).await.expect("it fits now");
    node.cri.pull(&image).await.unwrap();
    node.run("after", &image, &["sleep", "1000"]).await;
    finish(node, small).await;
}

#[tokio::test]
async fn on_a_root_without_a_byte_what_runs_goes_on_and_nothing_half_made_is_left() {
    let fault = "the root has no byte left";
    Row::repeat(fault, 5, async || {
        let node = node_with("root", |at| Small::ext4(at, 8192)).await;
        let words = ["another", "bytes", "free", "remove images"];
        lives_on_a_full_root(node, Small::fill, &words).await;
    })
    .await;
}

#[tokio::test]
async fn on_a_root_without_an_inode_what_runs_goes_on_and_the_error_says_inodes() {
    let fault = "the root has no inode left";
    Row::repeat(fault, 5, async || {
        let node = node_with("root", |at| Small::ext4(at, 4096)).await;
        let words = ["another", "0 inodes free", "1024 inodes", "remove images"];
        lives_on_a_full_root(node, Small::fill_inodes, &words).await;
    })
    .await;
}

/// On a full run root.
async fn lives_on_a_full_run_root(fill: impl Fn(&Small)) {
    let options = "size=8m,nr_inodes=1000,mode=755";
    let (mut node, small) = node_with("run", |at| Small::tmpfs(at, options)).await;
    let image = node.busybox().await;
    let (pod, running, config) = node.run("full", &image, &["sleep", "1000"]).await;
    let place = tempfile::tempdir().unwrap();
    let script = "while [ ! -e /gate/open ]; do sleep 0.05; done; exit 3";
    let mut ending = requests::container("ending", &image, &["sh", "-c", script]);
    ending
        .mounts
        .push(requests::mount(place.path(), "/gate", true));
    let ending = node.run_in(&pod, &config, &ending).await;
    let created = requests::container("created", &image, &["sleep", "1000"]);
    let created = node.cri.create(&pod, &created, &config).await.unwrap();
    fill(&small);

    let status = node.cri.run_pod(&node.pod_config("new")).await;
    has(
        &status.expect_err("full"),
        &["No space left on device", "run"],
    );
    assert_eq!(node.cri.pods().await.unwrap().len(), 1);
    // A kubelet tries again and again: nothing may stay of a refused call.
    let kept = |kind: &str| {
        fs::read_dir(node.daemon.runroot().join(kind))
            .unwrap()
            .count()
    };
    let more = requests::container("more", &image, &["true"]);
    let status = node.cri.create(&pod, &more, &config).await;
    has(
        &status.expect_err("full"),
        &["No space left on device", "run"],
    );
    assert_eq!((kept("sandboxes"), kept("containers")), (1, 3));
    node.cri.start(&created).await.expect("needs no space");
    for _ in 0..20 {
        let said = node.cri.exec(&running, &["echo", "here"], 30).await;
        assert_eq!(said.expect("exec needs no space").stdout, b"here\n");
    }
    meanwhile::reads(&node).await;
    fs::write(place.path().join("open"), "").unwrap();
    assert_eq!(node.cri.exited(&ending).await.exit_code, 3);
    node.cri.stop(&running, 0).await.unwrap();
    assert_eq!(node.cri.exited(&running).await.exit_code, 137);

    // What could not be written down, the monitors have.
    node.crash().await;
    meanwhile::reads(&node).await;
    assert_eq!(node.cri.exited(&ending).await.exit_code, 3);
    assert_eq!(node.cri.exited(&running).await.exit_code, 137);
    let alive = node.cri.container(&created).await.unwrap();
    assert_eq!(alive.state(), ContainerState::ContainerRunning);

    node.cri.stop_pod(&pod).await.unwrap();
    assert_eq!(node.cri.exited(&created).await.exit_code, 137);
    node.crash().await;
    let state = node.cri.pod(&pod).await.unwrap().state();
    assert_eq!(state, PodSandboxState::SandboxNotready, "it was stopped");
    assert_eq!(node.cri.exited(&created).await.exit_code, 137);
    node.cri.remove(&ending).await.unwrap();
    node.cri.remove_pod(&pod).await.unwrap();
    assert_eq!(node.cri.containers().await.unwrap(), []);

    small.free();
    node.run("after", &image, &["sleep", "1000"]).await;
    finish(node, small).await;
}

#[tokio::test]
async fn on_a_run_root_without_a_byte_no_end_is_lost_and_a_stopped_pod_stays_stopped() {
    let fault = "the run root has no byte left";
    Row::repeat(fault, 5, async || {
        lives_on_a_full_run_root(Small::fill).await;
    })
    .await;
}

#[tokio::test]
async fn on_a_run_root_without_an_inode_no_end_is_lost_and_a_stopped_pod_stays_stopped() {
    let fault = "the run root has no inode left";
    Row::repeat(fault, 5, async || {
        lives_on_a_full_run_root(Small::fill_inodes).await;
    })
    .await;
}

#[tokio::test]
async fn a_full_log_disk_stops_no_container_and_the_log_goes_on_with_whole_lines() {
    let fault = "the disk of the logs has no byte left";
    Row::repeat(fault, 5, async || {
        let (mut node, small) = node_with("logs", |at| Small::tmpfs(at, "size=256k")).await;
        let image = node.busybox().await;
        let script = "trap 'exit 9' TERM; n=0; while :; do n=$((n+1)); echo line $n; echo $n > /n; \
                      sleep 0.01; done";
        let (_pod, id, config) = node.run("talks", &image, &["sh", "-c", script]).await;
        let log = node.log_file(&config, "main");
        let lines = || fs::read_to_string(&log).unwrap().lines().count();
        node.until("it talks", || lines() > 10).await;
        small.fill();
        let count = async || {
            let said = node.cri.exec(&id, &["cat", "/n"], 30).await.unwrap();
            String::from_utf8(said.stdout)
                .unwrap()
                .trim()
                .parse()
                .unwrap_or(0_u64)
        };
        // Far more than the rest of the log's last page takes.
        let begun = count().await;
        while count().await < begun + 500 {
            meanwhile::reads(&node).await;
        }
        small.free();
        let now = format!("line {}", count().await + 1);
        let told = || {
            node.log_records(&log)
                .iter()
                .any(|(_, _, text)| *text == now)
        };
        node.until("the log goes on", told).await;
        small.fill();
        node.cri.stop(&id, 30).await.unwrap();
        assert_eq!(node.cri.exited(&id).await.exit_code, 9);
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.ends_with('\n'));
        let whole = |(stream, tag, text): &(String, String, String)| {
            stream == "stdout" && tag == "F" && text.starts_with("line ")
        };
        assert!(node.log_records(&log).iter().all(whole), "{text}");
        finish(node, small).await;
    })
    .await;
}
