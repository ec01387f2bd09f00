//! Which source wins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Node;
use crate::config::place::Origin;
use crate::config::{LogFormat, default_file, effective_file, handlers};

#[test]
fn later_sources_win_and_say_so() {
    let key = |text: &str| format!("[crio]\nlog_dir = \"/{text}\"\n");
    let node = Node::new();
    let loaded = node.load().unwrap();
    assert_eq!(loaded.config.log_dir, Path::new("/var/log/crio/pods"));
    assert_eq!(*loaded.origins.of("crio.log_dir"), Origin::Default);

    let node = node.file("crio.conf", &key("file"));
    let loaded = node.load().unwrap();
    assert_eq!(loaded.config.log_dir, Path::new("/file"));
    let place = format!("{}/crio.conf:2:1", node.root().display());
    assert_eq!(loaded.origins.of("crio.log_dir").to_string(), place);

    let node = node.file("crio.conf.d/20-b.conf", &key("second"));
    let node = node.file("crio.conf.d/10-a.conf", &key("first"));
    assert_eq!(node.load().unwrap().config.log_dir, Path::new("/second"));

    let node = node.variable("CONTAINER_LOG_DIR", "/variable");
    let loaded = node.load().unwrap();
    assert_eq!(loaded.config.log_dir, Path::new("/variable"));
    assert_eq!(
        loaded.origins.of("crio.log_dir").to_string(),
        "$CONTAINER_LOG_DIR"
    );

    let node = node.with_flag("log-dir", &["/flag"]);
    let loaded = node.load().unwrap();
    assert_eq!(loaded.config.log_dir, Path::new("/flag"));
    assert_eq!(loaded.origins.of("crio.log_dir").to_string(), "--log-dir");
}

#[test]
fn an_empty_variable_is_no_variable() {
    let node = Node::new().variable("CONTAINER_ROOT", "");
    assert_eq!(
        node.load().unwrap().config.root,
        Path::new("/var/lib/containers/storage")
    );
}

#[test]
fn values_arrive_in_their_types() {
    let loaded = Node::with(
        "[crio]\nimagestore = \"\"\n\
         [crio.api]\nstream_port = \"10010\"\nstream_idle_timeout = \"1h30m\"\n\
         [crio.image]\npull_progress_timeout = \"1.5s\"\n\
         [crio.runtime]\ndefault_ulimits = [\"nofile=1024:2048\", \"core=-1\"]\n\
         default_env = [\"A=b=c\"]\nadditional_devices = [\"/dev/fuse:/dev/f:rw\"]\n\
         default_capabilities = [\"CAP_NET_RAW\", \"chown\"]\n\
         [crio.runtime.runtimes.runc]\ncontainer_min_memory = \"24MiB\"\n\
         platform_runtime_paths = { \"linux/arm64\" = \"/usr/bin/arm-runc\" }\n",
    )
    .load()
    .unwrap();
    let config = loaded.config;
    assert_eq!(config.imagestore, None);
    assert_eq!(config.api.stream_port.0, 10010);
    assert_eq!(
        config.api.stream_idle_timeout,
        Some(Duration::from_secs(5400))
    );
    assert_eq!(
        config.image.pull_progress_timeout,
        Duration::from_millis(1500)
    );
    let limits = &config.runtime.default_ulimits;
    assert_eq!(
        (limits[0].kind.as_str(), limits[0].soft, limits[0].hard),
        ("RLIMIT_NOFILE", 1024, 2048)
    );
    assert_eq!((limits[1].soft, limits[1].hard), (u64::MAX, u64::MAX));
    assert_eq!(config.runtime.default_env[0].value, "b=c");
    assert_eq!(config.runtime.additional_devices[0].access, "rw");
    let names: Vec<_> = config
        .runtime
        .default_capabilities
        .iter()
        .map(|cap| cap.0.as_str())
        .collect();
    assert_eq!(names, ["CAP_NET_RAW", "CAP_CHOWN"]);
    let runc = &config.runtime.runtimes["runc"];
    assert_eq!(runc.container_min_memory.0, 24 << 20);
    assert_eq!(
        runc.platform_runtime_paths["linux/arm64"],
        "/usr/bin/arm-runc"
    );
}

#[test]
fn a_list_of_a_later_file_replaces_the_list_and_flags_take_commas() {
    let text = "[crio.network]\nplugin_dirs = [\"/a\", \"/b\"]\n";
    let node = Node::with(text).file("crio.conf.d/1", "[crio.network]\nplugin_dirs = [\"/c\"]\n");
    assert_eq!(
        node.load().unwrap().config.network.plugin_dirs,
        [Path::new("/c")]
    );
    let node = node.with_flag("cni-plugin-dir", &["/d, /e"]);
    assert_eq!(
        node.load().unwrap().config.network.plugin_dirs,
        ["/d", "/e"].map(PathBuf::from)
    );
    let node = node.with_flag("cni-plugin-dir", &["/f", "/g"]);
    assert_eq!(
        node.load().unwrap().config.network.plugin_dirs,
        ["/f", "/g"].map(PathBuf::from)
    );
}

#[test]
fn a_handler_of_a_later_file_replaces_the_whole_handler() {
    let table = "[crio.runtime.runtimes.kata]\n";
    let node = Node::with(&format!(
        "{table}runtime_path = \"/a\"\nmonitor_cgroup = \"pod\"\n"
    ))
    .file(
        "crio.conf.d/1",
        &format!("{table}runtime_root = \"/run/b\"\n"),
    );
    let loaded = node.load().unwrap();
    let kata = &loaded.config.runtime.runtimes["kata"];
    assert_eq!(
        (kata.runtime_path.clone(), kata.monitor_cgroup.as_str()),
        (None, "")
    );
    assert!(
        loaded
            .origins
            .is_default("crio.runtime.runtimes.kata.runtime_path")
    );
    assert!(
        !loaded
            .origins
            .is_default("crio.runtime.runtimes.kata.runtime_root")
    );
}

#[test]
fn handlers_come_from_the_runtimes_flag_too() {
    let flag = "fast:/usr/bin/fast:/run/fast:oci:true::20MiB";
    let loaded = Node::new().with_flag("runtimes", &[flag]).load().unwrap();
    let fast = &loaded.config.runtime.runtimes["fast"];
    assert_eq!(
        fast.runtime_path.as_deref(),
        Some(Path::new("/usr/bin/fast"))
    );
    assert!(fast.privileged_without_host_devices);
    assert_eq!(fast.container_min_memory.0, 20 << 20);
    for wrong in [
        "fast",
        "fast:/a",
        ":/a:/b",
        "fast:a:/b",
        "a:/b:/c:oci:true::1M:x",
    ] {
        assert!(
            Node::new().with_flag("runtimes", &[wrong]).load().is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn process_options_come_from_flags_and_variables_only() {
    let loaded = Node::new()
        .with_flag("log-format", &["json"])
        .variable("CONTAINER_LOG", "/var/log/cricket.log")
        .load()
        .unwrap();
    assert_eq!(loaded.options.log_format, LogFormat::Json);
    assert_eq!(
        loaded.options.log.as_deref(),
        Some(Path::new("/var/log/cricket.log"))
    );
}

#[test]
fn a_configuration_of_cri_o_loads_without_a_word_and_its_handlers_are_found() {
    // What CRI-O's packages install, in substance: every line that is not a comment there.
    let text = "[crio]\ninternal_wipe = true\n[crio.api]\n[crio.runtime]\n\
         default_runtime = \"crun\"\n[crio.runtime.runtimes.crun]\n\
         runtime_path = \"/usr/libexec/crio/crun\"\nruntime_root = \"/run/crun\"\n\
         monitor_path = \"/usr/libexec/crio/conmon\"\n[crio.runtime.runtimes.runc]\n\
         runtime_path = \"/usr/libexec/crio/runc\"\nruntime_root = \"/run/runc\"\n\
         [crio.image]\nsignature_policy = \"/etc/crio/policy.json\"\n[crio.network]\n\
         [crio.metrics]\n[crio.tracing]\n[crio.stats]\n[crio.nri]\n";
    let node = Node::with(text);
    assert_eq!(node.complaints(), "");
    // Its programs go with the package, the file stays.
    let found = handlers(&node.load().unwrap()).unwrap();
    assert_eq!(found.default, "crun");
    for (handler, name) in found.ready.iter().zip(["crun", "runc"]) {
        assert_eq!(handler.name, name);
        let own = Path::new("/usr/libexec/crio").join(name);
        let expected = if own.exists() {
            own
        } else {
            node.path("bin").join(name)
        };
        assert_eq!(handler.runtime_path, expected);
        assert_eq!(handler.runtime_root, Path::new("/run").join(name));
        assert_eq!(handler.monitor_path, node.path("usr/lib/cricket/conmon"));
    }
    assert_eq!(found.ready.len(), 2);
}

#[test]
fn integers_may_be_written_as_toml_writes_them() {
    for number in ["9_095", "0x2387", "+9095", "0b10001110000111"] {
        let node = Node::with(&format!("[crio.metrics]\nmetrics_port = {number}\n"));
        assert_eq!(
            node.load().unwrap().config.metrics.metrics_port,
            9095,
            "{number}"
        );
    }
}

#[test]
fn selinux_follows_the_kernel_unless_somebody_has_said_otherwise() {
    let of = |node: Node| {
        let loaded = node.load().unwrap();
        let by_machine = loaded.origins.of_machine("crio.runtime.selinux");
        (loaded.config.runtime.selinux, by_machine)
    };
    assert_eq!(of(Node::new()), (false, false));
    assert_eq!(of(Node::new().with_selinux()), (true, true));
    for said in [false, true] {
        let text = format!("[crio.runtime]\nselinux = {said}\n");
        assert_eq!(of(Node::with(&text).with_selinux()), (said, false));
        let node = Node::new().variable("CONTAINER_SELINUX", &said.to_string());
        assert_eq!(of(node.with_selinux()), (said, false));
    }
    // It is told where the value comes from, and that is no reason to warn.
    let node = Node::new().with_selinux();
    assert_eq!(node.complaints(), "");
    let text = effective_file(&node.load().unwrap());
    let told = "# (from this machine: its kernel has SELinux on)\nselinux = true\n";
    assert!(text.contains(told), "{text}");
    // The file of defaults is the same on every machine.
    assert!(default_file().contains("\n#selinux = false\n"));
}
