//! `runtime.v1.RuntimeService`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cricket_proto::cri as wire;
use tonic::{Request, Response, Status};

use super::code::{of_container, of_sandbox};
use super::{RuntimeApi, answer, filter, request, stats};
use crate::container::{ContainerError, ExecOutput};
use crate::sys::blocking;

/// `VersionResponse.version`: the version of the kubelet's own API, a constant.
const KUBELET_API_VERSION: &str = "0.1.0";
/// `VersionResponse.runtime_name`: the prefix of container ids in the Kubernetes API, which must
/// never change.
const RUNTIME_NAME: &str = "cri-o";
/// `VersionResponse.runtime_api_version`.
const CRI_VERSION: &str = "v1";

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::runtime_service_server::RuntimeService for RuntimeApi {
    async fn version(
        &self,
        _request: Request<wire::VersionRequest>,
    ) -> Answer<wire::VersionResponse> {
        Ok(Response::new(wire::VersionResponse {
            version: KUBELET_API_VERSION.to_owned(),
            runtime_name: RUNTIME_NAME.to_owned(),
            runtime_version: self.identity.version.to_owned(),
            runtime_api_version: CRI_VERSION.to_owned(),
        }))
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Answer<wire::StatusResponse> {
        let mut info = BTreeMap::new();
        if request.into_inner().verbose {
            info.insert("config".to_owned(), self.identity.config.clone());
            let mut in_flight = self.sandboxes.in_flight();
            in_flight["pulls"] = answer::pulls(&self.images.pulls_in_flight());
            info.insert("inFlight".to_owned(), in_flight.to_string());
        }
        let network = match self.networks.readiness() {
            Ok(()) => condition("NetworkReady", "", String::new()),
            Err(not_ready) => condition(
                "NetworkReady",
                "NetworkPluginNotReady",
                not_ready.to_string(),
            ),
        };
        Ok(Response::new(wire::StatusResponse {
            status: Some(wire::RuntimeStatus {
                conditions: vec![condition("RuntimeReady", "", String::new()), network],
            }),
            info,
            runtime_handlers: self.handlers.features().map(answer::handler).collect(),
            features: Some(wire::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: true,
                mount_options: true,
            }),
        }))
    }

    async fn runtime_config(
        &self,
        _request: Request<wire::RuntimeConfigRequest>,
    ) -> Answer<wire::RuntimeConfigResponse> {
        let driver = if self.identity.systemd_cgroup {
            wire::CgroupDriver::Systemd
        } else {
            wire::CgroupDriver::Cgroupfs
        };
        Ok(Response::new(wire::RuntimeConfigResponse {
            linux: Some(wire::LinuxRuntimeConfiguration {
                cgroup_driver: driver.into(),
            }),
        }))
    }

    /// The pod CIDR is CNI's business; the kubelet's call must succeed.
    async fn update_runtime_config(
        &self,
        _request: Request<wire::UpdateRuntimeConfigRequest>,
    ) -> Answer<wire::UpdateRuntimeConfigResponse> {
        Ok(Response::new(wire::UpdateRuntimeConfigResponse {}))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<wire::RunPodSandboxRequest>,
    ) -> Answer<wire::RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = request::pod_config(request.config)?;
        let id = self
            .sandboxes
            .run(config, request.runtime_handler)
            .await
            .map_err(of_sandbox)?;
        Ok(Response::new(wire::RunPodSandboxResponse {
            pod_sandbox_id: id.to_string(),
        }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<wire::StopPodSandboxRequest>,
    ) -> Answer<wire::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.sandboxes.stop(&id).await.map_err(of_sandbox)?;
        Ok(Response::new(wire::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<wire::RemovePodSandboxRequest>,
    ) -> Answer<wire::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.sandboxes.remove(&id).await.map_err(of_sandbox)?;
        Ok(Response::new(wire::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<wire::PodSandboxStatusRequest>,
    ) -> Answer<wire::PodSandboxStatusResponse> {
        let request = request.into_inner();
        let sandbox = self
            .sandboxes
            .find(&request.pod_sandbox_id)
            .map_err(|error| of_sandbox(Arc::new(error)))?;
        let record = sandbox.record();
        let mut info = BTreeMap::new();
        if request.verbose {
            info.insert(
                "info".to_owned(),
                self.sandboxes.describe(&record).to_string(),
            );
        }
        Ok(Response::new(wire::PodSandboxStatusResponse {
            status: Some(answer::pod_status(&record)),
            info,
            containers_statuses: Vec::new(),
            timestamp: 0,
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<wire::ListPodSandboxRequest>,
    ) -> Answer<wire::ListPodSandboxResponse> {
        let wanted = request.into_inner().filter;
        let records = self
            .sandboxes
            .all()
            .into_iter()
            .map(|sandbox| sandbox.record());
        let items = records
            .filter(|record| filter::pod(record, wanted.as_ref()))
            .map(|record| answer::pod(&record))
            .collect();
        Ok(Response::new(wire::ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Answer<wire::CreateContainerResponse> {
        let request = request.into_inner();
        let config = request::container_config(request.config)?;
        let created = self
            .sandboxes
            .create_container(&request.pod_sandbox_id, config)
            .await;
        let id = created.map_err(of_sandbox)?;
        Ok(Response::new(wire::CreateContainerResponse {
            container_id: id.to_string(),
        }))
    }

    async fn start_container(
        &self,
        request: Request<wire::StartContainerRequest>,
    ) -> Answer<wire::StartContainerResponse> {
        let id = request.into_inner().container_id;
        self.sandboxes
            .containers()
            .start(&id)
            .await
            .map_err(of_container)?;
        Ok(Response::new(wire::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<wire::StopContainerRequest>,
    ) -> Answer<wire::StopContainerResponse> {
        let request = request.into_inner();
        let grace = seconds(request.timeout).unwrap_or_default();
        let stopped = self
            .sandboxes
            .containers()
            .stop(&request.container_id, grace)
            .await;
        stopped.map_err(of_container)?;
        Ok(Response::new(wire::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<wire::RemoveContainerRequest>,
    ) -> Answer<wire::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.sandboxes
            .containers()
            .remove(&id)
            .await
            .map_err(of_container)?;
        Ok(Response::new(wire::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Answer<wire::ListContainersResponse> {
        let wanted = request.into_inner().filter;
        let all = self.sandboxes.containers().all().into_iter();
        let containers = all
            .map(|container| container.record())
            .filter(|record| filter::container(record, wanted.as_ref()))
            .map(|record| answer::container(&record))
            .collect();
        Ok(Response::new(wire::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<wire::ContainerStatusRequest>,
    ) -> Answer<wire::ContainerStatusResponse> {
        let request = request.into_inner();
        let containers = self.sandboxes.containers();
        let record = containers
            .find(&request.container_id)
            .map_err(plain)?
            .record();
        let mut info = BTreeMap::new();
        if request.verbose {
            info.insert("info".to_owned(), containers.describe(&record).to_string());
        }
        let status = Some(answer::container_status(&record));
        Ok(Response::new(wire::ContainerStatusResponse {
            status,
            info,
        }))
    }

    async fn reopen_container_log(
        &self,
        request: Request<wire::ReopenContainerLogRequest>,
    ) -> Answer<wire::ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        self.sandboxes
            .containers()
            .reopen_log(&id)
            .await
            .map_err(plain)?;
        Ok(Response::new(wire::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(
        &self,
        request: Request<wire::ExecSyncRequest>,
    ) -> Answer<wire::ExecSyncResponse> {
        let wire::ExecSyncRequest {
            container_id,
            cmd,
            timeout,
        } = request.into_inner();
        let limit = seconds(timeout);
        let executed = self
            .sandboxes
            .containers()
            .exec_sync(&container_id, &cmd, limit)
            .await;
        let ExecOutput {
            stdout,
            stderr,
            exit_code,
        } = executed.map_err(plain)?;
        Ok(Response::new(wire::ExecSyncResponse {
            stdout,
            stderr,
            exit_code,
        }))
    }

    async fn container_stats(
        &self,
        request: Request<wire::ContainerStatsRequest>,
    ) -> Answer<wire::ContainerStatsResponse> {
        let id = request.into_inner().container_id;
        let sample = self.sandboxes.containers().stats(&id).map_err(plain)?;
        let stats = Some(stats::of_container(&sample));
        Ok(Response::new(wire::ContainerStatsResponse { stats }))
    }

    async fn list_container_stats(
        &self,
        request: Request<wire::ListContainerStatsRequest>,
    ) -> Answer<wire::ListContainerStatsResponse> {
        let wanted = request.into_inner().filter;
        let containers = Arc::clone(self.sandboxes.containers());
        let stats = blocking(move || {
            let all = containers.all();
            let samples = all
                .iter()
                .filter(|container| filter::stats(&container.record(), wanted.as_ref()))
                // One that ends meanwhile is left out, it does not fail the list.
                .filter_map(|container| containers.usual_stats(container).ok())
                .filter(|sample| sample.usage.is_some());
            Ok::<_, ContainerError>(samples.map(|sample| stats::of_container(&sample)).collect())
        });
        let stats = stats.await.map_err(plain)?;
        Ok(Response::new(wire::ListContainerStatsResponse { stats }))
    }

    async fn update_container_resources(
        &self,
        _request: Request<wire::UpdateContainerResourcesRequest>,
    ) -> Answer<wire::UpdateContainerResourcesResponse> {
        Err(not_built("UpdateContainerResources"))
    }

    async fn exec(&self, _request: Request<wire::ExecRequest>) -> Answer<wire::ExecResponse> {
        Err(not_built("Exec"))
    }

    async fn attach(&self, _request: Request<wire::AttachRequest>) -> Answer<wire::AttachResponse> {
        Err(not_built("Attach"))
    }

    async fn port_forward(
        &self,
        _request: Request<wire::PortForwardRequest>,
    ) -> Answer<wire::PortForwardResponse> {
        Err(not_built("PortForward"))
    }

    async fn pod_sandbox_stats(
        &self,
        _request: Request<wire::PodSandboxStatsRequest>,
    ) -> Answer<wire::PodSandboxStatsResponse> {
        Err(not_built("PodSandboxStats"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        _request: Request<wire::ListPodSandboxStatsRequest>,
    ) -> Answer<wire::ListPodSandboxStatsResponse> {
        Err(not_built("ListPodSandboxStats"))
    }

    async fn checkpoint_container(
        &self,
        _request: Request<wire::CheckpointContainerRequest>,
    ) -> Answer<wire::CheckpointContainerResponse> {
        Err(not_built("CheckpointContainer"))
    }

    async fn list_metric_descriptors(
        &self,
        _request: Request<wire::ListMetricDescriptorsRequest>,
    ) -> Answer<wire::ListMetricDescriptorsResponse> {
        Err(not_built("ListMetricDescriptors"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _request: Request<wire::ListPodSandboxMetricsRequest>,
    ) -> Answer<wire::ListPodSandboxMetricsResponse> {
        Err(not_built("ListPodSandboxMetrics"))
    }

    async fn update_pod_sandbox_resources(
        &self,
        _request: Request<wire::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<wire::UpdatePodSandboxResourcesResponse> {
        Err(not_built("UpdatePodSandboxResources"))
    }
}

/// The answer of a call that the next versions bring.
fn not_built(call: &str) -> Status {
    Status::unimplemented(format!(
        "{call} is not built into this version of cricket yet"
    ))
}

fn condition(kind: &str, reason: &str, message: String) -> wire::RuntimeCondition {
    wire::RuntimeCondition {
        r#type: kind.to_owned(),
        status: reason.is_empty(),
        reason: reason.to_owned(),
        message,
    }
}

fn plain(error: ContainerError) -> Status {
    of_container(Arc::new(error))
}

/// A number of seconds; 0 and below mean none.
fn seconds(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}
