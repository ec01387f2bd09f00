//! What a pod may ask for: checked before anything is made for it.

use std::collections::BTreeMap;

use nix::unistd::gethostname;

use super::record::PodConfig;
use super::{SandboxError, Settings};
use crate::network::Dns;
use crate::runtime::Handler;
use crate::spec;
use crate::spec::config::NamespaceMode;
use crate::state::Id;

/// The longest host name that the kernel takes (`__NEW_UTS_LEN`).
const MAX_HOSTNAME_BYTES: usize = 64;
/// Longest name, namespace or uid; Kubernetes' own have at most 253 bytes.
const MAX_NAME_BYTES: usize = 4096;

impl PodConfig {
    /// Checks everything that can be checked without making anything.
    pub(super) fn validate(&self) -> Result<(), SandboxError> {
        self.validate_name()?;
        if self.hostname.len() > MAX_HOSTNAME_BYTES || self.hostname.contains(['\0', '\n', '/']) {
            return Err(invalid(
                "config.hostname",
                format!("`{}` is not a host name of at most 64 bytes", self.hostname),
            ));
        }
        if !self.log_directory.is_empty() && !self.log_directory.starts_with('/') {
            return Err(invalid(
                "config.log_directory",
                format!("`{}` is not an absolute path", self.log_directory),
            ));
        }
        if let Some(entry) = self.dns.as_ref().and_then(bad_entry) {
            return Err(invalid(
                "config.dns_config",
                format!("`{entry}` holds a line break"),
            ));
        }
        let security = &self.security;
        if security.run_as_group.is_some() && security.run_as_user.is_none() {
            return Err(invalid(
                "config.linux.security_context.run_as_group",
                "is set without run_as_user".to_owned(),
            ));
        }
        Ok(spec::check_sandbox(security, &self.sysctls)?)
    }

    /// Checks that the handler can do what the pod needs of it.
    pub(super) fn fits(&self, handler: &Handler) -> Result<(), SandboxError> {
        let namespaces = &self.security.namespaces;
        let features = handler.features;
        let needs = match (namespaces.mappings(), namespaces.network) {
            (None, _) => return Ok(()),
            _ if !features.user_namespaces => {
                "it needs Linux 5.19 and an OCI runtime with idmapped mounts (runc 1.2 and later)"
            }
            (_, NamespaceMode::Node) if !features.recursive_read_only => {
                "on the network of the node it needs an OCI runtime with recursive read-only mounts"
            }
            _ => return Ok(()),
        };
        Err(SandboxError::NoUserNamespaces {
            handler: handler.program.handler.clone(),
            needs,
        })
    }

    /// A name becomes part of paths, and of CNI_ARGS, where `;` ends a value.
    fn validate_name(&self) -> Result<(), SandboxError> {
        let name = &self.name;
        for (field, text) in [
            ("config.metadata.name", &name.name),
            ("config.metadata.namespace", &name.namespace),
            ("config.metadata.uid", &name.uid),
        ] {
            if text.is_empty()
                || text.len() > MAX_NAME_BYTES
                || text.contains(['/', '\0', '\n', ';'])
            {
                return Err(invalid(
                    field,
                    format!(
                        "`{}` is not a name: it is empty, too long, or holds `/`, `;`, NUL or a line break",
                        text.escape_debug()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The pod's host name: as asked for, else the node's in a pod on its network, else the
    /// beginning of the id.
    pub(super) fn hostname_of(&self, id: &Id) -> String {
        if !self.hostname.is_empty() {
            return self.hostname.clone();
        }
        let node = || gethostname().ok()?.into_string().ok();
        match self.security.namespaces.network {
            NamespaceMode::Node => node().unwrap_or_else(|| id.short().to_owned()),
            _ => id.short().to_owned(),
        }
    }

    /// The kernel parameters to set: the node's defaults that apply to this pod, then its own.
    pub(super) fn sysctls_of(&self, settings: &Settings) -> Vec<(String, String)> {
        let applies = |(name, value): &(&String, &String)| {
            let alone = BTreeMap::from([((*name).clone(), (*value).clone())]);
            spec::check_sysctls(&alone, &self.security.namespaces).is_ok()
        };
        let defaults = settings.default_sysctls.iter().filter(applies);
        let all: BTreeMap<_, _> = defaults.chain(&self.sysctls).collect();
        all.into_iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// An entry that would break out of its line in resolv.conf, if there is one.
fn bad_entry(dns: &Dns) -> Option<&str> {
    let entries = dns.servers.iter().chain(&dns.searches).chain(&dns.options);
    entries
        .map(String::as_str)
        .find(|entry| entry.contains(['\n', '\r', '\0']))
}

fn invalid(field: &'static str, problem: String) -> SandboxError {
    SandboxError::Invalid { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::PodName;

    fn config() -> PodConfig {
        PodConfig {
            name: PodName {
                namespace: "default".into(),
                name: "web".into(),
                uid: "u".into(),
                attempt: 0,
            },
            ..PodConfig::default()
        }
    }

    fn problem(change: impl FnOnce(&mut PodConfig)) -> String {
        let mut config = config();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_pod_with_nothing_but_a_name_is_fine() {
        config().validate().unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_name_of_the_field() {
        for (message, field) in [
            (problem(|config| config.name.uid.clear()), "metadata.uid"),
            (
                problem(|config| config.name.name = "a/b".into()),
                "metadata.name",
            ),
            (
                problem(|config| config.name.namespace = "a\0".into()),
                "metadata.namespace",
            ),
            (
                problem(|config| config.hostname = "h".repeat(65)),
                "hostname",
            ),
            (
                problem(|config| config.log_directory = "relative".into()),
                "log_directory",
            ),
            (
                problem(|config| {
                    let servers = vec!["1.1.1.1\noptions x".to_owned()];
                    config.dns = Some(Dns {
                        servers,
                        ..Dns::default()
                    });
                }),
                "dns_config",
            ),
            (
                problem(|config| config.security.namespaces.network = NamespaceMode::Container),
                "network",
            ),
            (
                problem(|config| config.security.namespaces.pid = NamespaceMode::Target),
                "pid",
            ),
            (
                problem(|config| config.security.run_as_group = Some(1)),
                "run_as_group",
            ),
            (
                problem(|config| drop(config.sysctls.insert("kernel.panic".into(), "1".into()))),
                "kernel.panic",
            ),
        ] {
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn defaults_of_the_node_apply_where_they_can_and_the_pods_own_win() {
        let default_sysctls = BTreeMap::from([
            ("net.ipv4.ip_forward".to_owned(), "1".to_owned()),
            ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
        ]);
        let settings = Settings {
            namespaces_dir: "/run".into(),
            pause: "/pause".into(),
            host: Default::default(),
            events: false,
            host_ports_by_cni: false,
            pause_cpuset: String::new(),
            default_sysctls,
            selinux: None,
            host_network_without_selinux: true,
            stats_max_age: Default::default(),
        };
        let mut pod = config();
        pod.security.namespaces.network = NamespaceMode::Node;
        pod.sysctls
            .insert("kernel.shm_rmid_forced".into(), "0".into());
        let set = pod.sysctls_of(&settings);
        assert_eq!(set, [("kernel.shm_rmid_forced".to_owned(), "0".to_owned())]);
    }

    #[test]
    fn a_pod_without_a_host_name_gets_one() {
        let id = Id::random();
        assert_eq!(config().hostname_of(&id), id.short());
        let mut on_host = config();
        on_host.security.namespaces.network = NamespaceMode::Node;
        assert_eq!(
            on_host.hostname_of(&id),
            gethostname().unwrap().into_string().unwrap()
        );
    }
}
