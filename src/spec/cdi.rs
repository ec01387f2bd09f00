//! What CDI devices change: applied last, over everything that was asked for elsewhere.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Mount, Spec};

use super::{hooks, paths};
use crate::cdi::Edits;

/// Applies the edits of all devices of a container (CDI specification, "OCI Edits").
pub(super) fn apply(spec: &mut Spec, edits: &Edits) {
    if *edits == Edits::default() {
        return;
    }
    process(spec, edits);
    nodes(spec, edits);
    mounts(spec, edits);
    hooks::add(spec, &edits.hooks);
    if let (Some(linux), Some(rdt)) = (spec.linux_mut(), &edits.intel_rdt) {
        linux.set_intel_rdt(Some(rdt.clone()));
    }
}

fn process(spec: &mut Spec, edits: &Edits) {
    let Some(process) = spec.process_mut() else {
        return;
    };
    let mut env = process.env().clone().unwrap_or_default();
    let key = |entry: &str| entry.split_once('=').map_or(0, |(key, _)| key.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, entry) in env.iter().enumerate() {
        places.insert(entry[..key(entry)].to_owned(), place);
    }
    for entry in &edits.env {
        match places.get(&entry[..key(entry)]) {
            Some(place) => env[*place].clone_from(entry),
            None => {
                places.insert(entry[..key(entry)].to_owned(), env.len());
                env.push(entry.clone());
            }
        }
    }
    process.set_env(Some(env));
    let mut user = process.user().clone();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for gid in &edits.additional_gids {
        // 0 would be root's group: the reference implementation leaves it out too
        if *gid != 0 && !groups.contains(gid) {
            groups.push(*gid);
        }
    }
    user.set_additional_gids(Some(groups));
    process.set_user(user);
}

/// Nodes that nobody owns by their specification are the container's user's.
fn nodes(spec: &mut Spec, edits: &Edits) {
    let user = spec
        .process()
        .as_ref()
        .map(|process| process.user().clone());
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let mut devices = linux.devices().clone().unwrap_or_default();
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    for (node, access) in &edits.nodes {
        let mut node = node.clone();
        if let Some(user) = &user {
            node.set_uid(node.uid().or(Some(user.uid()).filter(|uid| *uid > 0)));
            node.set_gid(node.gid().or(Some(user.gid()).filter(|gid| *gid > 0)));
        }
        if matches!(node.typ(), LinuxDeviceType::B | LinuxDeviceType::C) {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(true);
            rule.set_typ(Some(node.typ()));
            rule.set_major(Some(node.major()));
            rule.set_minor(Some(node.minor()));
            rule.set_access(Some(access.clone()));
            rules.push(rule);
        }
        devices.retain(|known| known.path() != node.path());
        devices.push(node);
    }
    resources.set_devices(Some(rules).filter(|rules| !rules.is_empty()));
    linux.set_resources(Some(resources));
    linux.set_devices(Some(devices).filter(|devices| !devices.is_empty()));
}

fn mounts(spec: &mut Spec, edits: &Edits) {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for edit in &edits.mounts {
        let mut mount = Mount::default();
        mount.set_destination(edit.destination.clone().into());
        mount.set_source(Some(edit.source.clone().into()));
        mount.set_typ(Some(edit.kind.clone()));
        mount.set_options(Some(edit.options.clone()));
        mounts.retain(|known| known.destination() != mount.destination());
        mounts.push(mount);
    }
    mounts.sort_by_key(|mount| paths::depth(&mount.destination().to_string_lossy()));
    spec.set_mounts(Some(mounts));
}
