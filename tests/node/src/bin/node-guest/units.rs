//! What systemd says of units, and what the kernel says of their cgroups.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Where cgroup v2 is.
const CGROUPS: &str = "/sys/fs/cgroup";
/// systemd learns of an empty cgroup a moment after the kernel does; the machine is emulated.
const MOMENT: Duration = Duration::from_secs(60);

/// Runs a program and gives its output, whatever its exit code.
pub fn output(words: &[&str]) -> Outcome<String> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text + &String::from_utf8_lossy(&output.stderr))
}

/// Runs systemctl, which must succeed.
pub fn systemctl(words: &[&str]) -> Outcome<String> {
    let output = Command::new("systemctl").args(words).output();
    let output = output.map_err(|error| format!("systemctl: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("systemctl {}: {said}", words.join(" ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A unit's property.
pub fn property(unit: &str, name: &str) -> Outcome<String> {
    systemctl(&["show", "-P", name, unit])
}

/// The directory of a unit's cgroup.
pub fn cgroup(unit: &str) -> Outcome<PathBuf> {
    let path = property(unit, "ControlGroup")?;
    if path.is_empty() {
        return Err(format!("{unit} has no cgroup"));
    }
    Ok(Path::new(CGROUPS).join(path.trim_start_matches('/')))
}

/// A file of a unit's cgroup.
pub fn file(unit: &str, name: &str) -> Outcome<String> {
    let path = cgroup(unit)?.join(name);
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The limit in force in a container's scope is this: crun puts a cgroup `container` into it, and
/// writes limits into either or both.
pub fn holds(scope: &str, name: &str, wanted: &str) -> Outcome {
    let scope_dir = cgroup(scope)?;
    let read = |dir: &Path| std::fs::read_to_string(dir.join(name)).ok();
    let mut found: Vec<String> = [read(&scope_dir), read(&scope_dir.join("container"))]
        .into_iter()
        .flatten()
        .map(|text| text.trim().to_owned())
        .collect();
    // Of two limits the smaller one counts.
    if let Some(least) = found
        .iter()
        .filter_map(|text| text.parse::<u64>().ok())
        .min()
        && !["memory.min", "memory.oom.group"].contains(&name)
    {
        found = vec![least.to_string()];
    }
    if found.iter().any(|text| text == wanted) {
        return Ok(());
    }
    Err(format!(
        "{scope}: {name} is {found:?} instead of {wanted:?}"
    ))
}

/// The processes in a unit's cgroup and in those below it.
pub fn processes(unit: &str) -> Outcome<Vec<String>> {
    let mut pids = Vec::new();
    let mut pending = vec![cgroup(unit)?];
    while let Some(dir) = pending.pop() {
        let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().map(str::to_owned));
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        pending.extend(entries.filter(is_dir).map(|entry| entry.path()));
    }
    pids.sort();
    match pids.is_empty() {
        true => Err(format!("{unit} holds no process")),
        false => Ok(pids),
    }
}

/// All units of cricket's pods and containers that systemd knows, the failed ones too.
pub fn ours() -> Outcome<Vec<String>> {
    let list = ["list-units", "--all", "--plain", "--no-legend", "crio-*"];
    let text = systemctl(&list)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> Outcome<bool>) -> Outcome {
    let since = Instant::now();
    while !is_so()? {
        if since.elapsed() > MOMENT {
            return Err(format!("{what}: not after {MOMENT:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
