//! A pod's namespaces: made without a process and kept by bind mounts.
//!
//! ```text
//! <namespaces_dir>/{netns,ipcns,utsns,userns}/<sandbox id>
//! ```
//!
//! A thread of its own unshares, because `unshare(2)` changes only the calling thread and a worker
//! of the async runtime must never be left in a pod's namespace. Namespaced sysctls are written by
//! the same thread: `/proc/sys` shows the namespaces of the task that opens it.
//!
//! In a pod with a user namespace that one owns the others, so that the pod's root may do in them
//! what root does: they are made together with it (`sys::user_namespace`), and the thread enters
//! them.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use super::SandboxError;
use super::pins::{self, KINDS};
use crate::spec::config::{IdMapping, Mappings};
use crate::spec::sysctl_file;
use crate::state::Id;
use crate::sys::fault;
use crate::sys::user_namespace::{Holder, Range};

/// The directory below `namespaces_dir` that holds network namespaces.
pub fn netns_dir(directory: &Path) -> PathBuf {
    directory.join(KINDS[0].0)
}

/// Which namespaces a pod has of its own, and what is set in them.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A user namespace with these ids, which owns the others.
    pub user: Option<Mappings>,
    /// A network namespace, its loopback interface up.
    pub network: bool,
    /// An IPC namespace.
    pub ipc: bool,
    /// The host name in the pod's UTS namespace.
    pub hostname: String,
    /// Namespaced kernel parameters, dotted name and value.
    pub sysctls: Vec<(String, String)>,
}

/// Where a pod's namespaces are pinned; `None` means the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// The network namespace.
    pub network: Option<PathBuf>,
    /// The IPC namespace.
    pub ipc: Option<PathBuf>,
    /// The UTS namespace.
    pub uts: Option<PathBuf>,
    /// The user namespace.
    #[serde(default)]
    pub user: Option<PathBuf>,
}

impl Namespaces {
    /// Whether what is said to be pinned is, and not the empty file that an unmount leaves.
    pub fn are_pinned(&self) -> bool {
        let pinned =
            |path: &PathBuf| statfs(path).is_ok_and(|facts| facts.filesystem_type() == NSFS_MAGIC);
        [&self.network, &self.ipc, &self.uts, &self.user]
            .into_iter()
            .flatten()
            .all(pinned)
    }
}

/// Makes and pins the wanted namespaces of sandbox `id`, for the daemon that `owner` names. Blocks for
/// well under a millisecond.
///
/// # Errors
/// Names the step; what was pinned before the error stays for [`unpin`].
pub fn pin(
    directory: &Path,
    owner: &Path,
    id: &Id,
    wanted: &Wanted,
) -> Result<Namespaces, SandboxError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("pin-namespaces".into())
            .spawn_scoped(scope, || pin_in_this_thread((directory, owner), id, wanted))
            .map_err(SandboxError::io(
                "start a thread to make namespaces in",
                directory,
            ))?
            .join()
            // A panic aborts the process, so a thread that ends has a result.
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn pin_in_this_thread(
    (directory, owner): (&Path, &Path),
    id: &Id,
    wanted: &Wanted,
) -> Result<Namespaces, SandboxError> {
    let mut flags = CloneFlags::CLONE_NEWUTS;
    flags.set(CloneFlags::CLONE_NEWNET, wanted.network);
    flags.set(CloneFlags::CLONE_NEWIPC, wanted.ipc);
    let pinned = match wanted.user {
        None => {
            unshare(flags)
                .map_err(io::Error::from)
                .map_err(SandboxError::io("unshare namespaces for", directory))?;
            bind_all((directory, owner), id, flags, |name| {
                format!("/proc/thread-self/ns/{name}").into()
            })?
        }
        Some(ids) => {
            let holder = Holder::new(flags, range(ids.uids), range(ids.gids))
                .map_err(|source| SandboxError::UserNamespace { source })?;
            let all = flags | CloneFlags::CLONE_NEWUSER;
            let pinned = bind_all((directory, owner), id, all, |name| holder.file(name))?;
            for path in [&pinned.network, &pinned.ipc, &pinned.uts] {
                path.iter().try_for_each(|path| enter(path))?;
            }
            pinned
        }
    };
    nix::unistd::sethostname(&wanted.hostname)
        .map_err(io::Error::from)
        .map_err(SandboxError::io("set the host name in", directory))?;
    if wanted.network {
        raise_loopback().map_err(SandboxError::io(
            "bring up the loopback interface in",
            directory,
        ))?;
    }
    set_parameters(wanted)?;
    Ok(pinned)
}

fn range(ids: IdMapping) -> Range {
    Range {
        inside: ids.container_id,
        outside: ids.host_id,
        length: ids.length,
    }
}

/// Pins those of the namespaces that `flags` names; `file` says which file of the kernel each is.
fn bind_all(
    (directory, owner): (&Path, &Path),
    id: &Id,
    flags: CloneFlags,
    file: impl Fn(&str) -> PathBuf,
) -> Result<Namespaces, SandboxError> {
    let mut paths = KINDS.iter().map(|(parent, name, flag)| {
        flags
            .contains(*flag)
            .then(|| bind(&directory.join(parent), owner, id, &file(name)))
            .transpose()
    });
    let mut next = || paths.next().unwrap_or(Ok(None));
    Ok(Namespaces {
        network: next()?,
        ipc: next()?,
        uts: next()?,
        user: next()?,
    })
}

fn enter(namespace: &Path) -> Result<(), SandboxError> {
    let file = fs::File::open(namespace).map_err(SandboxError::io("open", namespace))?;
    setns(file, CloneFlags::empty())
        .map_err(io::Error::from)
        .map_err(SandboxError::io("enter the namespace", namespace))
}

/// Sets the pod's kernel parameters. Those of an IPC namespace belong to the root of the user
/// namespace that owns it, and are refused to everyone else, also to the node's root (Linux 5.19).
fn set_parameters(wanted: &Wanted) -> Result<(), SandboxError> {
    let set = |(name, value): &(String, String)| {
        let write = |source| SandboxError::Sysctl {
            name: name.clone(),
            value: value.clone(),
            source,
        };
        fs::write(sysctl_file(name), value).map_err(write)
    };
    let mut refused = Vec::new();
    for parameter in &wanted.sysctls {
        match set(parameter) {
            Err(SandboxError::Sysctl { source, .. })
                if wanted.user.is_some() && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                refused.push(parameter);
            }
            outcome => outcome?,
        }
    }
    match wanted.user {
        Some(ids) if !refused.is_empty() => {
            as_root_of(ids, || refused.into_iter().try_for_each(set))
        }
        _ => Ok(()),
    }
}

/// Runs `work` as the root of the pod, for the rest of this thread's life.
fn as_root_of<T>(
    ids: Mappings,
    work: impl FnOnce() -> Result<T, SandboxError>,
) -> Result<T, SandboxError> {
    let error = |source: rustix::io::Errno| SandboxError::UserNamespace {
        source: source.into(),
    };
    let (uid, gid) = (ids.uids.host_id, ids.gids.host_id);
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    );
    // A change of the user takes core dumps and debuggers away from the whole process.
    let dumpable = rustix::process::dumpable_behavior().map_err(error)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(error)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(error)?;
    let outcome = work();
    rustix::process::set_dumpable_behavior(dumpable).map_err(error)?;
    outcome
}

fn bind(parent: &Path, owner: &Path, id: &Id, source: &Path) -> Result<PathBuf, SandboxError> {
    let target = parent.join(id.as_str());
    fs::create_dir_all(parent).map_err(SandboxError::io("create the directory", parent))?;
    pins::sign(&target, owner).map_err(SandboxError::io("create the mount point", &target))?;
    fault::point("pod.pin-file-made");
    mount(
        Some(source),
        &target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(io::Error::from)
    .map_err(SandboxError::io("pin the namespace at", &target))?;
    fault::point("pod.namespace-pinned");
    Ok(target)
}

/// Releases all pinned namespaces of sandbox `id`. What is gone already is fine.
///
/// # Errors
/// When a mount or its mount point cannot be removed; the others are released all the same.
pub fn unpin(directory: &Path, id: &Id) -> Result<(), SandboxError> {
    let mut outcome = Ok(());
    for (parent, _, _) in KINDS {
        let path = directory.join(parent).join(id.as_str());
        let released = match umount2(&path, MntFlags::MNT_DETACH) {
            // EINVAL: a file that is no mount point, left between create and mount.
            Ok(()) | Err(Errno::EINVAL) => fs::remove_file(&path),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        };
        match released {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                outcome = Err(SandboxError::io("release the namespace", &path)(error));
            }
            _ => {}
        }
    }
    outcome
}

/// Sets IFF_UP on interface 1, which is `lo` in every network namespace (rtnetlink(7)).
fn raise_loopback() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const NLMSG_ERROR: u16 = 2;
    const IFF_UP: u32 = 1;
    const LENGTH: u32 = 32;
    let mut message = Vec::with_capacity(LENGTH as usize);
    // struct nlmsghdr: length, type, flags, sequence, port
    message.extend_from_slice(&LENGTH.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // struct ifinfomsg: family, pad, type, index, flags, change mask
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&1u32.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());

    let route = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    sendto(
        route.as_raw_fd(),
        &message,
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0u8; 256];
    let length = recv(route.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr behind the header: 0, or a negative errno.
    match (answer.get(4..6), answer.get(16..20)) {
        (Some(kind), Some(code)) if length >= 20 && kind == NLMSG_ERROR.to_ne_bytes() => {
            match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(-code)),
            }
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "unexpected netlink answer",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "/run/one";

    fn wanted() -> Wanted {
        Wanted {
            user: None,
            network: true,
            ipc: true,
            hostname: "pod-under-test".into(),
            sysctls: vec![
                ("net.ipv4.ip_unprivileged_port_start".into(), "0".into()),
                ("kernel.shm_rmid_forced".into(), "1".into()),
                ("fs.mqueue.msg_max".into(), "100".into()),
            ],
        }
    }

    /// Runs a shell command inside pinned namespaces.
    fn inside(namespaces: &Namespaces, command: &str) -> String {
        let flag = |name: &str, path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| format!("--{name}={}", path.display()))
        };
        let output = std::process::Command::new("nsenter")
            .args(flag("net", &namespaces.network))
            .args(flag("ipc", &namespaces.ipc))
            .args(flag("uts", &namespaces.uts))
            .args(flag("user", &namespaces.user))
            .args(["sh", "-c", command])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn pinned_namespaces_have_their_name_parameters_and_loopback_and_go_without_trace() {
        pinned_and_released(&wanted());
    }

    #[test]
    fn a_user_namespace_is_pinned_with_those_it_owns_and_sets_their_parameters() {
        let ids = |host_id| IdMapping {
            host_id,
            container_id: 0,
            length: 65_536,
        };
        let user = Mappings {
            uids: ids(300_000),
            gids: ids(400_000),
        };
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        pinned_and_released(&Wanted {
            user: Some(user),
            ..wanted()
        });
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), dumpable);
    }

    fn pinned_and_released(wanted: &Wanted) {
        let directory = tempfile::tempdir().unwrap();
        let id = Id::random();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let namespaces = pin(directory.path(), OWNER.as_ref(), &id, wanted).unwrap();
        if let Some(ids) = wanted.user {
            let map = inside(&namespaces, "cat /proc/self/uid_map /proc/self/gid_map");
            let firsts: Vec<&str> = map.split_whitespace().skip(1).step_by(3).collect();
            let want = [ids.uids, ids.gids].map(|ids| ids.host_id.to_string());
            assert_eq!(firsts, want);
            inside(&namespaces, "ip link set lo down && ip link set lo up");
        }
        assert_eq!(fs::read_link("/proc/self/ns/net").unwrap(), own);
        assert_eq!(inside(&namespaces, "hostname"), "pod-under-test");
        assert_eq!(
            inside(&namespaces, "cat /proc/sys/kernel/shm_rmid_forced"),
            "1"
        );
        assert_eq!(
            inside(&namespaces, "cat /proc/sys/fs/mqueue/msg_max"),
            "100"
        );
        assert!(inside(&namespaces, "ip -o link show lo").contains("LOWER_UP"));
        let pinned = || pins::pinned(directory.path(), OWNER.as_ref()).unwrap();
        assert_eq!(pinned(), std::slice::from_ref(&id));
        let another = pins::pinned(directory.path(), "/run/two".as_ref()).unwrap();
        assert_eq!(another, [], "another daemon's are not ours");
        unpin(directory.path(), &id).unwrap();
        unpin(directory.path(), &id).unwrap();
        assert!(pinned().is_empty());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(id.as_str()));
    }

    #[test]
    fn host_namespaces_are_not_pinned() {
        let directory = tempfile::tempdir().unwrap();
        let id = Id::random();
        let wanted = Wanted {
            network: false,
            ipc: false,
            sysctls: vec![],
            ..wanted()
        };
        let namespaces = pin(directory.path(), OWNER.as_ref(), &id, &wanted).unwrap();
        assert!(namespaces.network.is_none() && namespaces.ipc.is_none());
        assert!(namespaces.uts.is_some());
        unpin(directory.path(), &id).unwrap();
    }

    #[test]
    fn a_parameter_that_the_kernel_refuses_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let id = Id::random();
        let sysctls = vec![("net.ipv4.no_such_thing".to_owned(), "1".to_owned())];
        let error = pin(
            directory.path(),
            OWNER.as_ref(),
            &id,
            &Wanted {
                sysctls,
                ..wanted()
            },
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("net.ipv4.no_such_thing"),
            "{error}"
        );
        unpin(directory.path(), &id).unwrap();
    }
}
