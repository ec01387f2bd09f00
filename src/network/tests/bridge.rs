//! The common chain: bridge with host-local, then portmap.

use std::{collections::BTreeSet, process::Command, time::Instant};

use crate::network::{PortMapping, Protocol};

use super::*;

/// A host with the network `podnet` on the bridge `cni0`, and its leases.
struct Bridge {
    scratch: Scratch,
}

impl Bridge {
    fn new() -> Self {
        let this = Self {
            scratch: Scratch::new(),
        };
        let data_dir = this.scratch.path("leases").display().to_string();
        this.scratch.configure(&format!(
            r#"{{"cniVersion":"1.0.0","name":"podnet","plugins":[
                {{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,
                  "ipam":{{"type":"host-local","dataDir":"{data_dir}",
                          "routes":[{{"dst":"0.0.0.0/0"}}],
                          "ranges":[[{{"subnet":"10.213.0.0/24"}}]]}}}},
                {{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#,
        ));
        this
    }

    /// Leased addresses, without host-local's own files.
    fn leases(&self) -> Vec<String> {
        let names = self.scratch.names("leases/podnet");
        names
            .into_iter()
            .filter(|name| name.starts_with("10."))
            .collect()
    }

    /// Interfaces of the host that are ports of the bridge.
    fn ports(&self) -> usize {
        host(&["ip", "-o", "link", "show", "master", "cni0"])
            .lines()
            .count()
    }
}

/// What a command says on the test's host.
fn host(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_pod_gets_an_address_and_gives_everything_back_twice() {
    on_a_host_of_its_own(|| async {
        let bridge = Bridge::new();
        let networks = bridge.scratch.open();
        networks.readiness().unwrap();
        for round in 1..=2 {
            let pod = bridge.scratch.pod(round);
            let netns = Netns::pin(&bridge.scratch.path("netns"), &pod.sandbox_id);
            let attachment = networks.attach(&pod).await.unwrap();
            let ip = attachment.ips[0].to_string();
            assert_eq!(netns.addresses(), [("eth0".to_owned(), ip.clone())]);
            assert_eq!(bridge.leases(), [ip]);
            assert_eq!(bridge.ports(), 1);
            assert_eq!(attachment.result["cniVersion"], "1.0.0");
            assert_eq!(
                bridge.scratch.names("cache/results"),
                [format!("podnet-{}-eth0", pod.sandbox_id)]
            );
            assert_eq!(
                networks.attached().unwrap(),
                BTreeSet::from([pod.sandbox_id.clone()])
            );

            for _ in 0..2 {
                networks.detach(&pod).await.unwrap();
                assert!(netns.addresses().is_empty() && bridge.leases().is_empty());
                assert_eq!(bridge.ports(), 0);
                assert!(bridge.scratch.names("cache/results").is_empty());
            }
        }
    });
}

#[test]
fn an_add_is_not_made_twice() {
    on_a_host_of_its_own(|| async {
        let bridge = Bridge::new();
        let networks = bridge.scratch.open();
        let pod = bridge.scratch.pod(1);
        let _netns = Netns::pin(&bridge.scratch.path("netns"), &pod.sandbox_id);
        networks.attach(&pod).await.unwrap();
        let error = networks.attach(&pod).await.unwrap_err().to_string();
        assert!(error.contains("already attached"), "{error}");
        assert_eq!(bridge.leases().len(), 1);
        networks.detach(&pod).await.unwrap();
    });
}

#[test]
fn a_pod_whose_namespace_is_gone_gives_its_address_back() {
    on_a_host_of_its_own(|| async {
        let bridge = Bridge::new();
        let networks = bridge.scratch.open();
        let pod = bridge.scratch.pod(1);
        let netns = Netns::pin(&bridge.scratch.path("netns"), &pod.sandbox_id);
        networks.attach(&pod).await.unwrap();
        netns.unpin();
        networks.detach(&pod).await.unwrap();
        assert!(bridge.leases().is_empty() && bridge.scratch.names("cache/results").is_empty());
    });
}

#[test]
fn what_a_reboot_left_is_swept_by_the_cache_alone() {
    on_a_host_of_its_own(|| async {
        let bridge = Bridge::new();
        let before = bridge.scratch.open();
        let mut pins = Vec::new();
        for number in 1..=3 {
            let pod = bridge.scratch.pod(number);
            pins.push(Netns::pin(&bridge.scratch.path("netns"), &pod.sandbox_id));
            before.attach(&pod).await.unwrap();
        }
        drop(before);
        // One namespace is gone, one has left an empty file, one is as it was. And the
        // configuration has changed: only the cache knows the old network.
        pins[0].unpin();
        pins[1].unpin();
        fs::write(&pins[1].path, "").unwrap();
        bridge
            .scratch
            .configure(r#"{"name":"other","plugins":[{"type":"absent"}]}"#);
        let after = bridge.scratch.open();
        let kept = sandbox_id(3);
        after.detach_unknown(|id| id == kept).await;
        assert_eq!(after.attached().unwrap(), BTreeSet::from([kept]));
        assert_eq!(bridge.leases(), ["10.213.0.4"]);
        after.detach(&bridge.scratch.pod(3)).await.unwrap();
        fs::remove_file(&pins[1].path).unwrap();
    });
}

#[test]
fn host_ports_reach_portmap_and_are_removed() {
    on_a_host_of_its_own(|| async {
        let bridge = Bridge::new();
        let networks = bridge.scratch.open();
        let mapping = PortMapping {
            host_port: 41_213,
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: Some([127, 0, 0, 1].into()),
        };
        let pod = Pod {
            port_mappings: vec![mapping],
            ..bridge.scratch.pod(1)
        };
        let _netns = Netns::pin(&bridge.scratch.path("netns"), &pod.sandbox_id);
        networks.attach(&pod).await.unwrap();
        let target = "10.213.0.2:80";
        assert!(nat_rules().contains(target), "{}", nat_rules());
        // DEL knows the ports from the cache.
        let unknown = Pod {
            port_mappings: Vec::new(),
            ..pod
        };
        networks.detach(&unknown).await.unwrap();
        assert!(!nat_rules().contains(target), "{}", nat_rules());
    });
}

fn nat_rules() -> String {
    host(&["iptables", "-w", "-t", "nat", "-S"])
}

#[test]
fn many_pods_at_once_have_addresses_of_their_own() {
    on_a_host_of_its_own(|| async {
        let bridge = Bridge::new();
        let networks = bridge.scratch.open();
        let pods: Vec<Pod> = (1..=12).map(|number| bridge.scratch.pod(number)).collect();
        let _pins: Vec<Netns> = pods
            .iter()
            .map(|pod| Netns::pin(&bridge.scratch.path("netns"), &pod.sandbox_id))
            .collect();
        let attached =
            futures_util::future::join_all(pods.iter().map(|pod| networks.attach(pod))).await;
        let ips: BTreeSet<_> = attached.into_iter().map(|a| a.unwrap().ips[0]).collect();
        assert_eq!(ips.len(), pods.len());
        let detached =
            futures_util::future::join_all(pods.iter().map(|pod| networks.detach(pod))).await;
        assert!(detached.iter().all(Result::is_ok), "{detached:?}");
        assert!(bridge.leases().is_empty());
    });
}

/// Not a test of speed: prints what attaching costs on top of the plugins themselves.
/// `cargo test --release network::tests::bridge::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost_of_attaching_compared_with_the_plugins_by_hand() {
    on_a_host_of_its_own(|| async {
        const ROUNDS: u32 = 40;
        let bridge = Bridge::new();
        let networks = bridge.scratch.open();
        let mut ours = [Vec::new(), Vec::new()];
        let mut by_hand = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            let pod = bridge.scratch.pod(2 * round);
            let _netns = Netns::pin(&bridge.scratch.path("netns"), &pod.sandbox_id);
            let begun = Instant::now();
            networks.attach(&pod).await.unwrap();
            ours[0].push(begun.elapsed());
            let begun = Instant::now();
            networks.detach(&pod).await.unwrap();
            ours[1].push(begun.elapsed());

            let pod = bridge.scratch.pod(2 * round + 1);
            let _netns = Netns::pin(&bridge.scratch.path("netns"), &pod.sandbox_id);
            let begun = Instant::now();
            let result = run_by_hand(&bridge, &pod, "bridge", "ADD", None);
            let result = run_by_hand(&bridge, &pod, "portmap", "ADD", Some(&result));
            by_hand[0].push(begun.elapsed());
            let begun = Instant::now();
            run_by_hand(&bridge, &pod, "portmap", "DEL", Some(&result));
            run_by_hand(&bridge, &pod, "bridge", "DEL", Some(&result));
            by_hand[1].push(begun.elapsed());
        }
        for (what, times) in [
            "cricket attach",
            "cricket detach",
            "by hand ADD",
            "by hand DEL",
        ]
        .into_iter()
        .zip(ours.iter_mut().chain(&mut by_hand))
        {
            times.sort();
            println!(
                "{what}: p50 {:?} p90 {:?}",
                times[times.len() / 2],
                times[times.len() * 9 / 10]
            );
        }
    });
}

fn run_by_hand(
    bridge: &Bridge,
    pod: &Pod,
    plugin: &str,
    command: &str,
    previous: Option<&serde_json::Value>,
) -> serde_json::Value {
    let config = fs::read(bridge.scratch.path("net.d/10-test.conflist")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let mut request = config["plugins"][usize::from(plugin == "portmap")].clone();
    request["name"] = config["name"].clone();
    request["cniVersion"] = config["cniVersion"].clone();
    if let Some(previous) = previous {
        request["prevResult"] = previous.clone();
    }
    let stdin = bridge.scratch.path("request.json");
    fs::write(&stdin, request.to_string()).unwrap();
    let output = Command::new(Path::new("/usr/lib/cni").join(plugin))
        .envs([
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", &pod.sandbox_id),
            ("CNI_IFNAME", "eth0"),
        ])
        .envs([
            ("CNI_NETNS", pod.netns.as_path()),
            ("CNI_PATH", Path::new("/usr/lib/cni")),
        ])
        .stdin(fs::File::open(stdin).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
