//! The `linux.devices` section and the device rules of the cgroup.
//!
//! The OCI runtime itself makes /dev/null, zero, full, random, urandom, tty, ptmx (and console
//! for a terminal) and allows them. What stands here comes on top.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::config::{ContainerConfig, Device};
use super::error::SpecError;
use super::inputs::{DeviceKind, DeviceNode, Inputs};
use super::paths;

/// Device nodes and the rules of the device cgroup.
pub(super) struct Devices {
    pub(super) nodes: Vec<LinuxDevice>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
}

/// Everything about the request's devices that can be wrong by their text.
pub fn check_devices(config: &ContainerConfig) -> Result<(), SpecError> {
    config
        .devices
        .iter()
        .enumerate()
        .try_for_each(|(index, device)| check(index, device))
}

fn check(index: usize, device: &Device) -> Result<(), SpecError> {
    let field = |name: &str| format!("devices[{index}].{name}");
    if !device.host_path.starts_with('/') {
        let problem = format!("`{}` is not absolute", device.host_path);
        return Err(SpecError::invalid(field("host_path"), problem));
    }
    paths::check(&field("host_path"), &device.host_path)?;
    paths::clean(&field("container_path"), &device.container_path)?;
    if device
        .permissions
        .chars()
        .any(|letter| !"rwm".contains(letter))
    {
        let problem = format!("`{}` has letters other than r, w and m", device.permissions);
        return Err(SpecError::invalid(field("permissions"), problem));
    }
    Ok(())
}

pub(super) fn devices(inputs: &Inputs) -> Result<Devices, SpecError> {
    let config = inputs.config;
    check_devices(config)?;
    if config.devices.len() != inputs.devices.len() {
        let problem = format!(
            "{} found for {}",
            inputs.devices.len(),
            config.devices.len()
        );
        return Err(SpecError::invalid("devices", problem));
    }
    let mut devices = match all_of_the_host(inputs) {
        true => Devices {
            nodes: inputs
                .host_devices
                .iter()
                .map(|node| self::node(node, inputs))
                .collect(),
            rules: vec![rule(true, None, "rwm")],
        },
        false => Devices {
            nodes: Vec::new(),
            rules: vec![rule(false, None, "rwm")],
        },
    };
    let asked_for = |path: &Path| {
        inputs
            .devices
            .iter()
            .flatten()
            .any(|node| node.path == path)
    };
    for (node, access) in inputs.node_devices {
        // the kubelet's word on a path counts more than the node's
        if asked_for(&node.path) {
            continue;
        }
        // a privileged container has the host's own already
        if devices.nodes.iter().all(|known| *known.path() != node.path) {
            devices.nodes.push(self::node(node, inputs));
        }
        devices.rules.push(rule(true, Some(node), access));
    }
    for (index, (wanted, nodes)) in config.devices.iter().zip(inputs.devices).enumerate() {
        hides_none_of_the_host(index, wanted, inputs)?;
        let access = if wanted.permissions.is_empty() {
            "rwm"
        } else {
            &wanted.permissions
        };
        for node in nodes {
            devices.put(self::node(node, inputs));
            devices.rules.push(rule(true, Some(node), access));
        }
    }
    Ok(devices)
}

impl Devices {
    /// Of nodes with one path the last counts, as in CRI-O: a privileged container may be asked to
    /// have a device that it has as one of the host's, which is what a device plugin does.
    fn put(&mut self, node: LinuxDevice) {
        match self
            .nodes
            .iter_mut()
            .find(|known| known.path() == node.path())
        {
            Some(known) => *known = node,
            None => self.nodes.push(node),
        }
    }
}

/// A container that has all of the host's devices sees them by the host's paths. Another device at
/// one of these paths would hide the host's from it, which CRI-O refuses too.
fn hides_none_of_the_host(index: usize, wanted: &Device, inputs: &Inputs) -> Result<(), SpecError> {
    let place = Path::new(&wanted.container_path);
    let taken = |node: &DeviceNode| node.path.starts_with(place);
    let hides = all_of_the_host(inputs)
        && place != Path::new(&wanted.host_path)
        && inputs.host_devices.iter().any(taken);
    if hides {
        let problem = format!(
            "`{}` is a path of the host's own devices, which a privileged container has; \
             {} needs another one",
            wanted.container_path, wanted.host_path
        );
        let field = format!("devices[{index}].container_path");
        return Err(SpecError::invalid(field, problem));
    }
    Ok(())
}

/// A privileged container has the host's nodes and may use every device, unless the handler
/// leaves both out.
fn all_of_the_host(inputs: &Inputs) -> bool {
    inputs.config.security.privileged && !inputs.settings.privileged_without_host_devices
}

/// Owned as on the host, or by the container's user where the configuration says so
/// (kubernetes/enhancements: non-root containers and devices).
fn node(node: &DeviceNode, inputs: &Inputs) -> LinuxDevice {
    let security = &inputs.config.security;
    let to_user = inputs.settings.device_ownership_from_security_context && !security.privileged;
    let owner = |asked: bool, own: u32, host: u32| if to_user && asked { own } else { host };
    let (has_user, has_group) = (inputs.user.uid != 0, security.run_as_group.is_some());
    let mut device = LinuxDevice::default();
    device.set_path(node.path.clone());
    device.set_typ(kind(node.kind));
    device.set_major(node.major.into());
    device.set_minor(node.minor.into());
    device.set_file_mode(Some(node.mode & 0o7777));
    device.set_uid(Some(owner(has_user, inputs.user.uid, node.uid)));
    device.set_gid(Some(owner(has_group, inputs.user.gid, node.gid)));
    device
}

fn kind(kind: DeviceKind) -> LinuxDeviceType {
    match kind {
        DeviceKind::Char => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }
}

/// A rule for one node, or for all.
pub(super) fn rule(allow: bool, node: Option<&DeviceNode>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow);
    rule.set_typ(node.map(|node| kind(node.kind)));
    rule.set_major(node.map(|node| node.major.into()));
    rule.set_minor(node.map(|node| node.minor.into()));
    rule.set_access(Some(access.to_owned()));
    rule
}
