//! Containers: what they run as, what they may use, how they end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::cri::*;
use cricket_harness::image::{Compression, Image};
use cricket_harness::{Node, cgroups, requests, samples};
use serde_json::json;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// What a command prints inside a container.
async fn shown(node: &Node, container: &str, command: &str) -> String {
    let reply = node
        .cri
        .exec(container, &["sh", "-c", command], 20)
        .await
        .unwrap();
    assert_eq!(
        reply.exit_code,
        0,
        "{command}: {}",
        String::from_utf8_lossy(&reply.stderr)
    );
    String::from_utf8(reply.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

#[tokio::test]
async fn exit_codes_times_and_reasons_are_recorded() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("exits");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let cases = [
        ("exit 0", 0, "Completed"),
        ("exit 3", 3, "Error"),
        ("exit 255", 255, "Error"),
    ];
    for (at, (script, code, reason)) in cases.into_iter().enumerate() {
        let container = requests::container(&format!("c{at}"), &image, &["sh", "-c", script]);
        let id = node.cri.create(&pod, &container, &config).await.unwrap();
        let created = node.cri.container(&id).await.unwrap();
        assert_eq!(created.state(), ContainerState::ContainerCreated);
        assert_eq!((created.started_at, created.finished_at), (0, 0));
        node.cri.start(&id).await.unwrap();
        let status = node.cri.exited(&id).await;
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (code, reason),
            "{script}"
        );
        assert!(
            status.created_at > 0 && status.created_at <= status.started_at,
            "{status:?}"
        );
        assert!(status.started_at <= status.finished_at, "{status:?}");
        assert_eq!(status.labels, container.labels);
        assert_eq!(status.annotations, container.annotations);
    }
    node.finish().await;
}

#[tokio::test]
async fn stop_gives_the_grace_it_was_asked_for_and_then_kills() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let ready = "touch /tmp/ready; while true; do sleep 0.05; done";
    let polite = format!("trap 'exit 7' TERM; {ready}");
    let deaf = format!("trap '' TERM; {ready}");
    let (pod, first, config) = node.run("stops", &image, &["sh", "-c", &polite]).await;
    let second = requests::container("deaf", &image, &["sh", "-c", &deaf]);
    let second = node.run_in(&pod, &config, &second).await;
    for (id, grace, code) in [(&first, 20, 7), (&second, 1, 137)] {
        shown(&node, id, "until [ -e /tmp/ready ]; do sleep 0.01; done").await;
        node.cri.stop(id, grace).await.unwrap();
        let status = node.cri.container(id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerExited);
        assert_eq!(status.exit_code, code);
        node.cri
            .stop(id, grace)
            .await
            .expect("stopping what has stopped is no error");
    }
    node.cri
        .stop(&"0".repeat(64), 1)
        .await
        .expect("nor is stopping what is not there");
    node.finish().await;
}

#[tokio::test]
async fn the_stop_signal_of_the_image_is_used() {
    let mut node = Node::start(CRICKET).await;
    let image = Image::builder()
        .layer(samples::busybox_layer(), Compression::Gzip)
        .set("StopSignal", json!("SIGUSR1"))
        .build();
    let image = node.registry().push("signal", "1", &image);
    node.cri.pull(&image).await.unwrap();
    let script = "trap 'exit 9' USR1; touch /tmp/ready; while true; do sleep 0.05; done";
    let (_, id, _) = node.run("signal", &image, &["sh", "-c", script]).await;
    shown(&node, &id, "until [ -e /tmp/ready ]; do sleep 0.01; done").await;
    node.cri.stop(&id, 20).await.unwrap();
    assert_eq!(node.cri.container(&id).await.unwrap().exit_code, 9);
    node.finish().await;
}

#[tokio::test]
async fn a_container_beyond_its_memory_limit_is_reported_as_oom_killed() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("oom");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("main", &image, &["tail", "/dev/zero"]);
    requests::resources(&mut container).memory_limit_in_bytes = 24 << 20;
    let id = node.run_in(&pod, &config, &container).await;
    let status = node.cri.exited(&id).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled")
    );
    node.finish().await;
}

#[tokio::test]
async fn command_arguments_environment_and_directory_merge_with_the_image() {
    let mut node = Node::start(CRICKET).await;
    let image = Image::builder()
        .layer(
            samples::busybox_layer().dir("work", 0o755),
            Compression::Gzip,
        )
        .set(
            "Entrypoint",
            json!(["sh", "-c", "echo $0 $A $B; pwd; exec sleep 1000"]),
        )
        .set("Cmd", json!(["from-image"]))
        .set("Env", json!(["PATH=/bin", "A=image", "B=image"]))
        .set("WorkingDir", json!("/work"))
        .build();
    let image = node.registry().push("merge", "1", &image);
    node.cri.pull(&image).await.unwrap();
    let config = node.pod_config("merge");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let env = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: value.into(),
    };
    let cases = [
        (
            "image",
            vec![],
            vec![],
            "",
            "from-image image image\n/work\n",
        ),
        (
            "args",
            vec!["mine"],
            vec![env("B", "pod")],
            "/tmp",
            "mine image pod\n/tmp\n",
        ),
    ];
    for (name, args, envs, directory, expected) in cases {
        let mut container = requests::container(name, &image, &[]);
        container.args = args.into_iter().map(String::from).collect();
        container.envs = envs;
        container.working_dir = directory.into();
        node.run_in(&pod, &config, &container).await;
        let file = node.log_file(&config, name);
        node.until("two lines are logged", || {
            std::fs::read_to_string(&file).unwrap().lines().count() == 2
        })
        .await;
        let text: String = node
            .log_records(&file)
            .into_iter()
            .map(|(_, _, text)| text + "\n")
            .collect();
        assert_eq!(text, expected, "{name}");
    }
    node.finish().await;
}

#[tokio::test]
async fn users_come_from_the_request_or_the_image_and_are_looked_up_in_it() {
    let mut node = Node::start(CRICKET).await;
    let image = Image::builder()
        .layer(samples::busybox_layer(), Compression::Gzip)
        .set("User", json!("guest"))
        .build();
    let image = node.registry().push("user", "1", &image);
    node.cri.pull(&image).await.unwrap();
    let listed = node.cri.image(&image).await.unwrap().unwrap();
    assert_eq!((listed.username.as_str(), listed.uid), ("guest", None));
    let (pod, id, config) = node.run("user", &image, &["sleep", "1000"]).await;
    assert_eq!(
        shown(&node, &id, "id -u; id -g; id -G").await,
        "1002\n1003\n1003 100"
    );
    let mut other = requests::container("other", &image, &["sleep", "1000"]);
    let security = requests::security(&mut other);
    security.run_as_user = Some(Int64Value { value: 65534 });
    security.run_as_group = Some(Int64Value { value: 7 });
    security.supplemental_groups = vec![11];
    let other = node.run_in(&pod, &config, &other).await;
    assert_eq!(
        shown(&node, &other, "id -u; id -g; id -G").await,
        "65534\n7\n7 11"
    );
    node.finish().await;
}

#[tokio::test]
async fn mounts_are_bound_read_only_where_asked_and_missing_sources_made() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let host = node.dir().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("word"), "outside").unwrap();
    let missing = node.dir().join("not-yet/there");
    let config = node.pod_config("mounts");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    container.mounts = vec![
        requests::mount(&host, "/rw", false),
        requests::mount(&host, "/ro", true),
        requests::mount(&missing, "/made", false),
    ];
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(
        shown(
            &node,
            &id,
            "cat /ro/word; echo inside > /rw/word; cat /ro/word"
        )
        .await,
        { "outsideinside" }
    );
    let refused = node.cri.exec(&id, &["touch", "/ro/x"], 10).await.unwrap();
    assert_ne!(refused.exit_code, 0);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("Read-only"),
        "{refused:?}"
    );
    assert!(missing.is_dir());
    let mounts = node.cri.container(&id).await.unwrap().mounts;
    assert_eq!(mounts.len(), 3, "{mounts:?}");
    node.finish().await;
}

#[tokio::test]
async fn privileges_are_no_more_than_was_asked_for() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("caps");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let field = |name: &str| format!("grep ^{name}: /proc/1/status | cut -f2");
    let runtime_default = SecurityProfile::default();

    let mut container = requests::container("default", &image, &["sleep", "1000"]);
    requests::security(&mut container).seccomp = Some(runtime_default);
    let id = node.run_in(&pod, &config, &container).await;
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE
    assert_eq!(
        shown(&node, &id, &field("CapEff")).await,
        "00000000000005fb"
    );
    assert_eq!(shown(&node, &id, &field("Seccomp")).await, "2");
    assert_eq!(
        shown(&node, &id, "cat /proc/kcore | wc -c").await,
        "0",
        "masked"
    );
    let sysctl = node
        .cri
        .exec(&id, &["sh", "-c", "echo 1 > /proc/sys/vm/swappiness"], 10)
        .await;
    assert_ne!(sysctl.unwrap().exit_code, 0, "read-only path");

    let mut container = requests::container("none", &image, &["sleep", "1000"]);
    let security = requests::security(&mut container);
    security.capabilities = Some(Capability {
        drop_capabilities: vec!["ALL".into()],
        ..Default::default()
    });
    security.no_new_privs = true;
    security.readonly_rootfs = true;
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(
        shown(&node, &id, &field("CapEff")).await,
        "0000000000000000"
    );
    assert_eq!(shown(&node, &id, &field("NoNewPrivs")).await, "1");
    assert_eq!(
        shown(&node, &id, &field("Seccomp")).await,
        "0",
        "no profile means unconfined"
    );
    assert_ne!(
        node.cri
            .exec(&id, &["touch", "/x"], 10)
            .await
            .unwrap()
            .exit_code,
        0
    );

    let mut container = requests::container("added", &image, &["sleep", "1000"]);
    requests::security(&mut container).capabilities = Some(Capability {
        drop_capabilities: vec!["ALL".into()],
        add_capabilities: vec!["NET_ADMIN".into()],
        ..Default::default()
    });
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(
        shown(&node, &id, &field("CapEff")).await,
        "0000000000001000"
    );
    node.finish().await;
}

#[tokio::test]
async fn a_privileged_container_needs_a_privileged_pod() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    requests::security(&mut container).privileged = true;
    let config = node.pod_config("plain");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let error = node
        .cri
        .create(&pod, &container, &config)
        .await
        .unwrap_err();
    assert!(error.message().contains("privileged"), "{error:?}");
    let mut config = node.pod_config("privileged");
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().privileged = true;
    let pod = node.cri.run_pod(&config).await.unwrap();
    // what a device plugin asks for is one of the host's
    container.devices = vec![Device {
        container_path: "/dev/full".into(),
        host_path: "/dev/full".into(),
        permissions: "rw".into(),
    }];
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(shown(&node, &id, "stat -c %t:%T /dev/full").await, "1:7");
    assert_eq!(
        shown(&node, &id, "grep ^Seccomp: /proc/1/status | cut -f2").await,
        "0"
    );
    assert_eq!(
        shown(&node, &id, "test -e /dev/mem || test -e /dev/kmsg; echo $?").await,
        "0"
    );
    node.finish().await;
}

#[tokio::test]
async fn limits_are_set_in_a_cgroup_below_the_pods() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("limits");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    requests::resources(&mut container).memory_limit_in_bytes = 64 << 20;
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(cgroups::memory_limit(&id), Some(64 << 20));
    node.finish().await;
}

#[tokio::test]
async fn usage_is_reported_with_the_containers_names() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, id, _) = node
        .run("stats", &image, &["sh", "-c", "echo x > /f; sleep 1000"])
        .await;
    let request = ContainerStatsRequest {
        container_id: id.clone(),
    };
    let stats = node
        .cri
        .container_stats(request)
        .await
        .unwrap()
        .stats
        .unwrap();
    let attributes = stats.attributes.unwrap();
    assert_eq!(attributes.id, id);
    assert_eq!(attributes.metadata.unwrap().name, "main");
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let filter = ContainerStatsFilter {
        pod_sandbox_id: pod,
        ..Default::default()
    };
    let request = ListContainerStatsRequest {
        filter: Some(filter),
    };
    assert_eq!(
        node.cri
            .list_container_stats(request)
            .await
            .unwrap()
            .stats
            .len(),
        1
    );
    node.finish().await;
}

#[tokio::test]
async fn each_container_writes_into_a_layer_of_its_own() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, first, config) = node.run("layers", &image, &["sleep", "1000"]).await;
    shown(
        &node,
        &first,
        "echo mine > /etc/passwd && rm /bin/vi && echo x > /new",
    )
    .await;
    let second = requests::container("second", &image, &["sleep", "1000"]);
    let second = node.run_in(&pod, &config, &second).await;
    assert_eq!(shown(&node, &second, "head -c 4 /etc/passwd").await, "root");
    assert_eq!(
        shown(&node, &second, "ls /bin/vi; test -e /new; echo $?").await,
        "/bin/vi\n1"
    );
    node.finish().await;
}

#[tokio::test]
async fn the_same_container_asked_for_twice_is_one_and_a_stopped_pod_takes_none() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("once");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let container = requests::container("main", &image, &["sleep", "1000"]);
    let (first, second) = tokio::join!(
        node.cri.create(&pod, &container, &config),
        node.cri.create(&pod, &container, &config)
    );
    let id = first.unwrap();
    assert_eq!(second.unwrap(), id);
    node.cri.start(&id).await.unwrap();
    node.cri
        .start(&id)
        .await
        .expect("who has not heard the answer asks again");
    node.cri
        .remove(&id)
        .await
        .expect("a running container can be removed");
    node.cri.remove(&id).await.expect("and again");
    assert_eq!(
        node.cri.container(&id).await.unwrap_err().code(),
        tonic::Code::NotFound
    );
    node.cri.stop_pod(&pod).await.unwrap();
    node.cri
        .create(&pod, &container, &config)
        .await
        .expect_err("the pod has stopped");
    node.finish().await;
}
