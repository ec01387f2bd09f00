//! Sysctls of a pod: those of its own network and IPC namespaces, and no others.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::config::{NamespaceMode, NamespaceOptions};
use super::error::SpecError;

/// Sysctls of the IPC namespace (ipc_namespaces(7)), as exact names or, with a dot or letters
/// left open, as beginnings.
const IPC: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

/// The `linux.sysctl` section.
pub(super) fn sysctls(
    wanted: &BTreeMap<String, String>,
    namespaces: &NamespaceOptions,
) -> Result<Option<HashMap<String, String>>, SpecError> {
    check_sysctls(wanted, namespaces)?;
    let dotted = wanted.iter().map(|(key, value)| (dots(key), value.clone()));
    Ok((!wanted.is_empty()).then(|| dotted.collect()))
}

/// Whether each is one of the pod's own namespaces.
pub fn check_sysctls(
    wanted: &BTreeMap<String, String>,
    namespaces: &NamespaceOptions,
) -> Result<(), SpecError> {
    for (key, value) in wanted {
        let error = |problem| {
            Err(SpecError::Sysctl {
                key: key.clone(),
                problem,
            })
        };
        let dotted = dots(key);
        let ipc = IPC.iter().any(|known| dotted.starts_with(known));
        let network = dotted.starts_with("net.");
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !proc_text(key).split('/').all(plain) || key.contains('\0') || value.contains('\0') {
            return error("is not a name of a sysctl");
        }
        if !ipc && !network {
            return error("does not belong to a namespace of the pod");
        }
        if ipc && namespaces.ipc == NamespaceMode::Node {
            return error("is not allowed, the pod uses the IPC namespace of the node");
        }
        if network && namespaces.network == NamespaceMode::Node {
            return error("is not allowed, the pod uses the network of the node");
        }
    }
    Ok(())
}

/// The file of a checked sysctl, for whoever sets it inside the pod's namespaces.
pub fn sysctl_file(key: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/{}", proc_text(key)))
}

/// With dots between the parts; the first separator says how the key is written (sysctl(8)).
fn dots(key: &str) -> String {
    match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'/') => swap(key),
        _ => key.to_owned(),
    }
}

/// With slashes between the parts.
fn proc_text(key: &str) -> String {
    swap(&dots(key))
}

fn swap(key: &str) -> String {
    let other = |letter| match letter {
        '.' => '/',
        '/' => '.',
        letter => letter,
    };
    key.chars().map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, network: NamespaceMode, ipc: NamespaceMode) -> Result<(), String> {
        let namespaces = NamespaceOptions {
            network,
            ipc,
            ..NamespaceOptions::default()
        };
        let wanted = BTreeMap::from([(key.to_owned(), "1".to_owned())]);
        check_sysctls(&wanted, &namespaces).map_err(|error| error.to_string())
    }

    #[test]
    fn only_sysctls_of_the_pods_own_namespaces_are_taken() {
        use NamespaceMode::{Node, Pod};
        for (key, network, ipc, want) in [
            ("kernel.shm_rmid_forced", Pod, Pod, Ok(())),
            ("kernel.sem", Pod, Pod, Ok(())),
            ("fs.mqueue.msg_max", Node, Pod, Ok(())),
            ("net.core.somaxconn", Pod, Node, Ok(())),
            ("net/ipv4/conf/eth0.1/forwarding", Pod, Pod, Ok(())),
            (
                "net.core.somaxconn",
                Node,
                Pod,
                Err("uses the network of the node"),
            ),
            (
                "kernel.msgmax",
                Pod,
                Node,
                Err("uses the IPC namespace of the node"),
            ),
            (
                "kernel.core_pattern",
                Pod,
                Pod,
                Err("does not belong to a namespace"),
            ),
            (
                "vm.swappiness",
                Pod,
                Pod,
                Err("does not belong to a namespace"),
            ),
            ("network.x", Pod, Pod, Err("does not belong to a namespace")),
            ("", Pod, Pod, Err("is not a name")),
            ("net..x", Pod, Pod, Err("is not a name")),
            ("net.//.kernel.core_pattern", Pod, Pod, Err("is not a name")),
            ("net/../kernel/core_pattern", Pod, Pod, Err("is not a name")),
            ("net.x\0", Pod, Pod, Err("is not a name")),
        ] {
            match (check(key, network, ipc), want) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(want)) => assert!(got.contains(want), "{key}: {got}"),
                (got, want) => panic!("{key}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn keys_are_written_with_dots_and_files_with_slashes() {
        let wanted = BTreeMap::from([("net/ipv4/conf/eth0.1/x".to_owned(), "1".to_owned())]);
        let section = sysctls(&wanted, &NamespaceOptions::default())
            .unwrap()
            .unwrap();
        assert_eq!(
            section.keys().collect::<Vec<_>>(),
            ["net.ipv4.conf.eth0/1.x"]
        );
        for key in ["net/ipv4/conf/eth0.1/x", "net.ipv4.conf.eth0/1.x"] {
            let file = sysctl_file(key);
            assert_eq!(file.to_str(), Some("/proc/sys/net/ipv4/conf/eth0.1/x"));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_checked_sysctl_never_leads_out_of_its_directory(key in "(net|kernel.shm)[./a]{0,9}") {
            if check(&key, NamespaceMode::Pod, NamespaceMode::Pod).is_ok() {
                let file = sysctl_file(&key);
                let up = file.components().any(|part| part == std::path::Component::ParentDir);
                proptest::prop_assert!(!up, "{key}");
            }
        }
    }
}
