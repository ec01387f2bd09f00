//! What layers occupy, and who needs which: what the removal of an image would free.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::blob_file::BlobFile;
use super::usage::Tally;
use super::{ImageRecord, LayerInfo, Store, Usage};

/// Images and layers at one instant.
#[derive(Debug)]
pub struct Census {
    /// All images, sorted by id.
    pub images: Vec<Arc<ImageRecord>>,
    /// All layers, by the hex of their diff id.
    pub layers: BTreeMap<String, LayerUse>,
}

/// A layer, and what keeps it.
#[derive(Debug)]
pub struct LayerUse {
    /// What it occupies.
    pub info: LayerInfo,
    /// How many images have it.
    pub images: usize,
    /// Whether it stays without any image: a container's root or volume, a pull or a load needs it.
    pub held: bool,
}

impl Store {
    /// What layers and images occupy. From memory.
    pub fn usage(&self) -> Usage {
        self.shared.sync_again();
        let index = self.shared.index();
        let tally = occupied(index.layers.values().map(|layer| &layer.info));
        Usage {
            bytes: tally.bytes,
            inodes: tally.inodes,
            mountpoint: self.shared.places.base.path().to_path_buf(),
        }
    }

    /// What there is now. From memory.
    pub fn census(&self) -> Census {
        let index = self.shared.index();
        let rooted: HashSet<&String> = index.roots.values().flat_map(|root| &root.layers).collect();
        let layers = index.layers.iter().map(|(id, layer)| {
            let held = layer.leases > 0 || rooted.contains(id);
            let info = layer.info.clone();
            let images = 0;
            (id.clone(), LayerUse { info, images, held })
        });
        let mut layers: BTreeMap<String, LayerUse> = layers.collect();
        let images: Vec<Arc<ImageRecord>> = index
            .images
            .values()
            .map(|entry| Arc::clone(&entry.record))
            .collect();
        drop(index);
        for id in images.iter().flat_map(|image| own_layers(image)) {
            if let Some(layer) = layers.get_mut(id) {
                layer.images += 1;
            }
        }
        Census { images, layers }
    }
}

impl Census {
    /// Bytes on disk that the image's removal would free: of its layers that nothing else needs.
    pub fn freed_by(&self, image: &ImageRecord) -> u64 {
        let own = own_layers(image);
        let goes =
            |id: &str, layer: &LayerUse| layer.images == 1 && !layer.held && own.contains(id);
        let all = self.layers.iter();
        let (away, stay): (Vec<_>, Vec<_>) = all.partition(|(id, layer)| goes(id, layer));
        let away = away.into_iter().map(|(_, layer)| &layer.info);
        freed(away, stay.into_iter().map(|(_, layer)| &layer.info))
    }

    /// Bytes on disk of the image's layers, shared or not.
    pub fn occupied_by(&self, image: &ImageRecord) -> u64 {
        let layers = own_layers(image).into_iter();
        let layers = layers.filter_map(|id| self.layers.get(id));
        occupied(layers.map(|layer| &layer.info)).bytes
    }
}

/// The image's layers, each once: an image may have the same one several times.
fn own_layers(image: &ImageRecord) -> HashSet<&str> {
    image.layers.iter().map(|layer| layer.digest()).collect()
}

/// What layers occupy together.
fn occupied<'a>(layers: impl Iterator<Item = &'a LayerInfo>) -> Tally {
    let mut seen = HashSet::new();
    let mut tally = Tally::default();
    for layer in layers {
        tally.bytes += layer.bytes;
        tally.inodes += layer.inodes;
        if let Some(file) = &layer.file
            && !seen.insert(file.key())
        {
            tally.bytes = tally.bytes.saturating_sub(file.bytes);
            tally.inodes = tally.inodes.saturating_sub(1);
        }
    }
    tally
}

/// Bytes that come free when `goes` go and `stay` stay.
fn freed<'a>(
    goes: impl Iterator<Item = &'a LayerInfo>,
    stay: impl Iterator<Item = &'a LayerInfo>,
) -> u64 {
    let goes: Vec<&LayerInfo> = goes.collect();
    let mut bytes = occupied(goes.iter().copied()).bytes;
    let going = goes.iter().filter_map(|layer| layer.file.as_ref());
    let mut going: HashSet<_> = going.map(BlobFile::key).collect();
    if going.is_empty() {
        return bytes;
    }
    for file in stay.filter_map(|layer| layer.file.as_ref()) {
        if going.remove(&file.key()) {
            bytes = bytes.saturating_sub(file.bytes);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(bytes: u64, file: Option<(&str, u64, u64)>) -> LayerInfo {
        LayerInfo {
            diff_id: String::new(),
            bytes,
            inodes: 2,
            file: file.map(|(blob, inode, bytes)| BlobFile {
                blob: blob.to_owned(),
                path: "f".to_owned(),
                inode,
                bytes,
            }),
        }
    }

    #[test]
    fn shared_bytes_count_once_and_come_free_with_the_last() {
        let plain = layer(100, None);
        let [one, two] = [0, 1].map(|_| layer(14, Some(("a", 7, 10))));
        let copy = layer(14, Some(("a", 8, 10)));
        let other = layer(14, Some(("b", 7, 10)));
        let sum = |layers: &[&LayerInfo]| {
            let tally = occupied(layers.iter().copied());
            (tally.bytes, tally.inodes)
        };
        assert_eq!(sum(&[&plain, &plain]), (200, 4));
        assert_eq!(sum(&[&plain, &one, &two]), (118, 5));
        assert_eq!(sum(&[&one, &copy, &other]), (42, 6));
        let freed = |goes: &[&LayerInfo], stay: &[&LayerInfo]| {
            super::freed(goes.iter().copied(), stay.iter().copied())
        };
        assert_eq!(freed(&[&plain], &[&one]), 100);
        assert_eq!(freed(&[&one], &[&two, &two]), 4);
        assert_eq!(freed(&[&one, &two], &[&plain, &copy, &other]), 18);
    }
}
