//! Where `cricket save` writes: a stream, a file or a layout directory. A file and a directory get
//! their name when they are complete.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::CliError;

/// Parts between the socket and the thread that unpacks a layout.
const PARTS_IN_FLIGHT: usize = 4;

/// An opened target.
pub(super) struct Target {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    /// Standard output, a device or a pipe.
    Stream(Box<dyn Write>),
    /// A file under another name until it is complete.
    File { file: File, partial: Partial },
    /// A directory, as a file; a thread takes the archive apart.
    Directory {
        parts: Option<SyncSender<Vec<u8>>>,
        thread: Option<JoinHandle<io::Result<()>>>,
        partial: Partial,
    },
}

/// What is not complete; removed unless it gets its name.
struct Partial {
    path: PathBuf,
}

impl Drop for Partial {
    fn drop(&mut self) {
        // One of the two fits, and after the rename neither.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Target {
    /// Opens `path`; `directory`: as a layout directory.
    pub(super) fn open(path: &Path, directory: bool) -> Result<Target, CliError> {
        let kind = match (path == Path::new("-"), directory) {
            (true, true) => Err(io::Error::other("oci-dir is a directory: name it with -o")),
            (true, false) if io::stdout().is_terminal() => Err(io::Error::other(
                "an archive is not for a terminal: name a file with -o, or redirect the output",
            )),
            (true, false) => Ok(Kind::Stream(Box::new(io::stdout()))),
            (false, true) => open_directory(path),
            (false, false) => open_file(path),
        };
        let path = path.to_owned();
        match kind {
            Ok(kind) => Ok(Target { path, kind }),
            Err(source) => Err(CliError::File { path, source }),
        }
    }

    /// Takes the next bytes of the archive.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let written = match &mut self.kind {
            Kind::Stream(stream) => stream.write_all(bytes),
            Kind::File { file, .. } => file.write_all(bytes),
            Kind::Directory { parts, thread, .. } => {
                let sent = parts
                    .as_ref()
                    .is_some_and(|parts| parts.send(bytes.to_vec()).is_ok());
                if sent { Ok(()) } else { outcome(thread.take()) }
            }
        };
        written.map_err(|source| self.error(source))
    }

    /// Gives the complete archive its name.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        let path = self.path.clone();
        let finished = match &mut self.kind {
            Kind::Stream(stream) => stream.flush(),
            Kind::File { partial, .. } => std::fs::rename(&partial.path, &path),
            Kind::Directory {
                parts,
                thread,
                partial,
            } => {
                drop(parts.take());
                outcome(thread.take()).and_then(|()| std::fs::rename(&partial.path, &path))
            }
        };
        finished.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> CliError {
        CliError::File {
            path: self.path.clone(),
            source,
        }
    }
}

/// `path` with another name beside it.
fn partial(path: &Path) -> io::Result<Partial> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("it names no file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", std::process::id()));
    Ok(Partial {
        path: path.with_file_name(hidden),
    })
}

fn open_file(path: &Path) -> io::Result<Kind> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(io::Error::other(
                "it is a directory; --format oci-dir writes to one",
            ));
        }
        // A device or a pipe is written to as it is.
        Ok(found) if !found.is_file() => {
            let stream = OpenOptions::new().write(true).open(path)?;
            return Ok(Kind::Stream(Box::new(stream)));
        }
        // A link stays a link.
        Ok(_) if path.is_symlink() => return open_file(&std::fs::canonicalize(path)?),
        _ => {}
    }
    let partial = partial(path)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&partial.path)?;
    Ok(Kind::File { file, partial })
}

fn open_directory(path: &Path) -> io::Result<Kind> {
    match std::fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(io::Error::other("the directory is not empty")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let partial = partial(path)?;
    std::fs::create_dir(&partial.path)?;
    let (sender, receiver) = sync_channel(PARTS_IN_FLIGHT);
    let into = partial.path.clone();
    let thread = std::thread::Builder::new()
        .name("layout".into())
        .spawn(move || take_apart(receiver, &into))?;
    Ok(Kind::Directory {
        parts: Some(sender),
        thread: Some(thread),
        partial,
    })
}

fn outcome(thread: Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    let joined = thread.map(JoinHandle::join);
    match joined {
        Some(Ok(result)) => result,
        _ => Err(io::Error::other(
            "the thread that writes it has ended early",
        )),
    }
}

/// Writes the files of a layout's archive. Their names are the daemon's, and checked all the same.
fn take_apart(parts: Receiver<Vec<u8>>, into: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(Parts {
        parts,
        current: io::Cursor::new(Vec::new()),
    });
    std::fs::create_dir_all(into.join("blobs/sha256"))?;
    let mut index = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // Docker's document names files of an archive.
        if !entry.header().entry_type().is_file() || name == "manifest.json" {
            continue;
        }
        if !is_of_a_layout(&name) {
            return Err(io::Error::other(format!("the daemon sent a file {name:?}")));
        }
        let mut file = File::create_new(into.join(&name))?;
        let (size, written) = (entry.size(), io::copy(&mut entry, &mut file)?);
        if size != written {
            return Err(io::Error::other(format!(
                "{name}: {written} of {size} bytes came"
            )));
        }
        index |= name == "index.json";
    }
    match index {
        true => Ok(()),
        false => Err(io::Error::other("the archive ended before its index")),
    }
}

fn is_of_a_layout(name: &str) -> bool {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    match name.strip_prefix("blobs/sha256/") {
        Some(blob) => blob.len() == 64 && blob.bytes().all(hex),
        None => matches!(name, "oci-layout" | "index.json"),
    }
}

/// The archive's bytes as a reader.
struct Parts {
    parts: Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.current.read(buffer)? {
                0 if !buffer.is_empty() => match self.parts.recv() {
                    Ok(part) => self.current = io::Cursor::new(part),
                    Err(_) => return Ok(0),
                },
                count => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(names: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, &b"abc"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let mut target = Target::open(&path, false).unwrap();
        target.write(b"abc").unwrap();
        assert!(!path.exists());
        drop(target);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(&path, "before").unwrap();
        let mut target = Target::open(&path, false).unwrap();
        target.write(b"abc").unwrap();
        target.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_layout_is_taken_apart_and_only_a_whole_one_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layout");
        let blob = format!("blobs/sha256/{}", "0".repeat(64));
        let good = tar(&["oci-layout", &blob, "index.json", "manifest.json"]);
        let save = |bytes: &[u8]| {
            let mut target = Target::open(&path, true)?;
            for part in bytes.chunks(700) {
                target.write(part)?;
            }
            target.finish()
        };
        for bad in [
            &good[..1024],
            &tar(&["oci-layout", "../x", "index.json"]),
            &tar(&["blobs/sha256/x", "index.json"]),
        ] {
            save(bad).unwrap_err();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        std::fs::create_dir(&path).unwrap();
        save(&good).unwrap();
        assert_eq!(std::fs::read(path.join(&blob)).unwrap(), b"abc");
        assert!(!path.join("manifest.json").exists());
        let error = save(&good).unwrap_err();
        let text = super::super::exit::chain(&error);
        assert!(text.ends_with("the directory is not empty"), "{text}");
    }

    #[test]
    fn a_layout_needs_a_directory_and_a_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Target::open(Path::new("-"), true).is_err());
        assert!(Target::open(dir.path(), false).is_err());
        assert!(Target::open(&dir.path().join("missing/x"), false).is_err());
    }
}
