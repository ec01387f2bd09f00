//! Pods with a user namespace: ids, namespaces, files, volumes, and the ends of all of them.
//!
//! Needs a runc with idmapped mounts (1.2 or later), which `make deps` builds where the
//! distribution's is older.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use cricket_harness::cri::*;
use cricket_harness::image::Compression;
use cricket_harness::{Image, Node, client, requests, samples, tools};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
const UIDS: IdMapping = IdMapping {
    host_id: 300_000,
    container_id: 0,
    length: 65_536,
};
const GIDS: IdMapping = IdMapping {
    host_id: 400_000,
    ..UIDS
};

async fn node() -> Node {
    Node::start_with(CRICKET, |options| options.runtime = tools::current_runc()).await
}

fn userns(uids: &[IdMapping], gids: &[IdMapping]) -> UserNamespace {
    UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: uids.to_vec(),
        gids: gids.to_vec(),
    }
}

/// A pod and a container of it with a user namespace.
fn mapped(node: &Node, image: &str, command: &[&str]) -> (PodSandboxConfig, ContainerConfig) {
    let mut pod = node.pod_config("userns");
    requests::pod_namespaces(&mut pod).userns_options = Some(userns(&[UIDS], &[GIDS]));
    let mut container = requests::container("main", image, command);
    namespaces(&mut container).userns_options = Some(userns(&[UIDS], &[GIDS]));
    (pod, container)
}

fn namespaces(container: &mut ContainerConfig) -> &mut NamespaceOption {
    let security = requests::security(container);
    security.namespace_options.get_or_insert_default()
}

/// What a shell command in the container writes.
async fn sh(node: &Node, container: &str, script: &str) -> String {
    let ran = node.cri.exec(container, &["sh", "-c", script], 10).await;
    let ran = ran.unwrap_or_else(|error| panic!("{script}: {error:?}"));
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.exit_code, 0, "{script}: {errors}");
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_pods_root_is_nobody_on_the_node_and_root_in_all_that_is_the_pods() {
    let mut node = node().await;
    let image = node.busybox().await;
    let (mut pod, container) = mapped(&node, &image, &["sleep", "1000"]);
    let linux = pod.linux.as_mut().unwrap();
    for (name, value) in [
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "100"),
        ("net.ipv4.ip_unprivileged_port_start", "7"),
    ] {
        linux.sysctls.insert(name.into(), value.into());
    }
    let id = node.cri.run_pod(&pod).await.unwrap();
    let main = node.run_in(&id, &pod, &container).await;

    let map = sh(&node, &main, "cat /proc/self/uid_map /proc/self/gid_map").await;
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", "300000", "65536", "0", "400000", "65536"]);
    let pid = node.pids_of(&main)[0];
    let process = fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_eq!((process.uid(), process.gid()), (300_000, 400_000));

    for (script, want) in [
        ("id -u; id -g", "0\n0"),
        (
            "stat -c %u:%g / /bin /bin/busybox /etc/resolv.conf /etc/hostname /dev/shm",
            "0:0\n0:0\n0:0\n0:0\n0:0\n0:0",
        ),
        ("hostname", "userns"),
        (
            "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max",
            "1\n100",
        ),
        ("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "7"),
        // Files of the image can be changed, new ones made, and devices used.
        (
            "echo x > /new && echo y >> /etc/resolv.conf && stat -c %u:%g /new",
            "0:0",
        ),
        (
            "chown 1000:1000 /bin && stat -c %u:%g /bin && chown 0:0 /bin",
            "1000:1000",
        ),
        (
            "echo x > /dev/null && echo x > /dev/shm/x && head -c 1 /dev/zero | wc -c",
            "1",
        ),
        (
            "ls -d /dev/mqueue /sys/class/net/eth0 /proc/1",
            "/dev/mqueue\n/proc/1\n/sys/class/net/eth0",
        ),
        ("ip -o link show lo | grep -c LOWER_UP", "1"),
    ] {
        assert_eq!(sh(&node, &main, script).await, want, "{script}");
    }
    // The log's pipe can be opened by its name too, as programs do that log to /dev/stdout.
    sh(&node, &main, "echo through-proc > /proc/1/fd/1").await;
    let log = node.log_file(&pod, "main");
    node.until("the line is in the log", || {
        fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("through-proc")
    })
    .await;
    node.finish().await;
}

#[tokio::test]
async fn volumes_show_their_owners_as_ids_of_the_pod_and_those_that_cannot_are_refused() {
    let mut node = node().await;
    let image = node.busybox().await;
    let host = node.dir().join("volume");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("root"), "").unwrap();
    fs::write(host.join("user"), "").unwrap();
    chown(host.join("user"), Some(1000), Some(2000)).unwrap();
    let (pod, mut container) = mapped(&node, &image, &["sleep", "1000"]);
    let idmapped = |host: &Path, to: &str| Mount {
        uid_mappings: vec![UIDS],
        gid_mappings: vec![GIDS],
        ..requests::mount(host, to, false)
    };
    container.mounts = vec![
        idmapped(&host, "/volume"),
        idmapped(&host.join("root"), "/file"),
        requests::mount(&host, "/plain", true),
    ];
    let id = node.cri.run_pod(&pod).await.unwrap();
    let main = node.run_in(&id, &pod, &container).await;
    for (script, want) in [
        (
            "stat -c %u:%g /volume/root /volume/user /file",
            "0:0\n1000:2000\n0:0",
        ),
        // Without mappings the files are nobody's.
        ("stat -c %u:%g /plain/root", "65534:65534"),
        (
            "echo x > /volume/new && chown 7:8 /volume/new && cat /volume/new",
            "x",
        ),
    ] {
        assert_eq!(sh(&node, &main, script).await, want, "{script}");
    }
    let made = fs::metadata(host.join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (7, 8));
    let mounts = node.cri.container(&main).await.unwrap().mounts;
    assert_eq!(mounts[0].uid_mappings, [UIDS]);

    container.metadata.as_mut().unwrap().name = "refused".into();
    container.mounts = vec![idmapped(Path::new("/sys/kernel"), "/volume")];
    let error = node.cri.create(&id, &container, &pod).await.unwrap_err();
    for part in ["/sys/kernel", "idmapped mounts", "mounts[0]"] {
        assert!(error.message().contains(part), "{error:?}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_pod_with_a_user_namespace_survives_the_daemon_and_leaves_nothing() {
    let mut node = node().await;
    let image = node.busybox().await;
    let (pod, container) = mapped(&node, &image, &["sleep", "1000"]);
    let id = node.cri.run_pod(&pod).await.unwrap();
    let main = node.run_in(&id, &pod, &container).await;
    let pinned = node.daemon.namespaces().join("userns").join(&id);
    let file = fs::metadata(&pinned).unwrap().ino();
    let process = format!("/proc/{}/ns/user", node.pids_of(&main)[0]);
    assert_eq!(fs::metadata(&process).unwrap().ino(), file);
    let before = node.cri.pod(&id).await.unwrap();

    node.crash().await;
    let after = node.cri.pod(&id).await.unwrap();
    assert_eq!(after, before);
    let options = after.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(options.userns_options, Some(userns(&[UIDS], &[GIDS])));
    let mut second = container.clone();
    second.metadata.as_mut().unwrap().name = "second".into();
    let second = node.run_in(&id, &pod, &second).await;
    for container in [&main, &second] {
        assert_eq!(sh(&node, container, "id -u").await, "0");
    }
    let process = format!("/proc/{}/ns/user", node.pids_of(&second)[0]);
    assert_eq!(fs::metadata(&process).unwrap().ino(), file);

    node.cri.stop(&main, 0).await.unwrap();
    assert_eq!(node.cri.container(&main).await.unwrap().exit_code, 137);
    node.cri.stop_pod(&id).await.unwrap();
    assert!(!pinned.exists());
    node.finish().await;
}

#[tokio::test]
async fn containers_of_a_user_namespace_can_share_their_processes_and_have_terminals_and_users() {
    let mut node = node().await;
    let image = node.busybox().await;
    let (mut pod, mut container) = mapped(&node, &image, &["sleep", "1001"]);
    requests::pod_namespaces(&mut pod).pid = NamespaceMode::Pod.into();
    namespaces(&mut container).pid = NamespaceMode::Pod.into();
    let security = pod
        .linux
        .as_mut()
        .unwrap()
        .security_context
        .as_mut()
        .unwrap();
    security.privileged = true;
    let id = node.cri.run_pod(&pod).await.unwrap();
    let main = node.run_in(&id, &pod, &container).await;

    container.metadata.as_mut().unwrap().name = "user".into();
    container.command = ["sh", "-c", "echo to-stdout > /dev/stdout; sleep 1002"]
        .map(String::from)
        .to_vec();
    container.tty = true;
    requests::security(&mut container).run_as_user = Some(Int64Value { value: 1002 });
    let user = node.run_in(&id, &pod, &container).await;
    assert_eq!(sh(&node, &user, "id -u").await, "1002");
    let shown = sh(&node, &main, "ps -o pid,args").await;
    let first = shown.lines().nth(1).unwrap_or_default();
    assert!(
        first.contains("pause") && shown.contains("sleep 1002"),
        "{shown}"
    );

    container.metadata.as_mut().unwrap().name = "privileged".into();
    container.command = ["sleep", "1003"].map(String::from).to_vec();
    requests::security(&mut container).run_as_user = None;
    requests::security(&mut container).privileged = true;
    let privileged = node.run_in(&id, &pod, &container).await;
    let script = "mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs none /mnt; \
                  ip link set lo down && ip link set lo up && hostname changed && hostname";
    assert_eq!(sh(&node, &privileged, script).await, "changed");
    node.crash().await;
    assert_eq!(sh(&node, &user, "id -u").await, "1002");
    node.finish().await;
}

#[tokio::test]
async fn a_shared_pid_namespace_works_where_nothing_in_the_run_root_may_be_executed() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let mut node = node().await;
    // As Debian mounts /run. In a user namespace nobody can take that off a mount.
    let runroot = node.daemon.runroot();
    node.daemon.stop().await;
    let noexec = MsFlags::MS_NOEXEC;
    mount(
        Some("run"),
        &runroot,
        Some("tmpfs"),
        noexec,
        Some("size=16m"),
    )
    .unwrap();
    node.daemon.launch();
    node.reconnect().await;

    let image = node.busybox().await;
    let (mut pod, mut container) = mapped(&node, &image, &["sleep", "1000"]);
    requests::pod_namespaces(&mut pod).pid = NamespaceMode::Pod.into();
    namespaces(&mut container).pid = NamespaceMode::Pod.into();
    let id = node.cri.run_pod(&pod).await.unwrap();
    let main = node.run_in(&id, &pod, &container).await;
    let first = sh(&node, &main, "ps -o args | sed -n 2p").await;
    assert!(first.contains("pause"), "{first}");
    node.crash().await;
    node.cri.remove_pod(&id).await.unwrap();

    node.daemon.stop().await;
    let mounts = cricket_harness::leaks::mounts_below(&runroot);
    umount2(&runroot, MntFlags::MNT_DETACH).unwrap();
    assert_eq!(mounts, [runroot.join("pause"), runroot], "made once");
    node.daemon.launch();
    node.reconnect().await;
    node.finish().await;
}

#[tokio::test]
async fn an_image_volume_and_declared_volumes_show_the_pods_ids() {
    let mut node = node().await;
    let layer = samples::busybox_layer().dir("volume", 0o755);
    let built = Image::builder()
        .layer(layer, Compression::Gzip)
        .set("Volumes", serde_json::json!({"/declared/deep": {}}))
        .build();
    let image = node.registry().push("volumes", "1", &built);
    node.cri.pull(&image).await.unwrap();
    let (pod, mut container) = mapped(&node, &image, &["sleep", "1000"]);
    container.mounts = vec![Mount {
        container_path: "/image".into(),
        readonly: true,
        image: Some(client::spec(&image)),
        uid_mappings: vec![UIDS],
        gid_mappings: vec![GIDS],
        ..Default::default()
    }];
    let id = node.cri.run_pod(&pod).await.unwrap();
    let main = node.run_in(&id, &pod, &container).await;
    let owners = "stat -c %u:%g /image /image/bin/busybox /declared /declared/deep";
    assert_eq!(sh(&node, &main, owners).await, "0:0\n0:0\n0:0\n0:0");
    sh(
        &node,
        &main,
        "echo x > /declared/deep/x && ! touch /image/x 2>/dev/null",
    )
    .await;
    node.finish().await;
}

#[tokio::test]
async fn a_user_namespace_on_the_network_of_the_node_sees_it_and_cannot_change_it() {
    let mut node = node().await;
    let image = node.busybox().await;
    let (mut pod, mut container) = mapped(&node, &image, &["sleep", "1000"]);
    requests::pod_namespaces(&mut pod).network = NamespaceMode::Node.into();
    namespaces(&mut container).network = NamespaceMode::Node.into();
    let id = node.cri.run_pod(&pod).await.unwrap();
    let main = node.run_in(&id, &pod, &container).await;
    assert_eq!(
        sh(&node, &main, "id -u; ls -d /sys/class/net").await,
        "0\n/sys/class/net"
    );
    let node_net = fs::metadata(node.net().file()).unwrap().ino();
    let own = format!("/proc/{}/ns/net", node.pids_of(&main)[0]);
    assert_eq!(fs::metadata(own).unwrap().ino(), node_net);
    let refused = sh(&node, &main, "ip link set lo down || echo refused").await;
    assert_eq!(refused, "refused");
    let sys = sh(&node, &main, "grep ' /sys ' /proc/self/mountinfo").await;
    assert!(sys.contains(" ro,"), "{sys}");
    node.finish().await;
}

#[tokio::test]
async fn options_that_cannot_be_are_refused_and_leave_nothing() {
    use NamespaceMode::{Container, Node as Host, Target};
    let mut node = node().await;
    let image = node.busybox().await;
    let (pod, container) = mapped(&node, &image, &["sleep", "1000"]);
    let unmapped = IdMapping {
        container_id: 1,
        ..UIDS
    };
    let mode = |mode: NamespaceMode| UserNamespace {
        mode: mode.into(),
        ..Default::default()
    };
    let with_ids = UserNamespace {
        mode: Host.into(),
        ..userns(&[UIDS], &[GIDS])
    };
    for (options, problem) in [
        (userns(&[UIDS, UIDS], &[GIDS, GIDS]), "exactly one"),
        (userns(&[unmapped], &[unmapped]), "id 0"),
        (userns(&[UIDS], &[]), "gids: 0 mappings"),
        (mode(Container), "Container is not possible"),
        (mode(Target), "Target is not possible"),
        (with_ids, "takes no mappings"),
    ] {
        let mut pod = pod.clone();
        requests::pod_namespaces(&mut pod).userns_options = Some(options);
        let error = node.cri.run_pod(&pod).await.unwrap_err();
        assert!(error.message().contains(problem), "{error:?}");
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
    }
    let id = node.cri.run_pod(&pod).await.unwrap();
    let other = IdMapping {
        host_id: 500_000,
        ..UIDS
    };
    for options in [None, Some(mode(Host)), Some(userns(&[other], &[GIDS]))] {
        let mut container = container.clone();
        namespaces(&mut container).userns_options = options;
        let error = node.cri.create(&id, &container, &pod).await.unwrap_err();
        assert!(error.message().contains("userns_options"), "{error:?}");
    }
    node.finish().await;
}

#[tokio::test]
async fn each_handler_says_what_it_can_and_pods_that_need_more_are_refused() {
    let node = Node::start_with(CRICKET, |options| {
        // Debian 12's, or one that has no word of anything.
        options.extra_config = format!(
            "[crio.runtime.runtimes.new]\nruntime_path = \"{}\"\n\
             [crio.runtime.runtimes.silent]\nruntime_path = \"{}\"\n",
            tools::current_runc().display(),
            tools::need("false").display(),
        );
    })
    .await;
    let status = node.cri.status(StatusRequest::default()).await.unwrap();
    let features = |name: &str| {
        let handler = status.runtime_handlers.iter().find(|one| one.name == name);
        let features = handler.unwrap().features.unwrap();
        (
            features.recursive_read_only_mounts,
            features.user_namespaces,
        )
    };
    assert_eq!(features("new"), (true, true));
    assert_eq!(features("silent"), (false, false));
    assert!(features("").0, "{status:?}");
    let whole = status.features.unwrap();
    assert!(whole.user_namespaces_host_network && whole.mount_options);

    let mut pod = node.pod_config("userns");
    requests::pod_namespaces(&mut pod).userns_options = Some(userns(&[UIDS], &[GIDS]));
    let error = node.cri.run_pod_with(&pod, "silent").await.unwrap_err();
    for part in ["userns_options", "silent", "runc 1.2"] {
        assert!(error.message().contains(part), "{error:?}");
    }
    node.finish().await;
}
