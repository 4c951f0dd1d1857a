//! Who a file is put down to when places, decoders and time are shared out.

use std::path::{Path, PathBuf};

use super::Sighting;

/// One of those who share the pipeline. What one of them brings waits for its own turn, whatever
/// the others bring; and no decoder that saw a file of one of them sees a file of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Uploader {
    /// Everything below a folder: on most sites, a user's uploads.
    Folder(PathBuf),
    /// The files of one system user that lie directly in a watched folder.
    User(PathBuf, u32),
    /// Whoever runs the command, with files of their own.
    Operator,
}

impl Uploader {
    /// The top folder that a file lies in; for a file directly in the watched folder, its owner.
    pub fn of(sighting: &Sighting, owner: u32) -> Self {
        match Self::top_folder(sighting) {
            Some(folder) => Self::Folder(folder),
            None => Self::User(sighting.root.clone(), owner),
        }
    }

    /// The top folder of the watched folder that a file lies in; none for one directly in it.
    pub fn top_folder(sighting: &Sighting) -> Option<PathBuf> {
        let mut below = sighting.path.strip_prefix(&sighting.root).ok()?.components();
        let top = below.next()?;
        below.next()?;
        Some(sighting.root.join(top))
    }

    /// Where nobody tells which watched folder a file lies in: its own folder.
    pub fn near(path: &Path) -> Self {
        Self::Folder(path.parent().unwrap_or(path).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_down_to_its_top_folder_else_to_its_owner() {
        let uploader = |path: &str, owner| {
            Uploader::of(&Sighting { path: path.into(), root: "/u".into() }, owner)
        };
        assert_eq!(uploader("/u/eve/a.png", 1), Uploader::Folder("/u/eve".into()));
        assert_eq!(uploader("/u/eve/deep/er/a.png", 2), uploader("/u/eve/b.png", 1));
        assert_ne!(uploader("/u/eve/a.png", 1), uploader("/u/bob/a.png", 1));
        assert_eq!(uploader("/u/a.png", 1), Uploader::User("/u".into(), 1));
        assert_ne!(uploader("/u/a.png", 1), uploader("/u/b.png", 2));
        assert_eq!(Uploader::near(Path::new("/u/eve/a.png")), Uploader::Folder("/u/eve".into()));
    }
}
