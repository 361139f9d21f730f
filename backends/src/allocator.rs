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
}
