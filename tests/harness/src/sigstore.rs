//! Sigstore signatures made in code, as cosign makes them: by a key, or by a certificate of an
//! authority like Fulcio, with the promise of a log like Rekor; and the image that carries them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SigningKey,
};
use serde_json::{Value, json};

use crate::image::{Blob, Image, digest};

/// A layer's media type.
pub const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with the signature.
pub const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation with the log's promise.
pub const BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// The annotation with the signer's certificate.
pub const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// The annotation with its issuers.
pub const CHAIN: &str = "dev.sigstore.cosign/chain";

const ISSUER_V1: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 1];
const ISSUER_V2: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 8];

/// A P-256 key, as `cosign generate-key-pair` makes one.
#[derive(Debug)]
pub struct Key(KeyPair);

impl Key {
    /// A new one.
    pub fn new() -> Key {
        Key(KeyPair::generate().unwrap())
    }

    /// `PUBLIC KEY`, PEM.
    pub fn public(&self) -> String {
        self.0.public_key_pem()
    }

    /// ASN.1.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).unwrap()
    }

    /// Writes the public key where a policy can name it.
    pub fn write(&self, file: &Path) -> PathBuf {
        std::fs::write(file, self.public()).unwrap();
        file.to_owned()
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::new()
    }
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Alternative names.
    pub names: Vec<SanType>,
    /// Fulcio's extensions with the OIDC issuer: the old one, the new one.
    pub issuers: (Option<String>, Option<String>),
    /// Years from the start of the first to the start of the second.
    pub years: (i32, i32),
    /// Whether it is for signing code, or for a server.
    pub for_code: bool,
}

impl Subject {
    /// As Fulcio writes it for a person, valid from 2020 to 2120.
    pub fn fulcio(email: &str, issuer: &str) -> Subject {
        Subject {
            names: vec![SanType::Rfc822Name(email.try_into().unwrap())],
            issuers: (Some(issuer.into()), Some(issuer.into())),
            years: (2020, 2120),
            for_code: true,
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = validity(self.years);
        params.subject_alt_names.clone_from(&self.names);
        params.extended_key_usages = vec![if self.for_code {
            ExtendedKeyUsagePurpose::CodeSigning
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        if let Some(text) = &self.issuers.0 {
            let raw = text.clone().into_bytes();
            let extension = CustomExtension::from_oid_content(ISSUER_V1, raw);
            params.custom_extensions.push(extension);
        }
        if let Some(text) = &self.issuers.1 {
            // a UTF8String below 128 bytes
            let mut der = vec![0x0c, u8::try_from(text.len()).unwrap()];
            der.extend(text.bytes());
            let extension = CustomExtension::from_oid_content(ISSUER_V2, der);
            params.custom_extensions.push(extension);
        }
        params
    }
}

/// A DNS name for [`Subject::names`].
pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// An address for [`Subject::names`].
pub fn ip(address: [u8; 4]) -> SanType {
    SanType::IpAddress(address.into())
}

fn validity((from, until): (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params
}

/// An authority: a root, or what stands below one.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

impl Authority {
    /// A root, valid for these years.
    pub fn root(name: &str, years: (i32, i32)) -> Authority {
        let (key, params) = (KeyPair::generate().unwrap(), authority(name, years));
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Authority { issuer, pem }
    }

    /// One below this.
    pub fn below(&self, name: &str, years: (i32, i32)) -> Authority {
        let (key, params) = (KeyPair::generate().unwrap(), authority(name, years));
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Authority { issuer, pem }
    }

    /// A certificate for `key`, PEM.
    pub fn certify(&self, key: &Key, subject: &Subject) -> String {
        let issued = subject.params().signed_by(&key.0, &self.issuer);
        issued.unwrap().pem()
    }
}

fn authority(name: &str, years: (i32, i32)) -> CertificateParams {
    let mut params = validity(years);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params
}

/// The document that a signature signs.
pub fn payload(reference: &str, digest: &str) -> Vec<u8> {
    let document = json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    document.to_string().into_bytes()
}

/// A payload and its annotations.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What is signed.
    pub payload: Vec<u8>,
    /// By [`SIGNATURE`] and its like.
    pub annotations: BTreeMap<String, String>,
}

impl Signed {
    /// Signs `payload`.
    pub fn new(key: &Key, payload: Vec<u8>) -> Signed {
        let signature = STANDARD.encode(key.sign(&payload));
        let annotations = BTreeMap::from([(SIGNATURE.to_owned(), signature)]);
        Signed {
            payload,
            annotations,
        }
    }

    /// With another annotation, or another value of one.
    pub fn with(mut self, annotation: &str, value: impl Into<String>) -> Signed {
        self.annotations.insert(annotation.into(), value.into());
        self
    }

    /// With the signer's certificate, and the chain's certificates.
    pub fn certified(self, certificate: &str, chain: &[&str]) -> Signed {
        let signed = self.with(CERTIFICATE, certificate);
        if chain.is_empty() {
            return signed;
        }
        signed.with(CHAIN, chain.concat())
    }

    /// With the promise of a log that it has taken the signature up at `time`; `signer` is the PEM
    /// of the public key or certificate.
    pub fn logged(self, log: &Key, signer: &str, time: i64) -> Signed {
        let entry = entry(signer, &self.annotations[SIGNATURE], &self.payload);
        let promise = promise(log, &entry, json!(time));
        self.with(BUNDLE, promise)
    }
}

/// A log's entry of a signature.
pub fn entry(signer: &str, signature: &str, payload: &[u8]) -> Value {
    let hash = digest(payload);
    json!({
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": &hash[7..]}},
            "signature": {"content": signature, "publicKey": {"content": STANDARD.encode(signer)}},
        },
    })
}

/// The value of [`BUNDLE`]: the log's signature over the canonical JSON of the four fields, which
/// stand in another order here.
pub fn promise(log: &Key, entry: &Value, time: Value) -> String {
    let body = STANDARD.encode(entry.to_string());
    let id = "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d";
    let canonical =
        format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{id}","logIndex":7}}"#);
    let signature = STANDARD.encode(log.sign(canonical.as_bytes()));
    let fields = json!({"logIndex": 7, "logID": id, "integratedTime": time, "body": body});
    json!({"SignedEntryTimestamp": signature, "Payload": fields}).to_string()
}

/// The tag under which the signatures of the image with this digest are.
pub fn tag(digest: &str) -> String {
    format!("{}.sig", digest.replacen(':', "-", 1))
}

/// The image that carries `signatures`, to be pushed under [`tag`].
pub fn carrier(signatures: &[Signed]) -> Image {
    let layers: Vec<Blob> = signatures
        .iter()
        .map(|signed| Blob::new(PAYLOAD, signed.payload.clone()))
        .collect();
    let described: Vec<Value> = layers
        .iter()
        .zip(signatures)
        .map(|(layer, signed)| {
            let mut descriptor = layer.descriptor();
            descriptor["annotations"] = json!(signed.annotations);
            descriptor
        })
        .collect();
    let config = json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
    let config = Blob::new(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().into_bytes(),
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor(),
        "layers": described,
    });
    let mut blobs: Vec<Blob> = Vec::new();
    for layer in layers {
        // a registry wants each blob once
        if blobs.iter().all(|blob| blob.digest != layer.digest) {
            blobs.push(layer);
        }
    }
    Image {
        manifest: Blob::new(media_type, manifest.to_string().into_bytes()),
        config,
        layers: blobs,
        tars: Vec::new(),
    }
}
