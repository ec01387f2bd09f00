//! The text of a `sigstoreSigned` requirement (containers-policy.json(5)): which fields, and which of
//! them together. What it names is read by `roots`.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::pem;
use crate::image::trust::identity::SignedIdentity;
use crate::image::trust::strict::Fields;

/// A requirement of type `sigstoreSigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSigned {
    /// Whose signatures are accepted.
    pub(super) signer: Signer,
    /// Keys of logs of which one must have taken the signature up; empty where none is asked for.
    pub(super) rekor: Vec<Source>,
    /// For which image a signature must be.
    pub(super) identity: SignedIdentity,
}

impl SigstoreSigned {
    /// Reads the fields of a requirement; `type` is taken already.
    ///
    /// # Errors
    /// Says what is wrong, in words.
    pub fn parse(mut fields: Fields) -> Result<SigstoreSigned, String> {
        let identity = SignedIdentity::parse(fields.take("signedIdentity"))?;
        let rest = Value::Object(fields.rest().into_iter().collect());
        serde_json::from_value::<Given>(rest)
            .map_err(|error| error.to_string())
            .and_then(|given| given.requirement(identity))
            .map_err(|reason| format!("sigstoreSigned: {reason}"))
    }
}

/// Where the text of a key or certificate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    File(PathBuf),
    /// In the policy itself.
    Inline(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signer {
    /// Any of these keys.
    Keys(Vec<Source>),
    /// Who has a certificate of Fulcio's.
    Fulcio(Fulcio),
    /// Who has a certificate of another authority's.
    Pki(Pki),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fulcio {
    pub authority: Source,
    pub oidc_issuer: String,
    pub subject_email: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pki {
    pub roots: Source,
    pub intermediates: Option<Source>,
    pub subject_email: Option<String>,
    pub subject_hostname: Option<String>,
}

/// The fields as they stand, `type` and `signedIdentity` apart.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Given {
    key_path: Option<String>,
    key_paths: Option<Vec<String>>,
    key_data: Option<Inline>,
    key_datas: Option<Vec<Inline>>,
    fulcio: Option<FulcioFields>,
    pki: Option<PkiFields>,
    rekor_public_key_path: Option<String>,
    rekor_public_key_paths: Option<Vec<String>>,
    rekor_public_key_data: Option<Inline>,
    rekor_public_key_datas: Option<Vec<Inline>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct FulcioFields {
    ca_path: Option<String>,
    ca_data: Option<Inline>,
    #[serde(rename = "oidcIssuer")]
    oidc_issuer: String,
    subject_email: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct PkiFields {
    #[serde(rename = "caRootsPath")]
    roots_path: Option<String>,
    #[serde(rename = "caRootsData")]
    roots_data: Option<Inline>,
    #[serde(rename = "caIntermediatesPath")]
    intermediates_path: Option<String>,
    #[serde(rename = "caIntermediatesData")]
    intermediates_data: Option<Inline>,
    subject_email: Option<String>,
    subject_hostname: Option<String>,
}

/// Base64 in the policy.
#[derive(Debug)]
struct Inline(Vec<u8>);

impl<'de> Deserialize<'de> for Inline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Inline, D::Error> {
        let text = String::deserialize(deserializer)?;
        pem::decode_base64(&text)
            .map(Inline)
            .map_err(serde::de::Error::custom)
    }
}

impl Given {
    fn requirement(self, identity: SignedIdentity) -> Result<SigstoreSigned, String> {
        let fields = self;
        let keys = several(
            ["keyPath", "keyPaths", "keyData", "keyDatas"],
            (fields.key_path, fields.key_paths),
            (fields.key_data, fields.key_datas),
        )?;
        let rekor = several(
            [
                "rekorPublicKeyPath",
                "rekorPublicKeyPaths",
                "rekorPublicKeyData",
                "rekorPublicKeyDatas",
            ],
            (fields.rekor_public_key_path, fields.rekor_public_key_paths),
            (fields.rekor_public_key_data, fields.rekor_public_key_datas),
        )?;
        let signer = match (keys, fields.fulcio, fields.pki) {
            (Some(keys), None, None) => Signer::Keys(keys),
            (None, Some(fulcio), None) => Signer::Fulcio(fulcio.try_into()?),
            (None, None, Some(pki)) => Signer::Pki(pki.try_into()?),
            _ => {
                return Err(
                    "exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki \
                            must be there"
                        .to_owned(),
                );
            }
        };
        match (&signer, &rekor) {
            (Signer::Fulcio(_), None) => Err(
                "with fulcio one of rekorPublicKeyPath, rekorPublicKeyPaths, rekorPublicKeyData \
                 and rekorPublicKeyDatas must be there"
                    .to_owned(),
            ),
            (Signer::Pki(_), Some(_)) => Err("with pki no key of Rekor's can be there".to_owned()),
            _ => Ok(SigstoreSigned {
                signer,
                rekor: rekor.unwrap_or_default(),
                identity,
            }),
        }
    }
}

impl TryFrom<FulcioFields> for Fulcio {
    type Error = String;

    fn try_from(fields: FulcioFields) -> Result<Fulcio, String> {
        let authority = one(["caPath", "caData"], fields.ca_path, fields.ca_data)?;
        let authority = authority.ok_or("fulcio: caPath or caData must be there")?;
        let (oidc_issuer, subject_email) = (fields.oidc_issuer, fields.subject_email);
        if oidc_issuer.is_empty() || subject_email.is_empty() {
            return Err("fulcio: oidcIssuer and subjectEmail must be there".to_owned());
        }
        Ok(Fulcio {
            authority,
            oidc_issuer,
            subject_email,
        })
    }
}

impl TryFrom<PkiFields> for Pki {
    type Error = String;

    fn try_from(fields: PkiFields) -> Result<Pki, String> {
        let roots = one(
            ["caRootsPath", "caRootsData"],
            fields.roots_path,
            fields.roots_data,
        )?;
        let roots = roots.ok_or("pki: caRootsPath or caRootsData must be there")?;
        let intermediates = one(
            ["caIntermediatesPath", "caIntermediatesData"],
            fields.intermediates_path,
            fields.intermediates_data,
        )?;
        let subject_email = filled(fields.subject_email);
        let subject_hostname = filled(fields.subject_hostname);
        if subject_email.is_none() && subject_hostname.is_none() {
            return Err("pki: subjectEmail or subjectHostname must be there".to_owned());
        }
        Ok(Pki {
            roots,
            intermediates,
            subject_email,
            subject_hostname,
        })
    }
}

/// An empty text is none, as containers/image has it.
fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn one(
    names: [&str; 2],
    path: Option<String>,
    data: Option<Inline>,
) -> Result<Option<Source>, String> {
    match (filled(path), data) {
        (Some(_), Some(_)) => Err(format!("{} and {} exclude each other", names[0], names[1])),
        (Some(path), None) => Ok(Some(Source::File(path.into()))),
        (None, data) => Ok(data.map(|Inline(bytes)| Source::Inline(bytes))),
    }
}

/// At most one of four fields: a path, paths, data, datas.
fn several(
    names: [&str; 4],
    (path, paths): (Option<String>, Option<Vec<String>>),
    (data, datas): (Option<Inline>, Option<Vec<Inline>>),
) -> Result<Option<Vec<Source>>, String> {
    let file = |path: String| Source::File(path.into());
    let inline = |Inline(bytes)| Source::Inline(bytes);
    let given = [
        filled(path).map(|path| vec![file(path)]),
        paths.map(|paths| paths.into_iter().map(file).collect()),
        data.map(|data| vec![inline(data)]),
        datas.map(|datas| datas.into_iter().map(inline).collect()),
    ];
    let mut given = names
        .iter()
        .zip(given)
        .filter_map(|(name, sources)| Some((name, sources?)));
    let Some((name, sources)) = given.next() else {
        return Ok(None);
    };
    if let Some((other, _)) = given.next() {
        return Err(format!("{name} and {other} exclude each other"));
    }
    if sources.is_empty() {
        return Err(format!("{name} is empty"));
    }
    Ok(Some(sources))
}

#[cfg(test)]
mod tests;
