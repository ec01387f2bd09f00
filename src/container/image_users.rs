//! Which containers use which images: what stands in the way of an image's removal.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::volumes::Found;
use super::{ContainerError, Containers, Record};
use crate::state::ContainerName;
use crate::storage::ImageRecord;

/// Images that containers are being made of, which no list shows yet.
#[derive(Debug, Default)]
pub(super) struct InMaking(Mutex<Vec<(String, ContainerName)>>);

impl InMaking {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, ContainerName)>> {
        // A panic ends the process; between any two statements the list is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a new container's images from being removed, until the container is listed or given up.
#[derive(Debug)]
pub(super) struct Using<'a> {
    all: &'a InMaking,
    name: ContainerName,
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.all.lock().retain(|(_, name)| *name != self.name);
    }
}

impl Containers {
    /// Registers a container that is being made as the user of its images. They must have been looked
    /// up before; one that has been removed since is an error.
    pub(super) fn use_images(
        &self,
        name: &ContainerName,
        image: &ImageRecord,
        volumes: &[Found],
    ) -> Result<Using<'_>, ContainerError> {
        let volumes = volumes.iter().map(|found| &found.volume.image_id);
        let ids: Vec<&String> = std::iter::once(&image.id).chain(volumes).collect();
        let named = ids.iter().map(|id| ((*id).clone(), name.clone()));
        self.in_making.lock().extend(named);
        let using = Using {
            all: &self.in_making,
            name: name.clone(),
        };
        // Removal asks for users at the instant in which the image leaves the list: one that is still
        // listed now stays.
        match ids
            .into_iter()
            .find(|id| self.rooms.store.image(id).is_none())
        {
            None => Ok(using),
            Some(gone) => Err(ContainerError::NoImage {
                image: gone.clone(),
            }),
        }
    }

    /// The container that uses the image of this id, by name, if there is one.
    pub fn user_of_image(&self, image: &str) -> Option<String> {
        let listed = self.all().into_iter();
        let user = listed.flat_map(|container| uses(&container.record()));
        user.into_iter()
            .chain(self.uses_in_making())
            .find_map(|(id, user)| (id == image).then_some(user))
    }

    /// All users of images, by image id.
    pub fn users_of_images(&self) -> BTreeMap<String, Vec<String>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let listed = self.all().into_iter();
        let listed = listed.flat_map(|container| uses(&container.record()));
        for (id, user) in listed.chain(self.uses_in_making()) {
            users.entry(id).or_default().push(user);
        }
        users
    }

    fn uses_in_making(&self) -> Vec<(String, String)> {
        let in_making = self.in_making.lock();
        let named = |(id, name): &(String, ContainerName)| {
            (
                id.clone(),
                format!("container {name}, which is being created"),
            )
        };
        in_making.iter().map(named).collect()
    }
}

/// The images of a container, by id, and in which words it uses them.
pub fn uses(record: &Record) -> Vec<(String, String)> {
    let user = format!("container {} ({})", record.name, record.id);
    let volumes = record.image_volumes.iter();
    let volumes = volumes.map(|volume| (volume.image_id.clone(), format!("{user} as a volume")));
    let image = (record.image.id.clone(), user.clone());
    std::iter::once(image).chain(volumes).collect()
}
