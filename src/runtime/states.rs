//! What an OCI runtime remembers of containers that were made from our bundles.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::{Program, RuntimeError};
use crate::state::{Id, ids_in};

/// Files in which a container's state is, with its bundle: runc's and crun's.
const STATE_FILES: [&str; 2] = ["state.json", "status"];
/// Bytes of such a file that are read: runc's holds the whole configuration.
const MAX_STATE: u64 = 8 << 20;

impl Program {
    /// The containers in this runtime's state whose bundle is below `bundles`, with the directory of
    /// their state. Others use the same runtime, with the same directory.
    ///
    /// # Errors
    /// When the runtime's directory cannot be listed.
    pub fn states_of(&self, bundles: &Path) -> io::Result<Vec<(Id, PathBuf)>> {
        let mut found = ids_in(&self.root)?;
        found.retain(|(_, path)| is_of(path, bundles));
        Ok(found)
    }

    /// Whether the runtime has a state of this container still.
    pub fn knows(&self, id: &str) -> bool {
        self.root.join(id).exists()
    }

    /// Removes what a deleted container's directory still has in it: runc before 1.2 mounts itself
    /// there for a moment with each exec, and one that is killed in that moment leaves the mount, over
    /// which `runc delete` stumbles without an error.
    ///
    /// # Errors
    /// When a mount or a file cannot be removed. A container that the runtime still knows is not
    /// touched.
    pub(super) fn clear_deleted(&self, id: &str) -> Result<(), RuntimeError> {
        let state = self.root.join(id);
        let known = |name: &&str| state.join(name).exists();
        if !self.knows(id) || STATE_FILES.iter().any(known) {
            return Ok(());
        }
        let clear = || -> io::Result<()> {
            for entry in fs::read_dir(&state)? {
                let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
                match umount2(&entry?.path(), flags) {
                    // Not a mount.
                    Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            fs::remove_dir_all(&state)
        };
        match clear() {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RuntimeError::Spawn {
                step: format!("removal of {}, which `delete` left", state.display()),
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// Whether the state names a bundle below the directory: runc has `"bundle=PATH"` among its labels,
/// crun `"bundle": "PATH"`.
fn is_of(state: &Path, bundles: &Path) -> bool {
    let Ok(bundles) = serde_json::to_string(&format!("{}/", bundles.display())) else {
        return false;
    };
    let bundles = bundles.trim_matches('"');
    let runc = format!("\"bundle={bundles}");
    let names = |text: &str| {
        let crun = text.split("\"bundle\"").skip(1).any(|rest| {
            let rest = rest.trim_start_matches([' ', ':', '\t', '\n']);
            rest.strip_prefix('"')
                .is_some_and(|path| path.starts_with(bundles))
        });
        crun || text.contains(&runc)
    };
    STATE_FILES.iter().any(|name| {
        let mut text = Vec::new();
        let read = fs::File::open(state.join(name))
            .and_then(|file| file.take(MAX_STATE).read_to_end(&mut text));
        read.is_ok() && names(&String::from_utf8_lossy(&text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_delete_left_goes_with_its_mounts_unless_the_runtime_knows_the_container() {
        let scratch = tempfile::tempdir().unwrap();
        let program = program(scratch.path().join("runc"));
        program.clear_deleted("never").unwrap();
        let state = program.root.join("killed");
        let mounted = state.join("runc.abcdef");
        fs::create_dir_all(&state).unwrap();
        fs::write(&mounted, "").unwrap();
        let this = std::env::current_exe().unwrap();
        let (none, bind) = (None::<&str>, nix::mount::MsFlags::MS_BIND);
        nix::mount::mount(Some(&this), &mounted, none, bind, none).unwrap();
        fs::write(state.join("state.json"), "{}").unwrap();
        program.clear_deleted("killed").unwrap();
        assert!(fs::metadata(&mounted).unwrap().len() > 0, "mounted still");
        fs::remove_file(state.join("state.json")).unwrap();
        program.clear_deleted("killed").unwrap();
        assert!(!state.exists());
    }

    fn program(root: PathBuf) -> Program {
        Program {
            handler: "runc".into(),
            path: "/usr/bin/runc".into(),
            root,
            systemd_cgroup: false,
            call_timeout: std::time::Duration::from_secs(60),
        }
    }

    #[test]
    fn only_containers_with_a_bundle_of_ours_are_found() {
        let scratch = tempfile::tempdir().unwrap();
        let program = program(scratch.path().join("runc"));
        let bundles = Path::new("/run/a/cricket");
        assert_eq!(program.states_of(bundles).unwrap(), []);
        let mut ours = Vec::new();
        for (file, text, is_ours) in [
            (
                "state.json",
                r#"{"config":{"labels":["bundle=/run/a/cricket/containers/1"]}}"#,
                true,
            ),
            (
                "status",
                r#"{"pid": 7, "bundle" : "/run/a/cricket/containers/2"}"#,
                true,
            ),
            (
                "state.json",
                r#"{"config":{"labels":["bundle=/run/a/cricket-2/containers/1"]}}"#,
                false,
            ),
            ("status", r#"{"bundle":"/run/containers/libpod"}"#, false),
            (
                "other",
                r#"{"bundle":"/run/a/cricket/containers/2"}"#,
                false,
            ),
        ] {
            let id = Id::random();
            let state = program.root.join(id.as_str());
            fs::create_dir_all(&state).unwrap();
            fs::write(state.join(file), text).unwrap();
            if is_ours {
                ours.push((id, state));
            }
        }
        let mut found = program.states_of(bundles).unwrap();
        found.sort();
        ours.sort();
        assert_eq!(found, ours);
    }
}
