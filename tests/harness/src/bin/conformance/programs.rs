//! Programs of this machine put into an image: the file and the libraries that it loads.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cricket_harness::layer::Layer;
use cricket_harness::tools;

/// A layer that programs are added to; a library or directory goes in once.
#[derive(Debug)]
pub struct Root {
    layer: Layer,
    have: BTreeSet<PathBuf>,
}

impl Root {
    /// A layer with nothing in it.
    pub fn new() -> Root {
        Root {
            layer: Layer::new(),
            have: BTreeSet::new(),
        }
    }

    /// The directory `path` and those above it, without a leading `/`.
    pub fn dir(mut self, path: &Path, mode: u32) -> Root {
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
            self = self.dir(parent, 0o755);
        }
        if self.have.insert(path.to_owned()) {
            self.layer = self.layer.dir(&path.to_string_lossy(), mode);
        }
        self
    }

    /// A file and the directories above it; a second one of that name is left out.
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Root {
        let path = Path::new(path);
        self = self.dir(path.parent().expect("a file is in a directory"), 0o755);
        if self.have.insert(path.to_owned()) {
            self.layer = self.layer.file(&path.to_string_lossy(), mode, content);
        }
        self
    }

    /// A second name of a file that is here.
    pub fn link(mut self, path: &str, target: &str) -> Root {
        if self.have.insert(path.into()) {
            self.layer = self.layer.hard_link(path, target);
        }
        self
    }

    /// The program `file` of this machine at `path`, its libraries where they are here.
    pub fn program(mut self, path: &str, file: &Path) -> Root {
        self = self.file(path, 0o755, &read(file));
        for library in libraries(file) {
            let content = read(&library);
            let inside = library.strip_prefix("/").expect("ldd names full paths");
            self = self.file(&inside.to_string_lossy(), 0o755, &content);
        }
        self
    }

    /// The archive.
    pub fn into_tar(self) -> Vec<u8> {
        self.layer.into_tar()
    }
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What the dynamic loader loads for `file`, the loader included; none for a static program.
fn libraries(file: &Path) -> Vec<PathBuf> {
    let output = tools::output(Command::new(tools::need("ldd")).arg(file));
    // A static program is no error of ours: ldd says "not a dynamic executable" and exits with 1.
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| {
            let (name, path) = line.split_once("=>").unwrap_or(("", line));
            assert!(
                !path.contains("not found"),
                "{}: its library {} is not installed",
                file.display(),
                name.trim()
            );
            let path = path.split_whitespace().next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}
