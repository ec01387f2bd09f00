//! A pod's traffic limits: from its annotations to the `bandwidth` capability.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Annotation with the limit towards the pod.
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
/// Annotation with the limit from the pod.
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// The least and the most bits per second that Kubernetes accepts: 1k and 1P.
const RANGE: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;

/// Bits that may be sent at once. The bandwidth plugin refuses bursts from 4 GiB on, so this is
/// its largest, and the one CRI-O uses.
const BURST: u64 = (u32::MAX as u64) * 8 - 1;

/// Traffic limits in bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Towards the pod.
    pub ingress: Option<u64>,
    /// From the pod.
    pub egress: Option<u64>,
}

/// An annotation that is not a bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {annotation}: {value:?} is not a bandwidth between 1k and 1P bits per second, such as 10M"
)]
pub struct NotABandwidth {
    /// The annotation's name.
    pub annotation: &'static str,
    /// Its value.
    pub value: String,
}

impl Bandwidth {
    /// Reads the two annotations. The values are Kubernetes quantities in bits per second.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, NotABandwidth> {
        let read = |annotation: &'static str| {
            let Some(value) = annotations.get(annotation) else {
                return Ok(None);
            };
            parse_quantity(value)
                .filter(|bits| RANGE.contains(bits))
                .map(Some)
                .ok_or_else(|| NotABandwidth {
                    annotation,
                    value: value.clone(),
                })
        };
        Ok(Self {
            ingress: read(INGRESS)?,
            egress: read(EGRESS)?,
        })
    }

    /// The capability argument; `None` when there is no limit.
    pub(super) fn to_json(self) -> Option<Value> {
        let mut limits = Map::new();
        for (rate_key, burst_key, rate) in [
            ("ingressRate", "ingressBurst", self.ingress),
            ("egressRate", "egressBurst", self.egress),
        ] {
            if let Some(rate) = rate {
                limits.insert(rate_key.into(), rate.into());
                limits.insert(burst_key.into(), BURST.into());
            }
        }
        (!limits.is_empty()).then_some(Value::Object(limits))
    }
}

/// A Kubernetes quantity as a whole number, rounded up. Only what makes sense for a bandwidth:
/// no negative numbers, no exponents.
fn parse_quantity(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let scale: u128 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // 18 digits keep every product below u128's end.
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 18 || fraction.len() > 18 {
        return None;
    }
    let digits = |s: &str| {
        if s.is_empty() {
            Some(0)
        } else {
            s.parse::<u128>().ok()
        }
    };
    let unit = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let scaled = (digits(whole)? * unit + digits(fraction)?) * scale;
    u64::try_from(scaled.div_ceil(unit)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, bits) in [
            ("1k", Some(1_000)),
            ("10M", Some(10_000_000)),
            ("1.5M", Some(1_500_000)),
            ("1Mi", Some(1 << 20)),
            ("0.5G", Some(500_000_000)),
            ("1000", Some(1_000)),
            ("1P", Some(1_000_000_000_000_000)),
            ("", None),
            ("M", None),
            (".", None),
            ("1.2.3M", None),
            ("-1M", None),
            ("1m", None),
            ("1e6", None),
            ("1 M", None),
            ("9999999999999999999999", None),
        ] {
            assert_eq!(parse_quantity(text), bits, "{text:?}");
        }
    }

    #[test]
    fn a_limit_out_of_range_is_refused_by_name() {
        for value in ["999", "2P", "fast"] {
            let annotations = BTreeMap::from([(EGRESS.to_owned(), value.to_owned())]);
            let error = Bandwidth::from_annotations(&annotations)
                .unwrap_err()
                .to_string();
            assert!(error.contains(EGRESS) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn both_directions_are_independent() {
        let annotations = BTreeMap::from([(INGRESS.to_owned(), "1M".to_owned())]);
        let bandwidth = Bandwidth::from_annotations(&annotations).unwrap();
        assert_eq!(
            bandwidth,
            Bandwidth {
                ingress: Some(1_000_000),
                egress: None
            }
        );
        assert_eq!(Bandwidth::default().to_json(), None);
    }
}
