//! The OCI runtime spec of a container as a pure function of its inputs, one file per section.
