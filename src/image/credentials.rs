//! Credentials: what the caller gave, else what auth files (containers-auth.json(5)) say.
//!
//! Credential helpers are not asked. Secrets are never part of an error or a log line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use super::error::ImageError;
use super::reference::{DOCKER_HUB, Reference};
use super::registries::read_bounded;

/// What CRI's `AuthConfig` carries, empty where it was empty.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RegistryAuth {
    /// User name for Basic, or for the token server.
    pub username: String,
    /// Its password.
    pub password: String,
    /// base64 of `user:password`, an alternative to the two above.
    pub auth: String,
    /// The registry this is for; empty: the one of the image.
    pub server_address: String,
    /// An OAuth2 refresh token for the token server.
    pub identity_token: String,
    /// A bearer token to be sent as it is.
    pub registry_token: String,
}

/// How to prove who we are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// User and password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A refresh token, exchanged at the token server.
    IdentityToken(String),
    /// A bearer token for the registry itself.
    RegistryToken(String),
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credential::Basic { .. } => "Basic",
            Credential::IdentityToken(_) => "IdentityToken",
            Credential::RegistryToken(_) => "RegistryToken",
        })
    }
}

impl RegistryAuth {
    /// The credential in it, `None` when it is empty.
    fn credential(&self) -> Result<Option<Credential>, String> {
        if !self.registry_token.is_empty() {
            return Ok(Some(Credential::RegistryToken(self.registry_token.clone())));
        }
        if !self.identity_token.is_empty() {
            return Ok(Some(Credential::IdentityToken(self.identity_token.clone())));
        }
        if !self.username.is_empty() {
            let (username, password) = (self.username.clone(), self.password.clone());
            return Ok(Some(Credential::Basic { username, password }));
        }
        if self.auth.is_empty() {
            Ok(None)
        } else {
            decode(&self.auth).map(Some)
        }
    }

    fn is_for(&self, registry: &str) -> bool {
        self.server_address.is_empty() || host_of(&self.server_address) == host_of(registry)
    }
}

/// The credential of a request for `asked`, sent to the endpoint `actual`.
///
/// The caller's are for the registry that the image's name has, wherever registries.conf has moved
/// it, and never for a mirror; auth files are searched by the name that is really asked.
pub fn find(
    given: Option<&RegistryAuth>,
    asked: &Reference,
    actual: &Reference,
    mirror: bool,
    files: &[PathBuf],
) -> Result<Option<Credential>, ImageError> {
    if let Some(auth) = given
        && !mirror
        && (auth.is_for(&asked.registry) || auth.is_for(&actual.registry))
    {
        let credential = auth.credential().map_err(|reason| {
            ImageError::malformed(format!("image {asked}: credentials of the pull"), reason)
        })?;
        if credential.is_some() {
            return Ok(credential);
        }
    }
    for file in files {
        if let Some(credential) = find_in_file(file, actual)? {
            return Ok(Some(credential));
        }
    }
    Ok(None)
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

/// The entry with the longest matching path: `host/ns/repo`, `host/ns`, `host`.
fn find_in_file(path: &Path, reference: &Reference) -> Result<Option<Credential>, ImageError> {
    let Some(text) = read_bounded(path)? else {
        return Ok(None);
    };
    let fail = |reason: String| ImageError::Config {
        path: path.to_owned(),
        reason,
    };
    // serde quotes what it could not read, and that may be a secret: name the place only
    let file: AuthFile = serde_json::from_str(&text).map_err(|error| {
        fail(format!(
            "not an auth file at line {}, column {}",
            error.line(),
            error.column()
        ))
    })?;
    let name = reference.name();
    let mut scope = Some(name.as_str());
    while let Some(wanted) = scope {
        let entry = file.auths.iter().find(|(key, _)| {
            key.as_str() == wanted || (!wanted.contains('/') && host_of(key) == host_of(wanted))
        });
        if let Some((key, entry)) = entry {
            let auth = RegistryAuth {
                auth: entry.auth.clone(),
                identity_token: entry.identity_token.clone(),
                ..RegistryAuth::default()
            };
            let credential = auth.credential();
            return credential.map_err(|reason| fail(format!("auths {key:?}: {reason}")));
        }
        scope = wanted.rsplit_once('/').map(|(parent, _)| parent);
    }
    Ok(None)
}

/// The host of a registry or of the URL that docker writes for one; the hub has several names.
fn host_of(server: &str) -> &str {
    let bare = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"));
    let is_url = bare.is_some();
    let rest = bare.unwrap_or(server);
    let host = match rest.split_once('/') {
        Some((host, path)) if is_url || matches!(path.trim_end_matches('/'), "" | "v1" | "v2") => {
            host
        }
        // host/namespace: a path of its own, not that host
        Some(_) => return rest,
        None => rest,
    };
    match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => DOCKER_HUB,
        other => other,
    }
}

fn decode(auth: &str) -> Result<Credential, String> {
    let trimmed = auth.trim();
    let bytes = STANDARD
        .decode(trimmed)
        .or_else(|_| STANDARD_NO_PAD.decode(trimmed))
        .map_err(|_| "auth is not base64".to_owned())?;
    let text = String::from_utf8(bytes).map_err(|_| "auth is not text".to_owned())?;
    let (username, password) = text
        .split_once(':')
        .ok_or_else(|| "auth is not user:password".to_owned())?;
    // docker pads with NUL
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Credential::Basic {
        username: username.to_owned(),
        password,
    })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            username: username.into(),
            password: password.into(),
        })
    }

    fn given(auth: &RegistryAuth, asked: &str, actual: &str, mirror: bool) -> Option<Credential> {
        let (asked, actual) = (Reference::from_str(asked), Reference::from_str(actual));
        find(Some(auth), &asked.unwrap(), &actual.unwrap(), mirror, &[]).unwrap()
    }

    #[test]
    fn the_callers_credentials_go_to_their_registry_only() {
        let auth = |server: &str| RegistryAuth {
            username: "u".into(),
            password: "p".into(),
            server_address: server.into(),
            ..RegistryAuth::default()
        };
        let table = [
            ("", "quay.io/a", "quay.io/a", false, true),
            ("quay.io", "quay.io/a", "quay.io/a", false, true),
            ("https://quay.io/v2/", "quay.io/a", "quay.io/a", false, true),
            (
                "https://index.docker.io/v1/",
                "busybox",
                "busybox",
                false,
                true,
            ),
            ("other.io", "quay.io/a", "quay.io/a", false, false),
            ("", "quay.io/a", "mirror.io/a", true, false),
            ("", "quay.io/a", "moved.io/a", false, true),
            ("quay.io.evil.org", "quay.io/a", "quay.io/a", false, false),
        ];
        for (server, asked, actual, mirror, want) in table {
            let found = given(&auth(server), asked, actual, mirror);
            assert_eq!(found.is_some(), want, "{server} {asked} {actual}");
        }
    }

    #[test]
    fn every_form_of_credential_is_read() {
        let empty = RegistryAuth::default;
        let encoded = RegistryAuth {
            auth: STANDARD.encode("u:p:q"),
            ..empty()
        };
        assert_eq!(encoded.credential().unwrap(), basic("u", "p:q"));
        let token = RegistryAuth {
            identity_token: "t".into(),
            username: "u".into(),
            ..empty()
        };
        assert_eq!(
            token.credential().unwrap(),
            Some(Credential::IdentityToken("t".into()))
        );
        assert_eq!(empty().credential().unwrap(), None);
        for bad in ["%", "dXNlcg==", "/////w=="] {
            let auth = RegistryAuth {
                auth: bad.into(),
                ..empty()
            };
            let error = auth.credential().unwrap_err();
            assert!(!error.contains(bad), "{error}");
        }
    }

    #[test]
    fn auth_files_are_searched_by_the_longest_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        let entry = |text: &str| serde_json::json!({"auth": STANDARD.encode(text)});
        let json = serde_json::json!({"auths": {
            "quay.io": entry("host:1"), "quay.io/ns": entry("ns:2"), "quay.io/ns/repo": entry("repo:3"),
            "https://index.docker.io/v1/": entry("hub:4"),
        }});
        std::fs::write(&path, json.to_string()).unwrap();
        let found = |name: &str| {
            let reference = Reference::from_str(name).unwrap();
            find(
                None,
                &reference,
                &reference,
                false,
                std::slice::from_ref(&path),
            )
            .unwrap()
        };
        assert_eq!(found("quay.io/other/x"), basic("host", "1"));
        assert_eq!(found("quay.io/ns/x"), basic("ns", "2"));
        assert_eq!(found("quay.io/ns/repo:1"), basic("repo", "3"));
        assert_eq!(found("busybox"), basic("hub", "4"));
        assert_eq!(found("other.io/x"), None);
        std::fs::write(&path, r#"{"auths":{"a":{"auth":["s3cret"]}}}"#).unwrap();
        let reference = Reference::from_str("a.io/b").unwrap();
        let error = find(None, &reference, &reference, false, &[path])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("auth.json") && !error.contains("s3cret"),
            "{error}"
        );
    }
}
