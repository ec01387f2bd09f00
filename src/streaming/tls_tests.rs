//! TLS by crio.conf's keys, with certificates made by openssl.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cricket_harness::certificate;

use super::StreamingError;
use super::tls::{Tls, TlsSettings};

fn settings(signed: &certificate::Signed) -> TlsSettings {
    TlsSettings {
        certificate: Some(signed.certificate.clone()),
        key: Some(signed.key.clone()),
        client_authorities: None,
        only_tls13: false,
        cipher_suites: Vec::new(),
    }
}

fn file(directory: &Path, name: &str, content: &[u8]) -> Option<PathBuf> {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    Some(path)
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let signed = certificate::signed(at);
    let good = settings(&signed);
    Tls::load(good.clone()).unwrap();
    let other = certificate::signed(&at.join("other"));
    let garbage = file(at, "garbage", b"\xff\0no pem");
    let huge = file(at, "huge", &vec![b'x'; (4 << 20) + 1]);
    let bad = |change: &dyn Fn(&mut TlsSettings)| {
        let mut settings = good.clone();
        change(&mut settings);
        Tls::load(settings).unwrap_err().to_string()
    };
    for (error, words) in [
        (
            bad(&|s| s.certificate = None),
            ["stream_tls_cert", "certificate"],
        ),
        (bad(&|s| s.key = None), ["stream_tls_key", "key"]),
        (
            bad(&|s| s.key = Some(at.join("none"))),
            ["stream_tls_key", "No such file"],
        ),
        (
            bad(&|s| s.certificate = garbage.clone()),
            ["stream_tls_cert", "garbage"],
        ),
        (
            bad(&|s| s.certificate = huge.clone()),
            ["stream_tls_cert", "larger than 4 MiB"],
        ),
        (
            bad(&|s| s.key = garbage.clone()),
            ["stream_tls_key", "expected a private key"],
        ),
        (
            bad(&|s| s.client_authorities = garbage.clone()),
            ["stream_tls_ca", "no certificate"],
        ),
        (bad(&|s| s.key = Some(other.key.clone())), ["TLS", "key"]),
        (
            bad(&|s| s.cipher_suites = vec!["TLS_RSA_WITH_RC4_128_SHA".into()]),
            ["tls_cipher_suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
        ),
    ] {
        for word in words {
            assert!(error.contains(word), "{error} has no {word}");
        }
    }
    assert!(matches!(
        Tls::load(TlsSettings { key: None, ..good }),
        Err(StreamingError::NoFile { .. })
    ));
}

#[tokio::test]
async fn cipher_suites_are_those_chosen_and_those_of_tls_1_3() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(&certificate::signed(directory.path()));
    settings.cipher_suites = vec![
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".into(),
        "TLS_RSA_WITH_RC4_128_SHA".into(),
    ];
    let tls = Tls::load(settings).unwrap();
    let config = tls.config(Instant::now()).await;
    let suites = &config.crypto_provider().cipher_suites;
    let names: Vec<_> = suites
        .iter()
        .filter_map(|suite| suite.suite().as_str())
        .filter(|name| !name.starts_with("TLS13"))
        .collect();
    assert_eq!(names, ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]);
    assert!(suites.len() > 1, "TLS 1.3 has its own");
}

#[tokio::test]
async fn changed_files_are_taken_up_and_bad_ones_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let signed = certificate::signed(directory.path());
    let tls = Tls::load(settings(&signed)).unwrap();
    let minutes = |count: u64| Instant::now() + Duration::from_secs(60 * count);
    let first = tls.config(minutes(0)).await;
    assert!(
        Arc::ptr_eq(&first, &tls.config(minutes(1)).await),
        "unchanged"
    );

    let fresh = certificate::signed(&directory.path().join("fresh"));
    std::fs::copy(&fresh.certificate, &signed.certificate).unwrap();
    let half = tls.config(minutes(2)).await;
    assert!(Arc::ptr_eq(&first, &half), "the key does not fit yet");

    std::fs::copy(&fresh.key, &signed.key).unwrap();
    let second = tls.config(minutes(3)).await;
    assert!(!Arc::ptr_eq(&first, &second), "both are new");

    std::fs::write(&signed.key, "").unwrap();
    let third = tls.config(minutes(4)).await;
    assert!(Arc::ptr_eq(&second, &third), "an empty key changes nothing");
}
