use std::path::Path;
use std::process::{Command, Stdio};

use cricket_harness::tools;

use super::*;

fn openssl(dir: &Path, line: &str) {
    let mut command = Command::new(tools::need("openssl"));
    command.current_dir(dir).args(line.split(' '));
    tools::run(command.stderr(Stdio::null()));
}

/// A key of openssl's and its signature over `message`.
fn signed(dir: &Path, key: &str, sign: &str) -> (PublicKey, Vec<u8>) {
    std::fs::write(dir.join("message"), b"message").unwrap();
    openssl(dir, &format!("genpkey {key} -out key"));
    openssl(dir, "pkey -in key -pubout -out pub");
    openssl(dir, sign);
    let public = std::fs::read_to_string(dir.join("pub")).unwrap();
    let signature = std::fs::read(dir.join("signature")).unwrap();
    (PublicKey::from_pem(&public).unwrap(), signature)
}

const SHA256: &str = "dgst -sha256 -sign key -out signature message";

#[test]
fn signatures_of_every_supported_key_count_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", SHA256),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", SHA256),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", SHA256),
        (
            "-algorithm ED25519",
            "pkeyutl -sign -rawin -inkey key -in message -out signature",
        ),
    ];
    let mut other = None;
    for (key, sign) in table {
        let (public, signature) = signed(dir.path(), key, sign);
        assert!(public.verifies(b"message", &signature), "{key}");
        assert!(!public.verifies(b"massage", &signature), "{key}");
        let (_, cut) = signature.split_first().unwrap();
        assert!(!public.verifies(b"message", cut), "{key}");
        assert!(!public.verifies(b"message", b""), "{key}");
        if let Some(last) = other.replace(signature) {
            assert!(!public.verifies(b"message", &last), "{key}");
        }
    }
}

#[test]
fn an_ecdsa_signature_may_be_two_numbers_in_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let (public, asn1) = signed(
        dir.path(),
        "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        SHA256,
    );
    let numbers = Vec::<UintRef<'_>>::from_der(&asn1).unwrap();
    let mut fixed = [0; 64];
    for (number, half) in numbers.iter().zip(fixed.chunks_mut(32)) {
        half[32 - number.as_bytes().len()..].copy_from_slice(number.as_bytes());
    }
    assert!(public.verifies(b"message", &fixed));
    assert!(!public.verifies(b"massage", &fixed));
    assert!(!public.verifies(b"message", &fixed[1..]));
    assert!(!public.verifies(b"message", &[0; 64]));
    assert!(!public.verifies(b"message", &[0xff; 200]));
}

#[test]
fn an_rsa_key_may_be_pkcs1_and_is_then_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (public, _) = signed(
        dir.path(),
        "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        SHA256,
    );
    openssl(dir.path(), "rsa -in key -RSAPublicKey_out -out pkcs1");
    let text = std::fs::read_to_string(dir.path().join("pkcs1")).unwrap();
    assert!(text.contains("BEGIN RSA PUBLIC KEY"), "{text}");
    assert_eq!(PublicKey::from_pem(&text), Ok(public));
}

#[test]
fn keys_that_cannot_be_used_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-521",
            "ECDSA curve 1.3.132.0.35 is not",
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
            "ECDSA curve",
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:1024",
            "RSA key of 1024 bits",
        ),
        (
            "-algorithm X25519",
            "public key algorithm 1.3.101.110 is not",
        ),
    ];
    for (key, part) in table {
        openssl(dir.path(), &format!("genpkey {key} -out key"));
        openssl(dir.path(), "pkey -in key -pubout -out pub");
        let public = std::fs::read_to_string(dir.path().join("pub")).unwrap();
        let reason = PublicKey::from_pem(&public).expect_err(key);
        assert!(reason.contains(part), "{key}: {reason}");
    }
    let private = std::fs::read_to_string(dir.path().join("key")).unwrap();
    let reason = PublicKey::from_pem(&private).unwrap_err();
    assert!(
        reason.contains("\"PRIVATE KEY\" where PUBLIC KEY"),
        "{reason}"
    );
    for text in [
        "",
        "key",
        "-----BEGIN PUBLIC KEY-----\nAQID\n-----END PUBLIC KEY-----\n",
    ] {
        PublicKey::from_pem(text).expect_err(text);
    }
}
