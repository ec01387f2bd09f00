//! The `linux.namespaces` section.
//!
//! User, network, IPC and UTS follow the pod: its pinned namespaces are joined, or the host's are kept
//! where the pod has none. PID is the container's own choice. The mount namespace is always new.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use super::config::{NamespaceMode, NamespaceOptions, Security};
use super::error::SpecError;
use super::inputs::{Host, Pod};
use super::userns::check_userns;

pub(super) fn namespaces(
    security: &Security,
    pod: &Pod,
    host: &Host,
) -> Result<Vec<LinuxNamespace>, SpecError> {
    let mut list = vec![namespace(LinuxNamespaceType::Mount, None)];
    list.extend(shared(pod));
    list.extend(pid(security, pod)?);
    // below v1 it would hide the cgroup mounts' layout; a privileged container sees the host's
    if host.cgroup_v2 && !security.privileged {
        list.push(namespace(LinuxNamespaceType::Cgroup, None));
    }
    Ok(list)
}

/// Those that every process of the pod shares.
pub(super) fn shared(pod: &Pod) -> impl Iterator<Item = LinuxNamespace> {
    [
        (LinuxNamespaceType::User, &pod.userns),
        (LinuxNamespaceType::Network, &pod.netns),
        (LinuxNamespaceType::Ipc, &pod.ipcns),
        (LinuxNamespaceType::Uts, &pod.utsns),
    ]
    .into_iter()
    .filter_map(|(kind, path)| path.as_deref().map(|path| namespace(kind, Some(path))))
}

pub(super) fn namespace(kind: LinuxNamespaceType, path: Option<&Path>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace.set_path(path.map(Path::to_owned));
    namespace
}

/// The PID namespace: a container that says nothing follows its pod.
fn pid(security: &Security, pod: &Pod) -> Result<Option<LinuxNamespace>, SpecError> {
    let mode = security
        .namespaces
        .as_ref()
        .map_or(pod.namespaces.pid, |options| options.pid);
    let error = |problem| SpecError::Namespace {
        namespace: "pid",
        mode,
        problem,
    };
    let path = match mode {
        NamespaceMode::Node => return Ok(None),
        NamespaceMode::Container => None,
        NamespaceMode::Pod => Some(
            pod.pidns
                .as_deref()
                .ok_or(error("asked for, the pod does not share one"))?,
        ),
        NamespaceMode::Target => {
            let target = pod.target_pidns.as_deref();
            Some(target.ok_or(error(
                "asked for, target_id is no running container of the pod",
            ))?)
        }
    };
    Ok(Some(namespace(LinuxNamespaceType::Pid, path)))
}

/// Modes that mean nothing for their namespace, and user namespaces that cannot be.
pub fn check_namespaces(options: &NamespaceOptions) -> Result<(), SpecError> {
    for (namespace, mode) in [("network", options.network), ("ipc", options.ipc)] {
        if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
            let problem = "is not possible, it is the pod's or the node's";
            return Err(SpecError::Namespace {
                namespace,
                mode,
                problem,
            });
        }
    }
    if options.pid == NamespaceMode::Target && options.target_id.is_empty() {
        let problem = "needs target_id";
        return Err(SpecError::Namespace {
            namespace: "pid",
            mode: options.pid,
            problem,
        });
    }
    check_userns(options)
}
