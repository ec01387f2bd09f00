//! STATUS and GC of CNI 1.1, with a plugin that writes down what it is asked.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LONG, Netns, Scratch, sandbox_id};
use crate::network::{Networks, Pod};

/// Appends `<command> <request>` to `calls`; fails in STATUS with what is in `sick`; hangs in GC when there is
/// `stuck`, and notes its pid there.
const PLUGIN: &str = r#"request=$(cat)
printf '%s %s\n' "$CNI_COMMAND" "$request" >> calls
case $CNI_COMMAND in
STATUS) if [ -e sick ]; then
  printf '{"cniVersion":"1.1.0","code":50,"msg":"%s"}' "$(cat sick)"; exit 1
fi;;
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.9.9/24"}]}';;
GC) if [ -e stuck ]; then echo $$ > stuck; exec sleep 1000; fi;;
esac"#;

fn scratch(version: &str, more: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.script("told", PLUGIN);
    scratch.configure(&format!(
        r#"{{"cniVersion":"{version}","name":"told",{more}"plugins":[{{"type":"told","x":1}}]}}"#
    ));
    scratch
}

/// The requests of a command so far.
fn asked(scratch: &Scratch, command: &str) -> Vec<Value> {
    let calls = std::fs::read_to_string(scratch.path("calls")).unwrap_or_default();
    let of = calls.lines().filter_map(|line| line.strip_prefix(command));
    of.map(|request| serde_json::from_str(request).unwrap())
        .collect()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

#[tokio::test]
async fn plugins_that_are_not_ready_are_quoted_and_asked_until_they_are() {
    let scratch = scratch("1.1.0", "");
    std::fs::write(scratch.path("sick"), "no controller").unwrap();
    let networks = Networks::open(scratch.settings());
    let reason = networks.readiness().unwrap_err().reason;
    assert!(reason.contains("STATUS"), "{reason}");
    let says = || networks.readiness().err().map(|why| why.reason);
    until("the plugin is quoted", || {
        says().is_some_and(|reason| reason.contains("no controller") && reason.contains("\"told\""))
    })
    .await;
    std::fs::remove_file(scratch.path("sick")).unwrap();
    networks.ready(LONG).await.unwrap();
    let request = asked(&scratch, "STATUS").remove(0);
    assert_eq!(
        request,
        json!({"type": "told", "x": 1, "name": "told", "cniVersion": "1.1.0"})
    );
    let asked_before = asked(&scratch, "STATUS").len();
    for _ in 0..100 {
        networks.readiness().unwrap();
    }
    assert_eq!(
        asked(&scratch, "STATUS").len(),
        asked_before,
        "reads ask nobody"
    );
}

#[tokio::test]
async fn a_network_before_1_1_is_never_asked() {
    let scratch = scratch("1.0.0", "");
    let networks = Networks::open(scratch.settings());
    networks.readiness().unwrap();
    networks.collect_garbage();
    let netns = Netns::pin(&scratch.path("netns"), &sandbox_id(1));
    let pod = Pod {
        sandbox_id: sandbox_id(1),
        netns: netns.path.clone(),
        ..Pod::default()
    };
    networks.attach(&pod).await.unwrap();
    networks.detach(&pod).await.unwrap();
    assert!(asked(&scratch, "STATUS").is_empty() && asked(&scratch, "GC").is_empty());
}

#[tokio::test]
async fn garbage_is_collected_once_with_all_attachments_of_the_network() {
    let scratch = scratch("1.1.0", "");
    let networks = Networks::open(scratch.settings());
    networks.ready(LONG).await.unwrap();
    let netns = Netns::pin(&scratch.path("netns"), &sandbox_id(1));
    let pod = Pod {
        sandbox_id: sandbox_id(1),
        netns: netns.path.clone(),
        ..Pod::default()
    };
    networks.attach(&pod).await.unwrap();
    networks.collect_garbage();
    until("GC", || !asked(&scratch, "GC").is_empty()).await;
    let request = asked(&scratch, "GC").remove(0);
    // the second by an earlier text of the specification
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(
            request[key],
            json!([{"containerID": sandbox_id(1), "ifname": "eth0"}]),
            "{key}"
        );
    }
    networks.detach(&pod).await.unwrap();
    assert_eq!(asked(&scratch, "GC").len(), 1);
}

#[tokio::test]
async fn a_collection_that_hangs_gives_way_to_pods() {
    let scratch = scratch("1.1.0", "");
    std::fs::write(scratch.path("stuck"), "").unwrap();
    let networks = Networks::open(scratch.settings());
    networks.ready(LONG).await.unwrap();
    networks.collect_garbage();
    let stuck = || std::fs::read_to_string(scratch.path("stuck")).unwrap_or_default();
    until("GC hangs", || stuck().ends_with('\n')).await;
    let netns = Netns::pin(&scratch.path("netns"), &sandbox_id(1));
    let pod = Pod {
        sandbox_id: sandbox_id(1),
        netns: netns.path.clone(),
        ..Pod::default()
    };
    // Not by GC's own deadline, which is longer than that of the wait.
    let attached = networks.attach(&pod);
    let attached = tokio::time::timeout(Duration::from_secs(20), attached).await;
    attached.expect("it waits for GC").unwrap();
    let program = format!("/proc/{}/cmdline", stuck().trim());
    until("the plugin has ended", || {
        std::fs::read(&program).map_or(true, |text| text.is_empty())
    })
    .await;
    networks.detach(&pod).await.unwrap();
}

#[tokio::test]
async fn a_network_may_forbid_the_collection() {
    let scratch = scratch("1.1.0", r#""disableGC":true,"#);
    let networks = Networks::open(scratch.settings());
    networks.ready(LONG).await.unwrap();
    let network = networks.current.default_network().unwrap();
    assert!(networks.collect(&network).await, "it is done with");
    assert!(asked(&scratch, "GC").is_empty());
}
