//! A Debian virtual machine with cricket in it: systemd, cgroup v2, AppArmor, reboots, power cuts.
//!
//! The outside is [`Machine`]: QEMU without KVM on throw-away disks, and a [`Channel`] to the agent
//! inside that runs programs there. The inside is `node-guest`. `image/build.sh` makes what boots.

pub mod channel;
pub mod error;
pub mod image;
pub mod machine;
pub mod wire;
pub mod write_log;

pub use channel::Channel;
pub use error::NodeError;
pub use image::{Guest, Images, Workshop};
pub use machine::Machine;
