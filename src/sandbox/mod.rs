//! The pod's life: namespaces, files, network and cgroup.
