//! Reading and writing single values: TOML from files, text from flags and variables.
//!
//! A type that is written as one string implements [`Item`]; everything else about it (optional,
//! listed, from a flag) follows. An empty string means "unset" wherever the type is an `Option`,
//! because that is how crio.conf has always said it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::Value;
use toml::de::DeValue;

/// How a value is written, which decides how a flag of the same name takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One string or number.
    Scalar,
    /// `true` or `false`; the flag needs no value.
    Switch,
    /// An array; the flag repeats or takes commas.
    List,
    /// A table of strings; it has no flag.
    Map,
}

/// Where a value comes from.
#[derive(Debug)]
pub enum Input<'a> {
    /// A value of a file.
    Toml(&'a Spanned<DeValue<'a>>),
    /// The occurrences of a flag, or the one text of a variable.
    Text(&'a [String]),
}

/// Why a value was refused, and the bytes of the file that are to blame when they are narrower
/// than the value (one item of a list).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Lower case, without the key's name.
    pub text: String,
    /// Byte range in the file.
    pub span: Option<Range<usize>>,
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self { text, span: None }
    }
}

/// A type that a key can have.
pub trait Setting: Sized {
    /// What a value must be, for messages.
    const EXPECTED: &'static str;
    /// How it is written.
    const SHAPE: Shape = Shape::Scalar;
    /// Reads a value of a file.
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Reason>;
    /// Reads the value of a flag or variable.
    fn from_text(text: &str) -> Result<Self, Reason>;
    /// Reads a repeated flag; the last one wins unless the type collects them.
    fn from_texts(texts: &[String]) -> Result<Self, Reason> {
        Self::from_text(texts.last().map_or("", String::as_str))
    }
    /// The value for a file; `None` when unset and a file cannot say so.
    fn write(&self) -> Option<Value>;
}

/// A type that is written as one string.
pub trait Item: Sized {
    /// What the string must be, for messages.
    const EXPECTED: &'static str;
    /// Reads it; the error is lower case and says what is wrong.
    fn parse(text: &str) -> Result<Self, String>;
    /// Reads a bare integer, for the types that Go keeps in one.
    fn parse_integer(_number: &str) -> Option<Self> {
        None
    }
    /// Writes it so that [`Item::parse`] gives the same value.
    fn print(&self) -> String;
}

/// Reads a value of whichever origin.
pub(super) fn read<T: Setting>(input: &Input<'_>) -> Result<T, Reason> {
    match input {
        Input::Toml(value) => T::from_toml(value),
        Input::Text(texts) => T::from_texts(texts),
    }
}

/// Turns the literal of a table into the default value of its type.
pub(super) fn preset<T, L: Into<Preset<T>>>(literal: L) -> T {
    literal.into().0
}

/// A default value; exists so that tables may write literals for owned types.
#[derive(Debug)]
pub struct Preset<T>(T);

impl<T> From<T> for Preset<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Preset<String> {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<&str> for Preset<PathBuf> {
    fn from(text: &str) -> Self {
        Self(PathBuf::from(text))
    }
}

impl From<&str> for Preset<Option<PathBuf>> {
    fn from(text: &str) -> Self {
        Self(Some(PathBuf::from(text)))
    }
}

impl<const N: usize> From<[&str; N]> for Preset<Vec<String>> {
    fn from(items: [&str; N]) -> Self {
        Self(items.map(str::to_owned).to_vec())
    }
}

impl<const N: usize> From<[&str; N]> for Preset<Vec<PathBuf>> {
    fn from(items: [&str; N]) -> Self {
        Self(items.map(PathBuf::from).to_vec())
    }
}

/// The TOML type of a value with its article, for messages.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn mismatch(expected: &str, value: &DeValue<'_>) -> Reason {
    Reason::from(format!("expected {expected}, found {}", type_name(value)))
}

impl<T: Item> Setting for T {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Reason> {
        match value.get_ref() {
            DeValue::String(text) => T::parse(text).map_err(Reason::from),
            DeValue::Integer(number) => T::parse_integer(number.as_str())
                .ok_or_else(|| mismatch(T::EXPECTED, value.get_ref())),
            other => Err(mismatch(T::EXPECTED, other)),
        }
    }

    fn from_text(text: &str) -> Result<Self, Reason> {
        T::parse(text).map_err(Reason::from)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(self.print()))
    }
}

impl<T: Item> Setting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Reason> {
        match value.get_ref() {
            DeValue::String(text) => Self::from_text(text),
            other => Err(mismatch(T::EXPECTED, other)),
        }
    }

    fn from_text(text: &str) -> Result<Self, Reason> {
        if text.is_empty() {
            return Ok(None);
        }
        T::parse(text).map(Some).map_err(Reason::from)
    }

    fn write(&self) -> Option<Value> {
        Some(Value::String(
            self.as_ref().map(T::print).unwrap_or_default(),
        ))
    }
}

impl<T: Item> Setting for Vec<T> {
    const EXPECTED: &'static str = "an array of strings";
    const SHAPE: Shape = Shape::List;

    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Reason> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(mismatch(Self::EXPECTED, value.get_ref()));
        };
        let read = |item| {
            T::from_toml(item).map_err(|reason| Reason {
                span: Some(item.span()),
                ..reason
            })
        };
        items.iter().map(read).collect()
    }

    /// One text may hold several items with commas between them, as CRI-O's flags take them.
    fn from_text(text: &str) -> Result<Self, Reason> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.map(T::from_text).collect()
    }

    fn from_texts(texts: &[String]) -> Result<Self, Reason> {
        match texts {
            [one] => Self::from_text(one),
            many => many.iter().map(|text| T::from_text(text.trim())).collect(),
        }
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Array(
            self.iter()
                .map(|item| Value::String(item.print()))
                .collect(),
        ))
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";
    const SHAPE: Shape = Shape::Switch;

    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Reason> {
        match value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(mismatch(Self::EXPECTED, other)),
        }
    }

    fn from_text(text: &str) -> Result<Self, Reason> {
        // The spellings that Go's strconv.ParseBool takes, which units for CRI-O rely on.
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(Reason::from(format!(
                "expected true or false, found `{other}`"
            ))),
        }
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

/// Integers of the types that keys use. The bounds in the message are the type's.
macro_rules! integers {
    ($($ty:ty: $expected:literal),* $(,)?) => { $(
        impl Setting for $ty {
            const EXPECTED: &'static str = $expected;

            fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Reason> {
                let DeValue::Integer(number) = value.get_ref() else {
                    return Err(mismatch(Self::EXPECTED, value.get_ref()));
                };
                <$ty>::from_str_radix(number.as_str(), number.radix())
                    .map_err(|_| Reason::from(format!("expected {}, found {number}", Self::EXPECTED)))
            }

            fn from_text(text: &str) -> Result<Self, Reason> {
                text.trim()
                    .parse()
                    .map_err(|_| Reason::from(format!("expected {}, found `{text}`", Self::EXPECTED)))
            }

            fn write(&self) -> Option<Value> {
                i64::try_from(*self).ok().map(Value::Integer)
            }
        }
    )* };
}

integers! {
    i64: "an integer",
    u16: "an integer from 0 to 65535",
    u32: "an integer from 0 to 4294967295",
    u64: "an integer that is not negative",
}

impl Setting for BTreeMap<String, String> {
    const EXPECTED: &'static str = "a table of strings";
    const SHAPE: Shape = Shape::Map;

    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Self, Reason> {
        let DeValue::Table(entries) = value.get_ref() else {
            return Err(mismatch(Self::EXPECTED, value.get_ref()));
        };
        let mut map = Self::new();
        for (name, value) in entries {
            let text = String::from_toml(value).map_err(|reason| Reason {
                span: Some(value.span()),
                ..reason
            })?;
            map.insert(name.get_ref().to_string(), text);
        }
        Ok(map)
    }

    fn from_text(_text: &str) -> Result<Self, Reason> {
        Err(Reason::from(
            "a table can only be written in a file".to_owned(),
        ))
    }

    fn write(&self) -> Option<Value> {
        let entries = self
            .iter()
            .map(|(name, text)| (name.clone(), Value::String(text.clone())));
        Some(Value::Table(entries.collect()))
    }
}

impl Item for String {
    const EXPECTED: &'static str = "a string";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn print(&self) -> String {
        self.clone()
    }
}

/// Every path key is absolute: the daemon's working directory is nobody's business.
impl Item for PathBuf {
    const EXPECTED: &'static str = "an absolute path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected an absolute path, found an empty string".to_owned());
        }
        if !text.starts_with('/') {
            return Err(format!(
                "expected an absolute path, found `{text}`, which is relative"
            ));
        }
        if text.contains('\0') {
            return Err("a path cannot contain a NUL byte".to_owned());
        }
        Ok(Self::from(text))
    }

    fn print(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}
