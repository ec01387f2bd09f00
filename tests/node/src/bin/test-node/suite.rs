//! The integration tests in the machine, on cgroup v2 and Debian's kernel, runc and plugins.

use std::path::Path;
use std::time::Duration;

use cricket_harness::cgroups;
use cricket_node::machine::{Disk, SOON};
use cricket_node::{Channel, Machine, NodeError, Workshop};

use crate::options::Options;

/// How long a test may be silent, under emulation.
const SILENCE: Duration = Duration::from_secs(1800);
/// The disk with this checkout and its tests (`suite.sh`).
const DISK: &str = "tests";

pub fn run(workshop: &Workshop, options: &Options) -> Result<(), NodeError> {
    let disk = Disk {
        name: DISK.into(),
        file: options.suite.clone(),
        log: None,
    };
    let machine = Machine::boot(workshop, &[disk])?;
    let inside = machine.inside();
    let place = mount(inside)?;
    let list = inside.good(SOON, &["cat", &format!("{place}/suite")])?;
    let mut failed = Vec::new();
    for line in list.lines() {
        let (name, program) = line.split_once(' ').unwrap_or((line, line));
        let ended = one(inside, &place, program, &options.report.join(name))?;
        eprintln!("node: {name}: {ended}");
        if !ended.contains("test result: ok") {
            failed.push(name.to_owned());
        }
    }
    if !failed.is_empty() {
        let report = options.report.display();
        let text = format!("failed, see {report}: {}", failed.join(" "));
        return Err(NodeError::Wrong(text));
    }
    machine.power_off()
}

/// Mounts the disk where its programs were built, and returns where that is.
fn mount(inside: &Channel) -> Result<String, NodeError> {
    let script = format!(
        "mkdir -p /mnt/tests; mount /dev/disk/by-id/virtio-{DISK} /mnt/tests
         place=$(cat /mnt/tests/place); mkdir -p \"$place\"; mount --move /mnt/tests \"$place\" ||
             mount --bind /mnt/tests \"$place\"
         modprobe -a overlay br_netfilter nf_conntrack fuse; printf %s \"$place\""
    );
    inside.good(SOON, &["sh", "-ec", &script])
}

/// Runs a test program and keeps what it says; the line of its result.
fn one(inside: &Channel, place: &str, program: &str, log: &Path) -> Result<String, NodeError> {
    let manager = cgroups::manager();
    let script = format!(
        "cd {place}; export PATH=$PATH:/usr/sbin:/sbin HOME=/root CRICKET_TEST_CGROUP_MANAGER={manager}
         {program} --test-threads=2 2>&1 || :"
    );
    let mut running = inside.start(&["bash", "-c", &script])?;
    let (mut text, mut result) = (String::new(), "it has not come to its end".to_owned());
    while let Some(line) = running.line(SILENCE)? {
        if line.starts_with("test result: ") {
            result.clone_from(&line);
        }
        text += &line;
        text.push('\n');
        std::fs::write(log, &text).map_err(NodeError::io(log.display().to_string()))?;
    }
    running.succeed(SOON)?;
    Ok(result)
}
