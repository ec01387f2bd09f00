//! The metrics: cAdvisor's names, which dashboards ask for, in CRI-O's groups. Values are whole
//! numbers, so seconds are cut.

use cricket_proto::cri::MetricType::{self, Counter, Gauge};

use super::figures::{
    NS_PER_SECOND, asked, blkio, cpu_pressure, cpu_usage, disk, faults, files, full, hugetlb,
    hugetlb_peak, io, memory, reservation, seconds, some, started, throttling, ulimits,
};
use super::{Group, Metric, NetworkMetric, Put, Read};
use crate::container::ContainerMetrics;

/// The metrics of containers.
pub(super) static METRICS: [Metric; 48] = [
    one(
        "container_last_seen",
        "When the container was measured, in seconds since 1970.",
        Group::Always,
        Gauge,
        |c| Some(c.at_ns.unsigned_abs() / NS_PER_SECOND),
    ),
    // cpu
    one(
        "container_cpu_user_seconds_total",
        "Time of processors spent outside of the kernel, in seconds.",
        Group::Cpu,
        Counter,
        |c| seconds(c.stats.cpu.as_ref()?.user_ns?),
    ),
    one(
        "container_cpu_system_seconds_total",
        "Time of processors spent in the kernel, in seconds.",
        Group::Cpu,
        Counter,
        |c| seconds(c.stats.cpu.as_ref()?.system_ns?),
    ),
    many(
        "container_cpu_usage_seconds_total",
        "Time of processors spent, in seconds.",
        Group::Cpu,
        Counter,
        &["cpu"],
        cpu_usage,
    ),
    one(
        "container_cpu_cfs_periods_total",
        "Periods in which a cpu quota was enforced.",
        Group::Cpu,
        Counter,
        |c| Some(throttling(c)?.periods),
    ),
    one(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the cpu quota ran out.",
        Group::Cpu,
        Counter,
        |c| Some(throttling(c)?.throttled_periods),
    ),
    one(
        "container_cpu_cfs_throttled_seconds_total",
        "Time in which the cpu quota held tasks back, in seconds.",
        Group::Cpu,
        Counter,
        |c| seconds(throttling(c)?.throttled_ns),
    ),
    // disk
    one(
        "container_fs_inodes_free",
        "Free inodes of the file system that the writable layer lies on.",
        Group::Disk,
        Gauge,
        |c| Some(disk(c)?.inodes_free),
    ),
    one(
        "container_fs_inodes_total",
        "Inodes of the file system that the writable layer lies on.",
        Group::Disk,
        Gauge,
        |c| Some(disk(c)?.inodes),
    ),
    one(
        "container_fs_limit_bytes",
        "Size of the file system that the writable layer lies on, in bytes.",
        Group::Disk,
        Gauge,
        |c| Some(disk(c)?.limit_bytes),
    ),
    one(
        "container_fs_usage_bytes",
        "Size of the writable layer, in bytes.",
        Group::Disk,
        Gauge,
        |c| Some(disk(c)?.used_bytes),
    ),
    // diskIO
    many(
        "container_fs_reads_bytes_total",
        "Bytes read from a block device.",
        Group::DiskIo,
        Counter,
        &["device"],
        |c, put| io(c, |io| io.read_bytes, put),
    ),
    many(
        "container_fs_reads_total",
        "Reads from a block device.",
        Group::DiskIo,
        Counter,
        &["device"],
        |c, put| io(c, |io| io.reads, put),
    ),
    many(
        "container_fs_writes_bytes_total",
        "Bytes written to a block device.",
        Group::DiskIo,
        Counter,
        &["device"],
        |c, put| io(c, |io| io.write_bytes, put),
    ),
    many(
        "container_fs_writes_total",
        "Writes to a block device.",
        Group::DiskIo,
        Counter,
        &["device"],
        |c, put| io(c, |io| io.writes, put),
    ),
    many(
        "container_blkio_device_usage_total",
        "Bytes transferred to and from a block device.",
        Group::DiskIo,
        Counter,
        &["device", "major", "minor", "operation"],
        blkio,
    ),
    // hugetlb
    many(
        "container_hugetlb_usage_bytes",
        "Huge pages in use, in bytes.",
        Group::Hugetlb,
        Gauge,
        &["pagesize"],
        hugetlb,
    ),
    many(
        "container_hugetlb_max_usage_bytes",
        "The most huge pages that were in use, in bytes.",
        Group::Hugetlb,
        Gauge,
        &["pagesize"],
        hugetlb_peak,
    ),
    // memory
    one(
        "container_memory_cache",
        "Page cache, in bytes.",
        Group::Memory,
        Gauge,
        |c| Some(memory(c)?.cache_bytes),
    ),
    one(
        "container_memory_rss",
        "Anonymous memory, in bytes.",
        Group::Memory,
        Gauge,
        |c| Some(memory(c)?.rss_bytes),
    ),
    one(
        "container_memory_kernel_usage",
        "Memory of the kernel for the container, in bytes.",
        Group::Memory,
        Gauge,
        |c| memory(c)?.kernel_bytes,
    ),
    one(
        "container_memory_mapped_file",
        "Files mapped into memory, in bytes.",
        Group::Memory,
        Gauge,
        |c| Some(memory(c)?.mapped_file_bytes),
    ),
    one(
        "container_memory_swap",
        "Memory swapped out, in bytes.",
        Group::Memory,
        Gauge,
        |c| Some(memory(c)?.swap?.usage_bytes),
    ),
    one(
        "container_memory_failcnt",
        "How often memory ran into its limit.",
        Group::Memory,
        Counter,
        |c| memory(c)?.limit_hits,
    ),
    one(
        "container_memory_usage_bytes",
        "Memory in use, page cache included, in bytes.",
        Group::Memory,
        Gauge,
        |c| Some(memory(c)?.usage_bytes),
    ),
    one(
        "container_memory_max_usage_bytes",
        "The most memory that was in use, in bytes.",
        Group::Memory,
        Gauge,
        |c| memory(c)?.peak_bytes,
    ),
    one(
        "container_memory_working_set_bytes",
        "Memory in use that cannot be taken back at once, in bytes.",
        Group::Memory,
        Gauge,
        |c| Some(memory(c)?.working_set_bytes),
    ),
    many(
        "container_memory_failures_total",
        "Page faults: all, and those that waited for a device.",
        Group::Memory,
        Counter,
        &["failure_type", "scope"],
        faults,
    ),
    // oom
    one(
        "container_oom_events_total",
        "Processes killed for want of memory.",
        Group::Oom,
        Counter,
        |c| memory(c)?.oom_kills,
    ),
    // pressure
    one(
        "container_pressure_cpu_stalled_seconds_total",
        "Time in which all tasks waited for a processor, in seconds.",
        Group::Pressure,
        Counter,
        |c| full(cpu_pressure(c)),
    ),
    one(
        "container_pressure_cpu_waiting_seconds_total",
        "Time in which some task waited for a processor, in seconds.",
        Group::Pressure,
        Counter,
        |c| some(cpu_pressure(c)),
    ),
    one(
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all tasks waited for memory, in seconds.",
        Group::Pressure,
        Counter,
        |c| full(memory(c)?.pressure),
    ),
    one(
        "container_pressure_memory_waiting_seconds_total",
        "Time in which some task waited for memory, in seconds.",
        Group::Pressure,
        Counter,
        |c| some(memory(c)?.pressure),
    ),
    one(
        "container_pressure_io_stalled_seconds_total",
        "Time in which all tasks waited for block devices, in seconds.",
        Group::Pressure,
        Counter,
        |c| full(c.stats.io_pressure),
    ),
    one(
        "container_pressure_io_waiting_seconds_total",
        "Time in which some task waited for block devices, in seconds.",
        Group::Pressure,
        Counter,
        |c| some(c.stats.io_pressure),
    ),
    // process
    one(
        "container_file_descriptors",
        "Open file descriptors of all processes.",
        Group::Process,
        Gauge,
        |c| Some(files(c)?.all),
    ),
    one(
        "container_sockets",
        "Open sockets of all processes.",
        Group::Process,
        Gauge,
        |c| Some(files(c)?.sockets),
    ),
    one(
        "container_processes",
        "Processes in the container.",
        Group::Process,
        Gauge,
        |c| Some(c.processes?.count),
    ),
    one(
        "container_threads",
        "Threads in the container.",
        Group::Process,
        Gauge,
        |c| Some(c.stats.pids?.current),
    ),
    one(
        "container_threads_max",
        "The most threads that there may be; 0: unlimited.",
        Group::Process,
        Gauge,
        |c| Some(c.stats.pids?.limit.unwrap_or(0)),
    ),
    many(
        "container_ulimits_soft",
        "Soft limits of the container's first process; none: unlimited.",
        Group::Process,
        Gauge,
        &["ulimit"],
        ulimits,
    ),
    // spec
    one(
        "container_spec_cpu_period",
        "Period of the cpu quota that was asked for, in microseconds.",
        Group::Spec,
        Gauge,
        |c| asked(c, |r| r.cpu_period),
    ),
    one(
        "container_spec_cpu_shares",
        "Weight of the container's processor time that was asked for.",
        Group::Spec,
        Gauge,
        |c| asked(c, |r| r.cpu_shares),
    ),
    one(
        "container_spec_cpu_quota",
        "The cpu quota that was asked for, in microseconds a period.",
        Group::Spec,
        Gauge,
        |c| asked(c, |r| r.cpu_quota).filter(|quota| *quota > 0),
    ),
    one(
        "container_spec_memory_limit_bytes",
        "The memory limit that was asked for, in bytes; 0: unlimited.",
        Group::Spec,
        Gauge,
        |c| asked(c, |r| r.memory_limit_in_bytes),
    ),
    one(
        "container_spec_memory_reservation_limit_bytes",
        "Memory that is kept for the container, in bytes.",
        Group::Spec,
        Gauge,
        reservation,
    ),
    one(
        "container_spec_memory_swap_limit_bytes",
        "The limit of memory and swap that was asked for, in bytes; 0: unlimited.",
        Group::Spec,
        Gauge,
        |c| asked(c, |r| r.memory_swap_limit_in_bytes),
    ),
    one(
        "container_start_time_seconds",
        "When the container was started, in seconds since 1970.",
        Group::Spec,
        Gauge,
        started,
    ),
];

/// The metrics of a pod's interfaces.
pub(super) static NETWORK: [NetworkMetric; 8] = [
    NetworkMetric {
        name: "container_network_receive_bytes_total",
        help: "Bytes received.",
        read: |interface| interface.received.bytes,
    },
    NetworkMetric {
        name: "container_network_receive_packets_total",
        help: "Packets received.",
        read: |interface| interface.received.packets,
    },
    NetworkMetric {
        name: "container_network_receive_packets_dropped_total",
        help: "Packets dropped while receiving.",
        read: |interface| interface.received.dropped,
    },
    NetworkMetric {
        name: "container_network_receive_errors_total",
        help: "Faulty packets received.",
        read: |interface| interface.received.errors,
    },
    NetworkMetric {
        name: "container_network_transmit_bytes_total",
        help: "Bytes sent.",
        read: |interface| interface.sent.bytes,
    },
    NetworkMetric {
        name: "container_network_transmit_packets_total",
        help: "Packets sent.",
        read: |interface| interface.sent.packets,
    },
    NetworkMetric {
        name: "container_network_transmit_packets_dropped_total",
        help: "Packets dropped while sending.",
        read: |interface| interface.sent.dropped,
    },
    NetworkMetric {
        name: "container_network_transmit_errors_total",
        help: "Errors while sending packets.",
        read: |interface| interface.sent.errors,
    },
];

/// A metric with one value.
const fn one(
    name: &'static str,
    help: &'static str,
    group: Group,
    kind: MetricType,
    read: fn(&ContainerMetrics) -> Option<u64>,
) -> Metric {
    Metric {
        name,
        help,
        group,
        kind,
        labels: &[],
        read: Read::One(read),
    }
}

/// A metric with a value for each of its own labels' values.
const fn many(
    name: &'static str,
    help: &'static str,
    group: Group,
    kind: MetricType,
    labels: &'static [&'static str],
    read: fn(&ContainerMetrics, &mut Put<'_>),
) -> Metric {
    Metric {
        name,
        help,
        group,
        kind,
        labels,
        read: Read::Many(read),
    }
}
