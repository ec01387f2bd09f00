//! Looking for an image's signatures: in the registry that keeps them itself, or in a lookaside store.

use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine;
use oci_spec::image::Digest;
use reqwest::Url;
use serde::Deserialize;

use super::registries_d::RegistriesD;
use super::verdict::{Found, Signature};
use super::{Settings, stored};
use crate::image::error::ImageError;
use crate::image::reference::Reference;
use crate::image::registry::Session;
use crate::sys::blocking;

/// Signatures of one image, as in containers/image.
const MAX_SIGNATURES: usize = 128;
/// Bytes of one; a real one has about 1 KB.
const MAX_SIGNATURE_BYTES: u64 = 1 << 20;
/// Bytes of all of them.
const MAX_BYTES: usize = 4 << 20;

/// Looks for the signatures of a manifest. `served` is the repository at the endpoint that served
/// it, `extension` whether that registry keeps signatures itself.
///
/// # Errors
/// When a place that is configured cannot be asked, or holds something else than signatures.
pub async fn signatures(
    settings: &Settings,
    session: &Session,
    served: &Reference,
    digest: &Digest,
    extension: bool,
) -> Result<Vec<Found>, ImageError> {
    let directory = settings.registries_d.clone();
    let config = blocking(move || RegistriesD::load(&directory)).await?;
    let mut found = if extension {
        of_extension(session, digest).await?
    } else {
        let base = match config.lookaside(served) {
            Some(base) => base.to_owned(),
            None => format!("file://{}", settings.lookaside.display()),
        };
        of_lookaside(session, &base, served, digest).await?
    };
    if config.use_attachments(served) {
        found.extend(super::sigstore::fetch(session, digest).await?);
    }
    Ok(found)
}

/// `signature-1`, `signature-2` and so on, until one is not there.
async fn of_lookaside(
    session: &Session,
    base: &str,
    served: &Reference,
    digest: &Digest,
) -> Result<Vec<Found>, ImageError> {
    // what cannot be read is not shown: a password may stand in it
    let url = Url::parse(base)
        .map_err(|error| ImageError::malformed("lookaside in registries.d", error))?;
    let malformed =
        |reason: String| ImageError::malformed(format!("lookaside {}", shown(&url)), reason);
    let directory = format!(
        "{}/{}@{}={}",
        url.path().trim_end_matches('/'),
        served.repository,
        digest.algorithm(),
        digest.digest()
    );
    let (mut found, mut bytes) = (Vec::new(), 0);
    for number in 1..=MAX_SIGNATURES {
        let mut place = url.clone();
        place.set_path(&format!("{directory}/signature-{number}"));
        let blob = match place.scheme() {
            "file" => read_file(&place).await?,
            "http" | "https" => session.foreign_file(&place, MAX_SIGNATURE_BYTES).await?,
            other => {
                return Err(malformed(format!(
                    "scheme {other:?}; use file, http or https"
                )));
            }
        };
        let Some(blob) = blob else { return Ok(found) };
        bytes += blob.len();
        if bytes > MAX_BYTES {
            return Err(malformed(format!("signatures of over {MAX_BYTES} bytes")));
        }
        let signature = stored::of_blob(blob).map_err(|reason| {
            ImageError::malformed(format!("signature {}", shown(&place)), reason)
        })?;
        let place = shown(&place);
        found.push(Found { place, signature });
    }
    Err(malformed(format!("{MAX_SIGNATURES} signatures and no end")))
}

/// A URL without its user, password and query, which may be secrets.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    // a URL that can have neither has none
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.to_string()
}

async fn read_file(url: &Url) -> Result<Option<Vec<u8>>, ImageError> {
    let path: PathBuf = url
        .to_file_path()
        .map_err(|()| ImageError::malformed(format!("signature {url}"), "not a local path"))?;
    blocking(move || {
        use std::io::Read;
        let fail = |reason: String| ImageError::Config {
            path: path.clone(),
            reason,
        };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error.to_string())),
        };
        let mut bytes = Vec::new();
        file.take(MAX_SIGNATURE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| fail(error.to_string()))?;
        match bytes.len() as u64 > MAX_SIGNATURE_BYTES {
            true => Err(fail(format!("larger than {MAX_SIGNATURE_BYTES} bytes"))),
            false => Ok(Some(bytes)),
        }
    })
    .await
}

/// The extension's answer (containers/image, docs/signature-protocols.md).
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    signatures: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    schema_version: u32,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
}

async fn of_extension(session: &Session, digest: &Digest) -> Result<Vec<Found>, ImageError> {
    let what = format!("{}: signatures of {digest}", session.repository());
    let list = session.extension_signatures(digest.as_ref()).await?;
    of_list(&list, &what)
}

fn of_list(list: &[u8], what: &str) -> Result<Vec<Found>, ImageError> {
    let list: List =
        serde_json::from_slice(list).map_err(|error| ImageError::malformed(what, error))?;
    let atomic = |entry: &Entry| entry.schema_version == 2 && entry.kind == "atomic";
    let mut found = Vec::new();
    for (index, entry) in list.signatures.into_iter().enumerate() {
        if !atomic(&entry) {
            continue;
        }
        if found.len() == MAX_SIGNATURES {
            return Err(ImageError::malformed(
                what,
                format!("more than {MAX_SIGNATURES} signatures"),
            ));
        }
        let message = base64::engine::general_purpose::STANDARD
            .decode(entry.content)
            .map_err(|error| ImageError::malformed(what, error))?;
        found.push(Found {
            place: format!("{what}, number {}", index + 1),
            signature: Signature::Simple(message),
        });
    }
    Ok(found)
}

/// The digest of a manifest, from its text.
///
/// # Errors
/// When it is none.
pub fn digest(text: &str) -> Result<Digest, ImageError> {
    Digest::from_str(text).map_err(|error| ImageError::malformed(format!("digest {text}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_s_list_is_read_within_bounds() {
        let entry = r#"{"schemaVersion":2,"name":"sha256:a@b","type":"atomic","content":"aGk="}"#;
        let other = r#"{"schemaVersion":3,"type":"atomic","content":"aGk="}"#;
        let list = |entries: &[&str]| format!(r#"{{"signatures":[{}]}}"#, entries.join(","));
        let found = of_list(list(&[other, entry]).as_bytes(), "r").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].signature, Signature::Simple(b"hi".to_vec()));
        assert_eq!(found[0].place, "r, number 2");
        assert_eq!(of_list(b"{}", "r").unwrap(), []);
        let many = list(&vec![entry; MAX_SIGNATURES + 1]);
        let no_base64 = list(&[&entry.replace("aGk=", "!")]);
        for bad in [many.as_str(), no_base64.as_str(), "[]x", ""] {
            of_list(bad.as_bytes(), "r").unwrap_err();
        }
    }
}
