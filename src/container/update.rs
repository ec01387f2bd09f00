//! Update: give a container that exists other limits.
//!
//! What a limit of 0 or an empty list leaves alone stays as it was, and the record holds all that
//! is in force, so a status tells it and a restarted daemon knows it. The OCI runtime applies the
//! limits: it knows the cgroup and keeps its own account of them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use oci_spec::runtime::{LinuxResources, Spec};

use super::record::Record;
use super::sources::io_error;
use super::{Container, ContainerError, Containers, Phase};
use crate::spec;
use crate::spec::config::Resources;
use crate::sys::{blocking, fault};

impl Containers {
    /// Gives a created or running container other limits. Zero, empty and absent values leave what
    /// is there; the OOM score and huge pages stay as they are in any case.
    ///
    /// # Errors
    /// When there is no such container, it has ended, a limit cannot be, memory is limited below
    /// what the container uses, or the runtime refuses: the limits are then as before, or, where
    /// the runtime had begun, as far as it came; the next update sets them all.
    pub async fn update_resources(
        self: &Arc<Self>,
        prefix: &str,
        wanted: Resources,
    ) -> Result<(), ContainerError> {
        let container = self.find(prefix)?;
        let this = Arc::clone(self);
        // In a task of its own: a client that goes away must not leave half a change.
        let update = tokio::spawn(async move { this.update_one(&container, &wanted).await });
        update
            .await
            .unwrap_or_else(|_| Err(crate::sys::ShuttingDown.into()))
    }

    async fn update_one(
        &self,
        container: &Arc<Container>,
        wanted: &Resources,
    ) -> Result<(), ContainerError> {
        // The runtime writes its state when it starts, updates and deletes: one after the other.
        let _turn = container.turn.lock().await;
        let record = container.record();
        if let Phase::Making | Phase::Exited(_) = record.phase {
            return Err(ContainerError::NotUpdatable {
                id: record.id.clone(),
            });
        }
        let before = record.config.resources.clone().unwrap_or_default();
        hugepages_stay(&before, wanted)?;
        let after = merged(&before, wanted);
        let unsure = container.unsure_limits.load(Ordering::Relaxed);
        if after == before && !unsure {
            return Ok(());
        }
        let (settings, host) = (&self.settings.spec, &self.settings.host);
        let mut limits = spec::limits(&after, settings, host)?;
        limits.set_hugepage_limits(None);
        if wanted.memory_limit_in_bytes > 0 {
            self.room_for(container, wanted.memory_limit_in_bytes)?;
        }
        container.unsure_limits.store(true, Ordering::Relaxed);
        record.runtime.update(record.id.as_str(), &limits).await?;
        fault::point("update.applied");
        self.rewrite_spec(&record, limits).await?;
        fault::point("update.spec-written");
        self.update(container, |record| record.config.resources = Some(after))?;
        fault::point("update.recorded");
        container.unsure_limits.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a memory limit leaves room for what the container cannot give back. On cgroup v2
    /// the kernel would end its processes otherwise. What it holds of files that nobody reads the
    /// kernel takes back.
    fn room_for(&self, container: &Arc<Container>, limit: i64) -> Result<(), ContainerError> {
        let (record, cgroups) = (container.record(), &self.rooms.cgroups);
        let path = cgroups.container_path(&record.cgroup_parent, record.id.as_str())?;
        let memory = cgroups.usual_stats(&path)?.memory;
        let used = memory.map_or(0, |memory| memory.working_set_bytes);
        if u64::try_from(limit).is_ok_and(|limit| limit < used) {
            return Err(ContainerError::MemoryInUse {
                id: record.id.clone(),
                limit,
                used,
            });
        }
        Ok(())
    }

    /// The bundle's spec says what is in force, for those who ask for it.
    async fn rewrite_spec(
        &self,
        record: &Record,
        limits: LinuxResources,
    ) -> Result<(), ContainerError> {
        let path = self.config_path(record);
        blocking(move || {
            let text = fs::read(&path).map_err(io_error("read", &path))?;
            let mut spec: Spec = serde_json::from_slice(&text)
                .map_err(|error| io_error("read", &path)(error.into()))?;
            set_limits(&mut spec, limits);
            let text = serde_json::to_vec(&spec)
                .map_err(|error| io_error("write", &path)(error.into()))?;
            let new = path.with_extension("json.new");
            fs::write(&new, text).map_err(io_error("write", &new))?;
            fs::rename(&new, &path).map_err(io_error("replace", &path))
        })
        .await
    }
}

/// Limits with those of `wanted` that are not zero or empty in place of the earlier ones.
fn merged(before: &Resources, wanted: &Resources) -> Resources {
    let number = |before: i64, wanted: i64| if wanted == 0 { before } else { wanted };
    let text = |before: &String, wanted: &String| match wanted.is_empty() {
        true => before.clone(),
        false => wanted.clone(),
    };
    let mut unified = before.unified.clone();
    unified.extend(wanted.unified.clone());
    Resources {
        cpu_period: number(before.cpu_period, wanted.cpu_period),
        cpu_quota: number(before.cpu_quota, wanted.cpu_quota),
        cpu_shares: number(before.cpu_shares, wanted.cpu_shares),
        memory_limit_in_bytes: number(before.memory_limit_in_bytes, wanted.memory_limit_in_bytes),
        memory_swap_limit_in_bytes: match (
            wanted.memory_limit_in_bytes,
            wanted.memory_swap_limit_in_bytes,
        ) {
            (0, 0) => before.memory_swap_limit_in_bytes,
            // A new memory limit brings its own sense of swap along: none, unless asked for.
            (_, swap) => swap,
        },
        oom_score_adj: before.oom_score_adj,
        cpuset_cpus: text(&before.cpuset_cpus, &wanted.cpuset_cpus),
        cpuset_mems: text(&before.cpuset_mems, &wanted.cpuset_mems),
        hugepage_limits: before.hugepage_limits.clone(),
        unified,
    }
}

/// The kubelet sends the limits of huge pages that the container was created with; others cannot
/// be given to one that exists.
fn hugepages_stay(before: &Resources, wanted: &Resources) -> Result<(), ContainerError> {
    for limit in &wanted.hugepage_limits {
        let had = before
            .hugepage_limits
            .iter()
            .find(|had| had.page_size == limit.page_size);
        if had.map_or(0, |had| had.limit) != limit.limit {
            return Err(ContainerError::Invalid {
                field: "linux.hugepage_limits".to_owned(),
                problem: format!(
                    "the limit of {} pages of a container cannot be changed; create it anew",
                    limit.page_size
                ),
            });
        }
    }
    Ok(())
}

fn set_limits(spec: &mut Spec, limits: LinuxResources) {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut resources = linux.resources().clone().unwrap_or_default();
    resources.set_cpu(limits.cpu().clone());
    resources.set_memory(*limits.memory());
    resources.set_unified(limits.unified().clone());
    linux.set_resources(Some(resources));
    spec.set_linux(Some(linux));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::config::HugepageLimit;

    fn before() -> Resources {
        Resources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            memory_swap_limit_in_bytes: 96 << 20,
            oom_score_adj: 900,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![HugepageLimit {
                page_size: "2MB".into(),
                limit: 4 << 20,
            }],
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        assert_eq!(merged(&before(), &Resources::default()), before());
        let wanted = Resources {
            cpuset_cpus: "1".into(),
            cpu_quota: -1,
            oom_score_adj: 5,
            unified: [("pids.max".to_owned(), "9".to_owned())].into(),
            ..Default::default()
        };
        let after = merged(&before(), &wanted);
        let expected = Resources {
            cpuset_cpus: "1".into(),
            cpu_quota: -1,
            unified: [("memory.high", "1"), ("pids.max", "9")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..before()
        };
        assert_eq!(after, expected);
    }

    #[test]
    fn a_new_memory_limit_allows_no_swap_unless_it_is_asked_for() {
        for (memory, swap, expected) in [
            (0, 0, 96 << 20),
            (32 << 20, 0, 0),
            (32 << 20, 40 << 20, 40 << 20),
        ] {
            let wanted = Resources {
                memory_limit_in_bytes: memory,
                memory_swap_limit_in_bytes: swap,
                ..Default::default()
            };
            assert_eq!(
                merged(&before(), &wanted).memory_swap_limit_in_bytes,
                expected
            );
        }
    }

    #[test]
    fn huge_pages_may_be_told_again_but_not_changed() {
        let wanted = |size: &str, limit| Resources {
            hugepage_limits: vec![HugepageLimit {
                page_size: size.into(),
                limit,
            }],
            ..Default::default()
        };
        for (size, limit, allowed) in [
            ("2MB", 4 << 20, true),
            ("1GB", 0, true),
            ("2MB", 8 << 20, false),
            ("1GB", 1 << 30, false),
        ] {
            let outcome = hugepages_stay(&before(), &wanted(size, limit));
            assert_eq!(outcome.is_ok(), allowed, "{size} {limit}");
        }
    }
}
