//! Credentials: who we are at a registry, found in CRI-O's order.
//!
//! 1. what the call brought, for the registry that the image's name has;
//! 2. else auth files (`files`): the one that was left for this namespace and image (`namespaced`),
//!    else `global_auth_file`, else the user's own. The first kind that there is hides the others;
//! 3. and the helpers (`helper`) that those files or registries.conf name.
//!
//! Secrets are never part of an error or a log line; where they came from is.

mod decode;
mod files;
mod helper;
mod namespaced;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::ImageError;
use super::reference::Reference;
use crate::sys::blocking;
use decode::{decode, host_of};
use files::Entry;

pub use files::AuthFile;

/// What registries.conf calls the auth files in its list of `credential-helpers`.
const AUTH_FILES: &str = "containers-auth.json";

/// What CRI's `AuthConfig` carries, empty where it was empty.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RegistryAuth {
    /// User name for Basic, or for the token server.
    pub username: String,
    /// Its password.
    pub password: String,
    /// base64 of `user:password`; the two above do not count beside it.
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
        // before user and password, as in CRI-O
        if !self.auth.is_empty() {
            return decode(&self.auth);
        }
        if self.username.is_empty() {
            return Ok(None);
        }
        let (username, password) = (self.username.clone(), self.password.clone());
        Ok(Some(Credential::Basic { username, password }))
    }

    /// Whether this may be sent to `actual` in a pull of `asked`. Without a server address it is for
    /// the registry of the image's name, and not for where registries.conf has moved it.
    fn is_for(&self, asked: &Reference, actual: &Reference) -> bool {
        let server = match self.server_address.as_str() {
            "" => &asked.registry,
            address => address,
        };
        host_of(server) == host_of(&actual.registry)
    }
}

/// Where credentials are looked for, besides the call.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// crio.conf's `namespaced_auth_dir`: a file for one pull of one namespace.
    pub namespaced: Option<PathBuf>,
    /// crio.conf's `global_auth_file`; hides the user's.
    pub global: Option<PathBuf>,
    /// The user's own: [`Places::of_user`].
    pub user: Vec<AuthFile>,
    /// `PATH` in which credential helpers are looked for; `None`: the daemon's own.
    pub helper_path: Option<OsString>,
}

impl Places {
    /// This file and no other.
    pub fn only(file: PathBuf) -> Places {
        Places {
            global: Some(file),
            ..Places::default()
        }
    }

    /// The files of the user that the daemon runs as, in the order of containers-auth.json(5);
    /// `get` reads the environment.
    pub fn of_user(uid: u32, home: &Path, get: impl Fn(&str) -> Option<PathBuf>) -> Vec<AuthFile> {
        let set = |name: &str| get(name).filter(|value| !value.as_os_str().is_empty());
        let runtime = set("XDG_RUNTIME_DIR")
            .map(|dir| dir.join("containers/auth.json"))
            .unwrap_or_else(|| format!("/run/containers/{uid}/auth.json").into());
        let config = set("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let docker = set("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker"));
        vec![
            AuthFile::new(runtime),
            AuthFile::new(config.join("containers/auth.json")),
            AuthFile::new(docker.join("config.json")),
            AuthFile::legacy(home.join(".dockercfg")),
        ]
    }
}

/// What becomes of a file that was left for one pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// This is the pull: the file is used and removed.
    Take,
    /// This is a question: the file stays for the pull.
    Look,
}

/// What one pull may show.
#[derive(Debug)]
pub struct Keyring {
    given: Option<RegistryAuth>,
    files: Vec<Source>,
    helpers: Vec<String>,
    helper_path: Option<OsString>,
}

/// An auth file, or what one said before it was removed.
#[derive(Debug)]
enum Source {
    File(AuthFile),
    Read(PathBuf, files::Document),
}

/// What was found for an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Who we are there; `None`: nobody.
    pub credential: Option<Credential>,
    /// Where it was found or, if it was not, where it was looked for.
    pub origin: String,
}

impl Keyring {
    /// Collects the places for a pull of `reference` by `namespace`, and takes or looks at the file
    /// that was left for it, which is used once. `helpers` is registries.conf's
    /// `credential-helpers`, empty where it has none. Blocking.
    pub fn open(
        places: &Places,
        given: Option<RegistryAuth>,
        (reference, namespace, left): (&str, &str, Left),
        helpers: &[String],
    ) -> Result<Keyring, ImageError> {
        let left = match (&places.namespaced, left) {
            (Some(dir), Left::Take) => namespaced::take(dir, namespace, reference)?,
            (Some(dir), Left::Look) => namespaced::look(dir, namespace, reference)?,
            (None, _) => None,
        };
        let files = match (left, &places.global) {
            (Some((path, document)), _) => vec![Source::Read(path, document)],
            (None, Some(global)) => vec![Source::File(AuthFile::new(global.clone()))],
            (None, None) => places.user.iter().cloned().map(Source::File).collect(),
        };
        let helpers = match helpers {
            [] => vec![AUTH_FILES.to_owned()],
            helpers => helpers.to_vec(),
        };
        Ok(Keyring {
            given,
            files,
            helpers,
            helper_path: places.helper_path.clone(),
        })
    }

    /// What to show at the endpoint that knows the image `asked` as `actual`.
    pub async fn find(&self, asked: &Reference, actual: &Reference) -> Result<Found, ImageError> {
        if let Some(auth) = self.given.as_ref().filter(|it| it.is_for(asked, actual)) {
            let credential = auth.credential().map_err(|reason| {
                ImageError::malformed(format!("image {asked}: credentials of the pull"), reason)
            })?;
            if credential.is_some() {
                let origin = "those of the pull".to_owned();
                return Ok(Found { credential, origin });
            }
        }
        let mut looked = Vec::new();
        let mut failure = None;
        for helper in &self.helpers {
            let found = if helper == AUTH_FILES {
                self.find_in_files(actual, &mut looked).await
            } else {
                let origin = format!("credential helper {helper} of registries.conf");
                let server = &actual.registry;
                let answer = self.ask(helper, server, "registries.conf").await;
                looked.push(origin.clone());
                answer.map(|found| found.map(|credential| (credential, origin)))
            };
            match found {
                Ok(Some((credential, origin))) => {
                    let credential = Some(credential);
                    return Ok(Found { credential, origin });
                }
                Ok(None) => {}
                // another one may know; if not, this is why
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let origin = looked.join(", ");
        match failure {
            Some(error) => Err(error),
            None => Ok(Found {
                credential: None,
                origin,
            }),
        }
    }

    async fn ask(
        &self,
        name: &str,
        server: &str,
        origin: &str,
    ) -> Result<Option<Credential>, ImageError> {
        let question = helper::Question {
            name,
            server,
            origin,
            path: self.helper_path.as_deref(),
        };
        question.ask(helper::TIMEOUT).await
    }

    async fn find_in_files(
        &self,
        actual: &Reference,
        looked: &mut Vec<String>,
    ) -> Result<Option<(Credential, String)>, ImageError> {
        for source in &self.files {
            let entry = match source {
                Source::Read(path, document) => document.find(path, actual)?,
                Source::File(file) => {
                    let (file, actual) = (file.clone(), actual.clone());
                    blocking(move || match file.read()? {
                        Some(document) => document.find(&file.path, &actual),
                        None => Ok(None),
                    })
                    .await?
                }
            };
            let path = match source {
                Source::Read(path, _) => path,
                Source::File(file) => &file.path,
            };
            let path = path.display().to_string();
            match entry {
                Some(Entry::Known { key, credential }) => {
                    return Ok(Some((credential, format!("{key:?} in {path}"))));
                }
                Some(Entry::Helper { name, server }) => {
                    let found = self.ask(&name, &server, &path).await?;
                    let origin = format!("credential helper {name} of {path}");
                    if let Some(credential) = found {
                        return Ok(Some((credential, origin)));
                    }
                    looked.push(origin);
                }
                None => looked.push(path),
            }
        }
        Ok(None)
    }
}
