//! What a container writes is what its log holds, byte by byte, whatever the bytes are and whatever
//! happens to the file and to the daemon meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use cricket_harness::{Node, requests};

use cricket_harness::faults::{Row, tries};

use super::CRICKET;

/// The longest content of one record, as the kubelet's reader expects.
const RECORD_MAX: usize = 16 * 1024;

/// Bytes of every kind: NULs, carriage returns, what is no UTF-8, empty lines, lines beyond a
/// record, and an end without a newline. The same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut out = Vec::with_capacity(length + 64);
    while out.len() < length {
        match next() % 16 {
            0 => out.push(b'\n'),
            1 => out.extend_from_slice(b"\n\n"),
            2 => out.extend_from_slice(&[0; 9]),
            3 => out.extend_from_slice(b"stdout F\r\n"),
            4 => {
                let longer = usize::try_from(next() % 40_000).unwrap();
                out.extend(std::iter::repeat_n(b'x', longer));
            }
            _ => out.extend_from_slice(&next().to_le_bytes()),
        }
    }
    out.truncate(length);
    out.push(b'!');
    out
}

/// What the records of one stream in these files say that was written to it.
fn content(files: &[PathBuf], stream: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for file in files {
        let bytes = fs::read(file).unwrap();
        assert!(
            bytes.is_empty() || bytes.ends_with(b"\n"),
            "{}: the last record is torn",
            file.display()
        );
        for record in bytes.split_inclusive(|byte| *byte == b'\n') {
            let shown = String::from_utf8_lossy(&record[..record.len().min(80)]);
            let mut fields = record[..record.len() - 1].splitn(4, |byte| *byte == b' ');
            let mut next = || {
                fields
                    .next()
                    .unwrap_or_else(|| panic!("not a record: {shown:?}"))
            };
            let (time, from, tag, bytes) = (next(), next(), next(), next());
            assert!(time.starts_with(b"20") && time.contains(&b'T'), "{shown:?}");
            assert!(from == b"stdout" || from == b"stderr", "{shown:?}");
            assert!(bytes.len() <= RECORD_MAX, "{shown:?}");
            if from != stream.as_bytes() {
                continue;
            }
            out.extend_from_slice(bytes);
            match tag {
                b"F" => out.push(b'\n'),
                b"P" => {}
                _ => panic!("neither full nor partial: {shown:?}"),
            }
        }
    }
    out
}

/// Where the two differ, if they do: a message shorter than megabytes.
fn same(stream: &str, logged: &[u8], written: &[u8]) -> Result<(), String> {
    if logged == written {
        return Ok(());
    }
    let mut pairs = logged.iter().zip(written);
    Err(format!(
        "{stream}: {} bytes written, {} logged, first difference at {:?}",
        written.len(),
        logged.len(),
        pairs.position(|(one, other)| one != other)
    ))
}

/// Groups of parts; the container prints one as soon as its gate is open.
const GROUPS: usize = 10;
const PART: usize = 20_000;

/// Writes the parts that the container prints, and gives what they are together.
fn parts(directory: &Path, stream: &str, seed: u64, in_group: usize) -> Vec<u8> {
    let whole = noise(seed, GROUPS * in_group * PART - 1);
    for (number, part) in whole.chunks(PART).enumerate() {
        let (group, number) = (number / in_group, number % in_group);
        fs::write(directory.join(format!("{stream}{group}-{number:02}")), part).unwrap();
    }
    whole
}

#[tokio::test]
async fn every_byte_written_is_logged_over_rotations_and_kills_of_the_daemon() {
    let mut row = Row::new("kill -9 of the daemon while a log is written and rotated");
    for seed in 1..=u64::try_from(tries(2, 20)).unwrap() {
        row.tried();
        let mut node = Node::start(CRICKET).await;
        let image = node.busybox().await;
        let data = node.dir().join("data");
        fs::create_dir(&data).unwrap();
        let out = parts(&data, "out", seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 12);
        let err = parts(&data, "err", seed.wrapping_mul(0xbf58_476d_1ce4_e5b9), 6);
        let script = "cd /data; for g in 0 1 2 3 4 5 6 7 8 9; do
            until [ -e gate$g ]; do usleep 2000; done
            for f in err$g-*; do cat $f >&2; done &
            for f in out$g-*; do cat $f; done; wait; done";
        let config = node.pod_config("bytes");
        let pod = node.cri.run_pod(&config).await.unwrap();
        let mut container = requests::container("main", &image, &["sh", "-c", script]);
        container.mounts = vec![requests::mount(&data, "/data", true)];
        let id = node.run_in(&pod, &config, &container).await;
        let file = node.log_file(&config, "main");
        let mut files = Vec::new();
        for group in 0..GROUPS {
            fs::write(data.join(format!("gate{group}")), "").unwrap();
            // After its last words it may have gone before it is asked.
            let rotations = if group + 1 == GROUPS { 0 } else { 3 };
            for _ in 0..rotations {
                let old = file.with_extension(format!("old{}", files.len()));
                // As the kubelet does: what is written in between goes to the old file.
                fs::rename(&file, &old).unwrap();
                files.push(old);
                if files.len() % 7 == 3 {
                    node.crash().await;
                }
                node.cri.reopen_log(&id).await.unwrap();
            }
        }
        assert_eq!(node.cri.exited(&id).await.exit_code, 0);
        files.push(file);
        row.lost(same("stdout", &content(&files, "stdout"), &out));
        row.lost(same("stderr", &content(&files, "stderr"), &err));
        node.finish().await;
    }
    row.end();
}
