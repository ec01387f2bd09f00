//! Where an image comes from, and under which scopes of policy.json and registries.d that is looked
//! for (containers-policy.json(5), containers-registries.d(5)).

use std::fmt;
use std::path::Path;

use crate::image::reference::Reference;

/// Where an image comes from, as policy.json's `transports` names it.
#[derive(Debug, Clone, Copy)]
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

impl Origin<'_> {
    /// The name of the transport.
    pub fn transport(&self) -> &'static str {
        match self {
            Origin::Registry(_) => "docker",
            Origin::OciLayout(_) => "oci",
            Origin::OciArchive(_) => "oci-archive",
            Origin::DockerArchive(_) => "docker-archive",
        }
    }

    /// The scopes to look for, closest first.
    pub fn scopes(&self) -> Vec<String> {
        match self {
            Origin::Registry(reference) => of_reference(reference),
            Origin::OciLayout(path) | Origin::OciArchive(path) => of_path(path),
            Origin::DockerArchive(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Registry(reference) => reference.fmt(f),
            Origin::OciLayout(path) | Origin::OciArchive(path) | Origin::DockerArchive(path) => {
                path.display().fmt(f)
            }
        }
    }
}

/// The reference itself, its repository, what is above that, and the domains of its host.
pub fn of_reference(reference: &Reference) -> Vec<String> {
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

fn of_path(path: &Path) -> Vec<String> {
    let ancestors = path
        .ancestors()
        .filter(|ancestor| *ancestor != Path::new("/"));
    ancestors
        .map(|ancestor| ancestor.display().to_string())
        .collect()
}
