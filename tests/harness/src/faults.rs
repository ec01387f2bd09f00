//! Rows of the table that `make faults` prints: what was done to the daemon, how often, what was
//! lost, and what was left behind.
//!
//! A row is a test. To add one: write a `#[test]` in any integration test that has
//! `use cricket_harness::faults::{...}` in its main file (`tests/faults.sh` finds it by that), have it
//! make a [`Row`], count every try, tell the row what was lost and left instead of panicking at the
//! first, and end it:
//!
//! ```no_run
//! use cricket_harness::faults::{Row, tries};
//!
//! let mut row = Row::new("the store's disk is full during a pull");
//! for _ in 0..tries(1, 20) {
//!     row.tried();
//!     // do it, and ask whether everything is as it has to be
//!     row.lost(Err("image x: no error, but not there".into()));
//!     row.left(vec!["file staging/…".into()]);
//! }
//! row.end();
//! ```
//!
//! `make test` runs the same test in its short form ([`tries`] gives the first number), and
//! [`Row::end`] fails it when anything was lost or left. A test that panics leaves a row that says
//! so. What runs elsewhere (a virtual machine) may write the line itself: one file in the directory
//! `CRICKET_FAULTS`, as [`Row::line`] has it.

use std::path::PathBuf;

/// The directory in which `make faults` collects rows; unset in the short form.
pub const DIRECTORY: &str = "CRICKET_FAULTS";

/// Whether the long form is asked for, `make faults`.
fn is_long() -> bool {
    std::env::var_os(DIRECTORY).is_some()
}

/// How often to try: `short` in `make test`, `long` in `make faults`.
pub fn tries(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

/// See the module.
#[derive(Debug)]
pub struct Row {
    fault: String,
    tried: usize,
    lost: Vec<String>,
    left: Vec<String>,
    ended: bool,
}

impl Row {
    /// A row for this fault, in words for people.
    pub fn new(fault: &str) -> Row {
        Row {
            fault: fault.to_owned(),
            tried: 0,
            lost: Vec::new(),
            left: Vec::new(),
            ended: false,
        }
    }

    /// A whole row of what fails by panicking: tried once in the short form, `long` times else.
    pub async fn repeat(fault: &str, long: usize, once: impl AsyncFn()) {
        let mut row = Row::new(fault);
        for _ in 0..tries(1, long) {
            row.tried();
            once().await;
        }
        row.end();
    }

    /// Counts a try.
    pub fn tried(&mut self) {
        self.tried += 1;
    }

    /// Notes what was lost, if anything: an answer, a process, a line of a log.
    pub fn lost(&mut self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            eprintln!("{}: lost: {what}", self.fault);
            self.lost.push(what);
        }
    }

    /// Notes what is there still and should not be.
    pub fn left(&mut self, what: Vec<String>) {
        for one in &what {
            eprintln!("{}: left behind: {one}", self.fault);
        }
        self.left.extend(what);
    }

    /// Whether nothing was lost or left so far.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.left.is_empty()
    }

    /// The row as a line of a Markdown table.
    pub fn line(&self) -> String {
        let (tried, lost, left) = (self.tried, self.lost.len(), self.left.len());
        let ended = if self.ended { "" } else { " (not finished)" };
        format!("| {}{ended} | {tried} | {lost} | {left} |\n", self.fault)
    }

    /// Ends the row; fails the test when anything was lost or left, or nothing was tried.
    #[track_caller]
    pub fn end(mut self) {
        self.ended = true;
        self.write();
        let (lost, left) = (self.lost.join("\n  "), self.left.join("\n  "));
        assert!(self.tried > 0, "{}: never tried", self.fault);
        assert!(
            self.is_clean(),
            "{}, tried {} times\nlost:\n  {lost}\nleft behind:\n  {left}",
            self.fault,
            self.tried
        );
    }

    fn write(&self) {
        let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
            return;
        };
        let name = self.fault.replace(|c: char| !c.is_alphanumeric(), "-");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(name), self.line()).unwrap();
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if !self.ended {
            self.write();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_what_it_is_told() {
        let mut row = Row::new("a kill");
        row.tried();
        row.tried();
        row.lost(Ok(()));
        assert!(row.is_clean());
        row.lost(Err("a line".into()));
        row.left(vec!["a mount".into(), "a file".into()]);
        assert!(!row.is_clean());
        assert_eq!(row.line(), "| a kill (not finished) | 2 | 1 | 2 |\n");
        row.ended = true;
        assert_eq!(row.line(), "| a kill | 2 | 1 | 2 |\n");
    }

    #[test]
    #[should_panic(expected = "never tried")]
    fn a_row_that_was_never_tried_is_no_success() {
        Row::new("nothing").end();
    }
}
