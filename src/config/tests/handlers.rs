//! From handlers to programs.

use super::Node;
use crate::config::handlers::Handlers;
use crate::config::{ConfigError, handlers, pause_binary};

fn ready(node: &Node) -> Result<Handlers, ConfigError> {
    handlers(&node.load().unwrap())
}

#[test]
fn both_built_in_handlers_are_found_in_path_and_crun_is_the_default() {
    let node = Node::new();
    let handlers = ready(&node).unwrap();
    assert_eq!(handlers.default, "crun");
    let names: Vec<_> = handlers.ready.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["crun", "runc"]);
    let crun = &handlers.ready[0];
    assert_eq!(crun.runtime_path, node.path("bin/crun"));
    assert_eq!(crun.runtime_root.to_str(), Some("/run/crun"));
    assert_eq!(crun.monitor_path, node.path("usr/lib/cricket/conmon"));
    assert_eq!(crun.monitor_cgroup, "system.slice");
    assert_eq!(crun.settings.container_min_memory.0, 500 << 10);
    assert_eq!(handlers.ready[1].settings.container_min_memory.0, 12 << 20);
}

#[test]
fn runc_stands_in_for_crun_without_a_warning_unless_crun_was_asked_for() {
    let node = Node::new().without_program("bin/crun");
    let loaded = node.load().unwrap();
    assert_eq!(loaded.config.runtime.default_runtime, "runc");
    assert!(loaded.warnings.is_empty());
    let handlers = ready(&node).unwrap();
    assert!(handlers.warnings.is_empty());
    assert_eq!(handlers.ready.len(), 1);

    let node = node.with_flag("default-runtime", &["crun"]);
    let error = ready(&node).unwrap_err().to_string();
    assert!(
        error.starts_with("runtime handler `crun`: there is no `crun` in $PATH ("),
        "{error}"
    );
    assert!(
        error.contains("set runtime_path in [crio.runtime.runtimes.crun]"),
        "{error}"
    );
}

#[test]
fn without_any_runtime_the_error_names_the_default() {
    let node = Node::new()
        .without_program("bin/crun")
        .without_program("bin/runc");
    let error = ready(&node).unwrap_err().to_string();
    assert!(error.contains("there is no `crun` in $PATH"), "{error}");
}

#[test]
fn a_broken_handler_that_is_not_the_default_is_left_out_with_a_warning() {
    let node = Node::with(
        "[crio.runtime.runtimes.kata]\nruntime_type = \"vm\"\n\
         [crio.runtime.runtimes.gone]\nruntime_path = \"/nonexistent/gone\"\n",
    );
    let handlers = ready(&node).unwrap();
    assert_eq!(handlers.ready.len(), 2);
    let said: Vec<_> = handlers.warnings.iter().map(ToString::to_string).collect();
    assert!(
        said[0].contains("crio.conf:4:1: runtime handler `gone`: /nonexistent/gone: No such"),
        "{said:?}"
    );
    assert!(
        said[1].contains("crio.conf:2:1: runtime handler `kata`: this version runs no"),
        "{said:?}"
    );
}

#[test]
fn creating_a_container_gets_at_least_half_a_minute() {
    for (written, meant) in [(-1, 30), (0, 30), (29, 30), (31, 31)] {
        let key = format!("container_create_timeout = {written}");
        let node = Node::with(&format!("[crio.runtime.runtimes.crun]\n{key}\n"));
        let handlers = ready(&node).unwrap();
        assert_eq!(
            handlers.ready[0].settings.container_create_timeout, meant,
            "{written}"
        );
    }
}

#[test]
fn a_handler_may_take_its_runtime_from_the_default() {
    let node = Node::with(
        "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n\
         [crio.runtime.runtimes.perf]\ninherit_default_runtime = true\n\
         monitor_env = [\"A=b\"]\nmonitor_cgroup = \"pod\"\n",
    );
    let handlers = ready(&node).unwrap();
    let perf = handlers
        .ready
        .iter()
        .find(|one| one.name == "perf")
        .unwrap();
    assert_eq!(perf.runtime_path, node.path("bin/crun"));
    assert_eq!(perf.runtime_root.to_str(), Some("/run/crun"));
    assert_eq!(perf.monitor_cgroup, "pod");
    assert_eq!(perf.monitor_env[0].name, "A");
    let runc = handlers
        .ready
        .iter()
        .find(|one| one.name == "runc")
        .unwrap();
    assert_eq!(runc.monitor_cgroup, "");
    assert_eq!(runc.monitor_env[0].name, "PATH");
}

#[test]
fn conmon_and_pause_are_found_where_they_are_installed() {
    let node = Node::new().without_program("usr/lib/cricket/conmon");
    let error = ready(&node).unwrap_err().to_string();
    assert!(
        error.contains("cricket's own `conmon` is not installed; looked at"),
        "{error}"
    );
    assert!(error.contains("usr/libexec/cricket/conmon"), "{error}");
    assert!(pause_binary(&node.load().unwrap()).is_err());

    for place in [
        "bin/cricket-conmon",
        "usr/bin/conmon",
        "usr/libexec/cricket/conmon",
    ] {
        node.program(place);
        assert_eq!(
            ready(&node).unwrap().ready[0].monitor_path,
            node.path(place)
        );
    }
    node.program("usr/lib/cricket/pause");
    assert_eq!(
        pause_binary(&node.load().unwrap()).unwrap(),
        node.path("usr/lib/cricket/pause")
    );
}

#[test]
fn a_monitor_of_cri_o_is_passed_over_for_our_own() {
    let node = Node::new();
    let c_conmon = node.path("usr/bin/conmon");
    node.program("usr/bin/conmon");
    std::fs::write(&c_conmon, "\0conmon version 2.1.13\0").unwrap();
    let text = format!(
        "[crio.runtime]\nconmon = \"{0}\"\n[crio.runtime.runtimes.runc]\nmonitor_path = \"{0}\"\n",
        c_conmon.display()
    );
    let node = node.file("crio.conf", &text);
    let handlers = ready(&node).unwrap();
    for handler in &handlers.ready {
        assert_eq!(handler.monitor_path, node.path("usr/lib/cricket/conmon"));
    }
    let said: Vec<_> = handlers.warnings.iter().map(ToString::to_string).collect();
    // The key of old stands above the handler's and is blamed once.
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("crio.conf:2:1: "), "{said:?}");
    assert!(
        said[0].contains("usr/bin/conmon is not cricket's conmon; "),
        "{said:?}"
    );

    let node = node.without_program("usr/lib/cricket/conmon");
    let error = ready(&node).unwrap_err().to_string();
    assert!(
        error.contains("cricket's own `conmon` is not installed"),
        "{error}"
    );
}

#[test]
fn a_runtime_that_went_with_cri_o_is_taken_from_path_and_any_other_is_missed() {
    let gone = "/usr/libexec/crio/runtime-of-a-test";
    let with = |path: &str| {
        let text = format!(
            "[crio.runtime]\ndefault_runtime = \"a\"\n[crio.runtime.runtimes.a]\n\
             runtime_path = \"{path}\"\nruntime_root = \"/run/a\"\n"
        );
        Node::with(&text)
    };
    let node = with(gone);
    let error = ready(&node).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "runtime handler `a`: {gone} is not there (CRI-O's package brings it), and there is no \
             `runtime-of-a-test` in $PATH; install it, or change the key"
        )
    );
    node.program("bin/runtime-of-a-test");
    let handlers = ready(&node).unwrap();
    let found = node.path("bin/runtime-of-a-test");
    assert_eq!(handlers.ready[0].runtime_path, found);
    assert_eq!(handlers.ready[0].runtime_root.to_str(), Some("/run/a"));
    let said: Vec<_> = handlers.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let want = format!(
        "crio.conf:4:1: {gone} has gone with CRI-O's package; {} is used instead, change the key",
        found.display()
    );
    assert!(said[0].ends_with(&want), "{said:?}");

    // One that the administrator has put somewhere is not guessed at.
    for path in ["/usr/libexec/crio/sub/crun", "/opt/nonexistent/crun"] {
        let error = ready(&with(path)).unwrap_err().to_string();
        assert!(error.contains(&format!("{path}: No such file")), "{error}");
    }
}

#[test]
fn the_keys_of_old_stand_above_those_of_the_handlers() {
    // As CRI-O's TranslateMonitorFieldsForHandler has it: for `oci` handlers, where they are set.
    let node = Node::new();
    for name in ["old", "own"] {
        node.program(name);
    }
    let (old, own) = (node.path("old"), node.path("own"));
    let handler = |kind: &str| {
        format!(
            "[crio.runtime.runtimes.crun]\nruntime_type = \"{kind}\"\nmonitor_path = \"{}\"\n\
             monitor_cgroup = \"own.slice\"\nmonitor_env = [\"OWN=1\"]\n",
            own.display()
        )
    };
    let keys = format!(
        "[crio.runtime]\nconmon = \"{}\"\nconmon_cgroup = \"pod\"\nconmon_env = [\"OLD=1\"]\n",
        old.display()
    );
    let of = |node: &Node| {
        let handlers = ready(node).unwrap();
        let one = &handlers.ready[0];
        let env: Vec<String> = one.monitor_env.iter().map(|it| it.name.clone()).collect();
        (
            one.monitor_path.clone(),
            one.monitor_cgroup.clone(),
            env.join(","),
        )
    };
    let node = node.file("crio.conf", &format!("{keys}{}", handler("oci")));
    assert_eq!(of(&node), (old.clone(), "pod".into(), "OLD".into()));
    // Of the built-in handler too.
    assert_eq!(ready(&node).unwrap().ready[1].monitor_cgroup, "pod");
    let node = node.file("crio.conf", &format!("{keys}{}", handler("pod")));
    assert_eq!(of(&node), (own.clone(), "own.slice".into(), "OWN".into()));
    let node = node.file("crio.conf", &handler("oci"));
    assert_eq!(of(&node), (own.clone(), "own.slice".into(), "OWN".into()));
    let node = node.file("crio.conf", &keys);
    assert_eq!(of(&node), (old, "pod".into(), "OLD".into()));
}

#[test]
fn a_cgroup_of_a_handler_that_does_not_count_is_not_checked() {
    let node = Node::with(
        "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"pod\"\n\
         [crio.runtime.runtimes.crun]\nmonitor_cgroup = \"own.slice\"\n",
    );
    assert_eq!(ready(&node).unwrap().ready[0].monitor_cgroup, "pod");
}

#[test]
fn with_cgroupfs_the_default_slice_of_a_configuration_means_none() {
    for text in [
        "conmon_cgroup = \"system.slice\"\n",
        "[crio.runtime.runtimes.crun]\nmonitor_cgroup = \"system.slice\"\n",
    ] {
        let node = Node::with(&format!(
            "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n{text}"
        ));
        assert_eq!(ready(&node).unwrap().ready[0].monitor_cgroup, "", "{text}");
    }
}

#[test]
fn the_text_that_tells_conmons_apart_is_in_ours() {
    let source = include_str!("../../../conmon/src/main.rs");
    assert!(
        source.contains(r#" of cricket\n"#),
        "what conmon answers to --version has changed"
    );
}

#[test]
fn a_file_that_cannot_be_executed_is_no_program() {
    let node =
        Node::with("[crio.runtime]\nconmon = \"/etc/passwd\"\npause_path = \"/etc/passwd\"\n")
            .without_program("usr/lib/cricket/conmon");
    let error = ready(&node).unwrap_err().to_string();
    assert_eq!(
        error,
        "runtime handler `crun`: its monitor: /etc/passwd is not an executable file"
    );
    let error = pause_binary(&node.load().unwrap()).unwrap_err().to_string();
    assert_eq!(error, "pause_path: /etc/passwd is not an executable file");
}

#[test]
fn systemd_is_the_default_where_it_runs_and_what_the_file_says_counts_everywhere() {
    let of = |node: Node| {
        let config = node.load().unwrap().config;
        let monitors = ready(&node).unwrap().ready[0].monitor_cgroup.clone();
        (config.runtime.cgroup_manager.as_str(), monitors)
    };
    let asked = |name: &str| Node::with(&format!("[crio.runtime]\ncgroup_manager = \"{name}\"\n"));
    assert_eq!(
        of(Node::new().without_systemd()),
        ("cgroupfs", String::new())
    );
    let slice = || "system.slice".to_owned();
    assert_eq!(of(Node::new()), ("systemd", slice()));
    assert_eq!(of(asked("systemd").without_systemd()), ("systemd", slice()));
    assert_eq!(of(asked("cgroupfs")), ("cgroupfs", String::new()));
}
