//! What the monitor costs. Not tests, but figures, for a release build:
//! `cargo build --release -p conmon && CONMON_BINARY=$PWD/target/release/conmon cargo test -p conmon
//! --test monitor -- --ignored --nocapture --test-threads 1 measure`.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use conmon::Reply;

use crate::harness::{Container, Wanted};

fn kib(rollup: &str, key: &str) -> u64 {
    let line = rollup.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// User and system time.
fn cpu(pid: u32) -> (Duration, Duration) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // USER_HZ is 100 on Linux.
    let time = |index: usize| Duration::from_millis(fields[index].parse::<u64>().unwrap() * 10);
    (time(11), time(12))
}

#[test]
#[ignore = "figures, not a test"]
fn measure_memory_of_idle_monitors() {
    let script = "seq 1 100000; exec sleep 1000";
    for count in [1, 10] {
        let containers: Vec<_> = (0..count)
            .map(|_| Container::run(&Wanted::script(script)))
            .collect();
        // Past the idle time after which buffers go back to the kernel.
        std::thread::sleep(Duration::from_secs(3));
        let rollups: Vec<_> = containers
            .iter()
            .map(|container| {
                let pid = container.monitor.as_ref().unwrap().id();
                fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap()
            })
            .collect();
        let mean = |key: &str| {
            rollups.iter().map(|rollup| kib(rollup, key)).sum::<u64>() as f64 / f64::from(count)
        };
        println!(
            "{count} idle: Rss {} Pss {} Private_Clean {} Private_Dirty {} KiB each",
            mean("Rss:"),
            mean("Pss:"),
            mean("Private_Clean:"),
            mean("Private_Dirty:")
        );
    }
}

#[test]
#[ignore = "figures, not a test"]
fn measure_create_against_bare_runc() {
    let (mut bare, mut monitored, mut execs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..30 {
        let wanted = Wanted::script("exec sleep 1000");
        let container = Container::prepare(&wanted);
        let begin = Instant::now();
        let status = Command::new("/usr/sbin/runc")
            .arg("--root")
            .arg(container.root())
            .args([
                "create",
                "--no-new-keyring",
                "--bundle",
                ".",
                "--pid-file",
                "pidfile",
            ])
            .arg(&container.id)
            .current_dir(container.bundle())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        bare.push(begin.elapsed());
        drop(container);

        let temporary = Container::prepare(&wanted);
        let begin = Instant::now();
        let (monitor, daemon) = crate::harness::start_monitor(&temporary.bundle(), &temporary.id);
        let packet = temporary.ask_on(&daemon, &wanted);
        assert!(matches!(Reply::decode(&packet), Ok(Reply::Created { .. })));
        monitored.push(begin.elapsed());
        let begin = Instant::now();
        temporary.start();
        execs.push(begin.elapsed());
        drop((temporary, monitor, daemon));
    }
    for (what, times) in [
        ("runc create", bare),
        ("by conmon", monitored),
        ("start", execs),
    ] {
        let mut times = times;
        times.sort();
        println!("{what}: p50 {:?}, p90 {:?}", times[15], times[27]);
    }
}

#[test]
#[ignore = "figures, not a test"]
fn measure_log_throughput() {
    let line = "x".repeat(82);
    // One writer fills the pipe by itself, the other one writes 4 KiB at a time.
    measure_writer("large writes", "cat /tmp/lines");
    measure_writer("small writes", &format!("yes {line} | head -n {LINES}"));
}

const LINES: usize = 3_000_000;

fn measure_writer(what: &str, command: &str) {
    let script = format!(
        "while [ ! -e /tmp/go ]; do sleep 0.01; done; {command}; echo >/tmp/written; \
         while [ -e /tmp/go ]; do sleep 0.01; done"
    );
    let container = Container::run(&Wanted::script(&script));
    let lines = "x".repeat(82) + "\n";
    fs::write(
        container.bundle().join("rootfs/tmp/lines"),
        lines.repeat(LINES),
    )
    .unwrap();
    let pid = container.monitor.as_ref().unwrap().id();
    let begin = Instant::now();
    container.release();
    while !container.bundle().join("rootfs/tmp/written").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = begin.elapsed();
    let (user, system) = cpu(pid);
    let bytes = (LINES * 83) as f64;
    println!(
        "83-byte lines, {what}: {:.0} MB/s, {:.2} CPU s/GB of the monitor (user {user:?}, \
         system {system:?})",
        bytes / 1e6 / elapsed.as_secs_f64(),
        (user + system).as_secs_f64() / (bytes / 1e9),
    );
    fs::remove_file(container.bundle().join("rootfs/tmp/go")).unwrap();
    container.wait();
}
