//! Labels by a policy in a scratch directory; the kernel's own part needs a host with SELinux.

use super::*;

const PROCESS: &str = "system_u:system_r:container_t";
const FILE: &str = "system_u:object_r:container_file_t";

/// A node with a policy. `context` takes whatever is written to it.
fn node() -> (tempfile::TempDir, Selinux) {
    let dir = tempfile::tempdir().unwrap();
    let (policies, kernel) = (dir.path().join("etc"), dir.path().join("sys"));
    fs::create_dir_all(policies.join("targeted/contexts")).unwrap();
    fs::create_dir(&kernel).unwrap();
    fs::write(
        policies.join("config"),
        "# SELINUXTYPE=mls\nSELINUX=enforcing\nSELINUXTYPE=targeted\n",
    )
    .unwrap();
    let contexts = format!("process = \"{PROCESS}:s0\"\ncontent = \"x\"\nfile = \"{FILE}:s0\"\n");
    fs::write(policies.join("targeted/contexts/lxc_contexts"), contexts).unwrap();
    assert!(
        Selinux::open(&policies, &kernel).unwrap().is_none(),
        "the kernel has it off"
    );
    fs::write(kernel.join("enforce"), "1").unwrap();
    fs::write(kernel.join("context"), "").unwrap();
    let selinux = Selinux::open(&policies, &kernel).unwrap().unwrap();
    (dir, selinux)
}

fn level(labels: &Labels) -> String {
    Context::parse(&labels.process).unwrap().level
}

#[test]
fn a_pod_has_categories_of_its_own_that_come_free_with_it() {
    let (_dir, selinux) = node();
    let mut seen = std::collections::HashSet::new();
    for pod in 0..300 {
        let labels = selinux
            .pod(&format!("pod-{pod}"), &Wanted::default())
            .unwrap();
        let level = level(&labels);
        assert!(is_level(&level), "{level}");
        assert_eq!(labels.process, format!("{PROCESS}:{level}"));
        assert_eq!(labels.mount, format!("{FILE}:{level}"));
        assert!(seen.insert(level));
    }
    // the same id begins at the same pair: taken, and free again
    let (_dir, selinux) = node();
    let first = selinux.pod("a", &Wanted::default()).unwrap();
    selinux.reserve("b", &first);
    selinux.release("a");
    assert_ne!(selinux.pod("a", &Wanted::default()).unwrap(), first);
    selinux.release("b");
    assert_eq!(selinux.pod("a", &Wanted::default()).unwrap(), first);
}

#[test]
fn every_number_is_another_pair_below_the_bound() {
    let pairs = u32::from(CATEGORIES) * u32::from(CATEGORIES - 1) / 2;
    assert_eq!(
        (level_of(0), level_of(1), level_of(2)),
        ("s0:c0,c1".into(), "s0:c0,c2".into(), "s0:c1,c2".into())
    );
    assert_eq!(level_of(pairs - 1), "s0:c1022,c1023");
}

#[test]
fn what_is_asked_for_wins_and_files_keep_their_type() {
    let (_dir, selinux) = node();
    let wanted = Wanted {
        user: "u",
        role: "r",
        kind: "t_t",
        level: "s0:c1,c2",
    };
    let labels = selinux.pod("a", &wanted).unwrap();
    assert_eq!(labels.process, "u:r:t_t:s0:c1,c2");
    assert_eq!(labels.mount, "u:object_r:container_file_t:s0:c1,c2");
    // a level that was asked for is given to nobody else by chance, but to others who ask
    assert_eq!(selinux.pod("b", &wanted).unwrap(), labels);
}

#[test]
fn containers_inherit_from_their_pod_and_may_differ() {
    let (_dir, selinux) = node();
    let wanted = Wanted {
        level: "s0:c1,c2",
        ..Wanted::default()
    };
    let pod = selinux.pod("a", &wanted).unwrap();
    assert_eq!(pod.of_container(&Wanted::default()).unwrap(), pod);
    let own = Wanted {
        kind: "spc_t",
        ..Wanted::default()
    };
    let own = pod.of_container(&own).unwrap();
    assert_eq!(own.process, "system_u:system_r:spc_t:s0:c1,c2");
    assert_eq!(own.mount, pod.mount);
    assert!(pod.relabels() && !own.relabels() && !pod.unconfined().relabels());
    assert_eq!(pod.unconfined().mount, pod.mount);
}

#[test]
fn parts_that_cannot_be_are_refused_by_their_name() {
    let (_dir, selinux) = node();
    let long = "x".repeat(5000);
    for (wanted, part) in [
        (
            Wanted {
                user: "a:b",
                ..Wanted::default()
            },
            "user",
        ),
        (
            Wanted {
                role: "r\n",
                ..Wanted::default()
            },
            "role",
        ),
        (
            Wanted {
                kind: "t\0",
                ..Wanted::default()
            },
            "type",
        ),
        (
            Wanted {
                kind: &long,
                ..Wanted::default()
            },
            "type",
        ),
        (
            Wanted {
                level: "high",
                ..Wanted::default()
            },
            "level",
        ),
    ] {
        let error = selinux.pod("a", &wanted).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("selinux_options.{part}: ")),
            "{error}"
        );
        assert!(error.len() < 400, "{error}");
        assert!(Labels::default().of_container(&wanted).is_err());
    }
    for (text, good) in [
        ("s0", true),
        ("s0:c0", true),
        ("s0:c1,c2", true),
        ("s0:c0.c1023", true),
        ("s0-s0:c0.c1023", true),
        ("s0:c1024", false),
        ("s0:c5.c5", false),
        ("s0:", false),
        ("s0:c1,", false),
        ("s0:c1,c2\n", false),
        ("s:c1", false),
        ("s0-", false),
        ("c1,c2", false),
    ] {
        assert_eq!(is_level(text), good, "{text}");
    }
}

#[test]
fn a_label_that_the_policy_does_not_know_is_an_error_and_takes_no_categories() {
    let (dir, selinux) = node();
    fs::remove_file(dir.path().join("sys/context")).unwrap();
    let error = selinux
        .pod("a", &Wanted::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has no label `system_u:system_r:container_t:s0"),
        "{error}"
    );
    assert!(selinux.levels.lock().unwrap().is_empty());
}

#[test]
fn a_policy_without_labels_for_containers_is_named() {
    let (dir, _) = node();
    let contexts = dir.path().join("etc/targeted/contexts/lxc_contexts");
    fs::write(&contexts, "process = \"\"\n").unwrap();
    let opened = Selinux::open(&dir.path().join("etc"), &dir.path().join("sys"));
    let error = opened.unwrap_err().to_string();
    assert!(
        error.contains("lxc_contexts") && error.contains("`process`"),
        "{error}"
    );
}

fn relabel(path: &Path, label: &str) -> Result<Relabelled, SelinuxError> {
    let progress = std::sync::atomic::AtomicU64::new(0);
    let done = super::relabel(path, label, false, &progress);
    if let Ok(done) = &done {
        assert_eq!(progress.into_inner(), done.seen);
    }
    done
}

fn xattr(path: &Path) -> Option<String> {
    let mut value = vec![0; 200];
    let length = rustix::fs::lgetxattr(path, "security.selinux", &mut *value).ok()?;
    Some(String::from_utf8_lossy(&value[..length]).into_owned())
}

#[test]
fn a_volume_is_labelled_with_all_below_it_and_no_link_leads_out() {
    let dir = tempfile::tempdir().unwrap();
    let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
    fs::create_dir_all(volume.join("a/b")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "").unwrap();
    fs::write(volume.join("a/b/file"), "").unwrap();
    std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
    nix::unistd::mkfifo(&volume.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let done = relabel(&volume, label).unwrap();
    assert_eq!(
        done,
        Relabelled {
            seen: 6,
            changed: 6
        }
    );
    for path in ["", "a", "a/b", "a/b/file", "link", "pipe"] {
        assert_eq!(
            xattr(&volume.join(path)),
            Some(format!("{label}\0")),
            "{path}"
        );
    }
    assert_eq!(
        (xattr(&outside), xattr(&outside.join("secret"))),
        (None, None)
    );
    assert_eq!(
        relabel(&volume, label).unwrap(),
        Relabelled {
            seen: 6,
            changed: 0
        }
    );
    set(&outside, label).unwrap();
    assert_eq!(xattr(&outside), Some(format!("{label}\0")));
    assert_eq!(xattr(&outside.join("secret")), None, "it alone");
}

#[test]
fn a_volume_whose_top_is_trusted_is_walked_once_and_its_top_labelled_last() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "").unwrap();
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let relabel = || {
        let progress = std::sync::atomic::AtomicU64::new(0);
        super::relabel(&volume, label, true, &progress).unwrap()
    };
    let both = Relabelled {
        seen: 2,
        changed: 2,
    };
    assert_eq!(relabel(), both);
    fs::write(volume.join("new"), "").unwrap();
    assert_eq!(relabel(), Relabelled::default());
    assert_eq!(xattr(&volume.join("new")), None);
    // One that could not be walked to its end has no labelled top, and is walked again.
    let deep = dir.path().join("deep");
    fs::create_dir_all(deep.join("d/".repeat(300))).unwrap();
    let progress = std::sync::atomic::AtomicU64::new(0);
    assert!(super::relabel(&deep, label, true, &progress).is_err());
    assert_eq!(xattr(&deep), None);
}

#[test]
fn a_bottomless_volume_is_an_error_and_a_missing_one_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("d/".repeat(300))).unwrap();
    let error = relabel(dir.path(), "a:b:c:s0").unwrap_err().to_string();
    assert!(error.contains("deeper than 256"), "{error}");
    assert!(relabel(&dir.path().join("gone"), "a:b:c:s0").is_err());
    // procfs has no labels of its own
    assert_eq!(
        relabel(Path::new("/proc/self"), "a:b:c:s0").ok(),
        Some(Relabelled::default())
    );
}

#[test]
fn the_nodes_own_directories_are_never_labelled() {
    for (path, allowed) in [
        ("/", false),
        ("/home", false),
        ("/home/someone", false),
        ("/home/someone/data", true),
        ("/var/lib", false),
        ("/var/lib/kubelet/pods/x/volumes/y", true),
        ("/etc/", false),
        ("/srv/../etc", false),
        ("relative", false),
    ] {
        let checked = check_relabel(3, Path::new(path));
        assert_eq!(checked.is_ok(), allowed, "{path}");
        if let Err(error) = checked {
            assert!(
                error.to_string().starts_with("mounts[3].selinux_relabel: "),
                "{error}"
            );
        }
    }
}

#[test]
fn selinux_is_on_where_its_file_system_is_and_a_policy_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let label = dir.path().join("label");
    let on = |text: &str| {
        fs::write(&label, text).unwrap();
        is_on(dir.path(), &label)
    };
    assert!(!on("system_u:system_r:init_t:s0\0"));
    fs::write(dir.path().join("enforce"), "0").unwrap();
    assert!(on("system_u:system_r:init_t:s0\0") && !is_enforcing(dir.path()));
    for none in ["kernel", "kernel\0"] {
        assert!(!on(none), "{none:?}");
    }
    // What cannot be told is no reason to leave pods without labels: go-selinux's rule.
    assert!(is_on(dir.path(), Path::new("/nonexistent")));
    fs::write(dir.path().join("enforce"), "1").unwrap();
    assert!(is_enforcing(dir.path()));
    assert!(!is_enforcing(Path::new("/nonexistent")));
}
