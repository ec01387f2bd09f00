//! Handlers side by side, chosen by the name of a RuntimeClass; workloads; what the node gives to
//! every container: limits, parameters, variables.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cricket_harness::cri::*;
use cricket_harness::hostile::Fixture;
use cricket_harness::image::{Compression, Image};
use cricket_harness::layer::Layer;
use cricket_harness::{Node, requests, tools};
use serde_json::{Value, json};
use tonic::Code;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// A node whose configuration has these tables too.
async fn node_with(tables: impl FnOnce(&Path) -> String) -> Node {
    let mut node = Node::start(CRICKET).await;
    let tables = tables(node.dir());
    fs::write(node.dir().join("crio.conf.d/10-test.conf"), tables).unwrap();
    node.crash().await;
    node
}

fn sleeper(name: &str, image: &str) -> ContainerConfig {
    requests::container(name, image, &["sleep", "1000"])
}

/// The OCI configuration that the runtime was given.
fn spec(node: &Node, container: &str) -> Value {
    let bundle = node.daemon.runroot().join("containers").join(container);
    serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap()
}

/// What a command prints inside a container, both streams.
async fn shown(node: &Node, container: &str, command: &str) -> String {
    let reply = node.cri.exec(container, &["sh", "-c", command], 20).await;
    let reply = reply.unwrap();
    let text = [reply.stdout, reply.stderr].concat();
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

/// An OCI runtime that notes that it was called, and is that of the other tests.
fn wrapper(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    let runc =
        std::env::var_os("CRICKET_TEST_RUNTIME").map_or_else(|| tools::need("runc"), PathBuf::from);
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {}\nexec {} \"$@\"\n",
        dir.join(format!("{name}.calls")).display(),
        runc.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A node with a handler that allows little, and one whose program is not there.
async fn strict_node() -> Node {
    node_with(|dir| {
        let profile = dir.join("strict.json");
        let deny = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]});
        fs::write(&profile, deny.to_string()).unwrap();
        let other = wrapper(dir, "other-runc");
        format!(
            r#"[crio.runtime.runtimes.strict]
runtime_path = {other:?}
runtime_root = "{dir}/run/strict"
monitor_cgroup = "pod"
seccomp_profile = {profile:?}
allowed_annotations = ["run.oci.keep"]
default_annotations = {{ "team" = "nobody", "run.oci.handler" = "plain" }}
[crio.runtime.runtimes.gone]
runtime_path = "{dir}/no-such-runtime"
"#,
            dir = dir.display()
        )
    })
    .await
}

#[tokio::test]
async fn each_pod_has_the_handler_of_its_class_and_what_that_allows() {
    let mut node = strict_node().await;
    let image = node.busybox().await;
    let log = node.daemon.log();
    assert!(
        log.contains("no-such-runtime") && log.contains("is left out"),
        "{log}"
    );
    for (handler, state, seccomp, team, asked) in [
        ("", "runc", "", "a", Value::Null),
        ("strict", "strict", "not permitted", "a", json!("yes")),
    ] {
        let mut config = node.pod_config(&format!("on-{state}"));
        for (key, value) in [
            ("team", "a"),
            ("run.oci.keep", "yes"),
            ("run.oci.hooks.stderr", "/tmp/x"),
            ("devices.crio.io", "/dev/fuse"),
        ] {
            config.annotations.insert(key.into(), value.into());
        }
        // allowed on the default handler, and /dev/fuse may not be on this machine
        if handler.is_empty() {
            config.annotations.remove("devices.crio.io");
        }
        let pod = node.cri.run_pod_with(&config, handler).await.unwrap();
        let mut container = sleeper("main", &image);
        requests::security(&mut container).seccomp = Some(SecurityProfile {
            profile_type: security_profile::ProfileType::RuntimeDefault.into(),
            ..Default::default()
        });
        let id = node.run_in(&pod, &config, &container).await;
        assert!(
            node.dir().join("run").join(state).join(&id).is_dir(),
            "{id} is in the state of {state}"
        );
        let annotations = &spec(&node, &id)["annotations"];
        assert_eq!(annotations["team"], team, "{handler}: the pod's own wins");
        assert_eq!(annotations["run.oci.keep"], asked, "{handler}");
        assert_eq!(
            annotations["run.oci.hooks.stderr"],
            Value::Null,
            "{handler}"
        );
        let of_handler = match handler {
            "" => Value::Null,
            _ => json!("plain"),
        };
        assert_eq!(annotations["run.oci.handler"], of_handler, "{handler}");
        let linked = shown(&node, &id, "ln -s a /l").await;
        assert_eq!(linked.is_empty(), seccomp.is_empty(), "{handler}: {linked}");
        assert!(linked.contains(seccomp), "{handler}: {linked}");
        // what a client sent, it gets back
        let status = node.cri.pod(&pod).await.unwrap();
        assert_eq!(status.annotations, config.annotations);
    }
    let calls = fs::read_to_string(node.dir().join("other-runc.calls")).unwrap();
    assert!(calls.contains(" create "), "{calls}");
    let error = node
        .cri
        .run_pod_with(&node.pod_config("none"), "gone")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    assert!(
        error.message().contains("gone") && error.message().contains("strict"),
        "{error:?}"
    );
    // a daemon that comes back ends each with the runtime that made it
    node.crash().await;
    node.finish().await;
}

#[tokio::test]
async fn an_image_of_another_platform_is_run_by_the_program_for_it() {
    let foreign = match cricket_harness::image::architecture() {
        "arm64" => "amd64",
        _ => "arm64",
    };
    let node = node_with(|dir| {
        let emulator = wrapper(dir, "emulator");
        let text = fs::read_to_string(dir.join("crio.conf")).unwrap();
        let table = "[crio.runtime.runtimes.runc]\n";
        let paths = format!(
            "{table}platform_runtime_paths = {{ \"linux/{foreign}\" = {emulator:?}, \
             \"linux/s390x\" = \"/nonexistent/emulator\" }}\n"
        );
        fs::write(dir.join("crio.conf"), text.replace(table, &paths)).unwrap();
        String::new()
    })
    .await;
    let fixture = Fixture::start(node.net(), 5001);
    let busybox = fs::read(tools::need("busybox")).unwrap();
    let image = |architecture: &str| {
        let layer = Layer::new().file("sleep", 0o755, &busybox);
        Image::builder()
            .architecture(architecture)
            .layer(layer, Compression::Gzip)
            .build()
    };
    let config = node.pod_config("platforms");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let calls = || fs::read_to_string(node.dir().join("emulator.calls")).unwrap_or_default();
    for (architecture, emulated) in [
        (cricket_harness::image::architecture(), false),
        (foreign, true),
    ] {
        let name = fixture.push("tool", architecture, &image(architecture));
        node.cri.pull(&name).await.unwrap();
        let container = requests::container(architecture, &name, &["/sleep", "1000"]);
        let id = node.run_in(&pod, &config, &container).await;
        assert_eq!(
            calls().contains(&id),
            emulated,
            "{architecture}: {}",
            calls()
        );
        node.cri.stop(&id, 0).await.unwrap();
        node.cri.remove(&id).await.unwrap();
        let deleted = calls()
            .lines()
            .any(|call| call.contains("delete") && call.contains(&id));
        assert_eq!(deleted, emulated, "{architecture}: {}", calls());
    }
    let name = fixture.push("tool", "s390x", &image("s390x"));
    node.cri.pull(&name).await.unwrap();
    let container = requests::container("s390x", &name, &["/sleep", "1000"]);
    let error = node
        .cri
        .create(&pod, &container, &config)
        .await
        .unwrap_err();
    assert!(
        error.message().contains("/nonexistent/emulator"),
        "{error:?}"
    );
    node.finish().await;
}

const MANAGEMENT: &str = r#"[crio.runtime.workloads.management]
activation_annotation = "target.workload.example.com/management"
annotation_prefix = "resources.workload.example.com"
allowed_annotations = ["run.oci."]
[crio.runtime.workloads.management.resources]
cpushares = 300
cpuset = "0"
"#;

/// A pod of the workload.
fn management(node: &Node, name: &str, annotations: &[(&str, &str)]) -> PodSandboxConfig {
    let mut config = node.pod_config(name);
    let activation = ("target.workload.example.com/management", "{}");
    for (key, value) in annotations.iter().chain([&activation]) {
        config.annotations.insert((*key).into(), (*value).into());
    }
    config
}

/// The cpu section of a spec: shares, quota, cpus.
fn cpu(spec: &Value) -> (Value, Value, Value) {
    let cpu = &spec["linux"]["resources"]["cpu"];
    (
        cpu["shares"].clone(),
        cpu["quota"].clone(),
        cpu["cpus"].clone(),
    )
}

#[tokio::test]
async fn a_pod_of_a_workload_gets_its_processors_and_shares() {
    let mut node = node_with(|_| MANAGEMENT.to_owned()).await;
    let image = node.busybox().await;
    let mut config = management(
        &node,
        "pinned",
        &[
            (
                "resources.workload.example.com/own",
                r#"{"cpushares": 20, "cpulimit": 500}"#,
            ),
            ("resources.workload.example.com/POD", r#"{"cpushares": 7}"#),
            ("run.oci.keep", "yes"),
        ],
    );
    requests::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = node.cri.run_pod(&config).await.unwrap();
    let pause = node
        .daemon
        .runroot()
        .join("sandboxes")
        .join(&pod)
        .join("pause/config.json");
    let pause: Value = serde_json::from_slice(&fs::read(pause).unwrap()).unwrap();
    assert_eq!(cpu(&pause), (json!(7), Value::Null, json!("0")));
    for (name, want) in [
        ("plain", (json!(300), Value::Null, json!("0"))),
        ("own", (json!(20), json!(50_000), json!("0"))),
    ] {
        let mut container = sleeper(name, &image);
        let security = requests::security(&mut container);
        security.namespace_options = Some(NamespaceOption::default());
        let id = node.run_in(&pod, &config, &container).await;
        let spec = spec(&node, &id);
        assert_eq!(cpu(&spec), want, "{name}");
        assert_eq!(spec["annotations"]["run.oci.keep"], "yes");
        let list = shown(&node, &id, "grep Cpus_allowed_list /proc/self/status").await;
        assert_eq!(list.split_whitespace().last(), Some("0"), "{list}");
        let status = node.cri.container(&id).await.unwrap();
        let told = status.resources.unwrap().linux.unwrap();
        assert_eq!(json!(told.cpu_shares), want.0, "what is in force is told");
    }
    let config = node.pod_config("elsewhere");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let id = node.run_in(&pod, &config, &sleeper("main", &image)).await;
    assert_eq!(cpu(&spec(&node, &id)), (json!(2), Value::Null, Value::Null));
    node.finish().await;
}

#[tokio::test]
async fn an_annotation_of_a_workload_that_is_not_understood_refuses_that_container_alone() {
    let mut node = node_with(|_| MANAGEMENT.to_owned()).await;
    let image = node.busybox().await;
    let config = management(
        &node,
        "mistaken",
        &[
            ("resources.workload.example.com/bad", r#"{"cpushares": -1}"#),
            (
                "resources.workload.example.com/huge",
                r#"{"cpushares": 999999}"#,
            ),
        ],
    );
    let pod = node.cri.run_pod(&config).await.unwrap();
    for (name, want) in [
        (
            "bad",
            "annotation resources.workload.example.com/bad: invalid value",
        ),
        (
            "huge",
            "annotation resources.workload.example.com/huge: cpushares: 999999 is not between",
        ),
    ] {
        let error = node
            .cri
            .create(&pod, &sleeper(name, &image), &config)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert!(error.message().contains(want), "{error:?}");
    }
    node.run_in(&pod, &config, &sleeper("good", &image)).await;
    node.finish().await;
}

#[tokio::test]
async fn limits_parameters_and_variables_of_the_node_are_in_every_container() {
    let mut node = node_with(|_| {
        r#"[crio.runtime]
default_ulimits = ["nofile=512:1024", "core=0:0"]
default_sysctls = ["net.ipv4.ping_group_range=0 7", "kernel.shm_rmid_forced=1"]
default_env = ["HTTP_PROXY=http://proxy.example:3128", "LEVEL=node"]
"#
        .to_owned()
    })
    .await;
    let image = node.busybox().await;
    let mut config = node.pod_config("defaults");
    let linux = config.linux.get_or_insert_default();
    linux
        .sysctls
        .insert("kernel.shm_rmid_forced".into(), "0".into());
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = sleeper("main", &image);
    container.envs = vec![KeyValue {
        key: "LEVEL".into(),
        value: "pod".into(),
    }];
    let id = node.run_in(&pod, &config, &container).await;
    for (command, want) in [
        // of the container's own process: to a command, an older runc may give the hard limit
        // as the soft one (opencontainers/runc#4195)
        (
            "awk '/open files|core file/ {print $1, $(NF-2), $(NF-1)}' /proc/1/limits",
            "Max 0 0\nMax 512 1024",
        ),
        (
            "cat /proc/sys/net/ipv4/ping_group_range | tr '\\t' ' '",
            "0 7",
        ),
        ("cat /proc/sys/kernel/shm_rmid_forced", "0"),
        ("echo $HTTP_PROXY $LEVEL", "http://proxy.example:3128 pod"),
    ] {
        assert_eq!(shown(&node, &id, command).await, want, "{command}");
    }
    node.finish().await;
}

#[tokio::test]
async fn two_runtimes_with_one_name_in_a_file_are_refused_with_their_line() {
    let node = Node::start(CRICKET).await;
    let file = node.daemon.config_file();
    let text = fs::read_to_string(&file).unwrap();
    let twice = format!("{text}\n[crio.runtime.runtimes.runc]\nruntime_path = \"/bin/true\"\n");
    let line = twice.lines().count() - 1;
    fs::write(&file, twice).unwrap();
    let output = tools::output(node.daemon.command().args(["config", "--check"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        said.contains(&format!("crio.conf:{line}:")) && said.contains("duplicate"),
        "{said}"
    );
    fs::write(&file, text).unwrap();
    node.finish().await;
}
