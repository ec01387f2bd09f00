//! STATUS and GC of CNI 1.1, with a plugin that writes down what it is asked.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{LONG, Netns, Scratch, sandbox_id};
use crate::network::whole::{Collection, collect_garbage};
use crate::network::{Networks, Pod};

/// Appends `<command> <request>` to `calls`; fails in STATUS with what is in `sick`; hangs in GC when there is
/// `stuck`, and notes its pid there; takes two seconds for GC when there is `slow`, and writes `ended` then.
const PLUGIN: &str = r#"request=$(cat)
printf '%s %s\n' "$CNI_COMMAND" "$request" >> calls
case $CNI_COMMAND in
STATUS) if [ -e sick ]; then
  printf '{"cniVersion":"1.1.0","code":50,"msg":"%s"}' "$(cat sick)"; exit 1
fi;;
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.9.9/24"}]}';;
GC) if [ -e stuck ]; then echo $$ > stuck; exec sleep 1000; fi
  if [ -e slow ]; then sleep 2; echo > ended; fi;;
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

/// A pod with a network namespace of its own.
fn pod(scratch: &Scratch, number: u32) -> (Netns, Pod) {
    let netns = Netns::pin(&scratch.path("netns"), &sandbox_id(number));
    let pod = Pod {
        sandbox_id: sandbox_id(number),
        netns: netns.path.clone(),
        ..Pod::default()
    };
    (netns, pod)
}

#[tokio::test]
async fn a_collection_that_was_given_up_is_tried_again() {
    let scratch = scratch("1.1.0", "");
    std::fs::write(scratch.path("stuck"), "").unwrap();
    let networks = Networks::open(scratch.settings());
    networks.ready(LONG).await.unwrap();
    let pauses = [Duration::from_millis(100); 3];
    let weak = Arc::downgrade(&networks);
    let collected = tokio::spawn(async move { collect_garbage(weak, &pauses).await });
    let stuck = || std::fs::read_to_string(scratch.path("stuck")).unwrap_or_default();
    until("GC hangs", || stuck().ends_with('\n')).await;
    std::fs::remove_file(scratch.path("stuck")).unwrap();
    let (_netns, pod) = pod(&scratch, 1);
    networks.attach(&pod).await.unwrap();
    assert!(collected.await.unwrap(), "the second time");
    let asked = asked(&scratch, "GC");
    assert_eq!(asked.len(), 2);
    let valid = |request: &Value| request["cni.dev/valid-attachments"].clone();
    assert_eq!(valid(&asked[0]), json!([]));
    assert_eq!(
        valid(&asked[1]),
        json!([{"containerID": sandbox_id(1), "ifname": "eth0"}]),
        "with what there is by then"
    );
    networks.detach(&pod).await.unwrap();
}

#[tokio::test]
async fn a_collection_that_always_hangs_is_tried_so_often_and_no_more() {
    let scratch = scratch("1.1.0", "");
    std::fs::write(scratch.path("stuck"), "").unwrap();
    let networks = Networks::open(scratch.settings());
    networks.ready(LONG).await.unwrap();
    let pauses = [Duration::from_millis(100); 2];
    let weak = Arc::downgrade(&networks);
    let collected = tokio::spawn(async move { collect_garbage(weak, &pauses).await });
    for number in 1..=3_u32 {
        until("GC hangs", || {
            asked(&scratch, "GC").len() == number as usize
        })
        .await;
        let (_netns, pod) = pod(&scratch, number);
        let begun = std::time::Instant::now();
        networks.attach(&pod).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "not as long as GC"
        );
        networks.detach(&pod).await.unwrap();
    }
    assert!(!collected.await.unwrap(), "it is told as not done");
    assert_eq!(asked(&scratch, "GC").len(), 3);
    assert!(networks.in_flight().is_empty());
}

#[tokio::test]
async fn a_collection_that_nobody_waits_for_may_take_its_time() {
    let scratch = scratch("1.1.0", "");
    std::fs::write(scratch.path("slow"), "").unwrap();
    let networks = Networks::open(scratch.settings());
    networks.ready(LONG).await.unwrap();
    assert!(collect_garbage(Arc::downgrade(&networks), &[]).await);
    assert!(scratch.path("ended").exists(), "the plugin was killed");
    assert_eq!(asked(&scratch, "GC").len(), 1);
}

#[tokio::test]
async fn a_network_may_forbid_the_collection() {
    let scratch = scratch("1.1.0", r#""disableGC":true,"#);
    let networks = Networks::open(scratch.settings());
    networks.ready(LONG).await.unwrap();
    let network = networks.current.default_network().unwrap();
    assert_eq!(networks.collect(&network).await, Collection::Done);
    assert!(asked(&scratch, "GC").is_empty());
}
