//! Which images must still be there after a power cut, kept on the disk that is cut: an image is
//! added when its durability has reached the disk, and leaves before its removal begins. Each change
//! is on the disk before anything else happens.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::Outcome;

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    names: Mutex<BTreeSet<String>>,
}

impl Ledger {
    /// What is on the disk; nothing when there is no ledger yet.
    pub fn open(data: &str) -> Outcome<Ledger> {
        let file = Path::new(data).join("ledger");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        let names = text.lines().map(str::to_owned).collect();
        Ok(Ledger {
            file,
            names: Mutex::new(names),
        })
    }

    /// The names in it.
    pub fn names(&self) -> BTreeSet<String> {
        self.names
            .lock()
            .map(|names| names.clone())
            .unwrap_or_default()
    }

    /// The image is durable.
    pub fn add(&self, name: &str) -> Outcome {
        self.change(|names| names.insert(name.to_owned()))
    }

    /// The image may go from now on.
    pub fn remove(&self, name: &str) -> Outcome {
        self.change(|names| names.remove(name))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<String>) -> bool) -> Outcome {
        let mut names = self.names.lock().map_err(|error| error.to_string())?;
        if !change(&mut names) {
            return Ok(());
        }
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        let new = self.file.with_extension("new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.file)?;
            File::open(self.file.parent().unwrap_or(Path::new("/")))?.sync_all()
        };
        write().map_err(|error| format!("{}: {error}", self.file.display()))
    }
}
