//! What this process asks of the system and the C library: how it is scheduled, how its heap behaves.

/// While this lives, large blocks go back to the system as soon as they are freed.
///
/// glibc moves the size from which it maps blocks by themselves up to that of the largest block
/// freed (as far as 32 MiB, see `M_MMAP_THRESHOLD` in mallopt(3)), and what is freed inside a heap
/// stays there while something lies behind it. Loading a network whose weights are not mapped frees
/// every weight once, after its packed copy was made: 140 MiB that are held for nothing with ViT-B/32.
/// What is freed picture
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
        keep_large_blocks();
    }
}

/// What is freed stays at hand for the next picture, as far as glibc would go by itself in the end.
///
/// Said at once, because glibc gets there only by what it happens to free, and until then gives the
/// end of its heap back after each picture: 1,000 pages to be mapped again for one of 12 megapixels.
pub fn keep_large_blocks() {
    set_thresholds(32 << 20, 64 << 20);
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

/// Tells the scheduler that this process and all that it starts from now on compute, and that nobody
/// waits for each piece. A thread that has something to do again waits for its turn instead of driving
/// another off its core (`SCHED_BATCH` of sched(7)), and each turn is longer (`sched_runtime` of
/// `struct sched_attr`, Linux 6.12; older ones ignore it), so that what a picture has in a core's cache
/// is still there when it is needed: with small pictures a twentieth as many interruptions and about 4 %
/// more pictures a second. It holds for the web server on the same machine as well, which comes before us
/// because its turns are shorter. Where it can't be had, only that is lost; what an operator chose
/// (idle, say) stays.
#[cfg(target_os = "linux")]
pub fn compute_in_background() {
    let Some(given) = scheduling() else { return };
    if given.policy != libc::SCHED_OTHER.unsigned_abs() {
        return;
    }
    let wanted = Scheduling { policy: libc::SCHED_BATCH.unsigned_abs(), runtime: TURN, ..given };
    #[expect(unsafe_code, reason = "there is no safe way to the scheduler's policy")]
    // SAFETY: it is about this thread only, and the structure, which says how long it is, lives through
    // the call, which only reads it.
    let taken = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
    if taken != 0 {
        tracing::debug!("the scheduler keeps its own policy");
    }
}

/// How long a thread computes in one turn, in nanoseconds. Five times as long gains nothing more.
#[cfg(target_os = "linux")]
const TURN: u64 = 20_000_000;

/// `struct sched_attr` of `sched_setattr(2)` in its first version.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Scheduling {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// How this thread is scheduled; `None` where that can't be asked.
#[cfg(target_os = "linux")]
fn scheduling() -> Option<Scheduling> {
    let mut found = Scheduling::default();
    let size = size_of::<Scheduling>();
    #[expect(unsafe_code, reason = "there is no safe way to the scheduler's policy")]
    // SAFETY: it is about this thread only, and writes no more than `size` bytes to the structure, all
    // of whose fields are numbers.
    let told = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, size, 0) };
    (told == 0).then_some(found)
}

/// Nothing: only Linux has such a policy.
#[cfg(not(target_os = "linux"))]
pub fn compute_in_background() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_computes_in_the_background_keeps_its_priority() {
        // A thread of its own: each has its own policy.
        let asked = std::thread::spawn(|| {
            let before = scheduling().expect("it can be asked");
            compute_in_background();
            let after = scheduling().expect("it can be asked");
            compute_in_background();
            (before, after, scheduling().expect("it can be asked"))
        });
        let (before, after, again) = asked.join().expect("no panic");
        if before.policy == libc::SCHED_OTHER.unsigned_abs() {
            assert_eq!(after.policy, libc::SCHED_BATCH.unsigned_abs());
        }
        assert_eq!(after.nice, before.nice);
        // 0: a kernel that knows of no turns.
        assert!([0, TURN].contains(&after.runtime), "{after:?}");
        assert_eq!((again.policy, again.runtime), (after.policy, after.runtime));
    }
}
