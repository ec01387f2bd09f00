//! What a container may do and what it is given by the node, on the real OCI runtime: privileges,
//! seccomp, devices, CDI, and the files that the daemon makes.

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

/// A line of the first process's status.
async fn status(node: &Node, container: &str, key: &str) -> String {
    shown(
        node,
        container,
        &format!("grep ^{key}: /proc/1/status | cut -f2"),
    )
    .await
}

/// A sleeping container.
fn sleeper(name: &str, image: &str) -> ContainerConfig {
    requests::container(name, image, &["sleep", "1000"])
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn profile(kind: security_profile::ProfileType, file: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: file.into(),
    })
}

#[tokio::test]
async fn capabilities_are_added_and_dropped_in_the_kubelets_order() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("caps");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let bounding = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:\t"))
        .unwrap();
    let own = bounding(own);
    let (chown, net_raw) = (1_u64, 1_u64 << 13);
    for (name, add, drop, ambient, user, effective, in_ambient) in [
        (
            "add-all",
            vec!["ALL"],
            vec!["CAP_CHOWN"],
            vec![],
            0,
            own & !chown,
            0,
        ),
        ("drop-all", vec!["chown"], vec!["ALL"], vec![], 0, chown, 0),
        (
            "plain-user",
            vec!["NET_RAW"],
            vec!["ALL"],
            vec![],
            1000,
            0,
            0,
        ),
        (
            "ambient",
            vec![],
            vec!["ALL"],
            vec!["NET_RAW"],
            1000,
            net_raw,
            net_raw,
        ),
    ] {
        let mut container = sleeper(name, &image);
        let security = requests::security(&mut container);
        security.capabilities = Some(Capability {
            add_capabilities: words(&add),
            drop_capabilities: words(&drop),
            add_ambient_capabilities: words(&ambient),
        });
        security.run_as_user = Some(Int64Value { value: user });
        let id = node.run_in(&pod, &config, &container).await;
        assert_eq!(
            bounding(&status(&node, &id, "CapEff").await),
            effective,
            "{name}"
        );
        assert_eq!(
            bounding(&status(&node, &id, "CapAmb").await),
            in_ambient,
            "{name}"
        );
    }
    node.finish().await;
}

#[tokio::test]
async fn a_privileged_container_has_everything_but_keeps_no_new_privileges() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let mut config = node.pod_config("privileged");
    let linux = config.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().privileged = true;
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = sleeper("main", &image);
    let security = requests::security(&mut container);
    security.privileged = true;
    security.no_new_privs = true;
    security.seccomp = profile(
        security_profile::ProfileType::Localhost,
        "/no/such/profile.json",
    );
    let id = node.run_in(&pod, &config, &container).await;
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:\t"))
        .unwrap();
    assert_eq!(status(&node, &id, "CapEff").await, own);
    assert_eq!(status(&node, &id, "CapAmb").await, "0000000000000000");
    assert_eq!(status(&node, &id, "Seccomp").await, "0");
    assert_eq!(status(&node, &id, "NoNewPrivs").await, "1");
    let hidden = shown(
        &node,
        &id,
        "grep -c ' /proc/' /proc/mounts; grep ' /sys ' /proc/mounts",
    )
    .await;
    assert!(
        hidden.starts_with("0\n") && hidden.contains("rw"),
        "{hidden}"
    );
    node.finish().await;
}

#[tokio::test]
async fn empty_lists_of_paths_hide_nothing() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("paths");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = sleeper("unmasked", &image);
    let security = requests::security(&mut container);
    security.masked_paths.clear();
    security.readonly_paths.clear();
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(
        shown(&node, &id, "grep -c ' /proc/' /proc/mounts").await,
        "0"
    );
    let mut container = sleeper("masked", &image);
    let security = requests::security(&mut container);
    security.masked_paths = words(&["/proc/keys", "/sys/firmware", "/no/such/path"]);
    security.readonly_paths = words(&["/proc/sys", "/proc/no-such"]);
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(shown(&node, &id, "cat /proc/keys | wc -c").await, "0");
    let refused = shown(&node, &id, "echo x > /proc/sys/kernel/hostname").await;
    assert!(refused.contains("Read-only"), "{refused}");
    node.finish().await;
}

#[tokio::test]
async fn seccomp_follows_the_request_the_handler_and_the_node() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let deny = |call: &str| {
        json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]})
        .to_string()
    };
    let (local, of_handler) = (
        node.dir().join("local.json"),
        node.dir().join("handler.json"),
    );
    std::fs::write(&local, deny("mkdir")).unwrap();
    std::fs::write(&of_handler, deny("symlink")).unwrap();
    // the default handler's table is in crio.conf, and a table of a drop-in takes its place
    let file = node.daemon.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let key = format!("monitor_cgroup = \"pod\"\nseccomp_profile = {of_handler:?}");
    std::fs::write(&file, text.replace("monitor_cgroup = \"pod\"", &key)).unwrap();
    node.crash().await;
    let config = node.pod_config("seccomp");
    let pod = node.cri.run_pod(&config).await.unwrap();
    use security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    let local = local.to_string_lossy().into_owned();
    for (name, wanted, mode, mkdir, symlink) in [
        ("absent", None, "0", "", ""),
        ("unconfined", profile(Unconfined, ""), "0", "", ""),
        (
            "default",
            profile(RuntimeDefault, ""),
            "2",
            "",
            "not permitted",
        ),
        (
            "local",
            profile(Localhost, &local),
            "2",
            "not permitted",
            "",
        ),
    ] {
        let mut container = sleeper(name, &image);
        requests::security(&mut container).seccomp = wanted;
        let id = node.run_in(&pod, &config, &container).await;
        assert_eq!(status(&node, &id, "Seccomp").await, mode, "{name}");
        for (command, want) in [("mkdir /d", mkdir), ("ln -s a /l", symlink)] {
            let got = shown(&node, &id, command).await;
            assert_eq!(got.is_empty(), want.is_empty(), "{name}: {command}: {got}");
            assert!(got.contains(want), "{name}: {command}: {got}");
        }
    }
    node.finish().await;
}

#[tokio::test]
async fn groups_are_merged_or_strict_and_a_group_needs_a_user() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("groups");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = sleeper("group-alone", &image);
    requests::security(&mut container).run_as_group = Some(Int64Value { value: 7 });
    let error = node
        .cri
        .create(&pod, &container, &config)
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("run_as_group"), "{error:?}");
    use SupplementalGroupsPolicy::{Merge, Strict};
    for (name, policy) in [("merge", Merge), ("strict", Strict)] {
        let mut container = sleeper(name, &image);
        let security = requests::security(&mut container);
        security.run_as_user = Some(Int64Value { value: 1234 });
        security.run_as_group = Some(Int64Value { value: 77 });
        security.supplemental_groups = vec![500, 600];
        security.supplemental_groups_policy = policy.into();
        let id = node.run_in(&pod, &config, &container).await;
        assert_eq!(
            status(&node, &id, "Groups").await.trim(),
            "77 500 600",
            "{name}"
        );
        let user = node
            .cri
            .container(&id)
            .await
            .unwrap()
            .user
            .unwrap()
            .linux
            .unwrap();
        assert_eq!((user.uid, user.gid), (1234, 77));
        assert_eq!(user.supplemental_groups, [77, 500, 600]);
    }
    node.finish().await;
}

#[tokio::test]
async fn files_of_the_node_and_accounts_for_unknown_ids_are_there() {
    let mut node = Node::start(CRICKET).await;
    let secrets = node.dir().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("key"), "word").unwrap();
    let mounts = node.dir().join("mounts.conf");
    std::fs::write(
        &mounts,
        format!("{}:/run/secrets\n/no/such:/run/gone\n", secrets.display()),
    )
    .unwrap();
    let drop_in = format!(
        "[crio.runtime]\ndefault_mounts_file = {mounts:?}\ntimezone = \"Local\"\n\
         default_ulimits = [\"nofile=512:1024\"]\nno_pivot = true\n"
    );
    let has_zone = std::path::Path::new("/etc/localtime").exists();
    let drop_in = if has_zone {
        drop_in
    } else {
        drop_in.replace("timezone = \"Local\"\n", "")
    };
    std::fs::write(node.dir().join("crio.conf.d/10-test.conf"), drop_in).unwrap();
    node.crash().await;
    let image = node.busybox().await;
    let config = node.pod_config("files");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = sleeper("main", &image);
    let security = requests::security(&mut container);
    security.run_as_user = Some(Int64Value { value: 4321 });
    security.run_as_group = Some(Int64Value { value: 1 });
    let id = node.run_in(&pod, &config, &container).await;
    assert_eq!(
        shown(
            &node,
            &id,
            "whoami; grep -c . /etc/passwd > /dev/null && tail -n 1 /etc/passwd"
        )
        .await,
        "4321\n4321:x:4321:1:4321 user:/:/sbin/nologin"
    );
    assert_eq!(
        shown(&node, &id, "readlink /etc/mtab").await,
        "/proc/mounts"
    );
    assert_eq!(
        shown(&node, &id, "cat /run/secrets/key; ls /run").await,
        "wordsecrets"
    );
    assert_eq!(
        shown(&node, &id, "grep 'open files' /proc/1/limits | tr -s ' '").await,
        "Max open files 512 1024 files"
    );
    if has_zone {
        let zone = std::fs::read("/etc/localtime").unwrap().len();
        assert_eq!(
            shown(&node, &id, "wc -c < /etc/localtime").await,
            zone.to_string()
        );
    }
    // a copy: what the container writes stays its own
    assert_eq!(
        std::fs::read_to_string(secrets.join("key")).unwrap(),
        "word"
    );
    let known = sleeper("known", &image);
    let id = node.run_in(&pod, &config, &known).await;
    assert_eq!(
        shown(&node, &id, "grep -c ' /etc/passwd ' /proc/mounts").await,
        "0",
        "root is known"
    );
    node.finish().await;
}

#[tokio::test]
async fn a_named_apparmor_profile_means_nothing_on_a_node_without_apparmor() {
    let mut node = Node::start(CRICKET).await;
    if std::path::Path::new("/sys/kernel/security/apparmor/profiles").exists() {
        node.finish().await;
        return;
    }
    let image = node.busybox().await;
    let config = node.pod_config("apparmor");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = sleeper("named", &image);
    let security = requests::security(&mut container);
    security.apparmor = profile(security_profile::ProfileType::Localhost, "mine");
    node.run_in(&pod, &config, &container).await;
    assert!(
        node.daemon.log().contains("AppArmor profile ignored"),
        "{}",
        node.daemon.log()
    );
    node.finish().await;
}
