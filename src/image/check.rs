//! What is wrong with the files of this room, for `cricket config --check`: registries.conf, the
//! policies and the keys that they name, registries.d, certs.d. Says; changes and connects nothing.

use std::path::PathBuf;

use super::registries::{Registries, Sources};
use super::registry;
use super::trust::{self, Trust};

/// The files that are looked at.
#[derive(Debug)]
pub struct Files {
    /// registries.conf with its drop-ins.
    pub registries: Sources,
    /// Policies and registries.d.
    pub trust: trust::Settings,
    /// certs.d directories.
    pub certificates: Vec<PathBuf>,
}

impl Files {
    /// Everything that a person should look at, each in one line with its file, and with the place in
    /// it where that is known. Empty: all is in order. Blocks.
    pub fn check(&self) -> Vec<String> {
        let mut found = match Registries::load(&self.registries) {
            Ok(read) => {
                let aliases = read.alias_trouble().map(ToString::to_string);
                read.warnings().iter().cloned().chain(aliases).collect()
            }
            Err(error) => vec![error.to_string()],
        };
        found.extend(Trust::new(self.trust.clone()).check());
        found.extend(registry::check_certificates(&self.certificates));
        found
    }
}

#[cfg(test)]
mod tests {
    use cricket_harness::certificate;

    use super::*;

    const GOOD: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("policy.json"), GOOD).unwrap();
        for (name, text) in files {
            let path = at(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match *text {
                "" => std::fs::remove_file(path).unwrap(),
                text => std::fs::write(path, text).unwrap(),
            }
        }
        let files = Files {
            registries: Sources {
                file: at("registries.conf"),
                drop_ins: at("registries.conf.d"),
                alias_cache: at("aliases"),
                ..Sources::usual()
            },
            trust: trust::Settings {
                policy: at("policy.json"),
                namespaces: Some(at("policies")),
                registries_d: at("registries.d"),
                ..trust::Settings::default()
            },
            certificates: vec![at("certs.d"), at("docker/certs.d")],
        };
        let root = format!("{}/", dir.path().display());
        let found = files.check().into_iter();
        found.map(|line| line.replace(&root, "")).collect()
    }

    const SIGNED: &str =
        r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/no/key"}]}"#;
    const SIGSTORE: &str = r#"{"default":[{"type":"reject"}],"transports":{"docker":{"q.io":[
            {"type":"sigstoreSigned","keyPath":"/no/cosign.pub"}]}}}"#;
    const SCOPE: &str = r#"{"default":[{"type":"reject"}],"transports":{"docker":{"q.io":[]}}}"#;

    /// Files beside a good policy (an empty one is taken away), and words of the one line about them.
    type Row = (
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
    );

    const MISTAKES: [Row; 16] = [
        (
            &[("registries.conf", "[[registry]]\nlocation = 7\n")],
            &["registries.conf: line 2"],
        ),
        (
            &[(
                "registries.conf.d/1.conf",
                "short-nam-mode = \"disabled\"\n",
            )],
            &["registries.conf.d/1.conf: line 1", "short-name-mode"],
        ),
        (&[("policy.json", "")], &["policy.json does not exist"]),
        (
            &[("policy.json", "{\n \"default\": [}")],
            &["policy.json: ", "line 2 column 14"],
        ),
        (
            &[("policy.json", "{}")],
            &["policy.json: ", "\"default\" is missing"],
        ),
        (
            &[("policy.json", SCOPE)],
            &["policy.json: ", "transports.docker \"q.io\"", "empty"],
        ),
        (
            &[("policy.json", SIGNED)],
            &["policy.json: default: ", "/no/key"],
        ),
        (
            &[("policy.json", SIGSTORE)],
            &[
                "policy.json: transports.docker \"q.io\": ",
                "/no/cosign.pub",
            ],
        ),
        (
            &[("policies/web.json", "[")],
            &["policies/web.json: ", "line 1 column 1"],
        ),
        (
            &[("policies/Web.json", GOOD)],
            &["policies/Web.json: ", "NAMESPACE.json"],
        ),
        (
            &[("policies/web.jsn", GOOD)],
            &["policies/web.jsn: ", "NAMESPACE.json"],
        ),
        (
            &[("registries.d/a.yaml", "docker: [\n")],
            &["registries.d/a.yaml: "],
        ),
        (
            &[("certs.d/q.io:5000/ca.crt", "none")],
            &["certs.d/q.io:5000/ca.crt: ", "no certificate"],
        ),
        (
            &[("certs.d/q.io/me.key", "x")],
            &["certs.d/q.io/me.key: ", "no client certificate me.cert"],
        ),
        (
            &[("docker/certs.d/q.io/me.cert", "x")],
            &["docker/certs.d/q.io/me.cert: ", "me.key"],
        ),
        (
            &[("aliases", "[aliases]\nx = \"y\"\n")],
            &["aliases: line 2"],
        ),
    ];

    #[test]
    fn each_mistake_is_told_with_its_file_and_place() {
        for (files, words) in MISTAKES {
            let found = check(files);
            assert_eq!(found.len(), 1, "{files:?}: {found:?}");
            for word in words {
                assert!(found[0].contains(word), "{word}: {found:?}");
            }
            let lines = found[0].lines().count();
            assert_eq!(lines, 1, "{found:?}");
        }
    }

    #[test]
    fn what_is_in_order_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let files = certificate::named(dir.path(), "q.io");
        let authority = std::fs::read_to_string(&files.authority).unwrap();
        let found = check(&[
            ("registries.conf", "[[registry]]\nlocation = \"q.io\"\n"),
            ("policies/web.json", GOOD),
            (
                "registries.d/a.yaml",
                "docker:\n  q.io:\n    lookaside: https://l\n",
            ),
            ("certs.d/q.io/ca.crt", &authority),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
