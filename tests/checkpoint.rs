//! CheckpointContainer. criu works on few kernels of test machines, so a double stands in for it
//! and for the runtime's `checkpoint`; freezing, the archive and the rest are real.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cricket_harness::cri::*;
use cricket_harness::{Node, tools};
use nix::mount::{MsFlags, mount, umount};
use tonic::{Code, Status};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A node whose criu says that it works, when `works`, and whose runtime writes what criu would,
/// or fails when the container has asked for that.
async fn node(works: bool) -> (Node, tempfile::TempDir) {
    let doubles = tempfile::tempdir().unwrap();
    let criu = format!("#!/bin/sh\nexit {}\n", i32::from(!works));
    script(&doubles.path().join("bin/criu"), &criu);
    let runtime = doubles.path().join("runtime");
    let real = std::env::var("CRICKET_TEST_RUNTIME")
        .unwrap_or_else(|_| tools::need("runc").to_string_lossy().into_owned());
    let text = format!(
        r#"#!/bin/sh
case " $* " in
  *" checkpoint "*) ;;
  *) exec {real} "$@" ;;
esac
globals="$1 $2"
[ "$3" != --systemd-cgroup ] || {{ globals="$globals $3"; shift; }}
[ "$({real} $globals state "$9" | grep -c '"paused"')" = 1 ] || {{ echo 'not frozen' >&2; exit 1; }}
[ -e {doubles}/fail ] && {{ echo 'criu failed: type NOTIFY' >&2; exit 1; }}
echo pages > "$6/pages-1.img"; touch {doubles}/dumping
while [ -e {doubles}/hold ]; do sleep 0.02; done
echo log > "$8/dump.log"
"#,
        doubles = doubles.path().display()
    );
    script(&runtime, &text);
    let mut node = Node::start_with(CRICKET, |options| options.runtime = runtime.clone()).await;
    assert!(node.daemon.stop().await.success());
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", doubles.path().join("bin").display());
    node.daemon.set_env("PATH", Path::new(&path));
    node.daemon.launch();
    node.reconnect().await;
    (node, doubles)
}

async fn checkpoint(node: &Node, id: &str, location: &Path) -> Result<(), Status> {
    let request = CheckpointContainerRequest {
        container_id: id.to_owned(),
        location: location.to_string_lossy().into_owned(),
        timeout: 60,
    };
    node.cri.checkpoint_container(request).await.map(drop)
}

fn in_directory(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The archive is CRI-O's, of the container that the test has made.
fn holds_everything(archive: &Path, id: &str) {
    let unpacked = tempfile::tempdir().unwrap();
    tools::run(
        Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(unpacked.path()),
    );
    let read = |name: &str| std::fs::read(unpacked.path().join(name)).unwrap();
    let json = |name: &str| serde_json::from_slice::<serde_json::Value>(&read(name)).unwrap();
    assert_eq!(read("checkpoint/pages-1.img"), b"pages\n");
    assert_eq!(read("dump.log"), b"log\n");
    assert_eq!(json("config.dump")["id"], id);
    assert!(json("spec.dump")["process"]["args"].is_array());
    let deleted = json("deleted.files");
    assert!(
        deleted.as_array().unwrap().contains(&"/bin/vi".into()),
        "{deleted}"
    );
    let mounts = json("bind.mounts");
    assert!(
        mounts
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["destination"] == "/etc/resolv.conf"),
        "{mounts}"
    );
    let logged = String::from_utf8(read("io.kubernetes.cri-o.LogPath")).unwrap();
    assert!(logged.contains("logged"));
    let changes = unpacked.path().join("rootfs-diff.tar");
    let changes = tools::run(Command::new("tar").arg("-tf").arg(changes));
    assert!(changes.lines().any(|line| line == "tmp/new"), "{changes}");
}

#[tokio::test]
async fn a_checkpoint_holds_processes_changes_and_log_and_the_container_goes_on() {
    let (mut node, doubles) = node(true).await;
    let image = node.busybox().await;
    let work = "echo new > /tmp/new; rm /bin/vi; echo logged; while true; do sleep 0.1; done";
    let (_, id, config) = node.run("frozen", &image, &["sh", "-c", work]).await;
    let log = node.log_file(&config, "main");
    node.until("the line is logged", || {
        std::fs::read_to_string(&log).unwrap().contains("logged")
    })
    .await;
    let place = node.dir().join("checkpoints");
    std::fs::create_dir(&place).unwrap();
    let archive = place.join("one.tar");
    checkpoint(&node, &id, &archive).await.unwrap();
    assert_eq!(
        in_directory(&place),
        std::slice::from_ref(&archive),
        "nothing else is left"
    );
    let mode = std::fs::metadata(&archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    holds_everything(&archive, &id);

    let alive = node.cri.exec(&id, &["echo", "on"], 20).await.unwrap();
    assert_eq!(alive.stdout, b"on\n", "it is not frozen any more");
    std::fs::write(doubles.path().join("fail"), "").unwrap();
    let error = checkpoint(&node, &id, &place.join("two.tar"))
        .await
        .unwrap_err();
    assert!(
        error.message().contains("criu failed: type NOTIFY"),
        "{error:?}"
    );
    assert_eq!(
        in_directory(&place),
        [archive],
        "nothing of the second is left"
    );
    let alive = node.cri.exec(&id, &["echo", "on"], 20).await.unwrap();
    assert_eq!(alive.stdout, b"on\n");
    for bad in [
        Path::new("relative.tar"),
        &place,
        Path::new("/no/such/place/a.tar"),
    ] {
        let error = checkpoint(&node, &id, bad).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(error.message().starts_with("location: "), "{error:?}");
    }
    let missing = checkpoint(&node, &"0".repeat(64), &place.join("a.tar")).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    node.cri.stop(&id, 0).await.unwrap();
    let ended = checkpoint(&node, &id, &place.join("a.tar")).await;
    assert_eq!(ended.unwrap_err().code(), Code::FailedPrecondition);
    node.finish().await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_in_a_checkpoint_leaves_no_memory_and_no_frozen_container() {
    let (mut node, doubles) = node(true).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("killed", &image, &["sleep", "1000"]).await;
    let place = node.dir().join("checkpoints");
    std::fs::create_dir(&place).unwrap();
    let archive = place.join("one.tar");
    let hold = doubles.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    let call = tokio::spawn({
        let (cri, id, location) = (node.cri.clone(), id.clone(), archive.display().to_string());
        async move {
            let request = CheckpointContainerRequest {
                container_id: id,
                location,
                timeout: 60,
            };
            cri.checkpoint_container(request).await.map(drop)
        }
    });
    let dumping = doubles.path().join("dumping");
    node.until("the dump", || dumping.exists()).await;
    node.daemon.kill();
    assert!(call.await.unwrap().is_err());
    let [left] = &in_directory(&place)[..] else {
        panic!("the memory of its processes");
    };
    // It cannot be removed for now, and is not forgotten for another checkpoint.
    let held = left.join("held");
    std::fs::create_dir(&held).unwrap();
    mount(
        Some("held"),
        &held,
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    node.daemon.launch();
    node.reconnect().await;
    // Thawed soon: the restart does not wait for the runtime.
    while node.cri.exec(&id, &["true"], 20).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let other = checkpoint(&node, &id, &place.join("two.tar")).await;
    let refused = other.unwrap_err();
    let named = left.display().to_string();
    assert!(refused.message().contains(&named), "{refused:?}");
    umount(&held).unwrap();
    node.crash().await;
    node.until("nothing is left", || in_directory(&place).is_empty())
        .await;
    std::fs::remove_file(&hold).unwrap();
    checkpoint(&node, &id, &archive).await.unwrap();
    assert_eq!(in_directory(&place), [archive]);
    node.finish().await;
}

#[tokio::test]
async fn without_a_criu_that_works_the_answer_is_the_one_that_tests_skip_by() {
    let (mut node, _doubles) = node(false).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("plain", &image, &["sleep", "1000"]).await;
    let error = checkpoint(&node, &id, &node.dir().join("a.tar"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(
        error
            .message()
            .starts_with("checkpoint/restore support not available: "),
        "{error:?}"
    );
    let pod = node
        .cri
        .checkpoint_pod(CheckpointPodRequest::default())
        .await;
    assert_eq!(pod.unwrap_err().code(), Code::Unimplemented);
    let pod = node.cri.restore_pod(RestorePodRequest::default()).await;
    assert_eq!(pod.unwrap_err().code(), Code::Unimplemented);
    node.finish().await;
}
