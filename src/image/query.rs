//! Questions about images that are here, and their removal.

use std::sync::Arc;

use super::error::ImageError;
use super::pinned::Pinned;
use super::reference::{Name, Reference};
use super::registries::Registries;
use super::{Images, reference};
use crate::storage::{Census, ImageRecord, StorageError, Usage};
use crate::sys::blocking;

/// Shortest id prefix taken for one, as in containers/storage.
const MIN_ID_PREFIX: usize = 3;

/// An image of the node.
#[derive(Debug, Clone)]
pub struct Image {
    /// What storage knows.
    pub record: Arc<ImageRecord>,
    /// The kubelet must not collect it.
    pub pinned: bool,
}

/// Who an image runs as; CRI wants exactly one of the two (runAsNonRoot is decided by it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// The configuration's `User` starts with a number, or is empty, which is 0.
    Uid(i64),
    /// It starts with a name.
    Name(String),
}

impl Image {
    /// The user of the image's configuration, without the group; an artifact has none.
    pub fn user(&self) -> User {
        if self.record.artifact_type.is_some() {
            return User::Name(String::new());
        }
        let config = self.record.config.config().as_ref();
        let text = config
            .and_then(|config| config.user().as_deref())
            .unwrap_or_default();
        user_of(text)
    }
}

fn user_of(text: &str) -> User {
    let name = text.split(':').next().unwrap_or_default();
    if name.is_empty() {
        return User::Uid(0);
    }
    match name.parse::<i64>() {
        Ok(uid) if uid >= 0 => User::Uid(uid),
        Ok(_) | Err(_) => User::Name(name.to_owned()),
    }
}

impl Images {
    /// All images, or the one that `filter` names. From memory.
    pub fn list(&self, filter: Option<&str>) -> Vec<Image> {
        match filter.filter(|text| !text.is_empty()) {
            // a filter that is no reference matches nothing
            Some(text) => self.get(text).ok().flatten().into_iter().collect(),
            None => {
                let records = self.settings.store.images();
                records
                    .into_iter()
                    .map(|record| self.image(record))
                    .collect()
            }
        }
    }

    /// The image that `text` names: an id, its unique prefix, `sha256:id`, or a reference of any
    /// kind. `None`: there is none. From memory.
    pub fn get(&self, text: &str) -> Result<Option<Image>, ImageError> {
        if let Some(record) = self.by_id(text.strip_prefix("sha256:").unwrap_or(text)) {
            return Ok(Some(self.image(record)));
        }
        if is_id(text.strip_prefix("sha256:").unwrap_or(text)) {
            return Ok(None);
        }
        Name::parse(text)?;
        let images = self.settings.store.images();
        for wanted in self.stored_names(text) {
            let found = images.iter().find(|image| match &wanted.digest {
                Some(digest) => image.digests.contains(&wanted.repo_digest(digest.as_ref())),
                None => wanted
                    .tagged_name()
                    .is_some_and(|name| image.names.contains(&name)),
            });
            if let Some(record) = found {
                return Ok(Some(self.image(Arc::clone(record))));
            }
        }
        Ok(None)
    }

    /// The full references that `text` may stand for among the images that are here.
    pub(super) fn stored_names(&self, text: &str) -> Vec<Reference> {
        self.known_registries().stored_candidates(text)
    }

    /// Removes the image that `text` names with all its names; missing is fine. `in_use` tells for
    /// an image id who uses it; it is asked at the instant of removal and must not wait.
    pub async fn remove(
        &self,
        text: &str,
        in_use: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Result<(), ImageError> {
        let Some(image) = self.get(text)? else {
            return Ok(());
        };
        let id = image.record.id.clone();
        let store = self.settings.store.clone();
        blocking(move || match store.remove_image(&id, &|| in_use(&id)) {
            // false: a removal at the same time was first
            Ok(_) => Ok(()),
            Err(StorageError::ImageInUse { id, user }) => Err(ImageError::InUse { id, user }),
            Err(source) => Err(ImageError::Storage {
                what: format!("image {id}: remove"),
                source: Arc::new(source),
            }),
        })
        .await
    }

    /// Pins other images from now on (a reload of `pinned_images` or `pause_image`).
    pub fn pin(&self, pinned: Pinned) {
        self.pinned.store(Arc::new(pinned));
    }

    /// What images occupy.
    pub fn usage(&self) -> Usage {
        self.settings.store.usage()
    }

    /// Images and layers at one instant. From memory.
    pub fn census(&self) -> Census {
        self.settings.store.census()
    }

    /// What the room adds to a record of storage's.
    pub fn image(&self, record: Arc<ImageRecord>) -> Image {
        let pinned = self.pinned.load().matches(&record);
        Image { record, pinned }
    }

    fn by_id(&self, id: &str) -> Option<Arc<ImageRecord>> {
        if is_id(id) {
            return self.settings.store.image(id);
        }
        if id.len() < MIN_ID_PREFIX || id.len() > 64 || !id.bytes().all(is_hex) {
            return None;
        }
        let images = self.settings.store.images();
        let mut matching = images.iter().filter(|image| image.id.starts_with(id));
        let first = matching.next()?;
        matching.next().is_none().then(|| Arc::clone(first))
    }

    /// What registries.conf says, for questions: from memory.
    pub(super) fn known_registries(&self) -> Arc<Registries> {
        self.registries.known()
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_id(text: &str) -> bool {
    reference::is_hex_id(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_or_a_name() {
        let table = [
            ("", User::Uid(0)),
            ("0", User::Uid(0)),
            ("1000:1000", User::Uid(1000)),
            (":5", User::Uid(0)),
            ("nobody", User::Name("nobody".into())),
            ("web:www", User::Name("web".into())),
            ("-1", User::Name("-1".into())),
            (
                "99999999999999999999",
                User::Name("99999999999999999999".into()),
            ),
        ];
        for (text, want) in table {
            assert_eq!(user_of(text), want, "{text:?}");
        }
    }
}
