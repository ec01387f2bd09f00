//! The forms in which the kernel writes figures: one number, or lines of a key and a number.

use crate::cgroup::error::{CgroupError, quote};

/// Reads a number.
pub(super) fn number(file: &'static str, text: &str) -> Result<u64, CgroupError> {
    let text = text.trim_end();
    text.parse().map_err(|_| CgroupError::Format {
        file,
        text: quote(text),
    })
}

/// Reads a limit; `None`: unlimited. cgroup v2 writes `max`, `pids.max` of v1 too, and the other
/// files of v1 write the largest number of whole pages (2^63 rounded down).
pub(super) fn limit(file: &'static str, text: &str) -> Result<Option<u64>, CgroupError> {
    const UNLIMITED: u64 = 1 << 62;
    match text.trim_end() {
        "max" => Ok(None),
        text => Ok(Some(number(file, text)?).filter(|&limit| limit < UNLIMITED)),
    }
}

/// Reads a device's number, `8:16`.
pub(super) fn device(file: &'static str, text: &str) -> Result<(u32, u32), CgroupError> {
    text.split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| CgroupError::Format {
            file,
            text: quote(text),
        })
}

/// Calls `take` with each line's key and number.
pub(super) fn keyed(
    file: &'static str,
    text: &str,
    mut take: impl FnMut(&str, u64),
) -> Result<(), CgroupError> {
    for line in text.lines() {
        let fault = || CgroupError::Format {
            file,
            text: quote(line),
        };
        let (key, value) = line.split_once(' ').ok_or_else(fault)?;
        take(key, value.parse().map_err(|_| fault())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_either_version_can_be_none() {
        for text in ["max\n", "9223372036854771712\n", "9223372036854775807"] {
            assert_eq!(limit("memory.max", text).unwrap(), None, "{text:?}");
        }
        assert_eq!(limit("memory.max", "4096\n").unwrap(), Some(4096));
    }

    #[test]
    fn text_that_is_no_figure_is_an_error_with_the_file_and_a_bounded_quote() {
        for text in ["", "-1", "1 2", "18446744073709551616", &"x".repeat(5000)] {
            let message = number("pids.current", text).unwrap_err().to_string();
            assert!(
                message.starts_with("cgroup file pids.current: "),
                "{message}"
            );
            assert!(message.len() < 300, "{message}");
        }
        for text in ["nokey", "key", "key -1", "key 1 2", "\n"] {
            assert!(keyed("cpu.stat", text, |_, _| ()).is_err(), "{text:?}");
        }
    }
}
