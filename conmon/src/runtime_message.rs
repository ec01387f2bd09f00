//! Why the runtime failed, in its own words.
//!
//! runc and crun with `--log-format json` write one object a line; the last one with a `msg` is the
//! cause. What is no such line (a panic, a linker's complaint) is taken as it is, its end first.

/// Writes the last message of the runtime's log to the buffer and returns its length; where the log
/// has none, the end of the log; where that is empty, the end of `stderr`.
pub fn last_message(log: &[u8], stderr: &[u8], buffer: &mut [u8]) -> usize {
    let stderr = stderr.trim_ascii();
    let log = log.trim_ascii();
    let length = log
        .split(|byte| *byte == b'\n')
        .rev()
        .find_map(|line| unescape(message_field(line)?, buffer))
        .unwrap_or_else(|| copy_end(if log.is_empty() { stderr } else { log }, buffer));
    buffer
        .split_at(length.min(buffer.len()))
        .0
        .trim_ascii_end()
        .len()
}

fn copy_end(text: &[u8], buffer: &mut [u8]) -> usize {
    let end = text.split_at(text.len().saturating_sub(buffer.len())).1;
    for (place, byte) in buffer.iter_mut().zip(end) {
        *place = *byte;
    }
    end.len()
}

/// What follows the opening quote of the value of `msg`.
fn message_field(line: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b"\"msg\"";
    let at = line.windows(KEY.len()).position(|window| window == KEY)?;
    line.get(at + KEY.len()..)?
        .trim_ascii_start()
        .strip_prefix(b":")?
        .trim_ascii_start()
        .strip_prefix(b"\"")
}

/// Undoes JSON's escapes up to the closing quote; none if there is no such, for then the line is
/// cut and its end no message. Of what is longer than the buffer the start is kept.
fn unescape(text: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let mut rest = text.iter().copied();
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(room) = buffer.get_mut(length..length + bytes.len()) {
            room.copy_from_slice(bytes);
            length += bytes.len();
        }
    };
    loop {
        match rest.next()? {
            b'"' => return (length > 0).then_some(length),
            b'\\' => match rest.next()? {
                b'n' => put(b"\n"),
                b't' => put(b"\t"),
                b'r' => put(b"\r"),
                b'u' => {
                    let code = hex(&mut rest)?;
                    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                    put(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                other => put(&[other]),
            },
            byte => put(&[byte]),
        }
    }
}

fn hex(text: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut code = 0;
    for _ in 0..4 {
        code = code * 16 + char::from(text.next()?).to_digit(16)?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_MESSAGE;
    use proptest::prelude::*;
    use std::vec;

    fn message(log: &[u8], stderr: &[u8]) -> std::string::String {
        let mut buffer = [0; MAX_MESSAGE];
        let length = last_message(log, stderr, &mut buffer);
        std::string::String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_last_message_of_the_log_is_the_cause() {
        for (log, stderr, cause) in [
            (
                r#"{"level":"error","msg":"exec: \"foo\": not found \u003cPATH\u003e","time":"t"}"#,
                "ignored",
                "exec: \"foo\": not found <PATH>",
            ),
            (
                "{\"msg\":\"first\"}\n{ \"msg\" : \"second\\n\" }\n\n",
                "",
                "second",
            ),
            ("{\"msg\":\"whole\"}\n{\"msg\":\"cut", "", "whole"),
            ("{\"msg\":\"whole\"}\n{\"msg\":\"cut\\u00", "", "whole"),
            ("{\"msg\":\"\"}\n", "", "{\"msg\":\"\"}"),
            ("panic: no JSON\n", "ignored", "panic: no JSON"),
            (
                "\n",
                "error while loading shared libraries\n",
                "error while loading shared libraries",
            ),
            ("", "", ""),
        ] {
            assert_eq!(message(log.as_bytes(), stderr.as_bytes()), cause, "{log}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let mut stderr = vec![b'-'; MAX_MESSAGE];
        stderr.extend_from_slice(b"the end");
        let cut = message(b"", &stderr);
        assert_eq!(cut.len(), MAX_MESSAGE);
        assert!(cut.ends_with("the end"));
        let mut log = b"{\"msg\":\"".to_vec();
        log.resize(2 * MAX_MESSAGE, b'x');
        log.extend_from_slice(b"\"}");
        assert_eq!(message(&log, b"").len(), MAX_MESSAGE);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_message_or_none(
            log in proptest::collection::vec(any::<u8>(), 0..256),
            tail in "[\\\\\"u0-9a-f]{0,40}",
        ) {
            let mut buffer = [0; MAX_MESSAGE];
            let mut text = b"{\"msg\":\"".to_vec();
            text.extend_from_slice(tail.as_bytes());
            let _ = last_message(&log, &log, &mut buffer);
            let _ = last_message(&text, &log, &mut buffer);
        }
    }
}
