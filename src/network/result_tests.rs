//! Tests of results: every version of the specification, and what plugins get wrong.

use super::*;

fn parse(document: &Value) -> PluginResult {
    PluginResult::parse(document.to_string().as_bytes(), CniVersion::V1).unwrap()
}

fn ips(document: &Value) -> Vec<String> {
    parse(document)
        .ips("eth0")
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn results_of_all_versions_come_to_one_form() {
    let route = json!({"dst": "0.0.0.0/0", "gw": "10.0.0.1"});
    for (old, new) in [
        (
            json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.7/24", "gateway": "10.0.0.1",
                "routes": [route]}, "ip6": {"ip": "fd00::7/64"}, "dns": {"domain": "x"}}),
            json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.7/24", "gateway": "10.0.0.1"},
                {"address": "fd00::7/64"}], "routes": [route], "dns": {"domain": "x"}}),
        ),
        (
            json!({"cniVersion": "0.1.0", "ip6": {"ip": "fd00::7/64", "routes": null}}),
            json!({"cniVersion": "1.0.0", "ips": [{"address": "fd00::7/64"}], "routes": []}),
        ),
        (
            json!({"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "sandbox": "/n"}],
                "ips": [{"version": "4", "address": "10.0.0.7/24", "interface": 0}]}),
            json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/n"}],
                "ips": [{"address": "10.0.0.7/24", "interface": 0}]}),
        ),
        (
            json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mtu": 9000}], "x": 1}),
            json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mtu": 9000}], "x": 1}),
        ),
    ] {
        assert_eq!(parse(&old).upgraded(), new, "{old}");
    }
}

#[test]
fn a_result_without_version_is_in_the_one_that_was_asked_for() {
    let result = PluginResult::parse(br#"{"ip4":{"ip":"10.0.0.7/24"}}"#, CniVersion::ASSUMED);
    assert_eq!(result.unwrap().ips("eth0").len(), 1);
}

#[test]
fn what_is_passed_on_is_what_the_plugin_said() {
    let document = json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.7/8"}],
        "vendor": {"a": [1]}});
    assert_eq!(Value::Object(parse(&document).document().clone()), document);
}

#[test]
fn the_pods_addresses_are_those_of_its_interface_in_their_order() {
    let interfaces = json!([
        {"name": "br0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/x"},
        {"name": "net1", "sandbox": "/run/netns/x"}
    ]);
    let result = |addresses: Value| {
        ips(&json!({"cniVersion": "1.0.0", "interfaces": interfaces, "ips": addresses}))
    };
    // Dual stack, IPv6 first; the bridge's and another interface's do not count.
    assert_eq!(
        result(json!([
            {"address": "10.0.0.1/24", "interface": 0},
            {"address": "fd00::7/64", "interface": 2},
            {"address": "10.0.0.7/24", "interface": 2},
            {"address": "192.168.0.7/24", "interface": 3}
        ])),
        ["fd00::7", "10.0.0.7"]
    );
    assert_eq!(result(json!([{"address": "10.0.0.9/24"}])), ["10.0.0.9"]);
    assert_eq!(
        result(json!([{"address": "192.168.0.7/24", "interface": 3}])),
        ["192.168.0.7"]
    );
    assert!(result(json!([{"address": "10.0.0.1/24", "interface": 0}])).is_empty());
    assert!(result(Value::Null).is_empty());
}

#[test]
fn bad_results_say_what_is_wrong() {
    for (text, says) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("OK", "not a JSON object"),
        ("[]", "not a JSON object"),
        (r#"{"cniVersion":"1.0.0"} trailing"#, "not a JSON object"),
        (r#"{"cniVersion":1}"#, "cniVersion: 1 is not a string"),
        (r#"{"cniVersion":"5.0.0"}"#, "newer than 1.1.0"),
        (r#"{"cniVersion":"x"}"#, "not a CNI version"),
        (r#"{"ips":{}}"#, "ips: is not a list"),
        (r#"{"ips":["10.0.0.1/8"]}"#, "ips: is not a list of objects"),
        (r#"{"ips":[{"address":"10.0.0.1"}]}"#, "ips[0].address"),
        (r#"{"ips":[{"address":"10.0.0.1/33"}]}"#, "ips[0].address"),
        (r#"{"ips":[{}]}"#, "ips[0].address: is missing"),
        (
            r#"{"ips":[{"address":"10.0.0.1/8","interface":0}]}"#,
            "ips[0].interface: 0",
        ),
        (
            r#"{"ips":[{"address":"10.0.0.1/8","interface":-1}]}"#,
            "ips[0].interface: -1",
        ),
        (r#"{"interfaces":[{"name":7}]}"#, "interfaces[0].name"),
        (r#"{"routes":7}"#, "routes: is not a list"),
        (
            r#"{"cniVersion":"0.2.0","ip4":"10.0.0.1/8"}"#,
            "ip4: is not an object",
        ),
        (r#"{"cniVersion":"0.2.0","ip4":{"ip":"x"}}"#, "ip4.ip"),
    ] {
        let error = PluginResult::parse(text.as_bytes(), CniVersion::V1).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}
