//! PEM (RFC 7468) and the base64 inside, read as Go's `encoding/pem` does: cosign writes with it, and
//! what stands before a block is no error. Certificates and keys are parsed elsewhere.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Go's `base64.StdEncoding`: padded, and unused bits of the last digit may be set.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// One block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// What its first line calls it: `PUBLIC KEY`, `CERTIFICATE`.
    pub label: String,
    /// The content.
    pub der: Vec<u8>,
}

/// Base64 in which line ends are nothing.
pub(super) fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    STANDARD.decode(digits).map_err(|error| error.to_string())
}

/// The first block of `text` and what follows it; `None` if there is none.
pub(super) fn decode(text: &str) -> Option<(Block, &str)> {
    let mut rest = text;
    loop {
        let (label, body) = first_line(rest)?;
        match content(label, body) {
            Some((der, after)) => {
                let label = label.to_owned();
                return Some((Block { label, der }, after));
            }
            None => rest = body,
        }
    }
}

/// All blocks, where there is nothing else in `text`. `what` and `limit` are for the reason.
pub(super) fn decode_all(text: &str, what: &str, limit: usize) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if blocks.len() == limit {
            return Err(format!("{what} has more than {limit} PEM blocks"));
        }
        let (block, after) = decode(rest).ok_or_else(|| format!("{what} is not PEM"))?;
        blocks.push(block);
        rest = after;
    }
    Ok(blocks)
}

/// The one block of `text`, with nothing after it.
pub(super) fn decode_one(text: &str, what: &str) -> Result<Block, String> {
    match decode(text) {
        Some((block, "")) => Ok(block),
        Some(_) => Err(format!("{what} has data after its PEM block")),
        None => Err(format!("{what} is not PEM")),
    }
}

/// The label of the first line that begins a block, and what follows the line.
fn first_line(text: &str) -> Option<(&str, &str)> {
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let label = line.strip_prefix(BEGIN).map(str::trim_end);
        if let Some(label) = label.and_then(|label| label.strip_suffix(DASHES)) {
            return Some((label, after));
        }
        rest = after;
    }
    None
}

/// What stands between here and the line that ends the block, decoded, and what follows that line.
fn content<'t>(label: &str, body: &'t str) -> Option<(Vec<u8>, &'t str)> {
    let end = format!("{DASHES}END {label}{DASHES}");
    let (mut digits, mut offset) = (String::new(), 0);
    for line in body.split_inclusive('\n') {
        offset += line.len();
        let line = line.trim();
        if line == end {
            return Some((decode_base64(&digits).ok()?, &body[offset..]));
        }
        if line.starts_with(DASHES) {
            return None;
        }
        // a header of RFC 1421; nothing here has a use for one
        if !line.contains(':') {
            digits.extend(line.chars().filter(|c| !matches!(c, ' ' | '\t')));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_as_go_finds_them() {
        let block = |label: &str, der: &[u8]| Block {
            label: label.into(),
            der: der.into(),
        };
        let a = "-----BEGIN A-----\nAQID\n-----END A-----\n";
        let table = [
            (a.to_owned(), Some((block("A", &[1, 2, 3]), ""))),
            (format!("words\n{a}"), Some((block("A", &[1, 2, 3]), ""))),
            (a.trim_end().to_owned(), Some((block("A", &[1, 2, 3]), ""))),
            (a.replace('\n', "\r\n"), Some((block("A", &[1, 2, 3]), ""))),
            (format!("{a}rest"), Some((block("A", &[1, 2, 3]), "rest"))),
            (
                "-----BEGIN A-----\nHead: er\n\nAQ\nID\n-----END A-----\n".into(),
                Some((block("A", &[1, 2, 3]), "")),
            ),
            (
                format!("-----BEGIN X-----\n!!\n-----END X-----\n{a}"),
                Some((block("A", &[1, 2, 3]), "")),
            ),
            (
                format!("-----BEGIN X-----\nAQID\n{a}"),
                Some((block("A", &[1, 2, 3]), "")),
            ),
            ("-----BEGIN A-----\nAQID\n-----END B-----\n".into(), None),
            ("-----BEGIN A-----\nAQID\n".into(), None),
            ("-----BEGIN A-----".into(), None),
            (String::new(), None),
        ];
        for (text, want) in table {
            assert_eq!(decode(&text), want, "{text:?}");
        }
    }

    #[test]
    fn many_blocks_are_bounded_and_words_between_them_are_not_the_end() {
        let a = "-----BEGIN A-----\nAQID\n-----END A-----\n";
        let count = |text: &str, limit| decode_all(text, "it", limit).map(|all| all.len());
        assert_eq!(count(&a.repeat(3), 3), Ok(3));
        assert_eq!(count(&format!("{a}words\n{a}"), 3), Ok(2));
        assert_eq!(count("", 3), Ok(0));
        assert_eq!(
            count(&a.repeat(4), 3),
            Err("it has more than 3 PEM blocks".into())
        );
        assert_eq!(count(&format!("{a}words"), 3), Err("it is not PEM".into()));
        let one = |text: &str| decode_one(text, "it").map(|block| block.der);
        assert_eq!(one(a), Ok(vec![1, 2, 3]));
        assert_eq!(
            one(&format!("{a}\n")),
            Err("it has data after its PEM block".into())
        );
    }

    #[test]
    fn base64_is_padded_and_may_be_broken_into_lines() {
        assert_eq!(decode_base64("AQ\r\nI=\n"), Ok(vec![1, 2]));
        assert_eq!(decode_base64("AQJ="), Ok(vec![1, 2]), "unused bits");
        for text in ["AQI", "AQI==", "AQI= ", "A-I="] {
            decode_base64(text).expect_err(text);
        }
    }
}
