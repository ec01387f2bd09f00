//! Tests of the configuration's rules.

use super::*;

fn list(text: &str) -> Result<Network, String> {
    Network::parse_list(text.as_bytes()).map_err(|e| e.to_string())
}

fn request(network: &Network, index: usize, args: &Value) -> Value {
    let args = args.as_object();
    serde_json::from_slice(&network.plugins[index].request(network, None, args)).unwrap()
}

#[test]
fn a_list_is_read_in_order() {
    let network = list(
        r#"{"cniVersion":"1.0.0","name":"podnet","plugins":[
            {"type":"bridge","ipam":{"type":"host-local"}},
            {"type":"portmap","capabilities":{"portMappings":true,"bandwidth":false}}]}"#,
    )
    .unwrap();
    assert_eq!(network.name, "podnet");
    assert_eq!(network.version, CniVersion::V1);
    let kinds: Vec<&str> = network.plugins.iter().map(|p| p.kind.as_str()).collect();
    assert_eq!(kinds, ["bridge", "portmap"]);
    assert_eq!(network.plugins[1].capabilities, ["portMappings"]);
}

#[test]
fn a_single_plugin_becomes_a_list_that_can_be_read_again() {
    let network = Network::parse_single(br#"{"name":"n","type":"bridge","x":1}"#).unwrap();
    assert_eq!(network.version, CniVersion::ASSUMED);
    let cached = BASE64_STANDARD.decode(network.to_base64()).unwrap();
    assert_eq!(Network::parse_list(&cached).unwrap(), network);
    assert_eq!(
        request(&network, 0, &json!({})),
        json!({"name":"n","type":"bridge","x":1,"cniVersion":"0.1.0"})
    );
}

#[test]
fn plugins_of_the_folder_are_in_the_cached_list() {
    let mut network = list(r#"{"name":"n","cniVersion":"1.1.0"}"#).unwrap();
    assert!(network.loads_folder && network.plugins.is_empty());
    network.append(vec![Plugin::parse(br#"{"type":"tuning"}"#).unwrap()]);
    let cached = BASE64_STANDARD.decode(network.to_base64()).unwrap();
    let again = Network::parse_list(&cached).unwrap();
    assert_eq!(again.plugins, network.plugins);
    assert!(!again.loads_folder, "the folder may have changed until DEL");
}

#[test]
fn bad_lists_say_what_is_wrong() {
    for (text, says) in [
        ("{", "is not valid JSON"),
        ("[]", "is not valid JSON"),
        ("", "is not valid JSON"),
        (r#"{"plugins":[{"type":"a"}]}"#, "name: is missing"),
        (
            r#"{"name":7,"plugins":[{"type":"a"}]}"#,
            "name: 7 is not a network name",
        ),
        (
            r#"{"name":"../../etc","plugins":[{"type":"a"}]}"#,
            "is not a network name",
        ),
        (
            r#"{"name":"","plugins":[{"type":"a"}]}"#,
            "is not a network name",
        ),
        (r#"{"name":"n","plugins":[]}"#, "plugins: is empty"),
        (r#"{"name":"n","plugins":{}}"#, "plugins: is not a list"),
        (
            r#"{"name":"n","plugins":["a"]}"#,
            "plugins[0]: is not an object",
        ),
        (
            r#"{"name":"n","plugins":[{"type":"a"},{}]}"#,
            "plugins[1].type: is missing",
        ),
        (
            r#"{"name":"n","plugins":[{"type":7}]}"#,
            "plugins[0].type: is not a name",
        ),
        (r#"{"name":"n","plugins":[{"type":"../sh"}]}"#, "is a path"),
        (r#"{"name":"n","plugins":[{"type":".."}]}"#, "is a path"),
        (
            r#"{"name":"n","plugins":[{"type":"a","capabilities":[]}]}"#,
            "capabilities: is not an object",
        ),
        (
            r#"{"name":"n","plugins":[{"type":"a","capabilities":{"x":1}}]}"#,
            "is not true or false",
        ),
        (
            r#"{"name":"n","cniVersion":"x","plugins":[{"type":"a"}]}"#,
            "not a CNI version",
        ),
        (
            r#"{"name":"n","cniVersion":"2.0.0","plugins":[{"type":"a"}]}"#,
            "newer than 1.1.0",
        ),
        (
            r#"{"name":"n","cniVersions":"1.0.0","plugins":[{"type":"a"}]}"#,
            "cniVersions: is not a list",
        ),
        (
            r#"{"name":"n","cniVersions":["9.0.0"],"plugins":[{"type":"a"}]}"#,
            "has none up to 1.1.0",
        ),
        (
            r#"{"name":"n","disableCheck":"yes","plugins":[{"type":"a"}]}"#,
            "disableCheck",
        ),
        (
            r#"{"name":"n","loadOnlyInlinedPlugins":true}"#,
            "plugins: is missing",
        ),
    ] {
        let error = list(text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn bad_single_files_say_what_is_wrong() {
    for (text, says) in [
        (r#"{"name":"n"}"#, "type: is missing; it names the plugin"),
        (
            r#"{"name":"n","plugins":[]}"#,
            "needs the extension .conflist",
        ),
        (r#"{"type":"bridge"}"#, "name: is missing"),
    ] {
        let error = Network::parse_single(text.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn deeply_nested_input_is_an_error_and_not_a_stack_overflow() {
    let error = list(&"[".repeat(1 << 20)).unwrap_err();
    assert!(error.contains("is not valid JSON"), "{error}");
}

#[test]
fn the_newest_version_both_sides_know_is_spoken() {
    for (fields, version) in [
        ("", "0.1.0"),
        (r#""cniVersion":"","#, "0.1.0"),
        (r#""cniVersion":"0.4.0","#, "0.4.0"),
        (r#""cniVersions":["0.4.0","1.0.0","7.0.0"],"#, "1.0.0"),
        (
            r#""cniVersion":"1.1.0","cniVersions":["0.4.0","1.0.0"],"#,
            "1.1.0",
        ),
        (r#""cniVersion":"9.0.0","cniVersions":["0.4.0"],"#, "0.4.0"),
        (r#""cniVersions":[],"cniVersion":"0.3.1","#, "0.3.1"),
    ] {
        let text = format!(r#"{{{fields}"name":"n","plugins":[{{"type":"a"}}]}}"#);
        assert_eq!(
            list(&text).unwrap().version.to_string(),
            version,
            "{fields}"
        );
    }
}

#[test]
fn switches_are_also_read_from_strings() {
    let network = list(r#"{"name":"n","loadOnlyInlinedPlugins":"True","plugins":[{"type":"a"}]}"#);
    assert!(!network.unwrap().loads_folder);
}

#[test]
fn a_plugin_gets_the_capability_arguments_it_asks_for_and_no_others() {
    let network = list(
        r#"{"name":"n","cniVersion":"1.0.0","plugins":[
            {"type":"a","name":"other","cniVersion":"0.1.0","keep":{"me":[1,null]}},
            {"type":"b","capabilities":{"dns":true,"mac":true,"bandwidth":false}}]}"#,
    )
    .unwrap();
    let args = json!({"dns": {"servers": []}, "bandwidth": {"ingressRate": 1}, "cgroupPath": "/x"});
    assert_eq!(
        request(&network, 0, &args),
        json!({"type":"a","name":"n","cniVersion":"1.0.0","keep":{"me":[1,null]}})
    );
    assert_eq!(
        request(&network, 1, &args)["runtimeConfig"],
        json!({"dns": {"servers": []}})
    );
}

#[test]
fn the_previous_result_is_passed_on_whole() {
    let network = list(r#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#).unwrap();
    let previous = json!({"cniVersion":"1.0.0","ips":[],"vendor":{"x":1}});
    let bytes = network.plugins[0].request(&network, previous.as_object(), None);
    let sent: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(sent["prevResult"], previous);
}

#[test]
fn extensions_decide_what_a_file_is() {
    for (name, kind) in [
        ("10-a.conflist", Some(FileKind::List)),
        ("10-a.conf", Some(FileKind::Single)),
        ("10-a.json", Some(FileKind::Single)),
        ("10-a.conf.bak", None),
        ("README", None),
        ("10-a.CONF", None),
    ] {
        assert_eq!(FileKind::of(Path::new(name)), kind, "{name}");
    }
}
