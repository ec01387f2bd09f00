//! What a daemon finds after a reboot: addresses that nobody uses any more, and pids that others
//! have now.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use cricket_harness::cri::{ContainerState, NamespaceMode};
use cricket_harness::{Node, leaks, requests, sweep, tools};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::CRICKET;
use super::processes::stat_field;

/// proc_pid_stat(5): clock ticks from the boot to the process's start.
const START_TIME: usize = 22;

/// Where the run root is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RunRoot {
    /// On a tmpfs, as it should be.
    Memory,
    /// On a disk: the records are still there.
    Disk,
}

/// Ends all processes of pods and containers, so that nobody writes their end down.
fn end_all(ids: &[String]) {
    let mut processes = leaks::processes_with(ids);
    processes.sort_by_key(|(_, facts)| !facts.contains("conmon"));
    for (pid, _) in processes {
        // One may end with another.
        let pid = Pid::from_raw(i32::try_from(pid).unwrap());
        let _ = kill(pid, Signal::SIGKILL);
    }
    while !leaks::processes_with(ids).is_empty() {
        std::thread::yield_now();
    }
}

/// Kills the daemon, and takes away what a reboot takes away.
fn shut_down(node: &mut Node, run_root: RunRoot) {
    node.daemon.kill();
    end_all(&node.cri.ids());
    let own = node.net().file().to_owned();
    let mounts = leaks::mounts_below(node.dir()).into_iter();
    for at in mounts.filter(|at| *at != own) {
        umount2(&at, MntFlags::MNT_DETACH).unwrap();
    }
    for link in node.net().links() {
        // The other end of a pair has gone with the first.
        let ip = tools::need("ip");
        drop(tools::output(
            node.net().command(&ip).args(["link", "delete", &link]),
        ));
    }
    sweep::cgroups(&[node.cgroup()]);
    fs::remove_dir_all(node.daemon.namespaces()).unwrap();
    let run = node.daemon.runroot();
    if run_root == RunRoot::Memory {
        fs::remove_dir_all(&run).unwrap();
        drop(fs::remove_dir_all(run.with_file_name("runc")));
    } else {
        fs::write(run.join("boot"), "of-yesterday").unwrap();
    }
    node.daemon.write_config();
}

async fn boot(node: &mut Node) {
    node.daemon.launch();
    node.reconnect().await;
}

/// A bridge plugin that notes its calls, and whose DEL fails as long as it is told to.
struct Fussy(tempfile::TempDir);

impl Fussy {
    fn new() -> Fussy {
        Fussy(tempfile::tempdir().unwrap())
    }

    async fn node(&self) -> Node {
        let dir = self.0.path().display();
        let real = tools::cni_dirs()
            .into_iter()
            .map(|place| place.join("bridge"))
            .find(|plugin| plugin.is_file())
            .expect("the bridge plugin is installed");
        let script = format!(
            "#!/bin/sh\ninput={dir}/$CNI_COMMAND.$CNI_CONTAINERID\ncat > $input\n\
             echo \"$CNI_COMMAND '$CNI_NETNS'\" >> {dir}/calls\n\
             if [ $CNI_COMMAND = DEL ] && [ -e {dir}/refuse ]; then\n \
             echo '{{\"cniVersion\": \"1.0.0\", \"code\": 11, \"msg\": \"the fabric is away\"}}'\n exit 1\nfi\n\
             exec {} < $input\n",
            real.display()
        );
        Node::start_with(CRICKET, |options| {
            options.plugins = vec![("bridge".into(), script)];
        })
        .await
    }

    fn refuse(&self, refuse: bool) {
        let file = self.0.path().join("refuse");
        if refuse {
            fs::write(file, "").unwrap();
        } else {
            fs::remove_file(file).unwrap();
        }
    }

    fn deletions(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join("calls")).unwrap();
        let deletions = text.lines().filter(|call| call.starts_with("DEL"));
        deletions.map(str::to_owned).collect()
    }

    /// What DEL was given of the pod's ADD.
    fn told(&self, pod: &str) -> serde_json::Value {
        let text = fs::read(self.0.path().join(format!("DEL.{pod}"))).unwrap();
        let given: serde_json::Value = serde_json::from_slice(&text).unwrap();
        given["prevResult"]["ips"][0]["address"].clone()
    }
}

/// The addresses that are taken.
fn leases(node: &Node) -> Vec<PathBuf> {
    let is_address = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy();
        name.parse::<std::net::IpAddr>().is_ok()
    };
    let files = leaks::files(&node.dir().join("cni/leases")).into_iter();
    files.filter(is_address).collect()
}

#[tokio::test]
async fn a_reboot_gives_every_address_back_by_what_is_cached_of_it() {
    for run_root in [RunRoot::Memory, RunRoot::Disk] {
        let fussy = Fussy::new();
        let mut node = fussy.node().await;
        let mut pods = Vec::new();
        for name in ["one", "two", "three"] {
            let pod = node.cri.run_pod(&node.pod_config(name)).await.unwrap();
            let status = node.cri.pod(&pod).await.unwrap();
            pods.push((pod, status.network.unwrap().ip + "/24"));
        }
        assert_eq!(leases(&node).len(), 3);
        shut_down(&mut node, run_root);
        assert_eq!(leases(&node).len(), 3, "they are on the disk");
        boot(&mut node).await;
        assert_eq!(node.cri.pods().await.unwrap(), []);
        node.until("the addresses are free", || leases(&node).is_empty())
            .await;
        // There is no namespace that a plugin could enter, and a wrong one must not be named.
        assert_eq!(fussy.deletions(), ["DEL ''"; 3]);
        for (pod, address) in pods {
            assert_eq!(fussy.told(&pod), address.as_str());
        }
        // The kubelet comes with the same pod again.
        let config = node.pod_config("one");
        node.cri.run_pod(&config).await.unwrap();
        node.finish().await;
    }
}

#[tokio::test]
async fn an_address_that_a_plugin_refuses_to_free_after_a_reboot_is_asked_for_again() {
    let fussy = Fussy::new();
    let mut node = fussy.node().await;
    node.cri.run_pod(&node.pod_config("kept")).await.unwrap();
    shut_down(&mut node, RunRoot::Memory);
    fussy.refuse(true);
    boot(&mut node).await;
    node.until("the first try", || !fussy.deletions().is_empty())
        .await;
    node.until("the log quotes the plugin", || {
        node.daemon.log().contains("the fabric is away")
    })
    .await;
    assert_eq!(leases(&node).len(), 1);
    fussy.refuse(false);
    // The record goes last.
    let results = node.dir().join("cni/cache/results");
    node.until("the next try", || {
        leases(&node).is_empty() && fs::read_dir(&results).unwrap().next().is_none()
    })
    .await;
    node.finish().await;
}

#[tokio::test]
async fn a_pod_whose_address_cannot_be_freed_is_removed_as_soon_as_it_can() {
    let fussy = Fussy::new();
    let node = fussy.node().await;
    let pod = node.cri.run_pod(&node.pod_config("stays")).await.unwrap();
    fussy.refuse(true);
    let error = node.cri.stop_pod(&pod).await.unwrap_err();
    assert!(error.message().contains("the fabric is away"), "{error}");
    let error = node.cri.remove_pod(&pod).await.unwrap_err();
    assert!(error.message().contains("the fabric is away"), "{error}");
    assert_eq!(leases(&node).len(), 1);
    fussy.refuse(false);
    node.cri.remove_pod(&pod).await.unwrap();
    assert_eq!(leases(&node), Vec::<PathBuf>::new());
    node.finish().await;
}

/// Somebody else's process.
struct Bystander(Child);

impl Bystander {
    fn new() -> Bystander {
        Bystander(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Has a record say that a process has `pid`, and that it began at `start_time`.
fn give(file: &Path, field: &str, pid: u32, start_time: Option<u64>) {
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert!(record[field]["pid"].is_u64(), "{record}");
    record[field]["pid"] = pid.into();
    if let Some(start_time) = start_time {
        record[field]["start_time"] = start_time.into();
    }
    fs::write(file, record.to_string()).unwrap();
}

/// The files of a pod's and a container's record.
fn records(node: &Node, pod: &str, container: &str) -> [PathBuf; 2] {
    let file = |kind, id| {
        node.daemon
            .runroot()
            .join(kind)
            .join(id)
            .join("record.json")
    };
    [file("sandboxes", pod), file("containers", container)]
}

/// A pod with a pause process, and a container in it.
async fn shared(node: &Node, image: &str) -> (String, String) {
    let mut config = node.pod_config("shared");
    requests::pod_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = node.cri.run_pod(&config).await.unwrap();
    let mut container = requests::container("main", image, &["sleep", "1000"]);
    let options = requests::security(&mut container)
        .namespace_options
        .as_mut();
    options.unwrap().pid = NamespaceMode::Pod.into();
    let id = node.run_in(&pod, &config, &container).await;
    (pod, id)
}

#[tokio::test]
async fn a_pid_that_another_process_has_since_a_reboot_is_not_touched() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container) = shared(&node, &image).await;
    let mut bystander = Bystander::new();
    let pid = bystander.0.id();
    shut_down(&mut node, RunRoot::Disk);
    // Chance may even give it the same start: it is counted from each boot.
    let start = Some(stat_field(pid, START_TIME));
    let [of_pod, of_container] = records(&node, &pod, &container);
    give(&of_pod, "pause", pid, start);
    give(&of_container, "init", pid, start);
    boot(&mut node).await;
    assert_eq!(node.cri.pods().await.unwrap(), []);
    assert_eq!(node.cri.containers().await.unwrap(), []);
    let runtime = node.daemon.runroot().with_file_name("runc");
    node.until("what the runtime has kept is swept", || {
        leaks::files(&runtime).is_empty()
    })
    .await;
    let again = node.cri.run_pod(&node.pod_config("shared")).await.unwrap();
    node.cri.remove_pod(&again).await.unwrap();
    assert!(bystander.lives());
    node.finish().await;
    assert!(bystander.lives());
}

#[tokio::test]
async fn a_pid_that_another_process_has_meanwhile_is_not_touched() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, container) = shared(&node, &image).await;
    let mut bystander = Bystander::new();
    node.daemon.kill();
    end_all(&[pod.clone(), container.clone()]);
    let [of_pod, of_container] = records(&node, &pod, &container);
    give(&of_container, "init", bystander.0.id(), None);
    give(&of_pod, "pause", bystander.0.id(), None);
    boot(&mut node).await;
    let status = node.cri.exited(&container).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (255, "MonitorLost")
    );
    assert_eq!(status.state(), ContainerState::ContainerExited);
    node.cri.stop(&container, 0).await.unwrap();
    node.cri.remove(&container).await.unwrap();
    node.cri.stop_pod(&pod).await.unwrap();
    node.cri.remove_pod(&pod).await.unwrap();
    assert!(bystander.lives());
    node.finish().await;
    assert!(bystander.lives());
}
