//! Room for the files of an exec when the bundle's file system is full: a tmpfs of the monitor's
//! own, made when it is first needed. The runtime reaches it through the monitor's descriptor.

use nostd_sys::{Fd, own_pid, private_tmpfs, room};

use super::text::Text;

/// Less than this many free blocks or inodes are taken for none: an exec needs a handful.
const FEW: u64 = 16;

/// A directory's path with a slash at its end; empty for the bundle, the working directory.
pub(super) type Directory = Text<40>;

pub(super) struct Scratch(Option<Fd>);

impl Scratch {
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Whether the files of a new exec go here instead of the bundle.
    pub(super) fn is_needed(&mut self) -> bool {
        let full = room(c".")
            .is_ok_and(|room| room.blocks < FEW || room.inodes.is_some_and(|inodes| inodes < FEW));
        if full && self.0.is_none() {
            let options = [(c"size", c"1m"), (c"nr_inodes", c"512"), (c"mode", c"0700")];
            // Where there can be none, the exec says what the full disk says.
            self.0 = private_tmpfs(&options).ok();
        }
        full && self.0.is_some()
    }

    /// Where an exec's files are: here or in the bundle.
    pub(super) fn directory(&self, is_here: bool) -> Directory {
        match &self.0 {
            Some(fd) if is_here => {
                Text::of(format_args!("/proc/{}/fd/{}/", own_pid(), fd.number()))
            }
            _ => Text::new(),
        }
    }
}
