//! Devices that the node gives: to every container (`additional_devices`), and to pods that ask by
//! an annotation for one that the node allows (`allowed_devices`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ContainerError;
use super::sources;
use crate::spec::inputs::DeviceNode;

/// The annotations of a pod that ask, the newer name first: it wins.
const ANNOTATIONS: [&str; 2] = ["devices.crio.io", "io.kubernetes.cri-o.Devices"];
/// Most devices that an annotation can ask for.
const MAX_ASKED: usize = 64;

/// What the configuration says about devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeDevices {
    /// For every container (`additional_devices`).
    pub for_all: Vec<NodeDevice>,
    /// Host paths that an annotation may name (`allowed_devices`).
    pub by_annotation: Vec<PathBuf>,
}

/// A device of the host for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDevice {
    /// On the host.
    pub host: String,
    /// In the container.
    pub container: String,
    /// What the container may do with it, letters of `rwm`.
    pub access: String,
}

impl NodeDevices {
    /// The device nodes that a container gets that sees these annotations of its pod.
    ///
    /// # Errors
    /// When an annotation asks for what is not allowed, or a device is not on the host.
    pub(super) fn of(
        &self,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Vec<(DeviceNode, String)>, ContainerError> {
        let asked = ANNOTATIONS
            .iter()
            .find_map(|key| annotations.get(*key).map(|text| (*key, text.as_str())));
        let asked = match asked {
            Some((key, text)) => self.asked(key, text)?,
            None => Vec::new(),
        };
        let mut nodes: Vec<(DeviceNode, String)> = Vec::new();
        for device in self.for_all.iter().chain(&asked) {
            for node in sources::nodes_at(&device.host, &device.container)? {
                nodes.retain(|(known, _)| known.path != node.path);
                nodes.push((node, device.access.clone()));
            }
        }
        Ok(nodes)
    }

    /// `/dev/fuse`, `/dev/a:/dev/b`, `/dev/a:/dev/b:rw`, separated by commas.
    fn asked(&self, key: &str, text: &str) -> Result<Vec<NodeDevice>, ContainerError> {
        let error = |problem: String| ContainerError::Invalid {
            field: format!("annotation {key}"),
            problem,
        };
        let entries: Vec<&str> = text.split(',').filter(|entry| !entry.is_empty()).collect();
        if entries.len() > MAX_ASKED {
            return Err(error(format!("it asks for more than {MAX_ASKED} devices")));
        }
        entries
            .into_iter()
            .map(|entry| {
                let device = parse(entry).ok_or_else(|| {
                    let shown: String = entry.chars().take(128).collect();
                    error(format!(
                        "`{}` is not a device such as /dev/a:/dev/b:rwm",
                        shown.escape_debug()
                    ))
                })?;
                match self
                    .by_annotation
                    .iter()
                    .any(|path| path == Path::new(&device.host))
                {
                    true => Ok(device),
                    false => Err(error(format!(
                        "{} is not one of allowed_devices in the node's crio.conf",
                        device.host
                    ))),
                }
            })
            .collect()
    }
}

fn parse(entry: &str) -> Option<NodeDevice> {
    let access = |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
    let parts: Vec<&str> = entry.trim().split(':').collect();
    let (host, container, rights) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, rights] if access(rights) => (host, host, rights),
        [host, container] => (host, container, "rwm"),
        [host, container, rights] if access(rights) => (host, container, rights),
        _ => return None,
    };
    let path = |text: &str| {
        let whole = text.split('/').all(|part| part != "..");
        text.starts_with('/') && whole && text.len() < 4096 && !text.contains('\0')
    };
    (path(host) && path(container)).then(|| NodeDevice {
        host: host.to_owned(),
        container: container.to_owned(),
        access: rights.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::effective_annotations;

    fn node() -> NodeDevices {
        NodeDevices {
            for_all: vec![NodeDevice {
                host: "/dev/zero".into(),
                container: "/dev/nought".into(),
                access: "r".into(),
            }],
            by_annotation: vec!["/dev/null".into(), "/dev/full".into()],
        }
    }

    fn got(annotations: &[(&str, &str)], allowed: &[&str]) -> Result<Vec<String>, String> {
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let allowed: Vec<_> = allowed.iter().map(|key| (*key).to_owned()).collect();
        let shown = |(node, access): &(DeviceNode, String)| {
            format!(
                "{} {}:{} {access}",
                node.path.display(),
                node.major,
                node.minor
            )
        };
        let seen = effective_annotations(&annotations, &BTreeMap::new(), &allowed, "main");
        match node().of(&seen) {
            Ok(nodes) => Ok(nodes.iter().map(shown).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn annotations_add_to_the_devices_of_all_where_the_handler_allows_them() {
        let v2 = ("devices.crio.io", "/dev/full:/dev/f:rw,/dev/null");
        let v1 = ("io.kubernetes.cri-o.Devices", "/dev/null:/dev/n");
        let all = "/dev/nought 1:5 r";
        assert_eq!(got(&[v1], &[]).unwrap(), [all], "not allowed: passed over");
        assert_eq!(
            got(&[v1], &["devices.crio.io"]).unwrap(),
            [all, "/dev/n 1:3 rwm"]
        );
        assert_eq!(
            got(&[v1, v2], &["io.kubernetes.cri-o.Dev"]).unwrap(),
            [all, "/dev/f 1:7 rw", "/dev/null 1:3 rwm"]
        );
    }

    #[test]
    fn what_is_not_allowed_or_no_device_is_refused() {
        for (text, want) in [
            ("/dev/zero", "/dev/zero is not one of allowed_devices"),
            ("/dev/null/../zero", "is not a device"),
            ("/dev/null:dev", "is not a device"),
            ("/dev/null:/a:rwx", "is not a device"),
            ("/dev/null:/a:r:w", "is not a device"),
            ("/dev/null\0", "is not a device"),
            (&"/dev/null,".repeat(1000), "more than 64"),
        ] {
            let error = got(&[("devices.crio.io", text)], &["devices.crio.io"]).unwrap_err();
            assert!(
                error.starts_with("annotation devices.crio.io: ") && error.contains(want),
                "{error}"
            );
        }
    }
}
