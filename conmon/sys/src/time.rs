//! The clocks.

use crate::arch::number;
use crate::errno::call;

const CLOCK_REALTIME: usize = 0;
const CLOCK_MONOTONIC: usize = 1;

fn clock(id: usize) -> u64 {
    let mut time = [0_u64; 2];
    // SAFETY: the kernel writes a struct timespec, two 64 bit numbers. It cannot fail for these
    // clocks.
    let _ = unsafe {
        call(
            number::CLOCK_GETTIME,
            [id, time.as_mut_ptr().expose_provenance()],
        )
    };
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}

/// Nanoseconds since 1970, for records.
pub fn wall_clock_ns() -> u64 {
    clock(CLOCK_REALTIME)
}

/// Nanoseconds since some start, never going back, for durations.
pub fn monotonic_ns() -> u64 {
    clock(CLOCK_MONOTONIC)
}
