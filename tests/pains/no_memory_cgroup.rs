//! A node whose kernel does not account memory, as ARM boards come: the daemon runs what can be
//! run, and says what is missing and how it is mended, in its log and in Status.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cricket_harness::cri::StatusRequest;
use cricket_harness::{Node, requests, tools};

use super::CRICKET;

const MEMORY: &str = "/sys/fs/cgroup/memory";

/// A program that becomes the daemon where the memory hierarchy is not mounted.
fn without_memory(directory: &Path) -> PathBuf {
    let program = directory.join("cricket-without-memory");
    let script = format!(
        "#!/bin/sh\nexec {} --mount --propagation slave sh -c \
         'umount {MEMORY} && exec \"$0\" \"$@\"' {CRICKET} \"$@\"\n",
        tools::need("unshare").display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[tokio::test]
async fn without_the_memory_cgroup_status_and_log_name_the_remedy() {
    if !Path::new(MEMORY).is_dir() {
        // With cgroup v2 a controller cannot be taken from one process; src/cgroup has the rest.
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let program = without_memory(scratch.path());
    let mut node = Node::start(&program).await;
    let reply = node.cri.status(StatusRequest::default()).await.unwrap();
    let conditions = reply.status.unwrap().conditions;
    let found = conditions
        .iter()
        .find(|one| one.r#type == "MemoryCgroupReady")
        .unwrap_or_else(|| panic!("not told: {conditions:?}"));
    assert!(!found.status);
    assert!(found.message.contains(MEMORY), "{}", found.message);
    assert!(node.daemon.log().contains(&found.message));
    let ready = |name: &str| {
        conditions
            .iter()
            .any(|one| one.r#type == name && one.status)
    };
    assert!(
        ready("RuntimeReady"),
        "what needs no limit can run: {conditions:?}"
    );

    let image = node.busybox().await;
    let (pod, id, config) = node.run("unlimited", &image, &["sleep", "1000"]).await;
    assert_eq!(
        node.cri.exec(&id, &["true"], 60).await.unwrap().exit_code,
        0
    );
    // A limit is kept or refused, never dropped.
    let mut limited = requests::container("limited", &image, &["sleep", "1000"]);
    requests::resources(&mut limited).memory_limit_in_bytes = 64 << 20;
    let refused = node.cri.create(&pod, &limited, &config).await.unwrap_err();
    assert!(refused.message().contains("memory"), "{refused}");
    node.finish().await;
}
