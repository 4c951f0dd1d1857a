//! Users and groups of this machine: names, and who a group lets in.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User};

/// A user that this process can become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
    /// The name; `None` for a number that the machine has no user for.
    pub name: Option<CString>,
    /// The home folder, where the machine knows the user.
    pub home: Option<PathBuf>,
}

impl Account {
    /// The user with this number. One that the machine does not know gets `gid` as its group.
    pub fn of(uid: u32, gid: u32) -> Self {
        match user(uid) {
            Some(user) => Self {
                uid,
                gid: user.gid.as_raw(),
                name: CString::new(user.name).ok(),
                home: Some(user.dir),
            },
            None => Self { uid, gid, name: None, home: None },
        }
    }
}

/// The name of a user; the number, where the machine has no name for it.
pub fn user_name(uid: u32) -> String {
    user(uid).map_or_else(|| uid.to_string(), |user| user.name)
}

/// The name of a group, or its number.
pub(super) fn group_name(gid: u32) -> String {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    group.map_or_else(|| gid.to_string(), |group| group.name)
}

fn user(uid: u32) -> Option<User> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten()
}

/// Whether a group lets in nobody but this user and root, so that its right to write is no
/// stranger's: the user's own group, as most systems make one for each user, or root's.
///
/// Members are read from the machine's own list of users; a user that only a directory service
/// knows is believed only where the group has the user's name, as such groups have.
pub(super) fn is_private_group(gid: u32, uid: u32) -> bool {
    if cfg!(target_os = "macos") {
        // Its users share one group, and its list of users is no file. Administrators (80) may do
        // as root anyway.
        return matches!(gid, 0 | 80);
    }
    let listed = ListedUser::all();
    if gid == 0 {
        return no_member_but(gid, 0, uid) && listed.iter().all(|user| !user.uses_roots_group());
    }
    if listed.iter().any(|other| other.gid == gid && other.uid != uid && other.uid != 0) {
        return false;
    }
    let is_own = match user(uid) {
        Some(user) => {
            let is_local = listed.iter().any(|listed| listed.uid == uid && listed.gid == gid);
            user.gid.as_raw() == gid && (is_local || group_name(gid) == user.name)
        }
        // A container's number without a name: its group has the same number.
        None => gid == uid && nix::unistd::getegid().as_raw() == gid,
    };
    is_own && no_member_but(gid, 0, uid)
}

fn no_member_but(gid: u32, one: u32, other: u32) -> bool {
    let Ok(group) = Group::from_gid(Gid::from_raw(gid)) else { return false };
    let members = group.map(|group| group.mem).unwrap_or_default();
    members.iter().all(|name| {
        let member = User::from_name(name).ok().flatten();
        member.is_none_or(|member| [one, other].contains(&member.uid.as_raw()))
    })
}

/// A line of the machine's own list of users.
struct ListedUser {
    uid: u32,
    gid: u32,
    shell: String,
}

impl ListedUser {
    fn all() -> Vec<Self> {
        let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        text.lines().filter_map(Self::parse).collect()
    }

    /// `name:password:uid:gid:about:home:shell`, see passwd(5).
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, uid, gid, _, _, shell] = fields[..] else { return None };
        Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()?, shell: shell.to_owned() })
    }

    /// Whether this is somebody else in root's group who can run programs. Some systems list
    /// `sync`, `shutdown`, `halt` and `operator` there, as whom nothing runs.
    fn uses_roots_group(&self) -> bool {
        let idle = ["nologin", "false", "sync", "shutdown", "halt"];
        let shell = self.shell.rsplit('/').next().unwrap_or_default();
        self.gid == 0 && self.uid != 0 && !(self.uid < 100 && idle.contains(&shell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_of_users_is_read() {
        let user = ListedUser::parse("halt:x:7:0:halt:/sbin:/sbin/halt").expect("a line");
        assert_eq!((user.uid, user.gid), (7, 0));
        assert!(!user.uses_roots_group(), "nothing runs as halt");
        let user = ListedUser::parse("toor:x:1000:0::/home/toor:/bin/bash").expect("a line");
        assert!(user.uses_roots_group());
        assert!(ListedUser::parse("# a comment").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_own_group_and_roots_are_private() {
        let nobody_has = 2_000_000_123;
        assert!(!is_private_group(nobody_has, 0), "root has another group");
        let own = nix::unistd::getegid().as_raw();
        assert!(!is_private_group(own + 77_777, nix::unistd::geteuid().as_raw()));
    }

    #[test]
    fn a_number_without_a_user_keeps_the_group_it_came_with() {
        let account = Account::of(2_000_000_123, 7);
        let unknown = Account { uid: 2_000_000_123, gid: 7, name: None, home: None };
        assert_eq!(account, unknown);
        assert_eq!(user_name(2_000_000_123), "2000000123");
    }
}
