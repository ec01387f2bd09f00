//! What runtimes said that they can do, kept beside the records: a daemon that is started again
//! serves at once and starts no runtime for it.
//!
//! An answer counts as long as the program's file is the one that gave it. Where the file is a script
//! in front of another program, a reload asks anew. It is on the run root, so a boot asks anew too.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Features;
use crate::state::create_private;
use crate::sys::stamp::Stamp;

/// Largest file that is read: a handler's answer takes some 150 bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Answers by program.
#[derive(Debug, Default)]
pub(super) struct Remembered(BTreeMap<PathBuf, (Stamp, Features)>);

impl Remembered {
    /// What was kept in `file`; nothing when there is none, or it cannot be understood.
    pub(super) fn read(file: &Path) -> Remembered {
        let mut text = Vec::new();
        let read = fs::File::open(file).and_then(|it| it.take(MAX_BYTES).read_to_end(&mut text));
        match read {
            Ok(_) => Remembered(serde_json::from_slice(&text).unwrap_or_default()),
            Err(_) => Remembered::default(),
        }
    }

    /// What the program said, if it is still the same.
    pub(super) fn of(&self, program: &Path) -> Option<Features> {
        let (stamp, features) = self.0.get(program)?;
        (Stamp::of(program).ok()? == *stamp).then_some(*features)
    }

    /// Notes an answer.
    pub(super) fn note(&mut self, program: &Path, features: Features) {
        if let Ok(stamp) = Stamp::of(program) {
            self.0.insert(program.to_owned(), (stamp, features));
        }
    }

    /// Keeps all answers in `file`. It is a shortcut: what cannot be written is asked again.
    pub(super) fn write(&self, file: &Path) {
        let written = || -> io::Result<()> {
            if let Some(parent) = file.parent() {
                create_private(parent)?;
            }
            let new = file.with_extension("new");
            fs::write(&new, serde_json::to_vec(&self.0)?)?;
            fs::rename(&new, file)
        };
        if let Err(error) = written() {
            tracing::warn!(file = %file.display(), %error, "what runtimes can do is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Features = Features {
        recursive_read_only: true,
        user_namespaces: false,
    };

    #[test]
    fn an_answer_counts_until_the_program_is_another() {
        let scratch = tempfile::tempdir().unwrap();
        let (file, program) = (scratch.path().join("dir/kept"), scratch.path().join("runc"));
        fs::write(&program, "one").unwrap();
        let mut known = Remembered::read(&file);
        assert_eq!(known.of(&program), None);
        known.note(&program, SOME);
        known.write(&file);
        let known = Remembered::read(&file);
        assert_eq!(known.of(&program), Some(SOME));
        fs::write(&program, "other").unwrap();
        assert_eq!(known.of(&program), None);
        fs::remove_file(&program).unwrap();
        assert_eq!(known.of(&program), None);
        fs::write(&file, "{not json").unwrap();
        assert!(Remembered::read(&file).0.is_empty());
    }
}
