//! The identities that a kubelet retries with.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A pod's sandbox in Kubernetes' words: there are never two of one name at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodName {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// Pod uid.
    pub uid: String,
    /// Which sandbox of this pod it is, counted by the kubelet.
    pub attempt: u32,
}

/// CRI-O's name of a sandbox, which logs and tools know.
impl fmt::Display for PodName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            name,
            uid,
            attempt,
        } = self;
        write!(formatter, "k8s_{name}_{namespace}_{uid}_{attempt}")
    }
}

/// A container in Kubernetes' words: there are never two of one name at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerName {
    /// The container's name in its pod.
    pub name: String,
    /// Which container of that name it is, counted by the kubelet.
    pub attempt: u32,
    /// The pod.
    pub pod: PodName,
}

/// CRI-O's name of a container, which logs and tools know.
impl fmt::Display for ContainerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            attempt,
            pod:
                PodName {
                    name: pod,
                    namespace,
                    uid,
                    ..
                },
        } = self;
        write!(formatter, "k8s_{name}_{pod}_{namespace}_{uid}_{attempt}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_cri_o_writes_them() {
        let pod = PodName {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u1".into(),
            attempt: 2,
        };
        assert_eq!(pod.to_string(), "k8s_web_default_u1_2");
        let container = ContainerName {
            name: "nginx".into(),
            attempt: 3,
            pod,
        };
        assert_eq!(container.to_string(), "k8s_nginx_web_default_u1_3");
    }
}
