//! A CRI client over a unix socket, with the calls as a kubelet makes them.
//!
//! Calls are boxed: the generated futures are 18 KB each.
//!
//! It remembers every id that it was given: the leak check looks for traces of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::admin::admin_service_client::AdminServiceClient;
use crate::cri::image_service_client::ImageServiceClient;
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::cri::{self as cri, ContainerConfig, ImageSpec, PodSandboxConfig};

/// A kubelet stops at 16 MiB; ExecSync's two streams of 16 MiB each must reach a test.
const MESSAGE_MAX: usize = 40 << 20;

/// A connection; clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    admin: AdminServiceClient<Channel>,
    ids: Arc<Mutex<Vec<String>>>,
}

/// What a call gives: the reply, or what the daemon said.
pub type Reply<T> = Result<T, Status>;

macro_rules! calls {
    ($($(#[$doc:meta])* $service:ident.$call:ident($request:ident) -> $reply:ident;)*) => {
        impl Client {
            $($(#[$doc])*
            pub async fn $call(&self, request: cri::$request) -> Reply<cri::$reply> {
                Ok(Box::pin(self.$service.clone().$call(request)).await?.into_inner())
            })*
        }
    };
}

calls! {
    /// Name and version of the runtime.
    runtime.version(VersionRequest) -> VersionResponse;
    /// Conditions, handlers, features.
    runtime.status(StatusRequest) -> StatusResponse;
    /// The cgroup driver.
    runtime.runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    /// Pods by filter.
    runtime.list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    /// One pod.
    runtime.pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    /// Containers by filter.
    runtime.list_containers(ListContainersRequest) -> ListContainersResponse;
    /// Usage of containers by filter.
    runtime.list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    /// Usage of one container.
    runtime.container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    /// Usage of pods by filter.
    runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
    /// Usage of one pod.
    runtime.pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    /// Which metrics there are.
    runtime.list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
    /// The metrics of all pods.
    runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest)
        -> ListPodSandboxMetricsResponse;
    /// New overhead and limits of a pod.
    runtime.update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest)
        -> UpdatePodSandboxResourcesResponse;
    /// A container's state as an archive.
    runtime.checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
    /// A pod's state as an archive.
    runtime.checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse;
    /// A pod from such an archive.
    runtime.restore_pod(RestorePodRequest) -> RestorePodResponse;
    /// One container, with the verbose part.
    runtime.container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    /// New limits for a container.
    runtime.update_container_resources(UpdateContainerResourcesRequest)
        -> UpdateContainerResourcesResponse;
    /// Usage of the image store.
    images.image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

impl Client {
    /// Exec: where a command's streams are opened.
    pub async fn exec_url(&self, request: cri::ExecRequest) -> Reply<cri::ExecResponse> {
        let reply = Box::pin(self.runtime.clone().exec(request)).await?;
        Ok(reply.into_inner())
    }

    /// Attach: where a container's own streams are opened.
    pub async fn attach_url(&self, request: cri::AttachRequest) -> Reply<cri::AttachResponse> {
        let reply = Box::pin(self.runtime.clone().attach(request)).await?;
        Ok(reply.into_inner())
    }

    /// PortForward: where connections to a pod's ports are opened.
    pub async fn port_forward_url(
        &self,
        request: cri::PortForwardRequest,
    ) -> Reply<cri::PortForwardResponse> {
        let reply = Box::pin(self.runtime.clone().port_forward(request)).await?;
        Ok(reply.into_inner())
    }

    /// Connects as a kubelet does: HTTP/2 with `:authority` localhost.
    pub async fn connect(socket: &Path) -> Result<Client, tonic::transport::Error> {
        let socket: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connector).await?;
        Ok(Client {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_MAX),
            images: ImageServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX),
            admin: AdminServiceClient::new(channel),
            ids: Arc::default(),
        })
    }

    /// A new connection after the daemon has been started again; ids that were seen stay known.
    pub async fn reconnect(&mut self, socket: &Path) {
        let fresh = Client::connect(socket).await;
        let fresh = fresh.unwrap_or_else(|error| panic!("{}: {error:?}", socket.display()));
        *self = Client {
            ids: Arc::clone(&self.ids),
            ..fresh
        };
    }

    /// The runtime service as it was generated, for calls that stream.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    /// The image service as it was generated, for calls that stream.
    pub fn image_service(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    /// Every pod and container id seen so far.
    pub fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().clone()
    }

    fn note(&self, id: &str) {
        self.ids.lock().unwrap().push(id.to_owned());
    }

    /// RunPodSandbox with the default handler.
    pub async fn run_pod(&self, config: &PodSandboxConfig) -> Reply<String> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let reply = Box::pin(self.runtime.clone().run_pod_sandbox(request))
            .await?
            .into_inner();
        self.note(&reply.pod_sandbox_id);
        Ok(reply.pod_sandbox_id)
    }

    /// RunPodSandbox with a named handler.
    pub async fn run_pod_with(&self, config: &PodSandboxConfig, handler: &str) -> Reply<String> {
        let request = cri::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.into(),
        };
        let reply = Box::pin(self.runtime.clone().run_pod_sandbox(request))
            .await?
            .into_inner();
        self.note(&reply.pod_sandbox_id);
        Ok(reply.pod_sandbox_id)
    }

    /// StopPodSandbox.
    pub async fn stop_pod(&self, id: &str) -> Reply<()> {
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        Box::pin(self.runtime.clone().stop_pod_sandbox(request))
            .await
            .map(drop)
    }

    /// RemovePodSandbox.
    pub async fn remove_pod(&self, id: &str) -> Reply<()> {
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        Box::pin(self.runtime.clone().remove_pod_sandbox(request))
            .await
            .map(drop)
    }

    /// The status of a pod.
    pub async fn pod(&self, id: &str) -> Reply<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            ..Default::default()
        };
        let reply = self.pod_sandbox_status(request).await?;
        reply
            .status
            .ok_or_else(|| Status::internal("PodSandboxStatus without status"))
    }

    /// All pods.
    pub async fn pods(&self) -> Reply<Vec<cri::PodSandbox>> {
        Ok(self.list_pod_sandbox(Default::default()).await?.items)
    }

    /// CreateContainer.
    pub async fn create(
        &self,
        pod: &str,
        config: &ContainerConfig,
        pod_config: &PodSandboxConfig,
    ) -> Reply<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config.clone()),
            sandbox_config: Some(pod_config.clone()),
        };
        let reply = Box::pin(self.runtime.clone().create_container(request))
            .await?
            .into_inner();
        self.note(&reply.container_id);
        Ok(reply.container_id)
    }

    /// StartContainer.
    pub async fn start(&self, id: &str) -> Reply<()> {
        let request = cri::StartContainerRequest {
            container_id: id.into(),
        };
        Box::pin(self.runtime.clone().start_container(request))
            .await
            .map(drop)
    }

    /// StopContainer; the grace is in seconds, 0 kills at once.
    pub async fn stop(&self, id: &str, grace: i64) -> Reply<()> {
        let request = cri::StopContainerRequest {
            container_id: id.into(),
            timeout: grace,
        };
        Box::pin(self.runtime.clone().stop_container(request))
            .await
            .map(drop)
    }

    /// RemoveContainer.
    pub async fn remove(&self, id: &str) -> Reply<()> {
        let request = cri::RemoveContainerRequest {
            container_id: id.into(),
        };
        Box::pin(self.runtime.clone().remove_container(request))
            .await
            .map(drop)
    }

    /// The status of a container.
    pub async fn container(&self, id: &str) -> Reply<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest {
            container_id: id.into(),
            ..Default::default()
        };
        let reply = Box::pin(self.runtime.clone().container_status(request))
            .await?
            .into_inner();
        reply
            .status
            .ok_or_else(|| Status::internal("ContainerStatus without status"))
    }

    /// All containers.
    pub async fn containers(&self) -> Reply<Vec<cri::Container>> {
        Ok(self.list_containers(Default::default()).await?.containers)
    }

    /// ExecSync; the timeout is in seconds, 0 waits for ever.
    pub async fn exec(&self, id: &str, cmd: &[&str], timeout: i64) -> Reply<cri::ExecSyncResponse> {
        let cmd = cmd.iter().map(|word| (*word).to_owned()).collect();
        let request = cri::ExecSyncRequest {
            container_id: id.into(),
            cmd,
            timeout,
        };
        Ok(Box::pin(self.runtime.clone().exec_sync(request))
            .await?
            .into_inner())
    }

    /// ReopenContainerLog.
    pub async fn reopen_log(&self, id: &str) -> Reply<()> {
        let request = cri::ReopenContainerLogRequest {
            container_id: id.into(),
        };
        Box::pin(self.runtime.clone().reopen_container_log(request))
            .await
            .map(drop)
    }

    /// PullImage without credentials; gives the image's id.
    pub async fn pull(&self, reference: &str) -> Reply<String> {
        self.pull_with(reference, None).await
    }

    /// PullImage with all that a kubelet may say.
    pub async fn pull_request(&self, request: cri::PullImageRequest) -> Reply<String> {
        Ok(Box::pin(self.images.clone().pull_image(request))
            .await?
            .into_inner()
            .image_ref)
    }

    /// PullImage with credentials.
    pub async fn pull_with(&self, reference: &str, auth: Option<cri::AuthConfig>) -> Reply<String> {
        let request = cri::PullImageRequest {
            image: Some(spec(reference)),
            auth,
            ..Default::default()
        };
        Ok(Box::pin(self.images.clone().pull_image(request))
            .await?
            .into_inner()
            .image_ref)
    }

    /// PullImage for a pod of `namespace`.
    pub async fn pull_for(&self, reference: &str, namespace: &str) -> Reply<String> {
        let metadata = cri::PodSandboxMetadata {
            namespace: namespace.into(),
            ..Default::default()
        };
        let request = cri::PullImageRequest {
            image: Some(spec(reference)),
            sandbox_config: Some(cri::PodSandboxConfig {
                metadata: Some(metadata),
                ..Default::default()
            }),
            ..Default::default()
        };
        Ok(Box::pin(self.images.clone().pull_image(request))
            .await?
            .into_inner()
            .image_ref)
    }

    /// All images.
    pub async fn images(&self) -> Reply<Vec<cri::Image>> {
        let reply = Box::pin(
            self.images
                .clone()
                .list_images(cri::ListImagesRequest::default()),
        )
        .await?;
        Ok(reply.into_inner().images)
    }

    /// One image by id or name; `None` when it is not there.
    pub async fn image(&self, reference: &str) -> Reply<Option<cri::Image>> {
        let request = cri::ImageStatusRequest {
            image: Some(spec(reference)),
            ..Default::default()
        };
        Ok(Box::pin(self.images.clone().image_status(request))
            .await?
            .into_inner()
            .image)
    }

    /// RemoveImage.
    pub async fn remove_image(&self, reference: &str) -> Reply<()> {
        let request = cri::RemoveImageRequest {
            image: Some(spec(reference)),
        };
        Box::pin(self.images.clone().remove_image(request))
            .await
            .map(drop)
    }

    /// `cricket load` over the wire.
    pub async fn load(&self, path: &Path) -> Reply<Vec<crate::admin::LoadedImage>> {
        let path = path.to_string_lossy().into_owned();
        let request = crate::admin::LoadImagesRequest { path };
        Ok(Box::pin(self.admin.clone().load_images(request))
            .await?
            .into_inner()
            .images)
    }

    /// Whether a pod id is unknown.
    pub async fn pod_is_gone(&self, id: &str) -> bool {
        self.pod(id)
            .await
            .is_err_and(|status| status.code() == Code::NotFound)
    }

    /// Waits until the container has exited, by asking again as a kubelet does, and gives its
    /// status. A minute is far beyond what any test's container takes.
    #[track_caller]
    pub fn exited(&self, id: &str) -> impl Future<Output = cri::ContainerStatus> {
        let caller = std::panic::Location::caller();
        let (client, id) = (self.clone(), id.to_owned());
        async move {
            let exited = i32::from(cri::ContainerState::ContainerExited);
            for _ in 0..6000 {
                let status = client
                    .container(&id)
                    .await
                    .expect("the container has a status");
                if status.state == exited {
                    return status;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            panic!("{caller}: container {id} did not exit within 60 s");
        }
    }
}

/// An image by name.
pub fn spec(reference: &str) -> ImageSpec {
    ImageSpec {
        image: reference.into(),
        user_specified_image: reference.into(),
        ..Default::default()
    }
}
