//! Hostile security contexts, devices and names: refused with the field's name, and the next
//! correct container runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use cricket_harness::cri::*;
use cricket_harness::{Node, requests};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

fn localhost(file: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile {
        profile_type: security_profile::ProfileType::Localhost.into(),
        localhost_ref: file.into(),
    })
}

fn device(host: &str, container: &str, permissions: &str) -> Vec<Device> {
    vec![Device {
        host_path: host.into(),
        container_path: container.into(),
        permissions: permissions.into(),
    }]
}

/// What is wrong with a request, and the field that the answer has to name.
type Case = (&'static str, Box<dyn Fn(&mut ContainerConfig)>);

fn case(field: &'static str, change: impl Fn(&mut ContainerConfig) + 'static) -> Case {
    (field, Box::new(change))
}

/// The same for the security context.
fn context(
    field: &'static str,
    change: impl Fn(&mut LinuxContainerSecurityContext) + 'static,
) -> Case {
    case(field, move |container| {
        change(requests::security(container))
    })
}

fn names() -> Vec<Case> {
    vec![
        case("command", |c| c.command = vec!["a\0b".into()]),
        case("working_dir", |c| c.working_dir = "/a\0b".into()),
        case("config.metadata.name", |c| {
            c.metadata.as_mut().unwrap().name = "a/b".into()
        }),
        case("config.metadata.name", |c| {
            c.metadata.as_mut().unwrap().name = "a\0".into()
        }),
        case("config.metadata.name", |c| {
            c.metadata.as_mut().unwrap().name = "a\nb".into()
        }),
        case("config.metadata.name", |c| {
            c.metadata.as_mut().unwrap().name = "x".repeat(10_000)
        }),
        case("config.log_path", |c| c.log_path = "../../up".into()),
        case("config.log_path", |c| c.log_path = "a\0".into()),
        case("envs", |c| {
            c.envs = vec![KeyValue {
                key: "A".into(),
                value: vec![0xff, 0xfe],
            }];
        }),
        case("envs", |c| {
            c.envs = vec![KeyValue {
                key: "A=B".into(),
                value: Default::default(),
            }];
        }),
        case("mounts[0].container_path", |c| {
            c.mounts = vec![requests::mount("/tmp".as_ref(), "/a\0", false)];
        }),
        case("mounts[0]", |c| {
            c.mounts = vec![requests::mount("relative".as_ref(), "/a", false)];
        }),
        case("mounts[0].host_path", |c| {
            c.mounts = vec![requests::mount("/a\0".as_ref(), "/a", false)];
        }),
        case("config.annotations", |c| {
            c.annotations = (0..100_001)
                .map(|n| (n.to_string(), String::new()))
                .collect();
        }),
    ]
}

fn contexts() -> Vec<Case> {
    let capability = |name: &str| {
        let add_capabilities = vec![name.to_owned()];
        Some(Capability {
            add_capabilities,
            ..Default::default()
        })
    };
    vec![
        context("security_context.capabilities", move |s| {
            s.capabilities = capability("NO_SUCH\0")
        }),
        context("security_context.capabilities", move |s| {
            s.capabilities = capability(&"X".repeat(1 << 20))
        }),
        context("run_as_user", |s| {
            s.run_as_user = Some(Int64Value { value: -1 })
        }),
        context("run_as_user", |s| {
            s.run_as_user = Some(Int64Value { value: i64::MAX })
        }),
        context("run_as_username", |s| s.run_as_username = "no\nsuch".into()),
        context("run_as_group", |s| {
            s.run_as_group = Some(Int64Value { value: 5 })
        }),
        context("supplemental_groups", |s| s.supplemental_groups = vec![-5]),
        context("groups", |s| s.supplemental_groups = (1..70_000).collect()),
        context("supplemental_groups_policy", |s| {
            s.supplemental_groups_policy = 9
        }),
        context("security_context.masked_paths", |s| {
            s.masked_paths = vec!["relative".into()]
        }),
        context("security_context.masked_paths", |s| {
            s.masked_paths = vec!["/a\0".into()]
        }),
        context("security_context.readonly_paths", |s| {
            s.readonly_paths = vec!["/x/".repeat(5000)]
        }),
        context("security_context.seccomp", |s| {
            s.seccomp = localhost("relative.json")
        }),
        context("security_context.seccomp", |s| {
            s.seccomp = localhost("/a\0")
        }),
        context("seccomp profile /dev/zero", |s| {
            s.seccomp = localhost("/dev/zero")
        }),
        context("seccomp profile /no/such", |s| {
            s.seccomp = localhost("/no/such")
        }),
        context("seccomp profile /etc/passwd", |s| {
            s.seccomp = localhost("/etc/passwd")
        }),
        context("security_context.seccomp", |s| {
            s.seccomp = Some(SecurityProfile {
                profile_type: 77,
                ..Default::default()
            });
        }),
        context("security_context.apparmor", |s| s.apparmor = localhost("")),
        context("security_context.apparmor", |s| {
            s.apparmor = localhost("a\nb")
        }),
    ]
}

fn devices() -> Vec<Case> {
    let cdi = |name: &str| {
        vec![CdiDevice {
            name: name.to_owned(),
        }]
    };
    vec![
        case("devices[0].host_path", |c| {
            c.devices = device("relative", "/dev/x", "r")
        }),
        case("devices[0].host_path", |c| {
            c.devices = device("/dev/\0", "/dev/x", "r")
        }),
        case("devices[0].container_path", |c| {
            c.devices = device("/dev/null", "", "r")
        }),
        case("devices[0].permissions", |c| {
            c.devices = device("/dev/null", "/dev/x", "rwx")
        }),
        case("/etc/passwd", |c| {
            c.devices = device("/etc/passwd", "/dev/x", "rwm")
        }),
        case("CDI_devices[0].name", move |c| {
            c.cdi_devices = cdi("../../etc=x")
        }),
        case("CDI_devices[0].name", move |c| {
            c.cdi_devices = cdi(&"x".repeat(1 << 20))
        }),
        case("CDI_devices", move |c| {
            c.cdi_devices = (0..5000)
                .map(|n| CdiDevice {
                    name: format!("v.com/c={n}"),
                })
                .collect();
        }),
        case("annotations[cdi.k8s.io/a]", |c| {
            c.annotations
                .insert("cdi.k8s.io/a".into(), "v.com/c=a\0".into());
        }),
    ]
}

#[tokio::test]
async fn each_bad_field_is_named_and_the_pod_stays_usable() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("hostile");
    let pod = node.cri.run_pod(&config).await.unwrap();
    for (field, change) in [names(), contexts(), devices()].into_iter().flatten() {
        let mut container = requests::container("bad", &image, &["sleep", "1000"]);
        change(&mut container);
        let error = node
            .cri
            .create(&pod, &container, &config)
            .await
            .expect_err(field);
        let message = error.message();
        assert!(message.contains(field), "{field}: {message}");
        assert!(message.len() <= 4096, "{field}: {} bytes", message.len());
        assert_eq!(
            error.code(),
            tonic::Code::InvalidArgument,
            "{field}: {message}"
        );
    }
    assert_eq!(node.cri.containers().await.unwrap(), []);
    let good = requests::container("good", &image, &["sleep", "1000"]);
    let good = node.run_in(&pod, &config, &good).await;
    assert_eq!(
        node.cri.exec(&good, &["true"], 10).await.unwrap().exit_code,
        0
    );
    node.finish().await;
}

#[tokio::test]
async fn much_is_carried_whole() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("much");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("much", &image, &["sleep", "1000"]);
    container
        .labels
        .extend((0..10_000).map(|n| (format!("label-{n}"), format!("value\n{n}"))));
    // execve takes 128 KiB a string
    container.envs = vec![KeyValue {
        key: "BIG".into(),
        value: vec![b'x'; 100_000],
    }];
    let id = node.run_in(&pod, &config, &container).await;
    let shown = node
        .cri
        .exec(&id, &["sh", "-c", "echo ${#BIG}"], 10)
        .await
        .unwrap();
    assert_eq!(shown.stdout.as_slice(), b"100000\n");
    assert_eq!(
        node.cri.container(&id).await.unwrap().labels,
        container.labels
    );

    // a million bytes are more than the kernel takes: an error, and nothing stays behind
    let mut container = requests::container("million", &image, &["sleep", "1000"]);
    container.envs = vec![KeyValue {
        key: "BIG".into(),
        value: vec![b'x'; 1_000_000],
    }];
    let error = node
        .cri
        .create(&pod, &container, &config)
        .await
        .expect_err("too long for execve");
    assert!(
        error.message().contains("envs") && error.message().contains("BIG"),
        "{}",
        error.message()
    );
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert_eq!(node.cri.containers().await.unwrap().len(), 1);
    node.finish().await;
}

#[tokio::test]
async fn a_hostile_seccomp_file_is_refused_by_its_path() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let config = node.pod_config("seccomp");
    let pod = node.cri.run_pod(&config).await.unwrap();
    let file = node.dir().join("profile.json");
    let path = file.to_string_lossy().into_owned();
    let deep = "[".repeat(200_000);
    let huge = " ".repeat((1 << 20) + 1);
    for text in [
        "",
        "null",
        "{\"defaultAction\":\"SCMP_ACT_NONSENSE\"}",
        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[],\"action\":7}]}",
        deep.as_str(),
        huge.as_str(),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut container = requests::container("bad", &image, &["sleep", "1000"]);
        requests::security(&mut container).seccomp = localhost(&path);
        let error = node
            .cri
            .create(&pod, &container, &config)
            .await
            .expect_err("no profile");
        assert!(error.message().contains(&path), "{}", error.message());
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
    }
    assert_eq!(node.cri.containers().await.unwrap(), []);
    node.finish().await;
}
