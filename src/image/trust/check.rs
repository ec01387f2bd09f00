//! What is wrong with the files of trust before an image asks: for `cricket config --check`.

use std::path::{Path, PathBuf};

use super::Trust;
use super::registries_d::RegistriesD;
use crate::image::error::ImageError;

/// Policies of namespaces that are looked at.
const MAX_POLICIES: usize = 4096;

impl Trust {
    /// What a person should look at, each in one line with its file. Blocks.
    pub fn check(&self) -> Vec<String> {
        let settings = self.settings();
        let mut found = Vec::new();
        match self.policy_troubles(&settings.policy) {
            Ok(Some(troubles)) => found.extend(troubles),
            Ok(None) => {
                let path = settings.policy.clone();
                found.push(ImageError::PolicyMissing { path }.to_string());
            }
            Err(error) => found.push(error.to_string()),
        }
        if let Some(directory) = &settings.namespaces {
            self.check_namespaces(directory, &mut found);
        }
        if let Err(error) = RegistriesD::load(&settings.registries_d) {
            found.push(error.to_string());
        }
        found
    }

    /// What in one policy no image can meet because of its files; `None`: it is not there.
    fn policy_troubles(&self, path: &Path) -> Result<Option<Vec<String>>, ImageError> {
        let policy = self.cache.policy(path)?;
        let troubles = |(place, reason)| format!("{}: {place}: {reason}", path.display());
        Ok(policy.map(|policy| policy.troubles().into_iter().map(troubles).collect()))
    }

    fn check_namespaces(&self, directory: &Path, found: &mut Vec<String>) {
        let paths = match policies(directory) {
            Ok(paths) => paths,
            Err(error) => return found.push(format!("{}: {error}", directory.display())),
        };
        for path in paths {
            let namespace = path.file_stem().and_then(|stem| stem.to_str());
            if namespace.and_then(|name| self.namespaced(name)).as_ref() != Some(&path) {
                let fault = "is the policy of no namespace: its name must be NAMESPACE.json";
                found.push(format!("{}: {fault}", path.display()));
                continue;
            }
            match self.policy_troubles(&path) {
                Ok(troubles) => found.extend(troubles.into_iter().flatten()),
                Err(error) => found.push(error.to_string()),
            }
        }
    }
}

/// The files of the directory; none where it is not there.
fn policies(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| error.to_string())?.path());
        if paths.len() > MAX_POLICIES {
            return Err(format!("more than {MAX_POLICIES} files"));
        }
    }
    paths.sort();
    Ok(paths)
}
