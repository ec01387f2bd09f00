//! Control groups: where a pod, a container and a monitor live, and what they use.
