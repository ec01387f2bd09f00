use std::path::Path;
use std::str::FromStr;

use super::*;
use crate::image::reference::Reference;

const ACCEPT: &str = r#"[{"type":"insecureAcceptAnything"}]"#;
const REJECT: &str = r#"[{"type":"reject"}]"#;

fn trust(file: &Path) -> Trust {
    Trust::new(Settings {
        policy: file.to_owned(),
        ..Settings::default()
    })
}

fn check(file: &Path, origin: &Origin<'_>) -> Result<(), ImageError> {
    let evidence = Evidence {
        reference: None,
        manifest_digest: format!("sha256:{:064x}", 1).parse().unwrap(),
        signatures: Vec::new(),
        trouble: None,
    };
    let verdict = trust(file).verdict(*origin, "", &evidence)?;
    verdict.or_refused(origin)
}

fn verdict(policy: &str, origin: &Origin<'_>) -> Result<(), ImageError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.json");
    std::fs::write(&file, policy).unwrap();
    check(&file, origin)
}

fn pull(policy: &str, reference: &str) -> Result<(), ImageError> {
    let reference = Reference::from_str(reference).unwrap();
    verdict(policy, &Origin::Registry(&reference))
}

#[test]
fn the_closest_scope_decides() {
    let policy = format!(
        r#"{{"default":{REJECT},"transports":{{"docker":{{
            "quay.io":{ACCEPT},"quay.io/bad":{REJECT},"quay.io/bad/but:good":{ACCEPT},
            "*.example.com":{ACCEPT},"a.example.com:5000/x":{REJECT},"docker.io/library":{ACCEPT}
        }}}}}}"#
    );
    let digest = format!("quay.io/bad/but@sha256:{:064x}", 1);
    let table = [
        ("quay.io/a:1", true),
        ("quay.io/bad/x:1", false),
        ("quay.io/badly/x:1", true),
        ("quay.io/bad/but:good", true),
        ("quay.io/bad/but:other", false),
        (digest.as_str(), false),
        ("q.x.example.com/y", true),
        ("example.com/y", false),
        ("a.example.com:5000/x:1", false),
        ("a.example.com:5000/y:1", true),
        ("busybox", true),
        ("docker.io/other/x", false),
        ("localhost/x", false),
    ];
    for (reference, want) in table {
        let result = pull(&policy, reference);
        assert_eq!(result.is_ok(), want, "{reference}: {result:?}");
        if let Err(error) = result {
            assert!(
                error.to_string().starts_with("SignatureValidationFailed: "),
                "{error}"
            );
        }
    }
}

#[test]
fn a_transport_may_have_its_own_default() {
    let policy = format!(
        r#"{{"default":{ACCEPT},"transports":{{"docker":{{"":{REJECT},"quay.io":{ACCEPT}}}}}}}"#
    );
    pull(&policy, "busybox").unwrap_err();
    pull(&policy, "quay.io/x").unwrap();
    verdict(&policy, &Origin::DockerArchive(Path::new("/a/b.tar"))).unwrap();
}

#[test]
fn archives_are_scoped_by_path() {
    let policy =
        format!(r#"{{"default":{REJECT},"transports":{{"oci":{{"/srv/good":{ACCEPT}}}}}}}"#);
    verdict(&policy, &Origin::OciLayout(Path::new("/srv/good/layout"))).unwrap();
    verdict(&policy, &Origin::OciLayout(Path::new("/srv/goodish"))).unwrap_err();
    verdict(&policy, &Origin::OciArchive(Path::new("/srv/good/x.tar"))).unwrap_err();
}

#[test]
fn a_requirement_that_needs_a_signature_refuses_an_image_without_one() {
    let signed = r#"{"default":[{"type":"insecureAcceptAnything"},{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}"#;
    let error = pull(signed, "busybox").unwrap_err().to_string();
    assert!(
        error.ends_with(
            "scope default, requirement signedBy (keyPath /k, matchRepoDigestOrExact): \
             a signature is required, but the image has none"
        ),
        "{error}"
    );
}

#[test]
fn what_is_not_understood_is_an_error() {
    let table = [
        "",
        "[]",
        "{}",
        r#"{"default":[]}"#,
        r#"{"default":{}}"#,
        r#"{"default":[{}]}"#,
        r#"{"default":[{"type":"accept"}]}"#,
        r#"{"default":[{"type":"reject","keyPath":"/x"}]}"#,
        r#"{"default":[{"type":"reject"}],"defualt":[]}"#,
        r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#,
        r#"{"default":[{"type":"reject","type":"insecureAcceptAnything"}]}"#,
        r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"a.io":[{"type":"reject"}],"a.io":[{"type":"insecureAcceptAnything"}]}}}"#,
        r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"a.io":[]}}}"#,
    ];
    for text in table {
        let error = pull(text, "busybox").expect_err(text);
        assert!(
            matches!(error, ImageError::Config { .. }),
            "{text}: {error}"
        );
        assert!(
            error.to_string().contains("policy.json: "),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_missing_policy_says_what_to_write_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.json");
    let reference = Reference::from_str("busybox").unwrap();
    let error = check(&file, &Origin::Registry(&reference))
        .unwrap_err()
        .to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    let advice = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;
    assert!(error.contains(advice), "{error}");
    std::fs::write(&file, advice).unwrap();
    check(&file, &Origin::Registry(&reference)).unwrap();
}

/// Only in a build without OpenPGP: `cargo test --no-default-features trust::tests`.
#[cfg(not(feature = "openpgp"))]
#[test]
fn without_openpgp_a_signed_by_is_refused_before_anything_is_asked_for() {
    let signed = r#"[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nowhere"}]"#;
    let policy = format!(r#"{{"default":{signed}}}"#);
    let error = pull(&policy, "quay.io/a:1").unwrap_err().to_string();
    assert!(error.contains("feature openpgp"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.json");
    std::fs::write(&file, policy).unwrap();
    let reference = Reference::from_str("quay.io/a:1").unwrap();
    let early = trust(&file).first_look(Origin::Registry(&reference), "");
    assert!(!early.unwrap().expect("a verdict").accepted());
}

#[test]
fn an_empty_policy_of_a_namespace_does_not_leave_it_to_the_one_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let (all, own) = (dir.path().join("policy.json"), dir.path().join("team.json"));
    std::fs::write(&all, format!(r#"{{"default":{ACCEPT}}}"#)).unwrap();
    let trust = Trust::new(Settings {
        namespaces: Some(dir.path().to_owned()),
        ..trust(&all).settings().clone()
    });
    let reference = Reference::from_str("busybox").unwrap();
    let look = || trust.first_look(Origin::Registry(&reference), "team");
    assert!(look().unwrap().unwrap().accepted());
    std::os::unix::fs::symlink("/dev/null", &own).unwrap();
    let error = look().unwrap_err().to_string();
    assert!(error.contains("team.json: it is empty"), "{error}");
    std::fs::remove_file(&own).unwrap();
    std::fs::write(&own, "").unwrap();
    look().unwrap_err();
}
