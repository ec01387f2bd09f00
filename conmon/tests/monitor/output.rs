//! The container's output and its log.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use conmon::{Phase, Reply, Request, Step};

use crate::harness::{Container, Record, Wanted, describe, joined, records};

fn record(stream: &str, tag: char, content: &str) -> Record {
    Record {
        stream: stream.to_owned(),
        tag,
        content: content.as_bytes().to_vec(),
    }
}

#[test]
fn both_streams_are_logged_with_full_and_partial_records() {
    // Two writes make two records where the monitor sees the first alone: so the second waits.
    let script = "echo one; printf two; while [ ! -e /tmp/go ]; do sleep 0.01; done; \
                  echo; echo oops >&2; printf end";
    let container = Container::run(&Wanted::script(script));
    while !fs::read_to_string(container.log()).unwrap().contains("two") {
        std::thread::yield_now();
    }
    container.release();
    container.wait();
    let log = container.records();
    let stdout: Vec<_> = log
        .iter()
        .filter(|record| record.stream == "stdout")
        .collect();
    assert_eq!(
        stdout,
        [
            &record("stdout", 'F', "one"),
            &record("stdout", 'P', "two"),
            &record("stdout", 'F', ""),
            &record("stdout", 'P', "end"),
        ]
    );
    assert_eq!(joined(&log, "stderr"), b"oops\n");
    let mode = fs::metadata(container.log()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn long_lines_and_bulk_come_out_as_they_went_in() {
    let script = "head -c 100000 /dev/zero; echo; seq 1 200000; head -c 3000000 /dev/zero";
    let container = Container::run(&Wanted::script(script));
    container.wait();
    let mut expected = vec![0; 100_000];
    expected.push(b'\n');
    for number in 1..=200_000 {
        expected.extend_from_slice(format!("{number}\n").as_bytes());
    }
    expected.resize(expected.len() + 3_000_000, 0);
    let log = container.records();
    assert!(log.iter().all(|record| record.content.len() <= 16 * 1024));
    assert!(
        joined(&log, "stdout") == expected,
        "bytes were lost, doubled or changed"
    );
}

#[test]
fn reopening_under_load_loses_and_doubles_nothing() {
    let script = "while [ ! -e /tmp/go ]; do seq 1 5000; done";
    let container = Container::run(&Wanted::script(script));
    let block: String = (1..=5000).map(|number| format!("{number}\n")).collect();
    let mut parts = Vec::new();
    let mut logged = 0;
    // On a busy machine fifty turns may pass before the container has written much. A record is
    // longer than its content, so this is at least one whole block; the bound is not a timing.
    while parts.len() < 50 || logged < 20 * block.len() as u64 {
        let turn = parts.len();
        assert!(turn < 100_000, "the container writes nothing");
        let rotated = container.scratch.join(format!("0.log.{turn}"));
        fs::rename(container.log(), &rotated).unwrap();
        let (packet, _) = container.call(&Request::ReopenLog { path: b"" });
        assert_eq!(Reply::decode(&packet), Ok(Reply::Done));
        assert!(
            container.log().exists(),
            "the new log is there when the answer is"
        );
        let length = fs::metadata(&rotated).unwrap().len();
        logged += length;
        parts.push((length, rotated));
    }
    container.release();
    container.wait();
    let mut output = Vec::new();
    for (length, path) in &parts {
        assert_eq!(
            fs::metadata(path).unwrap().len(),
            *length,
            "written to after the answer"
        );
        output.extend_from_slice(&joined(&records(path), "stdout"));
    }
    output.extend_from_slice(&joined(&container.records(), "stdout"));
    assert!(output.len() > block.len());
    let mut blocks = output.chunks(block.len());
    assert!(
        blocks.all(|part| part == block.as_bytes()),
        "bytes were lost or doubled"
    );
}

#[test]
fn a_reopen_that_fails_changes_nothing() {
    let script = "while [ ! -e /tmp/go ]; do sleep 0.01; done; echo after";
    let container = Container::run(&Wanted::script(script));
    let elsewhere = container.scratch.join("missing/0.log");
    let path = elsewhere.as_os_str().as_encoded_bytes();
    let (packet, _) = container.call(&Request::ReopenLog { path });
    match Reply::decode(&packet).unwrap() {
        Reply::Failed {
            step: Step::Log,
            errno,
            message,
            ..
        } => {
            assert_eq!(errno, nix::libc::ENOENT);
            let expected = format!("{}: no such file or directory", elsewhere.display());
            assert_eq!(String::from_utf8_lossy(message), expected);
        }
        other => panic!("{}", describe(&other)),
    }
    assert!(!elsewhere.exists());
    // Neither a directory nor a named pipe is a log.
    let fifo = container.scratch.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, expected) in [
        (&fifo, nix::libc::ENXIO),
        (&container.bundle(), nix::libc::EISDIR),
    ] {
        let path = path.as_os_str().as_encoded_bytes();
        let (packet, _) = container.call(&Request::ReopenLog { path });
        match Reply::decode(&packet).unwrap() {
            Reply::Failed {
                step: Step::Log,
                errno,
                ..
            } => assert_eq!(errno, expected),
            other => panic!("{}", describe(&other)),
        }
    }
    container.release();
    container.wait();
    assert_eq!(container.records(), [record("stdout", 'F', "after")]);
}

#[test]
fn a_dangling_link_in_the_logs_place_is_replaced() {
    let wanted = Wanted::script("echo here");
    let container = Container::prepare(&wanted);
    let target = container.scratch.join("gone");
    symlink(&target, container.log()).unwrap();
    let packet = container.ask(&wanted);
    assert!(matches!(Reply::decode(&packet), Ok(Reply::Created { .. })));
    container.start();
    container.wait();
    assert!(!target.exists());
    assert!(fs::symlink_metadata(container.log()).unwrap().is_file());
    assert_eq!(container.records(), [record("stdout", 'F', "here")]);
}

#[test]
fn without_a_log_output_is_discarded_and_the_container_does_not_wait() {
    let mut wanted = Wanted::script("head -c 5000000 /dev/zero; exit 4");
    wanted.log = false;
    let container = Container::run(&wanted);
    assert_eq!(container.wait().exit_code, 4);
    assert!(!container.log().exists());
}

#[test]
fn a_full_disk_loses_output_but_tears_no_record_and_counts_every_byte() {
    let script = "yes 0123456789 | head -n 50000; echo >/tmp/written; \
                  while [ ! -e /tmp/go ]; do sleep 0.01; done; echo back";
    let wanted = Wanted::script(script);
    let container = Container::prepare(&wanted);
    let full = FullDisk::at(container.scratch.join("full"), 300_000);
    symlink(full.0.join("0.log"), container.log()).unwrap();
    fs::write(full.0.join("0.log"), "").unwrap();
    let packet = container.ask(&wanted);
    assert!(matches!(Reply::decode(&packet), Ok(Reply::Created { .. })));
    container.start();
    while !container.bundle().join("rootfs/tmp/written").exists() {
        std::thread::yield_now();
    }
    full.resize(10_000_000);
    container.release();
    let status = loop {
        // Created, Running, Exited.
        let status = container.daemon.status();
        if status.phase == Phase::Exited {
            break status;
        }
    };
    assert_eq!(status.exit_code, 0, "the container did not wait for space");
    assert!(status.log_dropped_bytes > 0);
    let log = container.records();
    assert_eq!(log.last(), Some(&record("stdout", 'F', "back")));
    let kept: usize = log.iter().map(|record| record.content.len()).sum();
    assert_eq!(kept as u64 + status.log_dropped_bytes, 50_000 * 10 + 4);
}

/// A file system with little space.
struct FullDisk(std::path::PathBuf);

impl FullDisk {
    fn at(path: std::path::PathBuf, bytes: u64) -> Self {
        fs::create_dir(&path).unwrap();
        let options = format!("size={bytes}");
        nix::mount::mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        Self(path)
    }

    fn resize(&self, bytes: u64) {
        let options = format!("size={bytes}");
        nix::mount::mount(
            None::<&str>,
            &self.0,
            None::<&str>,
            nix::mount::MsFlags::MS_REMOUNT,
            Some(options.as_str()),
        )
        .unwrap();
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}
