//! What a list is asked for. All parts of a filter must match; an absent filter matches all.

use std::collections::BTreeMap;

use cricket_proto::cri as wire;

use super::answer;
use crate::container;
use crate::sandbox;

/// Whether a pod is one of those that the filter wants; ids by prefix.
pub(super) fn pod(record: &sandbox::Record, filter: Option<&wire::PodSandboxFilter>) -> bool {
    let Some(filter) = filter else { return true };
    let state = answer::pod_state(record.phase);
    record.id.as_str().starts_with(&filter.id)
        && filter
            .state
            .as_ref()
            .is_none_or(|wanted| wanted.state() == state)
        && labels(&record.config.labels, &filter.label_selector)
}

/// Whether a container is one of those that the filter wants; ids by prefix.
pub(super) fn container(
    record: &container::Record,
    filter: Option<&wire::ContainerFilter>,
) -> bool {
    let Some(filter) = filter else { return true };
    let state = answer::container_state(&record.phase);
    record.id.as_str().starts_with(&filter.id)
        && record.pod.as_str().starts_with(&filter.pod_sandbox_id)
        && filter
            .state
            .as_ref()
            .is_none_or(|wanted| wanted.state() == state)
        && labels(&record.config.labels, &filter.label_selector)
}

/// Whether a container is one of those whose statistics are wanted.
pub(super) fn stats(
    record: &container::Record,
    filter: Option<&wire::ContainerStatsFilter>,
) -> bool {
    let Some(filter) = filter else { return true };
    record.id.as_str().starts_with(&filter.id)
        && record.pod.as_str().starts_with(&filter.pod_sandbox_id)
        && labels(&record.config.labels, &filter.label_selector)
}

/// Whether a pod is one of those whose statistics are wanted.
pub(super) fn pod_stats(
    record: &sandbox::Record,
    filter: Option<&wire::PodSandboxStatsFilter>,
) -> bool {
    let Some(filter) = filter else { return true };
    record.id.as_str().starts_with(&filter.id)
        && labels(&record.config.labels, &filter.label_selector)
}

fn labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_wanted_labels_must_match_exactly() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let own: BTreeMap<String, String> = map(&[("app", "web"), ("tier", "")]);
        for (wanted, matches) in [
            (map(&[]), true),
            (map(&[("app", "web")]), true),
            (map(&[("app", "web"), ("tier", "")]), true),
            (map(&[("app", "we")]), false),
            (map(&[("app", "web"), ("zone", "a")]), false),
            (map(&[("tier", "x")]), false),
        ] {
            assert_eq!(labels(&own, &wanted), matches, "{wanted:?}");
        }
    }
}
