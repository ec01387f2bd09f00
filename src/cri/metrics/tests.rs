//! Every metric has a description, and its labels fit.

use std::collections::HashSet;

use super::*;
use crate::cgroup::{CpuStats, IoStats, MemoryStats, Pressure, Stats, Throttling};
use crate::container::{Disk, Files, Record};

/// What critest of Kubernetes asks for, and tolerates the absence of some.
const ASKED_FOR: &str = "blkio_device_usage_total cpu_cfs_periods_total \
    cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total cpu_system_seconds_total \
    cpu_usage_seconds_total cpu_user_seconds_total file_descriptors fs_inodes_free fs_inodes_total \
    fs_limit_bytes fs_reads_bytes_total fs_reads_total fs_usage_bytes fs_writes_bytes_total \
    fs_writes_total hugetlb_max_usage_bytes hugetlb_usage_bytes last_seen memory_cache \
    memory_failcnt memory_failures_total memory_kernel_usage memory_mapped_file \
    memory_max_usage_bytes memory_rss memory_swap memory_usage_bytes memory_working_set_bytes \
    network_receive_bytes_total network_receive_errors_total network_receive_packets_dropped_total \
    network_receive_packets_total network_transmit_bytes_total network_transmit_errors_total \
    network_transmit_packets_dropped_total network_transmit_packets_total oom_events_total \
    pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total \
    pressure_io_stalled_seconds_total pressure_io_waiting_seconds_total \
    pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total processes sockets \
    spec_cpu_period spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes \
    spec_memory_reservation_limit_bytes spec_memory_swap_limit_bytes start_time_seconds threads \
    threads_max ulimits_soft";

fn groups(names: &[&str]) -> MetricGroups {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    MetricGroups::new(&names)
}

fn record() -> Record {
    serde_json::from_value(serde_json::json!({
        "version": 1, "id": "a".repeat(64), "pod": "b".repeat(64),
        "name": {
            "name": "main", "attempt": 0,
            "pod": { "namespace": "ns", "name": "web", "uid": "u", "attempt": 0 },
        },
        "runtime": { "handler": "runc", "path": "/runc", "root": "/r", "systemd_cgroup": false },
        "config": { "resources": {
            "cpu_period": 100_000, "cpu_quota": 50_000, "cpu_shares": 512,
            "memory_limit_in_bytes": i64::MAX, "memory_swap_limit_in_bytes": -1,
        } },
        "image": {}, "created_at_ns": 1, "phase": { "running": { "started_at_ns": 7_000_000_000_i64 } },
        "init": null, "cgroup_parent": "/p", "log_path": null, "stop_signal": 15,
        "own_pid_namespace": true, "runs_as": { "uid": 0, "gid": 0, "groups": [] },
    }))
    .unwrap()
}

fn everything() -> ContainerMetrics {
    let mut all = ContainerMetrics {
        record: Arc::new(record()),
        at_ns: 9_000_000_000,
        stats: Stats {
            cpu: Some(CpuStats {
                usage_ns: 3_999_999_999,
                user_ns: Some(1),
                system_ns: Some(1),
                throttling: Some(Throttling::default()),
                pressure: Some(Pressure::default()),
            }),
            memory: Some(MemoryStats {
                kernel_bytes: Some(1),
                peak_bytes: Some(1),
                limit_hits: Some(1),
                oom_kills: Some(2),
                swap: Some(Default::default()),
                pressure: Some(Pressure::default()),
                ..MemoryStats::default()
            }),
            pids: Some(Default::default()),
            io: Some(vec![IoStats::default(); 2]),
            hugetlb: vec![Default::default()],
            io_pressure: Some(Pressure::default()),
        },
        processes: Some(Default::default()),
        disk: Some(Disk {
            used_bytes: 1,
            limit_bytes: 2,
            inodes: 3,
            inodes_free: 4,
        }),
    };
    all.stats.hugetlb[0].peak_bytes = Some(1);
    if let Some(processes) = &mut all.processes {
        processes.files = Some(Files::default());
        processes.files_limit = Some(1024);
    }
    all
}

#[test]
fn all_that_is_asked_for_is_described_once_and_with_words() {
    let all = describe(groups(&["all"]));
    let names: HashSet<_> = all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "no name twice");
    let wanted: HashSet<_> = ASKED_FOR
        .split_whitespace()
        .map(|name| format!("container_{name}"))
        .collect();
    assert_eq!(names, wanted.iter().map(String::as_str).collect());
    for one in &all {
        assert!(!one.help.is_empty() && one.label_keys.starts_with(&LABELS.map(str::to_owned)));
    }
}

#[test]
fn only_the_groups_that_are_named_are_told() {
    let names = |groups| {
        let all = describe(groups).into_iter();
        all.map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names(groups(&[])), ["container_last_seen"]);
    assert_eq!(
        names(groups(&["oom"])),
        ["container_last_seen", "container_oom_events_total"]
    );
    assert_eq!(names(groups(&["network"])).len(), 1 + NETWORK.len());
    let each = GROUPS.map(|(name, _)| name);
    assert_eq!(groups(&each), groups(&["all"]));
}

#[test]
fn every_value_has_a_label_for_each_key_and_every_metric_of_a_container_a_value() {
    let descriptors = describe(groups(&["all"]));
    let told = of_container(&everything(), groups(&["all"])).metrics;
    for metric in &told {
        let keys = descriptors.iter().find(|one| one.name == metric.name);
        assert_eq!(
            metric.label_values.len(),
            keys.unwrap().label_keys.len(),
            "{metric:?}"
        );
        assert_eq!(metric.label_values[2..5], ["ns", "web", "main"]);
    }
    let names: HashSet<_> = told.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), METRICS.len());
    let value = |name: &str| {
        let found = told
            .iter()
            .find(|one| one.name == format!("container_{name}"));
        found.unwrap().value.unwrap().value
    };
    assert_eq!(value("cpu_usage_seconds_total"), 3, "cut, not rounded");
    assert_eq!(value("oom_events_total"), 2);
    assert_eq!((value("last_seen"), value("start_time_seconds")), (9, 7));
    assert_eq!(value("spec_memory_limit_bytes"), 0, "unlimited");
    assert_eq!(value("spec_memory_swap_limit_bytes"), 0, "unlimited");
    assert_eq!(value("spec_cpu_quota"), 50_000);
}

#[test]
fn what_the_kernel_does_not_count_is_left_out() {
    let mut bare = everything();
    bare.stats = Stats::default();
    (bare.processes, bare.disk) = (None, None);
    let told = of_container(&bare, groups(&["all"])).metrics;
    assert!(
        told.iter()
            .all(|one| one.name.starts_with("container_spec_")
                || one.name == "container_last_seen"
                || one.name == "container_start_time_seconds"),
        "{told:?}"
    );
}

#[test]
fn counters_of_interfaces_are_told_of_the_pod() {
    let mut interface = Interface {
        name: "eth0".into(),
        received: Default::default(),
        sent: Default::default(),
    };
    (interface.received.bytes, interface.sent.bytes) = (5, 6);
    let values: Vec<_> = NETWORK.iter().map(|one| (one.read)(&interface)).collect();
    assert_eq!(values, [5, 0, 0, 0, 6, 0, 0, 0]);
}
