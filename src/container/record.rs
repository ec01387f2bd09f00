//! What is known of a container, in memory and in its record on disk (version 1).
//!
//! The record is written before the first side effect and at each change of phase; fields that
//! this version does not know are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::runtime::Program;
use crate::spec::config::ContainerConfig;
use crate::spec::inputs::Image;
use crate::state::{ContainerName, Id, Versioned};

/// Where in its life a container is, with what is known there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Being made: listed by nobody; after a restart it is undone.
    Making,
    /// Its init waits for start.
    Created,
    /// It runs.
    Running {
        /// Since when, nanoseconds since 1970.
        started_at_ns: i64,
    },
    /// It has ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Nanoseconds since 1970; 0 when it was never started.
    pub started_at_ns: i64,
    /// Nanoseconds since 1970.
    pub finished_at_ns: i64,
    /// The exit code; 128 + signal when a signal ended it.
    pub exit_code: i32,
    /// Why, in one word that the kubelet knows (`runtime.v1.ContainerStatus.reason`).
    pub reason: Reason,
    /// Why, for people; usually empty.
    pub message: String,
}

/// Why a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// With exit code 0.
    Completed,
    /// With another exit code.
    Error,
    /// The kernel killed one of its processes for want of memory.
    OOMKilled,
    /// Its process could not be started.
    StartError,
    /// Its monitor was killed, and so how it ended is not known.
    MonitorLost,
}

impl Reason {
    /// The word as the kubelet knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OOMKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::MonitorLost => "MonitorLost",
        }
    }
}

/// A container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Init {
    /// Its pid, in the daemon's PID namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot: tells it from a later process of that pid.
    pub start_time: u64,
}

/// Who a container runs as, for its status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsAs {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
}

/// An image that is mounted into the container as a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVolume {
    /// Which of the configuration's mounts it is.
    pub mount: usize,
    /// The image's id: it cannot be removed meanwhile.
    pub image_id: String,
    /// `name@sha256:…` when the image has one, else its id.
    pub reference: String,
}

/// A container as it is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The version of this layout.
    pub version: u32,
    /// The container's id.
    pub id: Id,
    /// The pod that it runs in.
    pub pod: Id,
    /// Its name in Kubernetes.
    pub name: ContainerName,
    /// The OCI runtime that it was made by, and has to be ended by.
    pub runtime: Program,
    /// What was asked for.
    pub config: ContainerConfig,
    /// The image that it was made from.
    pub image: Image,
    /// Other images that it has as volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_volumes: Vec<ImageVolume>,
    /// When it was made, nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Where in its life it is.
    pub phase: Phase,
    /// Its first process, from `Created` on.
    pub init: Option<Init>,
    /// The pod's cgroup, which the names of its own are made from.
    pub cgroup_parent: String,
    /// Where its monitor was to go (`monitor_cgroup`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub monitor_cgroup: String,
    /// Its log; `None`: output is discarded.
    pub log_path: Option<PathBuf>,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// Whether its processes are all killed with its first one: it has a PID namespace of its own.
    pub own_pid_namespace: bool,
    /// Who it runs as.
    pub runs_as: RunsAs,
    /// Whether it may be frozen for a checkpoint, and has to be thawed after a crash.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// The archive that a checkpoint is being written to: what is beside it goes after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// Whether it was never made to the end and could not be undone: listed so that it is removed,
    /// and in nobody's way, for its name may have been given again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub half_made: bool,
    /// What a later version wrote.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

impl Record {
    /// How the container ended, if it has.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.phase {
            Phase::Exited(exit) => Some(exit),
            Phase::Making | Phase::Created | Phase::Running { .. } => None,
        }
    }
}

impl Versioned for Record {
    const KIND: &'static str = "container";
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(phase: Phase) -> Record {
        Record {
            version: Record::VERSION,
            id: Id::random(),
            pod: Id::random(),
            name: ContainerName::default(),
            runtime: Program {
                handler: "runc".into(),
                path: "/usr/bin/runc".into(),
                root: "/run/runc".into(),
                systemd_cgroup: false,
                call_timeout: std::time::Duration::from_secs(60),
            },
            config: ContainerConfig::default(),
            image: Image::default(),
            image_volumes: vec![ImageVolume {
                mount: 0,
                image_id: "i".into(),
                reference: "r".into(),
            }],
            created_at_ns: 1,
            phase,
            init: Some(Init {
                pid: 7,
                start_time: 9,
            }),
            cgroup_parent: "/pods".into(),
            monitor_cgroup: "pod".into(),
            log_path: None,
            stop_signal: 15,
            own_pid_namespace: true,
            runs_as: RunsAs::default(),
            frozen: false,
            checkpoint: None,
            half_made: false,
            unknown: BTreeMap::new(),
        }
    }

    #[test]
    fn a_record_survives_being_read_changed_and_written_again_and_again() {
        let exit = Exit {
            started_at_ns: 2,
            finished_at_ns: 3,
            exit_code: 4,
            reason: Reason::Error,
            message: String::new(),
        };
        let phases = [
            Phase::Created,
            Phase::Running { started_at_ns: 2 },
            Phase::Exited(exit),
            Phase::Making,
        ];
        let mut text = serde_json::to_string(&record(Phase::Making)).unwrap();
        for phase in phases {
            let mut read: Record = serde_json::from_str(&text).unwrap();
            assert_eq!(read.unknown, BTreeMap::new());
            read.phase = phase.clone();
            text = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap().phase, phase);
        }
    }

    #[test]
    fn what_a_later_version_wrote_is_kept() {
        let mut value = serde_json::to_value(record(Phase::Created)).unwrap();
        value["mood"] = serde_json::json!({ "good": true });
        let read: Record = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
    }
}
