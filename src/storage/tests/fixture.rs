//! A store in a scratch directory, and tar archives made byte by byte, so that they can be wrong.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use oci_spec::image::Digest;
use sha2::Digest as _;
use tempfile::TempDir;

use super::super::*;

pub(super) struct Scratch {
    pub(super) store: Option<Store>,
    pub(super) dir: TempDir,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch::with(LayerLimits {
            reserve_bytes: 1 << 20,
            ..LayerLimits::default()
        })
    }

    pub(super) fn with(limits: LayerLimits) -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        // What must never be touched by an entry that tries to get out.
        std::fs::write(dir.path().join("canary"), "alive").unwrap();
        let settings = Settings {
            root: dir.path().join("root"),
            imagestore: None,
            limits,
        };
        let store = Some(Store::open(settings).unwrap());
        Scratch { store, dir }
    }

    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(super) fn place(&self, below: &str) -> PathBuf {
        self.dir.path().join("root/cricket").join(below)
    }

    /// The names in one of the store's directories.
    pub(super) fn names(&self, below: &str) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.place(below)).unwrap();
        let mut names: Vec<OsString> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    }

    pub(super) fn settle(&self) {
        assert!(self.store().settle(Duration::from_secs(60)));
    }

    /// Closes the store and opens it again, in this boot or another.
    pub(super) fn reopen(&mut self, boot_id: Option<&str>) -> &Store {
        self.close();
        let limits = LayerLimits {
            reserve_bytes: 1 << 20,
            ..LayerLimits::default()
        };
        let settings = Settings {
            root: self.dir.path().join("root"),
            imagestore: None,
            limits,
        };
        let store = match boot_id {
            Some(boot_id) => Store::open_in_boot(settings, boot_id),
            None => Store::open(settings),
        };
        self.store = Some(store.unwrap());
        self.store()
    }

    pub(super) fn close(&mut self) {
        if let Some(store) = self.store.take() {
            assert!(store.settle(Duration::from_secs(60)));
            // The last background thread lets go of the store just after it says that it is done.
            let weak = std::sync::Arc::downgrade(&store.shared);
            drop(store);
            while weak.strong_count() > 0 {
                std::thread::yield_now();
            }
        }
    }

    pub(super) fn unpack(&self, tar: &[u8]) -> Result<LayerInfo, StorageError> {
        self.store()
            .lease()
            .unpack_layer(&digest(tar), tar, &AtomicU64::new(0))
    }

    /// Unpacks the layers and makes an image of them.
    pub(super) fn image(&self, names: &[&str], tars: &[Vec<u8>]) -> std::sync::Arc<ImageRecord> {
        let lease = self.store().lease();
        for tar in tars {
            lease
                .unpack_layer(&digest(tar), &tar[..], &AtomicU64::new(0))
                .unwrap();
        }
        self.store().put_image(new_image(names, tars)).unwrap()
    }

    pub(super) fn layer_path(&self, tar: &[u8]) -> PathBuf {
        self.place("layers").join(digest(tar).digest()).join("diff")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.store.is_none() {
            return;
        }
        self.store().sweep_roots(|_| false);
        if !std::thread::panicking() {
            self.close();
            assert_eq!(
                std::fs::read(self.dir.path().join("canary")).unwrap(),
                b"alive"
            );
        }
    }
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_str(&format!(
        "sha256:{}",
        hex::encode(sha2::Sha256::digest(bytes))
    ))
    .unwrap()
}

pub(super) fn config(tars: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar).to_string()).collect();
    serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "a test"}],
    })
    .to_string()
    .into_bytes()
}

pub(super) fn new_image(names: &[&str], tars: &[Vec<u8>]) -> NewImage {
    let manifest = b"{\"schemaVersion\":2}".to_vec();
    NewImage {
        manifest_digest: digest(&manifest),
        manifest,
        config: config(tars),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        digests: Vec::new(),
        size_bytes: 7,
        annotations: BTreeMap::new(),
        signatures: Vec::new(),
    }
}

/// A tar archive in the making. `ustar` headers; a name over 100 bytes goes into a PAX record.
#[derive(Clone, Default)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    pub(super) fn raw(
        mut self,
        kind: u8,
        name: &str,
        link: &str,
        data: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Tar {
        if name.len() > 100 {
            self = self.pax(&[("path", name.as_bytes())]);
        }
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        let count = name.len().min(100);
        old.name[..count].copy_from_slice(&name.as_bytes()[..count]);
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        old.linkflag[0] = kind;
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(data)
    }

    pub(super) fn data(mut self, data: &[u8]) -> Tar {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + rest.to_string().len();
            if rest + length.to_string().len() != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(b'x', "pax", "", &data, |_| {})
    }

    pub(super) fn file(self, name: &str, data: &str) -> Tar {
        self.raw(b'0', name, "", data.as_bytes(), |_| {})
    }

    pub(super) fn dir(self, name: &str) -> Tar {
        self.dir_mode(name, 0o755)
    }

    pub(super) fn dir_mode(self, name: &str, mode: u32) -> Tar {
        self.raw(b'5', name, "", b"", |header| header.set_mode(mode))
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Tar {
        self.raw(b'2', name, target, b"", |_| {})
    }

    pub(super) fn hard_link(self, name: &str, target: &str) -> Tar {
        self.raw(b'1', name, target, b"", |_| {})
    }

    pub(super) fn device(self, kind: u8, name: &str, major: u32, minor: u32) -> Tar {
        self.raw(kind, name, "", b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// The tar of a layer that is held, as the store gives it back.
pub(super) fn layer_tar(scratch: &Scratch, tar: &[u8]) -> Result<Vec<u8>, String> {
    let opened = scratch.store().layer_tar(&digest(tar));
    let mut opened = opened.map_err(|error| error.to_string())?;
    let mut again = Vec::new();
    std::io::Read::read_to_end(&mut opened, &mut again).map_err(|error| {
        let inner = LayerTar::error(&error);
        inner.map_or_else(
            || format!("not a storage error: {error}"),
            ToString::to_string,
        )
    })?;
    assert_eq!(opened.length(), again.len() as u64);
    Ok(again)
}

/// What is wrong with a layer's directory by the headers of its tar, as far as they can say it.
pub(super) fn differences(scratch: &Scratch, tar: &[u8]) -> Vec<(PathBuf, String)> {
    let name = OsString::from(digest(tar).digest());
    let entry = open::load_layer(&scratch.store().shared.places.layers, &name).unwrap();
    if !entry.is_plain {
        return Vec::new();
    }
    let diff = dir::Dir::open_or_create(&scratch.layer_path(tar)).unwrap();
    let found = unpack::compare("sha256:x", &diff, &mut &tar[..]).unwrap();
    let found = found.into_iter();
    found.map(|found| (found.path, found.reason)).collect()
}

/// Bytes and inodes of a layer on disk, without its directory and its record of one block.
pub(super) fn occupied(diff: &Path) -> (u64, u64) {
    let layer = diff.parent().unwrap();
    let own = std::os::unix::fs::MetadataExt::blocks(&layer.metadata().unwrap()) * 512;
    let layer = dir::Dir::open_or_create(layer).unwrap();
    let tally = usage::measure(std::os::fd::AsFd::as_fd(&layer)).unwrap();
    (tally.bytes - own - 4096, tally.inodes - 2)
}

pub(super) fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

pub(super) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut buffer = [0u8; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut buffer[..]).ok()?;
    Some(buffer[..length].to_vec())
}
