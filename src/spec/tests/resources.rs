//! Memory, CPU, huge pages and devices.

use super::super::config::{Device, HugepageLimit, Resources};
use super::super::fixture::{Fixture, map, node};
use super::super::inputs::Host;
use super::golden::everything;
use super::linux;

#[test]
fn a_device_is_made_and_allowed_as_asked() {
    let mut it = Fixture::minimal();
    it.settings.device_ownership_from_security_context = true;
    it.user.uid = 1000;
    it.user.gid = 50;
    it.config.security.run_as_group = Some(50);
    it.config.devices = vec![Device {
        container_path: "/dev/x".into(),
        host_path: "/dev/x".into(),
        permissions: "r".into(),
    }];
    it.devices = vec![vec![node("/dev/x", 1, 2)]];
    let json = it.json();
    let device = &linux(&json)["devices"][0];
    assert_eq!((&device["uid"], &device["gid"]), (&1000.into(), &50.into()));
    let rules = &linux(&json)["resources"]["devices"];
    assert_eq!(
        rules[0],
        serde_json::json!({"allow": false, "access": "rwm"})
    );
    let want =
        serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 2, "access": "r"});
    assert_eq!(rules[1], want);
    it.settings.device_ownership_from_security_context = false;
    assert_eq!(linux(&it.json())["devices"][0]["gid"], 6);
}

#[test]
fn memory_and_swap_follow_the_cri() {
    for (limit, swap, accounting, want) in [
        (0, 0, true, Ok((None, None))),
        (100, 0, true, Ok((Some(100), Some(100)))),
        (100, 0, false, Ok((Some(100), None))),
        (100, 150, true, Ok((Some(100), Some(150)))),
        (100, -1, true, Ok((Some(100), Some(-1)))),
        (100, 150, false, Ok((Some(100), None))),
        (-1, 0, true, Ok((Some(-1), Some(-1)))),
        (100, 50, true, Err("50 is less than the memory limit 100")),
        (0, 50, true, Err("needs a memory limit")),
        (-2, 0, true, Err("-2 is not possible")),
        (10, 0, true, Err("10 is less than 20")),
    ] {
        let mut it = Fixture::minimal();
        it.settings.container_min_memory = 20;
        it.host.swap_accounting = accounting;
        it.config.resources = Some(Resources {
            memory_limit_in_bytes: limit,
            memory_swap_limit_in_bytes: swap,
            ..Resources::default()
        });
        match (it.build(), want) {
            (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
            (Ok(_), Ok(want)) => {
                let json = it.json();
                let memory = &linux(&json)["resources"]["memory"];
                assert_eq!((memory["limit"].as_i64(), memory["swap"].as_i64()), want);
            }
            (got, want) => panic!("{limit} {swap}: {got:?}, not {want:?}"),
        }
    }
}

#[test]
fn resources_that_cannot_be_are_refused_by_field() {
    type Change = fn(&mut Resources, &mut Host);
    let cases: [(Change, &str); 9] = [
        (
            |r, _| r.cpu_period = -1,
            "resources.cpu_period: -1 is not possible",
        ),
        (
            |r, _| r.cpu_shares = -5,
            "resources.cpu_shares: -5 is not possible",
        ),
        (
            |r, _| r.cpu_quota = -2,
            "resources.cpu_quota: -2 is not possible",
        ),
        (
            |r, _| r.cpuset_cpus = "0;rm".into(),
            "resources.cpuset_cpus: \"0;rm\" is not a list",
        ),
        (
            |r, _| r.oom_score_adj = 1001,
            "resources.oom_score_adj: 1001 is not -1000 to 1000",
        ),
        (
            |r, _| r.oom_score_adj = i64::MIN,
            "resources.oom_score_adj: ",
        ),
        (
            |r, _| {
                r.hugepage_limits = vec![HugepageLimit {
                    page_size: "2Mi".into(),
                    limit: 0,
                }]
            },
            "resources.hugepage_limits[0].page_size: \"2Mi\" is not of the form",
        ),
        (
            |r, _| r.unified = map(&[("../memory.max", "1")]),
            "resources.unified: \"../memory.max\"",
        ),
        (
            |r, h| {
                r.unified = map(&[("memory.max", "1")]);
                h.cgroup_v2 = false;
            },
            "resources.unified: needs cgroup v2",
        ),
    ];
    for (change, want) in cases {
        let mut it = Fixture::minimal();
        change(
            it.config.resources.insert(Resources::default()),
            &mut it.host,
        );
        let error = it.error();
        assert!(error.starts_with(want), "{error}, not {want}");
    }
}

#[test]
fn huge_pages_are_left_out_without_their_controller() {
    let mut it = Fixture::minimal();
    it.config.resources = Some(everything());
    it.host.hugetlb = false;
    assert_eq!(linux(&it.json())["resources"].get("hugepageLimits"), None);
}

#[test]
fn a_handler_can_leave_the_hosts_devices_out() {
    let mut it = Fixture::minimal();
    (it.config.security.privileged, it.pod.privileged) = (true, true);
    it.host_devices = vec![node("/dev/fuse", 10, 229)];
    assert_eq!(linux(&it.json())["resources"]["devices"][0]["allow"], true);
    it.settings.privileged_without_host_devices = true;
    let json = it.json();
    assert_eq!(linux(&json).get("devices"), None);
    assert_eq!(linux(&json)["resources"]["devices"][0]["allow"], false);
}
