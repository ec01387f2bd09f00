//! cricket's own gRPC service beside the CRI: offline images, what images occupy, the progress of
//! pulls, and what is done to pods and containers now; timelines and explanations later. One file a
//! subject.

pub(crate) mod check;
mod images;
pub(crate) mod leaks;
mod operations;
mod policy;
mod pulls;
mod save;

use std::path::Path;
use std::sync::Arc;

use cricket_proto::admin as wire;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::checkup::Checkup;
use crate::container::Containers;
use crate::cri::of_image;
use crate::image::Images;
use crate::leaks::Leaks;
use crate::sandbox::Sandboxes;

/// `cricket.admin.v1.AdminService`.
#[derive(Debug, Clone)]
pub struct AdminApi {
    /// The images.
    pub images: Arc<Images>,
    /// The containers, which use them.
    pub containers: Arc<Containers>,
    /// The account of what nobody owns.
    pub leaks: Leaks,
    /// The check of store and records.
    pub checkup: Checkup,
    /// The pods.
    pub sandboxes: Arc<Sandboxes>,
}

#[tonic::async_trait]
impl wire::admin_service_server::AdminService for AdminApi {
    async fn save_images(
        &self,
        request: Request<wire::SaveImagesRequest>,
    ) -> Result<Response<save::Parts>, Status> {
        save::save(&self.images, request.into_inner()).await
    }

    async fn load_images(
        &self,
        request: Request<wire::LoadImagesRequest>,
    ) -> Result<Response<wire::LoadImagesResponse>, Status> {
        let path = request.into_inner().path;
        if !path.starts_with('/') {
            return Err(Status::invalid_argument(format!(
                "path: `{path}` is not absolute"
            )));
        }
        let loaded = self.images.load(Path::new(&path)).await;
        let loaded = loaded.map_err(|error| of_image(&error))?;
        let images = loaded
            .into_iter()
            .map(|image| wire::LoadedImage {
                id: image.id,
                names: image.names,
            })
            .collect();
        Ok(Response::new(wire::LoadImagesResponse { images }))
    }

    async fn list_images(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesResponse>, Status> {
        let listed = images::list(self, request.get_ref());
        listed.map(Response::new).map_err(|error| of_image(&error))
    }

    async fn list_operations(
        &self,
        _request: Request<wire::ListOperationsRequest>,
    ) -> Result<Response<wire::ListOperationsResponse>, Status> {
        Ok(Response::new(operations::list(&self.sandboxes)))
    }

    async fn test_policy(
        &self,
        request: Request<wire::TestPolicyRequest>,
    ) -> Result<Response<wire::TestPolicyResponse>, Status> {
        let told = policy::test(self, request.into_inner()).await;
        told.map(Response::new).map_err(|error| of_image(&error))
    }

    async fn watch_pulls(
        &self,
        request: Request<wire::WatchPullsRequest>,
    ) -> Result<Response<BoxStream<wire::WatchPullsResponse>>, Status> {
        Ok(Response::new(pulls::watch(&self.images, request.get_ref())))
    }

    async fn pull_image(
        &self,
        request: Request<wire::PullImageRequest>,
    ) -> Result<Response<BoxStream<wire::PullImageUpdate>>, Status> {
        pulls::pull(&self.images, request.into_inner()).map(Response::new)
    }

    async fn find_leaks(
        &self,
        request: Request<wire::FindLeaksRequest>,
    ) -> Result<Response<wire::FindLeaksResponse>, Status> {
        leaks::find(&self.leaks, request.get_ref())
            .await
            .map(Response::new)
    }

    async fn check_store(
        &self,
        request: Request<wire::CheckStoreRequest>,
    ) -> Result<Response<BoxStream<wire::CheckStoreUpdate>>, Status> {
        let updates = check::check(self.checkup.clone(), request.into_inner());
        Ok(Response::new(updates))
    }
}
