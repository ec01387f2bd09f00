//! Paths without symbolic links in them.

use std::fs;
use std::path::{Path, PathBuf};

/// The path as the kernel shows it in `/proc`: links of what exists of it resolved, the rest as it is. A
/// path of which nothing can be resolved stays.
pub fn resolved(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => resolved(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_resolved_and_what_does_not_exist_yet_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(scratch.path()).unwrap();
        fs::create_dir(real.join("disk")).unwrap();
        symlink("disk", real.join("link")).unwrap();
        for (path, want) in [
            ("link", "disk"),
            ("link/a/b", "disk/a/b"),
            ("new/c", "new/c"),
        ] {
            assert_eq!(resolved(&real.join(path)), real.join(want));
        }
        for path in ["", "relative", "/"] {
            assert_eq!(resolved(Path::new(path)), Path::new(path));
        }
    }
}
