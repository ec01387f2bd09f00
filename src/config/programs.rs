//! Finding the programs that the daemon runs: OCI runtimes, and cricket's own conmon and pause.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::sources::Sources;

/// A program that is installed with cricket.
#[derive(Debug)]
pub(super) struct Own {
    /// Its name in a directory that is cricket's alone.
    name: &'static str,
    /// Its name where everybody's programs are.
    public_name: &'static str,
    /// The key that names another place.
    key: &'static str,
}

const CONMON: Own = Own {
    name: "conmon",
    public_name: "cricket-conmon",
    key: "monitor_path of the handler",
};

pub(super) const PAUSE: Own = Own {
    name: "pause",
    public_name: "cricket-pause",
    key: "pause_path in [crio.runtime]",
};

/// What cricket's conmon answers to `--version`, and so a text that is in its file.
const MONITOR_MARK: &[u8] = b" of cricket\n";
/// How much of a file is searched for the mark; no monitor is larger.
const MONITOR_MAX: u64 = 8 << 20;

/// The first executable of that name in $PATH. Relative directories there are passed over: the
/// daemon's working directory must not choose its runtime.
pub(super) fn search(name: &str, sources: &Sources) -> Option<PathBuf> {
    let path = sources.search_path.as_deref().unwrap_or(OsStr::new(""));
    let dirs = std::env::split_paths(path).filter(|dir| dir.is_absolute());
    dirs.map(|dir| dir.join(name))
        .find(|path| is_executable(path))
}

/// `path` if it can be run; `what` says in an error what it is for.
pub(super) fn executable(path: &Path, what: &str) -> Result<PathBuf, ConfigError> {
    if is_executable(path) {
        return Ok(path.to_owned());
    }
    let detail = match fs::metadata(path) {
        Ok(_) => format!("{} is not an executable file", path.display()),
        Err(error) => format!("{}: {error}", path.display()),
    };
    Err(ConfigError::Binary {
        what: what.to_owned(),
        detail,
    })
}

/// A program that a key names, or another in its place.
#[derive(Debug)]
pub(super) struct Found {
    /// What is to be run.
    pub path: PathBuf,
    /// Set when the named one was passed over: which, and why.
    pub instead: Option<String>,
}

/// Where CRI-O's packages have programs of their own. They install a drop-in that names the OCI
/// runtimes there, which stays when the package and its programs are removed.
const OF_CRIO: &str = "/usr/libexec/crio";

/// The OCI runtime that a key names, or the node's own of that name for one that has gone with
/// CRI-O's package.
pub(super) fn runtime(named: &Path, what: &str, sources: &Sources) -> Result<Found, ConfigError> {
    let missing = match executable(named, what) {
        Ok(path) => {
            return Ok(Found {
                path,
                instead: None,
            });
        }
        Err(missing) => missing,
    };
    let gone = fs::metadata(named).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let name = named.file_name().and_then(OsStr::to_str);
    let Some(name) = name.filter(|_| gone && named.parent() == Some(Path::new(OF_CRIO))) else {
        return Err(missing);
    };
    match search(name, sources) {
        Some(path) => {
            let text = format!(
                "{} has gone with CRI-O's package; {} is used instead, change the key",
                named.display(),
                path.display()
            );
            Ok(Found {
                path,
                instead: Some(text),
            })
        }
        None => Err(ConfigError::Binary {
            what: what.to_owned(),
            detail: format!(
                "{} is not there (CRI-O's package brings it), and there is no `{name}` in $PATH; \
                 install it, or change the key",
                named.display()
            ),
        }),
    }
}

/// The monitor that a key names, or the installed one.
///
/// A configuration that was written for CRI-O names the C program conmon. That one speaks another
/// protocol and every container would fail, so it is passed over for cricket's own.
pub(super) fn monitor(
    named: Option<&Path>,
    what: &str,
    sources: &Sources,
) -> Result<Found, ConfigError> {
    let what = format!("{what}: its monitor");
    let Some(named) = named else {
        return own(&CONMON, &what, sources).map(|path| Found {
            path,
            instead: None,
        });
    };
    let named_works = executable(named, &what);
    if named_works.is_ok() && is_own_monitor(named) {
        return Ok(Found {
            path: named.to_owned(),
            instead: None,
        });
    }
    let path = match (own(&CONMON, &what, sources), named_works) {
        (Ok(path), _) => path,
        (Err(_), Err(named)) => return Err(named),
        (Err(missing), Ok(_)) => return Err(missing),
    };
    let text = format!(
        "{} is not cricket's conmon; {} is used instead, remove the key",
        named.display(),
        path.display()
    );
    Ok(Found {
        path,
        instead: Some(text),
    })
}

fn is_own_monitor(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MONITOR_MAX).read_to_end(&mut bytes));
    read.is_ok()
        && bytes
            .windows(MONITOR_MARK.len())
            .any(|window| window == MONITOR_MARK)
}

/// A program that is installed with cricket: private directories first, because there `conmon`
/// cannot be the C program; then $PATH by a name that nobody else has.
pub(super) fn own(program: &Own, what: &str, sources: &Sources) -> Result<PathBuf, ConfigError> {
    let mut tried = Vec::new();
    if let Some(bin) = sources.executable.as_deref().and_then(Path::parent) {
        let up = bin.parent().unwrap_or(bin);
        let private = ["lib/cricket", "libexec/cricket"].map(|dir| up.join(dir).join(program.name));
        let beside = [bin.join(program.public_name), bin.join(program.name)];
        for path in private.into_iter().chain(beside) {
            // `usr/bin/conmon` beside `usr/bin/cricket` is the C program's place.
            let usable = program.name != CONMON.name || is_own_monitor(&path);
            if is_executable(&path) && usable {
                return Ok(path);
            }
            tried.push(path.display().to_string());
        }
    }
    search(program.public_name, sources).ok_or_else(|| ConfigError::Binary {
        what: what.to_owned(),
        detail: format!(
            "cricket's own `{}` is not installed; looked at {} and for `{}` in $PATH; install it \
             there, or set {}",
            program.name,
            tried.join(", "),
            program.public_name,
            program.key
        ),
    })
}

fn is_executable(path: &Path) -> bool {
    let runs = |metadata: fs::Metadata| metadata.permissions().mode() & 0o111 != 0;
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && runs(metadata))
}
