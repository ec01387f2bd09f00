//! containers-registries.d(5): where the signatures of an image are.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::scope;
use super::strict::Fields;
use crate::image::error::ImageError;
use crate::image::reference::Reference;
use crate::image::registries::read_bounded;
use crate::yaml;

/// Files of the directory that are read.
const MAX_FILES: usize = 1000;

/// All files of the directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RegistriesD {
    default: Option<Place>,
    docker: BTreeMap<String, Place>,
}

/// What is said of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    lookaside: Option<String>,
    attachments: Option<bool>,
}

impl RegistriesD {
    /// Reads the `.yaml` files of a directory, in the order of their names. Blocking.
    ///
    /// # Errors
    /// When one cannot be read, or two speak of the same namespace.
    pub fn load(directory: &Path) -> Result<RegistriesD, ImageError> {
        let mut all = RegistriesD::default();
        for path in files(directory)? {
            let Some(text) = read_bounded(&path)? else {
                continue;
            };
            let file = parse(&text).and_then(|file| all.merge(file));
            file.map_err(|reason| ImageError::Config { path, reason })?;
        }
        Ok(all)
    }

    fn merge(&mut self, file: RegistriesD) -> Result<(), String> {
        if let Some(default) = file.default
            && self.default.replace(default).is_some()
        {
            return Err("default-docker is in an earlier file too".to_owned());
        }
        for (namespace, place) in file.docker {
            if self.docker.insert(namespace.clone(), place).is_some() {
                return Err(format!("docker: {namespace:?} is in an earlier file too"));
            }
        }
        Ok(())
    }

    /// The URL below which simple signatures of this repository are, if it is configured: the
    /// closest namespace that says something.
    pub fn lookaside(&self, reference: &Reference) -> Option<&str> {
        self.closest(reference, |place| place.lookaside.as_deref())
    }

    /// Whether sigstore attachments of this image are looked for.
    pub fn use_attachments(&self, reference: &Reference) -> bool {
        self.closest(reference, |place| place.attachments)
            .unwrap_or(false)
    }

    fn closest<'a, T>(
        &'a self,
        reference: &Reference,
        said: impl Fn(&'a Place) -> Option<T>,
    ) -> Option<T> {
        let scopes = scope::of_reference(reference);
        let places = scopes.iter().filter_map(|scope| self.docker.get(scope));
        places.chain(&self.default).find_map(said)
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let fail = |reason: String| ImageError::Config {
        path: directory.to_owned(),
        reason,
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error.to_string())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fail(error.to_string()))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(fail(format!("more than {MAX_FILES} files")));
        }
    }
    files.sort();
    Ok(files)
}

/// Keys that this does not know are passed over, as containers/image does it.
fn parse(text: &str) -> Result<RegistriesD, String> {
    // a file of comments alone says nothing
    let spoken = |line: &str| !matches!(line.trim_start().chars().next(), None | Some('#'));
    if !text.lines().any(spoken) {
        return Ok(RegistriesD::default());
    }
    let mut fields = Fields::of(yaml::parse(text)?, "file")?;
    let default = match fields.take("default-docker") {
        None | Some(Value::Null) => None,
        Some(value) => Some(place(value, "default-docker")?),
    };
    let mut docker = BTreeMap::new();
    if let Some(value) = fields.take("docker").filter(|value| !value.is_null()) {
        for (namespace, value) in Fields::of(value, "docker")?.rest() {
            let place = place(value, &format!("docker: {namespace}"))?;
            docker.insert(namespace, place);
        }
    }
    Ok(RegistriesD { default, docker })
}

fn place(value: Value, what: &str) -> Result<Place, String> {
    if value.is_null() {
        return Ok(Place::default());
    }
    let mut fields = Fields::of(value, what)?;
    let new = fields.text_if_given("lookaside")?;
    let old = fields.text_if_given("sigstore")?;
    let attachments = match fields.take("use-sigstore-attachments") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(wanted)) => Some(wanted),
        Some(_) => {
            return Err(format!(
                "{what}: use-sigstore-attachments must be true or false"
            ));
        }
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(Place {
        lookaside: given(new).or(given(old)),
        attachments,
    })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn load(files: &[(&str, &str)]) -> Result<RegistriesD, ImageError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        RegistriesD::load(dir.path())
    }

    #[test]
    fn the_closest_namespace_that_says_something_decides() {
        let config = load(&[
            (
                "10.yaml",
                "default-docker:\n  sigstore: file:///var/sigs\n  lookaside-staging: file:///w\n\
                 docker:\n  r.io:\n    lookaside: https://l/r\n    sigstore: https://old\n\
                 \x20 r.io/a:\n    use-sigstore-attachments: true\n",
            ),
            (
                "20.yaml",
                "# more\ndocker:\n  r.io/a/b:1:\n    lookaside: http://l/b\n  \
                 \"*.example.com\":\n    use-sigstore-attachments: true\n  nothing.io:\n",
            ),
            ("30.yaml", "# nothing\n"),
            ("notes.txt", "docker: ["),
        ])
        .unwrap();
        let table = [
            ("busybox", Some("file:///var/sigs"), false),
            ("nothing.io/x", Some("file:///var/sigs"), false),
            ("r.io/x", Some("https://l/r"), false),
            ("r.io/a/b:2", Some("https://l/r"), true),
            ("r.io/a/b:1", Some("http://l/b"), true),
            ("q.example.com/x", Some("file:///var/sigs"), true),
        ];
        for (reference, lookaside, attachments) in table {
            let parsed = Reference::from_str(reference).unwrap();
            assert_eq!(config.lookaside(&parsed), lookaside, "{reference}");
            assert_eq!(config.use_attachments(&parsed), attachments, "{reference}");
        }
    }

    #[test]
    fn what_contradicts_itself_or_is_no_yaml_is_an_error_that_names_the_file() {
        let place = "docker:\n  r.io:\n    lookaside: https://l\n";
        let default = "default-docker:\n  lookaside: https://l\n";
        for files in [
            &[("a.yaml", place), ("b.yaml", place)][..],
            &[("a.yaml", default), ("b.yaml", default)],
            &[("b.yaml", "docker: [a]\n")],
            &[("b.yaml", "docker:\n  r.io:\n    lookaside: [a]\n")],
            &[(
                "b.yaml",
                "docker:\n  r.io:\n    use-sigstore-attachments: maybe\n",
            )],
            &[("b.yaml", "docker: {")],
        ] {
            let error = load(files).unwrap_err().to_string();
            assert!(error.contains("b.yaml: "), "{error}");
        }
        let nowhere = RegistriesD::load(Path::new("/nonexistent/registries.d")).unwrap();
        assert_eq!(nowhere, RegistriesD::default());
    }
}
