//! The Container Device Interface: device specifications that vendors leave on the node.
//!
//! A device is asked for by its name (`vendor.com/class=name`) and stands for edits of a
//! container's OCI configuration. This room reads the specifications, finds the names in them and
//! looks up the device nodes on the host; `spec` applies the edits. Rules: the CDI specification,
//! versions 0.1.0 to 1.1.0.
//!
//! Specifications are read when a container asks for a device, and files that have not changed
//! since are not read again, so nothing watches the directories and nothing is ever stale.

mod document;
mod error;
mod name;
mod nodes;
mod registry;

pub use error::CdiError;
pub use name::{DeviceName, requested};
pub use registry::Registry;

use oci_spec::runtime::{Hook, LinuxDevice, LinuxIntelRdt};

use crate::hooks::HookStep;

/// What the asked-for devices change in a container's configuration, in the order to apply it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// `KEY=value`; a later one of the same key wins.
    pub env: Vec<String>,
    /// Device nodes, with type and numbers as found on the host, and what the container may do
    /// with each (letters of `rwm`).
    pub nodes: Vec<(LinuxDevice, String)>,
    /// Mounts; one takes the place of an earlier one at the same path.
    pub mounts: Vec<Mount>,
    /// Hooks, by the step of the container's life that they run at.
    pub hooks: Vec<(HookStep, Hook)>,
    /// Further groups of the process.
    pub additional_gids: Vec<u32>,
    /// Class of the resctrl file system.
    pub intel_rdt: Option<LinuxIntelRdt>,
}

/// A mount of an edit, in the words of the OCI runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub source: String,
    /// In the container, absolute.
    pub destination: String,
    /// The file system; `bind` where the specification says none.
    pub kind: String,
    /// Options.
    pub options: Vec<String>,
}

#[cfg(test)]
mod tests;
