//! The real crictl, as a person on a node uses it, from version to rmi.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use cricket_harness::{Node, cgroups, samples, tools};
use serde_json::{Value, json};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// Runs crictl against a node.
struct Crictl {
    endpoint: String,
    config: String,
}

impl Crictl {
    fn new(node: &Node) -> Crictl {
        let config = node.dir().join("crictl.yaml");
        std::fs::write(&config, "").unwrap();
        Crictl {
            endpoint: format!("unix://{}", node.daemon.socket().display()),
            config: config.to_string_lossy().into_owned(),
        }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(tools::crictl());
        command.args([
            "--config",
            &self.config,
            "--runtime-endpoint",
            &self.endpoint,
        ]);
        command
            .args(["--image-endpoint", &self.endpoint, "--timeout", "60s"])
            .args(arguments);
        let text = tools::run(&mut command);
        println!("$ crictl {}\n{}", arguments.join(" "), text.trim_end());
        text
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        // Options must stand before a verb's names.
        let (verb, rest) = arguments.split_first().unwrap();
        let text = self.run(&[&[*verb, "-o", "json"], rest].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

fn pod_json(node: &Node) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "attempt": 0},
        "hostname": "web",
        "log_directory": node.logs(),
        "labels": {"app": "web"},
        "linux": {"cgroup_parent": cgroups::pod_parent(&node.cgroup(), "web")},
    })
}

fn container_json(image: &str) -> Value {
    json!({
        "metadata": {"name": "main", "attempt": 0},
        "image": {"image": image},
        "command": ["sh", "-c", "echo hello from $HOSTNAME; exec sleep 1000"],
        "log_path": "main.log",
        "linux": {"resources": {"memory_limit_in_bytes": 64 << 20}},
    })
}

#[tokio::test]
async fn the_whole_sequence_from_version_to_rmi() {
    let mut node = Node::start(CRICKET).await;
    let image = node
        .registry()
        .push("busybox", "latest", samples::busybox());
    let crictl = Crictl::new(&node);
    let (pod_file, container_file) = (node.dir().join("pod.json"), node.dir().join("ctr.json"));
    std::fs::write(&pod_file, pod_json(&node).to_string()).unwrap();
    std::fs::write(&container_file, container_json(&image).to_string()).unwrap();
    let (pod_file, container_file) = (pod_file.to_string_lossy(), container_file.to_string_lossy());

    assert!(crictl.run(&["version"]).contains("RuntimeApiVersion:  v1"));
    let info = crictl.json(&["info"]);
    let conditions = info["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .all(|condition| condition["status"] == true),
        "{info}"
    );

    assert!(
        crictl
            .run(&["pull", &image])
            .contains(samples::busybox().id())
    );
    let images = crictl.json(&["images"]);
    assert_eq!(images["images"][0]["repoTags"][0], image.as_str());
    let inspected = crictl.json(&["inspecti", &image]);
    assert_eq!(inspected["status"]["id"], samples::busybox().id());

    let pod = crictl.run(&["runp", &pod_file]).trim().to_owned();
    assert_eq!(pod.len(), 64, "{pod}");
    let pods = crictl.json(&["pods"]);
    assert_eq!(pods["items"][0]["id"], pod.as_str());
    assert_eq!(pods["items"][0]["state"], "SANDBOX_READY");
    let inspected = crictl.json(&["inspectp", &pod]);
    let ip = inspected["status"]["network"]["ip"].as_str().unwrap();
    assert!(ip.starts_with("10.88.77."), "{inspected}");

    let created = crictl.run(&["create", &pod, &container_file, &pod_file]);
    let id = created.trim();
    crictl.run(&["start", id]);
    let listed = crictl.json(&["ps"]);
    assert_eq!(listed["containers"][0]["id"], id);
    assert_eq!(listed["containers"][0]["state"], "CONTAINER_RUNNING");
    let inspected = crictl.json(&["inspect", id]);
    assert_eq!(inspected["status"]["metadata"]["name"], "main");
    assert_eq!(inspected["status"]["imageId"], samples::busybox().id());
    assert!(
        inspected["info"]["pid"].as_u64().unwrap() > 1,
        "{inspected}"
    );
    node.until("the log has its line", || {
        crictl.run(&["logs", id]).contains("hello from web")
    })
    .await;
    // crictl ends both streams with a line of its own.
    let said = crictl.run(&["exec", "-s", id, "echo", "from", "exec"]);
    assert_eq!(said.trim_end(), "from exec");
    let stats = crictl.json(&["stats", "--seconds", "0", id]);
    assert_eq!(stats["stats"][0]["attributes"]["id"], id);
    let memory = stats["stats"][0]["memory"]["workingSetBytes"]["value"]
        .as_str()
        .unwrap();
    assert!(memory.parse::<u64>().unwrap() > 0);

    crictl.run(&["stop", "--timeout", "0", id]);
    assert_eq!(
        crictl.json(&["inspect", id])["status"]["state"],
        "CONTAINER_EXITED"
    );
    crictl.run(&["rm", id]);
    assert_eq!(crictl.json(&["ps", "-a"])["containers"], json!([]));
    crictl.run(&["stopp", &pod]);
    assert_eq!(
        crictl.json(&["inspectp", &pod])["status"]["state"],
        "SANDBOX_NOTREADY"
    );
    crictl.run(&["rmp", &pod]);
    assert_eq!(crictl.json(&["pods"])["items"], json!([]));
    crictl.run(&["rmi", &image]);
    assert_eq!(crictl.json(&["images"])["images"], json!([]));
    node.finish().await;
}
