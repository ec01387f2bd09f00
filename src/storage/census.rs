//! Who needs which layer: what the removal of an image would free.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::{ImageRecord, LayerInfo, Store};

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
        let layers = own_layers(image).into_iter();
        let layers = layers.filter_map(|id| self.layers.get(id));
        let freed = layers.filter(|layer| layer.images == 1 && !layer.held);
        freed.map(|layer| layer.info.bytes).sum()
    }

    /// Bytes on disk of the image's layers, shared or not.
    pub fn occupied_by(&self, image: &ImageRecord) -> u64 {
        let layers = own_layers(image).into_iter();
        let layers = layers.filter_map(|id| self.layers.get(id));
        layers.map(|layer| layer.info.bytes).sum()
    }
}

/// The image's layers, each once: an image may have the same one several times.
fn own_layers(image: &ImageRecord) -> HashSet<&str> {
    image.layers.iter().map(|layer| layer.digest()).collect()
}
