//! How the C library's heap of this process behaves while networks are loaded.

/// While this lives, large blocks go back to the system as soon as they are freed.
///
/// glibc moves the size from which it maps blocks by themselves up to that of the largest block
/// freed (as far as 32 MiB, see `M_MMAP_THRESHOLD` in mallopt(3)), and what is freed inside a heap
/// stays there while something lies behind it. Loading a network frees every weight once, after
/// its packed copy was made: 140 MiB that are held for nothing with ViT-B/32. What is freed picture
/// by picture is needed again at once, and mapping it each time costs 4 % of a scan; so it ends
/// where glibc would have ended by itself. Of no effect with other C libraries.
#[must_use]
pub struct LargeBlocksGoBack(());

impl LargeBlocksGoBack {
    pub fn start() -> Self {
        set_thresholds(1 << 20, 1 << 20);
        Self(())
    }
}

impl Drop for LargeBlocksGoBack {
    fn drop(&mut self) {
        set_thresholds(32 << 20, 64 << 20);
    }
}

/// From which size blocks are mapped, and how much may lie free at the end of a heap, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set_thresholds(mapped: i32, trimmed: i32) {
    #[expect(unsafe_code, reason = "there is no safe way to the heap's settings")]
    // SAFETY: mallopt may be called at any time and from any thread; it takes numbers only.
    let taken = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, mapped)
            & libc::mallopt(libc::M_TRIM_THRESHOLD, trimmed)
    };
    if taken == 0 {
        tracing::debug!("the heap keeps its own thresholds");
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set_thresholds(_mapped: i32, _trimmed: i32) {}
