//! The `mounts` section, with `linux.rootfsPropagation` that goes with it.
//!
//! Defaults (/proc, /dev, /sys, …), then the pod's files, then the request's mounts. A mount of
//! the request takes the place of a default one at the same path; at /dev, /sys or /proc also of
//! the defaults below, which would hide what was asked for. What is left is sorted by depth, so
//! that a mount never hides one that was made before it.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::runtime::Mount as OciMount;

use super::config::IdMapping;
use super::error::SpecError;
use super::inputs::Inputs;
use super::{paths, userns};

mod defaults;
mod peers;
mod requested;

pub use peers::peers;
pub use requested::check_mounts;

pub(super) use defaults::proc_mount;

/// A mount, before it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where, clean and absolute.
    pub(super) destination: String,
    /// The file system; `bind` for a path of the host.
    pub(super) kind: &'static str,
    /// What.
    pub(super) source: String,
    /// Options in the words of the OCI runtime.
    pub(super) options: Vec<String>,
    /// Ids of an idmapped mount, users and groups.
    pub(super) ids: Option<[Vec<IdMapping>; 2]>,
}

impl Mount {
    pub(super) fn new(destination: &str, kind: &'static str, options: &[&str]) -> Mount {
        Mount {
            destination: destination.to_owned(),
            kind,
            source: kind.to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ids: None,
        }
    }

    fn with(mut self, option: &str) -> Mount {
        self.options.push(option.to_owned());
        self
    }

    pub(super) fn into_oci(self) -> OciMount {
        let mut mount = OciMount::default();
        mount.set_destination(self.destination.into());
        mount.set_typ(Some(self.kind.to_owned()));
        mount.set_source(Some(self.source.into()));
        mount.set_options(Some(self.options));
        if let Some(ids) = self.ids {
            let [uids, gids] = ids.map(|ids| ids.into_iter().map(userns::oci).collect());
            mount.set_uid_mappings(Some(uids));
            mount.set_gid_mappings(Some(gids));
        }
        mount
    }
}

/// The mounts in the order they are made, and the propagation of the root they need.
pub(super) fn mounts(inputs: &Inputs) -> Result<(Vec<OciMount>, Option<&'static str>), SpecError> {
    check_mounts(inputs.config, &inputs.pod.namespaces, inputs.settings)?;
    let requested = requested::requested(inputs)?;
    let taken: HashSet<&str> = requested
        .mounts
        .iter()
        .map(|mount| mount.destination.as_str())
        .collect();
    let hidden = |path: &str| {
        taken.contains(path)
            || ["/dev", "/sys", "/proc"].iter().any(|top| {
                taken.contains(top) && path.strip_prefix(top).is_some_and(|p| p.starts_with('/'))
            })
    };
    let mut all: Vec<Mount> = defaults::defaults(inputs)?
        .into_iter()
        .filter(|mount| !hidden(&mount.destination))
        .collect();
    let own = inputs.own_files.iter().filter(|own| {
        let at = Path::new(&own.destination);
        at.ancestors()
            .all(|above| above.to_str().is_none_or(|above| !taken.contains(above)))
    });
    for own in own {
        // what the daemon brings gives way to nothing but the request's own
        all.retain(|known| known.destination != own.destination);
        all.push(defaults::own_file(own, inputs)?);
    }
    all.extend(requested.mounts.iter().cloned());
    all.sort_by_key(|mount| paths::depth(&mount.destination));
    Ok((
        all.into_iter().map(Mount::into_oci).collect(),
        requested.root_propagation,
    ))
}
