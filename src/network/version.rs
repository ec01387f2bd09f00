//! Versions of the CNI specification.

use std::{fmt, str::FromStr};

/// A version such as `1.1.0`. Missing parts are 0, as libcni reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CniVersion(u16, u16, u16);

impl CniVersion {
    /// What a configuration without `cniVersion` means.
    pub(super) const ASSUMED: Self = Self(0, 1, 0);
    /// The first whose results list interfaces and several addresses.
    pub(super) const WITH_INTERFACES: Self = Self(0, 3, 0);
    /// The first that hands the cached result to DEL.
    pub(super) const WITH_RESULT_ON_DEL: Self = Self(0, 4, 0);
    /// The first whose addresses carry no IP version; results keep this form since.
    pub(super) const V1: Self = Self(1, 0, 0);
    /// The first with STATUS and GC.
    pub(super) const WITH_STATUS_AND_GC: Self = Self(1, 1, 0);
    /// The newest that we speak.
    pub(super) const NEWEST: Self = Self(1, 1, 0);
}

impl FromStr for CniVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a CNI version such as {:?}", "1.0.0");
        let mut parts = text.split('.').map(|p| {
            // `parse` alone would take "+1".
            if p.starts_with('+') {
                Err(bad())
            } else {
                p.parse().map_err(|_| bad())
            }
        });
        let version = Self(
            parts.next().ok_or_else(bad)??,
            parts.next().unwrap_or(Ok(0))?,
            parts.next().unwrap_or(Ok(0))?,
        );
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(version)
        }
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        let v = |s: &str| s.parse::<CniVersion>().unwrap();
        assert!(v("0.10.0") > v("0.4.0"));
        assert_eq!(v("1.0"), CniVersion::V1);
        assert_eq!(v("1.1.0").to_string(), "1.1.0");
        for bad in ["", "one", "1.0.0.0", "1..0", "+1.0.0", "-1", "1.0.99999"] {
            assert!(bad.parse::<CniVersion>().is_err(), "{bad:?}");
        }
    }
}
