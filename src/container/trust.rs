//! The trust policy is asked again when a container is made: the image may have been here before the
//! policy, or have been pulled for another namespace.

use std::sync::Arc;

use super::volumes::Found;
use super::{Config, ContainerError, Containers, Pod};
use crate::spec::config::ImageSpec;
use crate::storage::ImageRecord;

impl Containers {
    /// Refuses a container of an image, or with a volume of one, that the policy for the pod's
    /// namespace does not accept.
    pub(super) async fn check_trust(
        &self,
        pod: &Pod,
        config: &Config,
        (image, volumes): (&Arc<ImageRecord>, &[Found]),
    ) -> Result<(), ContainerError> {
        let namespace = pod.name.namespace.as_str();
        let images = &self.rooms.images;
        images
            .check_use(image, names(&config.image), namespace)
            .await?;
        for Found { volume, image } in volumes {
            let mount = config.mounts.get(volume.mount);
            if let Some(wanted) = mount.and_then(|mount| mount.image.as_ref()) {
                images.check_use(image, names(wanted), namespace).await?;
            }
        }
        Ok(())
    }
}

fn names(image: &ImageSpec) -> (&str, &str) {
    (&image.image, &image.user_specified_image)
}
