//! How often the OCI runtime is run: each run is a process of some ten milliseconds of CPU time, so
//! probes by the thousand and a restart with hundreds of containers must not need more than they do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cricket_harness::cri::ContainerState;
use cricket_harness::daemon::Options;
use cricket_harness::{Node, leaks, requests};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::CRICKET;

/// A runtime that writes down with what it was called.
fn noting(options: &mut Options, note: &Path) {
    let program = note.with_file_name("noting-runtime");
    let runc = options.runtime.display();
    let script = format!(
        "#!/bin/sh\nfor word; do case \"$word\" in create|start|exec|state|kill|delete|ps|list|\
         update|events|pause|resume|features) echo \"$word\" >> {note}; break;; esac; done\n\
         exec {runc} \"$@\"\n",
        note = note.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    options.runtime = program;
}

#[tokio::test]
async fn a_probe_is_one_run_of_the_runtime_and_writes_nothing_to_disk() {
    let notes = tempfile::tempdir().unwrap();
    let note = notes.path().join("calls");
    let mut node = Node::start_with(CRICKET, |options| noting(options, &note)).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("cheap", &image, &["sleep", "1000"]).await;
    node.cri.exec(&id, &["true"], 60).await.unwrap();
    fs::write(&note, "").unwrap();
    let seen = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    let root = node.daemon.root();
    let container = root.join("containers").join(&id);
    let kinds = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY;
    for directory in [
        &root,
        &root.join("containers"),
        &container,
        &container.join("diff"),
    ] {
        seen.add_watch(directory, kinds).unwrap();
    }
    let volatile = || leaks::files(&node.daemon.runroot());
    let before = volatile();
    for _ in 0..20 {
        let reply = node.cri.exec(&id, &["true"], 60).await.unwrap();
        assert_eq!(reply.exit_code, 0);
    }
    assert_eq!(fs::read_to_string(&note).unwrap(), "exec\n".repeat(20));
    let seen = seen.read_events();
    assert_eq!(seen.as_ref().err(), Some(&Errno::EAGAIN), "{seen:?}");
    assert_eq!(volatile(), before);
    node.finish().await;
}

#[tokio::test]
async fn a_restart_asks_no_runtime_about_containers() {
    let notes = tempfile::tempdir().unwrap();
    let note = notes.path().join("calls");
    let mut node = Node::start_with(CRICKET, |options| noting(options, &note)).await;
    let image = node.busybox().await;
    let (pod, first, config) = node.run("restart", &image, &["sleep", "1000"]).await;
    let mut running = vec![first];
    for number in 0..4 {
        let name = format!("more{number}");
        let container = requests::container(&name, &image, &["sleep", "1000"]);
        running.push(node.run_in(&pod, &config, &container).await);
    }
    let ended = requests::container("ended", &image, &["sh", "-c", "exit 4"]);
    let ended = node.run_in(&pod, &config, &ended).await;
    node.cri.exited(&ended).await;
    // What it leaves is released by the runtime's `delete`, in the background.
    node.until("its release", || {
        fs::read_to_string(&note).unwrap().contains("delete")
    })
    .await;
    fs::write(&note, "").unwrap();
    node.crash().await;
    for id in running {
        let status = node.cri.container(&id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
    }
    assert_eq!(node.cri.container(&ended).await.unwrap().exit_code, 4);
    let calls = fs::read_to_string(&note).unwrap();
    let about_containers = calls.lines().filter(|call| *call != "features");
    assert_eq!(about_containers.collect::<Vec<_>>(), Vec::<&str>::new());
    node.finish().await;
}
