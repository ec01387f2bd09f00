//! The OCI runtime spec of a container as a pure function of its inputs, one file per section.
//!
//! Nothing here reads a file, asks the kernel or knows the time: `config` is what the kubelet
//! wants, `inputs` adds what others found out, and the same inputs give the same configuration.
//! So every rule about what a container may do can be tested by comparing JSON.

pub mod config;
pub mod inputs;
