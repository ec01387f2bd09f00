//! Values with a syntax of their own.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::quantity::{ByteSize, Capability, CpuSet, Device, EnvVar, Sysctl, Ulimit};
use crate::config::value::Item;

#[test]
fn times_are_read_as_go_reads_them() {
    let ok: [(&str, u128); 12] = [
        ("0", 0),
        ("0s", 0),
        ("10s", 10_000_000_000),
        ("1m30s", 90_000_000_000),
        ("1h", 3_600_000_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("5.s", 5_000_000_000),
        ("250ms", 250_000_000),
        ("7us", 7_000),
        ("7µs", 7_000),
        ("9ns", 9),
    ];
    for (text, nanos) in ok {
        assert_eq!(Duration::parse(text).unwrap().as_nanos(), nanos, "{text}");
    }
    let huge = "99999999999999999999s";
    for text in [
        "",
        "10",
        "s",
        ".s",
        "1.2.3s",
        "-5s",
        "10 s",
        "10x",
        "1h 5m",
        huge,
        "9999999999h",
    ] {
        assert!(Duration::parse(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_have_binary_units() {
    let ok = [
        ("12MiB", 12 << 20),
        ("500KiB", 500 << 10),
        ("500 KB", 500 << 10),
        ("1g", 1 << 30),
        ("1.5m", 3 << 19),
        ("4096", 4096),
        ("4096b", 4096),
        ("0", 0),
    ];
    for (text, bytes) in ok {
        assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)), "{text}");
    }
    for text in [
        "",
        "MiB",
        "12XB",
        "-1",
        "99999999999999999999",
        "99999999999TiB",
        "1MiBMiB x",
    ] {
        assert!(ByteSize::parse(text).is_err(), "{text}");
    }
}

#[test]
fn limits_sysctls_variables_devices_and_cpus_refuse_what_is_not_theirs() {
    for text in [
        "nofile",
        "nofile=",
        "nofile=a",
        "nofile=2:1",
        "files=1",
        "=1:1",
        "nofile=1:2:3",
    ] {
        assert!(Ulimit::parse(text).is_err(), "{text}");
    }
    for text in [
        "", "a", "=1", "a=", "a b=1", "../x=1", "a..b=1", "/etc=1", "a=1\n", "a = 1",
    ] {
        assert!(Sysctl::parse(text).is_err(), "{text}");
    }
    for text in ["", "A", "=b", "A=\0"] {
        assert!(EnvVar::parse(text).is_err(), "{text}");
    }
    for text in [
        "",
        "fuse",
        "/etc/passwd",
        "/dev/a:b",
        "/dev/a:/b:rwx",
        "/dev/a:/b:r:w",
        "/dev/a:",
    ] {
        assert!(Device::parse(text).is_err(), "{text}");
    }
    for text in ["", "a", "3-1", "1,,2", "1-2-3", "-1", "0-"] {
        assert!(CpuSet::parse(text).is_err(), "{text}");
    }
    for text in ["", "CAP_", "NET", "CAP_CAP_CHOWN"] {
        assert!(Capability::parse(text).is_err(), "{text}");
    }
}

fn round_trips<T: Item + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = T::parse(text) {
        assert_eq!(T::parse(&value.print()), Ok(value), "{text}");
    }
}

proptest! {
    #[test]
    fn whatever_is_read_prints_as_itself(text in "[-a-zA-Z0-9.:=,/_µ ]{0,24}") {
        round_trips::<Duration>(&text);
        round_trips::<ByteSize>(&text);
        round_trips::<Ulimit>(&text);
        round_trips::<Sysctl>(&text);
        round_trips::<EnvVar>(&text);
        round_trips::<Device>(&text);
        round_trips::<Capability>(&text);
        round_trips::<CpuSet>(&text);
    }

    #[test]
    fn every_time_and_size_prints_as_itself(number in any::<u64>()) {
        let time = Duration::from_nanos(number);
        prop_assert_eq!(Duration::parse(&time.print()), Ok(time));
        let size = ByteSize(number);
        prop_assert_eq!(ByteSize::parse(&size.print()), Ok(size));
    }
}

proptest! {
    // Each case makes a directory and reads files.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = super::Node::with(&text).load();
        let _ = super::Node::with(&format!("[crio.runtime]\n{text}\n")).load();
    }
}
