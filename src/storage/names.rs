//! Names: each belongs to one image. A pull that moves one shows its image first; who had the name
//! gives it up on disk only when the other is durable. So a kill or a power cut leaves it at one of
//! the two, and where both records have it the later put counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, MutexGuard};

use super::StorageError;
use super::image_file;
use super::image_record::ImageRecord;
use super::index::{ImageEntry, Index};
use super::record::IMAGE_FILE;
use super::store::Shared;
use crate::sys::fault;

type Images = BTreeMap<String, ImageEntry>;

/// Takes the names and digests of the image `taker` from all others, in memory; their records on disk
/// are outdated then.
pub(super) fn take(images: &mut Images, taker: &ImageRecord) {
    let has = |name: &String| taker.names.contains(name) || taker.digests.contains(name);
    for other in images.values_mut() {
        if other.record.id != taker.id {
            give_up(other, |name| has(name).then_some(&taker.id));
        }
    }
}

/// Gives each name that several records have to the one that was put last.
pub(super) fn settle(images: &mut Images) {
    let mut owners: HashMap<String, (u64, String)> = HashMap::new();
    for (id, entry) in images.iter() {
        for name in entry.record.names.iter().chain(&entry.record.digests) {
            let claim = (entry.put, id.clone());
            let owner = owners.entry(name.clone()).or_insert_with(|| claim.clone());
            if *owner < claim {
                *owner = claim;
            }
        }
    }
    for (id, entry) in images.iter_mut() {
        give_up(entry, |name| {
            let (_, owner) = owners.get(name)?;
            (owner != id).then_some(owner)
        });
    }
}

/// Takes the names from an image that another has; `owner` says who.
fn give_up<'a>(entry: &mut ImageEntry, owner: impl Fn(&String) -> Option<&'a String>) {
    let record = &entry.record;
    let all = record.names.iter().chain(&record.digests);
    let owners: Vec<String> = all.filter_map(&owner).cloned().collect();
    if owners.is_empty() {
        return;
    }
    let kept = |all: &[String]| {
        let kept = all.iter().filter(|name| owner(name).is_none());
        kept.cloned().collect()
    };
    entry.record = Arc::new(ImageRecord {
        names: kept(&record.names),
        digests: kept(&record.digests),
        ..ImageRecord::clone(record)
    });
    entry.lost_to.extend(owners);
}

impl Shared {
    /// Writes those records of images that have given up names for which it is time.
    pub(super) fn write_outdated(
        &self,
        _disk: &MutexGuard<'_, ()>,
        is_time: impl Fn(&Index, &ImageEntry) -> bool,
    ) -> Result<(), StorageError> {
        let outdated: Vec<ImageEntry> = {
            let index = self.index();
            let all = index.images.values();
            let outdated = all.filter(|entry| !entry.lost_to.is_empty() && is_time(&index, entry));
            outdated.cloned().collect()
        };
        for entry in outdated {
            let id = entry.record.id.clone();
            let dir = self.places.images.sub(&id)?;
            let bytes = image_file::encode(&entry, dir.path())?;
            match entry.durable {
                true => dir.replace_durably(IMAGE_FILE, &bytes)?,
                false => dir.replace(IMAGE_FILE, &bytes)?,
            }
            fault::point("image.name-moved");
            if let Some(now) = self.index().images.get_mut(&id) {
                now.lost_to.clear();
            }
        }
        Ok(())
    }
}
