//! A container that runs through all of it and writes numbered lines, while its log is rotated as a
//! kubelet does it: no line may be lost, none come twice, and it is one process from first to last.

use std::fs;
use std::path::PathBuf;

use cricket_harness::cri::PodSandboxConfig;
use cricket_harness::{Client, Node, leaks};

/// Writes a number and waits for 20 ms, for ever.
const NUMBERS: &str = "n=0; while true; do echo $n; n=$((n+1)); usleep 20000; done";

pub(crate) struct Witness {
    id: String,
    pod: String,
    cri: Client,
    init: u32,
    log: PathBuf,
    rotated: Vec<PathBuf>,
}

impl Witness {
    pub(crate) async fn start(node: &Node, image: &str) -> Self {
        let (pod, id, config): (_, _, PodSandboxConfig) =
            node.run("witness", image, &["sh", "-c", NUMBERS]).await;
        let init = init(&id).expect("the witness runs");
        Self {
            log: node.log_file(&config, "main"),
            cri: node.cri.clone(),
            rotated: Vec::new(),
            init,
            pod,
            id,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Rotates the log, and looks that it is the same process still.
    pub(crate) async fn look(&mut self) {
        if init(&self.id) != Some(self.init) {
            let told = self.cri.container(&self.id).await;
            panic!(
                "the witness {} has ended, it was process {}: {told:?}",
                self.id, self.init
            );
        }
        if self.log.exists() {
            let to = self
                .log
                .with_extension(format!("log.{}", self.rotated.len()));
            fs::rename(&self.log, &to).unwrap();
            self.rotated.push(to);
        }
        // Without a daemon at this moment the monitor writes to the old file; the next time tells it.
        let _told = self.cri.reopen_log(&self.id).await;
    }

    /// Ends it, and gives the number of lines.
    pub(crate) async fn finish(mut self) -> u64 {
        self.look().await;
        self.cri.stop(&self.id, 0).await.unwrap();
        let mut expected = 0_u64;
        self.rotated.push(self.log.clone());
        let files = self.rotated.iter().filter(|file| file.exists());
        for file in files {
            for line in fs::read_to_string(file).unwrap().lines() {
                let number = line.rsplit(' ').next().unwrap_or_default();
                assert_eq!(number, expected.to_string(), "{}: {line:?}", file.display());
                expected += 1;
            }
        }
        assert!(expected > 0, "the witness wrote nothing");
        self.cri.remove_pod(&self.pod).await.unwrap();
        expected
    }
}

/// The process of a container that is the first in its PID namespace.
fn init(container: &str) -> Option<u32> {
    let all = leaks::processes_with(&[format!("/crio-{container}")]);
    let is_first = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        pids.is_some_and(|pids| pids.split_whitespace().skip(1).last() == Some("1"))
    };
    all.into_iter().map(|(pid, _)| pid).find(is_first)
}
