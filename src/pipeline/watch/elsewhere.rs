//! Listens to the system's news of the watched folders through `notify`, where there is no
//! inotify.

use std::path::PathBuf;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tracing::warn;

use crate::files::{News, Roots};

use super::{Message, Overflow};

/// A listening thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    _watcher: RecommendedWatcher,
}

impl Watcher {
    /// Whether every folder that can be read is watched.
    #[expect(clippy::unused_self, reason = "the same as on Linux")]
    pub(super) fn hears_all(&self) -> bool {
        true
    }
}

/// A watcher of all roots, or `None` (with a word in the log) when the system refuses: then the
/// folders are scanned often instead.
#[expect(clippy::unused_async, reason = "the same as on Linux")]
pub(super) async fn start(
    _roots: &Arc<Roots>,
    paths: &[PathBuf],
    news: &mpsc::Sender<Message>,
    overflow: &Arc<Overflow>,
) -> Option<Watcher> {
    let (news, overflow, roots) = (news.clone(), Arc::clone(overflow), paths.to_vec());
    let hand_on = move |event: notify::Result<Event>| {
        let heard = match event {
            Ok(event) => news_of(&event, &roots).map(Ok).collect(),
            Err(failed) => vec![Err(failed.to_string())],
        };
        for one in heard {
            if news.try_send(one).is_err() {
                overflow.tell();
            }
        }
    };
    let config = Config::default().with_follow_symlinks(false);
    let started = RecommendedWatcher::new(hand_on, config).and_then(|mut watcher| {
        paths.iter().try_for_each(|root| watcher.watch(root, RecursiveMode::Recursive))?;
        Ok(watcher)
    });
    match started {
        Ok(watcher) => Some(Watcher { _watcher: watcher }),
        Err(error) => {
            let hint = "the folders are scanned every few seconds instead";
            warn!(%error, hint, "can't watch by events");
            None
        }
    }
}

fn news_of(event: &Event, roots: &[PathBuf]) -> impl Iterator<Item = News> {
    let moved = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
        && event.paths.iter().any(|path| roots.contains(path));
    let special = [(event.need_rescan(), News::Overflow), (moved, News::RootMoved)];
    let kind = event.kind;
    let each = event.paths.iter().filter_map(move |path| news_of_path(kind, path.clone()));
    special.into_iter().filter_map(|(came, news)| came.then_some(news)).chain(each)
}

/// What an event says about a path; `None` for events that bring no new bytes.
fn news_of_path(kind: EventKind, path: PathBuf) -> Option<News> {
    // Only a hint: whatever it says is looked at beneath the root.
    let folder = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
    let came = matches!(kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_)));
    if folder {
        return came.then_some(News::Folder(path));
    }
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            Some(News::Closed(path))
        }
        EventKind::Create(CreateKind::Any | CreateKind::File | CreateKind::Folder)
        | EventKind::Modify(_)
        | EventKind::Any
        | EventKind::Other => Some(News::Changed(path)),
        EventKind::Create(CreateKind::Other) | EventKind::Access(_) | EventKind::Remove(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closing_and_renaming_into_place_say_that_a_file_is_whole() {
        let news = |kind| news_of_path(kind, PathBuf::from("/nowhere/a"));
        let path = || PathBuf::from("/nowhere/a");
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let created = EventKind::Create(CreateKind::File);
        let read = EventKind::Access(AccessKind::Close(AccessMode::Read));
        assert_eq!(news(closed), Some(News::Closed(path())));
        assert_eq!(news(renamed), Some(News::Closed(path())));
        assert_eq!(news(created), Some(News::Changed(path())));
        assert_eq!(news(read), None);
    }

    #[tokio::test]
    async fn what_is_written_is_told() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = std::fs::canonicalize(dir.path()).expect("there");
        let (news_out, mut news) = mpsc::channel(64);
        let (roots, overflow) = (Arc::default(), Arc::default());
        let watcher = start(&roots, std::slice::from_ref(&root), &news_out, &overflow).await;
        let watcher = watcher.expect("it may listen");
        assert!(watcher.hears_all());
        std::fs::write(root.join("a"), b"x").expect("written");
        let told = async {
            while let Some(heard) = news.recv().await {
                if heard.expect("no failure") == News::Changed(root.join("a")) {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(std::time::Duration::from_secs(20), told).await;
        told.expect("it is told in time");
        drop(watcher);
    }
}
