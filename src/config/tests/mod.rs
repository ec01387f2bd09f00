//! Tests of the room as a whole: the tables, what files do to them, what is said about mistakes.

mod handlers;
mod keys;
mod mistakes;
mod precedence;
mod printing;
mod quantities;

use std::path::{Path, PathBuf};

use super::{ConfigError, Loaded, Sources, load};

/// A directory with a configuration, and the command line and environment beside it.
pub(super) struct Node {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Node {
    /// A machine with systemd, crun and runc, and no configuration.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Self {
            dir,
            sources: Sources::default(),
        };
        node.sources.search_path = Some(node.path("bin").into_os_string());
        node.sources.executable = Some(node.path("usr/bin/cricket"));
        node.sources.systemd = true;
        node.program("bin/crun");
        node.program("bin/runc");
        node.program("usr/lib/cricket/conmon");
        node.flag("config-dir", &[node.path("crio.conf.d").to_str().unwrap()]);
        std::fs::create_dir(node.path("crio.conf.d")).unwrap();
        node.file("crio.conf", "")
    }

    /// As [`Node::new`] with this text as crio.conf.
    pub(super) fn with(text: &str) -> Self {
        Self::new().file("crio.conf", text)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn file(mut self, name: &str, text: &str) -> Self {
        std::fs::write(self.path(name), text).unwrap();
        self.flag("config", &[self.path("crio.conf").to_str().unwrap()]);
        self
    }

    pub(super) fn program(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // What tells cricket's conmon from the C program.
        std::fs::write(&path, "\0conmon 0 of cricket\n\0").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(super) fn without_program(self, name: &str) -> Self {
        std::fs::remove_file(self.path(name)).unwrap();
        self
    }

    pub(super) fn variable(mut self, name: &str, text: &str) -> Self {
        self.sources
            .variables
            .insert(name.to_owned(), text.to_owned());
        self
    }

    /// Something else runs the machine.
    pub(super) fn without_systemd(mut self) -> Self {
        self.sources.systemd = false;
        self
    }

    /// SELinux is on.
    pub(super) fn with_selinux(mut self) -> Self {
        self.sources.selinux = true;
        self
    }

    pub(super) fn flag(&mut self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.sources.flags.insert(name.to_owned(), texts);
    }

    pub(super) fn with_flag(mut self, name: &str, texts: &[&str]) -> Self {
        self.flag(name, texts);
        self
    }

    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources)
    }

    /// The text of all errors, or of all warnings, with the directory's name taken out.
    pub(super) fn complaints(&self) -> String {
        let text = match self.load() {
            Ok(loaded) => {
                let warnings = loaded.warnings.iter().map(super::Problem::with_excerpt);
                warnings
                    .map(|text| format!("warning: {text}"))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
            Err(error) => format!("error: {error}"),
        };
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }

    pub(super) fn root(&self) -> &Path {
        self.dir.path()
    }
}
