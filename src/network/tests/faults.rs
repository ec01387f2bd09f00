//! Plugins that misbehave, caches that are damaged, and what is left after either.

use crate::network::error::{Command, NetworkError, PluginFailure};

use super::*;

/// Notes each call as `<plugin> <command> <netns or none>` in the file `calls`, and its input in
/// `stdin.<plugin>.<command>`.
const NOTE: &str = r#"me=$(basename "$0"); echo "$me $CNI_COMMAND ${CNI_NETNS:-none}" >> calls
cat > "stdin.$me.$CNI_COMMAND"; env | grep '^CNI_' | sort > "env.$me.$CNI_COMMAND""#;

const RESULT: &str = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.7/24"}],"by":"it"}'"#;

/// A network `n` of the plugins `one`, `two` and `three`, which note their calls and succeed.
fn three() -> Scratch {
    let scratch = Scratch::new();
    scratch.configure(
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[
            {"type":"one"},{"type":"two","capabilities":{"dns":true}},{"type":"three"}]}"#,
    );
    for name in ["one", "two", "three"] {
        scratch.script(name, &format!("{NOTE}\n[ $CNI_COMMAND = DEL ] || {RESULT}"));
    }
    scratch
}

impl Scratch {
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls
            .lines()
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect()
    }

    fn stdin(&self, call: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path(&format!("stdin.{call}"))).unwrap()).unwrap()
    }

    fn records(&self) -> usize {
        self.names("cache/results").len()
    }
}

#[tokio::test]
async fn plugins_run_in_order_and_backwards_with_what_they_need() {
    let scratch = three();
    let networks = scratch.open();
    let pod = Pod {
        dns: Some(crate::network::Dns::default()),
        ..scratch.pod(1)
    };
    let attachment = networks.attach(&pod).await.unwrap();
    assert_eq!(attachment.ips[0].to_string(), "10.0.0.7");
    networks
        .detach(&Pod {
            sandbox_id: pod.sandbox_id.clone(),
            ..Pod::default()
        })
        .await
        .unwrap();
    assert_eq!(
        scratch.calls(),
        [
            "one ADD",
            "two ADD",
            "three ADD",
            "three DEL",
            "two DEL",
            "one DEL"
        ]
    );

    assert_eq!(
        scratch.stdin("one.ADD")["prevResult"],
        serde_json::Value::Null
    );
    assert_eq!(scratch.stdin("two.ADD")["prevResult"]["by"], "it");
    assert_eq!(scratch.stdin("one.DEL")["prevResult"]["by"], "it");
    assert!(scratch.stdin("two.DEL")["runtimeConfig"]["dns"].is_object());
    assert!(scratch.stdin("three.DEL").get("runtimeConfig").is_none());
    let env = |call: &str| fs::read_to_string(scratch.path(&format!("env.{call}"))).unwrap();
    let args = format!(
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;\
         K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=u-1\n",
        pod.sandbox_id
    );
    assert!(
        env("one.ADD").contains(&args) && env("one.DEL").contains(&args),
        "{}",
        env("one.DEL")
    );
    assert!(env("one.ADD").contains(&format!("CNI_NETNS={}\n", pod.netns.display())));
    assert!(
        env("one.DEL").contains("CNI_NETNS=\n"),
        "no such namespace: {}",
        env("one.DEL")
    );
    assert!(env("one.ADD").contains("CNI_IFNAME=eth0\n"));
}

#[tokio::test]
async fn the_intent_is_in_the_cache_when_the_first_plugin_runs() {
    let scratch = three();
    scratch.script("one", &format!("cp cache/results/n-* seen; {RESULT}"));
    let networks = scratch.open();
    networks.attach(&scratch.pod(1)).await.unwrap();
    let seen: serde_json::Value =
        serde_json::from_slice(&fs::read(scratch.path("seen")).unwrap()).unwrap();
    assert_eq!(seen["containerId"], scratch.pod(1).sandbox_id);
    assert!(seen.get("result").is_none());
    let mode = fs::metadata(scratch.path("seen"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn after_a_failed_add_what_was_attempted_is_deleted_and_nothing_stays() {
    for (two, says) in [
        (
            r#"echo '{"code":7,"msg":"bad subnet"}'; exit 1"#,
            "bad subnet (code 7)",
        ),
        (
            "echo garbage",
            "its result is unusable: it is not a JSON object",
        ),
        ("true", "its result is unusable: it is empty"),
        (r#"echo '{"ips":7}'"#, "ips: is not a list of objects"),
        (
            "head -c 10000000 /dev/zero",
            "printed more than 1048576 bytes",
        ),
        ("kill -KILL $$", "signal: 9"),
    ] {
        let scratch = three();
        scratch.script(
            "two",
            &format!("{NOTE}\n[ $CNI_COMMAND = DEL ] && exit 0\n{two}"),
        );
        let networks = scratch.open();
        let error = networks.attach(&scratch.pod(1)).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("network \"n\": plugin \"two\" ADD: ") && text.contains(says),
            "{text}"
        );
        assert_eq!(
            scratch.calls(),
            ["one ADD", "two ADD", "two DEL", "one DEL"],
            "{two}"
        );
        assert_eq!(scratch.records(), 0);
        // The next correct call succeeds.
        scratch.script("two", RESULT);
        networks.attach(&scratch.pod(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_plugin_that_never_answers_ends_at_the_deadline_and_is_cleaned_up() {
    let scratch = three();
    scratch.script(
        "two",
        &format!("{NOTE}\n[ $CNI_COMMAND = DEL ] && exit 0\nexec sleep 1000"),
    );
    let settings = Settings {
        add_timeout: Duration::from_secs(1),
        ..scratch.settings()
    };
    let networks = Networks::open(settings);
    let error = networks.attach(&scratch.pod(1)).await.unwrap_err();
    let NetworkError::Plugin { failure, .. } = error else {
        panic!("{error}")
    };
    assert!(
        matches!(*failure, PluginFailure::Deadline { .. }),
        "{failure}"
    );
    assert_eq!(scratch.records(), 0);
    assert!(networks.in_flight().is_empty());
}

#[tokio::test]
async fn a_stuck_pod_does_not_hold_up_others_or_any_answer() {
    let scratch = three();
    nix::unistd::mkfifo(&scratch.path("gate"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let stuck = scratch.pod(1);
    let wait = format!(
        "[ $CNI_CONTAINERID = {} ] && cat gate > opened",
        stuck.sandbox_id
    );
    scratch.script("one", &format!("{wait}\n{RESULT}"));
    let networks = Networks::open(Settings {
        concurrency: 2,
        ..scratch.settings()
    });
    let waiting = tokio::spawn({
        let (networks, stuck) = (Arc::clone(&networks), stuck.clone());
        async move { networks.attach(&stuck).await }
    });
    while networks
        .in_flight()
        .first()
        .is_none_or(|running| running.plugin.is_none())
    {
        tokio::task::yield_now().await;
    }
    let running = &networks.in_flight()[0];
    assert_eq!(
        (running.command, running.sandbox_id.as_str()),
        (Command::Add, &*stuck.sandbox_id)
    );
    assert_eq!(running.plugin.as_ref().unwrap().0, "one");
    networks.readiness().unwrap();
    for number in 2..6 {
        networks.attach(&scratch.pod(number)).await.unwrap();
        networks.detach(&scratch.pod(number)).await.unwrap();
    }
    // Opening it for writing waits for the reader, so this is no race.
    let gate = scratch.path("gate");
    tokio::task::spawn_blocking(move || fs::write(gate, "go"))
        .await
        .unwrap()
        .unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_stops_waiting_does_not_stop_the_work() {
    let scratch = three();
    nix::unistd::mkfifo(&scratch.path("gate"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    scratch.script(
        "one",
        &format!("[ $CNI_COMMAND = DEL ] || cat gate > opened\n{RESULT}"),
    );
    let networks = scratch.open();
    let pod = scratch.pod(1);
    let waiting = tokio::spawn({
        let (networks, pod) = (Arc::clone(&networks), pod.clone());
        async move { networks.attach(&pod).await }
    });
    while networks.in_flight().is_empty() {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let gate = scratch.path("gate");
    tokio::task::spawn_blocking(move || fs::write(gate, "go"))
        .await
        .unwrap()
        .unwrap();
    // The DEL waits for the ADD of the same sandbox.
    networks.detach(&pod).await.unwrap();
    assert_eq!(scratch.records(), 0);
    assert_eq!(
        scratch.calls(),
        ["two ADD", "three ADD", "three DEL", "two DEL"]
    );
}

#[tokio::test]
async fn a_failed_clean_up_keeps_the_record_for_the_next_try() {
    let scratch = three();
    let fail = r#"echo '{"code":100,"msg":"no"}'; exit 1"#;
    scratch.script("two", &format!("{NOTE}\n{fail}"));
    let networks = scratch.open();
    let error = networks.attach(&scratch.pod(1)).await.unwrap_err();
    assert!(matches!(error, NetworkError::CleanUp { .. }), "{error}");
    assert_eq!(scratch.records(), 1);
    let error = networks
        .detach(&scratch.pod(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("plugin \"two\" DEL: no (code 100)"),
        "{error}"
    );
    assert_eq!(scratch.records(), 1);
    scratch.script("two", NOTE);
    networks.detach(&scratch.pod(1)).await.unwrap();
    assert_eq!(scratch.records(), 0);
}

#[tokio::test]
async fn a_del_goes_on_past_a_plugin_that_has_nothing_to_delete() {
    let scratch = three();
    let gone = r#"[ $CNI_COMMAND = ADD ] || { echo '{"code":3,"msg":"who?"}'; exit 1; }"#;
    scratch.script("three", &format!("{NOTE}\n{gone}\n{RESULT}"));
    let networks = scratch.open();
    networks.attach(&scratch.pod(1)).await.unwrap();
    networks.detach(&scratch.pod(1)).await.unwrap();
    assert_eq!(scratch.calls()[3..], ["three DEL", "two DEL", "one DEL"]);
    assert_eq!(scratch.records(), 0);
}

#[tokio::test]
async fn a_plugin_that_is_uninstalled_keeps_the_record_and_is_named() {
    let scratch = three();
    let networks = scratch.open();
    networks.attach(&scratch.pod(1)).await.unwrap();
    fs::rename(scratch.path("bin/two"), scratch.path("two")).unwrap();
    let error = networks
        .detach(&scratch.pod(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("plugin \"two\" is missing in ") && error.contains("/bin, "),
        "{error}"
    );
    assert_eq!(scratch.records(), 1);
    fs::rename(scratch.path("two"), scratch.path("bin/two")).unwrap();
    networks.detach(&scratch.pod(1)).await.unwrap();
}

#[tokio::test]
async fn without_a_record_del_is_run_only_for_pods_that_may_be_attached() {
    let scratch = three();
    let networks = scratch.open();
    networks
        .detach(&Pod {
            attempted: false,
            ..scratch.pod(1)
        })
        .await
        .unwrap();
    assert!(scratch.calls().is_empty());
    networks.detach(&scratch.pod(1)).await.unwrap();
    assert_eq!(scratch.calls(), ["three DEL", "two DEL", "one DEL"]);
    fs::remove_file(scratch.path("net.d/10-test.conflist")).unwrap();
    scratch.open().detach(&scratch.pod(1)).await.unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_used_up_by_a_del_with_the_present_configuration() {
    let scratch = three();
    let networks = scratch.open();
    networks.attach(&scratch.pod(1)).await.unwrap();
    let record = scratch
        .path("cache/results")
        .join(&scratch.names("cache/results")[0]);
    fs::write(record, "").unwrap();
    networks.detach(&scratch.pod(1)).await.unwrap();
    assert_eq!(scratch.calls()[3..], ["three DEL", "two DEL", "one DEL"]);
    assert_eq!(scratch.records(), 0);
}

#[tokio::test]
async fn networks_before_0_4_0_get_no_result_on_del_and_their_results_are_converted() {
    let scratch = three();
    scratch.configure(r#"{"cniVersion":"0.2.0","name":"old","plugins":[{"type":"one"}]}"#);
    scratch.script(
        "one",
        &format!("{NOTE}\necho '{{\"ip4\":{{\"ip\":\"10.0.0.9/24\"}}}}'"),
    );
    let networks = scratch.open();
    let attachment = networks.attach(&scratch.pod(1)).await.unwrap();
    assert_eq!(attachment.ips[0].to_string(), "10.0.0.9");
    assert_eq!(attachment.result["ips"][0]["address"], "10.0.0.9/24");
    networks.detach(&scratch.pod(1)).await.unwrap();
    assert!(scratch.stdin("one.DEL").get("prevResult").is_none());
}

#[tokio::test]
async fn a_network_that_gives_no_address_is_an_error_and_undone() {
    let scratch = three();
    scratch.script(
        "three",
        "[ $CNI_COMMAND = DEL ] || echo '{\"cniVersion\":\"1.0.0\"}'",
    );
    let networks = scratch.open();
    let error = networks
        .attach(&scratch.pod(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("gave no address for eth0"), "{error}");
    assert_eq!(
        scratch.calls(),
        ["one ADD", "two ADD", "two DEL", "one DEL"]
    );
    assert_eq!(scratch.records(), 0);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_stops_the_add_before_it_begins() {
    let scratch = three();
    fs::write(scratch.path("cache"), "a file").unwrap();
    let error = scratch
        .open()
        .attach(&scratch.pod(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("CNI cache ") && error.contains("Not a directory"),
        "{error}"
    );
    assert!(scratch.calls().is_empty());
}

#[tokio::test]
async fn an_id_that_leads_out_of_the_cache_is_refused() {
    let scratch = three();
    let networks = scratch.open();
    for id in ["", "../../etc/passwd", "a/b", "-x"] {
        let pod = Pod {
            sandbox_id: id.into(),
            ..scratch.pod(1)
        };
        for error in [
            networks.attach(&pod).await.err(),
            networks.detach(&pod).await.err(),
        ] {
            assert!(
                matches!(error, Some(NetworkError::Unpassable { field: "id", .. })),
                "{error:?}"
            );
        }
    }
}

#[tokio::test]
async fn without_a_network_attaching_says_why_and_a_network_that_comes_is_used() {
    let scratch = three();
    let config = scratch.path("net.d/10-test.conflist");
    fs::rename(&config, scratch.path("aside")).unwrap();
    let networks = scratch.open();
    let reason = networks.readiness().unwrap_err().reason;
    assert!(
        reason.contains("no usable CNI configuration in"),
        "{reason}"
    );
    let error = networks.attach(&scratch.pod(1)).await.unwrap_err();
    assert!(
        matches!(&error, NetworkError::NotReady(e) if e.reason == reason),
        "{error}"
    );
    assert!(networks.ready(Duration::ZERO).await.is_err());
    let waiting = tokio::spawn({
        let networks = Arc::clone(&networks);
        async move { networks.ready(LONG).await }
    });
    fs::rename(scratch.path("aside"), config).unwrap();
    waiting.await.unwrap().unwrap();
    networks.attach(&scratch.pod(1)).await.unwrap();
}
