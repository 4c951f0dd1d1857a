//! Files that a person names on a command line. They may name a file through links of their own;
//! but what lies in a watched folder is reached beneath that folder, because uploaders put links
//! there.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::moderation::Sighting;

use super::folder::{Folder, Kind, Stat};
use super::read::plain_words;
use super::roots::{Root, Roots};
use super::walk::{Excluded, Found, walk};

/// Files and folders that were named, and how each is reached.
#[derive(Debug)]
pub struct Named {
    /// The folders of what was named, held.
    pub roots: Roots,
    paths: Vec<PathBuf>,
    watched: Vec<PathBuf>,
}

/// A file that was named, or lies in a folder that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it is; its root is the folder that it was named in, as it was typed.
    pub sighting: Sighting,
    /// Whether it was named itself.
    pub itself: bool,
    /// Why it can't be read, where that is known: a folder that can't be listed, a link.
    pub unread: Option<String>,
}

impl Named {
    /// These files and folders; `watched` are the folders that uploaders can write.
    pub fn of(paths: &[PathBuf], watched: Vec<PathBuf>) -> Self {
        Self { roots: Roots::default(), paths: paths.to_vec(), watched }
    }

    /// The named files, and what lies below named folders, in order.
    pub fn files(&self) -> impl Iterator<Item = NamedFile> {
        self.paths.iter().flat_map(|path| self.below(path))
    }

    fn below(&self, path: &Path) -> Vec<NamedFile> {
        if let Ok(root) = self.hold(path) {
            let file = |found| {
                let (file, unread) = match found {
                    Found::File(file, _) => (file, None),
                    Found::Link(link, _) => (link, Some("links are not followed".to_owned())),
                    Found::Unreadable(folder, error) => (folder, Some(plain_words(&error))),
                    Found::Folder(_) | Found::Special(_) => return None,
                };
                let sighting = Sighting { path: file, root: path.to_owned() };
                Some(NamedFile { sighting, itself: false, unread })
            };
            // What lies in several of the folders belongs to the innermost.
            let inner = |named: &&PathBuf| named.as_path() != path && named.starts_with(path);
            let inner = self.paths.iter().filter(inner).cloned();
            let inner = inner.filter(|named| named.is_dir());
            let excluded = Excluded::default().and(inner);
            return walk(root, PathBuf::new(), excluded).filter_map(file).collect();
        }
        let root = path.parent().unwrap_or(path).to_owned();
        // A folder that can't be reached shows when the file is opened.
        let _ = self.hold(&root);
        let sighting = Sighting { path: path.to_owned(), root };
        vec![NamedFile { sighting, itself: true, unread: None }]
    }

    /// Opens a folder that was named, and holds it under the name that it was given.
    fn hold(&self, folder: &Path) -> io::Result<Arc<Root>> {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let opened = match self.beneath_watched(&std::path::absolute(here)?) {
            Some((watched, below)) => Folder::without_links(&watched)?.folder(&below)?,
            None => Folder::of_ours(here)?,
        };
        let identity = opened.identity()?;
        Ok(self.roots.hold(Root { path: folder.to_owned(), folder: opened, identity }))
    }

    /// The watched folder that an absolute path leads into, and the rest of the path.
    fn beneath_watched(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        if self.watched.is_empty() {
            return None;
        }
        let mut above: Vec<&Path> = path.ancestors().collect();
        // From the top: below a watched folder nothing decides any more where it is.
        above.reverse();
        above.into_iter().find_map(|ancestor| {
            let real = std::fs::canonicalize(ancestor).ok()?;
            let watched = self.watched.iter().find(|watched| **watched == real)?;
            Some((watched.clone(), path.strip_prefix(ancestor).ok()?.to_owned()))
        })
    }

    /// The bytes of a named file.
    ///
    /// # Errors
    /// When it is not there, no regular file, can't be read, or holds more than `limit` bytes.
    pub fn bytes(&self, file: &NamedFile, limit: u64) -> io::Result<Vec<u8>> {
        let (file, stat): (File, Stat) = self
            .roots
            .open(&file.sighting)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, self.why_not(&file.sighting)))?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            let size = stat.file.size;
            return Err(io::Error::other(format!("{size} bytes, more than {limit}")));
        }
        Ok(bytes)
    }

    /// Why a named file can't be opened.
    pub fn why_not(&self, sighting: &Sighting) -> String {
        match self.roots.stat(sighting).ok().flatten().map(|stat| stat.kind) {
            None => "there is no such file".to_owned(),
            Some(Kind::Link) => "links are not followed".to_owned(),
            Some(Kind::Folder | Kind::Other) => "it is no regular file".to_owned(),
            Some(Kind::File) => "it can't be read".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(named: &Named) -> Vec<String> {
        named.files().map(|file| file.sighting.path.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn people_may_use_links_of_their_own_and_not_those_of_uploaders() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = std::fs::canonicalize(dir.path()).expect("there");
        for file in ["up/sub/a.png", "outside/b.png"] {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().expect("has one")).expect("made");
            std::fs::write(file, b"bytes").expect("written");
        }
        std::os::unix::fs::symlink("up", path.join("mine")).expect("linked");
        std::os::unix::fs::symlink("../outside", path.join("up/theirs")).expect("linked");
        let read = |file: &str, watched: Vec<PathBuf>| {
            let named = Named::of(&[path.join(file)], watched);
            let file = named.files().next().expect("one file");
            named.bytes(&file, 100).map(|bytes| bytes.len())
        };
        let watched = || vec![path.join("up")];
        assert_eq!(read("up/sub/a.png", watched()).expect("read"), 5);
        assert_eq!(read("mine/sub/a.png", watched()).expect("read"), 5);
        assert_eq!(read("outside/b.png", watched()).expect("read"), 5);
        read("up/theirs/b.png", watched()).expect_err("a link of an uploader's");
        read("mine/theirs/b.png", watched()).expect_err("a link of an uploader's");
        assert_eq!(read("up/theirs/b.png", Vec::new()).expect("nobody watches"), 5);
        let folder = Named::of(&[path.join("up/theirs")], watched());
        assert_eq!(names(&folder), [path.join("up/theirs").to_string_lossy()], "not walked");
        let unread = |folder: &str| {
            let named = Named::of(&[path.join(folder)], watched());
            named.files().map(|file| file.unread).collect::<Vec<_>>()
        };
        let link = Some("links are not followed".to_owned());
        assert_eq!(unread("mine"), [link, None], "told of, and not followed");
        let both = [path.join("up/sub"), path.join("up")];
        let both = Named::of(&both, watched());
        let roots: Vec<_> = both.files().map(|file| file.sighting.root).collect();
        assert_eq!(roots, [path.join("up/sub"), path.join("up")], "the inner one's file, the link");
        read("missing.png", watched()).expect_err("missing");
        assert!(read("up/sub/a.png", watched()).is_ok_and(|count| count == 5));
    }
}
