//! Capabilities: their names, sets of them, and the CRI's rules for adding and dropping.
//!
//! A set is one machine word, bit n for capability n (linux/capability.h). In JSON it is a list
//! of names. Reading the daemon's own sets is done here; giving them to a process is runc's part.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names in the kernel's order: the index is the capability's number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What can be wrong with capabilities.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// A name that is not in linux/capability.h.
    #[error("unknown capability `{name}`{}", hint(name))]
    Unknown {
        /// As it was given.
        name: String,
    },
    /// The daemon's own sets could not be read.
    #[error("capabilities of this process: {0}")]
    Read(#[source] caps::errors::CapsError),
}

fn hint(name: &str) -> String {
    let plain = plain(name);
    NAMES
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&plain, &known[4..]), known))
        .min()
        .filter(|(distance, known)| *distance <= 2 && *distance < known.len() - 6)
        .map(|(_, known)| format!(", did you mean `{known}`?"))
        .unwrap_or_default()
}

/// The name in upper case without `CAP_`. Bounded: a name longer than any real one is cut, so
/// that a hostile one costs nothing.
fn plain(name: &str) -> String {
    let upper: String = name
        .chars()
        .take(64)
        .collect::<String>()
        .to_ascii_uppercase();
    upper
        .strip_prefix("CAP_")
        .map(str::to_owned)
        .unwrap_or(upper)
}

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);
    /// Every capability this program knows.
    pub const ALL: CapSet = CapSet((1 << NAMES.len()) - 1);

    /// The set that holds the named capability alone: with or without `CAP_`, in any case.
    pub fn named(name: &str) -> Result<CapSet, CapabilityError> {
        let plain = plain(name);
        NAMES
            .iter()
            .position(|known| known[4..] == plain)
            .map(|number| CapSet(1 << number))
            .ok_or_else(|| CapabilityError::Unknown {
                name: name
                    .chars()
                    .take(64)
                    .collect::<String>()
                    .escape_debug()
                    .to_string(),
            })
    }

    /// The set of all the named capabilities. `ALL` is not a name here.
    pub fn of<S: AsRef<str>>(names: &[S]) -> Result<CapSet, CapabilityError> {
        names.iter().try_fold(CapSet::EMPTY, |set, name| {
            Ok(set.with(CapSet::named(name.as_ref())?))
        })
    }

    /// Both sets together.
    pub const fn with(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }

    /// This set without what is in the other.
    pub const fn without(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// What is in both.
    pub const fn within(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// Whether every capability of the other is in this one.
    pub const fn contains(self, other: CapSet) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether at least one capability is in both.
    pub const fn intersects(self, other: CapSet) -> bool {
        other.0 & self.0 != 0
    }

    /// Names with `CAP_`, in the kernel's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, n)| n)
    }

    /// The daemon's own bounding set: nothing outside it can be given to a container.
    pub fn own_bounding() -> Result<CapSet, CapabilityError> {
        CapSet::own(caps::CapSet::Bounding)
    }

    /// The daemon's own effective set: what it may do itself.
    pub fn own_effective() -> Result<CapSet, CapabilityError> {
        CapSet::own(caps::CapSet::Effective)
    }

    fn own(which: caps::CapSet) -> Result<CapSet, CapabilityError> {
        let held = caps::read(None, which).map_err(CapabilityError::Read)?;
        Ok(held
            .iter()
            .fold(CapSet::EMPTY, |set, cap| set.with(CapSet(1 << cap.index()))))
    }
}

impl std::fmt::Debug for CapSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Serialize for CapSet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for CapSet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        CapSet::of(&names).map_err(serde::de::Error::custom)
    }
}

/// The five sets of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCaps {
    /// The most that can ever be gained.
    pub bounding: CapSet,
    /// What counts now.
    pub effective: CapSet,
    /// What an exec can keep, through file capabilities.
    pub inheritable: CapSet,
    /// What can be made effective.
    pub permitted: CapSet,
    /// What a program without file capabilities keeps over an exec, also as non-root.
    pub ambient: CapSet,
}

/// What is asked for, before the rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct CapsRequest<'a> {
    /// The configured base (`default_capabilities`).
    pub base: CapSet,
    /// Names to add, or `ALL`.
    pub add: &'a [String],
    /// Names to drop, or `ALL`.
    pub drop: &'a [String],
    /// Names to add to all five sets, or `ALL`.
    pub add_ambient: &'a [String],
    /// Start from everything and ignore add and drop.
    pub privileged: bool,
    /// `add_inheritable_capabilities`: fill the inheritable set too. Off since CVE-2022-24769.
    pub inheritable: bool,
    /// The host's bounding set.
    pub bounding: CapSet,
}

impl CapsRequest<'_> {
    /// Applies the CRI's rules: `ALL` first, then single names, adds before drops, so that
    /// "drop ALL, add X" leaves X and "add ALL, drop X" leaves all but X. What is added never
    /// becomes ambient by itself. Everything is cut to what the host can give: a capability
    /// outside the bounding set would make runc fail.
    pub fn resolve(&self) -> Result<ProcessCaps, CapabilityError> {
        let (add_all, add) = split_all(self.add)?;
        let (drop_all, drop) = split_all(self.drop)?;
        let (ambient_all, ambient) = split_all(self.add_ambient)?;
        let mut set = self.base;
        if add_all {
            set = CapSet::ALL;
        }
        if drop_all {
            set = CapSet::EMPTY;
        }
        let mut ambient = if ambient_all { CapSet::ALL } else { ambient };
        set = set.with(add).with(ambient).without(drop);
        ambient = ambient.without(drop);
        if self.privileged {
            set = CapSet::ALL;
        }
        set = set.within(self.bounding);
        ambient = ambient.within(self.bounding);
        Ok(ProcessCaps {
            bounding: set,
            effective: set,
            // the kernel refuses an ambient capability that is not inheritable
            inheritable: if self.inheritable { set } else { ambient },
            permitted: set,
            ambient,
        })
    }
}

fn split_all(names: &[String]) -> Result<(bool, CapSet), CapabilityError> {
    let mut all = false;
    let mut set = CapSet::EMPTY;
    for name in names {
        if name.eq_ignore_ascii_case("all") {
            all = true;
        } else {
            set = set.with(CapSet::named(name)?);
        }
    }
    Ok((all, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> CapSet {
        CapSet::of(&names.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    fn list(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn our_table_agrees_with_the_kernels_numbers() {
        for cap in caps::all() {
            assert_eq!(set(&cap.to_string()), CapSet(1 << cap.index()), "{cap}");
        }
        assert_eq!(CapSet::ALL.names().count(), caps::all().len());
    }

    #[test]
    fn names_are_read_with_and_without_prefix_in_any_case() {
        for name in ["CAP_SYS_ADMIN", "SYS_ADMIN", "sys_admin", "cap_Sys_Admin"] {
            assert_eq!(CapSet::named(name).unwrap(), CapSet(1 << 21), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_named_with_the_nearest_known_one() {
        for (name, message) in [
            (
                "NET_RAWW",
                "unknown capability `NET_RAWW`, did you mean `CAP_NET_RAW`?",
            ),
            ("frobnicate", "unknown capability `frobnicate`"),
            ("", "unknown capability ``"),
        ] {
            assert!(
                CapSet::named(name)
                    .unwrap_err()
                    .to_string()
                    .starts_with(message),
                "{name}"
            );
        }
        let long = "x".repeat(1 << 20);
        assert!(CapSet::named(&long).is_err());
    }

    #[test]
    fn add_and_drop_follow_the_cri() {
        let base = "CHOWN KILL SETUID";
        for (add, drop, ambient, want, want_ambient) in [
            ("", "", "", "CHOWN KILL SETUID", ""),
            ("NET_RAW", "", "", "CHOWN KILL SETUID NET_RAW", ""),
            ("", "KILL", "", "CHOWN SETUID", ""),
            ("", "ALL", "", "", ""),
            ("NET_RAW", "ALL", "", "NET_RAW", ""),
            ("NET_RAW", "all", "", "NET_RAW", ""),
            ("NET_RAW", "NET_RAW", "", "CHOWN KILL SETUID", ""),
            ("", "ALL", "NET_RAW", "NET_RAW", "NET_RAW"),
            ("", "", "KILL", "CHOWN KILL SETUID", "KILL"),
            ("", "KILL", "KILL", "CHOWN SETUID", ""),
            ("ALL", "ALL", "", "", ""),
        ] {
            let got = CapsRequest {
                base: set(base),
                add: &list(add),
                drop: &list(drop),
                add_ambient: &list(ambient),
                bounding: CapSet::ALL,
                ..CapsRequest::default()
            }
            .resolve()
            .unwrap();
            let case = format!("add {add}, drop {drop}, ambient {ambient}");
            assert_eq!(got.bounding, set(want), "{case}");
            assert_eq!(
                (got.effective, got.permitted),
                (set(want), set(want)),
                "{case}"
            );
            assert_eq!(
                (got.ambient, got.inheritable),
                (set(want_ambient), set(want_ambient)),
                "{case}"
            );
        }
    }

    #[test]
    fn add_all_and_privileged_end_at_the_hosts_bounding_set() {
        let bounding = CapSet::ALL.without(set("SYS_RESOURCE"));
        let request = CapsRequest {
            bounding,
            ..CapsRequest::default()
        };
        let all = CapsRequest {
            add: &list("ALL"),
            drop: &list("CHOWN"),
            ..request
        };
        assert_eq!(
            all.resolve().unwrap().effective,
            bounding.without(set("CHOWN"))
        );
        let privileged = CapsRequest {
            privileged: true,
            drop: &list("ALL"),
            ..request
        };
        let got = privileged.resolve().unwrap();
        assert_eq!(
            (got.bounding, got.ambient, got.inheritable),
            (bounding, CapSet::EMPTY, CapSet::EMPTY)
        );
        let one = CapsRequest {
            add: &list("SYS_RESOURCE"),
            ..request
        };
        assert_eq!(one.resolve().unwrap().bounding, CapSet::EMPTY);
    }

    #[test]
    fn inheritable_is_filled_only_when_configured() {
        let request = CapsRequest {
            base: set("KILL"),
            bounding: CapSet::ALL,
            ..Default::default()
        };
        assert_eq!(request.resolve().unwrap().inheritable, CapSet::EMPTY);
        let old = CapsRequest {
            inheritable: true,
            ..request
        };
        assert_eq!(old.resolve().unwrap().inheritable, set("KILL"));
    }

    #[test]
    fn an_unknown_name_is_refused_in_every_list_even_when_privileged() {
        let bad = list("NOPE");
        let request = CapsRequest {
            privileged: true,
            ..CapsRequest::default()
        };
        assert!(
            CapsRequest {
                add: &bad,
                ..request
            }
            .resolve()
            .is_err()
        );
        assert!(
            CapsRequest {
                drop: &bad,
                ..request
            }
            .resolve()
            .is_err()
        );
        assert!(
            CapsRequest {
                add_ambient: &bad,
                ..request
            }
            .resolve()
            .is_err()
        );
    }

    #[test]
    fn the_own_sets_can_be_read() {
        let effective = CapSet::own_effective().unwrap();
        assert!(CapSet::ALL.contains(CapSet::own_bounding().unwrap()));
        assert!(CapSet::ALL.contains(effective));
    }

    #[test]
    fn json_is_a_list_of_names() {
        let text = serde_json::to_string(&set("KILL CHOWN")).unwrap();
        assert_eq!(text, r#"["CAP_CHOWN","CAP_KILL"]"#);
        assert_eq!(
            serde_json::from_str::<CapSet>(&text).unwrap(),
            set("KILL CHOWN")
        );
    }
}
