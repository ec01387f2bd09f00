//! What the network needs to know of a pod, and how that is told to CNI plugins: `CNI_ARGS` and
//! the capability arguments. The keys are those that CRI-O and containerd use.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{bandwidth::Bandwidth, config::is_valid_name, error::NetworkError};

/// One pod sandbox, as far as its network goes.
#[derive(Debug, Clone, Default)]
pub struct Pod {
    /// The sandbox id: `CNI_CONTAINERID`.
    pub sandbox_id: String,
    /// The pod's Kubernetes namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// Where the pod's network namespace is pinned. Empty when it is known to be gone.
    pub netns: PathBuf,
    /// Whether an ADD may have been made for it that no DEL has undone. A detach without cached
    /// attachment then runs DEL with the present configuration; otherwise it has nothing to do.
    pub attempted: bool,
    /// Host ports to forward (capability `portMappings`).
    pub port_mappings: Vec<PortMapping>,
    /// The pod's resolver configuration (capability `dns`).
    pub dns: Option<Dns>,
    /// Traffic limits (capability `bandwidth`).
    pub bandwidth: Bandwidth,
    /// The pod's cgroup (capability `cgroupPath`).
    pub cgroup_parent: Option<String>,
    /// The pod's annotations (capability `io.kubernetes.cri.pod-annotations`).
    pub annotations: BTreeMap<String, String>,
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Port on the host. Mappings with 0 are not passed on, as CRI says.
    pub host_port: u16,
    /// Port in the pod.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Address on the host; `None` is all of them.
    pub host_ip: Option<IpAddr>,
}

/// Transport of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The name as plugins expect it: lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// The pod's resolver configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl Pod {
    /// The id becomes a part of file names and an environment variable, so it must be one by
    /// the specification's rule.
    pub(super) fn check_id(&self) -> Result<(), NetworkError> {
        if is_valid_name(&self.sandbox_id) {
            return Ok(());
        }
        Err(NetworkError::Unpassable {
            sandbox_id: self.sandbox_id.clone(),
            field: "id",
            value: self.sandbox_id.clone(),
            rule: "letters, digits, '_', '.' and '-', beginning with a letter or digit",
        })
    }

    /// The pairs of `CNI_ARGS`, in the order CRI-O writes them.
    pub(super) fn cni_args(&self) -> Result<Vec<(String, String)>, NetworkError> {
        let args = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", &self.namespace),
            ("K8S_POD_NAME", &self.name),
            ("K8S_POD_INFRA_CONTAINER_ID", &self.sandbox_id),
            ("K8S_POD_UID", &self.uid),
        ];
        for (field, value) in args {
            // The pairs are joined by `;` and the whole travels in an environment variable.
            if value.contains([';', '\0']) {
                return Err(NetworkError::Unpassable {
                    sandbox_id: self.sandbox_id.clone(),
                    field,
                    value: value.to_owned(),
                    rule: "it must not contain ';' or a zero byte",
                });
            }
        }
        Ok(args
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect())
    }

    /// Everything that plugins may ask for by a capability. Absent is better than empty: a
    /// plugin then does what its own configuration says.
    pub(super) fn capability_args(&self) -> Map<String, Value> {
        let mut args = Map::new();
        let ports: Vec<Value> = self
            .port_mappings
            .iter()
            .filter_map(PortMapping::to_json)
            .collect();
        if !ports.is_empty() {
            args.insert("portMappings".into(), ports.into());
        }
        if let Some(bandwidth) = self.bandwidth.to_json() {
            args.insert("bandwidth".into(), bandwidth);
        }
        if let Some(dns) = &self.dns {
            args.insert(
                "dns".into(),
                json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}),
            );
        }
        if !self.annotations.is_empty() {
            args.insert(
                "io.kubernetes.cri.pod-annotations".into(),
                json!(self.annotations),
            );
        }
        if let Some(parent) = self.cgroup_parent.as_deref().filter(|p| !p.is_empty()) {
            args.insert("cgroupPath".into(), parent.into());
        }
        args
    }
}

impl PortMapping {
    fn to_json(&self) -> Option<Value> {
        if self.host_port == 0 {
            return None;
        }
        let mut mapping = json!({
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol.as_str(),
        });
        // portmap takes a missing hostIP as "all addresses"; 0.0.0.0 would exclude IPv6.
        if let Some(ip) = self.host_ip.filter(|ip| !ip.is_unspecified()) {
            mapping["hostIP"] = ip.to_string().into();
        }
        Some(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        Pod {
            sandbox_id: "ab12".into(),
            namespace: "default".into(),
            name: "web".into(),
            uid: "u-1".into(),
            ..Pod::default()
        }
    }

    #[test]
    fn cni_args_name_the_pod_as_kubernetes_plugins_expect() {
        let args = pod().cni_args().unwrap();
        let joined: Vec<String> = args.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            joined.join(";"),
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;\
             K8S_POD_INFRA_CONTAINER_ID=ab12;K8S_POD_UID=u-1"
        );
    }

    #[test]
    fn a_name_that_would_smuggle_in_another_argument_is_refused() {
        for name in ["a;K8S_POD_NAMESPACE=kube-system", "a\0b"] {
            let error = Pod {
                name: name.into(),
                ..pod()
            }
            .cni_args()
            .unwrap_err()
            .to_string();
            assert!(error.contains("K8S_POD_NAME"), "{error}");
        }
    }

    #[test]
    fn capability_args_hold_what_the_pod_has_and_nothing_else() {
        assert!(pod().capability_args().is_empty());
        let port = |host_port, protocol, host_ip: &str| PortMapping {
            host_port,
            container_port: 80,
            protocol,
            host_ip: host_ip.parse().ok(),
        };
        let full = Pod {
            port_mappings: vec![
                port(8080, Protocol::Tcp, ""),
                port(0, Protocol::Tcp, ""),
                port(53, Protocol::Udp, "127.0.0.1"),
                port(54, Protocol::Sctp, "0.0.0.0"),
            ],
            dns: Some(Dns {
                servers: vec!["10.0.0.1".into()],
                ..Dns::default()
            }),
            bandwidth: Bandwidth {
                ingress: Some(1_000_000),
                egress: None,
            },
            cgroup_parent: Some("/kubepods/pod1".into()),
            annotations: BTreeMap::from([("a".into(), "b".into())]),
            ..pod()
        };
        assert_eq!(
            Value::Object(full.capability_args()),
            json!({
                "portMappings": [
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                    {"hostPort": 53, "containerPort": 80, "protocol": "udp", "hostIP": "127.0.0.1"},
                    {"hostPort": 54, "containerPort": 80, "protocol": "sctp"},
                ],
                "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 34_359_738_359_u64},
                "dns": {"servers": ["10.0.0.1"], "searches": [], "options": []},
                "io.kubernetes.cri.pod-annotations": {"a": "b"},
                "cgroupPath": "/kubepods/pod1",
            })
        );
    }
}
