//! `Version`, `Status`, `RuntimeConfig` and `UpdateRuntimeConfig`: what the runtime says of itself.

use std::collections::BTreeMap;

use cricket_proto::cri as wire;
use tonic::Status;

use super::{RuntimeApi, answer};

/// `VersionResponse.version`: the version of the kubelet's own API, a constant.
const KUBELET_API_VERSION: &str = "0.1.0";
/// `VersionResponse.runtime_name`: the prefix of container ids in the Kubernetes API, which must
/// never change.
const RUNTIME_NAME: &str = "cri-o";
/// `VersionResponse.runtime_api_version`.
const CRI_VERSION: &str = "v1";

pub(super) fn version(
    api: &RuntimeApi,
    _request: wire::VersionRequest,
) -> Result<wire::VersionResponse, Status> {
    Ok(wire::VersionResponse {
        version: KUBELET_API_VERSION.to_owned(),
        runtime_name: RUNTIME_NAME.to_owned(),
        runtime_version: api.identity.version.to_owned(),
        runtime_api_version: CRI_VERSION.to_owned(),
    })
}

pub(super) fn status(
    api: &RuntimeApi,
    request: wire::StatusRequest,
) -> Result<wire::StatusResponse, Status> {
    let mut info = BTreeMap::new();
    if request.verbose {
        info.insert("config".to_owned(), api.identity.shown.texts().json.clone());
        let registries = answer::registries(&api.images.registries_state());
        info.insert("registries".to_owned(), registries.to_string());
        let mut in_flight = api.sandboxes.describe_in_flight();
        in_flight["pulls"] = answer::pulls(&api.images.pulls_in_flight());
        info.insert("inFlight".to_owned(), in_flight.to_string());
    }
    let network = match api.networks.readiness() {
        Ok(()) => condition("NetworkReady", "", String::new()),
        Err(not_ready) => condition(
            "NetworkReady",
            "NetworkPluginNotReady",
            not_ready.to_string(),
        ),
    };
    let mut conditions = vec![condition("RuntimeReady", "", String::new()), network];
    // A condition of our own, as containerd has them: a kubelet shows it to whoever asks for the
    // runtime's status and goes by the other two.
    conditions.extend(
        api.identity
            .no_memory
            .as_ref()
            .map(|missing| condition("MemoryCgroupReady", "MemoryCgroupMissing", missing.clone())),
    );
    Ok(wire::StatusResponse {
        status: Some(wire::RuntimeStatus { conditions }),
        info,
        runtime_handlers: api
            .handlers
            .features()
            .into_iter()
            .map(answer::handler)
            .collect(),
        features: Some(wire::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: true,
            mount_options: true,
        }),
    })
}

pub(super) fn runtime_config(
    api: &RuntimeApi,
    _request: wire::RuntimeConfigRequest,
) -> Result<wire::RuntimeConfigResponse, Status> {
    let driver = if api.identity.systemd_cgroup {
        wire::CgroupDriver::Systemd
    } else {
        wire::CgroupDriver::Cgroupfs
    };
    Ok(wire::RuntimeConfigResponse {
        linux: Some(wire::LinuxRuntimeConfiguration {
            cgroup_driver: driver.into(),
        }),
    })
}

/// The pod CIDR is CNI's business; the kubelet's call must succeed.
pub(super) fn update_runtime_config(
    _api: &RuntimeApi,
    _request: wire::UpdateRuntimeConfigRequest,
) -> Result<wire::UpdateRuntimeConfigResponse, Status> {
    Ok(wire::UpdateRuntimeConfigResponse {})
}

fn condition(kind: &str, reason: &str, message: String) -> wire::RuntimeCondition {
    wire::RuntimeCondition {
        r#type: kind.to_owned(),
        status: reason.is_empty(),
        reason: reason.to_owned(),
        message,
    }
}
