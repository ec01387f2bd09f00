//! Hook files in directories: for whom they are, their order, and what is wrong with them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::directories::{MAX_FILE_BYTES, MAX_FILES};
use super::{Directories, HookError, HookStep, Scene};

/// Two directories and a program for hooks.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Node {
        let node = Node {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(node.path("a")).unwrap();
        fs::create_dir(node.path("b")).unwrap();
        fs::write(node.path("hook"), "#!/bin/true\n").unwrap();
        fs::set_permissions(node.path("hook"), fs::Permissions::from_mode(0o755)).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn directories(&self) -> Directories {
        Directories::new(vec![self.path("missing"), self.path("a"), self.path("b")])
    }

    /// A file as it should be, `args` telling which.
    fn hook(&self, name: &str, when: Value) -> Value {
        json!({
            "version": "1.0.0",
            "hook": {"path": self.path("hook"), "args": [name], "env": ["A=b"], "timeout": 5},
            "when": when,
            "stages": ["prestart", "poststop"],
        })
    }

    fn write(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }
}

fn of(
    directories: &Directories,
    annotations: &[(&str, &str)],
    command: &str,
    has_bind_mounts: bool,
) -> Result<Vec<(HookStep, String)>, HookError> {
    let annotations: BTreeMap<String, String> = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let hooks = directories.of(&Scene {
        annotations: &annotations,
        command,
        has_bind_mounts,
    })?;
    let named = |(step, hook): (HookStep, oci_spec::runtime::Hook)| {
        (step, hook.args().clone().unwrap_or_default().concat())
    };
    Ok(hooks.into_iter().map(named).collect())
}

fn names(directories: &Directories) -> Vec<String> {
    let hooks = of(directories, &[], "sh", false).unwrap();
    let of_one_step = hooks
        .into_iter()
        .filter(|(step, _)| *step == HookStep::Poststop);
    of_one_step.map(|(_, name)| name).collect()
}

#[test]
fn the_conditions_that_are_there_all_have_to_hold() {
    let gpu = ("com.example.gpu", "two of them");
    for (when, annotations, command, mounts, want) in [
        (json!({"always": true}), &[][..], "sh", false, true),
        (json!({"always": false}), &[], "sh", false, false),
        (json!({"hasBindMounts": true}), &[], "sh", true, true),
        (json!({"hasBindMounts": true}), &[], "sh", false, false),
        // as in CRI-O: it does not mean "has none"
        (json!({"hasBindMounts": false}), &[], "sh", false, false),
        (
            json!({"commands": ["/init$", "^sh$"]}),
            &[],
            "sh",
            false,
            true,
        ),
        (json!({"commands": ["/init$"]}), &[], "sh", false, false),
        (
            json!({"commands": ["[[:alpha:]]+/in(it|fo)$"]}),
            &[],
            "/sbin/init",
            false,
            true,
        ),
        (
            json!({"annotations": {"^com\\.example\\.gpu$": "two"}}),
            &[gpu],
            "sh",
            false,
            true,
        ),
        (
            json!({"annotations": {"^com\\.example\\.gpu$": "^two$"}}),
            &[gpu],
            "sh",
            false,
            false,
        ),
        (
            json!({"annotations": {"gpu": "", "cpu": ""}}),
            &[gpu],
            "sh",
            false,
            false,
        ),
        (
            json!({"annotations": {"gpu": ""}, "commands": ["sh"]}),
            &[gpu],
            "sh",
            false,
            true,
        ),
        (
            json!({"annotations": {"gpu": ""}, "commands": ["ash"]}),
            &[gpu],
            "sh",
            false,
            false,
        ),
        (
            json!({"always": true, "commands": ["ash"]}),
            &[],
            "sh",
            false,
            false,
        ),
    ] {
        let node = Node::new();
        node.write("a/one.json", &node.hook("one", when.clone()));
        let hooks = of(&node.directories(), annotations, command, mounts).unwrap();
        let want: Vec<(HookStep, String)> = match want {
            true => [HookStep::CreateRuntime, HookStep::Poststop]
                .map(|step| (step, "one".to_owned()))
                .into(),
            false => Vec::new(),
        };
        assert_eq!(hooks, want, "{when}");
    }
}

#[test]
fn a_file_in_a_later_directory_hides_its_namesake_and_names_give_the_order() {
    let node = Node::new();
    let always = || json!({"always": true});
    for (file, name) in [
        ("a/20-x.json", "hidden"),
        ("b/20-x.json", "x"),
        ("b/30-y.json", "y"),
        ("a/10-Z.json", "Z"),
        ("a/10-a.json", "a"),
        ("a/00-note.txt", "no hook"),
    ] {
        node.write(file, &node.hook(name, always()));
    }
    assert_eq!(names(&node.directories()), ["a", "Z", "x", "y"]);
    assert!(names(&Directories::new(Vec::new())).is_empty());
}

#[test]
fn what_is_added_changed_and_removed_counts_at_once() {
    let node = Node::new();
    let directories = node.directories();
    assert!(names(&directories).is_empty());
    node.write("a/x.json", &node.hook("first", json!({"always": true})));
    assert_eq!(names(&directories), ["first"]);
    node.write("a/x.json", &node.hook("second!", json!({"always": true})));
    assert_eq!(names(&directories), ["second!"]);
    fs::remove_file(node.path("a/x.json")).unwrap();
    assert!(names(&directories).is_empty());
}

/// Files that say for whom they are.
fn broken_content(node: &Node) -> Vec<(Value, &'static str)> {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = node.hook("x", json!({"annotations": {"^broken$": ""}}));
        change(&mut value);
        value
    };
    vec![
        (
            with(&|it| it["version"] = json!("0.1.0")),
            "`version` is \"0.1.0\", which has no `when`",
        ),
        (
            with(&|it| it["version"] = json!("1.1.0")),
            "`version` is \"1.1.0\", known are \"1.0.0\" and \"0.1.0\"",
        ),
        (
            with(&|it| it["hook"]["Path"] = json!("/bin/true")),
            "`hook`: `path` is there twice",
        ),
        (
            with(&|it| drop(it.as_object_mut().unwrap().remove("version"))),
            "`version` is missing",
        ),
        (
            with(&|it| drop(it.as_object_mut().unwrap().remove("hook"))),
            "`hook` is missing",
        ),
        (
            with(&|it| it["hook"] = json!("/bin/true")),
            "`hook`: not an object",
        ),
        (
            with(&|it| it["hook"] = json!({})),
            "`hook`: `path` is missing",
        ),
        (
            with(&|it| it["hook"]["path"] = json!("bin/true")),
            "not absolute",
        ),
        (
            with(&|it| it["hook"]["timeout"] = json!(0)),
            "`timeout` is not above 0",
        ),
        (
            with(&|it| drop(it.as_object_mut().unwrap().remove("stages"))),
            "`stages` is missing",
        ),
        (
            with(&|it| it["stages"] = json!(["prestart", "poststrat"])),
            "`poststrat` is no stage",
        ),
        (
            with(&|it| it["stages"] = json!("prestart")),
            "`stages`: invalid type",
        ),
        (
            with(&|it| it["hook"]["path"] = json!("/nonexistent/h")),
            "its program /nonexistent/h: No such",
        ),
        (
            with(&|it| it["hook"]["path"] = json!("/etc/passwd")),
            "/etc/passwd: not an executable file",
        ),
    ]
}

#[test]
fn a_broken_hook_refuses_those_it_is_for_and_leaves_all_others_alone() {
    let node = Node::new();
    for (content, want) in broken_content(&node) {
        node.write("a/bad.json", &content);
        node.write("b/good.json", &node.hook("good", json!({"always": true})));
        let directories = node.directories();
        let error = of(&directories, &[("broken", "x")], "sh", false).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("a/bad.json: ") && error.contains(want),
            "{error}"
        );
        assert!(error.contains("remove"), "the remedy: {error}");
        assert_eq!(directories.problems(), [error]);
        assert_eq!(names(&directories), ["good"], "{want}");
    }
}

#[test]
fn a_file_that_does_not_say_for_whom_it_is_is_left_out() {
    let node = Node::new();
    let when = |when: Value| node.hook("x", when).to_string();
    let huge = " ".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    for (text, want) in [
        (String::new(), "EOF"),
        (
            "{\"version\": \"1.0.0\",}".into(),
            "trailing comma at line 1",
        ),
        ("\u{0}".into(), "expected value"),
        ("[]".into(), "not an object"),
        (r#"{"version": "2.0.0"}"#.into(), "`version` is \"2.0.0\""),
        (
            r#"{"version": "1.0.0", "Version": "1.0.0"}"#.into(),
            "`version` is there twice",
        ),
        (r#"{"version": "1.0.0"}"#.into(), "`when` is missing"),
        (when(json!({})), "`when`: it has no condition"),
        (when(json!([])), "`when`: not an object"),
        (
            when(json!({"always": true, "ALWAYS": false})),
            "`always` is there twice",
        ),
        (when(json!({"allways": true})), "unknown field `allways`"),
        (when(json!({"always": "yes"})), "`when`: invalid type"),
        (
            when(json!({"commands": ["(x"]})),
            "commands `(x` is no regular expression: error: unclosed",
        ),
        (
            when(json!({"annotations": {"a{99999}{99999}": ""}})),
            "is no regular expression",
        ),
        (
            when(json!({"annotations": {"a": "["}})),
            "annotations: value `[`",
        ),
        (
            when(json!({ "commands": many })),
            "more than 64 expressions",
        ),
        (deep, "recursion limit"),
        (huge, "larger than"),
    ] {
        fs::write(node.path("a/bad.json"), text).unwrap();
        node.write("b/good.json", &node.hook("good", json!({"always": true})));
        let directories = node.directories();
        assert_eq!(names(&directories), ["good"], "{want}");
        let problems = directories.problems();
        assert_eq!(problems.len(), 1, "{want}");
        assert!(problems[0].contains(want), "{problems:?}");
    }
}

#[test]
fn keys_are_known_in_any_case_as_by_go() {
    let node = Node::new();
    let program = node.path("hook");
    let value = json!({
        "Version": "1.0.0",
        "HOOK": {"Path": program, "ARGS": ["loud"]},
        "When": {"HasBindMounts": true},
        "Stages": ["prestart"],
    });
    node.write("a/loud.json", &value);
    let hooks = of(&node.directories(), &[], "sh", true).unwrap();
    assert_eq!(hooks, [(HookStep::CreateRuntime, "loud".to_owned())]);
}

impl Node {
    /// A file of the 0.1.0 schema, with these conditions.
    fn older(&self, conditions: Value) -> Value {
        let mut value = json!({"hook": self.path("hook"), "stages": ["prestart", "poststop"]});
        let object = value.as_object_mut().unwrap();
        object.extend(conditions.as_object().unwrap().clone());
        value
    }
}

#[test]
fn of_the_conditions_of_an_older_file_one_is_enough() {
    let gpu = ("com.example.gpu", "two of them");
    for (conditions, annotations, command, mounts, want) in [
        (
            json!({"cmds": ["/init$", "^sh$"]}),
            &[][..],
            "sh",
            false,
            true,
        ),
        (json!({"cmd": ["/init$"]}), &[], "sh", false, false),
        // not anchored, as in Go
        (json!({"cmd": ["in"]}), &[], "/sbin/init", false, true),
        (
            json!({"annotations": ["^two", "x"]}),
            &[gpu],
            "sh",
            false,
            true,
        ),
        (json!({"annotation": ["^of"]}), &[gpu], "sh", false, false),
        // the key of an annotation does not count
        (json!({"annotation": ["gpu"]}), &[gpu], "sh", false, false),
        (json!({"annotations": [".*"]}), &[], "sh", false, false),
        (json!({"hasbindmounts": true}), &[], "sh", true, true),
        (json!({"hasBindMounts": true}), &[], "sh", true, true),
        (json!({"hasbindmounts": true}), &[], "sh", false, false),
        (json!({"hasbindmounts": false}), &[], "sh", true, false),
        (json!({"hasbindmounts": false}), &[], "sh", false, false),
        (
            json!({"cmds": ["ash"], "annotations": ["two"]}),
            &[gpu],
            "sh",
            false,
            true,
        ),
        (
            json!({"CMDS": ["sh"], "Annotations": ["three"], "HASBINDMOUNTS": false}),
            &[gpu],
            "sh",
            false,
            true,
        ),
        (
            json!({"cmds": ["ash"], "annotations": ["three"], "hasbindmounts": true}),
            &[gpu],
            "sh",
            false,
            false,
        ),
        // an empty list has no entry that matches
        (
            json!({"cmds": ["ash"], "annotations": [], "cmd": null}),
            &[gpu],
            "sh",
            false,
            false,
        ),
    ] {
        for version in [None, Some(""), Some("0.1.0")] {
            let node = Node::new();
            let mut value = node.older(conditions.clone());
            if let Some(version) = version {
                value["version"] = json!(version);
            }
            node.write("a/one.json", &value);
            let directories = node.directories();
            assert!(directories.problems().is_empty(), "{value}");
            let hooks = of(&directories, annotations, command, mounts).unwrap();
            let steps: Vec<HookStep> = hooks.into_iter().map(|(step, _)| step).collect();
            let want: &[HookStep] = match want {
                true => &[HookStep::CreateRuntime, HookStep::Poststop],
                false => &[],
            };
            assert_eq!(steps, want, "{value}");
        }
    }
}

#[test]
fn an_older_files_arguments_come_after_the_programs_name() {
    let node = Node::new();
    let program = node.path("hook").display().to_string();
    for (more, want) in [
        (json!({"stage": ["poststart"], "stages": null}), None),
        (json!({"arguments": null}), None),
        (json!({"arguments": []}), Some(vec![&*program])),
        (
            json!({"arguments": ["--debug", "x"]}),
            Some(vec![&*program, "--debug", "x"]),
        ),
    ] {
        let mut value = node.older(json!({"cmd": ["sh"]}));
        let object = value.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        node.write("a/one.json", &value);
        let annotations = BTreeMap::new();
        let hooks = node.directories().of(&Scene {
            annotations: &annotations,
            command: "sh",
            has_bind_mounts: false,
        });
        let (_, hook) = hooks.unwrap().remove(0);
        assert_eq!(hook.path(), &node.path("hook"));
        let args = hook.args().as_ref();
        let args = args.map(|args| args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(args, want, "{value}");
        assert_eq!((hook.env(), hook.timeout()), (&None, None));
    }
}

/// What makes a good file a bad one, whether it still says for whom it is, and the words of the error.
fn broken_older_files() -> Vec<(Value, bool, &'static str)> {
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    vec![
        (json!({"hook": null}), true, "`hook` is missing"),
        (
            json!({"hook": {"path": "/x"}}),
            true,
            "`hook`: invalid type",
        ),
        (json!({"hook": "bin/true"}), true, "not absolute"),
        (
            json!({"hook": "/nonexistent/h"}),
            true,
            "its program /nonexistent/h",
        ),
        (json!({"stages": null}), true, "`stages` is missing"),
        (
            json!({"stages": ["prestrat"]}),
            true,
            "`prestrat` is no stage",
        ),
        (
            json!({"stage": ["prestart"]}),
            true,
            "both `stages` and `stage`",
        ),
        (
            json!({"stage": "prestart", "stages": null}),
            true,
            "`stage`: invalid type",
        ),
        (
            json!({"arguments": "--debug"}),
            true,
            "`arguments`: invalid type",
        ),
        (json!({"cmd": null}), false, "no condition"),
        (json!({"cmd": []}), false, "no condition"),
        (json!({"cmd": "sh"}), false, "`cmd`: invalid type"),
        (json!({"cmds": ["sh"]}), false, "both `cmds` and `cmd`"),
        (json!({"cmd": ["(x"]}), false, "cmd `(x` is no regular"),
        (json!({"cmd": many}), false, "more than 64 expressions"),
        (
            json!({"annotation": ["x"], "annotations": ["x"]}),
            false,
            "both `annotations` and `annotation`",
        ),
        (
            json!({"annotations": {"a": "b"}}),
            false,
            "`annotations`: invalid type",
        ),
        (
            json!({"annotations": ["["]}),
            false,
            "annotations `[` is no",
        ),
        (
            json!({"hasbindmounts": "yes"}),
            false,
            "`hasbindmounts`: invalid",
        ),
        (json!({"Cmd": ["sh"]}), false, "`cmd` is there twice"),
        (json!({"version": "0.2.0"}), false, "`version` is \"0.2.0\""),
        (json!({"version": 1}), false, "`version` is 1"),
    ]
}

#[test]
fn a_broken_older_file_is_told_and_harms_those_alone_that_it_is_for() {
    let node = Node::new();
    node.write("b/good.json", &node.hook("good", json!({"always": true})));
    for (more, refuses, want) in broken_older_files() {
        let mut value = node.older(json!({"cmd": ["^broken$"]}));
        let object = value.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        node.write("a/bad.json", &value);
        let directories = node.directories();
        let problems = directories.problems();
        assert!(
            problems.len() == 1 && problems[0].contains(want),
            "{want}: {problems:?}"
        );
        let broken = of(&directories, &[], "broken", false);
        assert_eq!(broken.is_err(), refuses, "{value}");
        assert_eq!(names(&directories), ["good"], "{value}");
    }
}

#[test]
fn what_is_no_file_hangs_nobody_and_a_crowded_directory_is_left_out() {
    let node = Node::new();
    nix::unistd::mkfifo(&node.path("a/pipe.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(node.path("a/dir.json")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", node.path("a/gone.json")).unwrap();
    node.write("b/good.json", &node.hook("good", json!({"always": true})));
    let directories = node.directories();
    assert_eq!(names(&directories), ["good"]);
    assert_eq!(
        directories.problems().len(),
        2,
        "{:?}",
        directories.problems()
    );
    for number in 0..=MAX_FILES {
        node.write(
            &format!("a/{number}.json"),
            &node.hook("many", json!({"always": true})),
        );
    }
    assert_eq!(names(&directories), ["good"]);
}
