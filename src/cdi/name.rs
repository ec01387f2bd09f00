//! Names of devices, and which ones a container asks for.

use std::collections::BTreeMap;

use super::CdiError;

/// Annotations that begin so carry device names, separated by commas.
const ANNOTATIONS: &str = "cdi.k8s.io/";
/// Most devices of one container; a node has some hundred device nodes.
const MAX_DEVICES: usize = 1024;
/// Longest name; vendor and class are domain names, in Kubernetes at most 253 bytes each.
const MAX_NAME_BYTES: usize = 1024;

/// A fully qualified device name, `vendor.com/class=name`, checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// Reads a name. The error says what is wrong, without the name.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_NAME_BYTES {
            return Err("it is too long");
        }
        let (kind, device) = text.split_once('=').ok_or("it has no `=`")?;
        check_kind(kind)?;
        check_device(device)?;
        Ok(Self(text.to_owned()))
    }

    /// The device of a kind (`vendor.com/class`), both checked before.
    pub(super) fn of(kind: &str, device: &str) -> Self {
        Self(format!("{kind}={device}"))
    }

    /// The name in full.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The devices that a container asks for: those of the CRI's field, then those of annotations;
/// each once.
///
/// # Errors
/// Names the field or annotation whose text is no device name.
pub fn requested(
    field: &[String],
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<DeviceName>, CdiError> {
    let in_field = field
        .iter()
        .enumerate()
        .map(|(index, name)| (format!("CDI_devices[{index}].name"), name.as_str()));
    let in_annotations = annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATIONS))
        .flat_map(|(key, value)| {
            let key = format!("annotations[{}]", shown(key));
            value.split(',').map(move |name| (key.clone(), name))
        });
    let mut seen = std::collections::HashSet::new();
    let mut names = Vec::new();
    for (field, text) in in_field.chain(in_annotations) {
        let name = DeviceName::parse(text).map_err(|problem| CdiError::Name {
            field,
            name: shown(text),
            problem,
        })?;
        if seen.insert(name.clone()) {
            names.push(name);
        }
        if names.len() > MAX_DEVICES {
            return Err(CdiError::TooMany {
                count: names.len(),
                max: MAX_DEVICES,
            });
        }
    }
    Ok(names)
}

/// Hostile text, for a message.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(128).collect();
    cut.escape_debug().to_string()
}

/// `vendor.com/class`.
pub(super) fn check_kind(kind: &str) -> Result<(), &'static str> {
    let (vendor, class) = kind
        .split_once('/')
        .ok_or("there is no `/` between vendor and class")?;
    word(vendor, "_-.", |first| first.is_ascii_alphabetic())
        .map_err(|()| "the vendor is not a name of letters, digits, `_`, `-` and `.`")?;
    word(class, "_-.", |first| first.is_ascii_alphabetic())
        .map_err(|()| "the class is not a name of letters, digits, `_`, `-` and `.`")
}

/// What stands after the `=`.
pub(super) fn check_device(name: &str) -> Result<(), &'static str> {
    word(name, "_-.:", |first| first.is_ascii_alphanumeric())
        .map_err(|()| "the device is not a name of letters, digits, `_`, `-`, `.` and `:`")
}

/// Begins as asked for, ends with a letter or digit, and between has these others too.
fn word(text: &str, others: &str, first: impl Fn(char) -> bool) -> Result<(), ()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    let ends = text.ends_with(|c: char| c.is_ascii_alphanumeric());
    match text.starts_with(first) && ends && text.chars().all(legal) {
        true => Ok(()),
        false => Err(()),
    }
}
