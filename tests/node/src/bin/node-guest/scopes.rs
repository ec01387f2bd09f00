//! `scopes`: pods under systemd's cgroup driver on cgroup v2, as a kubelet with that driver has them.

use std::collections::BTreeMap;
use std::path::Path;

use cricket_harness::cri::{self, ContainerConfig, PodSandboxConfig, PodSandboxState};
use cricket_harness::{Client, requests};

use crate::pods::{self, IMAGE, LOGS, said};
use crate::units::{
    self, cgroup, file, holds, ours, output, processes, property, systemctl, until,
};
use crate::{Outcome, daemon, together};

const MIB: i64 = 1 << 20;
/// Takes the place of the configured driver while it is there.
const OTHER_DRIVER: &str = "/etc/crio/crio.conf.d/99-other-driver.conf";
const SERVICE: &str = "cricket.service";
/// One of them is in what crun, runc or the daemon say when nobody listens on the bus. Not `dbus`
/// alone: that is in the name of `podbus.slice`, which an error may tell too.
const NAMES_OF_THE_BUS: [&str; 4] = ["sd-bus", "D-Bus", "/run/dbus/", "dbus.service"];

/// A container and what it was made of.
struct Made {
    pod: String,
    container: String,
    slice: String,
    config: PodSandboxConfig,
}

/// Runs all of it; each part makes its own pod and removes it.
pub async fn run() -> Outcome {
    let mut cri = daemon::connect().await?;
    pods::image(&cri).await?;
    let before = ours()?;
    together([
        ("driver", driver(&cri).await),
        ("places", places(&cri).await),
        ("restarts", restarts(&mut cri).await),
        ("another driver", another_driver(&mut cri).await),
        ("limits", limits(&cri).await),
        ("out of memory", out_of_memory(&cri).await),
        ("stubborn", stubborn(&cri).await),
        ("wrong parents", wrong_parents(&cri).await),
        ("slice vanishes", slice_vanishes(&cri).await),
        ("without D-Bus", without_bus(&cri).await),
    ])?;
    until("the units of removed pods are forgotten", || {
        Ok(ours()?.len() <= before.len())
    })
    .map_err(|error| format!("{error}: {:?}", ours()))?;
    let failed = systemctl(&["--failed", "--plain", "--no-legend"])?;
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("failed units: {failed}")),
    }
}

fn say(what: &str) {
    println!("{what}");
}

/// The path of a kubelet's slice for a pod, as it sends it.
pub fn parent(name: &str) -> String {
    let slice = slice(name);
    format!("/kubepods.slice/kubepods-besteffort.slice/{slice}")
}

/// The slice itself: `-` stands between slices.
pub fn slice(name: &str) -> String {
    let name = name.replace('-', "_");
    format!("kubepods-besteffort-pod{name}.slice")
}

async fn make(cri: &Client, name: &str, container: ContainerConfig) -> Outcome<Made> {
    let config = requests::pod(name, &parent(name), Path::new(LOGS));
    let pod = cri.run_pod(&config).await.map_err(said("RunPodSandbox"))?;
    let id = start(cri, &pod, &container, &config).await?;
    Ok(Made {
        pod,
        container: id,
        slice: slice(name),
        config,
    })
}

async fn start(
    cri: &Client,
    pod: &str,
    container: &ContainerConfig,
    config: &PodSandboxConfig,
) -> Outcome<String> {
    let id = cri.create(pod, container, config).await;
    let id = id.map_err(said("CreateContainer"))?;
    cri.start(&id).await.map_err(said("StartContainer"))?;
    Ok(id)
}

fn sleeping() -> ContainerConfig {
    requests::container("main", IMAGE, &["sleep", "100000"])
}

impl Made {
    fn scope(&self) -> String {
        format!("crio-{}.scope", self.container)
    }

    fn monitor(&self) -> String {
        format!("crio-conmon-{}.scope", self.container)
    }

    /// Removes the pod; neither a unit nor a process of it stays.
    async fn remove(self, cri: &Client) -> Outcome {
        cri.stop_pod(&self.pod)
            .await
            .map_err(said("StopPodSandbox"))?;
        cri.remove_pod(&self.pod)
            .await
            .map_err(said("RemovePodSandbox"))?;
        let ids = [self.pod, self.container];
        until("nothing of a removed pod is left", || {
            let units = ours()?;
            let is_of = |unit: &String| ids.iter().any(|id| unit.contains(id.as_str()));
            Ok(!units.iter().any(is_of) && daemon::left_in_kernel(&ids).is_empty())
        })
        .map_err(|error| format!("{error}: {:?} {:?}", ours(), daemon::left_in_kernel(&ids)))
    }
}

async fn driver(cri: &Client) -> Outcome {
    let config = cri.runtime_config(cri::RuntimeConfigRequest {}).await;
    let linux = config
        .map_err(said("RuntimeConfig"))?
        .linux
        .unwrap_or_default();
    if linux.cgroup_driver() != cri::CgroupDriver::Systemd {
        return Err(format!("RuntimeConfig: {linux:?}"));
    }
    say("RuntimeConfig: systemd");
    Ok(())
}

/// Where systemd and the kernel see pod, container and monitor.
async fn places(cri: &Client) -> Outcome {
    let made = make(cri, "places", sleeping()).await?;
    is_in_place(&made)?;
    let own = cgroup(&made.slice)?.join(format!("crio-{}", made.pod));
    if !own.is_dir() {
        return Err(format!("{} is not there for cAdvisor", own.display()));
    }
    say("container and monitor are in scopes of their own");
    made.remove(cri).await
}

fn is_in_place(made: &Made) -> Outcome {
    let expected = [
        (made.scope(), "Slice", made.slice.as_str()),
        (made.scope(), "ActiveState", "active"),
        (made.monitor(), "Slice", "system.slice"),
        (made.monitor(), "ActiveState", "active"),
    ];
    for (unit, name, wanted) in expected {
        let found = property(&unit, name)?;
        if found != wanted {
            return Err(format!("{unit}: {name}={found} instead of {wanted}"));
        }
    }
    processes(&made.scope())?;
    let monitors = file(&made.monitor(), "cgroup.procs")?;
    let name = std::fs::read_to_string(format!("/proc/{monitors}/comm")).unwrap_or_default();
    if name.trim() != "conmon" {
        return Err(format!("{}: {monitors:?}, {name:?}", made.monitor()));
    }
    let daemon = file(SERVICE, "cgroup.procs")?;
    if daemon != property(SERVICE, "MainPID")? {
        return Err(format!("{SERVICE} holds {daemon:?}: not the daemon alone"));
    }
    Ok(())
}

/// What ends or restarts the service or PID 1 leaves monitors and containers alone.
async fn restarts(cri: &mut Client) -> Outcome {
    let made = make(cri, "restarts", sleeping()).await?;
    let now = || -> Outcome<_> { Ok((processes(&made.scope())?, processes(&made.monitor())?)) };
    let before = now()?;
    let unmoved = || match now()? {
        same if same == before => Ok(()),
        now => Err(format!("processes {now:?} instead of {before:?}")),
    };
    systemctl(&["stop", SERVICE])?;
    unmoved()?;
    systemctl(&["start", SERVICE])?;
    unmoved()?;
    systemctl(&["daemon-reexec"])?;
    unmoved()?;
    systemctl(&["restart", SERVICE])?;
    unmoved()?;
    *cri = daemon::connect().await?;
    is_in_place(&made)?;
    let status = cri.pod(&made.pod).await.map_err(said("PodSandboxStatus"))?;
    if status.state() != PodSandboxState::SandboxReady {
        return Err(format!("pod {} is not ready", made.pod));
    }
    // While PID 1 executes itself anew, too.
    let reexec = std::thread::spawn(|| systemctl(&["daemon-reexec"]));
    let during = make(cri, "during", sleeping()).await?;
    reexec.join().map_err(|_| "reexec")??;
    is_in_place(&during)?;
    during.remove(cri).await?;
    made.remove(cri).await?;
    say("stop, start, restart and daemon-reexec leave scopes alone");
    Ok(())
}

/// The administrator changes `cgroup_manager`: pods of before go on by what they were made with, also
/// their new containers, and back again.
async fn another_driver(cri: &mut Client) -> Outcome {
    let by_systemd = make(cri, "by-systemd", sleeping()).await?;
    std::fs::write(
        OTHER_DRIVER,
        "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"pod\"\n",
    )
    .map_err(|error| format!("{OTHER_DRIVER}: {error}"))?;
    systemctl(&["restart", SERVICE])?;
    *cri = daemon::connect().await?;
    let config = requests::pod("by-cgroupfs", "/kubepods/by-cgroupfs", Path::new(LOGS));
    let pod = cri.run_pod(&config).await.map_err(said("RunPodSandbox"))?;
    start(cri, &pod, &sleeping(), &config).await?;
    let of_slice = second_in(cri, &by_systemd.pod, &by_systemd.config).await;
    std::fs::remove_file(OTHER_DRIVER).map_err(|error| format!("{OTHER_DRIVER}: {error}"))?;
    systemctl(&["restart", SERVICE])?;
    *cri = daemon::connect().await?;
    let of_directory = second_in(cri, &pod, &config).await;
    let (of_slice, of_directory) = (of_slice?, of_directory?);
    for name in ["crio", "crio-conmon"] {
        let scope = format!("{name}-{of_slice}.scope");
        expect_slice(&scope, &by_systemd.slice)?;
        processes(&scope)?;
        let directory = format!("/sys/fs/cgroup/kubepods/by-cgroupfs/{name}-{of_directory}");
        match std::fs::read_to_string(format!("{directory}/cgroup.procs")) {
            Ok(held) if !held.is_empty() => {}
            other => return Err(format!("{directory}: {other:?}")),
        }
    }
    cri.stop_pod(&pod).await.map_err(said("StopPodSandbox"))?;
    cri.remove_pod(&pod)
        .await
        .map_err(said("RemovePodSandbox"))?;
    by_systemd.remove(cri).await?;
    say("pods keep the cgroup driver that they were made with");
    Ok(())
}

fn expect_slice(scope: &str, wanted: &str) -> Outcome {
    match property(scope, "Slice")? {
        found if found == wanted => Ok(()),
        found => Err(format!("{scope}: in {found} instead of {wanted}")),
    }
}

/// The id of a further container in a pod.
async fn second_in(cri: &Client, pod: &str, config: &PodSandboxConfig) -> Outcome<String> {
    let mut second = sleeping();
    if let Some(metadata) = &mut second.metadata {
        metadata.name = "second".into();
    }
    start(cri, pod, &second, config).await
}

/// Every limit arrives in the cgroup's files, at creation and with an update.
async fn limits(cri: &Client) -> Outcome {
    let mut config = sleeping();
    let wanted = requests::resources(&mut config);
    wanted.cpu_period = 100_000;
    wanted.cpu_quota = 50_000;
    wanted.cpu_shares = 1024;
    wanted.cpuset_cpus = "0".into();
    wanted.memory_limit_in_bytes = 64 * MIB;
    wanted.memory_swap_limit_in_bytes = 96 * MIB;
    wanted.hugepage_limits = vec![cri::HugepageLimit {
        page_size: "2MB".into(),
        limit: 4 << 20,
    }];
    let unified = [
        ("memory.oom.group", "1"),
        ("memory.high", "50331648"),
        ("memory.min", "1048576"),
        ("pids.max", "77"),
    ];
    let text = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    wanted.unified = unified.map(text).into();
    let made = make(cri, "limits", config).await?;
    let scope = made.scope();
    let files = [
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0"),
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("hugetlb.2MB.max", "4194304"),
    ];
    for (name, value) in files.into_iter().chain(unified) {
        holds(&scope, name, value)?;
    }
    let mut linux = cri::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 25_000,
        memory_limit_in_bytes: 128 * MIB,
        memory_swap_limit_in_bytes: 128 * MIB,
        cpuset_cpus: "0-1".into(),
        unified: BTreeMap::from([text(("memory.high", "100663296"))]),
        ..Default::default()
    };
    linux.cpu_shares = 2048;
    let request = cri::UpdateContainerResourcesRequest {
        container_id: made.container.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    let updated = cri.update_container_resources(request).await;
    updated.map_err(said("UpdateContainerResources"))?;
    let files = [
        ("cpu.max", "25000 100000"),
        ("cpuset.cpus", "0-1"),
        ("memory.max", "134217728"),
        ("memory.swap.max", "0"),
        ("memory.high", "100663296"),
    ];
    for (name, value) in files {
        holds(&scope, name, value)?;
    }
    // systemd writes what it knows again when it reads its units anew.
    systemctl(&["daemon-reload"])?;
    for (name, value) in files {
        holds(&scope, name, value).map_err(|error| format!("after daemon-reload: {error}"))?;
    }
    figures(cri, &made).await?;
    made.remove(cri).await?;
    say("limits are in the cgroup's files, also updated ones and after daemon-reload");
    Ok(())
}

async fn figures(cri: &Client, made: &Made) -> Outcome {
    let request = cri::ContainerStatsRequest {
        container_id: made.container.clone(),
    };
    let stats = cri
        .container_stats(request)
        .await
        .map_err(said("ContainerStats"))?;
    let stats = stats.stats.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let has_psi = stats.cpu.as_ref().is_some_and(|cpu| cpu.psi.is_some());
    let used = memory.usage_bytes.map_or(0, |value| value.value);
    let kernel = Path::new("/proc/pressure/cpu").exists();
    if used == 0 || has_psi != kernel {
        return Err(format!(
            "ContainerStats: {stats:?}, the kernel's PSI: {kernel}"
        ));
    }
    let request = cri::PodSandboxStatsRequest {
        pod_sandbox_id: made.pod.clone(),
    };
    let stats = cri
        .pod_sandbox_stats(request)
        .await
        .map_err(said("PodSandboxStats"))?;
    let linux = stats
        .stats
        .and_then(|stats| stats.linux)
        .unwrap_or_default();
    let used = linux.memory.and_then(|memory| memory.usage_bytes);
    if used.is_none_or(|used| used.value == 0) {
        return Err(format!("PodSandboxStats: {:?}", linux.cpu));
    }
    Ok(())
}

/// The kernel's verdict is told, and the failed scope does not stay.
async fn out_of_memory(cri: &Client) -> Outcome {
    let hog = ["sh", "-c", "x=a; while :; do x=$x$x; done"];
    let mut config = requests::container("main", IMAGE, &hog);
    let wanted = requests::resources(&mut config);
    wanted.memory_limit_in_bytes = 24 * MIB;
    wanted.memory_swap_limit_in_bytes = 24 * MIB;
    wanted.unified = BTreeMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
    let made = make(cri, "hog", config).await?;
    let status = cri.exited(&made.container).await;
    if (status.exit_code, status.reason.as_str()) != (137, "OOMKilled") {
        return Err(format!("the hog: {status:?}"));
    }
    made.remove(cri).await?;
    say("out of memory is told");
    Ok(())
}

/// Signals are ignored, and new processes keep coming.
async fn stubborn(cri: &Client) -> Outcome {
    let script = "trap '' TERM INT HUP; while :; do sleep 1 & wait; done";
    let made = make(
        cri,
        "stubborn",
        requests::container("main", IMAGE, &["sh", "-c", script]),
    )
    .await?;
    cri.stop(&made.container, 1)
        .await
        .map_err(said("StopContainer"))?;
    let status = cri.exited(&made.container).await;
    if status.exit_code != 137 {
        return Err(format!("stopped: {status:?}"));
    }
    made.remove(cri).await?;
    say("a process that ignores signals is ended");
    Ok(())
}

async fn wrong_parents(cri: &Client) -> Outcome {
    let table = [
        ("/kubepods/besteffort/pod1", "cgroup_manager is \"systemd\""),
        ("/kubepods.slice/../x.slice", "\"..\""),
        ("/a b.slice", "systemd-escape"),
    ];
    for (parent, wanted) in table {
        let config = requests::pod("wrong", parent, Path::new(LOGS));
        match cri.run_pod(&config).await {
            Err(refused) if refused.message().contains(wanted) => {}
            other => return Err(format!("{parent:?}: {other:?}")),
        }
    }
    say("parents of another driver are refused");
    Ok(())
}

/// Somebody ends the pod's slice: what was in it has ended, and the pod can be worked with.
async fn slice_vanishes(cri: &Client) -> Outcome {
    let mut made = make(cri, "vanishes", sleeping()).await?;
    systemctl(&["stop", &made.slice])?;
    cri.exited(&made.container).await;
    let mut second = sleeping();
    if let Some(metadata) = &mut second.metadata {
        metadata.attempt = 1;
    }
    cri.remove(&made.container)
        .await
        .map_err(said("RemoveContainer"))?;
    made.container = start(cri, &made.pod, &second, &made.config).await?;
    is_in_place(&made)?;
    made.remove(cri).await?;
    say("a slice that somebody has stopped is made again");
    Ok(())
}

/// Without D-Bus a container may not be made, and then the error names the bus; what runs runs on.
async fn without_bus(cri: &Client) -> Outcome {
    let made = make(cri, "bus", sleeping()).await?;
    systemctl(&["stop", "dbus.socket", "dbus.service"])?;
    let mut second = sleeping();
    if let Some(metadata) = &mut second.metadata {
        metadata.name = "second".into();
    }
    let refused = start(cri, &made.pod, &second, &made.config).await;
    let listed = cri.containers().await.map_err(said("ListContainers"));
    systemctl(&["start", "dbus.socket", "dbus.service"])?;
    if !listed?.iter().any(|it| it.id == made.container) {
        return Err("what ran before is not listed without D-Bus".into());
    }
    // An OCI runtime that talks to systemd's own socket needs no bus.
    let told = match refused {
        Ok(id) => format!("works without it ({id})"),
        Err(error) if NAMES_OF_THE_BUS.iter().any(|name| error.contains(name)) => error,
        Err(error) => {
            return Err(format!(
                "the error does not say that D-Bus is gone: {error}"
            ));
        }
    };
    say(&format!("without D-Bus: {told}"));
    until("systemd is back on the bus", || {
        let names = output(&["busctl", "--no-legend", "list"])?;
        Ok(names.contains("org.freedesktop.systemd1"))
    })?;
    if let Some(metadata) = &mut second.metadata {
        metadata.attempt = 1;
    }
    start(cri, &made.pod, &second, &made.config).await?;
    is_in_place(&made)?;
    units::until("the monitor made after that has its scope", || {
        Ok(ours()?
            .iter()
            .filter(|unit| unit.contains("crio-conmon-"))
            .count()
            >= 2)
    })?;
    made.remove(cri).await?;
    say("and with it again all is as before");
    Ok(())
}
