//! Memory for buffers: mapped once, given back to the kernel while it is not needed.

use core::ffi::c_char;

use crate::Errno;
use crate::arch::number;
use crate::errno::call;

const READ_WRITE: usize = 3;
const PRIVATE_ANONYMOUS: usize = 0x22;
const MADV_DONTNEED: usize = 4;

fn map_anonymous(length: usize) -> Result<*mut u8, Errno> {
    let no_file = usize::MAX;
    let args = [0, length, READ_WRITE, PRIVATE_ANONYMOUS, no_file, 0];
    // SAFETY: a new mapping, wherever the kernel likes, which nothing else refers to.
    let address = unsafe { call(number::MMAP, args) }?;
    Ok(core::ptr::with_exposed_provenance_mut(address))
}

/// Maps `length` bytes of zeros for as long as the process lives. They cost nothing until they are
/// touched.
///
/// # Errors
/// As mmap(2).
pub fn map(length: usize) -> Result<&'static mut [u8], Errno> {
    let start = map_anonymous(length)?;
    // SAFETY: the mapping is new, so long, zeroed, and never unmapped.
    Ok(unsafe { core::slice::from_raw_parts_mut(start, length) })
}

/// Maps an array of null pointers in the same way.
pub(crate) fn map_pointers(count: usize) -> Result<&'static mut [*const c_char], Errno> {
    let start = map_anonymous(count * size_of::<*const c_char>())?;
    // SAFETY: as above; it is page-aligned, and zeros are null pointers.
    Ok(unsafe { core::slice::from_raw_parts_mut(start.cast(), count) })
}

/// Gives the memory of what [`map`] returned back to the kernel; it reads as zeros afterwards.
pub fn release(mapping: &mut [u8]) {
    forget(mapping.as_mut_ptr(), mapping.len());
}

/// The same for [`map_pointers`].
pub(crate) fn release_pointers(mapping: &mut [*const c_char]) {
    forget(mapping.as_mut_ptr().cast(), size_of_val(mapping));
}

/// To be called with an exclusively borrowed range whose type has zeros as a value.
fn forget(start: *mut u8, length: usize) {
    // SAFETY: the callers' ranges. On a range that is not page-aligned the kernel refuses, which
    // only keeps the memory.
    let _ = unsafe {
        call(
            number::MADVISE,
            [start.expose_provenance(), length, MADV_DONTNEED],
        )
    };
}
