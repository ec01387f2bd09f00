//! Device nodes of an edit, looked up on the host.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::document::Node;

/// The node as the OCI runtime makes it. What the specification leaves open (type, numbers, mode)
/// is that of the node on the host; what it says in full is not looked up, since the node may not
/// be there yet.
pub(super) fn complete(node: &Node) -> io::Result<LinuxDevice> {
    let (kind, numbers, mode) = match (node.kind, node.numbers) {
        (Some(LinuxDeviceType::P), _) => (LinuxDeviceType::P, (0, 0), node.mode),
        (Some(kind), Some(numbers)) => (kind, numbers, node.mode),
        (wanted, numbers) => {
            let found = find(Path::new(&node.host_path))?;
            if wanted.is_some_and(|wanted| wanted != found.0) {
                let problem = format!("is not of the type {wanted:?} that the specification says");
                return Err(io::Error::other(problem.to_lowercase()));
            }
            (
                found.0,
                numbers.unwrap_or(found.1),
                Some(node.mode.unwrap_or(found.2)),
            )
        }
    };
    let mut device = LinuxDevice::default();
    device.set_path(node.path.clone().into());
    device.set_typ(kind);
    device.set_major(numbers.0);
    device.set_minor(numbers.1);
    device.set_file_mode(mode.map(|mode| mode & 0o7777));
    device.set_uid(node.uid);
    device.set_gid(node.gid);
    Ok(device)
}

fn find(path: &Path) -> io::Result<(LinuxDeviceType, (i64, i64), u32)> {
    let facts = std::fs::metadata(path)?;
    let kind = match facts.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        kind if kind.is_fifo() => LinuxDeviceType::P,
        _ => return Err(io::Error::other("is not a device")),
    };
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let numbers = (number(major(facts.rdev())), number(minor(facts.rdev())));
    Ok((kind, numbers, facts.mode() & 0o7777))
}
