//! Signatures as bytes: the blobs of lookaside stores, and the texts in which an image keeps what
//! its trust rests on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci_spec::image::Digest;
use serde::{Deserialize, Serialize};

use super::scope::Origin;
use super::verdict::{Found, Signature, SigstoreSignature};

/// One text that is kept with an image. A later version may know more kinds; those that this one
/// does not know are passed over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    Simple {
        manifest: String,
        place: String,
        message: String,
    },
    Sigstore {
        manifest: String,
        place: String,
        media_type: String,
        payload: String,
        annotations: BTreeMap<String, String>,
    },
    /// The image was loaded from an archive that the policy accepted then.
    Loaded { transport: String, path: PathBuf },
}

/// What an image has kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// Signatures by the digest of the manifest that they came with.
    pub signatures: BTreeMap<String, Vec<Found>>,
    loaded: Vec<(String, PathBuf)>,
}

/// The texts for signatures that came with a manifest.
pub fn texts(manifest: &Digest, found: &[Found]) -> Vec<String> {
    let text = |found: &Found| match &found.signature {
        Signature::Simple(message) => Text::Simple {
            manifest: manifest.to_string(),
            place: found.place.clone(),
            message: STANDARD.encode(message),
        },
        Signature::Sigstore(signature) => Text::Sigstore {
            manifest: manifest.to_string(),
            place: found.place.clone(),
            media_type: signature.media_type.clone(),
            payload: STANDARD.encode(&signature.payload),
            annotations: signature.annotations.clone(),
        },
    };
    // maps with text keys always encode
    let encode = |text: Text| serde_json::to_string(&text).ok();
    found.iter().map(text).filter_map(encode).collect()
}

/// The text of an image that was loaded.
pub fn loaded(origin: Origin<'_>) -> Option<String> {
    let (Origin::OciLayout(path) | Origin::OciArchive(path) | Origin::DockerArchive(path)) = origin
    else {
        return None;
    };
    let text = Text::Loaded {
        transport: origin.transport().to_owned(),
        path: path.to_owned(),
    };
    serde_json::to_string(&text).ok()
}

impl Kept {
    /// Reads what an image has kept.
    pub fn read(texts: &[String]) -> Kept {
        let mut kept = Kept::default();
        for text in texts {
            match serde_json::from_str(text) {
                Ok(text) => kept.add(text),
                Err(error) => tracing::warn!(%error, "a kept signature is not understood"),
            }
        }
        kept
    }

    fn add(&mut self, text: Text) {
        let (manifest, place, signature) = match text {
            Text::Loaded { transport, path } => {
                self.loaded.push((transport, path));
                return;
            }
            Text::Simple {
                manifest,
                place,
                message,
            } => {
                let message = STANDARD.decode(message).unwrap_or_default();
                (manifest, place, Signature::Simple(message))
            }
            Text::Sigstore {
                manifest,
                place,
                media_type,
                payload,
                annotations,
            } => {
                let signature = SigstoreSignature {
                    media_type,
                    payload: STANDARD.decode(payload).unwrap_or_default(),
                    annotations,
                };
                (manifest, place, Signature::Sigstore(signature))
            }
        };
        let found = Found { place, signature };
        self.signatures.entry(manifest).or_default().push(found);
    }

    /// The archives that the image was loaded from.
    pub fn origins(&self) -> impl Iterator<Item = Origin<'_>> {
        self.loaded.iter().filter_map(|(transport, path)| {
            let path: &Path = path;
            match transport.as_str() {
                "oci" => Some(Origin::OciLayout(path)),
                "oci-archive" => Some(Origin::OciArchive(path)),
                "docker-archive" => Some(Origin::DockerArchive(path)),
                _ => None,
            }
        })
    }
}

/// A sigstore signature in a lookaside store.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SigstoreBlob {
    mime_type: String,
    payload: String,
    annotations: BTreeMap<String, String>,
}

/// What a blob of a lookaside store is, by its beginning, as containers/image tells it: an OpenPGP
/// message, or a NUL, the name of a format, a line break and the content.
///
/// # Errors
/// When it is neither: what it begins with.
pub fn of_blob(blob: Vec<u8>) -> Result<Signature, String> {
    match blob.first() {
        None => Err("it is empty".to_owned()),
        Some(0) => of_named_blob(&blob[1..]),
        Some(first) if is_openpgp(*first) => Ok(Signature::Simple(blob)),
        Some(first) => Err(format!("not a signature: it begins with byte {first:#04x}")),
    }
}

fn of_named_blob(blob: &[u8]) -> Result<Signature, String> {
    let end = blob.iter().position(|byte| *byte == b'\n');
    let (name, content) = end
        .map(|end| (&blob[..end], &blob[end + 1..]))
        .ok_or("a format without a line break")?;
    match name {
        b"simple-signing" => Ok(Signature::Simple(content.to_vec())),
        b"sigstore-json" => {
            let parsed: SigstoreBlob =
                serde_json::from_slice(content).map_err(|error| error.to_string())?;
            Ok(Signature::Sigstore(SigstoreSignature {
                media_type: parsed.mime_type,
                payload: STANDARD
                    .decode(parsed.payload)
                    .map_err(|error| format!("payload: {error}"))?,
                annotations: parsed.annotations,
            }))
        }
        other => Err(format!(
            "signature format {:?} is unknown",
            String::from_utf8_lossy(&other[..other.len().min(64)])
        )),
    }
}

/// RFC 4880, 4.2: a packet's first byte, for the packets that a signed message may begin with
/// (signature 2, one-pass signature 4, compressed data 8), in the old and the new form.
fn is_openpgp(first: u8) -> bool {
    let tag = match first {
        0xc0.. => first & 0x3f,
        0x80.. => (first >> 2) & 0x0f,
        _ => return false,
    };
    matches!(tag, 2 | 4 | 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_a_later_kind_is_passed_over() {
        let digest: Digest = format!("sha256:{:064x}", 7).parse().unwrap();
        let found = [
            Found {
                place: "file:///x".into(),
                signature: Signature::Simple(vec![0x90, 0, 255]),
            },
            Found {
                place: "tag layer 1".into(),
                signature: Signature::Sigstore(SigstoreSignature {
                    media_type: "m".into(),
                    payload: b"{}".to_vec(),
                    annotations: [("a".to_owned(), "b".to_owned())].into(),
                }),
            },
        ];
        let mut all = texts(&digest, &found);
        all.extend(loaded(Origin::OciArchive(Path::new("/srv/x.tar"))));
        assert_eq!(
            all[2],
            r#"{"loaded":{"transport":"oci-archive","path":"/srv/x.tar"}}"#
        );
        all.push(r#"{"later":{"x":1}}"#.to_owned());
        all.push("no JSON".to_owned());
        let kept = Kept::read(&all);
        assert_eq!(kept.signatures[digest.as_ref()], found);
        let origins: Vec<String> = kept.origins().map(|origin| origin.to_string()).collect();
        assert_eq!(origins, ["/srv/x.tar"]);
    }

    #[test]
    fn a_blob_is_known_by_its_beginning() {
        let simple = |blob: &[u8]| matches!(of_blob(blob.to_vec()), Ok(Signature::Simple(_)));
        for first in [0xa3, 0xc8, 0x90, 0xc4, 0x88, 0xc2] {
            assert!(simple(&[first, 1]), "{first:#x}");
        }
        assert!(simple(b"\0simple-signing\nx"));
        let sigstore =
            b"\0sigstore-json\n{\"mimeType\":\"m\",\"payload\":\"e30=\",\"annotations\":{}}";
        assert!(matches!(
            of_blob(sigstore.to_vec()),
            Ok(Signature::Sigstore(_))
        ));
        for bad in [
            &b""[..],
            b"-----BEGIN PGP MESSAGE-----",
            b"<html>",
            b"\0simple-signing",
            b"\0later\nx",
            b"\0sigstore-json\n[",
            &[0x99, 1],
        ] {
            of_blob(bad.to_vec()).unwrap_err();
        }
    }
}
