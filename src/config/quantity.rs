//! Values with a syntax of their own: times, sizes, limits, sysctls, devices, CPU sets.

use std::time::Duration;

use toml::Spanned;
use toml::Value;
use toml::de::DeValue;

use super::value::{Item, Reason, Setting};

/// Go's notation for a span of time, which crio.conf uses: `1h30m`, `10s`, `1.5s`, `250ms`, `0`.
impl Item for Duration {
    const EXPECTED: &'static str = "a time such as `10s`, `1m30s` or `500ms`";

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text)
            .ok_or_else(|| format!("expected {}, found `{text}`", <Self as Item>::EXPECTED))
    }

    /// Nanoseconds, as CRI-O reads a bare number.
    fn parse_integer(number: &str) -> Option<Self> {
        number.parse().ok().map(Self::from_nanos)
    }

    fn print(&self) -> String {
        print_duration(*self)
    }
}

const NANOS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let (_, nanos) = NANOS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *nanos)?)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(total))
}

/// `number` (digits with at most one point) times `unit`, rounded down; `None` when it is no
/// number or does not fit.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // More digits than this cannot change a 64-bit result's nanoseconds or bytes.
    let fraction = fraction.get(..fraction.len().min(18))?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let part = digits * u128::from(unit) / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole
        .checked_mul(unit)?
        .checked_add(u64::try_from(part).ok()?)
}

fn print_duration(value: Duration) -> String {
    let nanos = value.as_nanos();
    let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
    let rest = nanos % 60_000_000_000;
    let mut out = String::new();
    for (amount, unit) in [(hours, "h"), (minutes, "m")] {
        if amount > 0 {
            out.push_str(&format!("{amount}{unit}"));
        }
    }
    let (unit, nanos_per_unit) = match rest {
        _ if rest.is_multiple_of(1_000_000_000) => ("s", 1_000_000_000),
        _ if rest.is_multiple_of(1_000_000) => ("ms", 1_000_000),
        _ => ("ns", 1),
    };
    if rest > 0 || out.is_empty() {
        out.push_str(&format!("{}{unit}", rest / nanos_per_unit));
    }
    out
}

/// A size in bytes, written with binary units as `12MiB`, `500KiB` or `1G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl Item for ByteSize {
    const EXPECTED: &'static str = "a size such as `12MiB`";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, found `{text}`", <Self as Item>::EXPECTED);
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        // K, KB and KiB all mean 1024, as in the Go library that CRI-O reads sizes with.
        let unit = unit.trim().to_ascii_lowercase();
        let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(wrong()),
        };
        scaled(number, 1 << shift).map(Self).ok_or_else(wrong)
    }

    fn print(&self) -> String {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let fits = units
            .iter()
            .find(|(shift, _)| self.0 > 0 && self.0.is_multiple_of(1 << shift));
        match fits {
            Some((shift, unit)) => format!("{}{unit}", self.0 >> shift),
            None => self.0.to_string(),
        }
    }
}

/// A TCP port that crio.conf writes as a string; 0 means "any free port".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPort(pub u16);

impl Setting for TextPort {
    const EXPECTED: &'static str = "a port from 0 to 65535";

    /// A bare number is taken too: nobody remembers which of the ports is a string.
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Reason> {
        match value.get_ref() {
            DeValue::String(text) => Self::from_text(text),
            _ => u16::from_toml(value).map(Self),
        }
    }

    fn from_text(text: &str) -> Result<Self, Reason> {
        text.parse()
            .map(Self)
            .map_err(|_| Reason::from(format!("expected {}, found `{text}`", Self::EXPECTED)))
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(self.0.to_string()))
    }
}

/// A resource limit for containers, written `nofile=1024:2048`; -1 is "unlimited".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// The OCI name, `RLIMIT_NOFILE`.
    pub kind: String,
    /// Soft limit; `u64::MAX` is "unlimited", as in the kernel.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is "unlimited".
    pub hard: u64,
}

/// The names that setrlimit(2) has on Linux.
const ULIMITS: [&str; 15] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "sigpending",
    "stack",
];

impl Item for Ulimit {
    const EXPECTED: &'static str = "a limit such as `nofile=1024:2048`";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, found `{text}`", <Self as Item>::EXPECTED);
        let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
        let known = |name: &str| ULIMITS.contains(&name) || name == "rttime";
        if !known(name) {
            return Err(format!(
                "`{name}` is not a resource limit; known are {}",
                ULIMITS.join(", ")
            ));
        }
        let number = |text: &str| match text {
            "-1" | "unlimited" => Some(u64::MAX),
            other => other.parse().ok(),
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let soft = number(soft).ok_or_else(wrong)?;
        let hard = number(hard).ok_or_else(wrong)?;
        if soft > hard {
            return Err(format!(
                "the soft limit of `{text}` is above its hard limit"
            ));
        }
        Ok(Self {
            kind: format!("RLIMIT_{}", name.to_ascii_uppercase()),
            soft,
            hard,
        })
    }

    fn print(&self) -> String {
        let number = |value: u64| match value {
            u64::MAX => "-1".to_owned(),
            other => other.to_string(),
        };
        let name = self.kind.trim_start_matches("RLIMIT_").to_ascii_lowercase();
        format!("{name}={}:{}", number(self.soft), number(self.hard))
    }
}

/// A kernel parameter for pods, written `net.ipv4.ping_group_range=0 1000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// Name with dots.
    pub name: String,
    /// What is written to it.
    pub value: String,
}

impl Item for Sysctl {
    const EXPECTED: &'static str = "a sysctl such as `net.core.somaxconn=1024`";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "expected {}, found `{text}`: {why}",
                <Self as Item>::EXPECTED
            )
        };
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("it has no `=`"))?;
        if name.is_empty() || value.is_empty() {
            return Err(wrong("name and value cannot be empty"));
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-/*".contains(c);
        if !name.chars().all(legal) || name.contains("..") || name.starts_with(['.', '/']) {
            return Err(wrong(
                "the name may have letters, digits, `.`, `_`, `-` and `/`",
            ));
        }
        if value.starts_with(' ') || value.ends_with(' ') || value.contains(['\n', '\0']) {
            return Err(wrong("there can be no space around `=` and no line break"));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }

    fn print(&self) -> String {
        format!("{}={}", self.name, self.value)
    }
}

/// An environment variable, written `NAME=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value, which may be empty and may contain `=`.
    pub value: String,
}

impl Item for EnvVar {
    const EXPECTED: &'static str = "a variable such as `NAME=value`";

    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !text.contains('\0') => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(format!(
                "expected {}, found `{text}`",
                <Self as Item>::EXPECTED
            )),
        }
    }

    fn print(&self) -> String {
        format!("{}={}", self.name, self.value)
    }
}

/// A device for every container, written `/dev/host:/dev/container:rwm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// What the device cgroup allows: letters of `rwm`.
    pub access: String,
}

impl Item for Device {
    const EXPECTED: &'static str =
        "a device such as `/dev/fuse`, `/dev/a:/dev/b` or `/dev/a:/dev/b:rwm`";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {}, found `{text}`", <Self as Item>::EXPECTED);
        let is_access = |part: &str| {
            !part.is_empty() && part.len() <= 3 && part.chars().all(|c| "rwm".contains(c))
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, access) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, access] if is_access(access) => (host, host, access),
            [host, container] => (host, container, "rwm"),
            [host, container, access] if is_access(access) => (host, container, access),
            _ => return Err(wrong()),
        };
        if !host.starts_with("/dev/") || !container.starts_with('/') {
            return Err(wrong());
        }
        let [host, container, access] = [host, container, access].map(str::to_owned);
        Ok(Self {
            host,
            container,
            access,
        })
    }

    fn print(&self) -> String {
        format!("{}:{}:{}", self.host, self.container, self.access)
    }
}

/// A Linux capability, kept with its `CAP_` prefix and written without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability(pub String);

/// capabilities(7) as of Linux 6.18; none has been added since 5.9.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

impl Item for Capability {
    const EXPECTED: &'static str = "a capability such as `NET_RAW`";

    fn parse(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if CAPABILITIES.contains(&name) {
            return Ok(Self(format!("CAP_{name}")));
        }
        let nearest = super::suggest::nearest(name, CAPABILITIES);
        let hint = nearest
            .map(|near| format!("; did you mean `{near}`?"))
            .unwrap_or_default();
        Err(format!("`{text}` is not a Linux capability{hint}"))
    }

    fn print(&self) -> String {
        self.0.trim_start_matches("CAP_").to_owned()
    }
}

/// CPUs or memory nodes, written `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuSet(pub String);

impl Item for CpuSet {
    const EXPECTED: &'static str = "a CPU set such as `0-3,8`";

    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().ok();
        let legal = |part: &str| match part.split_once('-') {
            Some((from, to)) => number(from)
                .zip(number(to))
                .is_some_and(|(from, to)| from <= to),
            None => number(part).is_some(),
        };
        if text.split(',').all(legal) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "expected {}, found `{text}`",
            <Self as Item>::EXPECTED
        ))
    }

    fn print(&self) -> String {
        self.0.clone()
    }
}
