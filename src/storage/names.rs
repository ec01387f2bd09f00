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
/// keep them for now.
pub(super) fn take(images: &mut Images, taker: &ImageRecord) {
    let has = |name: &String| taker.names.contains(name) || taker.digests.contains(name);
    for (id, image) in images.iter_mut() {
        if *id == taker.id {
            image.lost.retain(|name, _| !has(name));
        } else {
            give_up(image, |name| has(name).then_some(&taker.id));
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
    // From who had it after this one.
    for (name, holder) in &mut entry.lost {
        if let Some(owner) = owner(name) {
            holder.clone_from(owner);
        }
    }
    let record = &entry.record;
    let all = record.names.iter().chain(&record.digests);
    let lost = all.filter_map(|name| Some((name.clone(), owner(name)?.clone())));
    let lost: Vec<(String, String)> = lost.collect();
    if lost.is_empty() {
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
    entry.lost.extend(lost);
}

impl Shared {
    /// Takes lost names out of the records on disk, as far as it `is_time`: asked with the name's owner.
    ///
    /// # Errors
    /// The first; all other records are written nevertheless.
    pub(super) fn write_outdated(
        &self,
        _disk: &MutexGuard<'_, ()>,
        is_time: impl Fn(&Index, &String) -> bool,
    ) -> Result<(), StorageError> {
        let outdated: Vec<ImageEntry> = {
            let index = self.index();
            let without = |entry: &ImageEntry| {
                let mut entry = entry.clone();
                let before = entry.lost.len();
                entry.lost.retain(|_, owner| !is_time(&index, owner));
                (entry.lost.len() < before).then_some(entry)
            };
            index.images.values().filter_map(without).collect()
        };
        let mut outcome = Ok(());
        for entry in outdated {
            let written = self.rewrite(&entry);
            if written.is_ok() {
                fault::point("image.name-moved");
                if let Some(now) = self.index().images.get_mut(&entry.record.id) {
                    now.lost = entry.lost;
                }
            }
            outcome = outcome.and(written);
        }
        outcome
    }

    fn rewrite(&self, entry: &ImageEntry) -> Result<(), StorageError> {
        let dir = self.places.images.sub(&entry.record.id)?;
        let bytes = image_file::encode(entry, dir.path())?;
        match entry.durable {
            true => dir.replace_durably(IMAGE_FILE, &bytes),
            false => dir.replace(IMAGE_FILE, &bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;
    use std::time::SystemTime;

    use super::*;

    fn image(id: &str, put: u64, names: &[&str]) -> (String, ImageEntry) {
        let digest = format!("sha256:{}", "0".repeat(64));
        let record = ImageRecord {
            id: id.to_owned(),
            manifest_digest: oci_spec::image::Digest::from_str(&digest).unwrap(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            digests: vec![format!("r@{id}")],
            layers: Vec::new(),
            size_bytes: 1,
            config: Arc::default(),
            loaded: SystemTime::UNIX_EPOCH,
            annotations: BTreeMap::new(),
            artifact_type: None,
        };
        let entry = ImageEntry {
            record: Arc::new(record),
            durable: true,
            boot_id: String::new(),
            put,
            lost: BTreeMap::new(),
            unknown: serde_json::Map::new(),
        };
        (id.to_owned(), entry)
    }

    /// Who has the name, and who has lost it to whom.
    fn state(images: &Images) -> (Vec<&str>, Vec<(&str, &str)>) {
        let has = |entry: &&ImageEntry| entry.record.names.contains(&"n:1".to_owned());
        let owners = images.values().filter(has);
        let lost = images
            .iter()
            .filter_map(|(id, entry)| Some((id.as_str(), entry.lost.get("n:1")?.as_str())));
        (
            owners.map(|entry| entry.record.id.as_str()).collect(),
            lost.collect(),
        )
    }

    #[test]
    fn whoever_lost_a_name_waits_for_who_has_it_at_last() {
        let mut images = Images::from([image("c", 0, &["n:1"])]);
        for (put, id) in [(1, "b"), (2, "a")] {
            let (id, entry) = image(id, put, &["n:1"]);
            let taker = Arc::clone(&entry.record);
            images.insert(id, entry);
            take(&mut images, &taker);
        }
        assert_eq!(state(&images), (vec!["a"], vec![("b", "a"), ("c", "a")]));
        let shown = images["c"].names_on_disk();
        assert_eq!(shown, (vec!["n:1".into()], vec!["r@c".into()]));
        // And back again.
        let (id, entry) = image("c", 3, &["n:1"]);
        let lost = images["c"].lost.clone();
        let taker = Arc::clone(&entry.record);
        images.insert(id, ImageEntry { lost, ..entry });
        take(&mut images, &taker);
        assert_eq!(state(&images), (vec!["c"], vec![("a", "c"), ("b", "c")]));
    }

    #[test]
    fn of_several_records_with_a_name_the_last_put_has_it() {
        let names: &[&str] = &["n:1"];
        let mut images = Images::from([
            image("a", 7, names),
            image("b", 9, names),
            image("c", 8, names),
        ]);
        settle(&mut images);
        assert_eq!(state(&images), (vec!["b"], vec![("a", "b"), ("c", "b")]));
        assert_eq!(images["a"].record.digests, ["r@a"]);
    }
}
