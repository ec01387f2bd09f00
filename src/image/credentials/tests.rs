use std::os::unix::fs::PermissionsExt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::*;

fn basic(username: &str, password: &str) -> Option<Credential> {
    Some(Credential::Basic {
        username: username.into(),
        password: password.into(),
    })
}

fn reference(text: &str) -> Reference {
    Reference::from_str(text).unwrap()
}

fn keyring(places: &Places, given: Option<RegistryAuth>) -> Keyring {
    Keyring::open(places, given, ("quay.io/a", "", Left::Take), &[]).unwrap()
}

async fn found(places: &Places, name: &str) -> Found {
    let name = reference(name);
    keyring(places, None).find(&name, &name).await.unwrap()
}

fn user_files(paths: &[PathBuf]) -> Places {
    Places {
        user: paths.iter().cloned().map(AuthFile::new).collect(),
        ..Places::default()
    }
}

fn entry(text: &str) -> serde_json::Value {
    serde_json::json!({"auth": STANDARD.encode(text)})
}

fn write(path: &Path, json: &serde_json::Value) {
    std::fs::write(path, json.to_string()).unwrap();
}

#[tokio::test]
async fn the_callers_credentials_go_to_their_registry_only() {
    let auth = |server: &str| RegistryAuth {
        username: "u".into(),
        password: "p".into(),
        server_address: server.into(),
        ..RegistryAuth::default()
    };
    // containers/image: what the call brings is for the domain of the image's name, and is not sent
    // to another one that registries.conf has, mirror or not
    let table = [
        ("", "quay.io/a", "quay.io/a", true),
        ("", "quay.io/a", "quay.io/mirror/a", true),
        ("quay.io", "quay.io/a", "quay.io/a", true),
        ("https://quay.io/v2/", "quay.io/a", "quay.io/a", true),
        ("https://index.docker.io/v1/", "busybox", "busybox", true),
        ("other.io", "quay.io/a", "quay.io/a", false),
        ("", "quay.io/a", "mirror.io/a", false),
        ("mirror.io", "quay.io/a", "mirror.io/a", true),
        ("quay.io", "quay.io/a", "moved.io/a", false),
        ("quay.io.evil.org", "quay.io/a", "quay.io/a", false),
    ];
    for (server, asked, actual, want) in table {
        let asked = match asked {
            "busybox" => "docker.io/library/busybox",
            other => other,
        };
        let actual = match actual {
            "busybox" => "docker.io/library/busybox",
            other => other,
        };
        let keyring = keyring(&Places::default(), Some(auth(server)));
        let (asked, actual) = (reference(asked), reference(actual));
        let found = keyring.find(&asked, &actual).await.unwrap();
        assert_eq!(
            found.credential.is_some(),
            want,
            "{server} {asked} {actual}"
        );
    }
}

#[test]
fn every_form_of_credential_is_read() {
    let empty = RegistryAuth::default;
    let encoded = RegistryAuth {
        auth: STANDARD.encode("u:p:q"),
        ..empty()
    };
    assert_eq!(encoded.credential().unwrap(), basic("u", "p:q"));
    let both = RegistryAuth {
        username: "other".into(),
        password: "x".into(),
        ..encoded
    };
    assert_eq!(both.credential().unwrap(), basic("u", "p:q"));
    let plain = RegistryAuth {
        auth: String::new(),
        ..both
    };
    assert_eq!(plain.credential().unwrap(), basic("other", "x"));
    let token = RegistryAuth {
        identity_token: "t".into(),
        username: "u".into(),
        ..empty()
    };
    let identity = Some(Credential::IdentityToken("t".into()));
    assert_eq!(token.credential().unwrap(), identity);
    assert_eq!(empty().credential().unwrap(), None);
    // without a colon it is passed over, as docker does it
    let half = RegistryAuth {
        auth: STANDARD.encode("user"),
        ..empty()
    };
    assert_eq!(half.credential().unwrap(), None);
    for bad in ["%", "/////w=="] {
        let auth = RegistryAuth {
            auth: bad.into(),
            ..empty()
        };
        let error = auth.credential().unwrap_err();
        assert!(!error.contains(bad), "{error}");
    }
}

#[tokio::test]
async fn auth_files_are_searched_by_the_longest_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    write(
        &path,
        &serde_json::json!({"auths": {
            "quay.io": entry("host:1"), "quay.io/ns": entry("ns:2"), "quay.io/ns/repo": entry("repo:3"),
            "https://index.docker.io/v1/": entry("hub:4"), "https://quay.io/v1/": entry("url:5"),
            "token.io": {"identitytoken": "refresh"},
        }}),
    );
    let places = user_files(std::slice::from_ref(&path));
    let table = [
        ("quay.io/other/x", basic("host", "1")),
        ("quay.io/ns/x", basic("ns", "2")),
        ("quay.io/ns/repo:1", basic("repo", "3")),
        ("quay.io/nsx/repo:1", basic("host", "1")),
        ("docker.io/library/busybox", basic("hub", "4")),
        (
            "token.io/x",
            Some(Credential::IdentityToken("refresh".into())),
        ),
        ("other.io/x", None),
    ];
    for (name, want) in table {
        assert_eq!(found(&places, name).await.credential, want, "{name}");
    }
    let origin = found(&places, "quay.io/ns/x").await.origin;
    assert_eq!(origin, format!("\"quay.io/ns\" in {}", path.display()));
    std::fs::write(&path, r#"{"auths":{"a":{"auth":["s3cret"]}}}"#).unwrap();
    let name = reference("a.io/b");
    let error = keyring(&places, None).find(&name, &name).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("auth.json") && !error.contains("s3cret"),
        "{error}"
    );
}

#[tokio::test]
async fn one_kind_of_file_hides_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let say = |name: &str, host: &str| {
        write(
            &at(name),
            &serde_json::json!({"auths": {host: entry(&format!("{name}:p"))}}),
        );
    };
    say("first", "quay.io");
    say("second", "quay.io");
    say("third", "only.io");
    let user = user_files(&[at("missing"), at("first"), at("second"), at("third")]);
    assert_eq!(
        found(&user, "quay.io/a").await.credential,
        basic("first", "p")
    );
    assert_eq!(
        found(&user, "only.io/a").await.credential,
        basic("third", "p")
    );
    let none = found(&user, "none.io/a").await;
    assert!(
        none.credential.is_none() && none.origin.contains("missing"),
        "{none:?}"
    );
    say("global", "other.io");
    let global = Places {
        global: Some(at("global")),
        ..user
    };
    assert_eq!(
        found(&global, "other.io/a").await.credential,
        basic("global", "p")
    );
    assert_eq!(found(&global, "quay.io/a").await.credential, None);
    let legacy = Places {
        user: vec![AuthFile::legacy(at(".dockercfg"))],
        ..Places::default()
    };
    write(
        &at(".dockercfg"),
        &serde_json::json!({"https://old.io/v1/": entry("old:p")}),
    );
    assert_eq!(
        found(&legacy, "old.io/a").await.credential,
        basic("old", "p")
    );
}

#[test]
fn the_users_files_are_those_of_the_field() {
    let paths = |variables: &[(&str, &str)]| -> Vec<String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        let files = Places::of_user(0, Path::new("/root"), get);
        files
            .iter()
            .map(|it| it.path.display().to_string())
            .collect()
    };
    assert_eq!(
        paths(&[("XDG_RUNTIME_DIR", "")]),
        [
            "/run/containers/0/auth.json",
            "/root/.config/containers/auth.json",
            "/root/.docker/config.json",
            "/root/.dockercfg"
        ]
    );
    let set = [
        ("XDG_RUNTIME_DIR", "/r"),
        ("XDG_CONFIG_HOME", "/c"),
        ("DOCKER_CONFIG", "/d"),
    ];
    assert_eq!(
        paths(&set),
        [
            "/r/containers/auth.json",
            "/c/containers/auth.json",
            "/d/config.json",
            "/root/.dockercfg"
        ]
    );
}

#[tokio::test]
async fn a_namespaces_file_is_used_once_and_hides_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        ("quay.io/a/b:1", "quay.io/a/b"),
        (
            "quay.io/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "quay.io/a/b",
        ),
        ("busybox", "docker.io/library/busybox"),
        ("docker.io/busybox:2", "docker.io/library/busybox"),
    ];
    let places = Places {
        namespaced: Some(dir.path().to_owned()),
        global: Some(dir.path().join("global")),
        ..Places::default()
    };
    write(
        &dir.path().join("global"),
        &serde_json::json!({"auths": {"quay.io": entry("global:p"), "docker.io": entry("global:p")}}),
    );
    for (image, name) in names {
        let left = dir
            .path()
            .join(format!("team-{:x}.json", Hex(Sha256::digest(name).into())));
        let json = serde_json::json!({"auths": {"mirror.io": entry("team:p")}});
        write(&left, &json);
        let opened = |namespace: &str, left| {
            Keyring::open(&places, None, (image, namespace, left), &[]).unwrap()
        };
        let open = |namespace: &str| opened(namespace, Left::Take);
        let (asked, mirror) = (reference(name), reference("mirror.io/x"));
        // another namespace's pull leaves it, and has the file of the node
        for other in ["", "other", "../team"] {
            let found = open(other).find(&asked, &asked).await.unwrap();
            assert_eq!(found.credential, basic("global", "p"), "{image} {other}");
            assert!(left.exists());
        }
        // a question is no pull
        let looked = opened("team", Left::Look);
        let found = looked.find(&asked, &mirror).await.unwrap();
        assert_eq!(found.credential, basic("team", "p"), "{image}");
        assert!(left.exists(), "{image}: a question has used it up");
        let keyring = open("team");
        assert!(!left.exists(), "{image}: it stays after use");
        assert_eq!(
            std::fs::read_dir(dir.path().join("in-use"))
                .unwrap()
                .count(),
            0
        );
        let found = keyring.find(&asked, &mirror).await.unwrap();
        assert_eq!(found.credential, basic("team", "p"), "{image}");
        assert!(found.origin.contains(left.to_str().unwrap()), "{found:?}");
        let found = keyring.find(&asked, &asked).await.unwrap();
        assert_eq!(
            found.credential, None,
            "{image}: the node's file counts beside it"
        );
    }
    // one that cannot be read is removed too, and named
    let hash = Hex(Sha256::digest("quay.io/a").into());
    let left = dir.path().join(format!("team-{hash:x}.json"));
    std::fs::write(&left, "{").unwrap();
    let error = Keyring::open(&places, None, ("quay.io/a", "team", Left::Take), &[]).unwrap_err();
    assert!(error.to_string().contains("not an auth file"), "{error}");
    assert!(!left.exists());
}

struct Hex([u8; 32]);

impl std::fmt::LowerHex for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Writes the program `docker-credential-NAME`.
fn helper(dir: &Path, name: &str, body: &str) {
    let path = dir.join(format!("docker-credential-{name}"));
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// `PATH` with `dir` in front.
fn path_with(dir: &Path) -> OsString {
    let mut path = dir.as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    path
}

#[tokio::test]
async fn helpers_are_asked_for_their_registry() {
    let dir = tempfile::tempdir().unwrap();
    helper(
        dir.path(),
        "user",
        r#"[ "$1" = get ] || exit 1
read -r server
echo "{\"ServerURL\":\"$server\",\"Username\":\"u\",\"Secret\":\"for $server\"}""#,
    );
    let token = r#"echo '{"Username":"<token>","Secret":"t"}'"#;
    helper(dir.path(), "token", token);
    let none = "echo 'credentials not found in native keychain'; exit 1";
    helper(dir.path(), "none", none);
    let path = dir.path().join("config.json");
    write(
        &path,
        &serde_json::json!({
            "auths": {"stored.io": {}, "plain.io": entry("plain:p"), "none.io/ns": entry("not:asked")},
            "credHelpers": {"user.io": "user", "token.io:5000": "token", "none.io": "none"},
            "credsStore": "user",
        }),
    );
    let places = Places {
        helper_path: Some(path_with(dir.path())),
        ..user_files(&[path])
    };
    let table = [
        ("user.io/a", basic("u", "for user.io")),
        (
            "token.io:5000/a",
            Some(Credential::IdentityToken("t".into())),
        ),
        ("stored.io/a/b", basic("u", "for stored.io")),
        ("plain.io/a", basic("plain", "p")),
        ("none.io/ns/a", None),
        // docker's store is asked only for what docker has put there
        ("other.io/a", None),
    ];
    for (name, want) in table {
        assert_eq!(found(&places, name).await.credential, want, "{name}");
    }
    // registries.conf's list: in its order, and the files only where it says so
    let name = reference("plain.io/a");
    let lists = [
        (
            vec!["none".to_owned(), AUTH_FILES.to_owned()],
            basic("plain", "p"),
        ),
        (
            vec!["user".to_owned(), AUTH_FILES.to_owned()],
            basic("u", "for plain.io"),
        ),
        (vec!["none".to_owned()], None),
        (
            vec!["no-such-helper".to_owned(), AUTH_FILES.to_owned()],
            basic("plain", "p"),
        ),
    ];
    for (helpers, want) in lists {
        let keyring =
            Keyring::open(&places, None, ("plain.io/a", "", Left::Take), &helpers).unwrap();
        let found = keyring.find(&name, &name).await.unwrap();
        assert_eq!(found.credential, want, "{helpers:?}");
    }
}

#[tokio::test]
async fn a_helper_that_fails_is_named() {
    let cases = [
        ("echo 'no session'; exit 3", "failed: no session"),
        ("echo '{s3cret'", "not JSON with Username and Secret"),
        ("yes", "larger than"),
        ("sleep 1000", "did not end within"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = path_with(dir.path());
    let ask = |name: &'static str, limit: Duration| {
        let question = helper::Question {
            name,
            server: "quay.io",
            origin: "/some/file",
            path: Some(&path),
        };
        async move { question.ask(limit).await.unwrap_err().to_string() }
    };
    for (body, says) in cases {
        helper(dir.path(), "bad", body);
        let limit = match says.starts_with("did not") {
            true => Duration::from_millis(200),
            false => Duration::from_secs(60),
        };
        let error = ask("bad", limit).await;
        let named = "docker-credential-bad (named in /some/file), asked for quay.io";
        assert!(error.contains(says) && error.contains(named), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    for (name, says) in [
        ("no-such-helper", "no such program in PATH"),
        ("../x", "not that of a program"),
    ] {
        let error = ask(name, Duration::from_secs(60)).await;
        assert!(error.contains(says), "{error}");
    }
}
