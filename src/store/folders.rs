//! Verbs about folders of films, documents and links, which are not judged, and about files that
//! were renamed.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::moderation::{FileKind, ItemId, Sighting, Timestamp};

use super::rows::{RowError, item_of, path_bytes, path_of, unreadable};
use super::{Store, StoreError};

/// The row of a folder and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnjudgedFolder {
    /// The folder; its path has `/.` behind it, as often as the kind's place.
    pub sighting: Sighting,
    /// Stands in for the bytes of the files.
    pub item: ItemId,
    /// How many.
    pub files: u64,
    /// When the latest of them changed, in nanoseconds since 1970.
    pub newest_ns: i64,
    /// Names of the first of them.
    pub names: Vec<PathBuf>,
    /// Whether a person is being asked about them.
    pub waiting: bool,
}

impl Store {
    /// The rows below a root whose path is at least `from` and less than `to`, as bytes.
    pub async fn unjudged_folders(
        &self,
        root: &Path,
        from: &[u8],
        to: &[u8],
    ) -> Result<Vec<UnjudgedFolder>, StoreError> {
        let read = async {
            let rows = sqlx::query(
                "SELECT f.*, EXISTS (
                     SELECT 1 FROM tasks AS t JOIN items AS i ON i.id = t.item
                     WHERE i.hash = f.item AND t.state <> 'closed') AS waiting
                 FROM unjudged_folders AS f WHERE f.path >= ? AND f.path < ? AND f.root = ?",
            )
            .bind(from)
            .bind(to)
            .bind(path_bytes(root))
            .fetch_all(&self.readers)
            .await?;
            rows.iter().map(folder_of).collect::<Result<_, RowError>>()
        };
        read.await.map_err(|error| self.failed(error))
    }

    /// Writes a row down, before its verdict is.
    pub async fn note_unjudged_folder(&self, folder: &UnjudgedFolder) -> Result<(), StoreError> {
        let names: Vec<&[u8]> = folder.names.iter().map(|name| path_bytes(name)).collect();
        sqlx::query(
            "INSERT OR REPLACE INTO unjudged_folders (path, root, item, files, newest, names)
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(path_bytes(&folder.sighting.path))
        .bind(path_bytes(&folder.sighting.root))
        .bind(folder.item.as_bytes().as_slice())
        .bind(folder.files.cast_signed())
        .bind(folder.newest_ns)
        .bind(names.join(&b'/'))
        .execute(&self.writer)
        .await
        .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// No such file is in the folder any more.
    pub async fn forget_unjudged_folder(
        &self,
        path: &Path,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.leave(path, at).await?;
        sqlx::query("DELETE FROM unjudged_folders WHERE path = ?")
            .bind(path_bytes(path))
            .execute(&self.writer)
            .await
            .map_err(|source| self.sql(source))?;
        Ok(())
    }

    /// Replaces what is known of a root: how many files of each kind lie below it.
    pub async fn record_media(
        &self,
        root: &Path,
        counted: &[(FileKind, u64)],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let write = async {
            sqlx::query("DELETE FROM media_counts WHERE root = ?")
                .bind(path_bytes(root))
                .execute(&mut *transaction)
                .await?;
            for (kind, files) in counted {
                sqlx::query("INSERT INTO media_counts (root, kind, files) VALUES (?, ?, ?)")
                    .bind(path_bytes(root))
                    .bind(kind.as_str())
                    .bind(files.cast_signed())
                    .execute(&mut *transaction)
                    .await?;
            }
            Ok::<_, sqlx::Error>(())
        };
        write.await.map_err(|source| self.sql(source))?;
        self.commit(transaction).await
    }

    /// How many files of a kind there were below all roots, each at its last full scan.
    pub async fn media_counts(&self) -> Result<Vec<(FileKind, u64)>, StoreError> {
        let read = async {
            let rows =
                sqlx::query("SELECT kind, sum(files) AS files FROM media_counts GROUP BY kind")
                    .fetch_all(&self.readers)
                    .await?;
            let count = |row: &SqliteRow| {
                let kind: String = row.try_get("kind")?;
                let files: i64 = row.try_get("files")?;
                let kind = FileKind::parse(&kind).ok_or_else(|| unreadable("file kind", kind))?;
                Ok((kind, files.unsigned_abs()))
            };
            let mut counted = rows.iter().map(count).collect::<Result<Vec<_>, RowError>>()?;
            counted.sort_unstable();
            Ok(counted)
        };
        read.await.map_err(|error: RowError| self.failed(error))
    }

    /// Where undecided tasks say that their items lie, of items that lie elsewhere too.
    pub async fn tasks_with_twins(&self) -> Result<Vec<Sighting>, StoreError> {
        self.sightings_by(
            "SELECT s.path, s.root FROM tasks AS t JOIN sightings AS s ON s.id = t.sighting
             WHERE t.state IN ('open', 'escalated') AND EXISTS (
                 SELECT 1 FROM sightings AS o
                 WHERE o.item = t.item AND o.id <> t.sighting AND o.gone_at IS NULL)",
            &[],
            0,
        )
        .await
    }

    /// Where else an item lies, as far as is known: at most `limit` places, the oldest first.
    pub async fn other_sightings(
        &self,
        item: ItemId,
        path: &Path,
        limit: u32,
    ) -> Result<Vec<Sighting>, StoreError> {
        self.sightings_by(
            "SELECT path, root FROM sightings
             WHERE item = (SELECT id FROM items WHERE hash = ?1) AND gone_at IS NULL AND path <> ?2
             ORDER BY id LIMIT ?3",
            &[item.as_bytes(), path_bytes(path)],
            limit,
        )
        .await
    }

    async fn sightings_by(
        &self,
        statement: &'static str,
        binds: &[&[u8]],
        limit: u32,
    ) -> Result<Vec<Sighting>, StoreError> {
        let read = async {
            let mut query = sqlx::query(statement);
            for bytes in binds {
                query = query.bind(*bytes);
            }
            if !binds.is_empty() {
                query = query.bind(limit);
            }
            let rows = query.fetch_all(&self.readers).await?;
            let sighting = |row: &SqliteRow| {
                let (path, root) = (row.try_get("path")?, row.try_get("root")?);
                Ok(Sighting { path: path_of(path), root: path_of(root) })
            };
            rows.iter().map(sighting).collect::<Result<_, sqlx::Error>>()
        };
        read.await.map_err(|source| self.sql(source))
    }
}

/// The names of the files that a row stands for; empty for any other item.
pub(super) async fn files_of(
    reader: &mut SqliteConnection,
    item: &[u8],
) -> Result<Vec<PathBuf>, sqlx::Error> {
    let row = sqlx::query("SELECT names FROM unjudged_folders WHERE item = ?")
        .bind(item)
        .fetch_optional(reader)
        .await?;
    row.map_or_else(|| Ok(Vec::new()), |row| Ok(names_of(row.try_get("names")?)))
}

fn names_of(names: &[u8]) -> Vec<PathBuf> {
    let names = names.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names.map(|name| path_of(name.to_owned())).collect()
}

fn folder_of(row: &SqliteRow) -> Result<UnjudgedFolder, RowError> {
    Ok(UnjudgedFolder {
        sighting: Sighting {
            path: path_of(row.try_get("path")?),
            root: path_of(row.try_get("root")?),
        },
        item: item_of(row.try_get("item")?)?,
        files: row.try_get::<i64, _>("files")?.unsigned_abs(),
        newest_ns: row.try_get("newest")?,
        names: names_of(row.try_get("names")?),
        waiting: row.try_get("waiting")?,
    })
}
