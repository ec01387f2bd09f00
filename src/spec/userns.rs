//! User namespaces of pods: which requests there can be, and what they mean for the other sections.
//!
//! The CRI wants exactly one range of user ids and one of group ids, with id 0 of the container in
//! both (api.proto, UserNamespace). The pod owns the namespace; its containers only repeat it.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

use super::config::{IdMapping, Mappings, NamespaceMode, NamespaceOptions, UserNamespace};
use super::error::SpecError;

/// Whether the option of a pod or a container can be.
pub(super) fn check_userns(options: &NamespaceOptions) -> Result<(), SpecError> {
    let Some(userns) = &options.userns else {
        return Ok(());
    };
    let error = |problem| {
        Err(SpecError::Namespace {
            namespace: "userns_options",
            mode: userns.mode,
            problem,
        })
    };
    match userns.mode {
        NamespaceMode::Node if userns.uids.is_empty() && userns.gids.is_empty() => Ok(()),
        NamespaceMode::Node => error("takes no mappings"),
        NamespaceMode::Container | NamespaceMode::Target => {
            error("is not possible, it is the pod's or the node's")
        }
        NamespaceMode::Pod => {
            check_ranges(userns)?;
            // The kernel lets nobody mount proc or mqueue of a namespace that he does not own.
            match options {
                options if options.pid == NamespaceMode::Node => {
                    error("is not possible with the PID namespace of the node")
                }
                options if options.ipc == NamespaceMode::Node => {
                    error("is not possible with the IPC namespace of the node")
                }
                _ => Ok(()),
            }
        }
    }
}

fn check_ranges(userns: &UserNamespace) -> Result<(), SpecError> {
    for (name, ranges) in [("uids", &userns.uids), ("gids", &userns.gids)] {
        let error = |problem: &str| {
            let field = format!("namespace_options.userns_options.{name}");
            Err(SpecError::invalid(field, problem))
        };
        let [range] = ranges.as_slice() else {
            return error(&format!(
                "{} mappings, exactly one is possible",
                ranges.len()
            ));
        };
        let last = |first: u32| first.checked_add(range.length);
        match *range {
            IdMapping { length: 0, .. } => return error("the mapping has no ids: length is 0"),
            IdMapping {
                container_id: 1.., ..
            } => {
                return error("id 0 of the container is not mapped: container_id must be 0");
            }
            // The kernel keeps the last number for "no id".
            _ if last(range.host_id).is_none() => {
                return error("the mapping goes beyond the largest id");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a container asks for the user namespace that its pod has. One that asks for nothing has
/// the pod's.
pub(super) fn check_same(
    pod: &NamespaceOptions,
    container: Option<&NamespaceOptions>,
) -> Result<(), SpecError> {
    let Some(container) = container else {
        return Ok(());
    };
    check_userns(container)?;
    if container.mappings() == pod.mappings() {
        return Ok(());
    }
    let problem = "the container's must be the pod's: the same mode with the same mappings";
    Err(SpecError::invalid(
        "namespace_options.userns_options",
        problem,
    ))
}

/// `linux.uidMappings` and `linux.gidMappings`: runc before 1.2 wants them beside the path.
pub(super) fn sections(pod: &NamespaceOptions) -> Option<[Vec<LinuxIdMapping>; 2]> {
    let Mappings { uids, gids } = pod.mappings()?;
    Some([uids, gids].map(|range| vec![oci(range)]))
}

/// A range in the runtime's words.
pub(super) fn oci(range: IdMapping) -> LinuxIdMapping {
    let mapping = LinuxIdMappingBuilder::default()
        .container_id(range.container_id)
        .host_id(range.host_id)
        .size(range.length)
        .build();
    // Cannot fail: every field is set.
    mapping.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: IdMapping = IdMapping {
        host_id: 100_000,
        container_id: 0,
        length: 65_536,
    };

    fn options(mode: NamespaceMode, uids: &[IdMapping], gids: &[IdMapping]) -> NamespaceOptions {
        NamespaceOptions {
            userns: Some(UserNamespace {
                mode,
                uids: uids.to_vec(),
                gids: gids.to_vec(),
            }),
            ..NamespaceOptions::default()
        }
    }

    #[test]
    fn a_user_namespace_has_one_range_each_that_begins_at_zero() {
        use NamespaceMode::{Container, Node, Pod, Target};
        let one = IdMapping {
            container_id: 1,
            ..RANGE
        };
        let none = IdMapping { length: 0, ..RANGE };
        let far = IdMapping {
            host_id: u32::MAX,
            ..RANGE
        };
        for (options, want) in [
            (options(Pod, &[RANGE], &[RANGE]), None),
            (options(Node, &[], &[]), None),
            (options(Node, &[RANGE], &[]), Some("takes no mappings")),
            (
                options(Container, &[], &[]),
                Some("it is the pod's or the node's"),
            ),
            (
                options(Target, &[], &[]),
                Some("it is the pod's or the node's"),
            ),
            (options(Pod, &[], &[RANGE]), Some("uids: 0 mappings")),
            (options(Pod, &[RANGE], &[]), Some("gids: 0 mappings")),
            (
                options(Pod, &[RANGE, RANGE], &[RANGE]),
                Some("uids: 2 mappings"),
            ),
            (
                options(Pod, &[one], &[RANGE]),
                Some("id 0 of the container"),
            ),
            (options(Pod, &[RANGE], &[none]), Some("length is 0")),
            (options(Pod, &[far], &[RANGE]), Some("largest id")),
        ] {
            let got = check_userns(&options).map_err(|error| error.to_string());
            match (&got, want) {
                (Ok(()), None) => {}
                (Err(text), Some(want)) if text.contains(want) => {}
                _ => panic!("{options:?}: {got:?}, not {want:?}"),
            }
        }
        for change in [
            |it: &mut NamespaceOptions| it.pid = Node,
            |it: &mut NamespaceOptions| it.ipc = Node,
        ] {
            let mut options = options(Pod, &[RANGE], &[RANGE]);
            change(&mut options);
            assert!(check_userns(&options).is_err());
        }
    }

    #[test]
    fn a_container_has_its_pods_user_namespace_or_is_refused() {
        use NamespaceMode::{Node, Pod};
        let (none, node) = (NamespaceOptions::default(), options(Node, &[], &[]));
        let own = options(Pod, &[RANGE], &[RANGE]);
        let other = IdMapping {
            host_id: 300_000,
            ..RANGE
        };
        let other = options(Pod, &[other], &[RANGE]);
        for (pod, container, same) in [
            (&none, &node, true),
            (&node, &none, true),
            (&own, &own, true),
            (&own, &none, false),
            (&none, &own, false),
            (&own, &other, false),
        ] {
            assert_eq!(check_same(pod, Some(container)).is_ok(), same);
            assert!(check_same(pod, None).is_ok());
        }
    }
}
