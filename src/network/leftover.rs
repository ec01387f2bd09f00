//! What attachments hold on the node: for the account of what has no owner.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Networks;
use super::cache::Record;
use super::error::NetworkError;

/// Where host-local keeps its leases when the network does not say.
const HOST_LOCAL_DIR: &str = "/var/lib/cni/networks";
/// The bridge that the plugin makes when the network does not say.
const DEFAULT_BRIDGE: &str = "cni0";
/// Bytes of a lease that are read: a container's id and an interface.
pub(super) const MAX_LEASE: u64 = 4096;

/// An attachment of ours, as its record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The pod.
    pub sandbox_id: String,
    /// The record.
    pub path: PathBuf,
    /// Interfaces of the node that were made for it and are still there.
    pub links: Vec<String>,
}

/// An address that host-local has given to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The pod.
    pub sandbox_id: String,
    /// host-local's file, named after the address.
    pub path: PathBuf,
}

impl Networks {
    /// The attachments that this daemon, or an earlier one of its run root, has made, and those whose
    /// record a power cut has left unreadable. Reads the disk.
    ///
    /// # Errors
    /// When the cache cannot be listed.
    pub fn attachments(&self) -> Result<Vec<Attached>, NetworkError> {
        let told = |record: Record| Attached {
            path: self.cache.path(&record),
            links: links(&record),
            sandbox_id: record.container_id,
        };
        let unreadable = |(path, sandbox_id)| Attached {
            sandbox_id,
            path,
            links: Vec::new(),
        };
        let told = self.own_records()?.into_iter().map(told);
        Ok(told
            .chain(self.damaged().into_iter().map(unreadable))
            .collect())
    }

    /// The leases of the pods `ids` in the places where the present networks and those of our
    /// attachments have them. Reads the disk.
    ///
    /// # Errors
    /// When the cache or a place of leases cannot be listed.
    pub fn leases(&self, ids: &BTreeSet<String>) -> Result<Vec<Lease>, NetworkError> {
        let mut places = BTreeSet::new();
        for record in self.own_records()? {
            places.extend(
                record
                    .network()
                    .ok()
                    .and_then(|network| lease_place(network.document())),
            );
        }
        let present = self.current.default_network().ok();
        places.extend(present.and_then(|network| lease_place(network.document())));
        let mut found = Vec::new();
        for place in places {
            leases_in(&place, ids, &mut found).map_err(|source| NetworkError::Cache {
                path: place.clone(),
                step: "list the leases",
                source,
            })?;
        }
        Ok(found)
    }

    pub(super) fn own_records(&self) -> Result<Vec<Record>, NetworkError> {
        let settings = &self.settings;
        self.cache
            .pinned_in(&settings.netns_dir, &settings.instance)
    }
}

/// host-local's directory of a network, if that has one.
pub(super) fn lease_place(document: &Value) -> Option<PathBuf> {
    let name = document["name"].as_str()?;
    let mut plugins = document["plugins"].as_array()?.iter();
    let ipam = plugins.find_map(|plugin| {
        Some(&plugin["ipam"]).filter(|ipam| ipam["type"].as_str() == Some("host-local"))
    })?;
    let parent = ipam["dataDir"].as_str().filter(|dir| dir.starts_with('/'));
    Some(Path::new(parent.unwrap_or(HOST_LOCAL_DIR)).join(name))
}

/// Whether a file in host-local's directory is an address that was given away: beside them are `lock`
/// and `last_reserved_ip.<n>`.
pub(super) fn is_lease(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.parse::<IpAddr>().is_ok())
}

fn leases_in(place: &Path, ids: &BTreeSet<String>, found: &mut Vec<Lease>) -> std::io::Result<()> {
    let entries = match fs::read_dir(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !is_lease(&entry.file_name()) {
            continue;
        }
        let mut text = String::new();
        let read = fs::File::open(entry.path())
            .and_then(|file| file.take(MAX_LEASE).read_to_string(&mut text));
        let id = text.lines().next().unwrap_or_default().trim();
        // One that cannot be read was given back meanwhile, or is nobody's that we know.
        if read.is_ok() && ids.contains(id) {
            found.push(Lease {
                sandbox_id: id.to_owned(),
                path: entry.path(),
            });
        }
    }
    Ok(())
}

/// The node's interfaces in an attachment's result that exist, without those that pods share.
fn links(record: &Record) -> Vec<String> {
    let network = record.network().ok();
    let document = network
        .as_ref()
        .map_or(&Value::Null, |network| network.document());
    let plugins = document["plugins"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let shared = |name: &str| {
        name == DEFAULT_BRIDGE
            || plugins
                .iter()
                .any(|plugin| ["bridge", "master"].iter().any(|key| plugin[*key] == name))
    };
    let interfaces = record
        .result
        .as_ref()
        .and_then(|result| result.get("interfaces"));
    let interfaces = interfaces
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let of_node = interfaces
        .iter()
        .filter(|interface| interface["sandbox"].as_str().unwrap_or_default().is_empty());
    of_node
        .filter_map(|interface| interface["name"].as_str())
        .filter(|name| !shared(name) && nix::net::if_::if_nametoindex(*name).is_ok())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn leases_are_where_the_network_has_them_and_only_those_of_the_asked() {
        let scratch = tempfile::tempdir().unwrap();
        let network = json!({"name": "n", "plugins": [
            {"type": "bridge", "ipam": {"type": "host-local", "dataDir": scratch.path()}}]});
        let place = lease_place(&network).unwrap();
        assert_eq!(place, scratch.path().join("n"));
        fs::create_dir(&place).unwrap();
        for (name, text) in [
            ("10.0.0.2", "ours\r\neth0"),
            ("fd00::2", "ours\r\neth0"),
            ("10.0.0.3", "another\r\neth0"),
            ("last_reserved_ip.0", "ours"),
            ("lock", ""),
        ] {
            fs::write(place.join(name), text).unwrap();
        }
        let mut found = Vec::new();
        leases_in(&place, &["ours".to_owned()].into(), &mut found).unwrap();
        let mut names: Vec<_> = found
            .iter()
            .map(|lease| lease.path.file_name().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["10.0.0.2", "fd00::2"]);
        leases_in(Path::new("/nowhere"), &BTreeSet::new(), &mut found).unwrap();
    }

    #[test]
    fn a_network_without_host_local_has_no_leases() {
        for network in [
            json!({"name": "n", "plugins": [{"ipam": {"type": "dhcp"}}]}),
            json!({"name": "n"}),
            json!({}),
        ] {
            assert_eq!(lease_place(&network), None);
        }
        let default = json!({"name": "n", "plugins": [{"ipam": {"type": "host-local"}}]});
        assert_eq!(
            lease_place(&default).unwrap(),
            Path::new("/var/lib/cni/networks/n")
        );
    }
}
