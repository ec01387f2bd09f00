//! Mounts that show a place otherwise: with other ids (mount_setattr(2), which no crate wraps), or
//! with programs that can run.

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

/// Lets programs below a directory run: where its file system is mounted `noexec`, the directory is
/// mounted onto itself without that. Returns whether it had to be.
///
/// # Errors
/// The kernel's about the directory or the mount.
pub fn make_executable(directory: &Path) -> io::Result<bool> {
    use nix::mount::{MsFlags, mount};
    let flags = rustix::fs::statvfs(directory)?.f_flag;
    if !flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
        return Ok(false);
    }
    let none = None::<&str>;
    mount(Some(directory), directory, none, MsFlags::MS_BIND, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    if let Err(errno) = mount(none, directory, none, again, none) {
        nix::mount::umount2(directory, nix::mount::MntFlags::MNT_DETACH)?;
        return Err(errno.into());
    }
    Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    #[test]
    fn programs_run_below_a_directory_of_a_noexec_file_system() {
        let scratch = tempfile::tempdir().unwrap();
        let options = Some("size=1m");
        let noexec = MsFlags::MS_NOEXEC;
        mount(
            Some("tmpfs"),
            scratch.path(),
            Some("tmpfs"),
            noexec,
            options,
        )
        .unwrap();
        let ours = scratch.path().join("ours");
        std::fs::create_dir(&ours).unwrap();
        std::fs::copy("/bin/true", ours.join("true")).unwrap();
        let runs = || std::process::Command::new(ours.join("true")).status();
        assert!(runs().is_err());
        let made = [make_executable(&ours), make_executable(&ours)].map(Result::unwrap);
        let ran = runs();
        let others = make_executable(Path::new("/"));
        umount2(scratch.path(), MntFlags::MNT_DETACH).unwrap();
        assert_eq!(made, [true, false], "once is enough");
        assert!(ran.unwrap().success());
        assert!(!others.unwrap());
    }
}
