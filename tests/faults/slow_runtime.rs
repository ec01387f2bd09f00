//! The daemon is killed while the OCI runtime is in the middle of `create`, and started again before
//! that goes on: the runtime knows nothing of the container yet, and its monitor nothing of the
//! daemon's end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cricket_harness::daemon::Options;
use cricket_harness::faults::{Row, tries};
use cricket_harness::{Node, leaks, requests};

use super::CRICKET;

/// A runtime that is stopped in the middle of `create`: as many milliseconds after its start as the
/// file `after` says, until there is `go`. Without `after` it is not stopped.
fn stopped_in_create(options: &mut Options, dir: &Path) {
    let script = format!(
        r#"#!/bin/sh
for word; do
  [ "$word" = create ] && [ -e {dir}/after ] || continue
  {runc} "$@" & runc=$!
  sleep "$(cat {dir}/after)"
  kill -STOP $runc
  echo >> {dir}/stopped
  while [ ! -e {dir}/go ]; do sleep 0.02; done
  kill -CONT $runc
  wait $runc
  exit
done
exec {runc} "$@"
"#,
        dir = dir.display(),
        runc = options.runtime.display(),
    );
    let program = dir.join("stopped-runtime");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    options.runtime = program;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_the_runtimes_create() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut node = Node::start_with(CRICKET, |options| stopped_in_create(options, dir)).await;
    let image = node.busybox().await;
    let mut row = Row::new("kill -9 while the OCI runtime is in the middle of create");
    let config = node.pod_config("slow");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let container = requests::container("main", &image, &["sleep", "1000"]);
    let [after, stopped, go] = ["after", "stopped", "go"].map(|name| dir.join(name));
    for round in 0..tries(6, 40) {
        // runc takes some 60 ms here.
        let milliseconds = round * 12 % 90;
        fs::write(&after, format!("0.{milliseconds:03}")).unwrap();
        let call = tokio::spawn({
            let (cri, pod) = (node.cri.clone(), pod.clone());
            let (container, config) = (container.clone(), config.clone());
            async move { cri.create(&pod, &container, &config).await.map(drop) }
        });
        node.until("the runtime is stopped", || stopped.exists())
            .await;
        node.daemon.kill();
        fs::remove_file(&after).unwrap();
        node.daemon.launch();
        node.reconnect().await;
        row.tried();
        fs::write(&go, "").unwrap();
        drop(call.await);
        let id = node.cri.create(&pod, &container, &config).await;
        row.lost(
            id.as_ref()
                .map(drop)
                .map_err(|error| format!("{milliseconds} ms: {error}")),
        );
        if let Ok(id) = id {
            node.cri.start(&id).await.unwrap();
            node.cri.remove(&id).await.unwrap();
        }
        row.left(left_behind(&node, &pod).await);
        fs::remove_file(&stopped).unwrap();
        fs::remove_file(&go).unwrap();
    }
    node.finish().await;
    row.end();
}

/// Processes, cgroups and files that are not the pod's own, once they have had time to go.
async fn left_behind(node: &Node, pod: &str) -> Vec<String> {
    let mut left = Vec::new();
    for _ in 0..500 {
        let words = [node.dir().to_string_lossy().into_owned(), node.cgroup()];
        let registry = node.dir().join("registry").to_string_lossy().into_owned();
        let processes = leaks::processes_with(&words).into_iter();
        left = processes
            .filter(|(pid, facts)| {
                Some(*pid) != node.daemon.running() && !facts.contains(&registry)
            })
            .map(|(pid, facts)| format!("process {pid} {facts}"))
            .collect();
        let cgroups = leaks::cgroups_with(&[node.cgroup()]).into_iter();
        let cgroups = cgroups.map(|path| path.to_string_lossy().into_owned());
        left.extend(cgroups.filter(|path| path.contains("crio-") && !path.contains(pod)));
        for place in [
            node.daemon.runroot().join("containers"),
            node.dir().join("run/runc"),
        ] {
            let files = leaks::files(&place).into_iter();
            left.extend(files.map(|file| format!("file {}", file.display())));
        }
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    left
}
