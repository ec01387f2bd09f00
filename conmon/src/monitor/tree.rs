//! Ending a process together with all that it has started.

use nostd_sys::{Access, Pid, Signal, names, open};

use super::buffers::Buffers;
use super::text::Text;

/// Room for the names of a process's threads; what is left of a buffer takes a thread's children.
const NAMES: usize = 16 * 1024;

/// The processes found so far, in the bytes of a buffer.
struct Tree<'b> {
    numbers: &'b mut [[u8; 4]],
    count: usize,
}

impl Tree<'_> {
    /// Beyond the buffer there are more than a kernel lets run by default.
    fn add(&mut self, pid: Pid) {
        if let Some(place) = self.numbers.get_mut(self.count) {
            *place = pid.number().to_ne_bytes();
            self.count += 1;
        }
    }

    fn get(&self, index: usize) -> Option<Pid> {
        let number = self.numbers.get(..self.count)?.get(index)?;
        Pid::new(i32::from_ne_bytes(*number))
    }
}

/// Kills `root`, which must be a child that has not been waited for, and its descendants. Each is
/// stopped before its children are looked for, so that it can neither start more nor wait for one,
/// whose number would be free for others then. Who has left the tree by a double fork is not found.
pub(super) fn kill(root: Pid, buffers: &mut Buffers) {
    let mut tree = Tree {
        numbers: buffers.records.as_chunks_mut().0,
        count: 0,
    };
    tree.add(root);
    let mut next = 0;
    while let Some(pid) = tree.get(next) {
        next += 1;
        if nostd_sys::kill(pid, Signal::Stop).is_ok() {
            add_children(pid, &mut tree, buffers.output);
        }
    }
    let mut next = 0;
    while let Some(pid) = tree.get(next) {
        next += 1;
        // It may have ended meanwhile.
        let _ = nostd_sys::kill(pid, Signal::Kill);
    }
}

/// Adds the children of all threads of a process: proc_tid_children(5).
fn add_children(pid: Pid, tree: &mut Tree<'_>, buffer: &mut [u8]) {
    let Some((threads, children)) = buffer.split_at_mut_checked(NAMES) else {
        return;
    };
    let pid = pid.number();
    let path: Text<32> = Text::of(format_args!("/proc/{pid}/task"));
    // A process that has ended has no children.
    let Ok(directory) = open(path.as_path(), Access::Read) else {
        return;
    };
    while let Ok(found) = names(&directory, threads) {
        let mut is_end = true;
        for thread in found {
            is_end = false;
            let Ok(thread) = thread.to_str() else {
                continue;
            };
            let path: Text<64> = Text::of(format_args!("/proc/{pid}/task/{thread}/children"));
            let Ok(file) = open(path.as_path(), Access::Read) else {
                continue;
            };
            let text = file.read_start(children).unwrap_or_default();
            let numbers = core::str::from_utf8(text).unwrap_or_default();
            for number in numbers.split_ascii_whitespace() {
                if let Some(child) = number.parse().ok().and_then(Pid::new) {
                    tree.add(child);
                }
            }
        }
        if is_end {
            return;
        }
    }
}
