//! One node of a run: a daemon, its registry, and critest with the specs of this node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use cricket_harness::daemon::Options;
use cricket_harness::{Node, leaks, sweep, tools};

use crate::stand_ins;

/// Arguments for critest, one a line.
pub const ARGUMENTS: &str = "arguments";
/// What critest reports.
pub const REPORT: &str = "report.json";
/// The whole of critest's output.
const OUTPUT: &str = "critest.log";
/// What the daemon logged.
const LOG: &str = "daemon.log";

/// A hanging RPC ends after this; the longest that is meant to last is a stop of 60 s.
const RPC_TIMEOUT: &str = "120s";
/// A node that hangs ends after this; it takes one or two minutes.
const SUITE_TIMEOUT: &str = "20m";

/// The suite: the one `make conformance` built.
pub fn critest() -> PathBuf {
    tools::workspace().join("target/tools/critest")
}

/// The OCI runtime: $CRICKET_TEST_RUNTIME, else one that can do all that critest asks for.
pub fn runtime() -> PathBuf {
    std::env::var_os("CRICKET_TEST_RUNTIME").map_or_else(tools::current_runc, PathBuf::from)
}

/// Runs the specs that `dir` has the [`ARGUMENTS`] of and leaves the other files there.
pub fn run(dir: &Path) -> ExitCode {
    sweep::on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serve(dir));
    ExitCode::SUCCESS
}

async fn serve(dir: &Path) {
    let cricket = std::env::current_exe().unwrap().with_file_name("cricket");
    let images = stand_ins::all(&crate::work());
    let settings = |options: &mut Options| {
        options.runtime = runtime();
        options.registries = stand_ins::mirrors("127.0.0.1:5000");
    };
    let mut node = Node::start_with(cricket, settings).await;
    // A root of a user namespace is nobody here and must get to its files.
    fs::set_permissions(node.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    stand_ins::push(node.registry(), &images);
    critest_on(&node, dir);
    // `finish` waits for the daemon's end and panics about what is left, with the log; both end up
    // in node.log.
    let log = node.daemon.log();
    fs::write(dir.join(LOG), &log).unwrap();
    let parent = node.cgroup();
    node.finish().await;
    let left = leaks::cgroups_with(&ids(&log));
    assert_eq!(left, [] as [PathBuf; 0], "cgroups left behind");
    sweep::cgroups(&[parent]);
}

fn critest_on(node: &Node, dir: &Path) {
    let endpoint = format!("unix://{}", node.daemon.socket().display());
    // Short: critest puts a pod's id into names below it.
    let scratch = node.dir().join("t");
    fs::create_dir(&scratch).unwrap();
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o711)).unwrap();
    let arguments = fs::read_to_string(dir.join(ARGUMENTS)).unwrap();
    let output = fs::File::create(dir.join(OUTPUT)).unwrap();
    let mut command = node.net().command(&critest());
    command
        .args([
            "--runtime-endpoint",
            &endpoint,
            "--image-endpoint",
            &endpoint,
        ])
        .args(["--runtime-service-timeout", RPC_TIMEOUT])
        .args(["--ginkgo.timeout", SUITE_TIMEOUT, "--ginkgo.no-color"])
        .arg("--ginkgo.json-report")
        .arg(dir.join(REPORT))
        .args(arguments.lines())
        .env("TMPDIR", &scratch)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    // Its exit code says no more than its report.
    let status = command.status().unwrap();
    println!("critest ended with {status}");
}

/// Ids of pods and containers in a log: words of 64 lower-hex digits.
fn ids(log: &str) -> Vec<String> {
    let id = |word: &&str| {
        word.len() == 64 && word.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut ids: Vec<String> = log
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(id)
        .map(str::to_owned)
        .collect();
    ids.sort();
    ids.dedup();
    ids
}
