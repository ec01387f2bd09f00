//! The table in a real kernel, in a network namespace of the test, seen by nft.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::network::Protocol;
use crate::network::tests::on_a_host_of_its_own;

const TABLE: &str = "cricket-unit";

fn nft(arguments: &[&str]) -> String {
    let output = Command::new("nft").args(arguments).output().unwrap();
    let (out, err) = (
        output.stdout,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "nft {arguments:?}: {err}");
    String::from_utf8(out).unwrap()
}

fn list() -> String {
    nft(&["list", "table", "inet", TABLE])
}

/// The table as nft shows it, without what its versions show differently.
fn shown() -> String {
    let text = list().replace("priority -100", "priority dstnat");
    let lines = text.lines().map(|line| {
        if line.trim().starts_with("ct status") {
            "\t\tct status … return"
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn mapping(host_port: u16, protocol: Protocol, host_ip: &str) -> PortMapping {
    PortMapping {
        host_port,
        container_port: 80,
        protocol,
        host_ip: host_ip.parse().ok(),
    }
}

fn mappings() -> Vec<PortMapping> {
    vec![
        mapping(8080, Protocol::Tcp, ""),
        mapping(53, Protocol::Udp, "192.0.2.1"),
        mapping(9000, Protocol::Sctp, "2001:db8::1"),
    ]
}

fn result() -> Value {
    json!({"ips": [{"address": "10.88.77.2/24"}, {"address": "fd00:88::2/64"},
                   {"address": "10.99.0.9/24"}]})
}

async fn opened(id: &str) -> Arc<HostPorts> {
    let ports = HostPorts::new(TABLE.to_owned());
    let owner = Owner {
        sandbox_id: id,
        name: "default/web",
    };
    ports.claim(&owner, &mappings()).unwrap();
    ports.open(id, &result()).await.unwrap();
    ports
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

fn is_there() -> bool {
    let ruleset = nft(&["list", "ruleset"]);
    ruleset.contains("tcp . 8080") && ruleset.contains("fib daddr type local goto hostports")
}

#[test]
fn nft_shows_the_table_as_it_is_meant() {
    on_a_host_of_its_own(async || {
        let _ports = opened("ab12").await;
        assert_eq!(shown().trim(), include_str!("testdata/table.nft").trim());
    });
}

#[test]
fn pods_come_and_go_one_by_one_and_the_table_stays() {
    on_a_host_of_its_own(async || {
        let ports = HostPorts::new(TABLE.to_owned());
        ports.restore(Vec::new()).await;
        ports.close("none", &[], None).await;
        assert_eq!(nft(&["list", "ruleset"]), "", "nothing for nothing");
        let owner = Owner {
            sandbox_id: "cd34",
            name: "default/db",
        };
        ports
            .claim(&owner, &[mapping(8081, Protocol::Tcp, "")])
            .unwrap();
        ports
            .open("cd34", &json!({"ips": [{"address": "10.88.77.3/24"}]}))
            .await
            .unwrap();
        let first = list();
        let web = Owner {
            sandbox_id: "ab12",
            name: "default/web",
        };
        ports.claim(&web, &mappings()).unwrap();
        ports.open("ab12", &result()).await.unwrap();
        let both: BTreeSet<String> = ["ab12".to_owned(), "cd34".to_owned()].into();
        assert_eq!(ports.holders().unwrap(), both);
        ports.close("ab12", &[], None).await;
        assert_eq!(list(), first);
        ports.close("cd34", &[], None).await;
        assert!(list().contains("127.0.0.0/8 drop"), "the guard stays");
        assert_eq!(ports.holders().unwrap(), BTreeSet::new());
        ports.claim(&web, &mappings()).unwrap();
    });
}

#[test]
fn a_table_that_others_flush_or_delete_comes_back() {
    on_a_host_of_its_own(async || {
        let ports = opened("ab12").await;
        for damage in [
            &["flush", "ruleset"][..],
            &["delete", "table", "inet", TABLE],
            &["flush", "table", "inet", TABLE],
            &["flush", "map", "inet", TABLE, "ports4"],
        ] {
            nft(damage);
            let whole =
                || is_there() && shown().trim() == include_str!("testdata/table.nft").trim();
            until(&format!("after nft {damage:?}"), whole).await;
        }
        // Known to nobody yet when the next pod comes.
        nft(&["flush", "ruleset"]);
        let owner = Owner {
            sandbox_id: "cd34",
            name: "default/db",
        };
        ports
            .claim(&owner, &[mapping(8081, Protocol::Tcp, "")])
            .unwrap();
        ports
            .open("cd34", &json!({"ips": [{"address": "10.88.77.3/24"}]}))
            .await
            .unwrap();
        assert!(is_there() && list().contains("tcp . 8081"));
    });
}

#[test]
fn a_new_daemon_writes_what_its_pods_have_and_nothing_else() {
    on_a_host_of_its_own(async || {
        drop(opened("ab12").await);
        let ports = HostPorts::new(TABLE.to_owned());
        let former = Former {
            sandbox_id: "cd34".into(),
            name: "default/db".into(),
            mappings: vec![mapping(8080, Protocol::Tcp, "")],
            result: Some(json!({"ips": [{"address": "10.88.77.3/24"}]})),
        };
        ports.restore(vec![former]).await;
        assert_eq!(
            ports.holders().unwrap(),
            BTreeSet::from(["cd34".to_owned()])
        );
        let web = Owner {
            sandbox_id: "ab12",
            name: "default/web",
        };
        let error = ports.claim(&web, &mappings()).unwrap_err().to_string();
        assert!(
            error.contains("8080/tcp") && error.contains("default/db"),
            "{error}"
        );
        let empty = HostPorts::new(TABLE.to_owned());
        empty.restore(Vec::new()).await;
        assert_eq!(empty.holders().unwrap(), BTreeSet::new());
    });
}

#[test]
fn what_nobody_owns_is_swept_and_the_rest_stays() {
    on_a_host_of_its_own(async || {
        let ports = opened("ab12").await;
        let owner = Owner {
            sandbox_id: "cd34",
            name: "default/db",
        };
        ports
            .claim(&owner, &[mapping(8081, Protocol::Tcp, "")])
            .unwrap();
        ports
            .open("cd34", &json!({"ips": [{"address": "10.88.77.3/24"}]}))
            .await
            .unwrap();
        let other = HostPorts::new(TABLE.to_owned());
        other.sweep(&["ab12".to_owned()].into()).unwrap();
        assert_eq!(
            ports.holders().unwrap(),
            BTreeSet::from(["cd34".to_owned()])
        );
    });
}

#[test]
fn thousands_of_host_ports_are_one_transaction() {
    on_a_host_of_its_own(async || {
        let ports = HostPorts::new(TABLE.to_owned());
        let many: Vec<_> = (10_000..12_000)
            .map(|port| mapping(port, Protocol::Tcp, ""))
            .collect();
        let owner = Owner {
            sandbox_id: "ab12",
            name: "default/web",
        };
        ports.claim(&owner, &many).unwrap();
        ports.open("ab12", &result()).await.unwrap();
        let kernel = || Kernel::open(TABLE).unwrap().elements().unwrap();
        let wanted = elements(&locked(&ports.claims));
        assert_eq!(kernel(), wanted);
        assert_eq!(wanted.len(), 2 * 2000 + 3);
        ports.close("ab12", &[], None).await;
        assert_eq!(kernel(), Elements::new());
    });
}
