//! Short texts in fixed room: file names.

use core::ffi::CStr;
use core::fmt::{self, Write};
/// A text of at most `N - 1` bytes; what does not fit is left out.
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }

    /// A text with these parts.
    pub(super) fn of(parts: fmt::Arguments<'_>) -> Self {
        let mut text = Self::new();
        // It fails only where there is no more room, and then the rest is left out.
        let _ = text.write_fmt(parts);
        text
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.length..N - 1).unwrap_or_default();
        let count = bytes.len().min(room.len());
        if let (Some(room), Some(bytes)) = (room.get_mut(..count), bytes.get(..count)) {
            room.copy_from_slice(bytes);
        }
        self.length += count;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The text up to its first NUL, as a path.
    pub(super) fn as_path(&self) -> &CStr {
        // There always is a NUL: the last byte is never written.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
