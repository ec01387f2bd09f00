//! Seccomp profiles, capabilities and users: what a process in a container may do and be.
