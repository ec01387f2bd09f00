//! Which boot of the machine this is.

use std::{fs, io};

/// Where the kernel says it: another random UUID with each boot (random(4)).
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of this boot.
///
/// # Errors
/// When /proc cannot be read.
pub fn id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}
