//! What a pod's author asks the daemon itself for by annotations: CRI-O's, by CRI-O's rules. Each is
//! looked for among the annotations as a container sees them ([`super::effective`]), so one that is not
//! allowed is not there.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::allowed::{CGROUP_RW, SHM_SIZE, SKIP_LABEL, UMASK, UNIFIED, USERNS};
use crate::spec::error::SpecError;

type Annotations = BTreeMap<String, String>;

/// The annotation of one of these names, the newer one first: it wins.
fn named<'a>(annotations: &'a Annotations, keys: &[String]) -> Option<(&'a str, &'a str)> {
    let found = keys.iter().find_map(|key| annotations.get_key_value(key));
    found.map(|(key, value)| (key.as_str(), value.as_str()))
}

fn plain<'a>(
    annotations: &'a Annotations,
    (name, older): (&str, &str),
) -> Option<(&'a str, &'a str)> {
    named(annotations, &[name.to_owned(), older.to_owned()])
}

fn invalid(key: &str, problem: String) -> SpecError {
    SpecError::invalid(format!("annotation {key}"), problem)
}

/// The size of the pod's /dev/shm, in bytes; `None`: the usual one.
///
/// # Errors
/// When it is not a quantity of Kubernetes, or none at all.
pub fn shm_bytes(annotations: &Annotations) -> Result<Option<u64>, SpecError> {
    let Some((key, text)) = plain(annotations, SHM_SIZE) else {
        return Ok(None);
    };
    match bytes(text) {
        Some(bytes) if bytes > 0 => Ok(Some(bytes)),
        _ => Err(invalid(
            key,
            format!("`{}` is not a size such as 64Mi or 1G", text.escape_debug()),
        )),
    }
}

/// Kubernetes' quantities, of those that make sense for bytes: no thousandths. What is left of a byte
/// is a byte.
fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u128); 12] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
    ];
    let unit = UNITS.iter().find_map(|(unit, factor)| {
        let number = text.strip_suffix(unit)?;
        Some((number, *factor))
    });
    let (number, factor) = unit.unwrap_or((text, 1));
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = [whole, part].concat();
    // More digits than these are no size of memory, and fewer cannot overflow below.
    let short = !digits.is_empty() && digits.len() <= 18;
    if !short || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let bytes = (digits.parse::<u128>().ok()? * factor).div_ceil(scale);
    // tmpfs counts in a signed number
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// The umask of a container's first process; `None`: the usual one.
///
/// # Errors
/// When it is not one to four octal digits.
pub fn umask(annotations: &Annotations) -> Result<Option<u32>, SpecError> {
    let Some((key, text)) = plain(annotations, UMASK).filter(|(_, text)| !text.is_empty()) else {
        return Ok(None);
    };
    let octal = text.len() <= 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(umask) if octal => Ok(Some(umask)),
        _ => Err(invalid(
            key,
            format!(
                "`{}` is not one to four octal digits such as 027",
                text.escape_debug()
            ),
        )),
    }
}

/// The files of cgroup v2 that a container of this name gets values in: `memory.high=1G;…`, whose
/// values may be in base64.
///
/// # Errors
/// When a part has no `=`.
pub fn unified(
    annotations: &Annotations,
    container: &str,
) -> Result<BTreeMap<String, String>, SpecError> {
    let (name, older) = UNIFIED;
    // CRI-O's form with a slash is the newer one.
    let keys = ['/', '.'].map(|sign| [name, older].map(|name| format!("{name}{sign}{container}")));
    let Some((key, text)) = named(annotations, keys.as_flattened()) else {
        return Ok(BTreeMap::new());
    };
    let mut files = BTreeMap::new();
    for part in text.split(';').filter(|_| !text.is_empty()) {
        let Some((file, value)) = part.split_once('=') else {
            let problem = format!("`{}` is not FILE=VALUE", part.escape_debug());
            return Err(invalid(key, problem));
        };
        files.insert(file.to_owned(), decoded(value));
    }
    Ok(files)
}

/// What stands in base64 there, or the text itself: `10000000` would decode too, but to no text.
fn decoded(value: &str) -> String {
    let bytes = STANDARD.decode(value).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let shown = |c: char| c.is_ascii_graphic() || c.is_ascii_whitespace();
    text.filter(|text| text.chars().all(shown))
        .unwrap_or_else(|| value.to_owned())
}

/// Whether containers may write to their cgroups, where the node has v2.
pub fn cgroup_rw(annotations: &Annotations) -> bool {
    is_true(annotations, CGROUP_RW)
}

/// Whether a volume whose top directory has its label already is taken for labelled.
pub fn skips_labelled(annotations: &Annotations) -> bool {
    is_true(annotations, SKIP_LABEL)
}

fn is_true(annotations: &Annotations, names: (&str, &str)) -> bool {
    plain(annotations, names).is_some_and(|(_, value)| value == "true")
}

/// Sees that a pod without a user namespace does not ask for one by annotation: it would run as the
/// node's root without a word.
///
/// # Errors
/// When it does.
pub fn check_userns(annotations: &Annotations) -> Result<(), SpecError> {
    match plain(annotations, USERNS) {
        None | Some((_, "" | "host")) => Ok(()),
        Some((key, mode)) => Err(invalid(
            key,
            format!(
                "`{}`: this version gives a user namespace to pods with hostUsers: false alone; set \
                 that and remove the annotation",
                mode.escape_debug()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::map;
    use super::*;

    #[test]
    fn the_size_of_shared_memory_is_a_quantity() {
        for (text, want) in [
            ("64Mi", Some(64 << 20)),
            ("1G", Some(1_000_000_000)),
            ("1.5Gi", Some(3 << 29)),
            ("65536k", Some(65_536_000)),
            ("12345", Some(12_345)),
            ("0.1", Some(1)),
            ("7Ei", Some(7 << 60)),
            ("8Ei", None),
            ("99999999999999999E", None),
            ("0", None),
            ("", None),
            ("Mi", None),
            (".", None),
            ("-1Mi", None),
            ("100m", None),
            ("64MiB", None),
            ("1,size=9", None),
            ("1234567890123456789012", None),
        ] {
            for key in ["shm-size.crio.io", "io.kubernetes.cri-o.ShmSize"] {
                let got = shm_bytes(&map(&[(key, text)]));
                match want {
                    Some(bytes) => assert_eq!(got.unwrap(), Some(bytes), "{text}"),
                    None => assert!(got.unwrap_err().to_string().contains(key), "{text}"),
                }
            }
        }
        assert_eq!(shm_bytes(&map(&[])).unwrap(), None);
        let both = map(&[
            ("shm-size.crio.io", "1Mi"),
            ("io.kubernetes.cri-o.ShmSize", "x"),
        ]);
        assert_eq!(shm_bytes(&both).unwrap(), Some(1 << 20));
    }

    #[test]
    fn an_umask_has_one_to_four_octal_digits() {
        for (text, want) in [
            ("0", Some(0)),
            ("27", Some(0o27)),
            ("0077", Some(0o77)),
            ("", None),
        ] {
            assert_eq!(umask(&map(&[("umask.crio.io", text)])).unwrap(), want);
        }
        for text in ["8", "00022", "+22", "0o22", "-1", "2 "] {
            let said = umask(&map(&[("io.kubernetes.cri-o.umask", text)])).unwrap_err();
            let said = said.to_string();
            assert!(
                said.starts_with("annotation io.kubernetes.cri-o.umask: "),
                "{said}"
            );
        }
    }

    #[test]
    fn files_of_cgroup_v2_are_for_the_container_of_the_name() {
        let text = "memory.max=1000000;memory.min=MTAwMDA=;memory.low=10000000;memory.high=a=b";
        let want = map(&[
            ("memory.max", "1000000"),
            ("memory.min", "10000"),
            // is base64 as well, of no text
            ("memory.low", "10000000"),
            ("memory.high", "a=b"),
        ]);
        for key in [
            "unified-cgroup.crio.io/web",
            "unified-cgroup.crio.io.web",
            "io.kubernetes.cri-o.UnifiedCgroup/web",
            "io.kubernetes.cri-o.UnifiedCgroup.web",
        ] {
            let annotations = map(&[(key, text)]);
            assert_eq!(unified(&annotations, "web").unwrap(), want, "{key}");
            assert!(unified(&annotations, "other").unwrap().is_empty());
        }
        let said = unified(&map(&[("unified-cgroup.crio.io/web", "memory.max")]), "web");
        assert!(said.unwrap_err().to_string().contains("is not FILE=VALUE"));
        assert!(
            unified(&map(&[("unified-cgroup.crio.io/web", "")]), "web")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_user_namespace_by_annotation_is_refused() {
        for (mode, fine) in [
            ("host", true),
            ("", true),
            ("auto", false),
            ("auto:size=9", false),
        ] {
            let checked = check_userns(&map(&[("io.kubernetes.cri-o.userns-mode", mode)]));
            match checked {
                Ok(()) => assert!(fine, "{mode}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!fine && error.contains("hostUsers: false"), "{error}");
                }
            }
        }
    }
}
