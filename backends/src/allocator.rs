//! How the C library hands memory back.

/// Lets freed memory stay with the process, to be used again without the system clearing it anew.
///
/// A step allocates and frees tensors of tens of megabytes a thousand times. By default glibc maps
/// each from the system and returns it, and the system clears every page: a fifth of the time of a
/// prefill of SmolLM2-135M on two cores. Large tensors and small ones then share one heap; alone
/// this put the peak of an update up by a tenth. Call it once, before the first tensor; other C
/// libraries are left as they are.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::keep_freed_memory();
}

/// Returns what is freed and kept to the system, as far as whole pages of it are free.
///
/// Kept memory is used again in pieces, and pieces of many sizes leave gaps: a run of many steps
/// would slowly grow beyond what it holds at any time. The next tensors are cleared pages again, so
/// this is for when the process has grown, not for every step. Does nothing where
/// [`keep_freed_memory`] does nothing.
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::return_freed_memory();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    /// The heap grows by this much at a time, in bytes.
    const GROWTH: libc::c_int = 64 << 20;

    #[allow(
        unsafe_code,
        reason = "mallopt is a C function; it changes settings of the allocator and no memory"
    )]
    pub fn keep_freed_memory() {
        let settings = [
            // Nothing is mapped by itself.
            (libc::M_MMAP_MAX, 0),
            // Nothing is trimmed.
            (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
            (libc::M_TOP_PAD, GROWTH),
            // One heap for all threads: the heaps of threads end at 64 MiB.
            (libc::M_ARENA_MAX, 1),
        ];
        for (name, value) in settings {
            // SAFETY: mallopt takes two integers, may be called at any time, and refuses what it
            // does not know; a refused setting leaves things as they are.
            unsafe { libc::mallopt(name, value) };
        }
    }

    #[allow(
        unsafe_code,
        reason = "malloc_trim is a C function; it touches no memory that is in use"
    )]
    pub fn return_freed_memory() {
        // SAFETY: malloc_trim may be called at any time from any thread.
        unsafe { libc::malloc_trim(0) };
    }
}
