//! What belongs to a file besides its bytes: owner, group, permissions, times, attributes and
//! access lists. Read before a removal, given back by a restore as far as this process may.

use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime};

use rustix::fs::{Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::folder::Stat;

/// Attributes of users, and the POSIX access list. Those of the system (`security.capability`
/// among them) are never kept: a file comes back without rights that it does not need.
const PREFIX: &[u8] = b"user.";
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
/// The most that the system lists, or holds in one attribute (xattr(7)); and the most that is kept
/// of a file in all: more is no note that a site keeps with an upload.
const MOST: usize = 64 << 10;

/// Permissions that come back: never set-user-id, set-group-id or sticky.
const PERMISSIONS: u32 = 0o777;

/// An extended attribute: its name and its value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// What belongs to a file besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// User and group by number; none where it is not known.
    pub owner: Option<(u32, u32)>,
    /// Permission bits, at most 0o777; none where it is not known.
    pub mode: Option<u32>,
    /// Last change of the bytes, nanoseconds since 1970.
    pub mtime_ns: Option<i64>,
    /// Names and values.
    pub attributes: Vec<Attribute>,
    /// Attributes that are too much to keep, or could not be read.
    pub lost: u32,
}

/// What could not be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotKept {
    /// The user and group that it belonged to.
    pub owner: Option<(u32, u32)>,
    /// Attributes or the access list.
    pub attributes: u32,
}

impl NotKept {
    /// Words for people; `None` when all was given back.
    pub fn words(self) -> Option<String> {
        let owner = self.owner.map(|(user, group)| {
            format!("it belonged to user {user}, group {group} before (chown {user}:{group})")
        });
        let attributes = (self.attributes > 0)
            .then(|| format!("{} extended attributes are lost", self.attributes));
        let words: Vec<String> = owner.into_iter().chain(attributes).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

impl Kept {
    /// What belongs to an open file.
    pub fn of(file: &File, stat: &Stat) -> Self {
        Self {
            owner: Some((stat.owner, stat.group)),
            mode: Some(stat.mode & PERMISSIONS),
            mtime_ns: Some(stat.file.mtime_ns),
            ..attributes_of(file)
        }
    }

    /// Gives it to a new file of ours. What this process may not give is left out, and told.
    ///
    /// # Errors
    /// When permissions or times can't be set.
    pub fn give_to(&self, file: &File) -> io::Result<NotKept> {
        let mut lost = NotKept { attributes: self.lost, owner: None };
        for (name, value) in &self.attributes {
            if rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).is_err() {
                lost.attributes += 1;
            }
        }
        if let Some(owner) = self.owner {
            lost.owner = (!give_owner(file, owner)).then_some(owner);
        }
        if let Some(mode) = self.mode {
            // Last, because a change of the owner takes permissions away, and an access list
            // changes what the group may do.
            rustix::fs::fchmod(file, Mode::from_bits_truncate((mode & PERMISSIONS) as _))?;
        }
        if let Some(at) = self.mtime_ns.and_then(time_of) {
            file.set_times(std::fs::FileTimes::new().set_modified(at))?;
        }
        Ok(lost)
    }
}

/// Whether the file belongs to them now. A group that this process is in can be given without
/// the owner.
fn give_owner(file: &File, (user, group): (u32, u32)) -> bool {
    let is = |stat: &Stat| (stat.owner, stat.group) == (user, group);
    if Stat::of_open(file).is_ok_and(|stat| is(&stat)) {
        return true;
    }
    let (user_id, group_id) = (Uid::from_raw(user), Gid::from_raw(group));
    if rustix::fs::fchown(file, Some(user_id), Some(group_id)).is_err() {
        // The owner stays ours; that is told.
        let _ = rustix::fs::fchown(file, None, Some(group_id));
    }
    Stat::of_open(file).is_ok_and(|stat| is(&stat))
}

fn time_of(ns: i64) -> Option<SystemTime> {
    let since = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(since)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(since)
    }
}

/// The attributes that are kept, and how many are not.
fn attributes_of(file: &File) -> Kept {
    let mut kept = Kept::default();
    let mut names = vec![0; MOST];
    match rustix::fs::flistxattr(file, names.as_mut_slice()) {
        Ok(length) => names.truncate(length),
        // A file system without attributes has none to keep.
        Err(Errno::OPNOTSUPP) => return kept,
        Err(_) => return Kept { lost: 1, ..kept },
    }
    let mut room = MOST;
    let wanted = |name: &&[u8]| name.starts_with(PREFIX) || *name == ACCESS_LIST;
    for name in names.split(|byte| *byte == 0).filter(wanted) {
        let mut value = vec![0; room];
        match rustix::fs::fgetxattr(file, name, value.as_mut_slice()) {
            Ok(length) if name.len() + length <= room => {
                value.truncate(length);
                room -= name.len() + length;
                kept.attributes.push((name.to_owned(), value));
            }
            Ok(_) | Err(_) => kept.lost += 1,
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_a_file_does_not_need_do_not_come_back() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let [from, to] =
            ["a", "b"].map(|name| File::create_new(dir.path().join(name)).expect("made"));
        rustix::fs::fchmod(&from, Mode::from_raw_mode(0o6751)).expect("set");
        let kept = Kept::of(&from, &Stat::of_open(&from).expect("told"));
        assert_eq!(kept.mode, Some(0o751));
        // Whatever a manifest says that somebody wrote by hand.
        let kept = Kept { mode: Some(0o7751), ..kept };
        assert_eq!(kept.give_to(&to).expect("given"), NotKept::default());
        assert_eq!(Stat::of_open(&to).expect("told").mode, 0o751);
    }

    #[test]
    fn times_and_attributes_come_back() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let [from, to] =
            ["a", "b"].map(|name| File::create_new(dir.path().join(name)).expect("made"));
        let old = time_of(1_000_000_123_456_789).expect("a time");
        from.set_times(std::fs::FileTimes::new().set_modified(old)).expect("set");
        let set = rustix::fs::fsetxattr(&from, "user.note", b"x", XattrFlags::empty());
        let kept = Kept::of(&from, &Stat::of_open(&from).expect("told"));
        kept.give_to(&to).expect("given");
        assert_eq!(Stat::of_open(&to).expect("told").file.mtime_ns, 1_000_000_123_456_789);
        if set.is_ok() {
            assert_eq!(attributes_of(&to).attributes, [(b"user.note".to_vec(), b"x".to_vec())]);
        }
    }

    #[test]
    fn what_is_lost_is_said() {
        assert_eq!(NotKept::default().words(), None);
        let lost = NotKept { owner: Some((33, 34)), attributes: 2 };
        let words = lost.words().expect("something is lost");
        assert!(
            words.contains("chown 33:34") && words.contains("2 extended attributes"),
            "{words}"
        );
    }
}
