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

/// Size of a pod's `/dev/shm` that asks for none: what every container runtime gives.
pub const SHM_BYTES: u64 = 64 << 20;
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

/// A pod's `/dev/shm`.
#[derive(Clone, Copy, Debug)]
pub struct Shm<'a> {
    /// Its size.
    pub bytes: u64,
    /// The SELinux label of all files in it.
    pub label: Option<&'a str>,
}

/// Writes the files of a pod into its directory and mounts its shared memory there, when the pod has
/// an IPC namespace of its own. They belong to `owner`, who is root in the pod.
///
/// # Errors
/// Names the file and the step; what was made stays for [`remove`].
pub fn create(
    directory: &Path,
    dns: Option<&Dns>,
    hostname: &str,
    shm: Option<Shm>,
    owner: (u32, u32),
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
    if let Some(shm) = shm {
        let path = directory.join(SHM);
        fs::create_dir_all(&path).map_err(SandboxError::io("create the mount point", &path))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = shm_options(owner, shm);
        mount(Some("shm"), &path, Some("tmpfs"), flags, Some(&*options))
            .map_err(io::Error::from)
            .map_err(SandboxError::io("mount the shared memory at", &path))?;
    }
    Ok(())
}

fn shm_options((uid, gid): (u32, u32), shm: Shm) -> String {
    let size = shm.bytes;
    let label = shm
        .label
        .map_or_else(String::new, |label| format!(",context=\"{label}\""));
    format!("mode=1777,size={size},uid={uid},gid={gid}{label}")
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
        let want = "mode=1777,size=4096,uid=1,gid=2,context=\"u:object_r:t:s0:c1,c2\"";
        let (bytes, label) = (4096, Some(label));
        assert_eq!(shm_options((1, 2), Shm { bytes, label }), want);
    }

    #[test]
    fn shared_memory_is_a_bounded_tmpfs_that_goes_with_the_pod() {
        let directory = tempfile::tempdir().unwrap();
        create(
            directory.path(),
            Some(&dns()),
            "h",
            Some(Shm {
                bytes: 1 << 20,
                label: None,
            }),
            (100_000, 200_000),
        )
        .unwrap();
        let shm = directory.path().join(SHM);
        for name in [SHM, HOSTNAME, RESOLV_CONF] {
            let facts = fs::metadata(directory.path().join(name)).unwrap();
            assert_eq!((facts.uid(), facts.gid()), (100_000, 200_000), "{name}");
        }
        let facts = nix::sys::statvfs::statvfs(&shm).unwrap();
        assert_eq!(facts.blocks() * facts.fragment_size(), 1 << 20);
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
