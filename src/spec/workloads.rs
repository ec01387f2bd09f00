//! Workloads (`[crio.runtime.workloads.NAME]`): pods that carry an annotation, and how much of the
//! processors their containers get.
//!
//! A pod's author may say so for each container, by the annotation `PREFIX/CONTAINER` whose value
//! is a JSON object such as `{"cpushares": 20}`: CRI-O's format. What is not said there has the
//! workload's default.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::config::Resources;
use super::error::SpecError;
use super::resources::{PERIODS_US, QUOTAS_US, SHARES, list};

/// The name that annotations have for a pod's pause process.
pub const PAUSE: &str = "POD";

/// Longest value of an annotation that is read; ours have some twenty bytes.
const MAX_VALUE_BYTES: usize = 4096;
/// The period that a limit in thousandths is reckoned with when none is given: the kernel's.
const USUAL_PERIOD_US: u64 = 100_000;

/// One workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its name in the configuration.
    pub name: String,
    /// The annotation that puts a pod into it, whatever its value.
    pub activation_annotation: String,
    /// What annotations about a container begin with.
    pub annotation_prefix: String,
    /// What its pods may use beside that which their handler allows.
    pub allowed_annotations: Vec<String>,
    /// What a container gets.
    pub resources: Cpu,
}

/// How much of the processors; zero and empty leave it as the kubelet says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Relative weight.
    pub cpushares: u64,
    /// Microseconds of a period.
    pub cpuquota: i64,
    /// Length of a period, microseconds.
    pub cpuperiod: u64,
    /// Processors, in list format.
    pub cpuset: String,
    /// Thousandths of a processor; wins over `cpuquota`.
    pub cpulimit: i64,
}

/// Annotations of a pod: its own, and below them its handler's.
type Annotations<'a> = [&'a BTreeMap<String, String>];

/// The workload that a pod with these annotations is in: the first that it activates.
pub fn workload<'a>(workloads: &'a [Workload], of_pod: &Annotations) -> Option<&'a Workload> {
    workloads.iter().find(|one| {
        let key = &one.activation_annotation;
        of_pod.iter().any(|map| map.contains_key(key))
    })
}

impl Workload {
    /// What a container (or [`PAUSE`]) of a pod with these annotations gets.
    ///
    /// # Errors
    /// When its annotation is not understood, or asks for what the kernel does not have.
    pub fn cpu(&self, of_pod: &Annotations, container: &str) -> Result<Cpu, SpecError> {
        let key = format!("{}/{container}", self.annotation_prefix);
        let Some(text) = of_pod.iter().find_map(|map| map.get(&key)) else {
            return self
                .resources
                .clone()
                .complete("crio.runtime.workloads", &self.name);
        };
        let problem = |problem: String| SpecError::invalid(format!("annotation {key}"), problem);
        if text.len() > MAX_VALUE_BYTES {
            return Err(problem(format!("it has more than {MAX_VALUE_BYTES} bytes")));
        }
        let own: Option<Cpu> = serde_json::from_str(text).map_err(|error| {
            problem(format!(
                "{error}; it has to be an object such as {{\"cpushares\": 20, \"cpuset\": \"0-1\"}}"
            ))
        })?;
        match own {
            Some(own) => own.over(&self.resources).complete("annotation", &key),
            // `null`: as the kubelet says
            None => Ok(Cpu::default()),
        }
    }
}

impl Cpu {
    /// These, and where they say nothing, the others.
    fn over(self, others: &Cpu) -> Cpu {
        let others = others.clone();
        Cpu {
            cpushares: if self.cpushares == 0 {
                others.cpushares
            } else {
                self.cpushares
            },
            cpuperiod: if self.cpuperiod == 0 {
                others.cpuperiod
            } else {
                self.cpuperiod
            },
            cpuset: if self.cpuset.is_empty() {
                others.cpuset
            } else {
                self.cpuset
            },
            // the two say the same thing: whose is said here counts
            cpuquota: match (self.cpuquota, self.cpulimit) {
                (0, 0) => others.cpuquota,
                (quota, _) => quota,
            },
            cpulimit: match (self.cpuquota, self.cpulimit) {
                (0, 0) => others.cpulimit,
                (_, limit) => limit,
            },
        }
    }

    /// With the quota that the limit means, checked. `kind` and `name` say whose they are.
    fn complete(mut self, kind: &str, name: &str) -> Result<Cpu, SpecError> {
        let invalid = |key: &str, problem: String| {
            Err(SpecError::invalid(format!("{kind} {name}: {key}"), problem))
        };
        let range = |range: &std::ops::RangeInclusive<u64>| {
            format!("is not between {} and {}", range.start(), range.end())
        };
        if self.cpushares != 0 && !SHARES.contains(&self.cpushares) {
            return invalid(
                "cpushares",
                format!("{} {}", self.cpushares, range(&SHARES)),
            );
        }
        if self.cpuperiod != 0 && !PERIODS_US.contains(&self.cpuperiod) {
            return invalid(
                "cpuperiod",
                format!("{} {}", self.cpuperiod, range(&PERIODS_US)),
            );
        }
        if self.cpulimit != 0 {
            let period = if self.cpuperiod == 0 {
                USUAL_PERIOD_US
            } else {
                self.cpuperiod
            };
            let quota = u64::try_from(self.cpulimit)
                .ok()
                .and_then(|limit| limit.checked_mul(period))
                .map(|time| (time / 1000).max(*QUOTAS_US.start()))
                .and_then(|quota| i64::try_from(quota).ok());
            let Some(quota) = quota else {
                return invalid("cpulimit", format!("{} is not possible", self.cpulimit));
            };
            self.cpuquota = quota;
        }
        let of_kernel =
            |quota: i64| u64::try_from(quota).is_ok_and(|quota| QUOTAS_US.contains(&quota));
        if self.cpuquota != 0 && self.cpuquota != -1 && !of_kernel(self.cpuquota) {
            return invalid(
                "cpuquota",
                format!("{} {}", self.cpuquota, range(&QUOTAS_US)),
            );
        }
        if list("cpuset_cpus", &self.cpuset).is_err() {
            return invalid(
                "cpuset",
                format!("{:?} is not a list such as 0-3,7", self.cpuset),
            );
        }
        Ok(self)
    }

    /// Puts them in the place of what the kubelet asked for.
    pub fn apply(self, resources: &mut Resources) {
        // shares and periods are checked to be small
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        if self.cpushares != 0 {
            resources.cpu_shares = number(self.cpushares);
        }
        if self.cpuquota != 0 {
            resources.cpu_quota = self.cpuquota;
        }
        if self.cpuperiod != 0 {
            resources.cpu_period = number(self.cpuperiod);
        }
        if !self.cpuset.is_empty() {
            resources.cpuset_cpus = self.cpuset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::map;
    use super::*;

    fn management() -> Workload {
        Workload {
            name: "management".into(),
            activation_annotation: "target.workload.example.com/management".into(),
            annotation_prefix: "resources.workload.example.com".into(),
            resources: Cpu {
                cpushares: 10,
                cpuset: "0-1".into(),
                ..Cpu::default()
            },
            ..Workload::default()
        }
    }

    fn of(text: Option<&str>) -> Result<Resources, String> {
        let mut annotations = map(&[("target.workload.example.com/management", "{}")]);
        let key = "resources.workload.example.com/main";
        annotations.extend(text.map(|text| (key.to_owned(), text.to_owned())));
        let workloads = [management()];
        let workload = workload(&workloads, &[&annotations]).unwrap();
        let mut resources = Resources {
            cpu_shares: 2,
            cpu_quota: 7000,
            memory_limit_in_bytes: 1 << 30,
            ..Resources::default()
        };
        let cpu = workload
            .cpu(&[&annotations], "main")
            .map_err(|error| error.to_string())?;
        cpu.apply(&mut resources);
        assert_eq!(resources.memory_limit_in_bytes, 1 << 30);
        Ok(resources)
    }

    #[test]
    fn a_pod_is_in_a_workload_by_its_annotation_alone() {
        let workloads = [management()];
        assert_eq!(workload(&workloads, &[&map(&[("other", "")])]), None);
        let annotations = map(&[("target.workload.example.com/management", "")]);
        let (own, of_handler) = (map(&[]), annotations);
        let found = workload(&workloads, &[&own, &of_handler]);
        assert_eq!(found, Some(&workloads[0]));
    }

    #[test]
    fn a_container_says_what_it_wants_and_has_the_default_for_the_rest() {
        for (text, shares, quota, period, cpus) in [
            (None, 10, 7000, 0, "0-1"),
            (Some("{}"), 10, 7000, 0, "0-1"),
            (Some("null"), 2, 7000, 0, ""),
            (Some(r#"{"cpushares": 20}"#), 20, 7000, 0, "0-1"),
            (Some(r#"{"cpuset": "3", "more": 1}"#), 10, 7000, 0, "3"),
            (
                Some(r#"{"cpuquota": -1, "cpuperiod": 50000}"#),
                10,
                -1,
                50_000,
                "0-1",
            ),
            (Some(r#"{"cpulimit": 500}"#), 10, 50_000, 0, "0-1"),
            (
                Some(r#"{"cpulimit": 500, "cpuquota": 1, "cpuperiod": 10000}"#),
                10,
                5000,
                10_000,
                "0-1",
            ),
            // the kernel's least
            (Some(r#"{"cpulimit": 1}"#), 10, 1000, 0, "0-1"),
        ] {
            let got = of(text).unwrap();
            assert_eq!(
                (
                    got.cpu_shares,
                    got.cpu_quota,
                    got.cpu_period,
                    got.cpuset_cpus.as_str()
                ),
                (shares, quota, period, cpus),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_annotations_name() {
        let long = format!("{{\"cpuset\": \"{}\"}}", "0,".repeat(4096));
        for (text, want) in [
            ("20", "it has to be an object"),
            ("{", "EOF"),
            (r#"{"cpushares": -1}"#, "invalid value"),
            (r#"{"cpushares": "20"}"#, "invalid type"),
            (
                r#"{"cpushares": 300000}"#,
                "cpushares: 300000 is not between",
            ),
            (r#"{"cpuperiod": 10}"#, "cpuperiod: 10 is not between"),
            (r#"{"cpuquota": 10}"#, "cpuquota: 10 is not between"),
            (r#"{"cpuquota": -2}"#, "cpuquota: -2 is not between"),
            (r#"{"cpulimit": -5}"#, "cpulimit: -5 is not possible"),
            (
                r#"{"cpulimit": 9223372036854775807}"#,
                "cpulimit: 9223372036854775807 is not possible",
            ),
            (r#"{"cpuset": "0;1"}"#, "is not a list such as 0-3,7"),
            (long.as_str(), "more than 4096 bytes"),
        ] {
            let error = of(Some(text)).unwrap_err();
            assert!(
                error.starts_with("annotation resources.workload.example.com/main")
                    && error.contains(want),
                "{error}"
            );
        }
    }

    #[test]
    fn a_limit_of_the_default_gives_the_quota_too() {
        let mut workload = management();
        workload.resources.cpulimit = 250;
        assert_eq!(workload.cpu(&[], "main").unwrap().cpuquota, 25_000);
        workload.resources.cpulimit = -1;
        let error = workload.cpu(&[], "main").unwrap_err().to_string();
        assert_eq!(
            error,
            "crio.runtime.workloads management: cpulimit: -1 is not possible"
        );
    }
}
