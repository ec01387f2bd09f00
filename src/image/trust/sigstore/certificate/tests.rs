use std::time::Duration;

use cricket_harness::sigstore::{Authority, Key, Subject, dns, ip};

use super::*;

const EMAIL: &str = "person@example.com";
const ISSUER: &str = "https://issuer.example";
/// 2023-11-14.
const TIME: u64 = 1_700_000_000;
const ALWAYS: (i32, i32) = (2000, 2120);

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn leaf(authority: &Authority, subject: &Subject) -> Issued {
    Issued::from_pem(&authority.certify(&Key::new(), subject)).unwrap()
}

fn authorities(roots: &str, intermediates: Option<&str>) -> Authorities {
    Authorities::from_pem(roots, intermediates).unwrap()
}

#[test]
fn a_chain_leads_to_an_authority_of_the_policy() {
    let root = Authority::root("root", ALWAYS);
    let (one, two) = (root.below("one", ALWAYS), root.below("two", ALWAYS));
    let other = Authority::root("other", ALWAYS);
    let subject = Subject::fulcio(EMAIL, ISSUER);
    let (direct, below) = (leaf(&root, &subject), leaf(&one, &subject));
    let trusted = authorities(&format!("{}{}", other.pem, root.pem), None);
    let chain = |parts: &[&Authority]| parts.iter().map(|one| one.pem.as_str()).collect::<String>();
    let issued = "no authority of the policy that is valid at that time has issued it";
    let table = [
        ("the root itself has issued it", &direct, None, Ok(())),
        (
            "one between, given with the root",
            &below,
            Some(chain(&[&one, &root])),
            Ok(()),
        ),
        (
            "others in the chain do no harm",
            &below,
            Some(chain(&[&two, &one, &other])),
            Ok(()),
        ),
        (
            "the last of the chain is not used",
            &below,
            Some(chain(&[&one])),
            Err(issued),
        ),
        ("no chain", &below, None, Err(issued)),
        (
            "another one between",
            &below,
            Some(chain(&[&two, &root])),
            Err(issued),
        ),
        ("an empty chain", &direct, Some(String::new()), Ok(())),
        (
            "garbage as a chain",
            &direct,
            Some("x".into()),
            Err("certificate chain is not PEM"),
        ),
    ];
    for (name, leaf, given, want) in table {
        let verdict = trusted.verify(leaf, given.as_deref(), at(TIME));
        match want {
            Ok(()) => assert_eq!(verdict, Ok(()), "{name}"),
            Err(part) => assert!(verdict.unwrap_err().contains(part), "{name}"),
        }
    }
    let with_between = authorities(&root.pem, Some(&one.pem));
    assert_eq!(with_between.verify(&below, None, at(TIME)), Ok(()));
    let only_other = authorities(&other.pem, Some(&one.pem));
    only_other.verify(&below, None, at(TIME)).unwrap_err();
    let between_as_root = authorities(&one.pem, None);
    assert_eq!(between_as_root.verify(&below, None, at(TIME)), Ok(()));
}

#[test]
fn every_certificate_must_be_valid_at_the_time() {
    let past = (2000, 2010);
    let (root, old_root) = (Authority::root("r", ALWAYS), Authority::root("o", past));
    let old_between = root.below("b", past);
    let subject = Subject::fulcio(EMAIL, ISSUER);
    let mut old = subject.clone();
    old.years = past;
    let issued = "no authority of the policy that is valid at that time";
    let table = [
        (
            &root,
            &old,
            "certificate: valid from 2000-01-01T00:00:00Z to 2010-01-01T00:00:00Z, not at 2023-11-14T22:13:20Z",
        ),
        (&old_root, &subject, issued),
        (&old_between, &subject, issued),
    ];
    for (issuer, subject, part) in table {
        let roots = format!("{}{}", root.pem, old_root.pem);
        let trusted = authorities(&roots, Some(&old_between.pem));
        let leaf = leaf(issuer, subject);
        let reason = trusted.verify(&leaf, None, at(TIME)).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
    let trusted = authorities(&root.pem, None);
    let leaf = leaf(&root, &old);
    // 2005-03-18
    assert_eq!(trusted.verify(&leaf, None, at(1_111_111_111)), Ok(()));
    trusted.verify(&leaf, None, at(0)).unwrap_err();
}

#[test]
fn a_certificate_must_be_for_code_and_its_issuer_an_authority() {
    let root = Authority::root("root", ALWAYS);
    let trusted = authorities(&root.pem, None);
    let mut server = Subject::fulcio(EMAIL, ISSUER);
    server.for_code = false;
    let reason = trusted.verify(&leaf(&root, &server), None, at(TIME));
    assert!(reason.unwrap_err().contains("not for signing code"));
    // a root signs by itself
    let itself = Issued::from_pem(&root.pem).unwrap();
    assert_eq!(trusted.verify(&itself, None, at(TIME)), Ok(()));
    let garbage = Authorities::from_pem("x", None).unwrap_err();
    assert!(
        garbage.contains("no certificate of an authority"),
        "{garbage}"
    );
    let key = Key::new().public();
    Authorities::from_pem(&key, None).unwrap_err();
    Authorities::from_pem(&format!("{key}{}", root.pem), None).unwrap();
    Authorities::from_pem(&root.pem, Some("x")).unwrap_err();
    let many = Authorities::from_pem(&root.pem.repeat(MAX_CERTIFICATES + 1), None);
    assert!(many.unwrap_err().contains("more than 32"));
}

#[test]
fn an_end_certificate_issues_nothing() {
    let root = Authority::root("root", ALWAYS);
    let (key, subject) = (Key::new(), Subject::fulcio(EMAIL, ISSUER));
    let end = root.certify(&key, &subject);
    let trusted = authorities(&end, None);
    let other = leaf(&root, &subject);
    let reason = trusted.verify(&other, None, at(TIME)).unwrap_err();
    assert!(reason.contains("no authority"), "{reason}");
}

#[test]
fn the_issuer_of_the_identity_stands_in_either_extension() {
    let root = Authority::root("root", ALWAYS);
    let issued = |issuers: (Option<&str>, Option<&str>)| {
        let mut subject = Subject::fulcio(EMAIL, ISSUER);
        subject.issuers = (issuers.0.map(Into::into), issuers.1.map(Into::into));
        leaf(&root, &subject)
    };
    for good in [
        (Some(ISSUER), None),
        (None, Some(ISSUER)),
        (Some(ISSUER), Some(ISSUER)),
    ] {
        assert_eq!(issued(good).check_oidc_issuer(ISSUER), Ok(()), "{good:?}");
    }
    for (bad, part) in [
        ((None, None), "names no OIDC issuer"),
        ((Some("https://other"), None), "it names \"https://other\""),
        ((None, Some("https://other")), "it names \"https://other\""),
        ((Some(ISSUER), Some("https://other")), "two OIDC issuers"),
        ((Some("https://issuer.example/"), None), "is required"),
    ] {
        let reason = issued(bad).check_oidc_issuer(ISSUER).unwrap_err();
        assert!(reason.contains(part), "{bad:?}: {reason}");
    }
}

#[test]
fn the_subject_is_an_alternative_name() {
    let root = Authority::root("root", ALWAYS);
    let mut subject = Subject::fulcio(EMAIL, ISSUER);
    subject.names.extend([
        dns("host.example"),
        dns("*.wild.example"),
        ip([192, 0, 2, 1]),
    ]);
    let leaf = leaf(&root, &subject);
    assert_eq!(leaf.check_email(EMAIL), Ok(()));
    for other in [
        "Person@example.com",
        "person@example.co",
        "host.example",
        "",
    ] {
        let reason = leaf.check_email(other).expect_err(other);
        assert!(reason.contains(EMAIL), "{reason}");
    }
    for host in [
        "host.example",
        "HOST.example",
        "a.wild.example",
        "192.0.2.1",
        "[192.0.2.1]",
    ] {
        assert_eq!(leaf.check_hostname(host), Ok(()), "{host}");
    }
    for host in [
        "example",
        "a.host.example",
        "wild.example",
        "a.b.wild.example",
        "192.0.2.2",
        "",
    ] {
        leaf.check_hostname(host).expect_err(host);
    }
    subject.names.clear();
    self::leaf(&root, &subject).check_email(EMAIL).unwrap_err();
}

#[test]
fn garbage_is_no_certificate() {
    let root = Authority::root("root", ALWAYS);
    let twice = root.pem.repeat(2);
    let block =
        |der: &str| format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    for (text, part) in [
        (String::new(), "there is none"),
        (twice, "more than one"),
        ("x".into(), "is not PEM"),
        (block("AQID"), "certificate: "),
        (block(&"MIIB".repeat(1000)), "certificate: "),
        (Key::new().public(), "certificate: "),
    ] {
        let reason = Issued::from_pem(&text).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    }
}
