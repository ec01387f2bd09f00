//! Which annotations of a pod's author reach the runtime: those by which one can ask the node for
//! something do only where the handler or the workload allows it (`allowed_annotations`).

use std::collections::BTreeMap;

/// An annotation that asks for something; it stands for all keys that begin with it.
struct Asking {
    /// Its name, and its older one; empty: it has none.
    names: (&'static str, &'static str),
    /// Why it has no effect in this version; absent: it has.
    idle: Option<&'static str>,
}

/// The names of an annotation, the newer one first.
type Names = (&'static str, &'static str);

pub(super) const CGROUP_RW: Names = (
    "cgroup2-mount-hierarchy-rw.crio.io",
    "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw",
);
pub(super) const SHM_SIZE: Names = ("shm-size.crio.io", "io.kubernetes.cri-o.ShmSize");
pub(super) const SKIP_LABEL: Names = (
    "try-skip-volume-selinux-label.crio.io",
    "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
);
pub(super) const UMASK: Names = ("umask.crio.io", "io.kubernetes.cri-o.umask");
pub(super) const UNIFIED: Names = (
    "unified-cgroup.crio.io",
    "io.kubernetes.cri-o.UnifiedCgroup",
);
pub(super) const USERNS: Names = ("userns-mode.crio.io", "io.kubernetes.cri-o.userns-mode");

const NO_CPU: &str = "this version leaves the settings of processors alone";
const NO_SUMS: &str = "this version has no runtimes of type `vm`, which read it";

/// Annotations that ask for something. CRI-O's list: what CRI-O itself, runc (`runc features`,
/// `potentiallyUnsafeConfigAnnotations`) and crun obey.
const ASKING: [Asking; 31] = [
    works(CGROUP_RW),
    idle(("cpu-c-states.crio.io", ""), NO_CPU),
    idle(("cpu-freq-governor.crio.io", ""), NO_CPU),
    idle(("cpu-load-balancing.crio.io", ""), NO_CPU),
    idle(("cpu-quota.crio.io", ""), NO_CPU),
    idle(
        ("cpu-shared.crio.io", ""),
        "this version has no shared CPUs",
    ),
    works(("devices.crio.io", "io.kubernetes.cri-o.Devices")),
    idle(
        ("disable-fips.crio.io", "io.kubernetes.cri-o.DisableFIPS"),
        "this version leaves FIPS mode as it is",
    ),
    idle(
        ("irq-load-balancing.crio.io", ""),
        "this version leaves irqbalance alone",
    ),
    idle(
        ("link-logs.crio.io", "io.kubernetes.cri-o.LinkLogs"),
        "this version links no logs into volumes",
    ),
    works((TRACE, "")),
    idle(
        (
            "platform-runtime-path.crio.io",
            "io.kubernetes.cri-o.PlatformRuntimePath",
        ),
        "platform_runtime_paths of the handler says it",
    ),
    idle(
        (
            "pod-linux-overhead.crio.io",
            "io.kubernetes.cri-o.PodLinuxOverhead",
        ),
        NO_SUMS,
    ),
    idle(
        (
            "pod-linux-resources.crio.io",
            "io.kubernetes.cri-o.PodLinuxResources",
        ),
        NO_SUMS,
    ),
    idle(
        (
            "seccomp-notifier-action.crio.io",
            "io.kubernetes.cri-o.seccompNotifierAction",
        ),
        "this version does not listen to seccomp's notifier",
    ),
    idle(
        (
            "seccomp-profile.crio.io",
            "seccomp-profile.kubernetes.cri-o.io",
        ),
        "use seccompProfile of the security context",
    ),
    works(SHM_SIZE),
    idle(
        ("spoofed.crio.io", "io.kubernetes.cri-o.Spoofed"),
        "this version makes every container that it is asked for",
    ),
    works(SKIP_LABEL),
    works(UMASK),
    works(UNIFIED),
    idle(
        USERNS,
        "pods that ask for a user namespace by it are refused, they get one by hostUsers: false",
    ),
    idle(
        ("io.kubernetes.cri.rdt-class", ""),
        "this version sets no RDT classes",
    ),
    works(("org.opencontainers.image.stopSignal", "")),
    // runc
    works(("bundle", "")),
    works(("org.systemd.property.", "")),
    works(("org.criu.config", "")),
    // crun
    works(("module.wasm.image/variant", "")),
    works(("io.kubernetes.cri.container-type", "")),
    works(("run.oci.", "")),
    works(("krun.", "")),
];

const fn works(names: Names) -> Asking {
    Asking { names, idle: None }
}

const fn idle(names: Names, why: &'static str) -> Asking {
    Asking {
        names,
        idle: Some(why),
    }
}

impl Asking {
    /// What a key of a pod asks for.
    fn of(key: &str) -> Option<&'static Asking> {
        let begins = |name: &str| !name.is_empty() && key.starts_with(name);
        ASKING
            .iter()
            .find(|one| begins(one.names.0) || begins(one.names.1))
    }

    /// Whether an entry of `allowed_annotations` allows it, or a part of it.
    fn allowed_by(&self, entry: &str) -> bool {
        let related =
            |name: &str| name.starts_with(entry) || (!name.is_empty() && entry.starts_with(name));
        !entry.is_empty() && (related(self.names.0) || related(self.names.1))
    }
}

/// Asks the OCI seccomp hook to record system calls; behind a `/` may stand of which container.
const TRACE: &str = "io.containers.trace-syscall";

/// Whether an annotation of a pod's author passes where these are allowed. The two names of an
/// annotation are one: allowing either, or a beginning of it, allows both.
pub(super) fn passes(key: &str, allowed: &[String]) -> bool {
    let Some(Asking {
        names: (name, older),
        ..
    }) = Asking::of(key)
    else {
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
    let known = |entry: &&str| ASKING.iter().any(|one| one.allowed_by(entry));
    allowed
        .iter()
        .map(String::as_str)
        .filter(move |entry| !known(entry))
}

/// The entries of `allowed_annotations` that allow only what has no effect in this version, and why it
/// has none.
pub fn idle_entries(allowed: &[String]) -> impl Iterator<Item = (&str, &'static str)> {
    allowed.iter().filter_map(|entry| {
        let mut of_entry = ASKING.iter().filter(|one| one.allowed_by(entry));
        let first = of_entry.next()?.idle?;
        of_entry
            .all(|one| one.idle.is_some())
            .then_some((entry.as_str(), first))
    })
}

/// The annotations that a pod's author may use and that have no effect in this version, and why. Not
/// among them is the one for user namespaces ([`super::check_userns`]).
pub fn idle_annotations<'a>(
    annotations: &'a BTreeMap<String, String>,
    allowed: &'a [String],
) -> impl Iterator<Item = (&'a str, &'static str)> {
    let passing = annotations.keys().filter(|key| passes(key, allowed));
    passing.filter_map(|key| {
        let asking = Asking::of(key).filter(|asking| asking.names != USERNS)?;
        Some((key.as_str(), asking.idle?))
    })
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
    fn what_is_allowed_and_has_no_effect_is_told_by_entry_and_by_annotation() {
        let list = words(&[
            "cpu-quota.crio.io",
            "seccomp-profile.kubernetes.cri-o.io/POD",
            "io.kubernetes.cri-o.userns-mode",
            "umask.crio.io",
            // allows some that work too
            "io.kubernetes.cri-o.",
            "",
            "misspelt.crio.io",
        ]);
        let told: Vec<&str> = idle_entries(&list).map(|(entry, _)| entry).collect();
        let want = [
            "cpu-quota.crio.io",
            "seccomp-profile.kubernetes.cri-o.io/POD",
            "io.kubernetes.cri-o.userns-mode",
        ];
        assert_eq!(told, want);

        let of_pod = map(&[
            ("cpu-quota.crio.io", "disable"),
            ("irq-load-balancing.crio.io", "disable"),
            ("io.kubernetes.cri-o.LinkLogs", "v"),
            ("io.kubernetes.cri-o.userns-mode", "auto"),
            ("umask.crio.io", "027"),
            ("example.com/x", "y"),
        ]);
        let told: Vec<&str> = idle_annotations(&of_pod, &list)
            .map(|(key, _)| key)
            .collect();
        assert_eq!(told, ["cpu-quota.crio.io", "io.kubernetes.cri-o.LinkLogs"]);
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
