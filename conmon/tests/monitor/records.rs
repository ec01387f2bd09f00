//! Reading a log in CRI format, strictly.

use std::fs;
use std::path::Path;

/// One record of a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    pub stream: String,
    pub tag: char,
    pub content: Vec<u8>,
}

/// Parses a log strictly: every line is a record.
pub fn records(path: &Path) -> Vec<Record> {
    let log = fs::read(path).unwrap();
    assert!(
        log.is_empty() || log.ends_with(b"\n"),
        "the log ends within a record"
    );
    log.split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            let head = std::str::from_utf8(&line[..40]).unwrap();
            let fields: Vec<_> = head.split(' ').collect();
            assert_eq!(fields.len(), 4, "{head}");
            assert_eq!(
                (fields[0].len(), fields[0].as_bytes()[29]),
                (30, b'Z'),
                "{head}"
            );
            assert!(matches!(fields[2], "F" | "P"), "{head}");
            Record {
                stream: fields[1].to_owned(),
                tag: fields[2].chars().next().unwrap(),
                content: line[40..line.len() - 1].to_vec(),
            }
        })
        .collect()
}

/// What the container wrote to a stream, as a reader of the log puts it together.
pub fn joined(records: &[Record], stream: &str) -> Vec<u8> {
    let mut output = Vec::new();
    for record in records.iter().filter(|record| record.stream == stream) {
        output.extend_from_slice(&record.content);
        if record.tag == 'F' {
            output.push(b'\n');
        }
    }
    output
}
