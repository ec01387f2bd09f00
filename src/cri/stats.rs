//! What pods and containers use, as messages for the kubelet.

use std::sync::Arc;

use cricket_proto::cri as wire;
use tonic::Status;

use super::code::{of_sandbox, plain};
use super::{RuntimeApi, answer, filter};
use crate::cgroup::{CpuStats, MemoryStats, Pressure, Sample, Stall};
use crate::container::{ContainerError, ContainerStats};
use crate::network::Interface;
use crate::sandbox::{PodNetwork, PodStats, SandboxError};
use crate::sys::blocking;

pub(super) async fn container(
    api: &RuntimeApi,
    request: wire::ContainerStatsRequest,
) -> Result<wire::ContainerStatsResponse, Status> {
    let containers = Arc::clone(api.sandboxes.containers());
    let sample = blocking(move || containers.stats(&request.container_id)).await;
    let stats = Some(of_container(&sample.map_err(plain)?));
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
        let mut all = containers.all();
        all.retain(|container| filter::stats(&container.record(), wanted.as_ref()));
        let samples = containers.stats_of_living(&all);
        Ok::<_, ContainerError>(samples.iter().map(of_container).collect())
    });
    stats.await.map_err(plain)
}

pub(super) async fn pod(
    api: &RuntimeApi,
    request: wire::PodSandboxStatsRequest,
) -> Result<wire::PodSandboxStatsResponse, Status> {
    let sandboxes = Arc::clone(&api.sandboxes);
    let sample = blocking(move || sandboxes.stats(&request.pod_sandbox_id)).await;
    let sample = sample.map_err(|error| of_sandbox(Arc::new(error)))?;
    Ok(wire::PodSandboxStatsResponse {
        stats: Some(of_pod(&sample)),
    })
}

pub(super) async fn pods(
    api: &RuntimeApi,
    request: wire::ListPodSandboxStatsRequest,
) -> Result<wire::ListPodSandboxStatsResponse, Status> {
    let stats = pod_items(api, request.filter).await?;
    Ok(wire::ListPodSandboxStatsResponse { stats })
}

/// What the ready pods use that a filter wants.
pub(super) async fn pod_items(
    api: &RuntimeApi,
    wanted: Option<wire::PodSandboxStatsFilter>,
) -> Result<Vec<wire::PodSandboxStats>, Status> {
    let sandboxes = Arc::clone(&api.sandboxes);
    let stats = blocking(move || {
        let samples = sandboxes.all_stats(|record| filter::pod_stats(record, wanted.as_ref()));
        Ok::<_, SandboxError>(samples.iter().map(of_pod).collect())
    });
    stats.await.map_err(|error| of_sandbox(Arc::new(error)))
}

/// `PodSandboxStats` of one pod. The kubelet needs `attributes` and `linux`; what is not known is
/// absent.
pub(super) fn of_pod(stats: &PodStats) -> wire::PodSandboxStats {
    let sample = stats.usage.as_ref();
    let pids = sample.and_then(|sample| sample.stats.pids);
    wire::PodSandboxStats {
        attributes: Some(wire::PodSandboxAttributes {
            id: stats.record.id.to_string(),
            metadata: Some(answer::pod_metadata(&stats.record)),
            labels: stats.record.config.labels.clone(),
            annotations: stats.record.config.annotations.clone(),
        }),
        linux: Some(wire::LinuxPodSandboxStats {
            cpu: sample.and_then(cpu),
            memory: sample.and_then(memory),
            network: stats
                .network
                .as_ref()
                .map(|network| self::network(network, stats.asked_at_ns)),
            process: sample.zip(pids).map(|(sample, pids)| wire::ProcessUsage {
                timestamp: sample.at_ns,
                process_count: value(pids.current),
            }),
            containers: stats.containers.iter().map(of_container).collect(),
            io: sample.and_then(io),
        }),
        windows: None,
    }
}

/// `ContainerStats` of one container. The kubelet needs `attributes`; what is not known is absent.
pub(super) fn of_container(stats: &ContainerStats) -> wire::ContainerStats {
    let record = &stats.record;
    let sample = stats.usage.as_ref();
    wire::ContainerStats {
        attributes: Some(wire::ContainerAttributes {
            id: record.id.to_string(),
            metadata: Some(answer::container_metadata(record)),
            labels: record.config.labels.clone(),
            annotations: record.config.annotations.clone(),
        }),
        cpu: sample.and_then(cpu),
        memory: sample.and_then(memory),
        writable_layer: stats
            .writable_layer
            .as_ref()
            .map(|layer| answer::filesystem(layer, stats.asked_at_ns)),
        swap: sample.and_then(swap),
        io: sample.and_then(io),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "messages hold figures as options")]
fn value(value: u64) -> Option<wire::UInt64Value> {
    Some(wire::UInt64Value { value })
}

fn cpu(sample: &Sample) -> Option<wire::CpuUsage> {
    let cpu: &CpuStats = sample.stats.cpu.as_ref()?;
    Some(wire::CpuUsage {
        timestamp: sample.at_ns,
        usage_core_nano_seconds: value(cpu.usage_ns),
        usage_nano_cores: sample.nano_cores.and_then(value),
        psi: cpu.pressure.as_ref().map(pressure),
    })
}

fn memory(sample: &Sample) -> Option<wire::MemoryUsage> {
    let memory: &MemoryStats = sample.stats.memory.as_ref()?;
    Some(wire::MemoryUsage {
        timestamp: sample.at_ns,
        working_set_bytes: value(memory.working_set_bytes),
        available_bytes: value(memory.available_bytes()),
        usage_bytes: value(memory.usage_bytes),
        rss_bytes: value(memory.rss_bytes),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: memory.pressure.as_ref().map(pressure),
    })
}

fn swap(sample: &Sample) -> Option<wire::SwapUsage> {
    let swap = sample.stats.memory.as_ref()?.swap?;
    Some(wire::SwapUsage {
        timestamp: sample.at_ns,
        swap_available_bytes: value(swap.available_bytes()),
        swap_usage_bytes: value(swap.usage_bytes),
    })
}

fn io(sample: &Sample) -> Option<wire::IoUsage> {
    let io = sample.stats.io_pressure.as_ref()?;
    Some(wire::IoUsage {
        timestamp: sample.at_ns,
        psi: Some(pressure(io)),
    })
}

fn network(network: &PodNetwork, timestamp: i64) -> wire::NetworkUsage {
    wire::NetworkUsage {
        timestamp,
        default_interface: network.default.as_ref().map(interface),
        interfaces: network.others.iter().map(interface).collect(),
    }
}

fn interface(interface: &Interface) -> wire::NetworkInterfaceUsage {
    wire::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: value(interface.received.bytes),
        rx_errors: value(interface.received.errors),
        tx_bytes: value(interface.sent.bytes),
        tx_errors: value(interface.sent.errors),
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
