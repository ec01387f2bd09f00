//! Room on file systems: how much there is, and a little of one's own where there is none.

use core::ffi::CStr;

use crate::arch::number;
use crate::errno::call;
use crate::{Errno, Fd};

/// What is free where a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Blocks.
    pub blocks: u64,
    /// Inodes; `None` where the file system does not count them.
    pub inodes: Option<u64>,
}

/// struct statfs of include/uapi/asm-generic/statfs.h on a 64-bit architecture, as words.
type Statfs = [u64; 15];
const BLOCKS_FREE: usize = 4;
const INODES: usize = 5;
const INODES_FREE: usize = 6;

/// How much room there is where a path is.
///
/// # Errors
/// As statfs(2).
pub fn room(path: &CStr) -> Result<Room, Errno> {
    let mut result: Statfs = [0; 15];
    let target = (&raw mut result).expose_provenance();
    let args = [path.as_ptr().expose_provenance(), target];
    // SAFETY: the path is a C string, and the kernel writes one struct statfs of 120 bytes.
    unsafe { call(number::STATFS, args) }?;
    Ok(Room {
        blocks: result[BLOCKS_FREE],
        inodes: (result[INODES] > 0).then_some(result[INODES_FREE]),
    })
}

const FSOPEN_CLOEXEC: usize = 1;
const FSCONFIG_SET_STRING: usize = 1;
const FSCONFIG_CMD_CREATE: usize = 6;
const FSMOUNT_CLOEXEC: usize = 1;
/// MOUNT_ATTR_NOSUID, NODEV and NOEXEC.
const FOR_FILES_ALONE: usize = 2 | 4 | 8;

/// Makes a tmpfs with these options (name and value) that is mounted nowhere: it is reached through
/// the descriptor and goes with it.
///
/// # Errors
/// As fsopen(2), fsconfig(2) and fsmount(2).
pub fn private_tmpfs(options: &[(&CStr, &CStr)]) -> Result<Fd, Errno> {
    let kind = c"tmpfs".as_ptr().expose_provenance();
    // SAFETY: the name is a C string.
    let context = unsafe { call(number::FSOPEN, [kind, FSOPEN_CLOEXEC]) }.map(Fd::from_result)?;
    for (name, value) in options {
        let args = [
            context.arg(),
            FSCONFIG_SET_STRING,
            name.as_ptr().expose_provenance(),
            value.as_ptr().expose_provenance(),
            0,
        ];
        // SAFETY: name and value are C strings.
        unsafe { call(number::FSCONFIG, args) }?;
    }
    let create = [context.arg(), FSCONFIG_CMD_CREATE, 0, 0, 0];
    // SAFETY: this command takes no pointer.
    unsafe { call(number::FSCONFIG, create) }?;
    let mount = [context.arg(), FSMOUNT_CLOEXEC, FOR_FILES_ALONE];
    // SAFETY: fsmount takes no pointer.
    unsafe { call(number::FSMOUNT, mount) }.map(Fd::from_result)
}
