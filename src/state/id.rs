//! The identity of a sandbox or a container.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// 64 lower-case hexadecimal digits, chosen at random when the object is made.
///
/// Every kernel object and file of a pod or container has a name that is a function of its id, and
/// CNI, cAdvisor and the kubelet's cgroup parser all require exactly this form. A pod's pause
/// container has the pod's id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(Arc<str>);

/// A text that is not 64 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an id: 64 lower-case hexadecimal digits are expected")]
pub struct InvalidId(String);

impl Id {
    /// Length of an id in characters.
    pub const LENGTH: usize = 64;

    /// A new id from the kernel's random number generator.
    pub fn random() -> Self {
        let mut bytes = [0u8; Self::LENGTH / 2];
        let mut filled = 0;
        while filled < bytes.len() {
            // An interrupted call is the only error that the kernel documents for valid arguments.
            filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
        }
        Self(hex::encode(bytes).into())
    }

    /// The whole id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: what people read and type.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = text.len() == Self::LENGTH
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for Id {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_valid_and_differ() {
        let (one, other) = (Id::random(), Id::random());
        assert_eq!(one.as_str().parse::<Id>().unwrap(), one);
        assert_ne!(one, other);
    }

    #[test]
    fn only_64_lower_case_hex_digits_are_an_id() {
        for bad in [
            "",
            "abc",
            &"A".repeat(64),
            &"g".repeat(64),
            &"0".repeat(65),
            &"../".repeat(22),
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
    }
}
