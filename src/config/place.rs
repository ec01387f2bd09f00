//! Where a value was set, and what is wrong with it there.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A range of one line of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line itself, shortened when it is very long.
    text: String,
    /// How many characters are to blame, at least 1.
    width: usize,
}

/// Longest line that is quoted, in characters: a terminal's width and a bit.
const QUOTE_MAX: usize = 160;

impl Location {
    /// The first line of a byte range of `source`. Ranges outside of it point at its end.
    pub fn of(file: &Path, source: &str, span: Range<usize>) -> Self {
        let start = floor(source, span.start);
        let end = floor(source, span.end).max(start);
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |at| start + at);
        let text = source[line_start..line_end]
            .trim_end_matches('\r')
            .replace('\t', " ");
        let width = source[start..end.min(line_end)].chars().count().max(1);
        Self {
            file: file.to_owned(),
            line: source[..line_start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            text,
            width,
        }
    }

    /// The line with a caret under the range; empty when there is nothing useful to show.
    pub fn excerpt(&self) -> String {
        if self.column > QUOTE_MAX || self.text.chars().any(|c| c.is_control()) {
            return String::new();
        }
        let shown: String = self.text.chars().take(QUOTE_MAX).collect();
        let room = (shown.chars().count() + 1)
            .saturating_sub(self.column)
            .max(1);
        let (line, carets) = (self.line, "^".repeat(self.width.min(room)));
        let margin = " ".repeat(line.to_string().len());
        let indent = " ".repeat(self.column - 1);
        format!("  {line} | {shown}\n  {margin} | {indent}{carets}")
    }
}

/// The nearest character boundary at or before `at`.
fn floor(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Who gave a key its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the built-in default.
    Default,
    /// A file.
    File(Location),
    /// An environment variable.
    Variable(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
    /// The default was not possible on this machine; the text says why.
    Machine(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(out, "built-in default"),
            Self::File(location) => location.fmt(out),
            Self::Variable(name) => write!(out, "${name}"),
            Self::Flag(name) => write!(out, "--{name}"),
            Self::Machine(why) => write!(out, "this machine: {why}"),
        }
    }
}

/// The origin of every key that does not have its built-in default, by its full name
/// (`crio.api.listen`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// The origin of a key.
    pub fn of(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }

    /// Whether nobody set the key.
    pub fn is_default(&self, key: &str) -> bool {
        !self.0.contains_key(key)
    }

    /// Whether the machine gave the key its value, and not somebody.
    pub fn of_machine(&self, key: &str) -> bool {
        matches!(self.of(key), Origin::Machine(_))
    }

    pub(super) fn set(&mut self, key: String, origin: Origin) {
        self.0.insert(key, origin);
    }

    /// Forgets a table that a later file replaces.
    pub(super) fn forget_below(&mut self, table: &str) {
        let below = format!("{table}.");
        self.0.retain(|key, _| !key.starts_with(&below));
    }

    /// The place to blame for a table: that of its first key that somebody set.
    pub(super) fn of_table(&self, table: &str) -> &Origin {
        let below = format!("{table}.");
        let first = self.0.iter().find(|(key, _)| key.starts_with(&below));
        first.map_or(&Origin::Default, |(_, origin)| origin)
    }
}

/// One thing that is wrong with the configuration, or that has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was set.
    pub origin: Origin,
    /// What is wrong and what to do, lower case, one line.
    pub text: String,
}

impl Problem {
    pub(super) fn new(origin: Origin, text: impl Into<String>) -> Self {
        let text: String = text.into();
        // Names and values are quoted from files; none may talk to the terminal or forge a line.
        let plain = |c: char| match c.is_control() {
            true => c.escape_default().to_string(),
            false => c.to_string(),
        };
        let text = text.chars().map(plain).collect();
        Self { origin, text }
    }

    /// The problem with the line that it is about and a caret under the culprit.
    pub fn with_excerpt(&self) -> String {
        match &self.origin {
            Origin::File(location) if !location.excerpt().is_empty() => {
                format!("{self}\n{}", location.excerpt())
            }
            _ => self.to_string(),
        }
    }
}

/// One line: place and text.
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => self.text.fmt(out),
            origin => write!(out, "{origin}: {}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_counts_characters_and_quotes_its_line() {
        let source = "a = 1\nnäme = [\"x\", 7]\n";
        let start = source.find('7').unwrap();
        let at = Location::of(Path::new("/etc/x.conf"), source, start..start + 1);
        assert_eq!(at.to_string(), "/etc/x.conf:2:14");
        assert_eq!(
            at.excerpt(),
            "  2 | näme = [\"x\", 7]\n    |              ^"
        );
    }

    #[test]
    fn a_location_stays_inside_of_any_source() {
        for span in [0..0, 0..99, 99..99, 1..3, 2..2] {
            for source in ["", "ä", "ä\n", "ab\r\ncd"] {
                let at = Location::of(Path::new("f"), source, span.clone());
                assert!(at.line >= 1 && at.column >= 1, "{source:?} {span:?}");
                let _ = at.excerpt();
            }
        }
    }

    #[test]
    fn an_excerpt_of_a_very_long_line_is_short() {
        let source = "x".repeat(100_000);
        let at = Location::of(Path::new("f"), &source, 0..100_000);
        assert!(at.excerpt().len() < 500);
        let far = Location::of(Path::new("f"), &source, 50_000..50_001);
        assert_eq!(far.excerpt(), "");
    }
}
