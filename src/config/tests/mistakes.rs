//! What is said about mistakes: place, line, caret, and the nearest thing that would be right.

use super::Node;

/// A configuration, and everything that is said about it.
const CASES: &[(&str, &str)] = &[
    // unknown names
    (
        "[crio.runtime]\npids_limt = 1024\n",
        "warning: crio.conf:2:1: unknown key `pids_limt` in [crio.runtime]; did you mean \
         `pids_limit`?\n  2 | pids_limt = 1024\n    | ^^^^^^^^^",
    ),
    (
        "[crio.image]\n  log-level = \"debug\"\n",
        "warning: crio.conf:2:3: unknown key `log-level` in [crio.image]; did you mean \
         `log_level` of [crio.runtime]?\n  2 |   log-level = \"debug\"\n    |   ^^^^^^^^^",
    ),
    (
        "[crio.runtime]\npause_image = \"x\"\n",
        "warning: crio.conf:2:1: unknown key `pause_image` in [crio.runtime]; it is a key of \
         [crio.image]\n  2 | pause_image = \"x\"\n    | ^^^^^^^^^^^",
    ),
    (
        "[crio.netwrok]\nnetwork_dir = \"/x\"\n",
        "warning: crio.conf:1:7: unknown table `netwrok` in [crio]; did you mean `network`?\n  \
         1 | [crio.netwrok]\n    |       ^^^^^^^",
    ),
    (
        "[network]\nnetwork_dir = \"/x\"\n",
        "warning: crio.conf:1:2: `network` is outside of [crio] and has no effect; did you mean \
         [crio.network]?\n  1 | [network]\n    |  ^^^^^^^",
    ),
    (
        "log_level = \"debug\"\n",
        "warning: crio.conf:1:1: `log_level` is outside of [crio] and has no effect; it is a key \
         of [crio.runtime]\n  1 | log_level = \"debug\"\n    | ^^^^^^^^^",
    ),
    (
        "[crio.runtime.runtimes.runc]\nruntime_pth = \"/bin/true\"\n",
        "warning: crio.conf:2:1: unknown key `runtime_pth` in [crio.runtime.runtimes.runc]; did \
         you mean `runtime_path`?\n  2 | runtime_pth = \"/bin/true\"\n    | ^^^^^^^^^^^",
    ),
    (
        "[crio.runtime]\nmanage_ns_lifecycle = true\nzzz = 1\n",
        "warning: crio.conf:2:1: unknown key `manage_ns_lifecycle` in [crio.runtime]; CRI-O \
         dropped it: namespaces are always managed\n  2 | manage_ns_lifecycle = true\n    | \
         ^^^^^^^^^^^^^^^^^^^\nwarning: crio.conf:3:1: unknown key `zzz` in [crio.runtime]\n  3 | \
         zzz = 1\n    | ^^^",
    ),
    // wrong types
    (
        "[crio.runtime]\nread_only = \"yes\"\n",
        "error: crio.conf:2:13: `read_only`: expected true or false, found a string\n  2 | \
         read_only = \"yes\"\n    |             ^^^^^",
    ),
    (
        "[crio.runtime]\npids_limit = 1.5\n",
        "error: crio.conf:2:14: `pids_limit`: expected an integer, found a number with a \
         fraction\n  2 | pids_limit = 1.5\n    |              ^^^",
    ),
    (
        "[crio.runtime]\nhooks_dir = [\n  \"/a\",\n  7,\n]\n",
        "error: crio.conf:4:3: `hooks_dir`: expected an absolute path, found an integer\n  4 |   \
         7,\n    |   ^",
    ),
    (
        "[crio.runtime]\nhooks_dir = \"/a\"\n",
        "error: crio.conf:2:13: `hooks_dir`: expected an array of strings, found a string\n  2 | \
         hooks_dir = \"/a\"\n    |             ^^^^",
    ),
    (
        "[crio]\napi = true\n",
        "error: crio.conf:2:7: `api`: expected the table [crio.api]\n  2 | api = true\n    |       \
         ^^^^",
    ),
    (
        "[crio.runtime.runtimes.x.default_annotations]\na = 1\n",
        "error: crio.conf:2:5: `default_annotations`: expected a string, found an integer\n  2 | \
         a = 1\n    |     ^",
    ),
    // wrong values
    (
        "[crio.metrics]\nmetrics_port = 70000\n",
        "error: crio.conf:2:16: `metrics_port`: expected an integer from 0 to 65535, found \
         70000\n  2 | metrics_port = 70000\n    |                ^^^^^",
    ),
    (
        "[crio.api]\nstream_port = \"http\"\n",
        "error: crio.conf:2:15: `stream_port`: expected a port from 0 to 65535, found `http`\n  \
         2 | stream_port = \"http\"\n    |               ^^^^^^",
    ),
    (
        "[crio.api]\nlisten = \"run/crio.sock\"\n",
        "error: crio.conf:2:10: `listen`: expected an absolute path, found `run/crio.sock`, which \
         is relative\n  2 | listen = \"run/crio.sock\"\n    |          ^^^^^^^^^^^^^^^",
    ),
    (
        "[crio.runtime]\ncgroup_manager = \"sytemd\"\n",
        "error: crio.conf:2:18: `cgroup_manager`: expected `systemd` or `cgroupfs`, found \
         `sytemd`\n  2 | cgroup_manager = \"sytemd\"\n    |                  ^^^^^^^^",
    ),
    (
        "[crio.runtime]\nlog_level = \"loud\"\n",
        "error: crio.conf:2:13: `log_level`: expected `panic`, `fatal`, `error`, `warn`, `info`, \
         `debug` or `trace`, found `loud`\n  2 | log_level = \"loud\"\n    |             ^^^^^^",
    ),
    (
        "[crio.runtime]\ndefault_capabilities = [\"CHOWN\", \"NET_RAWR\"]\n",
        "error: crio.conf:2:34: `default_capabilities`: `NET_RAWR` is not a Linux capability; did \
         you mean `NET_RAW`?\n  2 | default_capabilities = [\"CHOWN\", \"NET_RAWR\"]\n    |        \
         \u{20}                         ^^^^^^^^^^",
    ),
    (
        "[crio.runtime]\ndefault_ulimits = [\"nofile=2048:1024\"]\n",
        "error: crio.conf:2:20: `default_ulimits`: the soft limit of `nofile=2048:1024` is above \
         its hard limit\n  2 | default_ulimits = [\"nofile=2048:1024\"]\n    |                    \
         ^^^^^^^^^^^^^^^^^^",
    ),
    (
        "[crio.runtime]\ndefault_sysctls = [\"net.core.somaxconn\"]\n",
        "error: crio.conf:2:20: `default_sysctls`: expected a sysctl such as \
         `net.core.somaxconn=1024`, found `net.core.somaxconn`: it has no `=`\n  2 | \
         default_sysctls = [\"net.core.somaxconn\"]\n    |                    \
         ^^^^^^^^^^^^^^^^^^^^",
    ),
    (
        "[crio.image]\npull_progress_timeout = \"10\"\n",
        "error: crio.conf:2:25: `pull_progress_timeout`: expected a time such as `10s`, `1m30s` \
         or `500ms`, found `10`\n  2 | pull_progress_timeout = \"10\"\n    |                       \
         \u{20} ^^^^",
    ),
    // keys against each other
    (
        "[crio.runtime]\ndefault_runtime = \"rucn\"\n",
        "error: crio.conf:2:1: `default_runtime`: there is no runtime handler `rucn`; did you \
         mean `runc`?\n  2 | default_runtime = \"rucn\"\n    | ^^^^^^^^^^^^^^^",
    ),
    (
        "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"pods.slice\"\n",
        "error: crio.conf:3:1: `conmon_cgroup`: with cgroup_manager = \"cgroupfs\" it must be \
         `pod` or an empty string, found `pods.slice`\n  3 | conmon_cgroup = \
         \"pods.slice\"\n    | ^^^^^^^^^^^^^",
    ),
    (
        "[crio.runtime.workloads.w]\nannotation_prefix = \"x\"\n",
        "error: crio.conf:2:1: [crio.runtime.workloads.w] has no `activation_annotation`\n  2 | \
         annotation_prefix = \"x\"\n    | ^^^^^^^^^^^^^^^^^",
    ),
    (
        "[crio]\nroot = \"/data\"\nrunroot = \"/data\"\n",
        "error: crio.conf:3:1: `runroot`: it must not be the same directory as `root`\n  3 | \
         runroot = \"/data\"\n    | ^^^^^^^",
    ),
    (
        "[crio.runtime.runtimes.\"../x\"]\nruntime_path = \"/bin/true\"\n",
        "error: crio.conf:2:1: `../x` cannot be the name of a handler: letters, digits, `-`, `_` \
         and `.` can\n  2 | runtime_path = \"/bin/true\"\n    | ^^^^^^^^^^^^",
    ),
    // no effect
    (
        "[crio.runtime]\nselinux = false\ndrop_infra_ctr = false\n",
        "warning: crio.conf:3:1: `drop_infra_ctr` has no effect: other pods never have a pause \
         process\n  3 | drop_infra_ctr = false\n    | ^^^^^^^^^^^^^^",
    ),
    (
        "[crio.runtime]\nconmon_env = [\"A=b\"]\n",
        "warning: crio.conf:2:1: `conmon_env` is deprecated: use monitor_env of the handler\n  2 \
         | conmon_env = [\"A=b\"]\n    | ^^^^^^^^^^",
    ),
];

#[test]
fn every_mistake_is_named_with_its_place_and_a_remedy() {
    for (text, expected) in CASES {
        assert_eq!(Node::with(text).complaints(), *expected, "\nfor\n{text}");
    }
}

#[test]
fn syntax_errors_have_a_place_and_hide_no_other_file() {
    let node =
        Node::with("[crio\nroot = \"/x\"\n").file("crio.conf.d/10-a.conf", "[crio]\nroot = 7\n");
    let text = node.complaints();
    assert!(text.starts_with("error: crio.conf:1:6: "), "{text}");
    assert!(
        text.contains("\ncrio.conf.d/10-a.conf:2:8: `root`: expected an absolute path"),
        "{text}"
    );
}

#[test]
fn the_same_key_twice_is_an_error() {
    let text = Node::with("[crio]\nroot = \"/a\"\nroot = \"/b\"\n").complaints();
    assert!(text.contains("crio.conf:3:1: duplicate key"), "{text}");
}

#[test]
fn two_handlers_of_one_name_are_an_error() {
    let table = "[crio.runtime.runtimes.runc]\nruntime_path = \"/bin/true\"\n";
    let text = Node::with(&format!("{table}{table}")).complaints();
    assert!(
        text.contains("crio.conf:3:") && text.contains("duplicate key"),
        "{text}"
    );
    let twice = ["a:/bin/true:/run/a", "a:/bin/false:/run/b"];
    let text = Node::new().with_flag("runtimes", &twice).complaints();
    assert_eq!(
        text,
        "error: --runtimes: there are two runtime handlers `a`"
    );
}

#[test]
fn numbers_of_a_workload_are_those_that_the_kernel_takes() {
    for (key, expected) in [
        ("cpushares = 300000", "`cpushares`: expected shares"),
        ("cpuperiod = 10", "`cpuperiod`: expected microseconds"),
        ("cpuquota = 999", "`cpuquota`: expected microseconds"),
        ("cpulimit = -1", "`cpulimit`: expected thousandths"),
    ] {
        let text = format!(
            "[crio.runtime.workloads.w]\nactivation_annotation = \"a\"\n\
             [crio.runtime.workloads.w.resources]\n{key}\n"
        );
        let text = Node::with(&text).complaints();
        assert!(
            text.starts_with("error: crio.conf:4:") && text.contains(expected),
            "{text}"
        );
    }
}

#[test]
fn of_two_workloads_with_one_annotation_the_second_is_warned_of() {
    let one = |name| format!("[crio.runtime.workloads.{name}]\nactivation_annotation = \"a\"\n");
    let text = Node::with(&format!("{}{}", one("x"), one("y"))).complaints();
    assert!(
        text.starts_with("warning: crio.conf:4:")
            && text.contains(
                "[crio.runtime.workloads.y] has no effect: `a` activates the workload `x` already"
            ),
        "{text}"
    );
}

#[test]
fn a_flag_or_variable_is_named_as_such() {
    let node = Node::new().with_flag("cgroup-manager", &["cgroup"]);
    let expected = "error: --cgroup-manager: expected `systemd` or `cgroupfs`, found `cgroup`";
    assert_eq!(node.complaints(), expected);
    let node = Node::new().variable("CONTAINER_LISTEN", "crio.sock");
    let expected = "error: $CONTAINER_LISTEN: expected an absolute path, found `crio.sock`, which \
                    is relative";
    assert_eq!(node.complaints(), expected);
    let node = Node::new().with_flag("storage-opt", &["a=b"]);
    let expected = "warning: --storage-opt: `storage_option` has no effect: overlay mounts take \
                    their options from what the kernel supports";
    assert_eq!(node.complaints(), expected);
}

#[test]
fn all_mistakes_of_all_files_come_at_once() {
    let node = Node::with("[crio]\nroot = 1\nlog_dir = 2\n")
        .file("crio.conf.d/1", "[crio.api]\nlisten = 3\n");
    let text = node.complaints();
    for key in ["`root`", "`log_dir`", "`listen`"] {
        assert!(text.contains(key), "{key} is missing in {text}");
    }
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let node = Node::new().with_flag("config", &["/nonexistent/crio.conf"]);
    let text = node.complaints();
    assert!(
        text.contains("/nonexistent/crio.conf: no such configuration file"),
        "{text}"
    );
    assert!(text.contains("--config names it"), "{text}");
    assert!(Node::new().with_flag("config", &[""]).load().is_ok());
    let node = Node::new().with_flag("config-dir", &["/nonexistent"]);
    let expected = "warning: --config-dir: /nonexistent: no such directory, no drop-ins are read";
    assert_eq!(node.complaints(), expected);
}

#[test]
fn hostile_files_end_in_an_error_not_in_a_crash() {
    let deep = format!("[crio]\nroot = {}{}\n", "[".repeat(5000), "]".repeat(5000));
    let dotted = format!("{} = 1\n", vec!["crio"; 5000].join("."));
    let hostile = [
        deep.as_str(),
        dotted.as_str(),
        "crio = 7",
        "[crio]\n\"\" = 1",
        "\0",
        "[[crio]]",
    ];
    for text in hostile {
        let said = Node::with(text).complaints();
        assert!(!said.is_empty(), "nothing was said about {:.40}", text);
    }
}

#[test]
fn quoted_text_cannot_write_to_the_terminal() {
    let node = Node::with("[crio]\nroot = \"/a\" # \u{1b}[2J\nlog_dirr = \"\"\n");
    assert!(!node.complaints().contains('\u{1b}'));
    let said = Node::with("[crio]\n\"\\u001b[2J\" = 1\n").complaints();
    assert!(!said.contains('\u{1b}'), "{said:?}");
}
