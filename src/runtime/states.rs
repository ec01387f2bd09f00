//! What an OCI runtime remembers of containers that were made from our bundles.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Program;
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
    fn only_containers_with_a_bundle_of_ours_are_found() {
        let scratch = tempfile::tempdir().unwrap();
        let program = Program {
            handler: "runc".into(),
            path: "/usr/bin/runc".into(),
            root: scratch.path().join("runc"),
            systemd_cgroup: false,
            call_timeout: std::time::Duration::from_secs(60),
        };
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
