//! Paths in a container, by their text alone: made absolute and clean, never looked up.
//!
//! Also the lists of masked and read-only paths.

use super::config::Security;
use super::error::SpecError;

/// The longest path the kernel takes (PATH_MAX, with its end byte).
const MAX_PATH_BYTES: usize = 4095;

/// What a container must not see or write below /proc when nobody says otherwise; the kubelet
/// sends its own lists, so these are for our pause process.
pub(super) const DEFAULT_MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
];
/// See [`DEFAULT_MASKED`].
pub(super) const DEFAULT_READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The path as the runtime gets it: absolute, without `.`, `..`, empty parts or a slash at the
/// end. `..` ends at the root, as in the kernel.
pub(super) fn clean(field: &str, path: &str) -> Result<String, SpecError> {
    check(field, path)?;
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// What no path can be.
pub(super) fn check(field: &str, path: &str) -> Result<(), SpecError> {
    match path {
        "" => Err(SpecError::invalid(field, "the path is empty")),
        path if path.len() > MAX_PATH_BYTES => Err(SpecError::invalid(
            field,
            format!("the path is longer than {MAX_PATH_BYTES}"),
        )),
        path if path.contains('\0') => Err(SpecError::invalid(
            field,
            "the path has a NUL character in it",
        )),
        _ => Ok(()),
    }
}

/// How many parts a clean path has: the depth that mounts are sorted by.
pub(super) fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// Masked and read-only paths: as sent, none for a privileged container. Empty means none, and a
/// path that the container does not have does no harm (both by the CRI).
pub(super) fn hidden(security: &Security) -> Result<(Vec<String>, Vec<String>), SpecError> {
    if security.privileged {
        return Ok((Vec::new(), Vec::new()));
    }
    let all = |field: &str, list: &[String]| {
        list.iter()
            .map(|path| match path.starts_with('/') {
                true => clean(field, path),
                false => Err(SpecError::invalid(
                    field,
                    format!("`{path}` is not absolute"),
                )),
            })
            .collect::<Result<Vec<_>, _>>()
    };
    Ok((
        all("security_context.masked_paths", &security.masked_paths)?,
        all("security_context.readonly_paths", &security.readonly_paths)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_clean() {
        for (path, want) in [
            ("/", "/"),
            ("data", "/data"),
            ("/data/", "/data"),
            ("//data//./x/", "/data/x"),
            ("/data/../x", "/x"),
            ("../../etc", "/etc"),
            ("/a/b/../..", "/"),
        ] {
            assert_eq!(clean("f", path).unwrap(), want, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_named_by_its_field() {
        let long = "x".repeat(5000);
        for (path, want) in [
            ("", "working_dir: the path is empty"),
            ("/a\0b", "working_dir: the path has a NUL"),
            (long.as_str(), "working_dir: the path is longer than 4095"),
        ] {
            let error = clean("working_dir", path).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn lists_are_used_as_sent_and_not_at_all_when_privileged() {
        let mut security = Security {
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            ..Security::default()
        };
        let (masked, readonly) = hidden(&security).unwrap();
        assert_eq!(
            (masked, readonly),
            (vec!["/proc/kcore".into()], vec!["/proc/sys".into()])
        );
        assert_eq!(hidden(&Security::default()).unwrap(), (vec![], vec![]));
        security.privileged = true;
        assert_eq!(hidden(&security).unwrap(), (vec![], vec![]));
        let relative = Security {
            masked_paths: vec!["proc".into()],
            ..Security::default()
        };
        assert!(
            hidden(&relative)
                .unwrap_err()
                .to_string()
                .contains("`proc` is not absolute")
        );
    }
}
