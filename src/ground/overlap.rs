//! Whether two folders are, or hold, the same files: by name, by device and inode, and by what the
//! system has mounted where.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How a folder lies to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// They are the same.
    Same,
    /// It holds the other.
    Holds,
    /// It lies in the other.
    LiesIn,
}

/// What the system has mounted where.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Those of this process; none where the system has no list of them, as only Linux has.
    pub fn now() -> Self {
        let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self(text.split(|byte| *byte == b'\n').filter_map(|line| mount(line).ok()).collect())
    }

    /// How `folder` lies to `other`, whatever names both have; `None` for folders that share
    /// nothing. One that is not there counts as a name below what is there.
    ///
    /// Names tell about links, device and inode about a folder that is mounted elsewhere too, and
    /// the list of mounts about a part of one that is.
    pub fn overlap(&self, folder: &Path, other: &Path) -> Option<Overlap> {
        Place::of(folder, self).to(&Place::of(other, self))
    }
}

/// Everything that a folder is known by.
struct Place {
    /// Its real name.
    name: PathBuf,
    /// Device and inode of it and of each folder above it, the folder itself first; without it,
    /// where it is not there.
    chain: Vec<Option<(u64, u64)>>,
    /// Device and name on that device of it, then of what is mounted below it.
    shown: Vec<(String, PathBuf)>,
}

impl Place {
    fn of(path: &Path, mounts: &Mounts) -> Self {
        let name = real_name(path);
        let identity =
            |path: &Path| fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let chain = name.ancestors().map(identity).collect();
        let shown = shown_at(&name, &mounts.0);
        Self { name, chain, shown }
    }

    fn to(&self, other: &Self) -> Option<Overlap> {
        if self.name == other.name {
            return Some(Overlap::Same);
        }
        let is = |one: Option<&Option<(u64, u64)>>, two: &Option<(u64, u64)>| {
            one.is_some_and(|one| one.is_some() && one == two)
        };
        let (mine, theirs) = (self.chain.first(), other.chain.first());
        if theirs.is_some_and(|theirs| is(mine, theirs)) {
            return Some(Overlap::Same);
        }
        if other.name.starts_with(&self.name) || other.chain.iter().any(|one| is(mine, one)) {
            return Some(Overlap::Holds);
        }
        if self.name.starts_with(&other.name) || self.chain.iter().any(|one| is(theirs, one)) {
            return Some(Overlap::LiesIn);
        }
        // What is mounted below the other may be the uploads themselves, and does not count.
        let (device, theirs) = other.shown.first()?;
        let here = |(mine, _): &&(String, PathBuf)| mine == device;
        if self.shown.first().filter(here).is_some_and(|(_, mine)| mine.starts_with(theirs)) {
            return Some(Overlap::LiesIn);
        }
        let holds = |(place, (_, mine)): (usize, &(String, PathBuf))| {
            // A part of the other that is shown below this one is as bad as the whole.
            theirs.starts_with(mine) || (place > 0 && mine.starts_with(theirs))
        };
        let shown = self.shown.iter().enumerate().filter(|(_, shown)| here(shown));
        shown.into_iter().any(holds).then_some(Overlap::Holds)
    }
}

/// The real name of a path, or of as much of it as is there, with the rest behind it.
fn real_name(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for above in absolute.ancestors() {
        if let Ok(real) = fs::canonicalize(above) {
            let rest = absolute.strip_prefix(above).unwrap_or(Path::new(""));
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    absolute
}

/// One line of the list of mounts.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Device, as `major:minor`.
    device: String,
    /// The folder of the device's file system that is shown.
    root: PathBuf,
    /// Where it is shown.
    at: PathBuf,
}

/// `36 35 98:0 /root /at options…`, see `proc_pid_mountinfo(5)`.
fn mount(line: &[u8]) -> io::Result<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').skip(2);
    let mut next = || fields.next().ok_or(io::ErrorKind::InvalidData);
    let device = String::from_utf8_lossy(next()?).into_owned();
    Ok(Mount { device, root: unescaped(next()?), at: unescaped(next()?) })
}

/// Blanks and the like stand there as `\040`.
fn unescaped(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\');
        let number = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(number) = number {
            bytes.push(number);
            rest = &behind[3..];
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// Device and name on it of a folder, then of what is mounted below it.
fn shown_at(folder: &Path, mounts: &[Mount]) -> Vec<(String, PathBuf)> {
    // Of two that are mounted at one place the later one is seen.
    let around = mounts.iter().filter(|mount| folder.starts_with(&mount.at));
    let itself = around.max_by_key(|mount| mount.at.as_os_str().len()).and_then(|mount| {
        let rest = folder.strip_prefix(&mount.at).ok()?;
        let name =
            if rest.as_os_str().is_empty() { mount.root.clone() } else { mount.root.join(rest) };
        Some((mount.device.clone(), name))
    });
    let below = mounts.iter().filter(|mount| mount.at != folder && mount.at.starts_with(folder));
    let below = below.map(|mount| (mount.device.clone(), mount.root.clone()));
    let unknown = || (String::new(), folder.to_owned());
    std::iter::once(itself.unwrap_or_else(unknown)).chain(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_overlap_by_name_and_through_links() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        for name in ["ws/uploads", "ws/policies/more", "other"] {
            fs::create_dir_all(path(name)).expect("made");
        }
        std::os::unix::fs::symlink(path("ws/policies"), path("link")).expect("linked");
        let found = |one: &str, two: &str| Mounts::now().overlap(&path(one), &path(two));
        assert_eq!(found("ws", "ws"), Some(Overlap::Same));
        assert_eq!(found("link", "ws/policies"), Some(Overlap::Same));
        assert_eq!(found("ws", "ws/policies"), Some(Overlap::Holds));
        assert_eq!(found("ws/policies/more", "link"), Some(Overlap::LiesIn));
        assert_eq!(found("ws", "ws/vectors/not-there"), Some(Overlap::Holds));
        assert_eq!(found("ws/uploads", "ws/policies"), None);
        assert_eq!(found("other", "ws"), None);
        assert_eq!(found("ws/up", "ws/uploads"), None, "a name that only begins so");
    }

    fn mounted(device: &str, root: &str, at: &str) -> Mount {
        Mount { device: device.into(), root: root.into(), at: at.into() }
    }

    fn place(name: &str, mounts: &[Mount]) -> Place {
        let shown = shown_at(Path::new(name), mounts);
        Place { name: name.into(), chain: vec![None], shown }
    }

    #[test]
    fn a_part_of_a_folder_that_is_mounted_elsewhere_is_known() {
        let mounts = [
            mounted("8:1", "/", "/"),
            mounted("8:1", "/ws/policies/more", "/uploads"),
            mounted("8:1", "/ws/vectors", "/srv/in/deep"),
            mounted("8:2", "/", "/other"),
        ];
        let found = |one: &str, two: &str| place(one, &mounts).to(&place(two, &mounts));
        assert_eq!(found("/uploads", "/ws/policies"), Some(Overlap::LiesIn));
        assert_eq!(found("/uploads/a", "/ws/policies"), Some(Overlap::LiesIn));
        assert_eq!(found("/srv/in", "/ws/vectors"), Some(Overlap::Holds));
        assert_eq!(found("/srv/in", "/ws/policies"), None);
        assert_eq!(found("/other/ws/policies", "/ws/policies"), None, "another device");
        assert_eq!(found("/ws/policies", "/uploads"), Some(Overlap::Holds));
        let uploads_in_the_workspace =
            [mounted("8:1", "/", "/"), mounted("8:1", "/srv/uploads", "/ws/uploads")];
        let found = |one: &str, two: &str| {
            place(one, &uploads_in_the_workspace).to(&place(two, &uploads_in_the_workspace))
        };
        assert_eq!(found("/srv/uploads", "/ws"), None);
        assert_eq!(found("/ws/uploads", "/ws"), Some(Overlap::LiesIn));
    }

    #[test]
    fn the_list_of_mounts_is_read() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount(line).expect("a line"), mounted("98:0", "/mnt1", "/mnt 2"));
        assert!(mount(b"").is_err());
        if cfg!(target_os = "linux") {
            assert!(Mounts::now().0.iter().any(|mount| mount.at == Path::new("/")));
        }
    }
}
