//! Idmapped mounts: mount_setattr(2), which no crate wraps.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::mount::OpenTreeFlags;

/// A copy of the mount at `path` without the mounts below it, attached nowhere, that shows the ids
/// of its files as `userns` maps them: what belongs to id n on disk belongs to the id outside that
/// n stands for.
///
/// # Errors
/// EINVAL when the file system cannot be idmapped (mount_setattr(2) has the list), or the kernel's
/// about `path`.
pub fn idmapped(path: &Path, userns: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    set_idmap(&tree, userns.as_fd())?;
    Ok(tree)
}

#[allow(unsafe_code)]
fn set_idmap(mount: &OwnedFd, userns: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        // A descriptor that is open is not negative.
        userns_fd: userns.as_raw_fd().unsigned_abs().into(),
    };
    // SAFETY: the path is an empty C string, the attributes are a live struct of the size that is
    // told, and both descriptors are open for the time of the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}
