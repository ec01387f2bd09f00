//! Finding and reading configuration files, which may be large, odd or not there.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::error::ConfigError;

/// Largest configuration file in bytes. CRI-O's own, with every comment, has 30 KiB.
const FILE_MAX: u64 = 1 << 20;
/// Most files in the drop-in directory.
const DROP_INS_MAX: usize = 512;
/// How deep the drop-in directory may be. Links are followed, so this also ends a loop of them.
const DEPTH_MAX: usize = 8;

/// Reads a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let kind = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Only a regular file: opening a fifo would wait for its writer. A link to /dev/null is how
    // systemd's users mask a drop-in.
    if !kind.is_file() {
        if fs::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null")) {
            return Ok(Some(String::new()));
        }
        return Err(ConfigError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit: FILE_MAX,
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| ConfigError::NotUtf8 {
        path: path.to_owned(),
        at: error.utf8_error().valid_up_to(),
    })?;
    Ok(Some(
        text.strip_prefix('\u{feff}')
            .map_or_else(|| text.clone(), str::to_owned),
    ))
}

/// The files of the drop-in directory in the order in which they apply, `None` when there is no
/// such directory.
///
/// Every file counts, whatever its ending, and directories are descended into where their name
/// stands in the order: CRI-O's rules. Names that begin with a dot or end with `~` are left out,
/// which spares editors' copies and the hidden directories of a mounted ConfigMap.
pub(super) fn drop_ins(dir: &Path) -> Result<Option<Vec<PathBuf>>, ConfigError> {
    match fs::metadata(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        _ => {
            let mut files = Vec::new();
            collect(dir, 0, &mut files)?;
            Ok(Some(files))
        }
    }
}

fn collect(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), ConfigError> {
    if depth >= DEPTH_MAX {
        return Err(ConfigError::TooDeep {
            dir: dir.to_owned(),
            limit: DEPTH_MAX,
        });
    }
    let failed = |source| ConfigError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b".") || bytes.ends_with(b"~") {
            continue;
        }
        if files.len() + entries.len() >= DROP_INS_MAX {
            return Err(ConfigError::TooManyDropIns {
                dir: dir.to_owned(),
                limit: DROP_INS_MAX,
            });
        }
        entries.push(dir.join(name));
    }
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, depth + 1, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let files = drop_ins(dir).unwrap().unwrap();
        let relative = |path: &PathBuf| path.strip_prefix(dir).unwrap().display().to_string();
        files.iter().map(relative).collect()
    }

    #[test]
    fn drop_ins_are_lexical_and_recursive_whatever_they_are_called() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("20-net.conf")).unwrap();
        for name in [
            "30-b.conf",
            "10-a",
            "20-net.conf/z",
            "20-net.conf/a.toml",
            ".swp",
            "x.conf~",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        symlink("10-a", dir.path().join("99-link.conf")).unwrap();
        let expected = [
            "10-a",
            "20-net.conf/a.toml",
            "20-net.conf/z",
            "30-b.conf",
            "99-link.conf",
        ];
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_missing_directory_is_none_and_a_file_in_its_place_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(drop_ins(&dir.path().join("none")).unwrap().is_none());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(drop_ins(&file), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn a_loop_of_links_ends_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        symlink(dir.path(), dir.path().join("again")).unwrap();
        assert!(matches!(
            drop_ins(dir.path()),
            Err(ConfigError::TooDeep { .. })
        ));
    }

    #[test]
    fn more_files_than_anyone_writes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=DROP_INS_MAX {
            fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        assert!(matches!(
            drop_ins(dir.path()),
            Err(ConfigError::TooManyDropIns { .. })
        ));
    }

    #[test]
    fn what_is_no_small_text_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("large"), vec![b'#'; 1 + (1 << 20)]).unwrap();
        fs::write(path("latin1"), b"# caf\xe9").unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        symlink("/dev/null", path("masked")).unwrap();
        fs::write(path("bom"), "\u{feff}[crio]\n").unwrap();

        assert!(matches!(
            read(&path("large")),
            Err(ConfigError::TooLarge { .. })
        ));
        assert!(matches!(
            read(&path("latin1")),
            Err(ConfigError::NotUtf8 { at: 5, .. })
        ));
        assert!(matches!(
            read(&path("fifo")),
            Err(ConfigError::NotAFile { .. })
        ));
        assert!(matches!(
            read(dir.path()),
            Err(ConfigError::NotAFile { .. })
        ));
        assert!(read(&path("dangling")).unwrap().is_none());
        assert_eq!(read(&path("masked")).unwrap().unwrap(), "");
        assert_eq!(read(&path("bom")).unwrap().unwrap(), "[crio]\n");
    }
}
