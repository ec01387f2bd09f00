//! An OCI runtime that waits: its calls are noted as they begin, and those of a verb whose gate is
//! closed go on when it is opened. So a test has a call of the CRI in flight for as long as it needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::daemon::Options;

/// The runtime's gates; all are open at first.
#[derive(Debug)]
pub struct Gate {
    dir: TempDir,
}

impl Gate {
    /// Puts the gated runtime in front of the one of `options`.
    #[track_caller]
    pub fn new(options: &mut Options) -> Gate {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "#!/bin/sh\nfor word; do case $word in create|start|kill|delete|update)\n  \
             echo >> {dir}/$word.begun\n  while [ -e {dir}/$word.closed ]; do sleep 0.02; done\n  \
             break ;; esac; done\nexec {runc} \"$@\"\n",
            dir = dir.path().display(),
            runc = options.runtime.display(),
        );
        let program = dir.path().join("gated-runtime");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        options.runtime = program;
        Gate { dir }
    }

    /// Has calls of `verb` wait from now on.
    #[track_caller]
    pub fn close(&self, verb: &str) {
        fs::write(self.file(verb, "closed"), "").unwrap();
    }

    /// Lets calls of `verb` go on.
    #[track_caller]
    pub fn open(&self, verb: &str) {
        fs::remove_file(self.file(verb, "closed")).unwrap();
    }

    /// How many calls of `verb` have begun.
    pub fn begun(&self, verb: &str) -> usize {
        let text = fs::read_to_string(self.file(verb, "begun"));
        text.map_or(0, |text| text.lines().count())
    }

    fn file(&self, verb: &str, what: &str) -> PathBuf {
        Path::new(self.dir.path()).join(format!("{verb}.{what}"))
    }
}
