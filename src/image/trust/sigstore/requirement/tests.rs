use super::*;
use crate::image::trust::strict;

fn parse(text: &str) -> Result<SigstoreSigned, String> {
    let value = strict::parse(text.as_bytes())?;
    SigstoreSigned::parse(Fields::of(value, "requirement")?)
}

fn file(path: &str) -> Source {
    Source::File(path.into())
}

fn inline(text: &str) -> Source {
    Source::Inline(text.into())
}

#[test]
fn each_source_of_keys_is_read() {
    let table = [
        (r#"{"keyPath":"/k"}"#, vec![file("/k")]),
        (r#"{"keyPaths":["/a","/b"]}"#, vec![file("/a"), file("/b")]),
        (r#"{"keyData":"YQ=="}"#, vec![inline("a")]),
        (
            r#"{"keyDatas":["YQ==","Yg=="]}"#,
            vec![inline("a"), inline("b")],
        ),
        (r#"{"keyPath":"","keyData":"YQ=="}"#, vec![inline("a")]),
    ];
    for (text, want) in table {
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.signer, Signer::Keys(want), "{text}");
        assert_eq!(parsed.rekor, [], "{text}");
    }
    for (text, want) in [
        (r#""rekorPublicKeyPath":"/r""#, vec![file("/r")]),
        (r#""rekorPublicKeyPaths":["/r"]"#, vec![file("/r")]),
        (r#""rekorPublicKeyData":"cg==""#, vec![inline("r")]),
        (
            r#""rekorPublicKeyDatas":["cg==","cw=="]"#,
            vec![inline("r"), inline("s")],
        ),
    ] {
        let parsed = parse(&format!(r#"{{"keyPath":"/k",{text}}}"#)).unwrap();
        assert_eq!(parsed.rekor, want, "{text}");
    }
}

#[test]
fn fulcio_and_pki_are_read() {
    let fulcio = r#"{"fulcio":{"caPath":"/ca","oidcIssuer":"https://i","subjectEmail":"a@b"},"rekorPublicKeyPath":"/r"}"#;
    let want = Fulcio {
        authority: file("/ca"),
        oidc_issuer: "https://i".into(),
        subject_email: "a@b".into(),
    };
    assert_eq!(parse(fulcio).unwrap().signer, Signer::Fulcio(want));
    let pki = r#"{"pki":{"caRootsData":"YQ==","caIntermediatesPath":"/i","subjectHostname":"h"}}"#;
    let want = Pki {
        roots: inline("a"),
        intermediates: Some(file("/i")),
        subject_email: None,
        subject_hostname: Some("h".into()),
    };
    assert_eq!(parse(pki).unwrap().signer, Signer::Pki(want));
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_is_missing_too_much_or_unknown_is_an_error() {
    let table = [
        ("{}", "exactly one of"),
        (r#"{"keyPath":""}"#, "exactly one of"),
        (r#"{"keyPaths":[]}"#, "keyPaths is empty"),
        (r#"{"keyDatas":[]}"#, "keyDatas is empty"),
        (
            r#"{"keyPath":"/k","keyData":"YQ=="}"#,
            "keyPath and keyData",
        ),
        (
            r#"{"keyPaths":["/k"],"keyDatas":["YQ=="]}"#,
            "keyPaths and keyDatas",
        ),
        (r#"{"keyPath":1}"#, "invalid type"),
        (r#"{"keyData":"?"}"#, "Invalid symbol"),
        (r#"{"keyPath":"/k","more":1}"#, "unknown field `more`"),
        (
            r#"{"keyPath":"/k","keypath":"/k"}"#,
            "unknown field `keypath`",
        ),
        (r#"{"keyPath":"/k","keyPath":"/k"}"#, "twice"),
        (
            r#"{"keyPath":"/k","signedIdentity":{"type":"x"}}"#,
            "unknown",
        ),
        (
            r#"{"keyPath":"/k","rekorPublicKeyPath":"/r","rekorPublicKeyData":"cg=="}"#,
            "rekorPublicKeyPath and rekorPublicKeyData",
        ),
        (r#"{"keyPath":"/k","rekorPublicKeyPaths":[]}"#, "is empty"),
        (
            r#"{"keyPath":"/k","fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"}}"#,
            "exactly one of",
        ),
        (
            r#"{"fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"}}"#,
            "with fulcio one of rekorPublicKeyPath",
        ),
        (
            r#"{"fulcio":{"oidcIssuer":"i","subjectEmail":"e"}}"#,
            "caPath or caData",
        ),
        (
            r#"{"fulcio":{"caPath":"/c","caData":"YQ==","oidcIssuer":"i","subjectEmail":"e"}}"#,
            "caPath and caData",
        ),
        (
            r#"{"fulcio":{"caPath":"/c","oidcIssuer":"i"}}"#,
            "subjectEmail must be there",
        ),
        (
            r#"{"fulcio":{"caPath":"/c","subjectEmail":"e"}}"#,
            "oidcIssuer and",
        ),
        (
            r#"{"fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e","x":1}}"#,
            "unknown field `x`",
        ),
        (
            r#"{"pki":{"caRootsPath":"/c"}}"#,
            "subjectEmail or subjectHostname",
        ),
        (
            r#"{"pki":{"subjectEmail":"e"}}"#,
            "caRootsPath or caRootsData",
        ),
        (
            r#"{"pki":{"caRootsPath":"/c","caRootsData":"YQ==","subjectEmail":"e"}}"#,
            "exclude each other",
        ),
        (
            r#"{"pki":{"caRootsPath":"/c","caIntermediatesPath":"/i","caIntermediatesData":"YQ==","subjectEmail":"e"}}"#,
            "exclude each other",
        ),
        (
            r#"{"pki":{"caRootsPath":"/c","subjectEmail":"e"},"rekorPublicKeyPath":"/r"}"#,
            "with pki no key of Rekor's",
        ),
    ];
    for (text, part) in table {
        let reason = parse(text).expect_err(text);
        assert!(reason.contains(part), "{text}: {reason}");
    }
}
