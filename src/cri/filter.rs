//! What a list is asked for. All parts of a filter must match; an absent filter matches all.

use std::collections::BTreeMap;

use cricket_proto::cri as wire;
use tonic::Status;

use super::answer;
use super::code::invalid;
use crate::container;
use crate::sandbox;

/// Refuses a filter with a state that is none: matching the state of number 0 instead, or nothing,
/// would be a wrong answer.
pub(super) fn check_pods(filter: Option<&wire::PodSandboxFilter>) -> Result<(), Status> {
    match filter.and_then(|filter| filter.state) {
        Some(wanted) if wire::PodSandboxState::try_from(wanted.state).is_err() => {
            Err(no_state(wanted.state))
        }
        _ => Ok(()),
    }
}

/// As [`check_pods`].
pub(super) fn check_containers(filter: Option<&wire::ContainerFilter>) -> Result<(), Status> {
    match filter.and_then(|filter| filter.state) {
        Some(wanted) if wire::ContainerState::try_from(wanted.state).is_err() => {
            Err(no_state(wanted.state))
        }
        _ => Ok(()),
    }
}

fn no_state(number: i32) -> Status {
    invalid("filter.state.state", &format!("{number} is not a state"))
}

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
    fn a_state_that_is_none_is_refused_and_named() {
        for (state, pod, container) in [
            (-1, false, false),
            (0, true, true),
            (1, true, true),
            (2, false, true),
            (3, false, true),
            (4, false, false),
            (i32::MAX, false, false),
        ] {
            let pods = check_pods(Some(&wire::PodSandboxFilter {
                state: Some(wire::PodSandboxStateValue { state }),
                ..Default::default()
            }));
            let containers = check_containers(Some(&wire::ContainerFilter {
                state: Some(wire::ContainerStateValue { state }),
                ..Default::default()
            }));
            for (checked, good) in [(pods, pod), (containers, container)] {
                let error = checked.err();
                assert_eq!(error.is_none(), good, "{state} {error:?}");
                if let Some(error) = error {
                    assert_eq!(error.code(), tonic::Code::InvalidArgument);
                    assert!(error.message().starts_with("filter.state.state: "));
                }
            }
        }
        assert!(check_pods(None).is_ok() && check_containers(None).is_ok());
    }

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
