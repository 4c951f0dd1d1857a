//! Resolves a path beneath a folder, without links: by the kernel where it can (openat2), else
//! one component at a time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Opens `below`, a relative path, beneath `folder`. No component may be a symbolic link, `..` or
/// absolute; the last one is not followed either.
pub(super) fn open(folder: BorrowedFd<'_>, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if below.as_os_str().is_empty() {
        return rustix::fs::openat(folder, ".", flags, Mode::empty());
    }
    #[cfg(target_os = "linux")]
    if by_kernel::is_there() {
        match by_kernel::open(folder, below, flags) {
            // Something was renamed again and again while it looked.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    by_component(folder, below, flags)
}

/// The longest path that the kernel takes (`PATH_MAX` with its last byte); without this limit here a
/// chain of folders would cost its length for each of them.
const LONGEST: usize = 4095;

/// Each folder on the way is opened in the one before; a link is refused as no folder.
fn by_component(folder: BorrowedFd<'_>, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    if below.as_os_str().len() > LONGEST {
        return Err(Errno::NAMETOOLONG);
    }
    let on_the_way = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | path_only();
    let mut components = below.components().peekable();
    let mut reached: Option<OwnedFd> = None;
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else { return Err(Errno::XDEV) };
        let here = reached.as_ref().map_or(folder, AsFd::as_fd);
        let last = components.peek().is_none();
        let flags = if last { flags } else { on_the_way };
        reached = Some(rustix::fs::openat(here, name, flags, Mode::empty())?);
    }
    reached.ok_or(Errno::NOENT)
}

/// A descriptor that only names a place: it needs no permission to read there.
pub(super) fn path_only() -> OFlags {
    #[cfg(target_os = "linux")]
    return OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    OFlags::RDONLY
}

#[cfg(target_os = "linux")]
mod by_kernel {
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::path::Path;
    use std::sync::OnceLock;

    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
    use rustix::io::Errno;

    /// Old kernels (before 5.6) do not know the call, and filters of old containers refuse it.
    pub(super) fn is_there() -> bool {
        static THERE: OnceLock<bool> = OnceLock::new();
        *THERE.get_or_init(|| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::empty()).is_ok()
        })
    }

    pub(super) fn open(
        folder: BorrowedFd<'_>,
        below: &Path,
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed meanwhile, so that the kernel can't be sure.
        let mut attempts = 0;
        loop {
            match rustix::fs::openat2(folder, below, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if attempts < 16 => attempts += 1,
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Both ways, so that what old kernels get is tried too.
    fn both(folder: &File, below: &str) -> [Result<OwnedFd, Errno>; 2] {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let below = Path::new(below);
        [
            open(folder.as_fd(), below, flags),
            by_component(folder.as_fd(), below, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC),
        ]
    }

    #[test]
    fn nothing_outside_and_nothing_behind_a_link_is_reached() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub/deep")).expect("made");
        std::fs::create_dir(dir.path().join("outside")).expect("made");
        for file in ["root/a", "root/sub/deep/b", "outside/c"] {
            std::fs::write(dir.path().join(file), b"x").expect("written");
        }
        symlink(dir.path().join("outside"), root.join("away")).expect("linked");
        symlink("../outside", root.join("relative")).expect("linked");
        symlink("sub", root.join("inside")).expect("linked");
        symlink("a", root.join("a-link")).expect("linked");
        let folder = File::open(&root).expect("opened");
        for good in ["a", "sub/deep/b", "sub/deep"] {
            for opened in both(&folder, good) {
                opened.expect(good);
            }
        }
        let bad = [
            "away/c",
            "relative/c",
            "inside/deep/b",
            "a-link",
            "../outside/c",
            "sub/../../outside/c",
            "/etc/passwd",
        ];
        for bad in bad {
            for opened in both(&folder, bad) {
                opened.expect_err(bad);
            }
        }
    }

    #[test]
    fn paths_that_nobody_can_open_in_one_piece_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = File::open(dir.path()).expect("opened");
        for opened in both(&root, &"d/".repeat(2100)) {
            assert_eq!(opened.err(), Some(Errno::NAMETOOLONG));
        }
    }
}
