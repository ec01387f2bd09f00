//! What a power cut leaves of attachments where their files have names but no content: neither our
//! records nor host-local's leases are flushed, since no pod outlives what a cut takes from them.
//!
//! A record that cannot be read still says by its name whose it is, so DEL can be run. A lease
//! without content says nothing: host-local neither gives its address away nor frees it, for it
//! frees by the sandbox's id, which is what is missing. One with content whose record is gone
//! belongs to a pod that nobody knows. Only files from before this boot are looked
//! at: what is being written now may be empty too.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::leftover::{MAX_LEASE, is_lease, lease_place};
use super::{Networks, bounded};

impl Networks {
    /// Frees addresses that a power cut has left without an owner, and removes records that were not
    /// yet in their place. Reads the disk.
    pub fn free_lost(&self) {
        if let Some(booted) = booted() {
            self.free_lost_before(booted);
        }
    }

    /// The records of an earlier boot that cannot be read, with the sandboxes that their names say.
    /// Reads the disk.
    pub(super) fn damaged(&self) -> Vec<(PathBuf, String)> {
        booted().map_or_else(Vec::new, |booted| self.damaged_before(booted))
    }

    fn free_lost_before(&self, booted: SystemTime) {
        if let Ok(network) = self.current.default_network()
            && let Some(dir) = lease_place(network.document())
        {
            self.free_ownerless(&dir, booted);
        }
        self.cache
            .remove_all_unfinished(|path| is_older(path, booted));
    }

    fn damaged_before(&self, booted: SystemTime) -> Vec<(PathBuf, String)> {
        let mut damaged = self.cache.damaged();
        damaged.retain(|(path, _)| is_older(path, booted));
        damaged
    }

    /// Frees leases of an earlier boot that no record, of whatever runtime, speaks of: what had them
    /// has gone with that boot. An address that somebody has reserved by hand carries no id.
    fn free_ownerless(&self, dir: &Path, booted: SystemTime) {
        // host-local makes the directory with its first lease.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if !is_lease(&entry.file_name()) || !is_older(&path, booted) {
                continue;
            }
            let Ok(bytes) = bounded::read(&path, MAX_LEASE) else {
                continue;
            };
            let blank = bytes.iter().all(|byte| *byte == 0);
            let ownerless = || {
                let id = lease_owner(&bytes)?;
                Some(!self.cache.mentions(id).ok()?)
            };
            if !blank && !ownerless().unwrap_or(false) {
                continue;
            }
            tracing::warn!(lease = %path.display(), blank, "address freed that a power cut has left without an owner");
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(lease = %path.display(), %error, "lease not removed");
            }
        }
    }
}

/// The sandbox in the first line of a lease; `None` when it is no runtime's.
fn lease_owner(bytes: &[u8]) -> Option<&str> {
    let id = std::str::from_utf8(bytes).ok()?.lines().next()?.trim();
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

fn is_older(path: &Path, than: SystemTime) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified < than)
}

/// When this boot began, by today's clock.
fn booted() -> Option<SystemTime> {
    let text: io::Result<String> = fs::read_to_string("/proc/uptime");
    let seconds = || -> Option<f64> { text.ok()?.split_whitespace().next()?.parse().ok() };
    let booted = || SystemTime::now().checked_sub(Duration::try_from_secs_f64(seconds()?).ok()?);
    let booted = booted();
    if booted.is_none() {
        tracing::warn!("/proc/uptime not understood, losses of a power cut not looked for");
    }
    booted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Settings;
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    const ID: &str = "5f0c3b8e9a4d4d0c8e3e7d1f2a6b9c0d5f0c3b8e9a4d4d0c8e3e7d1f2a6b9c0d";

    fn networks(dir: &Path) -> Arc<Networks> {
        let conf = format!(
            r#"{{"cniVersion":"1.0.0","name":"crio","plugins":[{{"type":"bridge",
                "ipam":{{"type":"host-local","dataDir":"{}"}}}}]}}"#,
            dir.join("leases").display()
        );
        for sub in ["net.d", "bin", "leases/crio", "cni/results"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::write(dir.join("net.d/1.conflist"), conf).unwrap();
        let plugin = dir.join("bin/bridge");
        fs::write(&plugin, "").unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
        Networks::open(Settings {
            conf_dir: dir.join("net.d"),
            plugin_dirs: vec![dir.join("bin")],
            cache_dir: dir.join("cni"),
            netns_dir: dir.join("netns"),
            default_network: None,
            add_timeout: Duration::from_secs(1),
            del_timeout: Duration::from_secs(1),
            concurrency: 1,
            instance: dir.join("run"),
            host_ports_table: "cricket-test".into(),
            status_grace: Duration::ZERO,
        })
    }

    #[tokio::test]
    async fn files_of_an_earlier_boot_without_content_are_found_and_no_others() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        let networks = networks(dir);
        let files = [
            ("leases/crio/10.85.0.2", "", false),
            ("leases/crio/10.85.0.3", "\0\0\0", false),
            ("leases/crio/fd00::7", "", false),
            ("leases/crio/10.85.0.4", "some id\r\neth0", true),
            ("leases/crio/lock", "", true),
            ("leases/crio/last_reserved_ip.0", "", true),
            ("cni/.5f0c-eth0.tmp", "", false),
            ("cni/notes", "", true),
        ];
        for (name, text, _) in files {
            fs::write(dir.join(name), text).unwrap();
        }
        let record = |name: String, text: &str| {
            fs::write(dir.join("cni/results").join(name), text).unwrap();
        };
        record(format!("crio-{ID}-eth0"), "");
        record(
            format!("crio-{}-eth0", ID.replace('5', "6")),
            "{\"kind\":\"cniCa\0\0",
        );
        record(
            format!("crio-{}-eth0", ID.replace('5', "7")),
            "{\"kind\":\"other\"}",
        );
        record(format!("crio-{ID}-net1"), "");
        record("crio-short-eth0".into(), "");

        let lease = |address: &str, id: &str| {
            let path = dir.join("leases/crio").join(address);
            fs::write(&path, format!("{id}\r\neth0")).unwrap();
            path
        };
        let owned = lease("10.85.0.5", ID);
        let ownerless = lease("10.85.0.6", &ID.replace('5', "8"));

        let long_ago = SystemTime::UNIX_EPOCH;
        networks.free_lost_before(long_ago);
        assert_eq!(networks.damaged_before(long_ago), []);
        for (name, ..) in files {
            assert!(dir.join(name).exists(), "{name} is of this boot");
        }
        let later = SystemTime::now() + Duration::from_secs(3600);
        assert!(ownerless.exists(), "it is of this boot");
        networks.free_lost_before(later);
        let damaged = networks.damaged_before(later).into_iter();
        let expected = [ID.to_owned(), ID.replace('5', "6")];
        let damaged: BTreeSet<String> = damaged.map(|(_, id)| id).collect();
        assert_eq!(damaged, BTreeSet::from(expected));
        assert!(owned.exists() && !ownerless.exists());
        for (name, _, stays) in files {
            assert_eq!(dir.join(name).exists(), stays, "{name}");
        }
    }

    #[test]
    fn the_boot_was_before_now() {
        assert!(booted().unwrap() < SystemTime::now());
    }
}
