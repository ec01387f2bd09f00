//! Amounts as a person reads them.

/// Bytes with three digits and a decimal unit, as crictl shows them.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            let digits = match (unit, value) {
                ("B", _) => 0,
                (_, value) if value < 9.995 => 2,
                (_, value) if value < 99.95 => 1,
                _ => 0,
            };
            return format!("{value:.digits$}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1}TB")
}

/// A time: tenths of a second below ten seconds, then the two largest units.
pub(super) fn time(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..10 => format!("{}.{}s", seconds, millis % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let table = [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1.00kB"),
            (12_345, "12.3kB"),
            (999_400, "999kB"),
            (999_600, "1.00MB"),
            (2_210_000_000, "2.21GB"),
        ];
        for (count, want) in table {
            assert_eq!(bytes(count), want);
        }
    }

    #[test]
    fn times_have_two_units() {
        let table = [
            (0, "0.0s"),
            (9_950, "9.9s"),
            (59_999, "59s"),
            (61_000, "1m01s"),
            (3_700_000, "1h01m"),
            (360_000_000, "100h00m"),
        ];
        for (millis, want) in table {
            assert_eq!(time(millis), want);
        }
    }
}
