//! A layer as a tar archive, entry by entry: good ones and those that no honest tool writes.

use tar::{Builder, EntryType, Header};

/// An uncompressed layer being written. Names go into the header as they are, unchecked.
pub struct Layer {
    tar: Builder<Vec<u8>>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Layer({} bytes)", self.tar.get_ref().len())
    }
}

impl Default for Layer {
    fn default() -> Layer {
        Layer {
            tar: Builder::new(Vec::new()),
        }
    }
}

impl Layer {
    /// An archive without entries.
    pub fn new() -> Layer {
        Layer::default()
    }

    /// A directory.
    pub fn dir(self, path: &str, mode: u32) -> Layer {
        self.entry(EntryType::Directory, path, "", mode, &[])
    }

    /// A regular file; a whiteout is one too.
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Layer {
        self.entry(EntryType::Regular, path, "", mode, content)
    }

    /// A symbolic link; the target may be anything.
    pub fn symlink(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Symlink, path, target, 0o777, &[])
    }

    /// A hard link to another entry's name.
    pub fn hard_link(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Link, path, target, 0o644, &[])
    }

    /// A character device.
    pub fn char_device(mut self, path: &str, major: u32, minor: u32) -> Layer {
        let mut header = header(EntryType::Char, path, "", 0o666, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.tar.append(&header, &[][..]).unwrap();
        self
    }

    /// The header of a regular file of `size` bytes that do not follow.
    pub fn claim(mut self, path: &str, size: u64) -> Layer {
        let header = header(EntryType::Regular, path, "", 0o644, size);
        self.tar.append(&header, &[][..]).unwrap();
        self
    }

    /// The finished archive.
    pub fn into_tar(self) -> Vec<u8> {
        self.tar.into_inner().unwrap()
    }

    fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        link: &str,
        mode: u32,
        content: &[u8],
    ) -> Layer {
        let header = header(kind, path, link, mode, content.len() as u64);
        self.tar.append(&header, content).unwrap();
        self
    }
}

/// Written byte by byte: the tar crate's setters refuse what a hostile image carries.
fn header(kind: EntryType, path: &str, link: &str, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let old = header.as_old_mut();
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}
