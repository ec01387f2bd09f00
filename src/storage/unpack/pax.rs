//! The fields of a tar header that need care: numbers, and PAX extended records.
//!
//! The `tar` crate's own PAX iterator splits at newlines, and a file capability is binary and may
//! contain one; records are therefore read by their lengths here.

/// A number of a header field: octal text, or base-256 when the first bit is set (GNU). A field of
/// spaces and NULs is 0, as Go's archive/tar has it. `None`: not a number, or beyond i64.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        return base_256(field);
    }
    let text = field.trim_ascii_start();
    let end = text
        .iter()
        .position(|b| *b == 0 || *b == b' ')
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if rest.iter().any(|b| *b != 0 && *b != b' ') {
        return None;
    }
    digits.iter().try_fold(0i64, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, big endian, with the first bit as the marker and the second as the sign.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (i, byte) in field.iter().enumerate() {
        let byte = match (i, negative) {
            (0, true) => byte | 0x80,
            (0, false) => byte & 0x7f,
            _ => *byte,
        };
        value = (value << 8) | i128::from(byte);
        if i64::try_from(value).is_err() {
            return None;
        }
    }
    i64::try_from(value).ok()
}

/// A point in time as `utimensat` wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// A PAX time: seconds with an optional fraction of any length, possibly negative.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    // -1.25 s is 0.75 s after -2 s.
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some(Time {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        });
    }
    Some(Time {
        seconds,
        nanoseconds,
    })
}

/// Key and value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The records `LENGTH KEY=VALUE\n` of a PAX header, in order.
pub(super) fn records(mut data: &[u8]) -> Result<Vec<Record<'_>>, &'static str> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let space = data
            .iter()
            .take(8)
            .position(|b| *b == b' ')
            .ok_or("PAX record: no length")?;
        let length: usize = std::str::from_utf8(&data[..space])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or("PAX record: its length is no number")?;
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err("PAX record: its length is wrong");
        }
        let record = &data[space + 1..length - 1];
        let equals = record
            .iter()
            .position(|b| *b == b'=')
            .ok_or("PAX record: no `=`")?;
        records.push((&record[..equals], &record[equals + 1..]));
        data = &data[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_archive_tar_does() {
        let cases: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"       ", Some(0)),
            (b"77777777777", Some(0o77777777777)),
            (b"0009", None),
            (b"12\x003", None),
            (b"-1", None),
            (b"\x80\0\0\0\0\0\0\x2a", Some(42)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn times_keep_their_fraction() {
        let cases: [(&str, Option<(i64, u32)>); 8] = [
            ("1350244992.023960108", Some((1350244992, 23960108))),
            ("1350244992", Some((1350244992, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("1.-5", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(seconds, nanoseconds)| Time {
                seconds,
                nanoseconds,
            });
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn records_go_by_length_so_values_may_hold_newlines() {
        let data = b"13 a=x\ny\n=z\0\n9 b=1234\n";
        assert_eq!(
            records(data).unwrap(),
            [(&b"a"[..], &b"x\ny\n=z\0"[..]), (b"b", b"1234")]
        );
        for bad in [
            "5 a=x\n",
            "x a=b\n",
            "99 a=b\n",
            "6 abc\n",
            "2\n",
            "123456789",
            "0 ",
            "3 \n\n",
        ] {
            assert!(records(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(records(b"").unwrap().is_empty());
    }
}
