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
