//! Calls whose client gives up while the OCI runtime is at work: the work goes on, and what it made
//! is there before anybody asks again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cricket_harness::cri::NamespaceMode;
use cricket_harness::daemon::Options;
use cricket_harness::{Node, requests};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A runtime whose `create` notes that it has begun, and waits until the gate is open.
fn gated(options: &mut Options, dir: &Path) {
    let program = dir.join("gated-runtime");
    let script = format!(
        "#!/bin/sh\nfor word; do\n if [ \"$word\" = create ]; then\n  echo >> {dir}/begun\n  \
         while [ ! -e {dir}/open ]; do sleep 0.02; done\n fi\ndone\nexec {runc} \"$@\"\n",
        dir = dir.display(),
        runc = options.runtime.display(),
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    options.runtime = program;
}

/// How often `create` has begun.
fn begun(dir: &Path) -> usize {
    let text = fs::read_to_string(dir.join("begun"));
    text.map_or(0, |text| text.lines().count())
}

fn files(dir: &Path) -> [PathBuf; 2] {
    ["begun", "open"].map(|name| dir.join(name))
}

fn ids<T>(list: &[T], id: fn(&T) -> &String) -> Vec<String> {
    list.iter().map(|one| id(one).clone()).collect()
}

/// The one thing of a list, as soon as there is one.
async fn only(list: impl AsyncFn() -> Vec<String>) -> String {
    for _ in 0..6000 {
        if let [id] = list().await.as_slice() {
            return id.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was listed within 60 s");
}

#[tokio::test]
async fn a_call_that_is_given_up_goes_on_and_its_retry_gets_the_result() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let mut node = Node::start_with(CRICKET, |options| gated(options, dir)).await;
    let image = node.busybox().await;
    let [begun_file, open] = files(dir);
    let mut config = node.pod_config("patient");
    // So that the runtime makes something for the pod: its pause process.
    requests::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();

    let (cri, wanted) = (node.cri.clone(), config.clone());
    let call = tokio::spawn(async move { cri.run_pod(&wanted).await });
    node.until("the pod's create begins", || begun(dir) == 1)
        .await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    fs::write(&open, "").unwrap();
    let pod = only(async || ids(&node.cri.pods().await.unwrap(), |pod| &pod.id)).await;
    assert_eq!(node.cri.run_pod(&config).await.unwrap(), pod);
    assert_eq!(begun(dir), 1, "the retry made nothing");

    fs::remove_file(&open).unwrap();
    fs::remove_file(&begun_file).unwrap();
    let container = requests::container("main", &image, &["sleep", "1000"]);
    let (cri, wanted) = (
        node.cri.clone(),
        (pod.clone(), container.clone(), config.clone()),
    );
    let call = tokio::spawn(async move { cri.create(&wanted.0, &wanted.1, &wanted.2).await });
    node.until("the container's create begins", || begun(dir) == 1)
        .await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    fs::write(&open, "").unwrap();
    let id = only(async || ids(&node.cri.containers().await.unwrap(), |one| &one.id)).await;
    let again = node.cri.create(&pod, &container, &config).await.unwrap();
    assert_eq!(again, id);
    assert_eq!(begun(dir), 1, "the retry made nothing");
    node.finish().await;
}
