//! What the name of an entry means: a path below the layer's root, or a whiteout.

/// `PATH_MAX`: no path that a process could use is longer.
pub(super) const MAX_PATH_BYTES: usize = 4096;

/// Components of a path. Honest trees stay below 40 (node_modules); each costs a lookup.
pub(super) const MAX_DEPTH: usize = 256;

/// `NAME_MAX` of every file system in use.
const MAX_COMPONENT_BYTES: usize = 255;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// A path below the layer's root: no empty, `.` or `..` component, no `/` at either end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::storage) struct EntryPath(Vec<u8>);

/// What an entry stands for, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The root directory itself.
    Root,
    /// Something at this path.
    Object(EntryPath),
    /// `.wh.<name>`: this path does not exist in the layers below.
    Whiteout(EntryPath),
    /// `.wh..wh..opq`: of this directory (empty path: the root) nothing below is seen.
    Opaque(EntryPath),
    /// `.wh..wh.*`: aufs's own files, which no one wants.
    Ignored,
}

impl EntryPath {
    /// Cleans a name as it stands in the archive. A leading `/` is stripped, as tar does. `..` is
    /// refused even where it would stay inside: no honest builder writes it.
    pub(in crate::storage) fn parse(name: &[u8]) -> Result<EntryPath, &'static str> {
        if name.len() > MAX_PATH_BYTES {
            return Err("its path is longer than 4096 bytes");
        }
        if name.contains(&0) {
            return Err("its path holds a NUL byte");
        }
        let mut path = Vec::with_capacity(name.len());
        let mut depth = 0;
        for part in name.split(|b| *b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err("its path goes through `..`"),
                _ if part.len() > MAX_COMPONENT_BYTES => {
                    return Err("a name in its path is longer than 255 bytes");
                }
                _ => {}
            }
            depth += 1;
            if depth > MAX_DEPTH {
                return Err("its path is deeper than 256 directories");
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Ok(EntryPath(path))
    }

    pub(in crate::storage) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::storage) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Parent (empty: the root) and last name.
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        }
    }
}

/// Sorts an entry's name. See the OCI image specification, "Whiteouts".
pub(super) fn meaning(name: &[u8]) -> Result<Meaning, &'static str> {
    let path = EntryPath::parse(name)?;
    if path.is_root() {
        return if name.is_empty() {
            Err("its name is empty")
        } else {
            Ok(Meaning::Root)
        };
    }
    let (parent, base) = path.split();
    let parent_has = |prefix: &[u8]| parent.split(|b| *b == b'/').any(|p| p.starts_with(prefix));
    if parent_has(AUFS_PREFIX) {
        return Ok(Meaning::Ignored);
    }
    if parent_has(WHITEOUT_PREFIX) {
        return Err("it lies below a whiteout");
    }
    if base == OPAQUE_NAME {
        return Ok(Meaning::Opaque(EntryPath(parent.to_vec())));
    }
    if base.starts_with(AUFS_PREFIX) {
        return Ok(Meaning::Ignored);
    }
    let Some(target) = base.strip_prefix(WHITEOUT_PREFIX) else {
        return Ok(Meaning::Object(path));
    };
    if matches!(target, b"" | b"." | b"..") {
        return Err("a whiteout of no name");
    }
    let mut whiteout = parent.to_vec();
    if !whiteout.is_empty() {
        whiteout.push(b'/');
    }
    whiteout.extend_from_slice(target);
    Ok(Meaning::Whiteout(EntryPath(whiteout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath(text.as_bytes().to_vec())
    }

    #[test]
    fn names_are_cleaned_and_sorted() {
        let cases = [
            ("etc/passwd", Meaning::Object(path("etc/passwd"))),
            ("/etc//./passwd", Meaning::Object(path("etc/passwd"))),
            ("./etc/", Meaning::Object(path("etc"))),
            ("./", Meaning::Root),
            ("/", Meaning::Root),
            (".", Meaning::Root),
            (".wh.a", Meaning::Whiteout(path("a"))),
            ("d/.wh.a", Meaning::Whiteout(path("d/a"))),
            ("d/.wh..wh..opq", Meaning::Opaque(path("d"))),
            (".wh..wh..opq", Meaning::Opaque(path(""))),
            (".wh..wh.plnk/1.2", Meaning::Ignored),
            (".wh..wh.aufs", Meaning::Ignored),
            ("...", Meaning::Object(path("..."))),
            ("a.wh.b", Meaning::Object(path("a.wh.b"))),
        ];
        for (name, expected) in cases {
            assert_eq!(meaning(name.as_bytes()), Ok(expected), "{name}");
        }
    }

    #[test]
    fn names_that_no_honest_builder_writes_are_refused() {
        let long_path = "a/".repeat(2049);
        let long_name = "a".repeat(256);
        let deep = "a/".repeat(257);
        let bad = [
            "",
            "..",
            "../a",
            "a/../b",
            "/../a",
            "a/..",
            "a\0b",
            ".wh.",
            ".wh...",
            "d/.wh...",
            ".wh.a/b",
            ".wh.a/.wh..wh..opq",
            ".wh..",
            &long_path,
            &long_name,
            &deep,
        ];
        for name in bad {
            assert!(meaning(name.as_bytes()).is_err(), "{name:?}");
        }
    }
}
