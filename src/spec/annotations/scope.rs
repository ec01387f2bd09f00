//! What the OCI runtime tells systemd of a container's scope (`org.systemd.property.*`).
//!
//! A host's shutdown ends containers by `cricket stop --all`, and only then their scopes, which are
//! empty by then. Where no daemon runs at that moment, systemd ends the containers so, as it does
//! those of CRI-O: with a signal, time to react, and monitors that write down what they say.

use std::collections::BTreeMap;

/// The kubelet's annotation of a container with its pod's `terminationGracePeriodSeconds`.
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// The longest that a container holds up a shutdown, in seconds: what `cricket-shutdown.service`
/// gives to all.
const LONGEST: u64 = 80;

/// The annotations for a container whose `linux.cgroupsPath` this is; none where it is a directory.
/// Values are D-Bus variants as text, which runc and crun read alike.
pub(super) fn properties(
    cgroups_path: &str,
    annotations: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    if cgroups_path.starts_with('/') {
        return Vec::new();
    }
    let mut properties = vec![
        // runc and crun switch it off: systemd would leave the scope to its very last round of
        // signals, after monitors, network and file systems.
        ("DefaultDependencies", "true".to_owned()),
        ("After", "['cricket.service']".to_owned()),
        ("Before", "['cricket-shutdown.service']".to_owned()),
    ];
    // Nothing but a number: it is a pod's author who has written it.
    let grace = annotations.get(GRACE).and_then(|text| text.parse().ok());
    if let Some(seconds) = grace {
        // None at all is systemd's word for infinity.
        let microseconds = u64::clamp(seconds, 1, LONGEST) * 1_000_000;
        properties.push(("TimeoutStopUSec", format!("uint64 {microseconds}")));
    }
    properties
        .into_iter()
        .map(|(name, value)| (format!("org.systemd.property.{name}"), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_ends_in_order_and_within_the_pods_grace() {
        let told = |grace: &str| {
            let annotations = [(GRACE.to_owned(), grace.to_owned())].into();
            let told = properties("a.slice:crio:ab", &annotations);
            let timeout = "org.systemd.property.TimeoutStopUSec";
            told.into_iter()
                .find(|(name, _)| name == timeout)
                .map(|(_, value)| value)
        };
        assert_eq!(told("30").as_deref(), Some("uint64 30000000"));
        assert_eq!(told("0").as_deref(), Some("uint64 1000000"));
        assert_eq!(told("99999999999").as_deref(), Some("uint64 80000000"));
        for wrong in ["", "-1", "1.5", "5 000", "18446744073709551616"] {
            assert_eq!(told(wrong), None, "{wrong:?}");
        }
        let names: Vec<_> = properties("a.slice:crio:ab", &BTreeMap::new())
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            names,
            [
                "org.systemd.property.DefaultDependencies=true",
                "org.systemd.property.After=['cricket.service']",
                "org.systemd.property.Before=['cricket-shutdown.service']",
            ]
        );
        assert_eq!(properties("/kubepods/crio-ab", &BTreeMap::new()), []);
    }
}
