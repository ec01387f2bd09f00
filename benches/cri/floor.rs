//! The floor: the same bundle by `runc create` and `runc start`, the same CNI plugin by hand.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use cricket_harness::net::Net;
use cricket_harness::{node, samples, tools};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::table::{Samples, Table};
use crate::target::{Target, network};

/// Rounds of create, start, ADD and, untimed for the start, their ends.
pub async fn measure(target: &Target, image: &str, rounds: usize, table: &mut Table) {
    // runc's init becomes an orphan; whoever waits for it must be its reaper.
    set_child_subreaper(true).unwrap();
    let bundle = bundle(target, image).await;
    let (mut create_start, mut add, mut end, mut del, mut whole) = Default::default();
    for round in 0..rounds {
        let net = Net::create(target.dir().join(format!("floor-net{round}")));
        let id = format!("floor{}-{round}", std::process::id());
        let begun = Instant::now();
        cni(target, "ADD", &id, net.file());
        Samples::since(&mut add, begun);
        let middle = Instant::now();
        let pid = start(&bundle, &id, net.file());
        Samples::since(&mut create_start, middle);
        Samples::since(&mut whole, begun);
        let begun = Instant::now();
        runc(&bundle).args(["kill", &id, "KILL"]).status().unwrap();
        waitpid(pid, None).unwrap();
        runc(&bundle).args(["delete", &id]).status().unwrap();
        Samples::since(&mut end, begun);
        let begun = Instant::now();
        cni(target, "DEL", &id, net.file());
        Samples::since(&mut del, begun);
    }
    set_child_subreaper(false).unwrap();
    table.add("runc create + start, by hand", create_start.spread());
    table.add("CNI bridge ADD, by hand", add.spread());
    table.add("floor: ADD + create + start", whole.spread());
    table.floor = Some(whole.percentile(50));
    table.add("runc kill + delete, by hand", end.spread());
    table.add("CNI bridge DEL, by hand", del.spread());
}

/// A bundle like the one cricket makes: its own config.json, on a root of plain files.
async fn bundle(target: &Target, image: &str) -> PathBuf {
    let bundle = target.dir().join("floor");
    let rootfs = bundle.join("rootfs");
    std::fs::create_dir_all(&rootfs).unwrap();
    let layer = samples::busybox_layer().into_tar();
    tar::Archive::new(layer.as_slice()).unpack(&rootfs).unwrap();
    let (pod, container) = target.run("template", image).await;
    let spec = target.node.as_ref().map(|node| {
        let file = node
            .daemon
            .runroot()
            .join("containers")
            .join(&container)
            .join("config.json");
        std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    });
    target.end(&pod, &container).await;
    let mut spec: Value = match spec {
        Some(bytes) => serde_json::from_slice(&bytes).unwrap(),
        None => default_spec(&bundle),
    };
    spec["root"] = json!({"path": rootfs});
    spec["linux"]["cgroupsPath"] = Value::Null;
    spec["hooks"] = Value::Null;
    let scratch = std::env::temp_dir()
        .join("ck-")
        .to_string_lossy()
        .into_owned();
    let own = |mount: &Value| {
        mount["source"]
            .as_str()
            .is_some_and(|at| at.starts_with(&scratch))
    };
    spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !own(mount));
    for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
        namespace.as_object_mut().unwrap().shift_remove("path");
    }
    std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    bundle
}

fn default_spec(bundle: &Path) -> Value {
    drop(std::fs::remove_file(bundle.join("config.json")));
    tools::run(runc(bundle).args(["spec", "--bundle"]).arg(bundle));
    let mut spec: Value =
        serde_json::from_slice(&std::fs::read(bundle.join("config.json")).unwrap()).unwrap();
    spec["process"]["args"] = json!(["sleep", "100000"]);
    spec["process"]["terminal"] = json!(false);
    spec
}

fn runc(bundle: &Path) -> Command {
    let mut command = Command::new(tools::need("runc"));
    command.arg("--root").arg(bundle.join("state"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn start(bundle: &Path, id: &str, netns: &Path) -> Pid {
    let file = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    spec["linux"]["cgroupsPath"] = json!(format!("/cricket-bench/{id}"));
    let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    let network = namespaces
        .iter_mut()
        .find(|one| one["type"] == "network")
        .unwrap();
    network["path"] = json!(netns);
    std::fs::write(&file, spec.to_string()).unwrap();
    let pid_file = bundle.join("pid");
    let mut create = runc(bundle);
    create
        .args(["create", "--bundle"])
        .arg(bundle)
        .arg("--pid-file")
        .arg(&pid_file)
        .arg(id);
    assert!(create.status().unwrap().success(), "{create:?}");
    assert!(runc(bundle).args(["start", id]).status().unwrap().success());
    Pid::from_raw(std::fs::read_to_string(pid_file).unwrap().parse().unwrap())
}

fn cni(target: &Target, command: &str, id: &str, netns: &Path) {
    let list = network(&node::bridge(target.dir()));
    let mut config = list["plugins"][0].clone();
    config["name"] = json!("floor");
    config["cniVersion"] = list["cniVersion"].clone();
    let plugin = tools::cni_plugin("bridge");
    let path = std::env::join_paths(tools::cni_dirs()).unwrap();
    target.net().enter(|| {
        let mut child = Command::new(&plugin)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(config.to_string().as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "{command}");
    });
}
