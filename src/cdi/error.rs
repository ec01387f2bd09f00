//! What can be wrong with CDI devices.

use std::io;
use std::path::PathBuf;

/// Why a container cannot have the devices it asks for.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// A text that is no device name.
    #[error(
        "{field}: `{name}` is not a CDI device name such as vendor.com/class=device: {problem}"
    )]
    Name {
        /// The CRI field or annotation.
        field: String,
        /// As sent, cut to a length that can be shown.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More devices than a container can mean.
    #[error("CDI_devices: {count} devices, at most {max} are possible")]
    TooMany {
        /// How many.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// No specification has the device.
    #[error(
        "CDI_devices: unresolvable device {name}: no specification in {} has it{}",
        show(dirs),
        hint(broken)
    )]
    Unresolvable {
        /// The device.
        name: String,
        /// Where was looked.
        dirs: Vec<PathBuf>,
        /// Files that could not be used, with the reasons: the device may be in one of them.
        broken: Vec<String>,
    },
    /// Two specifications of the same rank have the device.
    #[error(
        "CDI_devices: unresolvable device {name}: both {} and {} define it; remove one",
        first.display(), second.display()
    )]
    Conflict {
        /// The device.
        name: String,
        /// A file.
        first: PathBuf,
        /// Another one in the same directory.
        second: PathBuf,
    },
    /// The device needs something that this version does not do.
    #[error("CDI_devices: device {name} of {}: {field} is not supported by this version", file.display())]
    Unsupported {
        /// The device.
        name: String,
        /// Its specification.
        file: PathBuf,
        /// The field of the specification.
        field: &'static str,
    },
    /// A device node of the specification is not on the host, or not what it should be.
    #[error("CDI_devices: device {name} of {}: device node {}: {source}", file.display(), node.display())]
    Node {
        /// The device.
        name: String,
        /// Its specification.
        file: PathBuf,
        /// The node on the host.
        node: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn show(dirs: &[PathBuf]) -> String {
    match dirs {
        [] => "(cdi_spec_dirs is empty)".to_owned(),
        dirs => {
            let shown: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            shown.join(" and ")
        }
    }
}

/// Enough to find the mistake, in a message that ends up in an event.
fn hint(broken: &[String]) -> String {
    match broken {
        [] => String::new(),
        [first, rest @ ..] => {
            let more = match rest.len() {
                0 => String::new(),
                count => format!(", and {count} more"),
            };
            format!(" (skipped: {first}{more})")
        }
    }
}
