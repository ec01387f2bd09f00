//! `ListMetricDescriptors` and `ListPodSandboxMetrics`: cAdvisor's metrics, from our own figures.
//!
//! `table` says which metrics there are, `figures` where each one's value comes from; this file which of
//! them are asked for (`included_pod_metrics`) and how they become messages. A metric that the
//! kernel has no figure for is left out, never zero.

mod figures;
mod table;

use std::sync::Arc;

use cricket_proto::cri as wire;
use tonic::Status;

use super::RuntimeApi;
use super::code::of_sandbox;
use crate::container::{ContainerMetrics, Extent};
use crate::network::Interface;
use crate::sandbox::{PodMetrics, SandboxError};
use crate::sys::blocking;
use table::{METRICS, NETWORK};

/// The keys of the labels that each metric begins with.
const LABELS: [&str; 5] = ["id", "image", "namespace", "pod", "container"];
/// The further key of the metrics of an interface.
const INTERFACE: &str = "interface";
/// The container that metrics of a pod as a whole are told of.
const POD: &str = "POD";

/// The groups of metrics that are told (`included_pod_metrics`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricGroups(u16);

/// A group of metrics, by its name in crio.conf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Told always.
    Always,
    Cpu,
    Disk,
    DiskIo,
    Hugetlb,
    Memory,
    Network,
    Oom,
    Pressure,
    Process,
    Spec,
}

/// The names of the groups in crio.conf; `all` is all of them.
const GROUPS: [(&str, Group); 10] = [
    ("cpu", Group::Cpu),
    ("disk", Group::Disk),
    ("diskIO", Group::DiskIo),
    ("hugetlb", Group::Hugetlb),
    ("memory", Group::Memory),
    ("network", Group::Network),
    ("oom", Group::Oom),
    ("pressure", Group::Pressure),
    ("process", Group::Process),
    ("spec", Group::Spec),
];

impl MetricGroups {
    /// The groups of these names; the configuration has checked that there are such.
    pub fn new(names: &[String]) -> MetricGroups {
        let wanted =
            |(name, _): &&(&str, Group)| names.iter().any(|one| one == name || one == "all");
        let bits = GROUPS.iter().filter(wanted).map(|(_, group)| group.bit());
        MetricGroups(bits.fold(Group::Always.bit(), |all, bit| all | bit))
    }

    fn include(self, group: Group) -> bool {
        self.0 & group.bit() != 0
    }
}

impl Group {
    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A metric of containers.
struct Metric {
    name: &'static str,
    help: &'static str,
    group: Group,
    kind: wire::MetricType,
    /// Keys of the labels behind [`LABELS`].
    labels: &'static [&'static str],
    read: Read,
}

/// Where a metric's values come from.
enum Read {
    /// One value; none where there is no figure.
    One(fn(&ContainerMetrics) -> Option<u64>),
    /// Each value with the values of the metric's own labels.
    Many(fn(&ContainerMetrics, &mut Put<'_>)),
}

/// Takes the values of a metric's own labels, as many as it has keys, and its value.
type Put<'a> = dyn FnMut(&[&str], u64) + 'a;

/// A metric of a pod's interfaces.
struct NetworkMetric {
    name: &'static str,
    help: &'static str,
    read: fn(&Interface) -> u64,
}

pub(super) fn descriptors(
    api: &RuntimeApi,
    _request: wire::ListMetricDescriptorsRequest,
) -> wire::ListMetricDescriptorsResponse {
    wire::ListMetricDescriptorsResponse {
        descriptors: describe(api.metrics),
    }
}

pub(super) async fn pods(
    api: &RuntimeApi,
    _request: wire::ListPodSandboxMetricsRequest,
) -> Result<wire::ListPodSandboxMetricsResponse, Status> {
    let pod_metrics = pod_items(api).await?;
    Ok(wire::ListPodSandboxMetricsResponse { pod_metrics })
}

/// The metrics of all ready pods.
pub(super) async fn pod_items(api: &RuntimeApi) -> Result<Vec<wire::PodSandboxMetrics>, Status> {
    let (sandboxes, groups) = (Arc::clone(&api.sandboxes), api.metrics);
    let extent = Extent {
        processes: groups.include(Group::Process),
        disk: groups.include(Group::Disk),
    };
    let metrics = blocking(move || {
        let all = sandboxes.measure(groups.include(Group::Network), extent);
        Ok::<_, SandboxError>(all.iter().map(|pod| of_pod(pod, groups)).collect())
    });
    metrics.await.map_err(|error| of_sandbox(Arc::new(error)))
}

fn describe(groups: MetricGroups) -> Vec<wire::MetricDescriptor> {
    let descriptor = |name: &str, help: &str, labels: &[&str]| wire::MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: LABELS
            .iter()
            .chain(labels)
            .map(|key| (*key).to_owned())
            .collect(),
    };
    let of_containers = METRICS
        .iter()
        .filter(|metric| groups.include(metric.group))
        .map(|metric| descriptor(metric.name, metric.help, metric.labels));
    let of_interfaces = NETWORK
        .iter()
        .filter(|_| groups.include(Group::Network))
        .map(|metric| descriptor(metric.name, metric.help, &[INTERFACE]));
    of_containers.chain(of_interfaces).collect()
}

fn of_pod(pod: &PodMetrics, groups: MetricGroups) -> wire::PodSandboxMetrics {
    let name = &pod.record.config.name;
    let labels = [pod.record.id.as_str(), "", &name.namespace, &name.name, POD];
    let of_interface = |interface: &Interface| {
        let metric = |metric: &NetworkMetric| wire::Metric {
            name: metric.name.to_owned(),
            timestamp: pod.at_ns,
            metric_type: wire::MetricType::Counter.into(),
            label_values: values(&labels, &[&interface.name]),
            value: Some(wire::UInt64Value {
                value: (metric.read)(interface),
            }),
        };
        NETWORK.iter().map(metric).collect::<Vec<_>>()
    };
    wire::PodSandboxMetrics {
        pod_sandbox_id: pod.record.id.to_string(),
        metrics: pod.interfaces.iter().flat_map(of_interface).collect(),
        container_metrics: pod
            .containers
            .iter()
            .map(|container| of_container(container, groups))
            .collect(),
    }
}

fn of_container(container: &ContainerMetrics, groups: MetricGroups) -> wire::ContainerMetrics {
    let record = &container.record;
    let (image, pod) = (record.image.name.as_str(), &record.name.pod);
    let labels = [
        record.id.as_str(),
        image,
        &pod.namespace,
        &pod.name,
        &record.name.name,
    ];
    let mut metrics = Vec::new();
    for metric in METRICS.iter().filter(|one| groups.include(one.group)) {
        let mut put = |own: &[&str], value| {
            metrics.push(wire::Metric {
                name: metric.name.to_owned(),
                timestamp: container.at_ns,
                metric_type: metric.kind.into(),
                label_values: values(&labels, own),
                value: Some(wire::UInt64Value { value }),
            });
        };
        match metric.read {
            Read::One(read) => read(container)
                .into_iter()
                .for_each(|value| put(&[], value)),
            Read::Many(read) => read(container, &mut put),
        }
    }
    wire::ContainerMetrics {
        container_id: record.id.to_string(),
        metrics,
    }
}

fn values(common: &[&str], own: &[&str]) -> Vec<String> {
    common
        .iter()
        .chain(own)
        .map(|value| (*value).to_owned())
        .collect()
}

#[cfg(test)]
mod tests;
