//! What containers and pods use, as messages for the kubelet.

use std::sync::Arc;

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::{not_built, plain};
use super::{RuntimeApi, answer, filter};
use crate::cgroup::{MemoryStats, Pressure, Stall};
use crate::container::{ContainerError, ContainerStats};
use crate::sys::blocking;

pub(super) fn container(
    api: &RuntimeApi,
    request: wire::ContainerStatsRequest,
) -> Result<wire::ContainerStatsResponse, Status> {
    let containers = api.sandboxes.containers();
    let sample = containers.stats(&request.container_id).map_err(plain)?;
    let stats = Some(of_container(&sample));
    Ok(wire::ContainerStatsResponse { stats })
}

pub(super) async fn containers(
    api: &RuntimeApi,
    request: wire::ListContainerStatsRequest,
) -> Result<wire::ListContainerStatsResponse, Status> {
    let stats = container_items(api, request.filter).await?;
    Ok(wire::ListContainerStatsResponse { stats })
}

/// What the containers use that a filter wants.
pub(super) async fn container_items(
    api: &RuntimeApi,
    wanted: Option<wire::ContainerStatsFilter>,
) -> Result<Vec<wire::ContainerStats>, Status> {
    let containers = Arc::clone(api.sandboxes.containers());
    let stats = blocking(move || {
        let all = containers.all();
        let samples = all
            .iter()
            .filter(|container| filter::stats(&container.record(), wanted.as_ref()))
            // One that ends meanwhile is left out, it does not fail the list.
            .filter_map(|container| containers.usual_stats(container).ok())
            .filter(|sample| sample.usage.is_some());
        Ok::<_, ContainerError>(samples.map(|sample| of_container(&sample)).collect())
    });
    stats.await.map_err(plain)
}

pub(super) fn pod(
    _api: &RuntimeApi,
    _request: wire::PodSandboxStatsRequest,
) -> Result<wire::PodSandboxStatsResponse, Status> {
    Err(not_built("PodSandboxStats"))
}

pub(super) fn pods(
    _api: &RuntimeApi,
    _request: wire::ListPodSandboxStatsRequest,
) -> Result<wire::ListPodSandboxStatsResponse, Status> {
    Err(not_built("ListPodSandboxStats"))
}

pub(super) fn metric_descriptors(
    _api: &RuntimeApi,
    _request: wire::ListMetricDescriptorsRequest,
) -> Result<wire::ListMetricDescriptorsResponse, Status> {
    Err(not_built("ListMetricDescriptors"))
}

pub(super) fn pod_metrics(
    _api: &RuntimeApi,
    _request: wire::ListPodSandboxMetricsRequest,
) -> Result<wire::ListPodSandboxMetricsResponse, Status> {
    Err(not_built("ListPodSandboxMetrics"))
}

/// `ContainerStats` of one container. The kubelet needs `attributes`; what is not known is absent.
pub(super) fn of_container(stats: &ContainerStats) -> wire::ContainerStats {
    let timestamp = stats.timestamp_ns;
    let record = &stats.record;
    let usage = stats.usage.as_ref();
    let value = |value: u64| Some(wire::UInt64Value { value });
    let memory = usage.and_then(|usage| usage.memory.as_ref());
    wire::ContainerStats {
        attributes: Some(wire::ContainerAttributes {
            id: record.id.to_string(),
            metadata: Some(wire::ContainerMetadata {
                name: record.name.name.clone(),
                attempt: record.name.attempt,
            }),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }),
        cpu: usage
            .and_then(|usage| usage.cpu.as_ref())
            .map(|cpu| wire::CpuUsage {
                timestamp,
                usage_core_nano_seconds: value(cpu.usage_ns),
                usage_nano_cores: stats.nano_cores.and_then(value),
                psi: cpu.pressure.as_ref().map(pressure),
            }),
        memory: memory.map(|memory| self::memory(memory, timestamp)),
        writable_layer: stats
            .writable_layer
            .as_ref()
            .map(|layer| answer::filesystem(layer, timestamp)),
        swap: memory
            .and_then(|memory| memory.swap.as_ref())
            .map(|swap| wire::SwapUsage {
                timestamp,
                swap_available_bytes: value(swap.available_bytes()),
                swap_usage_bytes: value(swap.usage_bytes),
            }),
        io: usage
            .and_then(|usage| usage.io_pressure.as_ref())
            .map(|io| wire::IoUsage {
                timestamp,
                psi: Some(pressure(io)),
            }),
    }
}

fn memory(memory: &MemoryStats, timestamp: i64) -> wire::MemoryUsage {
    let value = |value: u64| Some(wire::UInt64Value { value });
    wire::MemoryUsage {
        timestamp,
        working_set_bytes: value(memory.working_set_bytes),
        available_bytes: value(memory.available_bytes()),
        usage_bytes: value(memory.usage_bytes),
        rss_bytes: value(memory.rss_bytes),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: memory.pressure.as_ref().map(pressure),
    }
}

fn pressure(pressure: &Pressure) -> wire::PsiStats {
    let data = |stall: &Stall| wire::PsiData {
        total: stall.total_ns,
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
    };
    wire::PsiStats {
        full: Some(data(&pressure.full)),
        some: Some(data(&pressure.some)),
    }
}
