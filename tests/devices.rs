//! Devices that a container is given: by request, configuration and annotation, and through CDI.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::cri::*;
use cricket_harness::{Node, requests};
use serde_json::json;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// What a command prints inside a container, both streams.
async fn shown(node: &Node, container: &str, command: &str) -> String {
    let reply = node
        .cri
        .exec(container, &["sh", "-c", command], 20)
        .await
        .unwrap();
    let text = [reply.stdout, reply.stderr].concat();
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

/// Starts a node whose configuration has this drop-in too.
async fn node_with(drop_in: &str) -> Node {
    let mut node = Node::start(CRICKET).await;
    std::fs::write(node.dir().join("crio.conf.d/10-test.conf"), drop_in).unwrap();
    node.crash().await;
    node
}

/// A sleeping container.
fn sleeper(name: &str, image: &str) -> ContainerConfig {
    requests::container(name, image, &["sleep", "1000"])
}

#[tokio::test]
async fn devices_come_from_request_configuration_and_annotation() {
    let node_config = r#"[crio.runtime]
additional_devices = ["/dev/zero:/dev/nought:r"]
allowed_devices = ["/dev/full"]
"#;
    let mut node = node_with(node_config).await;
    let image = node.busybox().await;
    let mut config = node.pod_config("devices");
    config.annotations.insert(
        "io.kubernetes.cri-o.Devices".into(),
        "/dev/full:/dev/filled:rw".into(),
    );
    let pod = node.cri.run_pod(&config).await.unwrap();
    let directory = node.dir().join("nodes");
    std::fs::create_dir_all(directory.join("deep")).unwrap();
    let (mode, kind) = (
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::SFlag::S_IFCHR,
    );
    for (name, minor) in [("null", 3), ("deep/zero", 5)] {
        nix::sys::stat::mknod(
            &directory.join(name),
            kind,
            mode,
            nix::sys::stat::makedev(1, minor),
        )
        .unwrap();
    }
    let device = |host: &str, container: &str, permissions: &str| Device {
        host_path: host.into(),
        container_path: container.into(),
        permissions: permissions.into(),
    };
    let directory = directory.to_string_lossy().into_owned();
    let mut container = sleeper("main", &image);
    container.devices = vec![
        device(&directory, "/dev/all", "rwm"),
        device("/dev/urandom", "/dev/luck", "r"),
    ];
    let id = node.run_in(&pod, &config, &container).await;
    let look = |path: &str| format!("stat -c '%t:%T' {path}");
    for (path, numbers) in [
        ("/dev/all/null", "1:3"),
        ("/dev/all/deep/zero", "1:5"),
        ("/dev/luck", "1:9"),
        ("/dev/nought", "1:5"),
        ("/dev/filled", "1:7"),
    ] {
        assert_eq!(shown(&node, &id, &look(path)).await, numbers, "{path}");
    }
    assert_eq!(shown(&node, &id, "head -c 3 /dev/luck | wc -c").await, "3");
    let full = shown(&node, &id, "echo x > /dev/filled").await;
    assert!(full.contains("No space left"), "{full}");
    // a kernel without the device controller would let it pass
    let allowed = shown(
        &node,
        &id,
        "mknod /dev/kmsg2 c 1 11 && head -c 1 /dev/kmsg2",
    )
    .await;
    assert!(allowed.contains("not permitted"), "{allowed}");

    let mut missing = sleeper("missing", &image);
    missing.devices = vec![device("/dev/no-such-device", "/dev/x", "rwm")];
    let error = node.cri.create(&pod, &missing, &config).await.unwrap_err();
    assert!(error.message().contains("/dev/no-such-device"), "{error:?}");
    let mut config = node.pod_config("greedy");
    config
        .annotations
        .insert("devices.crio.io".into(), "/dev/mem".into());
    let pod = node.cri.run_pod(&config).await.unwrap();
    let error = node
        .cri
        .create(&pod, &sleeper("greedy", &image), &config)
        .await
        .unwrap_err();
    assert!(error.message().contains("allowed_devices"), "{error:?}");
    node.finish().await;
}

#[tokio::test]
async fn cdi_devices_are_found_by_field_and_annotation_and_anew_for_each_container() {
    let mut node = Node::start(CRICKET).await;
    let specs = node.dir().join("cdi");
    let drop_in = format!("[crio.runtime]\ncdi_spec_dirs = [{specs:?}]\n");
    std::fs::write(node.dir().join("crio.conf.d/10-test.conf"), drop_in).unwrap();
    node.crash().await;
    let image = node.busybox().await;
    let config = node.pod_config("cdi");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let cdi = |name: &str| CdiDevice { name: name.into() };
    let mut container = sleeper("main", &image);
    container.cdi_devices = vec![cdi("vendor.com/gpu=0"), cdi("vendor.com/gpu=0")];
    container
        .annotations
        .insert("cdi.k8s.io/other".into(), "vendor.com/nic=eth".into());
    container.envs = vec![KeyValue {
        key: "GPU".into(),
        value: "none".into(),
    }];
    let error = node
        .cri
        .create(&pod, &container, &config)
        .await
        .unwrap_err();
    assert!(
        error
            .message()
            .contains("unresolvable device vendor.com/gpu=0"),
        "{error:?}"
    );

    std::fs::create_dir(&specs).unwrap();
    let (library, trace) = (node.dir().join("library"), node.dir().join("hook-ran"));
    std::fs::write(&library, "code").unwrap();
    let gpu = json!({"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
        "containerEdits": {"mounts": [{"hostPath": library, "containerPath": "/usr/lib/gpu/code",
            "options": ["ro", "nosuid", "nodev", "bind"]}]},
        "devices": [{"name": "0", "containerEdits": {
            "env": ["GPU=0"], "additionalGids": [4444],
            "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/zero", "permissions": "r"}],
            "hooks": [{"hookName": "createRuntime", "path": "/bin/touch",
                "args": ["touch", trace]}]}}]});
    std::fs::write(specs.join("gpu.json"), gpu.to_string()).unwrap();
    std::fs::write(specs.join("broken.json"), "{").unwrap();
    let nic = "cdiVersion: 0.6.0\nkind: vendor.com/nic\ndevices:\n- name: eth\n  containerEdits:\n    env: [NIC=eth]\n";
    std::fs::write(specs.join("nic.yaml"), nic).unwrap();
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(
        shown(
            &node,
            &id,
            "echo $GPU $NIC; cat /usr/lib/gpu/code; echo; head -c 1 /dev/gpu0 | wc -c"
        )
        .await,
        "0 eth\ncode\n1"
    );
    let groups = shown(&node, &id, "grep ^Groups: /proc/1/status").await;
    assert!(groups.contains("4444"), "{groups}");
    assert!(trace.exists(), "the hook ran");
    let write = shown(&node, &id, "echo x > /usr/lib/gpu/code").await;
    assert!(write.contains("Read-only"), "{write}");
    assert!(
        node.daemon.log().contains("broken.json"),
        "{}",
        node.daemon.log()
    );

    let mut bad = sleeper("bad", &image);
    bad.cdi_devices = vec![cdi("vendor.com/gpu")];
    let error = node.cri.create(&pod, &bad, &config).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("CDI_devices[0].name"), "{error:?}");
    node.finish().await;
}
