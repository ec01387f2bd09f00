//! Probes by the hundred: good ones, bad ones, such that leave children behind and such that must
//! be killed. Nothing of them may add up.

use std::fs;
use std::path::PathBuf;

use cricket_harness::{Node, leaks};
use futures_util::future::join_all;
use tonic::Code;

use super::processes::{descriptors, monitor, pids_cgroup, zombies};
use cricket_harness::faults::tries;

use super::CRICKET;

/// Seconds that a probe may take where it is not to be late: thirty at once take a minute in an
/// emulated machine.
const PATIENT: i64 = 600;

/// A first process that waits for its adopted children, as every first process should.
const REAPS: [&str; 3] = ["sh", "-c", "until false; do sleep 0.1; done"];

/// What probes could add to.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    daemon_descriptors: usize,
    monitor_descriptors: usize,
    cgroups: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

fn held(node: &Node, container: &str) -> Held {
    let words = [container.to_owned()];
    let mut files = leaks::files(&node.daemon.runroot().join("containers").join(container));
    files.sort();
    Held {
        daemon_descriptors: descriptors(node.daemon.pid()),
        monitor_descriptors: descriptors(monitor(node, container)),
        cgroups: leaks::cgroups_with(&words),
        files,
    }
}

/// A round of probes of every kind, all at once.
async fn round(node: &Node, id: &str) {
    let probe = |script: &'static str, timeout| async move {
        node.cri.exec(id, &["sh", "-c", script], timeout).await
    };
    let good = join_all((0..10).map(|_| probe("exit 0", PATIENT)));
    let bad = join_all((0..10).map(|_| probe("exit 3", PATIENT)));
    // They go on for a moment after the probe, with its output in their hands.
    let parents = join_all((0..5).map(|_| probe("(sleep 0.2; sleep 0.1) & exit 4", PATIENT)));
    let late = join_all((0..5).map(|_| probe("(sleep 777 & sleep 777) & sleep 777", 1)));
    let (good, bad, parents, late) = tokio::join!(good, bad, parents, late);
    for (replies, code) in [(good, 0), (bad, 3), (parents, 4)] {
        for reply in replies {
            assert_eq!(reply.unwrap().exit_code, code);
        }
    }
    for reply in late {
        assert_eq!(reply.unwrap_err().code(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn probes_leave_no_process_zombie_descriptor_cgroup_or_file() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("probed", &image, &REAPS).await;
    let (daemon, monitor) = (node.daemon.pid(), monitor(&node, &id));
    let init = node.pids_of(&id)[0];
    let cgroup = pids_cgroup(init);
    let inside = || -> Vec<u32> {
        let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    };
    // What is made once for all comes before the first figure.
    round(&node, &id).await;
    let quiet = async || {
        // The first process and at most the `sleep` that it waits for.
        node.until("nothing of the probes is left", || {
            let counted = fs::read_to_string(cgroup.join("pids.current")).unwrap();
            counted.trim().parse::<usize>().unwrap() <= 2 && inside().len() <= 2
        })
        .await;
        node.until("nobody is left unwaited for", || {
            zombies(&[daemon, monitor, init]).is_empty()
        })
        .await;
    };
    quiet().await;
    let before = held(&node, &id);
    for _ in 0..tries(8, 200) {
        round(&node, &id).await;
    }
    quiet().await;
    node.until("what the probes held is free", || {
        held(&node, &id) == before
    })
    .await;
    node.finish().await;
}
