//! Users and groups of a container: who `user[:group]` is, by /etc/passwd and /etc/group of its
//! root filesystem.
//!
//! The lookup is pure: text in, ids out. The files come from an image and are hostile: the reader
//! opens them confined to the root (`RESOLVE_IN_ROOT`), takes regular files alone and at most
//! [`MAX_FILE_BYTES`]; a line that makes no sense is passed over, as libc does.

use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

mod generated;

pub use generated::{group as group_with, passwd as passwd_with};

/// The most that is read of /etc/passwd or /etc/group: some 15 000 accounts.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// The most groups a process can be in (NGROUPS_MAX, linux/limits.h).
const MAX_GROUPS: usize = 65536;

/// Whether /etc/group adds to the supplemental groups (CRI `SupplementalGroupsPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupsPolicy {
    /// The groups that list the user, and those of the request.
    #[default]
    Merge,
    /// Those of the request alone.
    Strict,
}

/// Who a container is to run as, before anything is looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRequest {
    /// `run_as_username`; empty means unset. Wins over `uid`.
    pub username: String,
    /// `run_as_user`.
    pub uid: Option<i64>,
    /// `run_as_group`; needs one of the two above.
    pub gid: Option<i64>,
    /// The image's USER, `user[:group]`; counts when neither name nor uid is given.
    pub image_user: String,
    /// `supplemental_groups`.
    pub supplemental_groups: Vec<i64>,
    /// Whether /etc/group adds to them.
    pub policy: GroupsPolicy,
}

/// Who a container runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// The name, where /etc/passwd has one.
    pub name: Option<String>,
    /// The home directory, where /etc/passwd has one.
    pub home: Option<String>,
}

/// The text of a root filesystem's account files; a missing file is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// /etc/passwd.
    pub passwd: Vec<u8>,
    /// /etc/group.
    pub group: Vec<u8>,
}

/// What can be wrong with a container's user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A user name that /etc/passwd does not have.
    #[error("user `{name}` ({from}): no such user in the image's /etc/passwd")]
    NoSuchUser {
        /// The name.
        name: String,
        /// Which field asked for it.
        from: &'static str,
    },
    /// A group name that /etc/group does not have.
    #[error("group `{name}` ({from}): no such group in the image's /etc/group")]
    NoSuchGroup {
        /// The name.
        name: String,
        /// Which field asked for it.
        from: &'static str,
    },
    /// `run_as_group` without a user.
    #[error("run_as_group {gid} is given without run_as_user or run_as_username")]
    GroupWithoutUser {
        /// The group.
        gid: i64,
    },
    /// A number that is no id.
    #[error("{field} {value} is not a valid id (0 to 4294967294)")]
    BadId {
        /// Which field.
        field: &'static str,
        /// The number as given.
        value: String,
    },
    /// More groups than the kernel takes.
    #[error("{count} groups, the kernel takes {MAX_GROUPS}")]
    TooManyGroups {
        /// How many.
        count: usize,
    },
    /// An account file that cannot be read.
    #[error("{file} of the container's root: {source}")]
    Read {
        /// The path in the container.
        file: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// An account file that is a device, a pipe or a directory.
    #[error("{file} of the container's root: not a regular file")]
    NotAFile {
        /// The path in the container.
        file: &'static str,
    },
    /// An account file over the bound.
    #[error("{file} of the container's root: larger than {MAX_FILE_BYTES} bytes")]
    TooLarge {
        /// The path in the container.
        file: &'static str,
    },
}

/// Looks up who a container runs as. The rules are the CRI's: a name, else a number, else the
/// image's USER, else root; a number needs no account; a user without a group gets the account's
/// primary group, else 0.
pub fn lookup(request: &UserRequest, accounts: &Accounts) -> Result<User, UserError> {
    let wanted = Wanted::of(request)?;
    let account = match &wanted.user {
        Id::Number(uid) => {
            account(&accounts.passwd, |line| line.uid == *uid).unwrap_or_else(|| Account {
                uid: *uid,
                ..Account::default()
            })
        }
        Id::Name(name) => named_account(&accounts.passwd, name, wanted.from)?,
    };
    let gid = match &wanted.group {
        None => account.gid,
        Some(Id::Number(gid)) => *gid,
        Some(Id::Name(name)) => named_group(&accounts.group, name, wanted.from)?,
    };
    let groups = groups(request, &accounts.group, account.name.as_deref(), gid)?;
    Ok(User {
        uid: account.uid,
        gid,
        groups,
        name: account.name,
        home: account.home,
    })
}

/// A user or group as it was asked for.
enum Id<'a> {
    Number(u32),
    Name(&'a str),
}

/// Whom to look up, and which field said so.
struct Wanted<'a> {
    user: Id<'a>,
    group: Option<Id<'a>>,
    from: &'static str,
}

impl<'a> Wanted<'a> {
    fn of(request: &'a UserRequest) -> Result<Wanted<'a>, UserError> {
        let group = request
            .gid
            .map(|gid| id("run_as_group", gid).map(Id::Number))
            .transpose()?;
        let (user, from) = match (request.username.as_str(), request.uid) {
            ("", None) => match request.gid {
                Some(gid) => return Err(UserError::GroupWithoutUser { gid }),
                None => return Ok(Wanted::of_image(&request.image_user)),
            },
            ("", Some(uid)) => (Id::Number(id("run_as_user", uid)?), "run_as_user"),
            (name, _) => (Id::Name(name), "run_as_username"),
        };
        Ok(Wanted { user, group, from })
    }

    fn of_image(text: &'a str) -> Wanted<'a> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let user = if user.is_empty() {
            Id::Number(0)
        } else {
            Id::Name(user)
        };
        let group = (!group.is_empty()).then_some(Id::Name(group));
        Wanted {
            user,
            group,
            from: "USER of the image",
        }
    }
}

/// 4294967295 is -1 to the kernel: "leave it as it is".
fn id(field: &'static str, value: i64) -> Result<u32, UserError> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| UserError::BadId {
            field,
            value: value.to_string(),
        })
}

/// The number in a text of digits; none when it is a name.
fn number(text: &str, field: &'static str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(value) => id(field, value).map(Some),
        Err(_) => {
            let value = text.chars().take(32).collect();
            Err(UserError::BadId { field, value })
        }
    }
}

/// One line of /etc/passwd.
#[derive(Default)]
struct Account {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: Option<String>,
}

/// A name may be a number without an account; an account with that name comes first.
fn named_account(passwd: &[u8], name: &str, from: &'static str) -> Result<Account, UserError> {
    if let Some(found) = account(passwd, |line| line.name.as_deref() == Some(name)) {
        return Ok(found);
    }
    match number(name, from)? {
        None => Err(UserError::NoSuchUser {
            name: name.chars().take(256).collect(),
            from,
        }),
        Some(uid) => Ok(
            account(passwd, |line| line.uid == uid).unwrap_or_else(|| Account {
                uid,
                ..Account::default()
            }),
        ),
    }
}

fn account(passwd: &[u8], wanted: impl Fn(&Account) -> bool) -> Option<Account> {
    lines(passwd)
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields
                .nth(1)
                .filter(|home| home.starts_with('/') && !home.contains('\0'));
            Some(Account {
                name: Some(name.into()),
                uid,
                gid,
                home: home.map(str::to_owned),
            })
        })
        .find(wanted)
}

/// The groups of /etc/group: name, id, members.
fn group_lines(group: &[u8]) -> impl Iterator<Item = (&str, u32, &str)> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn named_group(group: &[u8], name: &str, from: &'static str) -> Result<u32, UserError> {
    if let Some((_, gid, _)) = group_lines(group).find(|(known, ..)| *known == name) {
        return Ok(gid);
    }
    number(name, from)?.ok_or_else(|| UserError::NoSuchGroup {
        name: name.chars().take(256).collect(),
        from,
    })
}

/// The primary group, then those of /etc/group that list the user, then the request's; each once.
fn groups(
    request: &UserRequest,
    group: &[u8],
    name: Option<&str>,
    gid: u32,
) -> Result<Vec<u32>, UserError> {
    let mut groups = vec![gid];
    if let (GroupsPolicy::Merge, Some(name)) = (request.policy, name) {
        let lists = |members: &str| members.split(',').any(|member| member.trim() == name);
        groups.extend(
            group_lines(group)
                .filter(|line| lists(line.2))
                .map(|line| line.1),
        );
    }
    for gid in &request.supplemental_groups {
        groups.push(id("supplemental_groups", *gid)?);
    }
    let mut seen = std::collections::HashSet::new();
    groups.retain(|gid| seen.insert(*gid));
    match groups.len() {
        count if count > MAX_GROUPS => Err(UserError::TooManyGroups { count }),
        _ => Ok(groups),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.trim_end_matches('\r').trim_start())
        .filter(|line| !line.starts_with('#'))
}

impl Accounts {
    /// Reads both files below a root directory. No link in the image leads out of it. Blocks.
    pub fn read(root: impl AsFd) -> Result<Accounts, UserError> {
        Ok(Accounts {
            passwd: read_in_root(&root, "/etc/passwd")?,
            group: read_in_root(&root, "/etc/group")?,
        })
    }
}

fn read_in_root(root: impl AsFd, file: &'static str) -> Result<Vec<u8>, UserError> {
    let fault = |source| UserError::Read { file, source };
    // without NONBLOCK the open of a pipe would wait for a writer
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = match rustix::fs::openat2(root, file, flags, Mode::empty(), inside) {
        Ok(opened) => opened,
        // a file on the way to it (ENOTDIR) leaves no such file either
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(fault(errno.into())),
    };
    let stat = rustix::fs::fstat(&opened).map_err(|errno| fault(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(UserError::NotAFile { file });
    }
    let mut text = Vec::new();
    let mut bounded = std::fs::File::from(opened).take(MAX_FILE_BYTES + 1);
    bounded.read_to_end(&mut text).map_err(fault)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(UserError::TooLarge { file });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
