//! Checks of single values beyond their type. Each says what is wrong in words that can follow the
//! key's name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::value::Reason;

type Verdict = Result<(), Reason>;

fn refuse(text: impl Into<String>) -> Verdict {
    Err(Reason::from(text.into()))
}

/// sun_path of unix(7) less its NUL byte.
const SOCKET_PATH_MAX: usize = 107;

/// A path that a unix socket can be bound to.
pub(super) fn socket(path: &Path) -> Verdict {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        return refuse(format!(
            "a unix socket's path can have {SOCKET_PATH_MAX} bytes, this one has {length}"
        ));
    }
    if path == Path::new("/") || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return refuse(format!(
            "`{}` names a directory, not a socket",
            path.display()
        ));
    }
    Ok(())
}

/// As [`socket`], where empty is "none".
pub(super) fn optional_socket(path: &Option<PathBuf>) -> Verdict {
    path.as_ref().map_or(Ok(()), |path| socket(path))
}

pub(super) fn not_empty(text: &str) -> Verdict {
    if text.is_empty() {
        refuse("it cannot be empty")
    } else {
        Ok(())
    }
}

pub(super) fn overlay(driver: &str) -> Verdict {
    match driver {
        "overlay" | "overlay2" | "" => Ok(()),
        other => refuse(format!(
            "the only storage driver is `overlay`, found `{other}`"
        )),
    }
}

/// An address to listen on: an IP address or a host name.
pub(super) fn host(host: &str) -> Verdict {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.chars().all(name)) {
        return Ok(());
    }
    refuse(format!(
        "expected an IP address or host name, found `{host}`"
    ))
}

/// `host:port`.
pub(super) fn endpoint(text: &str) -> Verdict {
    match text.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => refuse(format!(
            "expected an address such as `127.0.0.1:4317`, found `{text}`"
        )),
    }
}

pub(super) fn per_million(rate: &u32) -> Verdict {
    if *rate > 1_000_000 {
        return refuse(format!("expected a rate from 0 to 1000000, found {rate}"));
    }
    Ok(())
}

pub(super) fn period(seconds: &i64) -> Verdict {
    if *seconds < 0 {
        return refuse(format!("expected seconds, 0 or more, found {seconds}"));
    }
    Ok(())
}

/// The bound is that of conmon's read buffer: a smaller log could not hold one record.
pub(super) fn log_size(bytes: &i64) -> Verdict {
    if (0..8192).contains(bytes) {
        return refuse(format!(
            "expected 8192 bytes or more, or -1 for no limit, found {bytes}"
        ));
    }
    Ok(())
}

/// A name of the zone database, which is a path below it and so must not leave it.
pub(super) fn timezone(name: &str) -> Verdict {
    let legal = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    if name.starts_with('/') || !name.chars().all(legal) {
        return refuse(format!(
            "expected a zone such as `Europe/Berlin`, or `Local`, found `{name}`"
        ));
    }
    Ok(())
}

pub(super) fn transport(name: &str) -> Verdict {
    match name {
        "docker://" | "" => Ok(()),
        other => refuse(format!(
            "images are pulled by `docker://` only, found `{other}`"
        )),
    }
}

pub(super) fn exec_cgroup(name: &str) -> Verdict {
    match name {
        "" | "container" => Ok(()),
        other => refuse(format!(
            "expected `container` or an empty string, found `{other}`"
        )),
    }
}

pub(super) fn exec_affinity(name: &str) -> Verdict {
    match name {
        "" | "first" => Ok(()),
        other => refuse(format!(
            "expected `first` or an empty string, found `{other}`"
        )),
    }
}

/// As the kernel takes them (`MAX_SHARES`); 0 sets none.
pub(super) fn cpu_shares(shares: &u64) -> Verdict {
    if *shares > 262_144 {
        return refuse(format!(
            "expected shares from 2 to 262144, or 0, found {shares}"
        ));
    }
    Ok(())
}

/// As the kernel takes it; 0 sets none.
pub(super) fn cpu_period(period: &u64) -> Verdict {
    if *period != 0 && !(1_000..=1_000_000).contains(period) {
        return refuse(format!(
            "expected microseconds from 1000 to 1000000, or 0, found {period}"
        ));
    }
    Ok(())
}

/// As the kernel takes it; 0 sets none.
pub(super) fn cpu_quota(quota: &i64) -> Verdict {
    if !matches!(quota, -1 | 0 | 1_000..) {
        return refuse(format!(
            "expected microseconds, 1000 or more, -1 or 0, found {quota}"
        ));
    }
    Ok(())
}

pub(super) fn cpu_limit(thousandths: &i64) -> Verdict {
    if *thousandths < 0 {
        return refuse(format!(
            "expected thousandths of a CPU, found {thousandths}"
        ));
    }
    Ok(())
}

/// Keys are `os/architecture`, values absolute paths.
pub(super) fn platforms(paths: &BTreeMap<String, String>) -> Verdict {
    for (platform, path) in paths {
        if platform.split('/').filter(|part| !part.is_empty()).count() < 2 {
            return refuse(format!(
                "expected a platform such as `linux/arm64`, found `{platform}`"
            ));
        }
        if !path.starts_with('/') {
            return refuse(format!(
                "expected an absolute path for {platform}, found `{path}`"
            ));
        }
    }
    Ok(())
}

const POD_METRICS: [&str; 11] = [
    "all", "cpu", "disk", "diskIO", "hugetlb", "memory", "network", "oom", "pressure", "process",
    "spec",
];

pub(super) fn pod_metrics(groups: &[String]) -> Verdict {
    match groups
        .iter()
        .find(|group| !POD_METRICS.contains(&group.as_str()))
    {
        Some(group) => refuse(format!(
            "`{group}` is not a group of metrics; known are {}",
            POD_METRICS.join(", ")
        )),
        None => Ok(()),
    }
}
