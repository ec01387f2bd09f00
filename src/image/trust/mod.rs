//! Trust: whether policy.json accepts an image before a byte of it is kept.
//!
//! The file is read for every pull and every load, so an edit needs no reload. Signatures are not
//! verified by this build: a requirement that needs them refuses the image.

mod policy;
mod sigstore;

use std::path::Path;

use super::error::ImageError;
use super::reference::Reference;
use super::registries::read_bounded;
use policy::{Policy, Requirement};

/// Where an image comes from, as policy.json's `transports` names it.
#[derive(Debug, Clone)]
pub enum Origin<'a> {
    /// A registry; `docker` in the file.
    Registry(&'a Reference),
    /// An OCI layout directory; `oci` in the file, scoped by path.
    OciLayout(&'a Path),
    /// An OCI layout in a tar; `oci-archive` in the file, scoped by path.
    OciArchive(&'a Path),
    /// `docker save`'s tar; `docker-archive` in the file, without scopes.
    DockerArchive(&'a Path),
}

impl std::fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Registry(reference) => reference.fmt(f),
            Origin::OciLayout(path) | Origin::OciArchive(path) | Origin::DockerArchive(path) => {
                path.display().fmt(f)
            }
        }
    }
}

/// Whether the policy in `file` accepts an image from `origin`. Blocking, but small and local.
pub fn check(file: &Path, origin: &Origin<'_>) -> Result<(), ImageError> {
    let Some(text) = read_bounded(file)? else {
        return Err(ImageError::PolicyMissing {
            path: file.to_owned(),
        });
    };
    let policy = Policy::parse(&text).map_err(|reason| ImageError::Config {
        path: file.to_owned(),
        reason,
    })?;
    let (transport, scopes) = scopes(origin);
    let (scope, requirements) = policy.requirements(transport, &scopes);
    let refuse = |reason: String| {
        Err(ImageError::Rejected {
            reference: origin.to_string(),
            reason,
        })
    };
    // every requirement of the list must be met
    for requirement in requirements {
        match requirement {
            Requirement::InsecureAcceptAnything => {}
            Requirement::Reject => {
                return refuse(format!("rejected by {} scope {scope}", file.display()));
            }
            Requirement::Unsupported(kind) => {
                return refuse(format!(
                    "requirement type {kind} in {} scope {scope} is not supported yet by this build",
                    file.display()
                ));
            }
        }
    }
    Ok(())
}

/// The transport and the scopes to look for, closest first (containers-policy.json(5)).
fn scopes(origin: &Origin<'_>) -> (&'static str, Vec<String>) {
    match origin {
        Origin::Registry(reference) => ("docker", registry_scopes(reference)),
        Origin::OciLayout(path) => ("oci", path_scopes(path)),
        Origin::OciArchive(path) => ("oci-archive", path_scopes(path)),
        Origin::DockerArchive(_) => ("docker-archive", Vec::new()),
    }
}

fn registry_scopes(reference: &Reference) -> Vec<String> {
    let name = reference.name();
    let identity = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => format!("{name}@{digest}"),
        (None, Some(tag)) => format!("{name}:{tag}"),
        (None, None) => format!("{name}:latest"),
    };
    let mut scopes = vec![identity];
    let mut parent = name.as_str();
    scopes.push(parent.to_owned());
    while let Some((shorter, _)) = parent.rsplit_once('/') {
        scopes.push(shorter.to_owned());
        parent = shorter;
    }
    // `*.domain` of the host without its port, longest first
    let mut host = parent.split(':').next().unwrap_or(parent);
    while let Some((_, domain)) = host.split_once('.') {
        scopes.push(format!("*.{domain}"));
        host = domain;
    }
    scopes
}

fn path_scopes(path: &Path) -> Vec<String> {
    let ancestors = path
        .ancestors()
        .filter(|ancestor| *ancestor != Path::new("/"));
    ancestors
        .map(|ancestor| ancestor.display().to_string())
        .collect()
}

#[cfg(test)]
mod tests;
