//! Giving memory back to the kernel.

/// Returns what the allocator keeps of freed memory to the kernel. Worth its milliseconds after
/// work that needed much for a moment: glibc keeps the buffers of a pull for ever otherwise.
pub fn trim() {
    // SAFETY: malloc_trim(3) takes the allocator's own locks, touches freed memory only, and may be
    // called from any thread at any time.
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}
