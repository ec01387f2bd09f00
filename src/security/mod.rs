//! Seccomp, AppArmor, SELinux, capabilities and users: what a process in a container may do and be.
//!
//! Each file turns names and documents (some of them hostile) into numbers, labels and rules.
//! Putting them on a process is runc's part; choosing which apply to a container is `spec`'s.

pub mod apparmor;
pub mod capabilities;
pub mod seccomp;
pub mod selinux;
pub mod users;
