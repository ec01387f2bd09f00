//! Which annotations of a pod's author reach the runtime: those by which one can ask the node for
//! something do only where the handler or the workload allows it (`allowed_annotations`).

use std::collections::BTreeMap;

/// Annotations that ask for something, each with its older name; each stands for all keys that
/// begin with it. CRI-O's list: what CRI-O itself, runc (`runc features`,
/// `potentiallyUnsafeConfigAnnotations`) and crun obey.
const ASKING: [(&str, &str); 31] = [
    (
        "cgroup2-mount-hierarchy-rw.crio.io",
        "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw",
    ),
    ("cpu-c-states.crio.io", ""),
    ("cpu-freq-governor.crio.io", ""),
    ("cpu-load-balancing.crio.io", ""),
    ("cpu-quota.crio.io", ""),
    ("cpu-shared.crio.io", ""),
    ("devices.crio.io", "io.kubernetes.cri-o.Devices"),
    ("disable-fips.crio.io", "io.kubernetes.cri-o.DisableFIPS"),
    ("irq-load-balancing.crio.io", ""),
    ("link-logs.crio.io", "io.kubernetes.cri-o.LinkLogs"),
    (TRACE, ""),
    (
        "platform-runtime-path.crio.io",
        "io.kubernetes.cri-o.PlatformRuntimePath",
    ),
    (
        "pod-linux-overhead.crio.io",
        "io.kubernetes.cri-o.PodLinuxOverhead",
    ),
    (
        "pod-linux-resources.crio.io",
        "io.kubernetes.cri-o.PodLinuxResources",
    ),
    (
        "seccomp-notifier-action.crio.io",
        "io.kubernetes.cri-o.seccompNotifierAction",
    ),
    (
        "seccomp-profile.crio.io",
        "seccomp-profile.kubernetes.cri-o.io",
    ),
    ("shm-size.crio.io", "io.kubernetes.cri-o.ShmSize"),
    ("spoofed.crio.io", "io.kubernetes.cri-o.Spoofed"),
    (
        "try-skip-volume-selinux-label.crio.io",
        "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
    ),
    ("umask.crio.io", "io.kubernetes.cri-o.umask"),
    (
        "unified-cgroup.crio.io",
        "io.kubernetes.cri-o.UnifiedCgroup",
    ),
    ("userns-mode.crio.io", "io.kubernetes.cri-o.userns-mode"),
    ("io.kubernetes.cri.rdt-class", ""),
    ("org.opencontainers.image.stopSignal", ""),
    // runc
    ("bundle", ""),
    ("org.systemd.property.", ""),
    ("org.criu.config", ""),
    // crun
    ("module.wasm.image/variant", ""),
    ("io.kubernetes.cri.container-type", ""),
    ("run.oci.", ""),
    ("krun.", ""),
];

/// Asks the OCI seccomp hook to record system calls; behind a `/` may stand of which container.
const TRACE: &str = "io.containers.trace-syscall";

/// Whether an annotation of a pod's author passes where these are allowed. The two names of an
/// annotation are one: allowing either, or a beginning of it, allows both.
pub(super) fn passes(key: &str, allowed: &[String]) -> bool {
    let begins = |name: &str| !name.is_empty() && key.starts_with(name);
    let asking = ASKING
        .iter()
        .find(|(name, older)| begins(name) || begins(older));
    let Some((name, older)) = asking else {
        return true;
    };
    allowed.iter().any(|prefix| {
        let covers = |text: &str| text.starts_with(prefix.as_str());
        !prefix.is_empty() && (covers(key) || covers(name) || covers(older))
    })
}

/// The entries of `allowed_annotations` that allow nothing that is not allowed anyway: misspelt, or
/// of a version that is not known here.
pub fn pointless(allowed: &[String]) -> impl Iterator<Item = &str> {
    let known = |entry: &&str| {
        !entry.is_empty()
            && ASKING.iter().any(|(name, older)| {
                [name, older].iter().any(|one| {
                    one.starts_with(*entry) || (!one.is_empty() && entry.starts_with(**one))
                })
            })
    };
    allowed
        .iter()
        .map(String::as_str)
        .filter(move |entry| !known(entry))
}

/// A pod's annotations as a container of it sees them: those that pass, over the defaults of the
/// handler (`default_annotations`), which are the administrator's and pass whatever they ask for.
pub fn effective(
    of_pod: &BTreeMap<String, String>,
    defaults: &BTreeMap<String, String>,
    allowed: &[String],
    container: &str,
) -> BTreeMap<String, String> {
    let mut all = defaults.clone();
    let passing = of_pod.iter().filter(|(key, _)| passes(key, allowed));
    for (key, value) in passing {
        // a pod's author names the container to trace, the hook knows the name without one
        let traced = key
            .strip_prefix(TRACE)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|name| name == container);
        let key = if traced { TRACE } else { key };
        all.insert(key.to_owned(), value.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::map;
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_asks_the_node_for_something_passes_only_where_it_is_allowed() {
        for (key, allowed, want) in [
            ("example.com/x", &[][..], true),
            ("io.kubernetes.container.hash", &[], true),
            ("devices.crio.io", &[], false),
            ("devices.crio.io", &["devices.crio.io"], true),
            ("io.kubernetes.cri-o.Devices", &["devices.crio.io"], true),
            ("devices.crio.io", &["io.kubernetes.cri-o.Devices"], true),
            ("devices.crio.io", &["io.kubernetes.cri-o.Dev"], true),
            ("devices.crio.io", &["umask.crio.io", ""], false),
            (
                "unified-cgroup.crio.io/main",
                &["unified-cgroup.crio.io"],
                true,
            ),
            ("run.oci.handler", &[], false),
            ("run.oci.handler", &["run.oci.handler"], true),
            ("run.oci.hooks.stderr", &["run.oci.handler"], false),
            ("run.oci.hooks.stderr", &["run.oci."], true),
            ("org.systemd.property.ExecStop", &["run.oci."], false),
            ("org.criu.config", &[], false),
            ("io.containers.trace-syscall/main", &[], false),
        ] {
            assert_eq!(passes(key, &words(allowed)), want, "{key} {allowed:?}");
        }
    }

    #[test]
    fn the_pods_own_win_over_the_handlers_defaults_and_defaults_pass_always() {
        let of_pod = map(&[
            ("team", "a"),
            ("run.oci.handler", "mine"),
            ("io.containers.trace-syscall/main", "of:/tmp/m"),
            ("io.containers.trace-syscall/side", "of:/tmp/s"),
        ]);
        let defaults = map(&[("run.oci.handler", "krun"), ("team", "none")]);
        let allowed = words(&["io.containers.trace-syscall"]);
        let want = map(&[
            ("team", "a"),
            ("run.oci.handler", "krun"),
            ("io.containers.trace-syscall", "of:/tmp/m"),
            ("io.containers.trace-syscall/side", "of:/tmp/s"),
        ]);
        assert_eq!(effective(&of_pod, &defaults, &allowed, "main"), want);
    }

    #[test]
    fn an_entry_that_allows_nothing_is_found() {
        let list = words(&[
            "devices.crio.io",
            "io.kubernetes.cri-o.",
            "run.oci.handler",
            "devics.crio.io",
            "",
        ]);
        let found: Vec<&str> = pointless(&list).collect();
        assert_eq!(found, ["devics.crio.io", ""]);
    }
}
