//! SELinux: the labels of pods and containers.
//!
//! A pod's processes get the policy's container domain with a pair of categories (MCS) that no
//! other pod has, its files the container file type with the same pair: so the kernel keeps pods
//! apart, also where everything else fails. Labels are text, `user:role:type:level`; which types
//! there are the policy says in `contexts/lxc_contexts` (selinux(8), lxc_contexts(5)). The policy
//! itself is the node's; giving labels to processes is the OCI runtime's part.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

mod relabel;

#[cfg(test)]
use relabel::Relabelled;
pub use relabel::{check as check_relabel, relabel, set};

/// Where policies and the choice of one are.
pub const POLICIES: &str = "/etc/selinux";
/// Where the kernel's SELinux file system is mounted when SELinux is on.
pub const KERNEL: &str = "/sys/fs/selinux";

/// The label of the calling process (proc_pid_attr(5)).
pub const OWN_LABEL: &str = "/proc/self/attr/current";
/// The one label that there is until a policy is loaded.
const NO_POLICY: &[u8] = b"kernel";

/// How many categories a policy has by convention (`c0` to `c1023`).
const CATEGORIES: u16 = 1024;
/// The most that is read of a policy's text files.
const MAX_FILE_BYTES: u64 = 1 << 16;
/// The longest part of a label; real ones have some dozen bytes.
const MAX_PART_BYTES: usize = 256;
/// Processes of this type may do everything; their files are left as they are.
const SUPER_PRIVILEGED: &str = "spc_t";

/// What can be wrong with labels.
#[derive(Debug, thiserror::Error)]
pub enum SelinuxError {
    /// A file of the policy cannot be used.
    #[error("SELinux: {}: {problem}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A part of a label that cannot be.
    #[error("selinux_options.{part}: `{value}` {problem}")]
    Part {
        /// `user`, `role`, `type` or `level`.
        part: &'static str,
        /// As sent, cut to a length that can be shown.
        value: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The policy does not know the label.
    #[error("selinux_options: the node's SELinux policy has no label `{label}`: {source}")]
    Unknown {
        /// The label in full.
        label: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Every pair of categories has a pod.
    #[error("SELinux: no pair of categories is left for another pod")]
    NoCategories,
    /// A volume that must not be given to one container.
    #[error("mounts[{index}].selinux_relabel: SELinux relabeling of {} is not allowed: it belongs to the node", path.display())]
    NotAllowed {
        /// Which mount.
        index: usize,
        /// The host path.
        path: PathBuf,
    },
    /// A file could not be labelled.
    #[error("{step} {}: {source}", path.display())]
    Relabel {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// A label in its four parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Context {
    user: String,
    role: String,
    kind: String,
    level: String,
}

impl Context {
    /// A policy without levels has three parts.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        let mut next = || parts.next().map(str::to_owned);
        Some(Self {
            user: next()?,
            role: next()?,
            kind: next()?,
            level: next().unwrap_or_default(),
        })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        match self.level.as_str() {
            "" => Ok(()),
            level => write!(f, ":{level}"),
        }
    }
}

/// Parts of a label that somebody asks for; an empty one is left to the rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// SELinux user.
    pub user: &'a str,
    /// Role.
    pub role: &'a str,
    /// Type.
    pub kind: &'a str,
    /// Level, with categories.
    pub level: &'a str,
}

impl Wanted<'_> {
    fn check(&self) -> Result<(), SelinuxError> {
        let error = |part, value: &str, problem| SelinuxError::Part {
            part,
            value: value
                .chars()
                .take(128)
                .collect::<String>()
                .escape_debug()
                .to_string(),
            problem,
        };
        for (part, value) in [
            ("user", self.user),
            ("role", self.role),
            ("type", self.kind),
        ] {
            let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if value.len() > MAX_PART_BYTES || !value.chars().all(legal) {
                return Err(error(
                    part,
                    value,
                    "is not a name of letters, digits, `_`, `.` and `-`",
                ));
            }
        }
        match self.level.is_empty() || is_level(self.level) {
            true => Ok(()),
            false => Err(error(
                "level",
                self.level,
                "is not a level such as s0:c123,c456",
            )),
        }
    }
}

/// `s0`, `s0:c1,c2`, `s0:c0.c1023`, `s0-s15:c0.c1023` (SELinux notebook, "MLS and MCS").
fn is_level(text: &str) -> bool {
    let number = |text: &str, letter: char, below: u16| {
        let digits = text.strip_prefix(letter).filter(|digits| digits.len() <= 4);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits
            .and_then(|digits| digits.parse::<u16>().ok())
            .filter(|number| *number < below)
    };
    let categories = |list: &str| {
        list.split(',').all(|part| match part.split_once('.') {
            Some((from, to)) => {
                let (from, to) = (number(from, 'c', CATEGORIES), number(to, 'c', CATEGORIES));
                from.is_some() && from < to
            }
            None => number(part, 'c', CATEGORIES).is_some(),
        })
    };
    let one = |level: &str| match level.split_once(':') {
        Some((sensitivity, list)) => number(sensitivity, 's', 1000).is_some() && categories(list),
        None => number(level, 's', 1000).is_some(),
    };
    text.len() <= MAX_PART_BYTES
        && match text.split_once('-') {
            Some((low, high)) => one(low) && one(high),
            None => one(text),
        }
}

/// The labels of a pod or container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Of its processes; empty: whatever the OCI runtime's own become.
    pub process: String,
    /// Of its files.
    pub mount: String,
}

impl Labels {
    /// Whether a container with these labels needs its volumes labelled: one whose processes are
    /// not confined reaches them anyway.
    pub fn relabels(&self) -> bool {
        !self.process.is_empty()
            && Context::parse(&self.process).is_none_or(|label| label.kind != SUPER_PRIVILEGED)
    }

    /// The labels of a container of the pod with these: what it asks for, else the pod's.
    ///
    /// # Errors
    /// When a part is not what it should be.
    pub fn of_container(&self, wanted: &Wanted) -> Result<Labels, SelinuxError> {
        wanted.check()?;
        let part = |label: &str, file: bool| {
            Context::parse(label)
                .map_or_else(String::new, |label| over(label, wanted, file).to_string())
        };
        Ok(Labels {
            process: part(&self.process, false),
            mount: part(&self.mount, true),
        })
    }

    /// The same without confinement of its processes.
    pub fn unconfined(&self) -> Labels {
        Labels {
            process: String::new(),
            mount: self.mount.clone(),
        }
    }
}

/// A label with what was asked for. Files keep their role and type.
fn over(mut label: Context, wanted: &Wanted, file: bool) -> Context {
    let set = |part: &mut String, value: &str| {
        if !value.is_empty() {
            value.clone_into(part);
        }
    };
    set(&mut label.user, wanted.user);
    set(&mut label.level, wanted.level);
    if !file {
        set(&mut label.role, wanted.role);
        set(&mut label.kind, wanted.kind);
    }
    label
}

/// Whether a kernel has SELinux on: its file system is mounted at `kernel` ([`KERNEL`]), to be written
/// to, and a policy is loaded, for processes (`own_label` is [`OWN_LABEL`]) have other labels than the
/// kernel's. So go-selinux has it, by which CRI-O decides.
pub fn is_on(kernel: &Path, own_label: &Path) -> bool {
    let writable = || {
        nix::sys::statvfs::statvfs(kernel).is_ok_and(|facts| {
            !facts
                .flags()
                .contains(nix::sys::statvfs::FsFlags::ST_RDONLY)
        })
    };
    let label = fs::read(own_label).unwrap_or_default();
    // A NUL ends it in some kernels, a line break in none.
    let label = label.strip_suffix(b"\0").unwrap_or(&label);
    // Without the mount it is an empty directory of sysfs.
    kernel.join("enforce").exists() && writable() && label != NO_POLICY
}

/// Whether a kernel denies what its policy does not allow.
pub fn is_enforcing(kernel: &Path) -> bool {
    fs::read(kernel.join("enforce")).is_ok_and(|mode| mode.trim_ascii() == b"1")
}

/// SELinux on this node.
#[derive(Debug)]
pub struct Selinux {
    process: Context,
    file: Context,
    kernel: PathBuf,
    /// The levels in use, by the id of their pod.
    levels: Mutex<HashMap<String, String>>,
}

impl Selinux {
    /// Reads which labels the node's policy has for containers. `None` where SELinux is off:
    /// `kernel` ([`KERNEL`]) holds no `enforce`.
    ///
    /// # Errors
    /// When the policy ([`POLICIES`] is `policies`) says nothing about containers.
    pub fn open(policies: &Path, kernel: &Path) -> Result<Option<Self>, SelinuxError> {
        if !kernel.join("enforce").exists() {
            return Ok(None);
        }
        let config = policies.join("config");
        let text = read(&config)?;
        let policy = setting(&text, "SELINUXTYPE").ok_or_else(|| SelinuxError::Policy {
            path: config,
            problem: "it does not say SELINUXTYPE".to_owned(),
        })?;
        let path = policies.join(policy).join("contexts/lxc_contexts");
        let text = read(&path)?;
        let context = |key: &str| {
            setting(&text, key)
                .and_then(Context::parse)
                .ok_or_else(|| SelinuxError::Policy {
                    path: path.clone(),
                    problem: format!(
                        "it has no label for `{key}`; install the policy's container module"
                    ),
                })
        };
        Ok(Some(Self {
            process: context("process")?,
            file: context("file")?,
            kernel: kernel.to_owned(),
            levels: Mutex::default(),
        }))
    }

    /// The labels of a new pod, with a pair of categories that no other has unless it asks for a
    /// level itself. They are the pod's until [`release`](Self::release).
    ///
    /// # Errors
    /// When a part that is asked for cannot be, or the policy does not know the label.
    pub fn pod(&self, id: &str, wanted: &Wanted) -> Result<Labels, SelinuxError> {
        wanted.check()?;
        let level = {
            let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
            let level = match wanted.level {
                "" => free(id, |level| levels.values().any(|known| known == level))
                    .ok_or(SelinuxError::NoCategories)?,
                level => level.to_owned(),
            };
            levels.insert(id.to_owned(), level.clone());
            level
        };
        let wanted = Wanted {
            level: &level,
            ..*wanted
        };
        let labels = Labels {
            process: over(self.process.clone(), &wanted, false).to_string(),
            mount: over(self.file.clone(), &wanted, true).to_string(),
        };
        let known = self.check(&labels);
        if known.is_err() {
            self.release(id);
        }
        known.map(|()| labels)
    }

    /// Notes the level of a pod of an earlier daemon.
    pub fn reserve(&self, id: &str, labels: &Labels) {
        if let Some(label) = Context::parse(&labels.mount) {
            let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
            levels.insert(id.to_owned(), label.level);
        }
    }

    /// Gives back the categories of a pod that is gone.
    pub fn release(&self, id: &str) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.remove(id);
    }

    /// Asks the kernel whether the policy has these labels.
    ///
    /// # Errors
    /// When it has not.
    pub fn check(&self, labels: &Labels) -> Result<(), SelinuxError> {
        for label in [&labels.process, &labels.mount] {
            if label.is_empty() {
                continue;
            }
            fs::File::options()
                .write(true)
                .open(self.kernel.join("context"))
                .and_then(|mut file| file.write_all(&[label.as_bytes(), b"\0"].concat()))
                .map_err(|source| SelinuxError::Unknown {
                    label: label.clone(),
                    source,
                })?;
        }
        Ok(())
    }
}

/// A level that is not taken, the first try being a function of the id: two random categories.
fn free(id: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
    // Pairs in a fixed order, begun at a place that differs from pod to pod.
    let pairs = u32::from(CATEGORIES) * u32::from(CATEGORIES - 1) / 2;
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    let start = id.bytes().fold(2_166_136_261, hash) % pairs;
    (0..pairs)
        .map(|step| level_of((start + step) % pairs))
        .find(|level| !taken(level))
}

/// The pair of a number: (0,1), (0,2), (1,2), (0,3), …
fn level_of(number: u32) -> String {
    let (mut high, mut before) = (1, 0);
    while before + high <= number {
        before += high;
        high += 1;
    }
    format!("s0:c{},c{high}", number - before)
}

fn read(path: &Path) -> Result<String, SelinuxError> {
    let fault = |error: std::io::Error| SelinuxError::Policy {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(fault)?;
    Ok(text)
}

/// The value of `key = "value"`, with or without quotes.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .find(|(known, _)| known.trim() == key)
        .map(|(_, value)| value.trim().trim_matches('"'))
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
