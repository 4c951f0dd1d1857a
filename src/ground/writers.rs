//! Who may write a file, or change what its name means: its owner, its mode, and those of every
//! folder and link on the way to it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::accounts::{group_name, is_private_group, user_name};
use crate::moderation::escape::escape_path;

/// More links than this on one way are a loop; Linux follows as many.
const MOST_LINKS: usize = 40;

/// A path that others may write, or whose meaning they may change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Untrusted {
    /// The folder, file or link through which they can.
    pub place: PathBuf,
    /// What gives them the right.
    pub why: WhyUntrusted,
}

/// What lets others change a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyUntrusted {
    /// It belongs to another user, named here.
    Owner(String),
    /// Everybody may write it; its mode.
    Everybody(u32),
    /// A group may write it that lets others in: the group's name, and the mode.
    Group(String, u32),
    /// An access control list lets others write it.
    AccessList,
    /// It is not there, and anybody may make it.
    AnybodyMayMakeIt,
    /// It can't be looked at.
    Unreadable(io::ErrorKind),
    /// Links that lead in a circle.
    TooManyLinks,
}

impl Untrusted {
    fn new(place: &Path, why: WhyUntrusted) -> Self {
        Self { place: place.to_owned(), why }
    }

    fn sentence(&self) -> String {
        let place = escape_path(&self.place);
        match &self.why {
            WhyUntrusted::Owner(owner) => format!("{place} belongs to the user {owner}"),
            WhyUntrusted::Everybody(mode) => {
                format!("everybody may write {place} (mode {mode:04o})")
            }
            WhyUntrusted::Group(group, mode) => {
                format!("others in the group {group} may write {place} (mode {mode:04o})")
            }
            WhyUntrusted::AccessList => {
                format!("an access control list lets others write {place}")
            }
            WhyUntrusted::AnybodyMayMakeIt => {
                format!("{place} does not exist, and anybody may make it")
            }
            WhyUntrusted::Unreadable(kind) => format!("{place} can't be looked at ({kind})"),
            WhyUntrusted::TooManyLinks => format!("the links at {place} lead in a circle"),
        }
    }

    /// What to do about it, as the end of a sentence.
    pub fn remedy(&self) -> String {
        let place = escape_path(&self.place);
        match &self.why {
            WhyUntrusted::Owner(owner) => {
                format!("run modtool as {owner}, or give it to the user that runs modtool (chown)")
            }
            WhyUntrusted::Everybody(_) => format!("`chmod o-w {place}`"),
            WhyUntrusted::Group(..) => format!("`chmod g-w {place}`"),
            WhyUntrusted::AccessList => format!("`setfacl -b {place}`"),
            WhyUntrusted::AnybodyMayMakeIt => format!("make it first: `mkdir -m 700 {place}`"),
            WhyUntrusted::Unreadable(_) | WhyUntrusted::TooManyLinks => {
                "name another folder".to_owned()
            }
        }
    }
}

/// Looks at a file or folder and at everything above it, following links as the system would. Fine
/// is what belongs to root or to the user that runs this, and that nobody else may write; a folder
/// above may be writable where it is sticky, as `/tmp` is. What is not there is fine if nobody
/// else can make it.
///
/// # Errors
/// [`Untrusted`], naming the first place through which others can change the path.
pub fn check(path: &Path) -> Result<(), Untrusted> {
    Walk::new().walk(path)
}

/// [`check`] for a folder, and for what lies in it down to `depth` levels: each file and folder
/// must be nobody else's. At most `MOST_ENTRIES` are looked at.
///
/// # Errors
/// [`Untrusted`].
pub fn check_with_entries(folder: &Path, depth: usize) -> Result<(), Untrusted> {
    let mut walk = Walk::new();
    walk.walk(folder)?;
    let mut folders = vec![(folder.to_owned(), depth)];
    let mut looked_at = 0;
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            looked_at += 1;
            if looked_at > MOST_ENTRIES {
                return Ok(());
            }
            let path = entry.path();
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.is_symlink() {
                walk.walk(&path)?;
                continue;
            }
            walk.nobody_else_writes(&path, &meta)?;
            if meta.is_dir() && depth > 1 {
                folders.push((path, depth - 1));
            }
        }
    }
    Ok(())
}

/// So many entries of a folder are looked at: rules and models are few.
const MOST_ENTRIES: usize = 4096;

/// One step on the way.
enum Step {
    Root,
    Up,
    Down(OsString),
}

struct Walk {
    uid: u32,
    /// What a group's members were found to be; asked once for each.
    groups: Vec<(u32, bool)>,
}

impl Walk {
    fn new() -> Self {
        Self { uid: nix::unistd::geteuid().as_raw(), groups: Vec::new() }
    }

    fn walk(&mut self, path: &Path) -> Result<(), Untrusted> {
        let unreadable =
            |error: io::Error| Untrusted::new(path, WhyUntrusted::Unreadable(error.kind()));
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let mut steps: VecDeque<Step> = steps(&absolute).collect();
        let mut real = PathBuf::from("/");
        let mut links = 0;
        // Whether anybody may make names in the folder that was reached.
        let mut open_folder = self.folder_above(&real)?;
        while let Some(step) = steps.pop_front() {
            let name = match step {
                Step::Root => {
                    real = PathBuf::from("/");
                    open_folder = false;
                    continue;
                }
                Step::Up => {
                    real.pop();
                    // It was looked at on the way down, and was fine.
                    open_folder = self.folder_above(&real)?;
                    continue;
                }
                Step::Down(name) => name,
            };
            let here = real.join(&name);
            let meta = match fs::symlink_metadata(&here) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound && open_folder => {
                    return Err(Untrusted::new(&here, WhyUntrusted::AnybodyMayMakeIt));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => {
                    return Err(Untrusted::new(&here, WhyUntrusted::Unreadable(error.kind())));
                }
            };
            if meta.is_symlink() {
                if open_folder {
                    self.is_ours(&here, &meta)?;
                }
                links += 1;
                let target = match fs::read_link(&here) {
                    Ok(target) if links <= MOST_LINKS => target,
                    _ => return Err(Untrusted::new(&here, WhyUntrusted::TooManyLinks)),
                };
                let rest = std::mem::take(&mut steps);
                steps = self::steps(&target).chain(rest).collect();
                continue;
            }
            real = here;
            if steps.is_empty() || !meta.is_dir() {
                break;
            }
            open_folder = self.folder_above_with(&real, &meta)?;
        }
        let meta = fs::symlink_metadata(&real)
            .map_err(|error| Untrusted::new(&real, WhyUntrusted::Unreadable(error.kind())))?;
        self.nobody_else_writes(&real, &meta)
    }

    /// Whether strangers may make names in a folder above (which is then sticky).
    fn folder_above(&mut self, folder: &Path) -> Result<bool, Untrusted> {
        let meta = fs::symlink_metadata(folder)
            .map_err(|error| Untrusted::new(folder, WhyUntrusted::Unreadable(error.kind())))?;
        self.folder_above_with(folder, &meta)
    }

    fn folder_above_with(&mut self, folder: &Path, meta: &Metadata) -> Result<bool, Untrusted> {
        self.is_ours(folder, meta)?;
        match self.other_writers(folder, meta) {
            None => Ok(false),
            // In a sticky folder nobody can rename or remove what belongs to root or to us.
            Some(_) if meta.mode() & 0o1000 != 0 => Ok(true),
            Some(why) => Err(Untrusted::new(folder, why)),
        }
    }

    fn nobody_else_writes(&mut self, path: &Path, meta: &Metadata) -> Result<(), Untrusted> {
        self.is_ours(path, meta)?;
        match self.other_writers(path, meta) {
            None => Ok(()),
            Some(why) => Err(Untrusted::new(path, why)),
        }
    }

    fn is_ours(&self, path: &Path, meta: &Metadata) -> Result<(), Untrusted> {
        if meta.uid() == 0 || meta.uid() == self.uid {
            return Ok(());
        }
        Err(Untrusted::new(path, WhyUntrusted::Owner(user_name(meta.uid()))))
    }

    /// What lets anybody but root and us write it.
    fn other_writers(&mut self, path: &Path, meta: &Metadata) -> Option<WhyUntrusted> {
        let mode = meta.mode() & 0o7777;
        if mode & 0o002 != 0 {
            return Some(WhyUntrusted::Everybody(mode));
        }
        if mode & 0o020 == 0 {
            // Where a file has a POSIX access control list, these bits are the list's mask: without
            // them no entry of it lets anybody else write.
            return None;
        }
        if !self.is_private(meta.gid()) {
            return Some(WhyUntrusted::Group(group_name(meta.gid()), mode));
        }
        self.list_lets_others_write(path).then_some(WhyUntrusted::AccessList)
    }

    fn is_private(&mut self, gid: u32) -> bool {
        if let Some((_, known)) = self.groups.iter().find(|(known, _)| *known == gid) {
            return *known;
        }
        let private = is_private_group(gid, self.uid);
        self.groups.push((gid, private));
        private
    }

    /// Whether an entry of the file's access control list lets another user or group write it.
    fn list_lets_others_write(&mut self, path: &Path) -> bool {
        let mut space = [0; 4096];
        let length = match rustix::fs::getxattr(path, "system.posix_acl_access", &mut space[..]) {
            Ok(length) => length,
            // Longer than any list that is meant well.
            Err(rustix::io::Errno::RANGE) => return true,
            Err(_none) => return false,
        };
        let entries = acl_writers(&space[..length]);
        entries.into_iter().any(|writer| match writer {
            AclWriter::User(uid) => uid != 0 && uid != self.uid,
            AclWriter::Group(gid) => !self.is_private(gid),
        })
    }
}

fn steps(path: &Path) -> impl Iterator<Item = Step> + use<> {
    let steps: Vec<Step> = path
        .components()
        .filter_map(|component| match component {
            Component::RootDir => Some(Step::Root),
            Component::ParentDir => Some(Step::Up),
            Component::Normal(name) => Some(Step::Down(OsStr::to_owned(name))),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    steps.into_iter()
}

/// Somebody whom an access control list names and lets write.
#[derive(Debug, PartialEq, Eq)]
enum AclWriter {
    User(u32),
    Group(u32),
}

/// Reads Linux's `posix_acl_xattr`: a version, then entries of tag, permissions and number, all
/// little-endian (`include/uapi/linux/posix_acl_xattr.h`).
fn acl_writers(bytes: &[u8]) -> Vec<AclWriter> {
    let Some(entries) = bytes.get(4..) else { return Vec::new() };
    let entry = |entry: &[u8]| {
        let &[tag, _, permissions, _, a, b, c, d] = entry else { return None };
        let number = u32::from_le_bytes([a, b, c, d]);
        match (tag, permissions & 0o2 != 0) {
            (0x02, true) => Some(AclWriter::User(number)),
            (0x08, true) => Some(AclWriter::Group(number)),
            _ => None,
        }
    };
    entries.chunks(8).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = fs::canonicalize(dir.path()).expect("it is there");
        (dir, path)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }

    fn made(path: &Path) -> &Path {
        fs::create_dir_all(path).expect("made");
        mode(path, 0o755);
        path
    }

    #[test]
    fn a_folder_of_ours_is_fine_until_everybody_may_write_it_or_one_above() {
        let (_dir, root) = folder();
        let inner = root.join("a/b");
        made(&inner);
        made(&root.join("a"));
        assert_eq!(check(&inner), Ok(()));
        assert_eq!(check(&inner.join("nothing/here/yet")), Ok(()));
        mode(&inner, 0o777);
        let found = check(&inner).expect_err("everybody may write it");
        assert_eq!(found, Untrusted::new(&inner, WhyUntrusted::Everybody(0o777)));
        assert!(found.remedy().contains("chmod o-w"), "{}", found.remedy());
        mode(&inner, 0o755);
        mode(&root.join("a"), 0o777);
        let found = check(&inner).expect_err("everybody may rename it");
        assert_eq!(found.place, root.join("a"));
    }

    #[test]
    fn a_sticky_folder_is_fine_above_and_not_as_the_place_itself() {
        let (_dir, root) = folder();
        let inner = root.join("tmp/ours");
        made(&inner);
        mode(&root.join("tmp"), 0o1777);
        assert_eq!(check(&inner), Ok(()));
        assert!(check(&root.join("tmp")).is_err(), "others may make files in it");
        let found = check(&root.join("tmp/none")).expect_err("anybody may make it");
        assert_eq!(found.why, WhyUntrusted::AnybodyMayMakeIt);
    }

    #[test]
    fn a_link_is_followed_and_both_its_ends_count() {
        let (_dir, root) = folder();
        for name in ["open", "shut", "target"] {
            made(&root.join(name));
        }
        symlink("../target", root.join("open/link")).expect("linked");
        symlink(root.join("target"), root.join("shut/link")).expect("linked");
        symlink("link2", root.join("shut/link2")).expect("linked");
        assert_eq!(check(&root.join("shut/link")), Ok(()));
        assert_eq!(check(&root.join("open/link/..")), Ok(()));
        mode(&root.join("open"), 0o777);
        assert_eq!(check(&root.join("open/link")).expect_err("open").place, root.join("open"));
        mode(&root.join("target"), 0o777);
        let found = check(&root.join("shut/link")).expect_err("the target is open");
        assert_eq!(found.place, root.join("target"));
        let found = check(&root.join("shut/link2")).expect_err("a circle");
        assert_eq!(found.why, WhyUntrusted::TooManyLinks);
    }

    #[test]
    fn a_file_and_the_entries_of_a_folder_count_too() {
        let (_dir, root) = folder();
        let file = root.join("policies/one.yaml");
        made(&root.join("policies"));
        fs::write(&file, "x").expect("written");
        mode(&file, 0o644);
        assert_eq!(check_with_entries(&root.join("policies"), 1), Ok(()));
        mode(&file, 0o646);
        assert!(check(&file).is_err());
        assert_eq!(check(&root.join("policies")), Ok(()));
        let found = check_with_entries(&root.join("policies"), 1).expect_err("a file is open");
        assert_eq!(found.place, file);
    }

    #[test]
    fn an_owner_who_is_neither_root_nor_we_is_named() {
        if !crate::ground::is_root("only root can give a file away") {
            return;
        }
        let (_dir, root) = folder();
        let inner = root.join("theirs/inner");
        made(&inner);
        made(&root.join("theirs"));
        std::os::unix::fs::chown(root.join("theirs"), Some(61_545), None).expect("root may");
        let found = check(&inner).expect_err("they may rename it");
        assert_eq!(found.why, WhyUntrusted::Owner("61545".to_owned()));
        assert_eq!(found.place, root.join("theirs"));
        // A link of theirs in a sticky folder leads where they want.
        made(&root.join("tmp"));
        mode(&root.join("tmp"), 0o1777);
        symlink("/", root.join("tmp/link")).expect("linked");
        std::os::unix::fs::lchown(root.join("tmp/link"), Some(61_545), None).expect("root may");
        assert!(check(&root.join("tmp/link/usr")).is_err());
    }

    #[test]
    fn a_group_that_lets_others_in_may_not_write() {
        if !crate::ground::is_root("only root can give a file to any group") {
            return;
        }
        let (_dir, root) = folder();
        made(&root.join("shared"));
        mode(&root.join("shared"), 0o775);
        assert_eq!(check(&root.join("shared")), Ok(()), "root's own group");
        std::os::unix::fs::chown(root.join("shared"), None, Some(61_545)).expect("root may");
        let found = check(&root.join("shared")).expect_err("a group that nobody knows");
        assert_eq!(found.why, WhyUntrusted::Group("61545".to_owned(), 0o775));
    }

    #[test]
    fn an_access_control_list_is_read() {
        let entry = |tag: u8, permissions: u8, number: u32| {
            [[tag, 0, permissions, 0], number.to_le_bytes()].concat()
        };
        let list = [
            vec![2, 0, 0, 0],
            entry(0x01, 7, u32::MAX),
            entry(0x02, 7, 1000),
            entry(0x02, 5, 1001),
            entry(0x08, 2, 50),
            entry(0x10, 7, u32::MAX),
        ];
        let writers = [AclWriter::User(1000), AclWriter::Group(50)];
        assert_eq!(acl_writers(&list.concat()), writers);
        assert_eq!(acl_writers(&[]), []);
    }
}
