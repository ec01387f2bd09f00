//! Seccomp profiles.

/// A parsed profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {}
