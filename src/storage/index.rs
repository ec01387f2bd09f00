//! What the store has, in memory. Everything here takes the time of a map, never of a disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use super::LayerInfo;
use super::image_record::ImageRecord;
use super::record::LayerRecord;
use super::unpack::RootAttributes;

#[derive(Debug, Default)]
pub(super) struct Index {
    /// By image id.
    pub(super) images: BTreeMap<String, ImageEntry>,
    /// By diff id, hex.
    pub(super) layers: HashMap<String, LayerEntry>,
    /// By container id.
    pub(super) roots: BTreeMap<String, RootEntry>,
}

#[derive(Debug, Clone)]
pub(super) struct ImageEntry {
    pub(super) record: Arc<ImageRecord>,
    pub(super) durable: bool,
    pub(super) boot_id: String,
    /// Counts puts over all images: the larger, the later.
    pub(super) put: u64,
    /// Names that the record on disk still has, and the images that have them now (`names`).
    pub(super) lost: BTreeMap<String, String>,
    pub(super) unknown: Map<String, Value>,
}

impl ImageEntry {
    /// The names and the digests that its record on disk is to have: also those that it has lost, until
    /// who has them now is durable.
    pub(super) fn names_on_disk(&self) -> (Vec<String>, Vec<String>) {
        let (mut names, mut digests) = (self.record.names.clone(), self.record.digests.clone());
        for name in self.lost.keys() {
            match name.contains('@') {
                true => digests.push(name.clone()),
                false => names.push(name.clone()),
            }
        }
        for all in [&mut names, &mut digests] {
            all.sort();
            all.dedup();
        }
        (names, digests)
    }
}

#[derive(Debug)]
pub(super) struct LayerEntry {
    pub(super) info: LayerInfo,
    pub(super) root: Option<RootAttributes>,
    /// Length of the tar, if it can be made again.
    pub(super) tar_bytes: Option<u64>,
    /// Whether the headers of that tar say what is on the disk.
    pub(super) is_plain: bool,
    /// How many leases hold it.
    pub(super) leases: usize,
}

impl From<LayerRecord> for LayerEntry {
    fn from(record: LayerRecord) -> LayerEntry {
        LayerEntry {
            info: LayerInfo {
                diff_id: record.diff_id,
                bytes: record.bytes,
                inodes: record.inodes,
                file: record.file,
            },
            root: record.root,
            tar_bytes: record.tar_bytes,
            is_plain: record.is_plain,
            leases: 0,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct RootEntry {
    /// Diff ids in hex, lowest first.
    pub(super) layers: Vec<String>,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// When the two were measured; `None`: never.
    pub(super) measured: Option<Instant>,
}

impl Index {
    /// The layers that nothing needs: no image, no root, no lease.
    pub(super) fn unreferenced(&self) -> Vec<String> {
        let by_images = self.images.values().flat_map(|image| &image.record.layers);
        let by_roots = self.roots.values().flat_map(|root| &root.layers);
        let needed: HashSet<&str> = by_images
            .map(|digest| digest.digest())
            .chain(by_roots.map(String::as_str))
            .collect();
        let free = |(id, layer): &(&String, &LayerEntry)| {
            layer.leases == 0 && !needed.contains(id.as_str())
        };
        self.layers
            .iter()
            .filter(free)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Mode and owner of a root made of these layers: the topmost layer that says.
    pub(super) fn root_attributes(&self, layers: &[String]) -> Option<RootAttributes> {
        layers.iter().rev().find_map(|id| self.layers.get(id)?.root)
    }
}
