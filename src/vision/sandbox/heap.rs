//! How the C library's heap of this process behaves.

/// Blocks of this size and more are mapped, each by itself.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 1 << 20;

/// From now on, large blocks go back to the system as soon as they are freed.
///
/// glibc moves the size from which it maps blocks up to that of the largest block freed (as far as
/// 32 MiB, see `M_MMAP_THRESHOLD` in mallopt(3)), and what is freed inside a heap stays there while
/// something lies behind it. Loading a network frees every weight once, after its packed copy was
/// made: without this, 140 MiB more are held for ViT-B/32. Of no effect with other C libraries.
pub fn give_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "there is no safe way to the heap's settings")]
        // SAFETY: mallopt may be called at any time and from any thread; it takes numbers only.
        let taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) };
        if taken == 0 {
            tracing::debug!("the heap keeps its own threshold");
        }
    }
}
