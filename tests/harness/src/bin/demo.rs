//! `make demo`: a pod from pull to clean-up, on scratch paths and in a network namespace of its
//! own, with the time of each stage. Takes the `cricket` program as its argument; without one, the
//! one beside itself.

#![allow(clippy::unwrap_used, reason = "a demo that fails says so and ends")]

use std::path::PathBuf;
use std::time::Instant;

use cricket_harness::{Client, Node, leaks, memory, requests, samples, sweep};

/// Prints a line a stage: what, with which outcome, how long.
struct Stages {
    since: Instant,
    begun: Instant,
}

impl Stages {
    fn begin() -> Stages {
        Stages {
            since: Instant::now(),
            begun: Instant::now(),
        }
    }

    fn done(&mut self, stage: &str, outcome: &str) {
        let ms = self.since.elapsed().as_secs_f64() * 1e3;
        println!("  {stage:<10} {outcome:<70} {ms:>7.1} ms");
        self.since = Instant::now();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    sweep::on_panic();
    let program = std::env::args_os()
        .nth(1)
        .map_or_else(beside, PathBuf::from);
    println!(
        "\ncricket: one pod, from pull to clean-up. Nothing of this machine's own is touched.\n"
    );
    // Made before the clock starts: reading busybox is no stage of cricket.
    samples::busybox();
    let mut stages = Stages::begin();
    let mut node = Node::start(&program).await;
    let version = node.cri.version(Default::default()).await.unwrap();
    let daemon = format!(
        "{} {} answers on {}",
        version.runtime_name,
        version.runtime_version,
        node.daemon.socket().display()
    );
    stages.done("daemon", &daemon);

    let name = node
        .any_registry()
        .push("busybox", "latest", samples::busybox());
    let outcome = format!(
        "{} on {} has {name}",
        node.any_registry().kind(),
        node.any_registry().host()
    );
    stages.done("registry", &outcome);

    let image = node
        .cri
        .pull(&name)
        .await
        .unwrap_or_else(|error| fail(&node, "pull", &error));
    stages.done("pull", &format!("image {}, unpacked", &image[..12]));

    let config = node.pod_config("hello");
    let pod = node
        .cri
        .run_pod(&config)
        .await
        .unwrap_or_else(|error| fail(&node, "pod", &error));
    let status = node.cri.pod(&pod).await.unwrap();
    let ip = status.network.unwrap_or_default().ip;
    stages.done(
        "pod",
        &format!(
            "{} runs at {ip} (CNI bridge, host-local, portmap)",
            &pod[..12]
        ),
    );

    let script = "echo hello from $HOSTNAME; exec sleep 1000";
    let container = requests::container("main", &name, &["sh", "-c", script]);
    let id = node.run_in(&pod, &config, &container).await;
    stages.done("container", &format!("{} created and started", &id[..12]));

    let file = node.log_file(&config, "main");
    let logged = || std::fs::read_to_string(&file).unwrap_or_default();
    node.until("the container has written its line", || {
        logged().ends_with('\n')
    })
    .await;
    stages.done("log", logged().trim_end());

    let reply = node.cri.exec(&id, &["uname", "-srm"], 10).await;
    let reply = reply.unwrap_or_else(|error| fail(&node, "exec", &error));
    let shown = String::from_utf8_lossy(&reply.stdout);
    stages.done("exec", &format!("uname -srm: {}", shown.trim_end()));

    stages.done("memory", &memory(&node, &program));
    end(node, &mut stages, &pod, &image).await;
    println!("\n  {:.1} s in all\n", stages.begun.elapsed().as_secs_f64());
}

async fn end(node: Node, stages: &mut Stages, pod: &str, image: &str) {
    let cri: Client = node.cri.clone();
    cri.stop_pod(pod)
        .await
        .unwrap_or_else(|error| fail(&node, "stop", &error));
    cri.remove_pod(pod)
        .await
        .unwrap_or_else(|error| fail(&node, "remove", &error));
    cri.remove_image(image)
        .await
        .unwrap_or_else(|error| fail(&node, "remove image", &error));
    stages.done("clean-up", "pod, container and image removed");
    let parents = [node.cgroup()];
    node.finish().await;
    stages.done(
        "nothing",
        "is left of them: no mount, namespace, link, cgroup, process, file",
    );
    // A kubelet makes and removes the cgroup that it names as a pod's parent; here nobody does.
    assert_eq!(leaks::cgroups_with(&parents), [] as [PathBuf; 0]);
    let outcome = format!("{}: the demo, as a kubelet, removed it", parents[0]);
    stages.done("pod parent", &outcome);
}

/// PSS of the daemon and of the one monitor.
fn memory(node: &Node, program: &std::path::Path) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let daemon = memory::of(node.daemon.pid()).unwrap_or_default().pss;
    let monitors = memory::running(&program.with_file_name("conmon"));
    let mut text = format!("daemon {:.1} MiB PSS", mib(daemon));
    if let Some(monitor) = monitors.first().and_then(|pid| memory::of(*pid)) {
        text += &format!(", monitor {:.2} MiB PSS", mib(monitor.pss));
    }
    text
}

fn beside() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("cricket")
}

fn fail(node: &Node, stage: &str, error: &impl std::fmt::Debug) -> ! {
    panic!(
        "{stage}: {error:?}\n--- log of the daemon ---\n{}",
        node.daemon.log()
    )
}
