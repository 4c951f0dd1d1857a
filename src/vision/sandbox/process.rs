//! What this process asks of the system and the C library: how it is scheduled, how its heap
//! behaves, who else has a file open.

use std::fs::File;

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
/// waits for each piece (`SCHED_BATCH` of sched(7)): a thread that has something to do again waits for
/// its turn instead of driving another off its core. With small pictures that is a fifth as many
/// interruptions and 2 % more pictures a second, and it holds for the web server on the same machine
/// as well. Where it can't be had, only that is lost; what an operator chose (idle, say) stays.
#[cfg(target_os = "linux")]
pub fn compute_in_background() {
    #[expect(unsafe_code, reason = "there is no safe way to the scheduler's policy")]
    // SAFETY: both calls are about this thread's policy only, and the parameter lives through its call.
    let taken = unsafe {
        if libc::sched_getscheduler(0) != libc::SCHED_OTHER {
            return;
        }
        let parameter = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameter)
    };
    if taken != 0 {
        tracing::debug!("the scheduler keeps its own policy");
    }
}

/// Nothing: only Linux has such a policy.
#[cfg(not(target_os = "linux"))]
pub fn compute_in_background() {}

/// Whether anybody has this file open for writing, or mapped so; `None` where the system does not
/// tell: on some file systems, and for files of others without `CAP_LEASE`.
///
/// Asks for a read lease (`F_SETLEASE` of fcntl(2)), which is refused exactly then, and gives it
/// back at once. The file must be open for reading only.
#[cfg(target_os = "linux")]
pub fn is_open_for_writing(file: &File) -> Option<bool> {
    use std::os::fd::AsRawFd as _;
    use std::sync::Once;

    // Sent to whoever holds a lease on a file that another opens in that very moment; it would end
    // this process.
    static IGNORED: Once = Once::new();
    IGNORED.call_once(|| {
        #[expect(unsafe_code, reason = "there is no safe way to ignore a signal")]
        // SAFETY: ignoring a signal runs no code of ours.
        let _ = unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    });
    let descriptor = file.as_raw_fd();
    #[expect(unsafe_code, reason = "there is no safe way to a lease")]
    // SAFETY: the descriptor is open while `file` lives, and both calls take numbers only.
    let taken = unsafe {
        let taken = libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_RDLCK);
        if taken == 0 {
            libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK);
        }
        taken
    };
    match (taken, std::io::Error::last_os_error().raw_os_error()) {
        (0, _) => Some(false),
        (_, Some(libc::EAGAIN)) => Some(true),
        _ => None,
    }
}

/// Only Linux tells.
#[cfg(not(target_os = "linux"))]
pub fn is_open_for_writing(_file: &File) -> Option<bool> {
    None
}

/// From now on this thread reads only when nobody else wants the disk (`IOPRIO_CLASS_IDLE` of
/// `ioprio_set(2)`). Where it can't be had, only that is lost.
#[cfg(target_os = "linux")]
pub fn use_idle_disk() {
    // The class in the bits above 13, and a level that does not matter.
    const IDLE: libc::c_int = 3 << 13;
    const THIS_THREAD: (libc::c_int, libc::c_int) = (1, 0);
    let (which, who) = THIS_THREAD;
    #[expect(unsafe_code, reason = "there is no safe way to a thread's I/O priority")]
    // SAFETY: the call takes numbers only and is about this thread.
    let taken = unsafe { libc::syscall(libc::SYS_ioprio_set, which, who, IDLE) };
    if taken != 0 {
        tracing::debug!("this thread reads as all others do");
    }
}

/// Nothing: only Linux has such a class.
#[cfg(not(target_os = "linux"))]
pub fn use_idle_disk() {}
