//! Host ports: real connections by every way that leads to a pod, and what others do to the rules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "hostports/world.rs"]
mod world;

use std::io::Write;
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cricket_harness::cri::*;
use cricket_harness::{Node, node, tools};
use world::*;

#[tokio::test]
async fn a_host_port_is_reached_by_every_way_in_both_families() {
    let node = dual_stack(|_| ()).await;
    let client = Client::connect(&node);
    let plain = pod(&node, "plain", Vec::new()).await;
    assert_eq!(
        own_table(&node),
        None,
        "a pod without host ports makes nothing"
    );
    let mappings = vec![mapping(8080, Protocol::Tcp), mapping(8080, Protocol::Udp)];
    let web = pod(&node, "web", mappings).await;
    let _server = Server::start(&node, &web, 80, "web");
    let own = node.net().file().to_owned();
    let (neighbour, itself) = (netns_of(&node, &plain), netns_of(&node, &web));
    let outside = client.net.file().to_owned();
    for (from, to, sees) in [
        (&outside, NODE[0], Some(CLIENT[0])),
        (&outside, NODE[1], Some(CLIENT[1])),
        (&own, "127.0.0.1", None),
        (&own, NODE[0], None),
        (&own, NODE[1], None),
        (&neighbour, NODE[0], None),
        (&neighbour, NODE[1], None),
        (&itself, NODE[0], None),
        (&itself, NODE[1], None),
    ] {
        let address = at(to, 8080);
        for (way, answer) in [
            ("TCP", inside(from, move || tcp_at_last(address))),
            ("UDP", inside(from, move || udp(address))),
        ] {
            let what = format!("{way} from {} to {address}", from.display());
            let answer = answer
                .unwrap_or_else(|| panic!("{what}: no answer\n{}", nft(&node, "list ruleset")));
            assert!(answer.starts_with("web "), "{what}: {answer}");
            if let Some(sees) = sees {
                assert_eq!(
                    answer,
                    format!("web {sees}"),
                    "{what}: the pod sees who asks"
                );
            }
        }
    }
    // `::1` is the node's alone, and no way leads in from outside to 127.0.0.1.
    assert_eq!(inside(&own, || tcp(at("::1", 8080))), None);
    node.cri.stop_pod(&web).await.unwrap();
    for (from, to) in [
        (&outside, NODE[0]),
        (&own, "127.0.0.1"),
        (&outside, NODE[1]),
    ] {
        assert_eq!(inside(from, move || tcp(at(to, 8080))), None, "{to}");
    }
    finish(node, Some(client)).await;
}

#[tokio::test]
async fn a_taken_port_is_refused_with_its_owners_name_and_free_when_that_has_stopped() {
    let node = dual_stack(|_| ()).await;
    let first = pod(&node, "first", vec![mapping(8080, Protocol::Tcp)]).await;
    let mut config = node.pod_config("second");
    config.port_mappings = vec![PortMapping {
        host_ip: NODE[0].into(),
        ..mapping(8080, Protocol::Tcp)
    }];
    let error = node
        .cri
        .run_pod(&config)
        .await
        .expect_err("the port is taken");
    for word in ["8080/tcp", "default/first", first.as_str()] {
        assert!(
            error.message().contains(word),
            "{word}: {}",
            error.message()
        );
    }
    assert_eq!(
        node.cri.pods().await.unwrap().len(),
        1,
        "nothing is left of it"
    );
    pod(&node, "udp", vec![mapping(8080, Protocol::Udp)]).await;
    node.cri.stop_pod(&first).await.unwrap();
    node.cri.run_pod(&config).await.expect("it is free now");
    node.finish().await;
}

#[tokio::test]
async fn rules_that_others_remove_come_back_and_a_restart_needs_no_call() {
    let mut node = dual_stack(|_| ()).await;
    let web = pod(&node, "web", vec![mapping(8080, Protocol::Tcp)]).await;
    let _server = Server::start(&node, &web, 80, "web");
    let own = node.net().file().to_owned();
    let answers = || inside(&own, || tcp(at("127.0.0.1", 8080))).is_some();
    assert!(answers());
    let table = own_table(&node).unwrap();
    for damage in [
        "flush ruleset".to_owned(),
        format!("delete table inet {table}"),
        format!("flush table inet {table}"),
    ] {
        nft(&node, &damage);
        node.until(&format!("after nft {damage}"), answers).await;
        assert!(
            node.daemon.log().contains("is put back"),
            "{}",
            node.daemon.log()
        );
    }
    // What changes while no daemon looks is put right before the first call.
    node.daemon.kill();
    assert!(answers(), "host ports need no daemon");
    nft(&node, "flush ruleset");
    node.daemon.launch();
    assert!(answers(), "{}", nft(&node, "list ruleset"));
    node.reconnect().await;
    node.finish().await;
}

#[tokio::test]
async fn what_a_dead_daemon_has_left_of_a_pod_that_is_gone_goes_at_the_start() {
    let mut node = dual_stack(|_| ()).await;
    let web = pod(&node, "web", vec![mapping(8080, Protocol::Tcp)]).await;
    let table = own_table(&node).unwrap();
    node.daemon.kill();
    let record = node.daemon.runroot().join("sandboxes").join(&web);
    assert!(record.exists(), "{}", record.display());
    std::fs::remove_file(record.join("record.json")).unwrap();
    assert!(nft(&node, "list ruleset").contains(&web));
    node.daemon.launch();
    node.reconnect().await;
    assert!(!nft(&node, &format!("list table inet {table}")).contains(&web));
    // Its name and its port are free.
    node.until("what else it had is swept", || {
        node.left_behind().is_empty()
    })
    .await;
    pod(&node, "web", vec![mapping(8080, Protocol::Tcp)]).await;
    node.finish().await;
}

#[tokio::test]
async fn portmap_has_host_ports_only_when_it_is_told_to() {
    let rules = |node: &Node| {
        let mut command = node.net().command(&tools::need("iptables-save"));
        let legacy = tools::run(command.args(["-t", "nat"]));
        format!("{legacy}{}", nft(node, "list ruleset"))
    };
    let node = dual_stack(|_| ()).await;
    let web = pod(&node, "web", vec![mapping(8080, Protocol::Tcp)]).await;
    assert!(
        !rules(&node).contains("CNI-"),
        "not twice: {}",
        rules(&node)
    );
    node.cri.remove_pod(&web).await.unwrap();
    node.finish().await;

    let node = dual_stack(|options| {
        options.runtime_config = "disable_hostport_mapping = true".into();
    })
    .await;
    let web = pod(&node, "web", vec![mapping(8080, Protocol::Tcp)]).await;
    let _server = Server::start(&node, &web, 80, "web");
    assert_eq!(own_table(&node), None);
    let own = node.net().file().to_owned();
    let answer = inside(&own, || tcp(at("127.0.0.1", 8080)));
    assert!(answer.is_some_and(|answer| answer.starts_with("web")));
    node.finish().await;
}

#[tokio::test]
async fn pods_keep_who_forwards_their_ports_when_the_configuration_changes() {
    let mut node = dual_stack(|options| {
        options.runtime_config = "disable_hostport_mapping = true".into();
    })
    .await;
    let old = pod(&node, "old", vec![mapping(8080, Protocol::Tcp)]).await;
    let _old_server = Server::start(&node, &old, 80, "old");
    node.daemon.kill();
    let file = node.daemon.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "disable_hostport_mapping = true",
        "disable_hostport_mapping = false",
    );
    std::fs::write(&file, text).unwrap();
    node.daemon.launch();
    node.reconnect().await;
    assert_eq!(own_table(&node), None, "portmap has it still");
    let new = pod(&node, "new", vec![mapping(8081, Protocol::Tcp)]).await;
    let _new_server = Server::start(&node, &new, 80, "new");
    let own = node.net().file().to_owned();
    for (port, name) in [(8080, "old"), (8081, "new")] {
        let answer = inside(&own, move || tcp(at("127.0.0.1", port))).unwrap();
        assert!(answer.starts_with(name), "{answer}");
    }
    node.finish().await;
}

#[tokio::test]
async fn kube_proxy_and_host_ports_do_not_disturb_each_other() {
    let node = dual_stack(|_| ()).await;
    let client = Client::connect(&node);
    let web = pod(&node, "web", vec![mapping(8080, Protocol::Tcp)]).await;
    let _server = Server::start(&node, &web, 80, "web");
    let ip = node.cri.pod(&web).await.unwrap().network.unwrap().ip;
    // A ClusterIP and a NodePort.
    kube_proxy(
        &node,
        &[
            format!("ip daddr 10.96.0.1 tcp dport 8080 dnat to {ip}:80"),
            format!("fib daddr type local tcp dport 30080 dnat to {ip}:80"),
        ],
    );
    let outside = client.net.file().to_owned();
    let mut command = client.net.command(&tools::need("ip"));
    tools::run(command.args(["route", "add", "10.96.0.0/16", "via", NODE[0]]));
    let ask = |to: &'static str, port| inside(&outside, move || tcp(at(to, port)));
    for (to, port) in [(NODE[0], 8080), (NODE[0], 30080), ("10.96.0.1", 8080)] {
        assert_eq!(
            ask(to, port),
            Some(format!("web {}", CLIENT[0])),
            "{to}:{port}"
        );
    }
    // kube-proxy writes its table anew.
    nft(&node, "delete table ip kube-proxy");
    assert!(ask(NODE[0], 8080).is_some());
    assert!(
        !node.daemon.log().contains("is put back"),
        "nobody has touched ours"
    );
    finish(node, Some(client)).await;
}

/// Rules for services, as kube-proxy has them.
fn kube_proxy(node: &Node, services: &[String]) {
    for line in [
        "add table ip kube-proxy",
        "add chain ip kube-proxy services",
        "add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100 ; }",
        "add rule ip kube-proxy nat-prerouting jump services",
        "add chain ip kube-proxy nat-output { type nat hook output priority -100 ; }",
        "add rule ip kube-proxy nat-output jump services",
    ] {
        nft(node, line);
    }
    for service in services {
        nft(node, &format!("add rule ip kube-proxy services {service}"));
    }
}

#[tokio::test]
async fn a_neighbour_that_comes_by_a_service_keeps_its_source() {
    let node = dual_stack(|_| ()).await;
    let of_address = PortMapping {
        host_ip: NODE[0].into(),
        ..mapping(8082, Protocol::Udp)
    };
    let client = Client::connect(&node);
    let web = pod(&node, "web", vec![mapping(8081, Protocol::Udp), of_address]).await;
    let ip = node.cri.pod(&web).await.unwrap().network.unwrap().ip;
    let neighbour = pod(&node, "neighbour", Vec::new()).await;
    let from = node.cri.pod(&neighbour).await.unwrap().network.unwrap().ip;
    // By the number of a host port, also where the service has an address of the node and the pod's
    // port is of another one.
    kube_proxy(
        &node,
        &[
            format!("ip daddr 10.96.0.1 udp dport 8081 dnat to {ip}:81"),
            format!("ip daddr 10.88.77.1 udp dport 8082 dnat to {ip}:82"),
        ],
    );
    let netns = netns_of(&node, &neighbour);
    for (to, port, keeps) in [
        ("10.96.0.1", 8081, true),
        ("10.88.77.1", 8082, true),
        (NODE[0], 8081, false),
        (NODE[0], 8082, false),
    ] {
        let (socket, address) = client_of(&netns, at(to, port));
        socket.send_to(b"?", address).unwrap();
        let words = [format!("dst={to} "), format!("dport={port} ")];
        let found = || {
            let all = remembered(&node, &ip);
            let by = |line: &&str| words.iter().all(|word| line.contains(word));
            all.lines().find(by).map(str::to_owned)
        };
        node.until(&format!("the kernel remembers {to}"), || found().is_some())
            .await;
        let line = found().unwrap();
        let sees = format!("src={ip} dst={from} ");
        assert_eq!(line.contains(&sees), keeps, "{to}: {line}");
    }
    finish(node, Some(client)).await;
}

#[tokio::test]
async fn a_udp_client_that_goes_on_sending_reaches_the_pod_that_has_the_port_now() {
    let node = dual_stack(|_| ()).await;
    let client = Client::connect(&node);
    let outside = client.net.file().to_owned();
    for address in NODE {
        let (socket, address) = client_of(&outside, at(address, 5353));
        let ask = |patience| udp_by(&socket, address, patience);
        assert_eq!(
            ask(SILENCE),
            None,
            "nobody is there yet, and the kernel remembers that"
        );
        for name in ["first", "second"] {
            let one = pod(&node, name, vec![mapping(5353, Protocol::Udp)]).await;
            let server = Server::start(&node, &one, 80, name);
            let answer =
                ask(PATIENCE).unwrap_or_else(|| panic!("{name} at {address} does not answer"));
            assert!(answer.starts_with(name), "{answer}");
            node.cri.remove_pod(&one).await.unwrap();
            drop(server);
            assert_eq!(ask(SILENCE), None);
        }
    }
    finish(node, Some(client)).await;
}

#[tokio::test]
async fn a_pod_whose_stop_was_killed_is_forgotten_by_udp_clients_all_the_same() {
    let mut node = dual_stack(|_| ()).await;
    let client = Client::connect(&node);
    // Others make the kernel remember connections, so it does that also without our table.
    track_connections(&node);
    let outside = client.net.file().to_owned();
    for is_flushed in [false, true] {
        let one = pod(&node, "one", vec![mapping(5353, Protocol::Udp)]).await;
        let server = Server::start(&node, &one, 80, "one");
        let network = node.cri.pod(&one).await.unwrap().network.unwrap();
        let mut ips = vec![network.ip];
        ips.extend(network.additional_ips.into_iter().map(|more| more.ip));
        let sockets = NODE.map(|address| client_of(&outside, at(address, 5353)));
        for (socket, address) in &sockets {
            assert!(udp_by(socket, *address, PATIENCE).is_some(), "{address}");
        }
        for ip in &ips {
            assert!(
                !remembered(&node, ip).is_empty(),
                "nothing is shown of {ip}"
            );
        }
        node.daemon.arm(Some("pod-stop.marked"));
        node.daemon.kill();
        node.daemon.launch();
        node.reconnect().await;
        node.cri.stop_pod(&one).await.expect_err("the daemon dies");
        assert!(node.daemon.ended(PATIENCE).await.is_some());
        if is_flushed {
            nft(
                &node,
                &format!("delete table inet {}", own_table(&node).unwrap()),
            );
        }
        node.daemon.arm(None);
        node.daemon.launch();
        node.reconnect().await;
        // Those who go on sending keep what is remembered alive.
        for (socket, address) in &sockets {
            udp_by(socket, *address, SILENCE);
        }
        node.cri.stop_pod(&one).await.unwrap();
        for (socket, address) in &sockets {
            assert_eq!(udp_by(socket, *address, SILENCE), None, "{address}");
        }
        for ip in &ips {
            assert_eq!(remembered(&node, ip), "", "flushed: {is_flushed}");
        }
        drop(server);
        // Another pod gets them at once.
        let two = pod(&node, "two", vec![mapping(5353, Protocol::Udp)]).await;
        let server = Server::start(&node, &two, 80, "two");
        for (socket, address) in &sockets {
            let answer = udp_by(socket, *address, PATIENCE).unwrap();
            assert!(answer.starts_with("two"), "{answer}");
        }
        for id in [one, two] {
            node.cri.remove_pod(&id).await.unwrap();
        }
        drop(server);
    }
    finish(node, Some(client)).await;
}

#[tokio::test]
async fn udp_clients_of_a_moment_without_rules_reach_the_pod_when_they_are_put_back() {
    let mut node = dual_stack(|_| ()).await;
    let client = Client::connect(&node);
    track_connections(&node);
    let outside = client.net.file().to_owned();
    let web = pod(&node, "web", vec![mapping(5353, Protocol::Udp)]).await;
    let _server = Server::start(&node, &web, 80, "web");
    let table = own_table(&node).unwrap();
    let old = NODE.map(|address| client_of(&outside, at(address, 5353)));
    for (socket, address) in &old {
        assert!(udp_by(socket, *address, PATIENCE).is_some(), "{address}");
    }
    let ip = node.cri.pod(&web).await.unwrap().network.unwrap().ip;
    let led = remembered(&node, &ip);
    assert!(!led.is_empty());
    // While no daemon looks, and while one does: it takes a moment until that has put it back.
    for is_killed in [true, false] {
        if is_killed {
            node.daemon.kill();
        }
        let begun = loop {
            nft(&node, &format!("delete table inet {table}"));
            let begun = NODE.map(|address| client_of(&outside, at(address, 5353)));
            for (socket, address) in &begun {
                let _ = socket.send_to(b"?", *address);
            }
            // The daemon may have been quicker.
            if own_table(&node).is_none() {
                break begun;
            }
        };
        if is_killed {
            node.daemon.launch();
            node.reconnect().await;
        }
        for (socket, address) in begun.iter().chain(&old) {
            let answer = udp_by(socket, *address, PATIENCE);
            assert!(answer.is_some_and(|is| is.starts_with("web")), "{address}");
        }
    }
    // What went where it should was left alone.
    let ids = |text: &str| -> Vec<String> {
        let words = text.split_whitespace();
        words
            .filter(|word| word.starts_with("id="))
            .map(str::to_owned)
            .collect()
    };
    let now = ids(&remembered(&node, &ip));
    assert!(
        ids(&led).iter().all(|id| now.contains(id)),
        "{led}\n{now:?}"
    );
    finish(node, Some(client)).await;
}

#[tokio::test]
async fn a_host_ip_has_its_ports_for_itself() {
    let node = dual_stack(|_| ()).await;
    let client = Client::connect(&node);
    let mut command = node.net().command(&tools::need("ip"));
    tools::run(command.args(["addr", "add", "192.0.2.7/24", "dev", "ckt1"]));
    let on = |ip: &str| PortMapping {
        host_ip: ip.into(),
        ..mapping(8080, Protocol::Tcp)
    };
    let one = pod(&node, "one", vec![on(NODE[0])]).await;
    let two = pod(&node, "two", vec![on("192.0.2.7"), on(NODE[1])]).await;
    let _servers = [
        Server::start(&node, &one, 80, "one"),
        Server::start(&node, &two, 80, "two"),
    ];
    let outside = client.net.file().to_owned();
    for (to, name) in [(NODE[0], "one"), ("192.0.2.7", "two"), (NODE[1], "two")] {
        let answer = inside(&outside, move || tcp_at_last(at(to, 8080))).unwrap();
        assert!(answer.starts_with(name), "{to}: {answer}");
    }
    let own = node.net().file().to_owned();
    assert_eq!(inside(&own, || tcp(at("127.0.0.1", 8080))), None);
    finish(node, Some(client)).await;
}

#[tokio::test]
async fn nothing_from_outside_gets_to_the_nodes_loopback() {
    let mut node = dual_stack(|_| ()).await;
    let web = pod(&node, "web", vec![mapping(8080, Protocol::Tcp)]).await;
    let secret = node
        .net()
        .enter(|| UdpSocket::bind("127.0.0.1:9999").unwrap());
    let bridge = node::BRIDGE;
    let localnet = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    let own = node.net().file().to_owned();
    let set = inside(&own, move || std::fs::read_to_string(localnet).unwrap());
    assert_eq!(set.trim(), "1", "otherwise this test shows nothing");
    // A pod that sends packets to 127.0.0.1 by its gateway.
    let netns = netns_of(&node, &web);
    for command in [
        "sysctl -qw net.ipv4.conf.eth0.route_localnet=1",
        "ip route del local 127.0.0.0/8 dev lo table local",
        "ip route del local 127.0.0.1 dev lo table local",
        "ip route add 127.0.0.0/8 via 10.88.77.1 dev eth0",
    ] {
        let mut nsenter = std::process::Command::new(tools::need("nsenter"));
        nsenter.arg(format!("--net={}", netns.display())).arg("--");
        tools::run(nsenter.args(command.split(' ')));
    }
    let gets_in = |patience: Duration| {
        let end = Instant::now() + patience;
        secret.set_read_timeout(Some(SILENCE)).unwrap();
        while Instant::now() < end {
            inside(&netns, || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                let _ = socket.send_to(b"!", "127.0.0.1:9999");
            });
            if secret.recv_from(&mut [0; 8]).is_ok() {
                return true;
            }
        }
        false
    };
    node.daemon.kill();
    assert!(!gets_in(SILENCE), "the guard keeps it out");
    let table = own_table(&node).unwrap();
    nft(&node, &format!("flush chain inet {table} guard"));
    assert!(gets_in(PATIENCE), "without the guard it gets in");
    node.daemon.launch();
    node.reconnect().await;
    assert!(!gets_in(SILENCE), "the guard is there again");
    node.finish().await;
}

/// A process that owns a table: the kernel refuses changes by anybody else, until it ends.
struct Owner(std::process::Child);

impl Owner {
    fn of(node: &Node, table: &str) -> Self {
        let mut command = node.net().command(&tools::need("nft"));
        let mut child = command
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        writeln!(stdin, "add table inet {table} {{ flags owner ; }}").unwrap();
        stdin.flush().unwrap();
        Self(child)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_kernel_that_refuses_costs_pods_with_host_ports_alone() {
    let mut node = dual_stack(|_| ()).await;
    let first = pod(&node, "first", vec![mapping(8080, Protocol::Tcp)]).await;
    let table = own_table(&node).unwrap();
    node.cri.remove_pod(&first).await.unwrap();
    // A daemon that looks would put its own back.
    node.daemon.kill();
    nft(&node, "flush ruleset");
    let owner = Owner::of(&node, &table);
    node.until("somebody owns the table", || own_table(&node).is_some())
        .await;
    node.daemon.launch();
    node.reconnect().await;
    let mut config = node.pod_config("refused");
    config.port_mappings = vec![mapping(8080, Protocol::Tcp)];
    let error = node.cri.run_pod(&config).await.expect_err("it is refused");
    for word in ["host port", "nf_tables", "not permitted"] {
        let text = error.message();
        assert!(text.contains(word), "{word}: {text}");
    }
    let others = pod(&node, "others", Vec::new()).await;
    node.cri.remove_pod(&others).await.unwrap();
    assert_eq!(node.cri.pods().await.unwrap(), [], "nothing is left of it");
    // Its ports are free, and what is refused no more works.
    drop(owner);
    node.until("the owner's table goes with it", || {
        own_table(&node).is_none()
    })
    .await;
    let web = pod(&node, "refused", vec![mapping(8080, Protocol::Tcp)]).await;
    let _server = Server::start(&node, &web, 80, "web");
    let own = node.net().file().to_owned();
    assert!(inside(&own, || tcp(at("127.0.0.1", 8080))).is_some());
    node.finish().await;
}
