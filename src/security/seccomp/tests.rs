use super::document::{MAX_NAMES, MAX_RULES};
use super::*;

const TARGET: Target = Target {
    go_arch: "amd64",
    arch: Arch::ScmpArchX86_64,
    kernel: (6, 1),
};

fn parse(text: &str) -> Result<Profile, SeccompError> {
    Profile::parse(Path::new("/p.json"), text.as_bytes(), TARGET)
}

fn allowed(filter: &LinuxSeccomp) -> Vec<&str> {
    let rules = filter.syscalls().as_deref().unwrap_or_default();
    rules
        .iter()
        .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow)
        .flat_map(|rule| rule.names().iter().map(String::as_str))
        .collect()
}

#[test]
fn the_built_in_profile_allows_by_capability() {
    let profile = Profile::embedded(TARGET).unwrap();
    let plain = profile.filter(CapSet::EMPTY);
    assert_eq!(plain.default_action(), LinuxSeccompAction::ScmpActErrno);
    assert_eq!(plain.default_errno_ret(), Some(38));
    let x86 = [Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
    assert_eq!(plain.architectures().as_deref().unwrap(), &x86);
    assert!(allowed(&plain).contains(&"openat2"));
    assert!(!allowed(&plain).contains(&"bpf"));
    assert!(!allowed(&plain).contains(&"s390_runtime_instr"));
    let admin = profile.filter(CapSet::named("SYS_ADMIN").unwrap());
    assert!(allowed(&admin).contains(&"bpf"));
}

#[test]
fn the_built_in_profile_is_right_for_the_other_architecture_too() {
    let arm = Target {
        go_arch: "arm64",
        arch: Arch::ScmpArchAarch64,
        kernel: (6, 1),
    };
    let filter = Profile::embedded(arm).unwrap().filter(CapSet::EMPTY);
    assert_eq!(filter.architectures().as_deref().unwrap().len(), 2);
    assert!(allowed(&filter).contains(&"sync_file_range2"));
    assert!(!allowed(&filter).contains(&"arch_prctl"));
}

#[test]
fn a_parsed_profile_is_small() {
    let profile = Profile::embedded(TARGET).unwrap();
    let names: usize = profile.rules.iter().map(|rule| rule.names.len()).sum();
    let fixed = std::mem::size_of::<Rule>() * profile.rules.len();
    assert!(names + fixed < 16 << 10, "{names} + {fixed} bytes");
}

#[test]
fn conditions_need_all_includes_and_no_exclude() {
    let profile = parse(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
        {"names":["both"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_KILL","CAP_CHOWN"]}},
        {"names":["none"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_KILL","CAP_CHOWN"]}},
        {"names":["here"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64","x32"]}},
        {"names":["there"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
        {"names":["nothere"],"action":"SCMP_ACT_ALLOW","excludes":{"arches":["amd64"]}},
        {"names":["old"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
        {"names":["new"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}}]}"#,
    )
    .unwrap();
    let set = |names: &[&str]| CapSet::of(names).unwrap();
    for (caps, want) in [
        (set(&[]), vec!["none", "here", "old"]),
        (set(&["KILL"]), vec!["here", "old"]),
        (set(&["KILL", "CHOWN"]), vec!["both", "here", "old"]),
    ] {
        assert_eq!(allowed(&profile.filter(caps)), want, "{caps:?}");
    }
}

#[test]
fn a_plain_oci_profile_keeps_every_field() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
        "architectures":["SCMP_ARCH_X86_64"],"flags":["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath":"/run/l.sock","listenerMetadata":"m",
        "syscalls":[{"names":["clone","future_call"],"action":"SCMP_ACT_NOTIFY","errnoRet":2,
        "args":[{"index":0,"value":7,"valueTwo":9,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
    let filter = parse(text).unwrap().filter(CapSet::EMPTY);
    let want: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&filter).unwrap(), want);
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    let rule = |rest: &str| {
        format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["x"],{rest}}}]}}"#)
    };
    let allow = r#""action":"SCMP_ACT_ALLOW""#;
    for (text, want) in [
        (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#.into(), "defaultAction: unknown action `SCMP_ACT_MAYBE`"),
        ("{}".into(), "missing field `defaultAction`"),
        ("nonsense".into(), "line 1 column"),
        ("[]".into(), "line 1 column"),
        (rule(r#""action":"ALLOW""#), "syscalls[0].action: unknown action `ALLOW`"),
        (rule(&format!(r#"{allow},"errno":"EWHAT""#)), "syscalls[0].errno: unknown errno `EWHAT`"),
        (rule(&format!(r#"{allow},"errnoRet":5000"#)), "syscalls[0].errno: 5000 is more than 4095"),
        (rule(&format!(r#"{allow},"includes":{{"caps":["CAP_X"]}}"#)), "syscalls[0].includes.caps: unknown"),
        (rule(&format!(r#"{allow},"includes":{{"minKernel":"new"}}"#)), "includes.minKernel: `new` is not"),
        (rule(&format!(r#"{allow},"name":"y""#)), "`name` and `names` are both given"),
        (
            rule(&format!(r#"{allow},"args":[{{"index":6,"value":0,"op":"SCMP_CMP_EQ"}}]"#)),
            "syscalls[0].args[0].index: 6 is not 0 to 5",
        ),
        (
            rule(&format!(r#"{allow},"args":[{{"index":0,"value":0,"op":"=="}}]"#)),
            "syscalls[0].args[0].op: unknown operator `==`",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a b"],"action":"SCMP_ACT_LOG"}]}"#
                .into(),
            "syscalls[0].names: \"a b\" cannot be a system call",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["F"]}"#.into(), "flags: unknown flag `F`"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["Z80"]}"#.into(),
            "architectures: unknown architecture `Z80`",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_ARM"],
               "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#
                .into(),
            "archMap: `architectures` is given as well",
        ),
    ] as [(String, &str); 16]
    {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("seccomp profile /p.json: "), "{error}");
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn absurd_counts_are_refused() {
    let rule = r#"{"names":["x"],"action":"SCMP_ACT_ALLOW"}"#;
    let many = vec![rule; MAX_RULES + 1].join(",");
    let error = parse(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{many}]}}"#
    ));
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("more than 4096 rules")
    );
    let names = vec![r#""x""#; MAX_NAMES + 1].join(",");
    let error = parse(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":[{names}],"action":"SCMP_ACT_LOG"}}]}}"#
    ));
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("more than 32768 names")
    );
}

#[test]
fn a_file_is_read_only_when_it_is_one_and_small() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.json");
    std::fs::write(&path, r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
    assert!(Profile::load(&path, TARGET).is_ok());
    let large = dir.path().join("large");
    std::fs::File::create(&large)
        .unwrap()
        .set_len(MAX_PROFILE_BYTES + 1)
        .unwrap();
    assert!(matches!(
        Profile::load(&large, TARGET),
        Err(SeccompError::TooLarge { .. })
    ));
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(
        Profile::load(&pipe, TARGET),
        Err(SeccompError::NotAFile { .. })
    ));
    assert!(matches!(
        Profile::load(dir.path(), TARGET),
        Err(SeccompError::NotAFile { .. })
    ));
    let missing = Profile::load(&dir.path().join("missing"), TARGET)
        .unwrap_err()
        .to_string();
    assert!(missing.contains("missing: No such file"), "{missing}");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(text in ".{0,400}") {
        let _ = parse(&text);
        let _ = parse(&format!(r#"{{"defaultAction":{text:?},"syscalls":[{{"names":[{text:?}],"action":"SCMP_ACT_LOG"}}]}}"#));
    }
}
