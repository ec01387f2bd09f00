//! The files of a pod that its containers mount: resolv.conf, hostname and the shared memory.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use super::SandboxError;
use crate::network::Dns;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Name of the resolver configuration in the sandbox's directory.
pub const RESOLV_CONF: &str = "resolv.conf";
/// Name of the host name's file in the sandbox's directory.
pub const HOSTNAME: &str = "hostname";
/// Name of the mount point of the pod's `/dev/shm` in the sandbox's directory.
pub const SHM: &str = "shm";

/// Size of a pod's `/dev/shm`: what every container runtime gives.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";
/// What a pod resolves with that brings no configuration of its own.
const HOST_RESOLV_CONF: &str = "/etc/resolv.conf";

/// resolv.conf(5) text, or `None` when nothing is set and the host's file applies, as in CRI-O.
fn render(dns: &Dns) -> Option<String> {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    (!text.is_empty()).then_some(text)
}

/// Writes the files of a pod into its directory and mounts its shared memory there, with this
/// SELinux label, when the pod has an IPC namespace of its own. They belong to `owner`, who is root
/// in the pod.
///
/// # Errors
/// Names the file and the step; what was made stays for [`remove`].
pub fn create(
    directory: &Path,
    dns: Option<&Dns>,
    hostname: &str,
    own_ipc: bool,
    owner: (u32, u32),
    label: Option<&str>,
) -> Result<(), SandboxError> {
    let (uid, gid) = owner;
    let write = |name: &str, text: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(SandboxError::io("write", &path))?;
        chown(&path, Some(uid), Some(gid)).map_err(SandboxError::io("set the owner of", &path))
    };
    match dns.and_then(render) {
        Some(text) => write(RESOLV_CONF, text.as_bytes())?,
        // A host without the file resolves nothing, and so do its pods.
        None => write(RESOLV_CONF, &fs::read(HOST_RESOLV_CONF).unwrap_or_default())?,
    }
    write(HOSTNAME, format!("{hostname}\n").as_bytes())?;
    if own_ipc {
        let path = directory.join(SHM);
        fs::create_dir_all(&path).map_err(SandboxError::io("create the mount point", &path))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = shm_options(owner, label);
        mount(Some("shm"), &path, Some("tmpfs"), flags, Some(&*options))
            .map_err(io::Error::from)
            .map_err(SandboxError::io("mount the shared memory at", &path))?;
    }
    Ok(())
}

/// With the SELinux label of all files in it.
fn shm_options((uid, gid): (u32, u32), label: Option<&str>) -> String {
    let label = label.map_or_else(String::new, |label| format!(",context=\"{label}\""));
    format!("{SHM_OPTIONS},uid={uid},gid={gid}{label}")
}

/// Unmounts what [`create`] mounted. What is gone already is fine; the files go with the record.
///
/// # Errors
/// When the shared memory cannot be unmounted.
pub fn remove(directory: &Path) -> Result<(), SandboxError> {
    let path = directory.join(SHM);
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(SandboxError::io("unmount the shared memory at", &path)(
            errno.into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn dns() -> Dns {
        Dns {
            servers: vec!["10.10.10.10".into(), "fd00::10".into()],
            searches: vec!["google.com".into(), "svc".into()],
            options: vec!["ndots:8".into()],
        }
    }

    #[test]
    fn a_pods_own_resolution_is_written_line_by_line() {
        assert_eq!(
            render(&dns()).unwrap(),
            "search google.com svc\nnameserver 10.10.10.10\nnameserver fd00::10\noptions ndots:8\n"
        );
        assert_eq!(render(&Dns::default()), None);
    }

    #[test]
    fn shared_memory_is_labelled_as_a_whole() {
        let label = "u:object_r:t:s0:c1,c2";
        let want = "mode=1777,size=65536k,uid=1,gid=2,context=\"u:object_r:t:s0:c1,c2\"";
        assert_eq!(shm_options((1, 2), Some(label)), want);
    }

    #[test]
    fn shared_memory_is_a_bounded_tmpfs_that_goes_with_the_pod() {
        let directory = tempfile::tempdir().unwrap();
        create(
            directory.path(),
            Some(&dns()),
            "h",
            true,
            (100_000, 200_000),
            None,
        )
        .unwrap();
        let shm = directory.path().join(SHM);
        for name in [SHM, HOSTNAME, RESOLV_CONF] {
            let facts = fs::metadata(directory.path().join(name)).unwrap();
            assert_eq!((facts.uid(), facts.gid()), (100_000, 200_000), "{name}");
        }
        let facts = nix::sys::statvfs::statvfs(&shm).unwrap();
        assert_eq!(facts.blocks() * facts.fragment_size(), 64 << 20);
        assert_eq!(
            fs::read_to_string(directory.path().join(HOSTNAME)).unwrap(),
            "h\n"
        );
        remove(directory.path()).unwrap();
        remove(directory.path()).unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(shm.to_str().unwrap()));
    }
}
