//! Arguments, environment, directory, capabilities, OOM score.

use serde_json::Value;

use super::super::config::{EnvVar, Resources, Security};
use super::super::fixture::{Fixture, env, map};
use super::super::inputs::Host;
use crate::security::capabilities::CapSet;

#[test]
fn arguments_merge_by_the_cris_table() {
    for (entrypoint, cmd, command, args, want) in [
        ("e", "c1 c2", "", "", "e c1 c2"),
        ("", "c", "", "", "c"),
        ("e", "", "", "", "e"),
        ("e", "c", "", "a", "e a"),
        ("e", "c", "k", "", "k"),
        ("e", "c", "k", "a b", "k a b"),
        ("", "", "k", "", "k"),
        ("", "", "", "a", "a"),
    ] {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut it = Fixture::minimal();
        (it.image.entrypoint, it.image.cmd) = (words(entrypoint), words(cmd));
        (it.config.command, it.config.args) = (words(command), words(args));
        assert_eq!(it.json()["process"]["args"], serde_json::json!(words(want)));
    }
    let mut it = Fixture::minimal();
    it.image.cmd.clear();
    assert!(it.error().starts_with("no command: "), "{}", it.error());
    it.config.command = vec!["a".into(), "b\0".into()];
    assert_eq!(it.error(), "command: word 1 has a NUL in it");
}

fn environment(it: &Fixture) -> Vec<String> {
    serde_json::from_value(it.json()["process"]["env"].clone()).unwrap()
}

#[test]
fn environment_goes_from_defaults_over_the_image_to_the_request() {
    let mut it = Fixture::minimal();
    it.settings.default_env = vec!["SITE=a".into(), "PATH=/site".into()];
    it.image.env = vec![
        "SITE=b".into(),
        "IMAGE=1".into(),
        "EQ=a=b".into(),
        "EMPTY=".into(),
    ];
    it.config.envs = vec![env("IMAGE", "2"), env("NEW", "x\ny=z"), env("NEW", "last")];
    let want = [
        "PATH=/site",
        "SITE=b",
        "HOSTNAME=pod-host",
        "IMAGE=2",
        "EQ=a=b",
        "EMPTY=",
        "NEW=last",
        "HOME=/root",
    ];
    assert_eq!(environment(&it), want);
    it.config.tty = true;
    it.config.envs.push(env("HOME", "/mine"));
    let got = environment(&it);
    assert!(
        got.contains(&"TERM=xterm".into()) && got.contains(&"HOME=/mine".into()),
        "{got:?}"
    );
    assert!(!got.contains(&"HOME=/root".into()));
}

#[test]
fn environment_that_cannot_be_is_refused_by_name() {
    let with = |entry: EnvVar| {
        let mut it = Fixture::minimal();
        it.config.envs = vec![entry];
        it.error()
    };
    let bytes = EnvVar {
        key: "BIN".into(),
        value: vec![b'a', 0xff],
    };
    assert_eq!(with(bytes), "envs: value of `BIN` is not UTF-8 (byte 1)");
    assert_eq!(with(env("", "x")), r#"envs: "": a variable has no name"#);
    assert_eq!(
        with(env("A=B", "x")),
        r#"envs: "A=B": the name has a `=` in it"#
    );
    assert!(with(env("A", "x\0")).contains("has a NUL"));
    let mut it = Fixture::minimal();
    it.image.env = vec!["NOVALUE".into()];
    assert_eq!(
        it.error(),
        r#"environment of the image: "NOVALUE" is not KEY=value"#
    );
}

#[test]
fn the_working_directory_is_the_requests_then_the_images_then_the_root() {
    for (wanted, image, want) in [
        ("", "", "/"),
        ("", "/app", "/app"),
        ("", "app/x", "/app/x"),
        ("/w/../v", "/app", "/v"),
    ] {
        let mut it = Fixture::minimal();
        (it.config.working_dir, it.image.working_dir) = (wanted.into(), image.into());
        assert_eq!(it.json()["process"]["cwd"], want);
    }
}

#[test]
fn the_oom_score_stops_at_the_daemons_own_when_it_cannot_go_below() {
    for (wanted, own, can_lower, want) in [
        (-997, 0, true, -997),
        (-997, 0, false, 0),
        (-997, -500, false, -500),
        (985, -999, false, 985),
    ] {
        let mut it = Fixture::minimal();
        it.config.resources = Some(Resources {
            oom_score_adj: wanted,
            ..Resources::default()
        });
        it.host = Host {
            own_oom_score_adj: own,
            can_lower_oom: can_lower,
            ..it.host
        };
        assert_eq!(it.json()["process"]["oomScoreAdj"], want);
    }
    let mut it = Fixture::minimal();
    it.host.own_oom_score_adj = -999;
    assert_eq!(
        it.json()["process"]["oomScoreAdj"],
        0,
        "not inherited from the daemon"
    );
}

#[test]
fn every_capability_has_its_name_in_the_configuration() {
    let mut it = Fixture::minimal();
    it.config.security.capabilities.add = vec!["ALL".into()];
    let json = it.json();
    let got = json["process"]["capabilities"]["bounding"]
        .as_array()
        .unwrap();
    let mut want: Vec<_> = CapSet::ALL.names().collect();
    want.sort_unstable();
    assert_eq!(
        got.iter()
            .map(|name| name.as_str().unwrap())
            .collect::<Vec<_>>(),
        want
    );
}

#[test]
fn no_new_privileges_stays_when_privileged() {
    let mut it = Fixture::minimal();
    it.pod.privileged = true;
    it.config.security = Security {
        privileged: true,
        no_new_privs: true,
        ..Security::default()
    };
    assert_eq!(it.json()["process"]["noNewPrivileges"], true);
}

proptest::proptest! {
    #[test]
    fn no_environment_makes_it_panic(
        envs in proptest::collection::vec((".{0,8}", proptest::collection::vec(0u8.., 0..9)), 0..5),
        label in ".{0,16}",
    ) {
        let mut it = Fixture::minimal();
        it.config.labels = map(&[(&label, &label)]);
        it.config.annotations = it.config.labels.clone();
        it.config.envs = envs.into_iter().map(|(key, value)| EnvVar { key, value }).collect();
        if let Ok(spec) = it.build() {
            let text = serde_json::to_string(&spec).unwrap();
            let back: Value = serde_json::from_str(&text).unwrap();
            let labels = back["annotations"]["io.kubernetes.cri-o.Labels"].as_str().unwrap();
            let labels: std::collections::BTreeMap<String, String> =
                serde_json::from_str(labels).unwrap();
            proptest::prop_assert_eq!(labels, it.config.labels);
        }
    }
}

#[test]
fn an_umask_that_the_pod_asks_for_is_the_processes() {
    let mut it = Fixture::minimal();
    let umask = |it: &Fixture| it.json()["process"]["user"]["umask"].clone();
    assert_eq!(umask(&it), 0o022);
    it.pod.annotations = map(&[("io.kubernetes.cri-o.umask", "077")]);
    assert_eq!(umask(&it), 0o077);
    it.pod.annotations = map(&[("umask.crio.io", "078")]);
    let error = it.error();
    assert!(
        error.starts_with("annotation umask.crio.io: `078`"),
        "{error}"
    );
}
