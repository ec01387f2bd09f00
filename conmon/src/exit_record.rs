//! How the container ended, as a file in the bundle directory.
//!
//! One line of JSON, keys in this order:
//! `{"version":1,"pid":N,"exit_code":N,"signal":N,"oom":false,"started_at_ns":N,"finished_at_ns":N}`
//! The reader takes keys in any order with white space between, skips unknown keys whose values are
//! numbers or booleans, and wants the version to be 1 and every known key once. The writer renames
//! the finished file to its name: there is no half a record, also not after `kill -9`.

use core::fmt::{self, Write};

/// The longest exit record that is read, in bytes; the longest written has 213.
pub const MAX_EXIT_RECORD: usize = 1024;

/// How the container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitRecord {
    /// What was its init; the number may be someone else's by now.
    pub pid: i32,
    /// The exit code; 128 + signal where a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// Whether the kernel killed one of the container's processes for want of memory.
    pub oom: bool,
    /// Nanoseconds since 1970; 0 where it never was started.
    pub started_at_ns: u64,
    /// Nanoseconds since 1970.
    pub finished_at_ns: u64,
}

/// Why a file is no exit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitRecordError {
    /// It is longer than [`MAX_EXIT_RECORD`], or the buffer to write to is too short.
    TooLong,
    /// It is no flat JSON object of numbers and booleans.
    Syntax {
        /// Where, in bytes from the start.
        offset: usize,
    },
    /// It is of another version.
    WrongVersion {
        /// Which one.
        found: i64,
    },
    /// A key is absent, comes twice or has a value that it cannot have.
    BadKey {
        /// Which one.
        key: &'static str,
    },
}

impl fmt::Display for ExitRecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "exit record is longer than {MAX_EXIT_RECORD} bytes"),
            Self::Syntax { offset } => {
                write!(f, "exit record is not the JSON expected, at byte {offset}")
            }
            Self::WrongVersion { found } => write!(f, "exit record has version {found}, not 1"),
            Self::BadKey { key } => {
                write!(
                    f,
                    "exit record: key {key} is absent, comes twice or is out of range"
                )
            }
        }
    }
}

impl core::error::Error for ExitRecordError {}

const KEYS: [&str; 7] = [
    "version",
    "pid",
    "exit_code",
    "signal",
    "oom",
    "started_at_ns",
    "finished_at_ns",
];

impl ExitRecord {
    /// Writes the line, newline included, and returns its length in bytes.
    ///
    /// # Errors
    /// The buffer is too short; [`MAX_EXIT_RECORD`] bytes are enough.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, ExitRecordError> {
        let mut line = Line { buffer, length: 0 };
        let Self {
            pid,
            exit_code,
            signal,
            oom,
            started_at_ns,
            finished_at_ns,
        } = self;
        writeln!(
            line,
            "{{\"version\":1,\"pid\":{pid},\"exit_code\":{exit_code},\"signal\":{signal},\
             \"oom\":{oom},\"started_at_ns\":{started_at_ns},\
             \"finished_at_ns\":{finished_at_ns}}}"
        )
        .map_err(|_| ExitRecordError::TooLong)?;
        Ok(line.length)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// It is no exit record of version 1.
    pub fn parse(text: &[u8]) -> Result<Self, ExitRecordError> {
        if text.len() > MAX_EXIT_RECORD {
            return Err(ExitRecordError::TooLong);
        }
        let mut values = [None; KEYS.len()];
        Parser { text, offset: 0 }.object(&mut values)?;
        let value = |index: usize| match values[index] {
            Some(value) => Ok(value),
            None => Err(ExitRecordError::BadKey { key: KEYS[index] }),
        };
        match value(0)? {
            Value::Number(1) => {}
            Value::Number(found) => return Err(ExitRecordError::WrongVersion { found }),
            Value::Boolean(_) => return Err(ExitRecordError::BadKey { key: KEYS[0] }),
        }
        let small = |index: usize| match value(index)? {
            Value::Number(number) => {
                i32::try_from(number).map_err(|_| ExitRecordError::BadKey { key: KEYS[index] })
            }
            Value::Boolean(_) => Err(ExitRecordError::BadKey { key: KEYS[index] }),
        };
        let time = |index: usize| match value(index)? {
            Value::Number(number) => {
                u64::try_from(number).map_err(|_| ExitRecordError::BadKey { key: KEYS[index] })
            }
            Value::Boolean(_) => Err(ExitRecordError::BadKey { key: KEYS[index] }),
        };
        let Value::Boolean(oom) = value(4)? else {
            return Err(ExitRecordError::BadKey { key: KEYS[4] });
        };
        Ok(Self {
            pid: small(1)?,
            exit_code: small(2)?,
            signal: small(3)?,
            oom,
            started_at_ns: time(5)?,
            finished_at_ns: time(6)?,
        })
    }
}

struct Line<'b> {
    buffer: &'b mut [u8],
    length: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.buffer
            .get_mut(self.length..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Value {
    Number(i64),
    Boolean(bool),
}

struct Parser<'a> {
    text: &'a [u8],
    offset: usize,
}

impl<'a> Parser<'a> {
    fn object(&mut self, values: &mut [Option<Value>; KEYS.len()]) -> Result<(), ExitRecordError> {
        self.expect(b'{')?;
        loop {
            let key = self.key()?;
            self.expect(b':')?;
            let value = self.value()?;
            if let Some(index) = KEYS.iter().position(|known| known.as_bytes() == key)
                && values[index].replace(value).is_some()
            {
                return Err(ExitRecordError::BadKey { key: KEYS[index] });
            }
            match self.next_token()? {
                b',' => {}
                b'}' => break,
                _ => return Err(self.syntax()),
            }
        }
        self.skip_space();
        if self.offset == self.text.len() {
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    fn syntax(&self) -> ExitRecordError {
        ExitRecordError::Syntax {
            offset: self.offset,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.offset).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.offset += 1;
        }
    }

    fn next_token(&mut self) -> Result<u8, ExitRecordError> {
        self.skip_space();
        let byte = self.peek().ok_or_else(|| self.syntax())?;
        self.offset += 1;
        Ok(byte)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), ExitRecordError> {
        if self.next_token()? == wanted {
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    fn take_while(&mut self, wanted: fn(u8) -> bool) -> &'a [u8] {
        let start = self.offset;
        while self.peek().is_some_and(wanted) {
            self.offset += 1;
        }
        self.text.get(start..self.offset).unwrap_or_default()
    }

    fn key(&mut self) -> Result<&'a [u8], ExitRecordError> {
        self.expect(b'"')?;
        let key = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        self.expect(b'"')?;
        Ok(key)
    }

    fn value(&mut self) -> Result<Value, ExitRecordError> {
        self.skip_space();
        let word = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        match word {
            b"true" => Ok(Value::Boolean(true)),
            b"false" => Ok(Value::Boolean(false)),
            _ => core::str::from_utf8(word)
                .ok()
                .and_then(|word| word.parse().ok())
                .map(Value::Number)
                .ok_or_else(|| self.syntax()),
        }
    }
}
