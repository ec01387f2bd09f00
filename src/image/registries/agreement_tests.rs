//! What containers/image itself makes of registries.conf (`policy-oracle`, which `make deps` builds),
//! row by row beside what we make of it.
//!
//! Where we differ on purpose there is no row: a prefix with a tag or a digest matches here, as the
//! manual page has it, and never in a pull of containers/image, which looks at the repository alone;
//! a `blocked` table whose location is elsewhere blocks here; a host that holds a wildcard's domain
//! twice matches here.

use std::fs;
use std::path::Path;
use std::process::Command;

use cricket_harness::tools;
use serde_json::Value;

use super::*;

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000007";

/// Files below a directory, and names to ask for; `@` stands for a digest.
struct Case<'a> {
    what: &'a str,
    files: &'a [(&'a str, &'a str)],
    names: &'a [&'a str],
}

/// The candidates of a name: its full reference and its places, `!` before an insecure one. `Err`:
/// the name, or the candidate, is refused.
type Answer = Result<Vec<(String, Result<Vec<String>, ()>)>, ()>;

#[test]
fn containers_image_makes_the_same_of_registries_conf() {
    let mut rows = 0;
    let mut differences = Vec::new();
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        // containers/image wants a file that it is told of to be there
        fs::write(dir.path().join("registries.conf"), "").unwrap();
        for (file, text) in case.files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let names: Vec<String> = case
            .names
            .iter()
            .map(|name| name.replace('@', &format!("@{DIGEST}")))
            .collect();
        let theirs = theirs(dir.path(), &names);
        assert_eq!(theirs.len(), names.len(), "{}: {theirs:?}", case.what);
        for (name, theirs) in names.iter().zip(theirs) {
            let ours = ours(dir.path(), name);
            if ours != theirs {
                let what = case.what;
                differences.push(format!("{what}: {name}: ours {ours:?}, theirs {theirs:?}"));
            }
            rows += 1;
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(rows > 90, "only {rows} rows");
}

fn ours(dir: &Path, name: &str) -> Answer {
    let sources = Sources {
        file: dir.join("registries.conf"),
        drop_ins: dir.join("conf.d"),
        alias_cache: dir.join("aliases"),
        ..Sources::usual()
    };
    let registries = Registries::load(&sources).map_err(drop)?;
    let candidates = registries.candidates(name).map_err(drop)?;
    let places = |reference: &Reference| -> Result<Vec<String>, ()> {
        let endpoints = registries.endpoints(reference).map_err(drop)?;
        let shown = endpoints.iter().map(|endpoint| {
            let flag = if endpoint.insecure { "!" } else { "" };
            format!("{flag}{}", asked(&endpoint.reference))
        });
        Ok(shown.collect())
    };
    let answers = candidates.iter();
    Ok(answers.map(|one| (asked(one), places(one))).collect())
}

/// The reference as it is asked for: the digest stands above the tag.
fn asked(reference: &Reference) -> String {
    let tag = reference
        .tag
        .as_ref()
        .filter(|_| reference.digest.is_some());
    match tag {
        Some(tag) => reference.to_string().replace(&format!(":{tag}@"), "@"),
        None => reference.to_string(),
    }
}

fn theirs(dir: &Path, names: &[String]) -> Vec<Answer> {
    let mut command = Command::new(tools::policy_oracle());
    command.arg("registries").arg(dir.join("registries.conf"));
    command.arg(dir.join("conf.d")).arg(dir.join("aliases"));
    let lines = tools::run(command.args(names).env("HOME", dir));
    let answer = |line: &str| -> Answer {
        let found: Value = serde_json::from_str(line).unwrap();
        if found["error"] != "" {
            return Err(());
        }
        let candidates = found["candidates"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let places = |candidate: &Value| {
            if candidate["error"] != "" {
                return Err(());
            }
            let open = candidate["endpoints"].as_array().unwrap().iter();
            let open = open.filter(|place| place["blocked"] == false);
            let flag = |place: &Value| if place["insecure"] == true { "!" } else { "" };
            let open: Vec<_> = open
                .map(|place| format!("{}{}", flag(place), text(&place["reference"])))
                .collect();
            if open.is_empty() { Err(()) } else { Ok(open) }
        };
        Ok(candidates
            .map(|one| (text(&one["reference"]), places(one)))
            .collect())
    };
    lines.lines().map(answer).collect()
}

const CASES: &[Case<'static>] = &[
    Case {
        what: "no file at all",
        files: &[],
        names: &[
            "busybox",
            "q.io/a/b:1",
            "q.io/a@",
            "docker.io/busybox",
            "localhost/x",
            "h:5000/x",
        ],
    },
    Case {
        what: "prefixes, the longest of which counts",
        files: &[(
            "registries.conf",
            r#"
            [[registry]]
            location = "q.io"
            insecure = true
            [[registry]]
            prefix = "q.io/a"
            location = "m.io:5000/x/y"
            [[registry]]
            prefix = "q.io/a/b"
            location = "n.io"
            insecure = true
            [[registry]]
            prefix = "docker.io/library"
            location = "hub.io/official/"
            [[registry]]
            prefix = "p.io:5000/z/"
            location = "p.io/z"
            "#,
        )],
        names: &[
            "q.io/x:1",
            "q.io/a/x:1",
            "q.io/a/b:1",
            "q.io/a/b/c:1",
            "q.io/a/b@",
            "q.io/a/b:1@",
            "q.io/ab:1",
            "q.io.evil/a:1",
            "q.io:443/a:1",
            "docker.io/busybox",
            "docker.io/library/busybox:2",
            "docker.io/other/busybox:2",
            "p.io:5000/z/q:1",
            "p.io/z/q:1",
        ],
    },
    Case {
        what: "wildcards of subdomains",
        files: &[(
            "registries.conf",
            r#"
            [[registry]]
            prefix = "*.example.com"
            location = "proxy.local"
            [[registry]]
            prefix = "*.deep.example.com"
            insecure = true
            [[registry]]
            prefix = "exact.example.com"
            location = "exact.local"
            [[registry]]
            prefix = "*.closed.org"
            blocked = true
            [[registry]]
            prefix = "*.mirrored.org"
            [[registry.mirror]]
            location = "cache.local/all"
            insecure = true
            "#,
        )],
        names: &[
            "example.com/r:2",
            "a.example.com/r:2",
            "a.b.example.com/r@",
            "a.example.com:8443/r:2",
            "a.deep.example.com/r:2",
            "deep.example.com/r:2",
            "exact.example.com/r:2",
            "aexample.com/r:2",
            "a.example.community/r:2",
            "x.closed.org/r:1",
            "closed.org/r:1",
            "r.io/x.closed.org:1",
            "x.mirrored.org/r:1",
        ],
    },
    Case {
        what: "mirrors by digest and by tag",
        files: &[(
            "registries.conf",
            r#"
            [[registry]]
            location = "a.io"
            [[registry.mirror]]
            location = "all.io/m"
            [[registry.mirror]]
            location = "digest.io"
            pull-from-mirror = "digest-only"
            insecure = true
            [[registry.mirror]]
            location = "tag.io:80"
            pull-from-mirror = "tag-only"
            [[registry.mirror]]
            location = "each.io/"
            pull-from-mirror = "all"
            [[registry]]
            location = "b.io/x"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "c.io/y"
            "#,
        )],
        names: &[
            "a.io/r",
            "a.io/r:1",
            "a.io/r@",
            "a.io/r:1@",
            "b.io/x/r:1",
            "b.io/x/r@",
            "b.io/x:1",
            "b.io/xx/r@",
        ],
    },
    Case {
        what: "blocked ones, and their mirrors",
        files: &[(
            "registries.conf",
            r#"
            [[registry]]
            location = "closed.io"
            blocked = true
            [[registry]]
            location = "only-mirrors.io"
            blocked = true
            [[registry.mirror]]
            location = "m.io/o"
            [[registry]]
            location = "by-digest.io"
            blocked = true
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.io/d"
            [[registry]]
            prefix = "moved.io"
            location = "closed.io/there"
            blocked = true
            [[registry]]
            location = "open.io"
            [[registry.mirror]]
            location = "closed.io/m"
            [[registry.mirror]]
            location = "m.io/p"
            [[registry]]
            location = "closed.io/but-this"
            "#,
        )],
        names: &[
            "closed.io/r:1",
            "closed.io/r@",
            "closed.io/but-this/r:1",
            "closed.io/but-this-not/r:1",
            "only-mirrors.io/r:1",
            "by-digest.io/r:1",
            "by-digest.io/r@",
            "moved.io/r:1",
            "open.io/r:1",
        ],
    },
    Case {
        what: "searching: one registry",
        files: &[(
            "registries.conf",
            "unqualified-search-registries = [\"s.io\"]\n[[registry]]\nlocation = \"s.io\"\n\
             insecure = true\n",
        )],
        names: &[
            "x",
            "x:1",
            "x@",
            "x:1@",
            "a/b:2",
            "localhost/x",
            "a.b/x",
            "X",
            "a//b",
            "",
        ],
    },
    Case {
        what: "searching: several, nobody to ask",
        files: &[(
            "registries.conf",
            "unqualified-search-registries = [\"s.io\", \"docker.io\", \"localhost:5000\"]\n",
        )],
        names: &["x", "x@", "q.io/x:1"],
    },
    Case {
        what: "searching: permissive",
        files: &[(
            "registries.conf",
            "unqualified-search-registries = [\"s.io\", \"docker.io\"]\nshort-name-mode = \
             \"permissive\"\n",
        )],
        names: &["x", "x:1@", "a/b", "q.io/x:1"],
    },
    Case {
        what: "searching: disabled, aliases all the same",
        files: &[(
            "registries.conf",
            "unqualified-search-registries = [\"s.io\", \"docker.io\"]\nshort-name-mode = \
             \"disabled\"\n[aliases]\n\"x\" = \"q.io/y/x\"\n\"lib/x\" = \"docker.io/x\"\n",
        )],
        names: &["x", "x:7", "x@", "lib/x:1", "other/x:1", "y"],
    },
    Case {
        what: "drop-ins in the order of their names",
        files: &[
            (
                "registries.conf",
                "unqualified-search-registries = [\"a.io\"]\nshort-name-mode = \"permissive\"\n\
                 [[registry]]\nlocation = \"x.io\"\n[[registry]]\nlocation = \"y.io\"\ninsecure = \
                 true\n[aliases]\none = \"main.io/one\"\ntwo = \"main.io/two\"\n",
            ),
            (
                "conf.d/20-b.conf",
                "unqualified-search-registries = [\"c.io\", \"d.io\"]\n[aliases]\none = \
                 \"b.io/one\"\n[[registry]]\nprefix = \"x.io\"\nlocation = \"second.io\"\n",
            ),
            (
                "conf.d/10-a.conf",
                "unqualified-search-registries = [\"b.io\"]\n[aliases]\none = \"a.io/one\"\n\
                 [[registry]]\nprefix = \"x.io\"\nlocation = \"first.io\"\n",
            ),
            ("conf.d/99-not-this.txt", "["),
        ],
        names: &["x.io/r:1", "y.io/r:1", "one", "two", "three"],
    },
    Case {
        what: "a drop-in takes away",
        files: &[
            (
                "registries.conf",
                "unqualified-search-registries = [\"a.io\"]\n[aliases]\none = \"main.io/one\"\n\
                 [[registry]]\nlocation = \"x.io\"\nblocked = true\n",
            ),
            (
                "conf.d/1.conf",
                "unqualified-search-registries = []\n[aliases]\none = \"\"\n[[registry]]\n\
                 location = \"x.io\"\n",
            ),
        ],
        names: &["one", "two", "x.io/r:1"],
    },
    Case {
        what: "podman's aliases stand above",
        files: &[
            (
                "registries.conf",
                "unqualified-search-registries = [\"a.io\"]\n[aliases]\none = \"main.io/one\"\n\
                 two = \"main.io/two\"\n",
            ),
            ("aliases", "[aliases]\none = \"podman.io/one\"\n"),
        ],
        names: &["one", "two:2", "three"],
    },
    Case {
        what: "the first table of a prefix",
        files: &[(
            "registries.conf",
            "[[registry]]\nlocation = \"x.io\"\n[[registry]]\nprefix = \"x.io\"\nlocation = \
             \"y.io\"\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "no TOML",
        files: &[("registries.conf", "[")],
        names: &["x.io/r:1", "x"],
    },
    Case {
        what: "version 1",
        files: &[(
            "registries.conf",
            "[registries.search]\nregistries = [\"x\"]\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "a table without location",
        files: &[("registries.conf", "[[registry]]\nprefix = \"x.io\"\n")],
        names: &["x.io/r:1"],
    },
    Case {
        what: "a wildcard with a path",
        files: &[(
            "registries.conf",
            "[[registry]]\nprefix = \"*.x.io/y\"\nlocation = \"z.io\"\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "a scheme",
        files: &[(
            "registries.conf",
            "[[registry]]\nlocation = \"https://x.io\"\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "a mode that does not exist",
        files: &[("registries.conf", "short-name-mode = \"sometimes\"\n")],
        names: &["x.io/r:1"],
    },
    Case {
        what: "mirrors restricted twice",
        files: &[(
            "registries.conf",
            "[[registry]]\nlocation = \"x.io\"\nmirror-by-digest-only = true\n\
             [[registry.mirror]]\nlocation = \"y.io\"\npull-from-mirror = \"all\"\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "a mirror's key at the registry",
        files: &[(
            "registries.conf",
            "[[registry]]\nlocation = \"x.io\"\npull-from-mirror = \"all\"\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "a mirror without location",
        files: &[(
            "registries.conf",
            "[[registry]]\nlocation = \"x.io\"\n[[registry.mirror]]\ninsecure = true\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "tables that contradict each other",
        files: &[(
            "registries.conf",
            "[[registry]]\nlocation = \"x.io\"\n[[registry]]\nprefix = \"y.io\"\nlocation = \
             \"x.io\"\ninsecure = true\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "an alias of a name with a tag",
        files: &[("registries.conf", "[aliases]\n\"x:1\" = \"q.io/x\"\n")],
        names: &["x", "q.io/x:1"],
    },
    Case {
        what: "an alias for a short name",
        files: &[("registries.conf", "[aliases]\nx = \"y\"\n")],
        names: &["x", "q.io/x:1"],
    },
    Case {
        what: "a key that means nothing",
        files: &[(
            "registries.conf",
            "short-nam-mode = \"enforcing\"\n[[registry]]\nlocation = \"x.io\"\nlokation = 7\n",
        )],
        names: &["x.io/r:1"],
    },
    Case {
        what: "a broken drop-in",
        files: &[
            ("registries.conf", "[[registry]]\nlocation = \"x.io\"\n"),
            ("conf.d/1.conf", "[[registry]]\nlocation = 7\n"),
        ],
        names: &["x.io/r:1"],
    },
    Case {
        what: "broken aliases of podman are no reason to refuse a full name",
        files: &[
            (
                "registries.conf",
                "unqualified-search-registries = [\"a.io\"]\n",
            ),
            ("aliases", "[aliases]\none = \"nowhere\"\n"),
        ],
        names: &["one", "x.io/r:1"],
    },
];
