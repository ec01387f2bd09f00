//! `runtime.v1.RuntimeService`: which function answers which call.
//!
//! The functions stand by subject in the files beside this one. Each takes the message out of its
//! envelope, makes one call of the domain, and turns the result into a message.

use cricket_proto::cri as wire;
use tonic::{Request, Response, Status};

use super::parts::{self, Messages};
use super::{
    RuntimeApi, checkpoint, containers, events, exec, metrics, pods, resources, stats, status,
    streams,
};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::runtime_service_server::RuntimeService for RuntimeApi {
    async fn version(
        &self,
        request: Request<wire::VersionRequest>,
    ) -> Answer<wire::VersionResponse> {
        status::version(self, request.into_inner()).map(Response::new)
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Answer<wire::StatusResponse> {
        status::status(self, request.into_inner()).map(Response::new)
    }

    async fn runtime_config(
        &self,
        request: Request<wire::RuntimeConfigRequest>,
    ) -> Answer<wire::RuntimeConfigResponse> {
        status::runtime_config(self, request.into_inner()).map(Response::new)
    }

    async fn update_runtime_config(
        &self,
        request: Request<wire::UpdateRuntimeConfigRequest>,
    ) -> Answer<wire::UpdateRuntimeConfigResponse> {
        status::update_runtime_config(self, request.into_inner()).map(Response::new)
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<wire::RunPodSandboxRequest>,
    ) -> Answer<wire::RunPodSandboxResponse> {
        pods::run(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<wire::StopPodSandboxRequest>,
    ) -> Answer<wire::StopPodSandboxResponse> {
        pods::stop(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<wire::RemovePodSandboxRequest>,
    ) -> Answer<wire::RemovePodSandboxResponse> {
        pods::remove(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<wire::PodSandboxStatusRequest>,
    ) -> Answer<wire::PodSandboxStatusResponse> {
        pods::status(self, request.into_inner()).map(Response::new)
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<wire::ListPodSandboxRequest>,
    ) -> Answer<wire::ListPodSandboxResponse> {
        pods::list(self, request.into_inner()).map(Response::new)
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<wire::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<wire::UpdatePodSandboxResourcesResponse> {
        resources::update_pod(self, request.into_inner()).map(Response::new)
    }

    async fn create_container(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Answer<wire::CreateContainerResponse> {
        containers::create(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn start_container(
        &self,
        request: Request<wire::StartContainerRequest>,
    ) -> Answer<wire::StartContainerResponse> {
        containers::start(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn stop_container(
        &self,
        request: Request<wire::StopContainerRequest>,
    ) -> Answer<wire::StopContainerResponse> {
        containers::stop(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn remove_container(
        &self,
        request: Request<wire::RemoveContainerRequest>,
    ) -> Answer<wire::RemoveContainerResponse> {
        containers::remove(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn container_status(
        &self,
        request: Request<wire::ContainerStatusRequest>,
    ) -> Answer<wire::ContainerStatusResponse> {
        containers::status(self, request.into_inner()).map(Response::new)
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Answer<wire::ListContainersResponse> {
        containers::list(self, request.into_inner()).map(Response::new)
    }

    async fn reopen_container_log(
        &self,
        request: Request<wire::ReopenContainerLogRequest>,
    ) -> Answer<wire::ReopenContainerLogResponse> {
        containers::reopen_log(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn update_container_resources(
        &self,
        request: Request<wire::UpdateContainerResourcesRequest>,
    ) -> Answer<wire::UpdateContainerResourcesResponse> {
        resources::update_container(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn checkpoint_container(
        &self,
        request: Request<wire::CheckpointContainerRequest>,
    ) -> Answer<wire::CheckpointContainerResponse> {
        checkpoint::container(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn exec_sync(
        &self,
        request: Request<wire::ExecSyncRequest>,
    ) -> Answer<wire::ExecSyncResponse> {
        exec::sync(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn exec(&self, request: Request<wire::ExecRequest>) -> Answer<wire::ExecResponse> {
        streams::exec(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn attach(&self, request: Request<wire::AttachRequest>) -> Answer<wire::AttachResponse> {
        streams::attach(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn port_forward(
        &self,
        request: Request<wire::PortForwardRequest>,
    ) -> Answer<wire::PortForwardResponse> {
        streams::port_forward(self, request.into_inner()).map(Response::new)
    }

    async fn container_stats(
        &self,
        request: Request<wire::ContainerStatsRequest>,
    ) -> Answer<wire::ContainerStatsResponse> {
        stats::container(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_container_stats(
        &self,
        request: Request<wire::ListContainerStatsRequest>,
    ) -> Answer<wire::ListContainerStatsResponse> {
        stats::containers(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<wire::PodSandboxStatsRequest>,
    ) -> Answer<wire::PodSandboxStatsResponse> {
        stats::pod(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<wire::ListPodSandboxStatsRequest>,
    ) -> Answer<wire::ListPodSandboxStatsResponse> {
        stats::pods(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<wire::ListMetricDescriptorsRequest>,
    ) -> Answer<wire::ListMetricDescriptorsResponse> {
        Ok(Response::new(metrics::descriptors(
            self,
            request.into_inner(),
        )))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<wire::ListPodSandboxMetricsRequest>,
    ) -> Answer<wire::ListPodSandboxMetricsResponse> {
        metrics::pods(self, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_container_events(
        &self,
        _request: Request<wire::GetEventsRequest>,
    ) -> Answer<Messages<wire::ContainerEventResponse>> {
        Ok(Response::new(events::follow(self)))
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<wire::StreamPodSandboxesRequest>,
    ) -> Answer<Messages<wire::StreamPodSandboxesResponse>> {
        parts::pods(self, request.into_inner()).map(Response::new)
    }

    async fn stream_containers(
        &self,
        request: Request<wire::StreamContainersRequest>,
    ) -> Answer<Messages<wire::StreamContainersResponse>> {
        parts::containers(self, request.into_inner()).map(Response::new)
    }

    async fn stream_container_stats(
        &self,
        request: Request<wire::StreamContainerStatsRequest>,
    ) -> Answer<Messages<wire::StreamContainerStatsResponse>> {
        let messages = parts::container_stats(self, request.into_inner());
        messages.await.map(Response::new)
    }

    async fn checkpoint_pod(
        &self,
        _request: Request<wire::CheckpointPodRequest>,
    ) -> Answer<wire::CheckpointPodResponse> {
        Err(checkpoint::no_pods("CheckpointPod"))
    }

    async fn restore_pod(
        &self,
        _request: Request<wire::RestorePodRequest>,
    ) -> Answer<wire::RestorePodResponse> {
        Err(checkpoint::no_pods("RestorePod"))
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<wire::StreamPodSandboxStatsRequest>,
    ) -> Answer<Messages<wire::StreamPodSandboxStatsResponse>> {
        let messages = parts::pod_stats(self, request.into_inner());
        messages.await.map(Response::new)
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<wire::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Messages<wire::StreamPodSandboxMetricsResponse>> {
        let messages = parts::pod_metrics(self, request.into_inner());
        messages.await.map(Response::new)
    }
}
