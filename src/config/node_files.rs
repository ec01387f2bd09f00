//! Files of the node that keys name and containers get: the time zone, and the default mounts of
//! containers-mounts.conf(5). They are read when the daemon starts.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::load::Loaded;

/// Where zones are (tzfile(5)).
const ZONES: &str = "/usr/share/zoneinfo";
/// The node's own zone.
const LOCAL: &str = "/etc/localtime";
/// The administrator's mounts.conf, then the distribution's; the first that is there counts.
const MOUNTS: [&str; 2] = [
    "/etc/containers/mounts.conf",
    "/usr/share/containers/mounts.conf",
];
/// The most that is read of one of these files; zones have a few kB.
const MAX_BYTES: u64 = 1 << 20;
/// Most lines of a mounts.conf.
const MAX_MOUNTS: usize = 64;

/// What containers see as /etc/localtime (`timezone`); `None` leaves it to the image.
///
/// # Errors
/// When the node does not have the zone.
pub fn localtime(loaded: &Loaded) -> Result<Option<Vec<u8>>, ConfigError> {
    let path = match loaded.config.runtime.timezone.as_str() {
        "" => return Ok(None),
        zone if zone.eq_ignore_ascii_case("local") => PathBuf::from(LOCAL),
        zone => Path::new(ZONES).join(zone),
    };
    read(&path)
        .map(Some)
        .map_err(|error| ConfigError::NodeFile {
            key: "timezone",
            path,
            problem: format!("{error}; install the zones (package tzdata) or name another"),
        })
}

/// Files and directories of the node for every container, and where they go
/// (`default_mounts_file`, else the files of containers/common).
///
/// # Errors
/// When the file that the key names cannot be read, or a line is not understood.
pub fn default_mounts(loaded: &Loaded) -> Result<Vec<(PathBuf, String)>, ConfigError> {
    let named = loaded.config.runtime.default_mounts_file.clone();
    let path = match named {
        Some(path) => path,
        None => match MOUNTS.iter().map(Path::new).find(|path| path.exists()) {
            Some(path) => path.to_owned(),
            None => return Ok(Vec::new()),
        },
    };
    read(&path)
        .map_err(|error| error.to_string())
        .and_then(|text| parse(&String::from_utf8_lossy(&text)))
        .map_err(|problem| ConfigError::NodeFile {
            key: "default_mounts_file",
            path,
            problem,
        })
}

/// `/on/the/node:/in/the/container`, or one path for both; `#` begins a comment.
fn parse(text: &str) -> Result<Vec<(PathBuf, String)>, String> {
    let mut mounts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (from, to) = line.split_once(':').unwrap_or((line, line));
        let to = to.trim_end_matches('/');
        let whole = |path: &str| {
            path.starts_with('/')
                && !path.contains('\0')
                && Path::new(path)
                    .components()
                    .all(|part| part != std::path::Component::ParentDir)
        };
        if !whole(from) || !whole(to) {
            return Err(format!(
                "line {}: `{}` is not two absolute paths with a colon between them",
                number + 1,
                line.escape_debug()
            ));
        }
        if mounts.len() == MAX_MOUNTS {
            return Err(format!("more than {MAX_MOUNTS} mounts"));
        }
        mounts.push((PathBuf::from(from), to.to_owned()));
    }
    Ok(mounts)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // opening a pipe would wait for a writer
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    fs::File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut text)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(io::Error::other(format!("larger than {MAX_BYTES} bytes"))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_two_paths_or_one_for_both() {
        let text = "# subscriptions\n\n/usr/share/rhel/secrets:/run/secrets/\n /opt/ca \n";
        let want = [
            ("/usr/share/rhel/secrets", "/run/secrets"),
            ("/opt/ca", "/opt/ca"),
        ];
        let want = want.map(|(from, to)| (PathBuf::from(from), to.to_owned()));
        assert_eq!(parse(text).unwrap(), want);
    }

    #[test]
    fn a_line_that_is_no_mount_is_named_by_its_number() {
        for line in [
            "relative:/x",
            "/x:relative",
            "/x:/",
            ":",
            "/x:/../etc",
            "/x\0:/y",
        ] {
            let error = parse(&format!("\n{line}\n")).unwrap_err();
            assert!(error.starts_with("line 2: "), "{error}");
        }
        assert!(
            parse(&"/a:/b\n".repeat(1000))
                .unwrap_err()
                .contains("more than 64")
        );
    }

    #[test]
    fn what_is_no_file_or_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_err());
        let big = dir.path().join("big");
        fs::File::create(&big)
            .unwrap()
            .set_len(MAX_BYTES + 1)
            .unwrap();
        assert!(read(&big).unwrap_err().to_string().contains("larger"));
        assert!(read(&dir.path().join("gone")).is_err());
    }
}
