//! Auth files: containers-auth.json(5), docker's config.json, and its older .dockercfg.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Credential, RegistryAuth, host_of};
use crate::image::error::ImageError;
use crate::image::reference::Reference;
use crate::image::registries::read_bounded;

/// An auth file; it may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFile {
    /// Where it is.
    pub path: PathBuf,
    /// The whole file is what `auths` is in the newer format.
    legacy: bool,
}

/// What a file says.
#[derive(Default, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    /// Registry to helper.
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    /// docker's helper for all registries that it has logged in to; it leaves an empty entry for
    /// each, and only those are asked for.
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl std::fmt::Debug for Document {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document")
            .field("auths", &self.auths.keys())
            .field("helpers", &self.helpers)
            .field("store", &self.store)
            .finish()
    }
}

/// What a file has for a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A credential, and the key that it stands under.
    Known { key: String, credential: Credential },
    /// The name of a helper, and what to ask it for.
    Helper { name: String, server: String },
}

impl AuthFile {
    /// One in the format of today.
    pub fn new(path: PathBuf) -> AuthFile {
        AuthFile {
            path,
            legacy: false,
        }
    }

    /// A .dockercfg.
    pub fn legacy(path: PathBuf) -> AuthFile {
        AuthFile { path, legacy: true }
    }

    /// Reads it; `None` when there is none. Blocking.
    pub(super) fn read(&self) -> Result<Option<Document>, ImageError> {
        let Some(text) = read_bounded(&self.path)? else {
            return Ok(None);
        };
        let parsed = if self.legacy {
            serde_json::from_str(&text).map(|auths| Document {
                auths,
                ..Document::default()
            })
        } else {
            serde_json::from_str(&text)
        };
        // serde quotes what it could not read, and that may be a secret: name the place only
        parsed.map(Some).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let reason = format!("not an auth file at line {line}, column {column}");
            broken(&self.path, reason)
        })
    }
}

impl Document {
    /// The entry for a repository: a helper of its registry, else the longest of `host/ns/repo`,
    /// `host/ns`, `host`. `path` is for the error only.
    pub fn find(&self, path: &Path, reference: &Reference) -> Result<Option<Entry>, ImageError> {
        let registry = &reference.registry;
        if let Some((server, name)) = lookup(&self.helpers, registry) {
            let (name, server) = (name.clone(), server.clone());
            return Ok(Some(Entry::Helper { name, server }));
        }
        let name = reference.name();
        let mut scope = Some(name.as_str());
        while let Some(wanted) = scope {
            if let Some((key, auth)) = lookup(&self.auths, wanted) {
                return self.entry(path, key, auth);
            }
            scope = wanted.rsplit_once('/').map(|(parent, _)| parent);
        }
        Ok(None)
    }

    fn entry(&self, path: &Path, key: &str, auth: &Auth) -> Result<Option<Entry>, ImageError> {
        let auth = RegistryAuth {
            auth: auth.auth.clone(),
            identity_token: auth.identity_token.clone(),
            ..RegistryAuth::default()
        };
        let credential = auth.credential();
        let credential =
            credential.map_err(|reason| broken(path, format!("auths {key:?}: {reason}")))?;
        if credential.is_none() && !auth.auth.is_empty() {
            let file = path.display();
            tracing::warn!(%file, key, "auth is not base64 of user:password and is passed over");
        }
        let key = key.to_owned();
        Ok(match credential {
            Some(credential) => Some(Entry::Known { key, credential }),
            None if self.store.is_empty() => None,
            None => Some(Entry::Helper {
                name: self.store.clone(),
                server: key,
            }),
        })
    }
}

/// The value under `wanted`, or, if that is a host, under one of the other ways to write it.
fn lookup<'m, T>(map: &'m BTreeMap<String, T>, wanted: &str) -> Option<(&'m String, &'m T)> {
    map.get_key_value(wanted).or_else(|| {
        let host = host_of(wanted);
        map.iter()
            .find(|(key, _)| !wanted.contains('/') && host_of(key) == host)
    })
}

fn broken(path: &Path, reason: String) -> ImageError {
    ImageError::Config {
        path: path.to_owned(),
        reason,
    }
}
