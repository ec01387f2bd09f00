//! `runtime.v1.ImageService`.

use cricket_proto::cri as wire;
use tonic::{Request, Response, Status};

use super::code::{invalid, of_image};
use super::parts::{self, Messages};
use super::{ImageApi, answer, request};
use crate::image::PullRequest;
use crate::sys::clock;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::image_service_server::ImageService for ImageApi {
    async fn list_images(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Answer<wire::ListImagesResponse> {
        let wanted = request.into_inner().filter.and_then(|filter| filter.image);
        let images = self
            .images
            .list(wanted.as_ref().map(|image| image.image.as_str()));
        let images = images.iter().map(answer::image).collect();
        Ok(Response::new(wire::ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<wire::StreamImagesRequest>,
    ) -> Answer<Messages<wire::StreamImagesResponse>> {
        let wanted = request.into_inner().filter.and_then(|filter| filter.image);
        let images = self
            .images
            .list(wanted.as_ref().map(|image| image.image.as_str()));
        let items = images.into_iter().map(|image| answer::image(&image));
        Ok(Response::new(parts::messages(items, |images| {
            wire::StreamImagesResponse { images }
        })))
    }

    async fn image_status(
        &self,
        request: Request<wire::ImageStatusRequest>,
    ) -> Answer<wire::ImageStatusResponse> {
        let request = request.into_inner();
        let wanted = named(request.image)?;
        let found = self.images.get(&wanted).map_err(|error| of_image(&error))?;
        let mut info = std::collections::BTreeMap::new();
        if let Some(image) = found.as_ref().filter(|_| request.verbose) {
            let facts = match &image.record.artifact_type {
                Some(kind) => serde_json::json!({ "artifactType": kind }),
                None => serde_json::json!({ "imageSpec": image.record.config.as_ref() }),
            };
            info.insert("info".to_owned(), facts.to_string());
        }
        let image = found.as_ref().map(answer::image);
        Ok(Response::new(wire::ImageStatusResponse { image, info }))
    }

    async fn pull_image(
        &self,
        request: Request<wire::PullImageRequest>,
    ) -> Answer<wire::PullImageResponse> {
        let request = request.into_inner();
        let metadata = request.sandbox_config.and_then(|config| config.metadata);
        let caller = match &metadata {
            Some(pod) => format!("pod {}/{}", pod.namespace, pod.name),
            None => "a CRI client".to_owned(),
        };
        let pull = PullRequest {
            reference: named(request.image)?,
            auth: request::registry_auth(request.auth),
            namespace: metadata
                .map(|metadata| metadata.namespace)
                .unwrap_or_default(),
            auth_file: None,
        };
        let image_ref = self
            .images
            .begin_pull(pull, caller)
            .done()
            .await
            .map_err(|error| of_image(&error))?;
        Ok(Response::new(wire::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<wire::RemoveImageRequest>,
    ) -> Answer<wire::RemoveImageResponse> {
        let wanted = named(request.into_inner().image)?;
        let containers = std::sync::Arc::clone(self.sandboxes.containers());
        self.images
            .remove(&wanted, move |id| containers.user_of_image(id))
            .await
            .map_err(|error| of_image(&error))?;
        Ok(Response::new(wire::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _request: Request<wire::ImageFsInfoRequest>,
    ) -> Answer<wire::ImageFsInfoResponse> {
        let now = clock::now_ns();
        Ok(Response::new(wire::ImageFsInfoResponse {
            image_filesystems: vec![answer::filesystem(&self.images.usage(), now)],
            container_filesystems: vec![answer::filesystem(&self.store.roots_usage(), now)],
        }))
    }
}

fn named(image: Option<wire::ImageSpec>) -> Result<String, Status> {
    match image.map(|image| image.image) {
        Some(image) if !image.is_empty() => Ok(image),
        _ => Err(invalid("image.image", "is empty")),
    }
}
