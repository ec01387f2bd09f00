//! What runtimes that are new to the CRI get wrong, point by point.
//!
//! A test here is named after its point. Points that other tests prove:
//!
//! - 1 a missing id, 10 ids and their beginnings: `newcomers_ids`
//! - 2 a missing pod is stopped: `pods::stopping_and_removing_a_pod_may_be_repeated`
//! - 3 removal ends what runs: `pods::removing_a_running_pod_ends_its_containers`
//! - 6 names: `pods::the_same_pod_asked_for_twice_is_one_pod`,
//!   `restart::a_pod_whose_creation_was_cut_off_can_be_created_after_the_restart`
//! - 7 a call given up: `joining`
//! - 11, 12, 14 image identity, names and sizes: `images`
//! - 13 an image's user: `image::query` (unit tests),
//!   `containers::users_come_from_the_request_or_the_image_and_are_looked_up_in_it`
//! - 15 ExecSync: `exec`
//! - 16 OOM: `containers::a_container_beyond_its_memory_limit_is_reported_as_oom_killed`
//! - 17 exits come after the log: `logs::the_log_is_complete_when_the_container_is_seen_to_have_exited`
//! - 18 restarts: `restart`, `recovery`
//! - 21 statistics: `stats`, `containers::usage_is_reported_with_the_containers_names`
//! - 23 mounts: `containers::mounts_are_bound_read_only_where_asked_and_missing_sources_made`
//! - 24 security: `containers::privileges_are_no_more_than_was_asked_for`, goldens of `spec`
//! - 27 streaming: the tests of `streaming` and `streaming_http`
//! - 28 CNI: `network`, and the tests of the room of that name
//! - 30 image volumes: `image_volumes`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cricket_harness::cri::*;
use cricket_harness::{Node, leaks, requests};
use tokio::time::timeout;
use tonic::{Code, Status};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
/// How long anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

fn code<T: std::fmt::Debug>(reply: Result<T, Status>) -> Code {
    reply.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn point_4_what_is_listed_has_a_status_until_both_are_gone() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("gone", &image, &["sleep", "1000"]).await;
    let (removed, ()) = tokio::join!(node.cri.remove(&id), async {
        loop {
            let before = node.cri.containers().await.unwrap();
            let status = code(node.cri.container(&id).await);
            let after = node.cri.containers().await.unwrap();
            if status == Code::NotFound {
                assert_eq!(after, [], "without a status, but listed");
                break;
            }
            if before.is_empty() {
                assert_eq!(status, Code::NotFound, "not listed, but with a status");
            }
        }
    });
    removed.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn point_5_addresses_survive_the_stop_and_the_daemon() {
    let mut node = Node::start(CRICKET).await;
    let pod = node.cri.run_pod(&node.pod_config("kept")).await.unwrap();
    let network = node.cri.pod(&pod).await.unwrap().network.unwrap();
    assert!(
        network.ip.parse::<std::net::IpAddr>().is_ok(),
        "{network:?}"
    );
    node.cri.stop_pod(&pod).await.unwrap();
    assert_eq!(node.cri.pod(&pod).await.unwrap().network.unwrap(), network);
    node.crash().await;
    assert_eq!(node.cri.pod(&pod).await.unwrap().network.unwrap(), network);
    node.finish().await;
}

#[tokio::test]
async fn point_8_everything_is_echoed_as_it_was_given_also_after_a_restart() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut config = node.pod_config("echo");
    config.metadata.as_mut().unwrap().attempt = 3;
    let odd = [
        ("empty", ""),
        (
            "io.kubernetes.container.preStopHandler",
            r#"{"exec":{"command":["a\n\"b"]}}"#,
        ),
        ("ключ", "\u{1F980} \t значение"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    config.labels.extend(odd.clone());
    config.annotations.extend(odd.clone());
    let options = requests::pod_namespaces(&mut config);
    options.ipc = NamespaceMode::Node.into();
    options.pid = NamespaceMode::Pod.into();
    let options = options.clone();
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("main", &image, &["sleep", "1000"]);
    container.metadata.as_mut().unwrap().attempt = 7;
    container.labels.extend(odd.clone());
    container.annotations.extend(odd);
    requests::security(&mut container).namespace_options = Some(options.clone());
    let volume = node.dir().join("volume");
    std::fs::create_dir(&volume).unwrap();
    container.mounts = vec![requests::mount(&volume, "/volume", true)];
    let id = node.cri.create(&pod, &container, &config).await.unwrap();
    for restarted in [false, true] {
        if restarted {
            node.crash().await;
        }
        let status = node.cri.pod(&pod).await.unwrap();
        let listed = &node.cri.pods().await.unwrap()[0];
        assert_eq!(status.metadata, config.metadata);
        assert_eq!(status.labels, config.labels);
        assert_eq!(status.annotations, config.annotations);
        assert_eq!(
            (&listed.metadata, &listed.labels),
            (&config.metadata, &config.labels)
        );
        assert_eq!(listed.annotations, config.annotations);
        let told = status.linux.unwrap().namespaces.unwrap().options;
        assert_eq!(told.as_ref(), Some(&options));
        let status = node.cri.container(&id).await.unwrap();
        let listed = &node.cri.containers().await.unwrap()[0];
        assert_eq!(status.metadata, container.metadata);
        assert_eq!(status.labels, container.labels);
        assert_eq!(status.annotations, container.annotations);
        assert_eq!(status.mounts, container.mounts);
        assert_eq!(
            status.resources.unwrap().linux,
            container.linux.as_ref().unwrap().resources
        );
        assert_eq!(
            (&listed.metadata, &listed.labels),
            (&container.metadata, &container.labels)
        );
        assert_eq!(listed.annotations, container.annotations);
    }
    node.finish().await;
}

#[tokio::test]
async fn point_9_times_are_nanoseconds_and_in_order() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let now = || {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        i64::try_from(since.as_nanos()).unwrap()
    };
    let before = now();
    let (pod, id, config) = node.run("times", &image, &["true"]).await;
    let waiting = requests::container("waiting", &image, &["true"]);
    let waiting = node.cri.create(&pod, &waiting, &config).await.unwrap();
    let created = node.cri.container(&waiting).await.unwrap();
    assert_eq!((created.started_at, created.finished_at), (0, 0));
    node.cri.stop(&waiting, 1).await.unwrap();
    let ended = node.cri.exited(&id).await;
    let never = node.cri.container(&waiting).await.unwrap();
    let pod = node.cri.pod(&pod).await.unwrap();
    let after = now();
    assert!(before <= pod.created_at && pod.created_at <= ended.created_at);
    assert!(ended.created_at <= ended.started_at && ended.started_at <= ended.finished_at);
    assert!(never.started_at <= never.finished_at && never.created_at <= never.finished_at);
    assert!(ended.finished_at <= after && never.finished_at <= after);
    node.finish().await;
}

#[tokio::test]
async fn point_19_a_log_is_there_when_the_start_returns_and_stays_when_the_container_goes() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("logs");
    // The kubelet's directory may be a link elsewhere.
    let real = node.dir().join("elsewhere");
    std::fs::rename(&config.log_directory, &real).unwrap();
    std::os::unix::fs::symlink(&real, &config.log_directory).unwrap();
    let pod = node.cri.run_pod(&config).await.unwrap();
    let container = requests::container("main", &image, &["sleep", "1000"]);
    let id = node.run_in(&pod, &config, &container).await;
    let file = node.log_file(&config, "main");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let status = node.cri.container(&id).await.unwrap();
    assert_eq!(status.log_path, file.to_string_lossy());
    let rotated = file.with_extension("rotated");
    std::fs::rename(&file, &rotated).unwrap();
    node.cri.reopen_log(&id).await.unwrap();
    assert!(file.exists(), "when the call returns");
    node.cri.stop(&id, 0).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let ended = node.cri.reopen_log(&id).await.unwrap_err();
    assert_eq!(ended.code(), Code::FailedPrecondition, "{ended:?}");
    assert!(!file.exists(), "nothing is made on an error");
    node.cri.remove(&id).await.unwrap();
    assert!(rotated.exists());
    let mut silent = requests::container("silent", &image, &["true"]);
    silent.log_path = String::new();
    let silent = node.run_in(&pod, &config, &silent).await;
    let status = node.cri.exited(&silent).await;
    assert_eq!((status.exit_code, status.log_path.as_str()), (0, ""));
    node.finish().await;
}

#[tokio::test]
async fn point_20_what_has_ended_leaves_nothing_in_the_pods_cgroup() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let script = "sleep 1000 & setsid sleep 1000 & exec sleep 1000";
    let (pod, id, _) = node.run("cgroups", &image, &["sh", "-c", script]).await;
    let of = |id: &str| leaks::cgroups_with(&[id.to_owned()]);
    assert!(!of(&id).is_empty() && !of(&pod).is_empty());
    node.cri.stop_pod(&pod).await.unwrap();
    // The kubelet removes the pod's cgroup as soon as its containers have ended, and asks again.
    node.until("the container's cgroups are gone", || of(&id).is_empty())
        .await;
    assert_eq!(of(&pod), Vec::<std::path::PathBuf>::new());
    assert_eq!(node.pids_of(&id), Vec::<u32>::new());
    node.finish().await;
}

#[tokio::test]
async fn point_22_the_status_is_told_while_a_plugin_hangs() {
    let hangs = r#"#!/bin/sh
case "$CNI_COMMAND" in
  VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
  ADD) cat >/dev/null; exec sleep 1000 ;;
  *) cat >/dev/null ;;
esac
"#;
    let list = r#"{"cniVersion": "1.0.0", "name": "ck", "plugins": [{"type": "hangs"}]}"#;
    let node = Node::start_with(CRICKET, |options| {
        options.plugins = vec![("hangs".into(), hangs.into())];
        options.cni = Some(("10-hangs.conflist".into(), list.into()));
    })
    .await;
    let waiting = tokio::spawn({
        let (cri, config) = (node.cri.clone(), node.pod_config("waits"));
        async move { cri.run_pod(&config).await }
    });
    let asked = async {
        loop {
            let request = StatusRequest { verbose: true };
            let status = node.cri.status(request).await.unwrap();
            if status.info["inFlight"].contains("\"hangs\"") {
                break status;
            }
        }
    };
    let status = timeout(PATIENCE, asked).await.unwrap();
    let conditions = status.status.unwrap().conditions;
    assert!(
        conditions.iter().all(|condition| condition.status),
        "{conditions:?}"
    );
    let kinds: Vec<_> = conditions.iter().map(|it| it.r#type.as_str()).collect();
    assert_eq!(kinds, ["RuntimeReady", "NetworkReady"]);
    // crun is one too, where this machine can run it.
    let features = |name: &str| {
        let mut handlers = status.runtime_handlers.iter();
        let found = handlers.find(|handler| handler.name == name);
        found
            .unwrap_or_else(|| panic!("no handler {name:?}"))
            .features
    };
    assert_eq!(features(""), features("runc"));
    assert_eq!(
        node.cri.pods().await.unwrap(),
        [],
        "not before it is complete"
    );
    let in_flight: serde_json::Value = serde_json::from_str(&status.info["inFlight"]).unwrap();
    let pid = in_flight["cni"][0]["pid"].as_i64().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let failed = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(failed.unwrap_err().message().contains("hangs"));
    node.finish().await;
}

#[tokio::test]
async fn point_25_a_second_stop_cuts_the_first_short() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let deaf = "trap '' TERM; touch /tmp/ready; while true; do sleep 0.05; done";
    let (_, id, _) = node.run("deaf", &image, &["sh", "-c", deaf]).await;
    let ready = ["sh", "-c", "until [ -e /tmp/ready ]; do sleep 0.01; done"];
    node.cri.exec(&id, &ready, 20).await.unwrap();
    let patient = tokio::spawn({
        let (cri, id) = (node.cri.clone(), id.clone());
        async move { cri.stop(&id, 100_000).await }
    });
    let in_flight = async {
        loop {
            let request = StatusRequest { verbose: true };
            let info = node.cri.status(request).await.unwrap().info;
            if info["inFlight"].contains("wait for the container to end") {
                break;
            }
        }
    };
    timeout(PATIENCE, in_flight).await.unwrap();
    timeout(PATIENCE, node.cri.stop(&id, 1))
        .await
        .unwrap()
        .unwrap();
    timeout(PATIENCE, patient).await.unwrap().unwrap().unwrap();
    let status = node.cri.container(&id).await.unwrap();
    assert_eq!(
        (status.state(), status.exit_code),
        (ContainerState::ContainerExited, 137)
    );
    node.finish().await;
}

#[tokio::test]
async fn point_26_pods_are_made_side_by_side_while_lists_are_read() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let names: Vec<_> = (0..6).map(|at| format!("p{at}")).collect();
    let made = names
        .iter()
        .map(|name| node.run(name, &image, &["sleep", "1000"]));
    let made = futures_util::future::join_all(made);
    let lists = async {
        loop {
            for one in node.cri.containers().await.unwrap() {
                // What is listed has a status, and its pod as well.
                node.cri.container(&one.id).await.unwrap();
                node.cri.pod(&one.pod_sandbox_id).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let made = tokio::select! {
        made = timeout(PATIENCE, made) => made.unwrap(),
        () = lists => unreachable!("lists are read for ever"),
    };
    assert_eq!(node.cri.pods().await.unwrap().len(), made.len());
    let gone = made.iter().map(|(pod, _, _)| async {
        node.cri.stop_pod(pod).await.unwrap();
        node.cri.remove_pod(pod).await.unwrap();
    });
    timeout(PATIENCE, futures_util::future::join_all(gone))
        .await
        .unwrap();
    assert_eq!(node.cri.containers().await.unwrap(), []);
    node.finish().await;
}

#[tokio::test]
async fn point_29_bytes_that_are_no_text_break_no_answer() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("bytes");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("bytes", &image, &["true"]);
    container.envs = vec![KeyValue {
        key: "BYTES".into(),
        value: vec![b'a', 0xff, 0xfe],
    }];
    // An OCI spec is JSON, which cannot hold them: refused by name rather than changed.
    let refused = node
        .cri
        .create(&pod, &container, &config)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("envs"), "{refused:?}");
    container.envs[0].value = "ключ\u{1F980}".into();
    container.command = vec![
        "sh".into(),
        "-c".into(),
        "printf '\\377\\376'; exec \"$BYTES\"".into(),
    ];
    let id = node.run_in(&pod, &config, &container).await;
    let status = node.cri.exited(&id).await;
    assert_eq!(status.exit_code, 127);
    let missing = requests::container("missing", &image, &["/\u{1F980}/\u{fffd}"]);
    let refused = node.cri.create(&pod, &missing, &config).await.unwrap_err();
    assert!(refused.message().contains('\u{1F980}'), "{refused:?}");
    let listed = node.cri.containers().await.unwrap();
    assert_eq!(listed.iter().map(|one| &one.id).collect::<Vec<_>>(), [&id]);
    node.finish().await;
}
