//! registries.conf: which registries a reference may mean and where its bytes are fetched.
//!
//! Reads the file and its drop-ins (containers-registries.conf(5), version 2), answers two
//! questions: [`Registries::candidates`], the full references a text may stand for, and
//! [`Registries::endpoints`], the places to ask for one, mirrors first. `current` says which reading
//! of the files counts now. Talks to no registry.

mod current;
mod keys;
mod parse;
mod stamp;
mod watch;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use current::{Current, State};
pub use parse::ShortNameMode;
use parse::{File, PullFromMirror, Registry};

use super::error::ImageError;
use super::reference::{Name, Reference};

/// Largest configuration file of this room that is read.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// Most files in the directory of drop-ins.
const MAX_DROP_INS: usize = 512;

/// Where registries.conf and its drop-ins are, and what crio.conf says beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The main file; it may be missing.
    pub file: PathBuf,
    /// `*.conf` here override it, in the order of their names; it may be missing.
    pub drop_ins: PathBuf,
    /// Aliases that podman has written down for the names it was asked for; they stand above those of
    /// the other files. It may be missing.
    pub alias_cache: PathBuf,
    /// crio.conf's `short_name_mode`, which stands above the files' own.
    pub short_name_mode: Option<ShortNameMode>,
    /// crio.conf's `registries` of old: searched where the files name no registry to search.
    pub search: Vec<String>,
    /// Whether a change of the files counts at once; otherwise when it is asked for.
    pub on_change: bool,
}

impl Sources {
    /// The field's usual files, whose changes count at once.
    pub fn usual() -> Sources {
        Sources {
            file: "/etc/containers/registries.conf".into(),
            drop_ins: "/etc/containers/registries.conf.d".into(),
            alias_cache: "/var/cache/containers/short-name-aliases.conf".into(),
            short_name_mode: None,
            search: Vec::new(),
            on_change: true,
        }
    }
}

/// What the files say together.
#[derive(Debug)]
pub struct Registries {
    search: Vec<String>,
    mode: ShortNameMode,
    aliases: BTreeMap<String, String>,
    /// Of the cache, above the others; when it cannot be read, no short name is resolved.
    cached_aliases: Result<BTreeMap<String, String>, ImageError>,
    /// By prefix.
    registries: BTreeMap<String, Registry>,
    credential_helpers: Vec<String>,
    file: PathBuf,
    warnings: Vec<String>,
}

/// One place to fetch a reference from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The reference as this place knows it.
    pub reference: Reference,
    /// TLS certificates are not checked, and plain HTTP is tried where HTTPS fails.
    pub insecure: bool,
    /// A mirror: credentials that the caller gave for the registry are not for it.
    pub mirror: bool,
}

impl Registries {
    /// What no file at all says.
    pub fn empty(sources: &Sources) -> Registries {
        Registries {
            search: Vec::new(),
            // of the files; what crio.conf says, or leaves at its default, stands above it
            mode: ShortNameMode::Permissive,
            aliases: BTreeMap::new(),
            cached_aliases: Ok(BTreeMap::new()),
            registries: BTreeMap::new(),
            credential_helpers: Vec::new(),
            file: sources.file.clone(),
            warnings: Vec::new(),
        }
    }

    /// Reads the files. Blocking, but small and local.
    pub fn load(sources: &Sources) -> Result<Registries, ImageError> {
        let mut registries = Registries::empty(sources);
        let mut paths = vec![sources.file.clone()];
        paths.extend(drop_ins(&sources.drop_ins)?);
        for path in paths {
            if let Some(text) = read_bounded(&path)? {
                registries.merge(parse::parse(&text, &path)?, &path);
            }
        }
        registries.cached_aliases = cached_aliases(&sources.alias_cache);
        if let Some(mode) = sources.short_name_mode {
            registries.mode = mode;
        }
        if registries.search.is_empty() {
            for host in &sources.search {
                parse::check_search(host).map_err(|reason| ImageError::Config {
                    path: "crio.conf".into(),
                    reason: format!("registries: {reason}"),
                })?;
            }
            registries.search.clone_from(&sources.search);
        }
        Ok(registries)
    }

    /// A later file wins: lists and tables of the same prefix are replaced, aliases are added.
    fn merge(&mut self, file: File, path: &Path) {
        if let Some(search) = file.search {
            self.search = search;
        }
        if let Some(mode) = file.mode {
            self.mode = mode;
        }
        if let Some(helpers) = file.credential_helpers {
            self.credential_helpers = helpers;
        }
        self.aliases.extend(file.aliases);
        for registry in file.registries {
            self.registries.insert(registry.prefix.clone(), registry);
        }
        let told = file.warnings.into_iter();
        self.warnings
            .extend(told.map(|warning| format!("{}: {warning}", path.display())));
    }

    /// What in the files means nothing, each in one line with its place.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Why podman's aliases, and with them short names, cannot be used.
    pub fn alias_trouble(&self) -> Option<&ImageError> {
        self.cached_aliases.as_ref().err()
    }

    /// The full name that a short one is an alias of.
    fn alias(&self, short: &str) -> Result<Option<&str>, ImageError> {
        let cached = self.cached_aliases.as_ref().map_err(Clone::clone)?;
        let found = cached.get(short).or_else(|| self.aliases.get(short));
        // an empty name is one that was taken away
        Ok(found.map(String::as_str).filter(|name| !name.is_empty()))
    }

    /// Who is asked for credentials, in order; empty: the auth files only.
    pub fn credential_helpers(&self) -> &[String] {
        &self.credential_helpers
    }

    /// The references to try for a pull of `text`, in order; never empty.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>, ImageError> {
        let short = match Name::parse(text)? {
            Name::Full(reference) => return Ok(vec![reference.or_latest()]),
            Name::Short(short) => short,
        };
        let fail = |reason: String| ImageError::ShortName {
            reference: text.to_owned(),
            reason,
        };
        if let Some(name) = self.alias(&short.path)? {
            return Ok(vec![short.with_name(name)?.or_latest()]);
        }
        let file = self.file.display();
        if self.search.is_empty() {
            return Err(fail(format!(
                "the name has no registry; write it in full, or set unqualified-search-registries \
                 = [\"docker.io\"] or an alias in {file}"
            )));
        }
        if self.search.len() > 1 && self.mode == ShortNameMode::Enforcing {
            return Err(fail(format!(
                "the name has no registry and {} search registries may have it; write it in full, \
                 add an alias for it in {file}, or set short-name-mode = \"disabled\"",
                self.search.len()
            )));
        }
        self.search
            .iter()
            .map(|host| Ok(short.at(host)?.or_latest()))
            .collect()
    }

    /// The references that a *stored* image may have been meant by `text`: lenient, so that a
    /// status call finds what any earlier configuration pulled.
    pub fn stored_candidates(&self, text: &str) -> Vec<Reference> {
        let Ok(Name::Short(short)) = Name::parse(text) else {
            return Reference::from_str(text)
                .map(Reference::or_latest)
                .into_iter()
                .collect();
        };
        let alias = self.alias(&short.path).ok().flatten();
        let alias = alias.and_then(|name| short.with_name(name).ok());
        let hosts = self
            .search
            .iter()
            .map(String::as_str)
            .chain(["docker.io", "localhost"]);
        let searched = hosts.filter_map(|host| short.at(host).ok());
        alias
            .into_iter()
            .chain(searched)
            .map(Reference::or_latest)
            .collect()
    }

    /// Where to fetch `reference`: mirrors in the order written, then the registry itself. What is
    /// blocked is left out: of a blocked registry its mirrors remain, which is how a node is kept to
    /// them (OpenShift's `NeverContactSource`).
    ///
    /// # Errors
    /// When nothing remains.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, ImageError> {
        let own = |insecure| Endpoint {
            reference: reference.clone(),
            insecure,
            mirror: false,
        };
        let Some((registry, matched)) = self.find(reference) else {
            return Ok(vec![own(false)]);
        };
        let mut endpoints = Vec::new();
        let by_digest = reference.digest.is_some();
        for mirror in &registry.mirrors {
            let wanted = match mirror.pulls {
                PullFromMirror::All => by_digest || !registry.mirror_by_digest_only,
                PullFromMirror::DigestOnly => by_digest,
                PullFromMirror::TagOnly => !by_digest,
            };
            if wanted {
                let reference = rewrite(reference, matched, &mirror.location)?;
                endpoints.push(Endpoint {
                    reference,
                    insecure: mirror.insecure,
                    mirror: true,
                });
            }
        }
        endpoints.push(match registry.location.as_str() {
            "" => own(registry.insecure),
            location => Endpoint {
                reference: rewrite(reference, matched, location)?,
                insecure: registry.insecure,
                mirror: false,
            },
        });
        self.unblocked(reference, registry, endpoints)
    }

    /// Without those that are blocked where they lead to, and without a blocked registry itself.
    fn unblocked(
        &self,
        reference: &Reference,
        registry: &Registry,
        mut endpoints: Vec<Endpoint>,
    ) -> Result<Vec<Endpoint>, ImageError> {
        let mut blocker = None;
        endpoints.retain(|endpoint| {
            let asked = Some(registry).filter(|registry| registry.blocked && !endpoint.mirror);
            let there = self.find(&endpoint.reference).map(|(there, _)| there);
            let found = asked.or(there.filter(|there| there.blocked));
            blocker = blocker.or(found);
            found.is_none()
        });
        match blocker {
            Some(blocker) if endpoints.is_empty() => Err(ImageError::Blocked {
                reference: reference.to_string(),
                prefix: blocker.prefix.clone(),
            }),
            Some(_) | None => Ok(endpoints),
        }
    }

    /// The table whose prefix fits best, and how many bytes of the reference it covers. Of two of
    /// the same length the first in their order counts, so `*.a.io` before `b.a.io`: containers/image's
    /// rule.
    fn find(&self, reference: &Reference) -> Option<(&Registry, usize)> {
        let text = reference.to_string();
        let matches = self.registries.values().filter_map(|registry| {
            let covered = covered(&registry.prefix, &text, &reference.registry)?;
            Some((registry, covered))
        });
        matches.reduce(
            |best, next| match next.0.prefix.len() > best.0.prefix.len() {
                true => next,
                false => best,
            },
        )
    }
}

/// Bytes of `text` that `prefix` covers, if it matches at a component's end.
fn covered(prefix: &str, text: &str, host: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        // the port is not covered, and so stays when the host is replaced
        let name = host.split(':').next().unwrap_or(host);
        return (name.len() > domain.len() && name.ends_with(domain)).then_some(name.len());
    }
    let rest = text.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(prefix.len())
}

/// What podman remembers of short names: nothing but aliases.
fn cached_aliases(path: &Path) -> Result<BTreeMap<String, String>, ImageError> {
    match read_bounded(path)? {
        Some(text) => Ok(parse::parse(&text, path)?.aliases),
        None => Ok(BTreeMap::new()),
    }
}

fn rewrite(reference: &Reference, matched: usize, location: &str) -> Result<Reference, ImageError> {
    let text = format!("{location}{}", &reference.to_string()[matched..]);
    match Name::parse(&text)? {
        Name::Full(rewritten) => Ok(rewritten),
        // `location = "registry"`: a host without a dot is still the host here
        Name::Short(_) => Err(ImageError::Reference {
            reference: text,
            reason: format!("location {location:?} in registries.conf does not start with a host"),
        }),
    }
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let fail = |error: std::io::Error| ImageError::Config {
        path: directory.to_owned(),
        reason: error.to_string(),
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            if paths.len() == MAX_DROP_INS {
                return Err(ImageError::Config {
                    path: directory.to_owned(),
                    reason: format!("more than {MAX_DROP_INS} drop-in files"),
                });
            }
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads a configuration file of this room; `None` when there is none.
pub fn read_bounded(path: &Path) -> Result<Option<String>, ImageError> {
    let fail = |reason: String| ImageError::Config {
        path: path.to_owned(),
        reason,
    };
    // without O_NONBLOCK the open of a pipe would wait for a writer
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error.to_string())),
    };
    let kind = file.metadata().map_err(|error| fail(error.to_string()))?;
    if !kind.is_file() {
        // a link to it is how a file is masked
        return match path
            .canonicalize()
            .is_ok_and(|at| at == Path::new("/dev/null"))
        {
            true => Ok(None),
            false => Err(fail("not a regular file".to_owned())),
        };
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| fail(error.to_string()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(fail(format!(
            "larger than the limit of {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod agreement_tests;
#[cfg(test)]
mod tests;
