use super::*;

fn load(files: &[(&str, &str)]) -> Result<Registries, ImageError> {
    let dir = tempfile::tempdir().unwrap();
    let drop_ins = dir.path().join("registries.conf.d");
    std::fs::create_dir(&drop_ins).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let file = dir.path().join("registries.conf");
    Registries::load(&Sources {
        file,
        drop_ins,
        alias_cache: dir.path().join("aliases"),
        ..Sources::usual()
    })
}

fn of(text: &str) -> Registries {
    load(&[("registries.conf", text)]).unwrap()
}

fn endpoints(registries: &Registries, reference: &str) -> Vec<String> {
    let reference = Reference::from_str(reference).unwrap();
    let endpoints = registries.endpoints(&reference).unwrap();
    let shown = endpoints.iter().map(|endpoint| {
        let flag = if endpoint.insecure { "!" } else { "" };
        format!("{flag}{}", endpoint.reference)
    });
    shown.collect()
}

#[test]
fn without_files_a_registry_is_asked_itself_over_https() {
    let registries = load(&[]).unwrap();
    assert_eq!(endpoints(&registries, "quay.io/a/b:1"), ["quay.io/a/b:1"]);
    let error = registries.candidates("busybox").unwrap_err().to_string();
    assert!(error.contains("unqualified-search-registries"), "{error}");
}

#[test]
fn the_longest_prefix_rewrites_blocks_and_mirrors() {
    let registries = of(r#"
        [[registry]]
        prefix = "quay.io"
        location = "mirror.local:5000/quay"
        insecure = true
        [[registry]]
        location = "quay.io/secret"
        blocked = true
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "10.0.0.1:5000"
        insecure = true
        [[registry.mirror]]
        location = "cache.local/hub/"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "*.example.com"
        location = "proxy.local"
        [[registry]]
        prefix = "*.plain.org"
        insecure = true
    "#);
    let digest = format!("sha256:{:064x}", 7);
    let table: Vec<(String, Vec<String>)> = vec![
        (
            "quay.io/a/b:1".into(),
            vec!["!mirror.local:5000/quay/a/b:1".into()],
        ),
        ("quay.io.evil/a:1".into(), vec!["quay.io.evil/a:1".into()]),
        (
            "docker.io/library/busybox:1".into(),
            vec![
                "!10.0.0.1:5000/library/busybox:1".into(),
                "docker.io/library/busybox:1".into(),
            ],
        ),
        (
            format!("docker.io/a/b@{digest}"),
            vec![
                format!("!10.0.0.1:5000/a/b@{digest}"),
                format!("cache.local/hub/a/b@{digest}"),
                format!("docker.io/a/b@{digest}"),
            ],
        ),
        (
            "a.b.example.com:8443/r:2".into(),
            vec!["proxy.local:8443/r:2".into()],
        ),
        ("example.com/r:2".into(), vec!["example.com/r:2".into()]),
        ("x.plain.org/r:2".into(), vec!["!x.plain.org/r:2".into()]),
    ];
    for (reference, want) in table {
        assert_eq!(endpoints(&registries, &reference), want, "{reference}");
    }
    let blocked = Reference::from_str("quay.io/secret/x:1").unwrap();
    let error = registries.endpoints(&blocked).unwrap_err();
    assert!(matches!(error, ImageError::Blocked { .. }), "{error}");
    assert_eq!(endpoints(&registries, "quay.io/secretary:1").len(), 1);
}

#[test]
fn short_names_go_through_aliases_then_search_registries() {
    let text = r#"
        unqualified-search-registries = ["docker.io", "quay.io"]
        short-name-mode = "permissive"
        [aliases]
        "fedora" = "registry.fedoraproject.org/fedora"
    "#;
    let registries = of(text);
    let names = |text: &str| -> Vec<String> {
        registries
            .candidates(text)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(names("fedora:40"), ["registry.fedoraproject.org/fedora:40"]);
    assert_eq!(
        names("busybox"),
        ["docker.io/library/busybox:latest", "quay.io/busybox:latest"]
    );
    assert_eq!(names("quay.io/x"), ["quay.io/x:latest"]);
    let enforcing = of(&text.replace("permissive", "enforcing"));
    let error = enforcing.candidates("busybox").unwrap_err().to_string();
    assert!(error.contains("2 search registries"), "{error}");
    assert_eq!(enforcing.stored_candidates("busybox").len(), 4);
}

#[test]
fn drop_ins_override_in_the_order_of_their_names() {
    let registries = load(&[
        (
            "registries.conf",
            "unqualified-search-registries = [\"a.io\"]\n[[registry]]\nlocation=\"x.io\"\n",
        ),
        (
            "registries.conf.d/10.conf",
            "[[registry]]\nlocation=\"x.io\"\ninsecure=true\n",
        ),
        (
            "registries.conf.d/20.conf",
            "unqualified-search-registries = [\"b.io\"]\n",
        ),
        ("registries.conf.d/30.txt", "not toml at all ["),
    ])
    .unwrap();
    assert_eq!(endpoints(&registries, "x.io/r:1"), ["!x.io/r:1"]);
    assert_eq!(
        registries.candidates("r").unwrap()[0].to_string(),
        "b.io/r:latest"
    );
}

#[test]
fn mistakes_are_reported_with_the_file_and_the_place() {
    let table = [
        (
            "unqualified-search-registries = \"a\"",
            "line 1, column 33: invalid type",
        ),
        (
            "[[registry]]\n lokation = \"x\"",
            "line 1, column 1: a [[registry]] has neither prefix nor location; line 2, column 2: \
             unknown key `lokation` of [[registry]] has no effect; did you mean `location`?",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"\n[[registry]]\nprefix = \"b.io\"\n",
            "line 3, column 1: [[registry]] \"b.io\": it has no location",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"\npull-from-mirror = \"all\"",
            "belongs into a [[registry.mirror]]",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"\nmirror-by-digest-only = true\n\
             [[registry.mirror]]\nlocation = \"b.io\"\npull-from-mirror = \"all\"",
            "exclude each other",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"\n[[registry.mirror]]\nlocation = \"b.io\"\n\
             pull-from-mirror = \"never\"",
            "line 5",
        ),
        (
            "[[registry]]\nlocation = \"a.io\"\n[[registry]]\nprefix = \"b.io\"\nlocation = \
             \"a.io\"\nblocked = true",
            "line 3, column 1: [[registry]] \"b.io\": `blocked` is not what [[registry]] \"a.io\" says",
        ),
        (
            "unqualified-search-registries = [\n\"a.io\",\n\"b.io/c\"]",
            "line 3, column 1: unqualified-search-registries: \"b.io/c\" is not a registry host",
        ),
        (
            "unqualified-search-registries = [\"\"]",
            "not a registry host",
        ),
        (
            "[[registry]]\ninsecure = true",
            "neither prefix nor location",
        ),
        ("[[registry]]\nlocation = \"https://x.io\"", "URI scheme"),
        (
            "[[registry]]\nprefix = \"*.x.io/y\"\nlocation = \"z.io\"",
            "wildcard",
        ),
        (
            "[[registry]]\nlocation = \"x.io\"\ninsecure = \"yes\"",
            "boolean",
        ),
        ("[[registry]]\nlocation = \"x io\"", "not a registry host"),
        (
            "[[registry]]\nlocation = \"x.io\"\n[[registry.mirror]]\ninsecure=true",
            "location",
        ),
        ("short-name-mode = \"sometimes\"", "sometimes"),
        ("[aliases]\n\"a\" = \"b\"", "registry/repository"),
        ("[aliases]\n\"a:1\" = \"b.io/c\"", "alias"),
        ("[registries.search]\nregistries = [\"x\"]", "version 1"),
        ("[", "line 1, column"),
    ];
    for (text, want) in table {
        let error = load(&[("registries.conf", text)]).unwrap_err().to_string();
        assert!(
            error.contains("registries.conf: ") && error.contains(want),
            "{text}: {error}"
        );
    }
}

#[test]
fn the_first_table_of_a_prefix_counts_in_a_file_and_the_last_file_over_all() {
    let twice =
        "[[registry]]\nlocation=\"x.io\"\n[[registry]]\nprefix=\"x.io\"\nlocation=\"y.io\"\n";
    assert_eq!(endpoints(&of(twice), "x.io/r:1"), ["x.io/r:1"]);
    let later = [
        ("registries.conf", twice),
        (
            "registries.conf.d/1.conf",
            "[[registry]]\nprefix=\"x.io\"\nlocation=\"z.io\"\n",
        ),
    ];
    assert_eq!(endpoints(&load(&later).unwrap(), "x.io/r:1"), ["z.io/r:1"]);
}

#[test]
fn aliases_of_the_cache_stand_above_and_an_empty_one_takes_away() {
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources {
        file: dir.path().join("registries.conf"),
        drop_ins: dir.path().join("registries.conf.d"),
        alias_cache: dir.path().join("short-name-aliases.conf"),
        search: vec!["old.io:5000".to_owned()],
        ..Sources::usual()
    };
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    let first = |short: &str| {
        let registries = Registries::load(&sources).unwrap();
        let candidates = registries.candidates(short)?;
        Ok::<_, ImageError>(candidates[0].to_string())
    };
    // crio.conf's `registries` of old, where the files have no list
    assert_eq!(first("app:1").unwrap(), "old.io:5000/app:1");
    write(
        &sources.file,
        "unqualified-search-registries = [\"s.io\"]\n[aliases]\napp = \"a.io/app\"\n\
         hub = \"docker.io/busybox\"\n",
    );
    assert_eq!(first("app:1").unwrap(), "a.io/app:1");
    assert_eq!(first("hub").unwrap(), "docker.io/library/busybox:latest");
    write(
        &sources.alias_cache,
        "[aliases]\napp = \"cache.io/x/app\"\nhub = \"\"\n",
    );
    assert_eq!(first("app:1").unwrap(), "cache.io/x/app:1");
    assert_eq!(first("hub").unwrap(), "s.io/hub:latest");
    // what podman wrote wrongly is no reason to refuse a full name
    write(&sources.alias_cache, "[aliases]\napp = \"nowhere\"\n");
    let error = first("app:1").unwrap_err().to_string();
    assert!(error.contains("short-name-aliases.conf: line 2"), "{error}");
    assert_eq!(first("b.io/c:1").unwrap(), "b.io/c:1");
}

#[test]
fn what_is_no_file_is_refused_and_what_is_masked_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registries.conf");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = read_bounded(&path).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    assert_eq!(read_bounded(&path).unwrap(), None);
}

#[test]
fn an_endless_file_is_refused() {
    let big = "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
    let error = load(&[("registries.conf", &big)]).unwrap_err().to_string();
    assert!(error.contains("larger than the limit"), "{error}");
}
