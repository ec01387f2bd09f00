//! The CRI log format: `<time> <stdout|stderr> <F|P> <content>\n`, one record per line of output.
//!
//! `F` ends a line; `P` is a part of one: what a read left unended, which must be visible at once,
//! and each [`MAX_CONTENT`] bytes of a long line. Readers join parts until the next `F`. All
//! records of one read have its time: RFC 3339 with nine digits, in UTC.

use crate::Stream;

/// The longest content of one record, in bytes; as containerd cuts it.
pub const MAX_CONTENT: usize = 16 * 1024;

/// What stands before the content, in bytes: time, stream and tag, a space behind each.
pub const HEADER: usize = 40;

/// The longest record, in bytes: a buffer of this size always takes one.
pub const MAX_RECORD: usize = HEADER + MAX_CONTENT + 1;

/// What [`render`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rendered {
    /// Bytes of the data that are in records now.
    pub consumed: usize,
    /// Bytes of the buffer that hold records.
    pub written: usize,
}

/// The headers of the records of one read.
#[derive(Debug, Clone)]
pub struct Headers {
    full: [u8; HEADER],
    part: [u8; HEADER],
}

impl Headers {
    /// Headers with this stream and this time, in nanoseconds since 1970.
    pub fn new(stream: Stream, time_ns: u64) -> Self {
        let mut full = *b"0000-00-00T00:00:00.000000000Z stdout F ";
        let seconds = time_ns / 1_000_000_000;
        let (year, month, day) = date(seconds / 86_400);
        let second = seconds % 86_400;
        digits(&mut full[0..4], year);
        digits(&mut full[5..7], month);
        digits(&mut full[8..10], day);
        digits(&mut full[11..13], second / 3600);
        digits(&mut full[14..16], second / 60 % 60);
        digits(&mut full[17..19], second % 60);
        digits(&mut full[20..29], time_ns % 1_000_000_000);
        full[31..37].copy_from_slice(match stream {
            Stream::Stdout => b"stdout",
            Stream::Stderr => b"stderr",
        });
        let mut part = full;
        part[38] = b'P';
        Self { full, part }
    }
}

/// Writes records of the data to the buffer, as many as it takes.
pub fn render(headers: &Headers, data: &[u8], buffer: &mut [u8]) -> Rendered {
    let mut done = Rendered {
        consumed: 0,
        written: 0,
    };
    while let Some(rest) = data.get(done.consumed..)
        && !rest.is_empty()
    {
        let window = rest.get(..=MAX_CONTENT).unwrap_or(rest);
        let (header, length, line_end) = match find_newline(window) {
            Some(at) => (&headers.full, at, 1),
            None => (&headers.part, rest.len().min(MAX_CONTENT), 0),
        };
        let record_length = HEADER + length + 1;
        let Some(record) = buffer.get_mut(done.written..done.written + record_length) else {
            break;
        };
        let (head, tail) = record.split_at_mut(HEADER);
        head.copy_from_slice(header);
        tail[..length].copy_from_slice(&rest[..length]);
        tail[length] = b'\n';
        done.written += record_length;
        done.consumed += length + line_end;
    }
    done
}

/// How much of the bytes is whole records, and how many bytes of content the rest would have held.
pub fn split_at_record(written: usize, records: &[u8]) -> (usize, u64) {
    let (head, _) = records.split_at(written.min(records.len()));
    let whole = head
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let lost = records.split_at(whole).1;
    let frames = lost.iter().filter(|byte| **byte == b'\n').count() * (HEADER + 1);
    (whole, lost.len().saturating_sub(frames) as u64)
}

/// Eight bytes at a time: core's own search for a byte goes one by one in a slice's iterator.
fn find_newline(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH_BITS: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // A byte is a newline where the difference is zero; the lowest such byte is found rightly
        // (Hacker's Delight 6-1).
        let difference = u64::from_le_bytes(*word) ^ (ONES * b'\n' as u64);
        let zero = difference.wrapping_sub(ONES) & !difference & HIGH_BITS;
        if zero != 0 {
            return Some(index * 8 + (zero.trailing_zeros() / 8) as usize);
        }
    }
    rest.iter()
        .position(|byte| *byte == b'\n')
        .map(|at| words.len() * 8 + at)
}

fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
    }
}

/// Year, month and day of a count of days since 1970. Howard Hinnant's `civil_from_days`, for days
/// that are not negative.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    fn rendered(data: &[u8]) -> String {
        let headers = Headers::new(Stream::Stdout, 0);
        let mut buffer = vec![0; data.len() * (HEADER + 1) + MAX_RECORD];
        let done = render(&headers, data, &mut buffer);
        assert_eq!(done.consumed, data.len());
        String::from_utf8_lossy(&buffer[..done.written]).replace("1970-01-01T00:00:00.0000", "T")
    }

    #[test]
    fn times_are_written_in_utc_with_nine_digits() {
        for (time_ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z"),
            (1_709_251_200_000_000_000, "2024-03-01T00:00:00.000000000Z"),
            (1_795_132_799_123_456_789, "2026-11-19T23:59:59.123456789Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ] {
            let headers = Headers::new(Stream::Stderr, time_ns);
            assert_eq!(
                std::str::from_utf8(&headers.full).unwrap(),
                format!("{text} stderr F ")
            );
            assert_eq!(
                std::str::from_utf8(&headers.part).unwrap(),
                format!("{text} stderr P ")
            );
        }
    }

    #[test]
    fn each_line_is_a_full_record_and_an_unended_rest_a_part() {
        assert_eq!(rendered(b""), "");
        assert_eq!(rendered(b"a\n"), "T00000Z stdout F a\n");
        assert_eq!(rendered(b"\n\n"), "T00000Z stdout F \nT00000Z stdout F \n");
        assert_eq!(
            rendered(b"a\nbc"),
            "T00000Z stdout F a\nT00000Z stdout P bc\n"
        );
    }

    #[test]
    fn a_long_line_is_parts_of_16_kib_and_a_full_rest() {
        for (length, parts, rest) in [
            (MAX_CONTENT, 0, MAX_CONTENT),
            (MAX_CONTENT + 1, 1, 1),
            (2 * MAX_CONTENT, 1, MAX_CONTENT),
            (2 * MAX_CONTENT + 5, 2, 5),
        ] {
            let mut data = vec![b'x'; length];
            data.push(b'\n');
            let part = format!("T00000Z stdout P {}\n", "x".repeat(MAX_CONTENT));
            let full = format!("T00000Z stdout F {}\n", "x".repeat(rest));
            assert_eq!(
                rendered(&data),
                part.repeat(parts) + &full,
                "line of {length}"
            );
        }
    }

    #[test]
    fn a_record_that_does_not_fit_waits_for_the_next_buffer() {
        let headers = Headers::new(Stream::Stdout, 0);
        let mut buffer = [0; HEADER + 3];
        let done = render(&headers, b"a\nb\n", &mut buffer);
        assert_eq!(
            done,
            Rendered {
                consumed: 2,
                written: HEADER + 2
            }
        );
        let done = render(&headers, b"abc\n", &mut buffer);
        assert_eq!(
            done,
            Rendered {
                consumed: 0,
                written: 0
            }
        );
    }

    #[test]
    fn a_short_write_is_cut_to_whole_records_and_the_loss_counted_in_content() {
        let headers = Headers::new(Stream::Stdout, 0);
        let mut buffer = [0; 256];
        let done = render(&headers, b"one\ntwo\nfour", &mut buffer);
        let records = &buffer[..done.written];
        let first = HEADER + 4;
        assert_eq!(split_at_record(0, records), (0, 10));
        assert_eq!(split_at_record(first - 1, records), (0, 10));
        assert_eq!(split_at_record(first, records), (first, 7));
        assert_eq!(split_at_record(first + 20, records), (first, 7));
        assert_eq!(split_at_record(records.len(), records), (records.len(), 0));
    }

    /// What a reader of the log makes of the records.
    fn joined(records: &[u8]) -> Vec<u8> {
        let mut joined = Vec::new();
        for record in records.split_inclusive(|byte| *byte == b'\n') {
            let content = &record[HEADER..record.len() - 1];
            assert!(content.len() <= MAX_CONTENT);
            joined.extend_from_slice(content);
            if record[38] == b'F' {
                joined.push(b'\n');
            }
        }
        joined
    }

    proptest! {
        #[test]
        fn every_byte_in_is_a_byte_out(
            lines in proptest::collection::vec((any::<u8>(), 0_usize..40_000), 0..6),
            capacity in MAX_RECORD..3 * MAX_RECORD,
            reads in 1_usize..70_000,
        ) {
            let mut data = Vec::new();
            for (byte, length) in lines {
                let byte = if byte == b'\n' { b'.' } else { byte };
                data.resize(data.len() + length, byte);
                data.push(b'\n');
            }
            let mut records = Vec::new();
            let mut buffer = vec![0; capacity];
            for read in data.chunks(reads) {
                let mut rest = read;
                while !rest.is_empty() {
                    let headers = Headers::new(Stream::Stdout, 1);
                    let done = render(&headers, rest, &mut buffer);
                    prop_assert!(done.consumed > 0);
                    records.extend_from_slice(&buffer[..done.written]);
                    rest = &rest[done.consumed..];
                }
            }
            prop_assert_eq!(joined(&records), data);
        }

        #[test]
        fn the_first_newline_is_found(bytes in proptest::collection::vec(9_u8..12, 0..40)) {
            prop_assert_eq!(find_newline(&bytes), bytes.iter().position(|byte| *byte == b'\n'));
        }
    }
}
