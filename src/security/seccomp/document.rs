//! The JSON document of a seccomp profile, checked field by field.
//!
//! Two dialects that share most fields: containers/common (`archMap`, `includes`, `excludes`,
//! `errno` by name) and the OCI runtime spec (`architectures`). Fields not known here are passed
//! over, as in both originals.

use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::runtime::{Arch, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator};
use serde::Deserialize;

use super::{Profile, Rule, Target};
use crate::security::capabilities::CapSet;

/// The most rules of a profile; the default one has 35.
pub(super) const MAX_RULES: usize = 4096;
/// The most system call names in all rules; the default one has some 500.
pub(super) const MAX_NAMES: usize = 32768;
/// The longest system call name; the longest real one has 27 characters.
const MAX_NAME_BYTES: usize = 128;
/// The largest errno (MAX_ERRNO, linux/err.h).
const MAX_ERRNO: u32 = 4095;
/// System calls have at most six arguments, and libseccomp compares each at most once per rule.
const MAX_ARGS: usize = 6;

/// A field whose value has no meaning.
pub(super) struct Problem {
    pub(super) field: String,
    pub(super) text: String,
}

fn problem(field: impl Into<String>, text: impl Into<String>) -> Problem {
    Problem {
        field: field.into(),
        text: text.into(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchFamily>>,
    flags: Option<Vec<String>>,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchFamily {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<Arg>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Document {
    pub(super) fn compile(self, target: Target) -> Result<Profile, Problem> {
        let syscalls = self.syscalls.unwrap_or_default();
        check_counts(&syscalls)?;
        let mut rules = Vec::new();
        for (index, syscall) in syscalls.into_iter().enumerate() {
            rules.extend(syscall.compile(&format!("syscalls[{index}]"), target)?);
        }
        Ok(Profile {
            default_action: known(&self.default_action, "action", "defaultAction")?,
            default_errno: errno(
                self.default_errno_ret,
                self.default_errno.as_deref(),
                "defaultErrno",
            )?,
            architectures: architectures(self.architectures, self.arch_map, target)?.into(),
            flags: all_known(&self.flags.unwrap_or_default(), "flag", "flags")?.into(),
            listener_path: self
                .listener_path
                .filter(|path| !path.as_os_str().is_empty()),
            listener_metadata: self.listener_metadata.filter(|text| !text.is_empty()),
            rules: rules.into(),
        })
    }
}

fn check_counts(syscalls: &[Syscall]) -> Result<(), Problem> {
    if syscalls.len() > MAX_RULES {
        return Err(problem("syscalls", format!("more than {MAX_RULES} rules")));
    }
    let names: usize = syscalls
        .iter()
        .flat_map(|rule| &rule.names)
        .map(Vec::len)
        .sum();
    if names > MAX_NAMES {
        return Err(problem("syscalls", format!("more than {MAX_NAMES} names")));
    }
    Ok(())
}

impl Syscall {
    /// The rule, or nothing when this machine never needs it. Rules for other machines are
    /// checked all the same: a profile is right or wrong everywhere.
    fn compile(self, at: &str, target: Target) -> Result<Option<Rule>, Problem> {
        let action = known(&self.action, "action", &format!("{at}.action"))?;
        let errno = errno(
            self.errno_ret,
            self.errno.as_deref(),
            &format!("{at}.errno"),
        )?;
        let args = arguments(self.args.unwrap_or_default(), at)?;
        let names = names(self.name, self.names, at)?;
        let (includes, excludes) = (
            self.includes.unwrap_or_default(),
            self.excludes.unwrap_or_default(),
        );
        let needs = includes.caps(&format!("{at}.includes"))?;
        let without = excludes.caps(&format!("{at}.excludes"))?;
        let wanted = includes
            .holds(&format!("{at}.includes"), target)?
            .unwrap_or(true);
        let unwanted = excludes
            .holds(&format!("{at}.excludes"), target)?
            .unwrap_or(false);
        if !wanted || unwanted {
            return Ok(None);
        }
        Ok(Some(Rule {
            names,
            action,
            errno,
            args,
            needs,
            excludes: without,
        }))
    }
}

impl Condition {
    fn caps(&self, at: &str) -> Result<CapSet, Problem> {
        CapSet::of(self.caps.as_deref().unwrap_or_default())
            .map_err(|error| problem(format!("{at}.caps"), error.to_string()))
    }

    /// Whether architecture and kernel match; nothing when the condition names neither.
    fn holds(&self, at: &str, target: Target) -> Result<Option<bool>, Problem> {
        let arch = self
            .arches
            .as_deref()
            .filter(|list| !list.is_empty())
            .map(|list| list.iter().any(|name| name == target.go_arch));
        let kernel = match self.min_kernel.as_deref() {
            None | Some("") => None,
            Some(text) => Some(target.kernel >= kernel_version(text, at)?),
        };
        Ok(match (arch, kernel) {
            (Some(arch), Some(kernel)) => Some(arch && kernel),
            (arch, kernel) => arch.or(kernel),
        })
    }
}

fn kernel_version(text: &str, at: &str) -> Result<(u32, u32), Problem> {
    text.split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| {
            problem(
                format!("{at}.minKernel"),
                format!("`{text}` is not of the form 5.10"),
            )
        })
}

fn names(one: Option<String>, many: Option<Vec<String>>, at: &str) -> Result<Box<str>, Problem> {
    let mut names = many.unwrap_or_default();
    let at = format!("{at}.names");
    match one.filter(|name| !name.is_empty()) {
        Some(_) if !names.is_empty() => {
            return Err(problem(at, "`name` and `names` are both given"));
        }
        Some(name) => names.push(name),
        None => {}
    }
    if names.is_empty() {
        return Err(problem(at, "no name"));
    }
    for name in &names {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
            let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
            return Err(problem(at, format!("{shown:?} cannot be a system call")));
        }
    }
    Ok(names.join(" ").into())
}

fn arguments(args: Vec<Arg>, at: &str) -> Result<Box<[LinuxSeccompArg]>, Problem> {
    if args.len() > MAX_ARGS {
        return Err(problem(
            format!("{at}.args"),
            format!("more than {MAX_ARGS}"),
        ));
    }
    args.into_iter()
        .enumerate()
        .map(|(number, arg)| arg.compile(&format!("{at}.args[{number}]")))
        .collect()
}

impl Arg {
    fn compile(self, at: &str) -> Result<LinuxSeccompArg, Problem> {
        if self.index >= MAX_ARGS {
            return Err(problem(
                format!("{at}.index"),
                format!("{} is not 0 to {}", self.index, MAX_ARGS - 1),
            ));
        }
        let op: LinuxSeccompOperator = known(&self.op, "operator", &format!("{at}.op"))?;
        LinuxSeccompArgBuilder::default()
            .index(self.index)
            .value(self.value)
            .value_two(self.value_two.unwrap_or_default())
            .op(op)
            .build()
            .map_err(|error| problem(at, error.to_string()))
    }
}

/// The architectures of the filter: those that the machine's own one can run as well.
fn architectures(
    plain: Option<Vec<String>>,
    map: Option<Vec<ArchFamily>>,
    target: Target,
) -> Result<Vec<Arch>, Problem> {
    let (plain, map) = (plain.unwrap_or_default(), map.unwrap_or_default());
    if !plain.is_empty() && !map.is_empty() {
        return Err(problem(
            "archMap",
            "`architectures` is given as well, use one of them",
        ));
    }
    let mut list = all_known::<Arch>(&plain, "architecture", "architectures")?;
    for (index, family) in map.into_iter().enumerate() {
        let at = format!("archMap[{index}]");
        let arch: Arch = known(&family.architecture, "architecture", &at)?;
        let subs = all_known(
            &family.sub_architectures.unwrap_or_default(),
            "architecture",
            &at,
        )?;
        if arch == target.arch {
            list = std::iter::once(arch).chain(subs).collect();
        }
    }
    Ok(list)
}

fn all_known<T: FromStr>(texts: &[String], what: &str, at: &str) -> Result<Vec<T>, Problem> {
    texts.iter().map(|text| known(text, what, at)).collect()
}

fn known<T: FromStr>(text: &str, what: &str, at: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(MAX_NAME_BYTES).collect();
        problem(at, format!("unknown {what} `{shown}`"))
    })
}

/// A number wins over a name, so that a name unknown here does no harm beside its number.
fn errno(number: Option<u32>, name: Option<&str>, at: &str) -> Result<Option<u32>, Problem> {
    let name = name.filter(|name| !name.is_empty());
    let Some(errno) = number.or_else(|| name.and_then(errno_number)) else {
        return match name {
            None => Ok(None),
            Some(name) => Err(problem(
                at,
                format!("unknown errno `{name}`, give errnoRet"),
            )),
        };
    };
    if errno > MAX_ERRNO {
        return Err(problem(at, format!("{errno} is more than {MAX_ERRNO}")));
    }
    Ok(Some(errno))
}

/// The errnos that profiles use; anything else needs its number.
fn errno_number(name: &str) -> Option<u32> {
    let number = match name {
        "EPERM" => libc::EPERM,
        "ENOENT" => libc::ENOENT,
        "EINTR" => libc::EINTR,
        "EIO" => libc::EIO,
        "ENXIO" => libc::ENXIO,
        "EBADF" => libc::EBADF,
        "EAGAIN" => libc::EAGAIN,
        "ENOMEM" => libc::ENOMEM,
        "EACCES" => libc::EACCES,
        "EFAULT" => libc::EFAULT,
        "EBUSY" => libc::EBUSY,
        "EEXIST" => libc::EEXIST,
        "ENODEV" => libc::ENODEV,
        "EINVAL" => libc::EINVAL,
        "ENOSPC" => libc::ENOSPC,
        "EROFS" => libc::EROFS,
        "ENOSYS" => libc::ENOSYS,
        "EOPNOTSUPP" | "ENOTSUP" => libc::EOPNOTSUPP,
        "EAFNOSUPPORT" => libc::EAFNOSUPPORT,
        "EPROTONOSUPPORT" => libc::EPROTONOSUPPORT,
        _ => return name.parse().ok(),
    };
    u32::try_from(number).ok()
}
