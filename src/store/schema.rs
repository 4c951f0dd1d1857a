//! Whether a database that comes from elsewhere looks exactly as our own migrations make it. A table
//! of our name can be a view, and a trigger that nobody sees can change what is written.

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::moderation::escape::escape;

use super::migrator;

/// Differences that are named; of many, the first ones say enough.
const MOST_NAMED: usize = 3;
/// Of a name that somebody else chose, so many characters are told.
const LONGEST_NAME: usize = 60;

/// What the planner of SQLite keeps for itself, by name and statement (`ANALYZE`).
const STATISTICS: [(&str, &str); 2] = [
    ("sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl,idx,stat)"),
    ("sqlite_stat4", "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)"),
];

/// What a database looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// As one of our versions made it.
    Ours,
    /// A later version than this one made it.
    Newer,
    /// Otherwise, with words that name the differences.
    Foreign(String),
}

/// A table, index, trigger or view.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    kind: String,
    name: String,
    table: String,
    /// As it stands in the file; none for what SQLite makes by itself.
    statement: Option<String>,
}

/// Compares a database with the migrations that it says it went through. Nothing is run that its
/// schema names.
pub(super) async fn shape_of(database: &mut SqliteConnection) -> Result<Shape, sqlx::Error> {
    let ours = migrator();
    let encoding: String = sqlx::query_scalar("PRAGMA encoding").fetch_one(&mut *database).await?;
    if encoding != "UTF-8" {
        return Ok(Shape::Foreign(format!("its text is {encoding}, modtool writes UTF-8")));
    }
    let found = objects(database).await?;
    // Before anything is read from a table: it might be a view.
    let version = if found.iter().any(|object| object.is_a("table", "_sqlx_migrations")) {
        newest_version(database).await?
    } else {
        None
    };
    let Some(version) = version else {
        return Ok(Shape::Foreign("it is no database of modtool".to_owned()));
    };
    if ours.iter().map(|migration| migration.version).max() < Some(version) {
        return Ok(Shape::Newer);
    }
    if let Some(words) = differences(&found, &expected(&ours, version).await?) {
        return Ok(Shape::Foreign(words));
    }
    let went_through = migrations(database).await?;
    let should_have = ours.iter().filter(|migration| migration.version <= version);
    let should_have: Vec<_> = should_have
        .map(|migration| (migration.version, true, migration.checksum.to_vec()))
        .collect();
    if went_through != should_have {
        return Ok(Shape::Foreign("its migrations are not those of modtool".to_owned()));
    }
    Ok(Shape::Ours)
}

async fn newest_version(database: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(database).await
}

/// Version, whether it was completed, and checksum.
async fn migrations(
    database: &mut SqliteConnection,
) -> Result<Vec<(i64, bool, Vec<u8>)>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(database)
            .await?;
    let migration = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    rows.iter().map(migration).collect()
}

/// What our migrations make, up to a version.
async fn expected(ours: &Migrator, version: i64) -> Result<Vec<Object>, sqlx::Error> {
    let mut model = SqliteConnectOptions::new().in_memory(true).connect().await?;
    ours.run_to(version, &mut model).await?;
    let objects = objects(&mut model).await?;
    // It was in memory only.
    let _ = model.close().await;
    Ok(objects)
}

async fn objects(database: &mut SqliteConnection) -> Result<Vec<Object>, sqlx::Error> {
    // The types are those of the file, which may be any.
    let rows = sqlx::query(
        "SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(tbl_name AS TEXT), CAST(sql AS TEXT)
         FROM sqlite_schema",
    )
    .fetch_all(database)
    .await?;
    let object = |row: &SqliteRow| {
        let text = |place: usize| row.try_get::<Option<String>, _>(place);
        Ok(Object {
            kind: text(0)?.unwrap_or_default(),
            name: text(1)?.unwrap_or_default(),
            table: text(2)?.unwrap_or_default(),
            statement: text(3)?,
        })
    };
    rows.iter().map(object).collect()
}

/// What differs, in words; nothing when nothing does.
fn differences(found: &[Object], expected: &[Object]) -> Option<String> {
    let mut missing: Vec<&Object> = expected.iter().collect();
    let mut foreign = Vec::new();
    for object in found {
        if let Some(place) = missing.iter().position(|wanted| *wanted == object) {
            missing.swap_remove(place);
        } else if !object.is_statistics() {
            foreign.push(object);
        }
    }
    let mut words = Vec::new();
    for object in foreign {
        let known = missing.iter().position(|wanted| wanted.is_a(&object.kind, &object.name));
        match known {
            Some(place) => {
                missing.swap_remove(place);
                words.push(format!("its {} is not as modtool makes it", object.told()));
            }
            None => words.push(format!("modtool makes no {}", object.told())),
        }
    }
    words.extend(missing.iter().map(|object| format!("the {} is missing", object.told())));
    let more = words.len().saturating_sub(MOST_NAMED);
    words.truncate(MOST_NAMED);
    if more > 0 {
        words.push(format!("{more} more differences"));
    }
    (!words.is_empty()).then(|| words.join("; "))
}

impl Object {
    fn is_a(&self, kind: &str, name: &str) -> bool {
        self.kind == kind && self.name == name
    }

    fn is_statistics(&self) -> bool {
        self.table == self.name
            && STATISTICS.iter().any(|(name, statement)| {
                self.is_a("table", name) && self.statement.as_deref() == Some(statement)
            })
    }

    /// Its kind and name, of which an attacker may have chosen both.
    fn told(&self) -> String {
        let cut = |text: &str| {
            let text: String = text.chars().take(LONGEST_NAME).collect();
            escape(text.as_bytes())
        };
        format!("{} `{}`", cut(&self.kind), cut(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said about a database made by our migrations and changed by these statements.
    async fn shape_after(statements: &[&str]) -> Shape {
        let mut database = SqliteConnectOptions::new()
            .in_memory(true)
            .connect()
            .await
            .expect("a database in memory");
        migrator().run(&mut database).await.expect("the migrations run");
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe(*statement))
                .execute(&mut database)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        shape_of(&mut database).await.expect("it can be read")
    }

    #[tokio::test]
    async fn what_our_migrations_make_is_ours() {
        assert_eq!(shape_after(&[]).await, Shape::Ours);
        assert_eq!(shape_after(&["ANALYZE"]).await, Shape::Ours);
        assert_eq!(
            shape_after(&["INSERT INTO secrets VALUES ('x', x'00')", "VACUUM"]).await,
            Shape::Ours
        );
    }

    #[tokio::test]
    async fn every_kind_of_foreign_object_is_named() {
        const EDIT: &str = "PRAGMA writable_schema = ON";
        let cases: &[(&[&str], &str)] = &[
            (
                &["CREATE TRIGGER tidy AFTER INSERT ON sightings BEGIN
                   UPDATE sightings SET outcome = 'allow' WHERE id = NEW.id; END"],
                "modtool makes no trigger `tidy`",
            ),
            (
                &["CREATE TRIGGER quiet BEFORE INSERT ON audit_events BEGIN SELECT RAISE(IGNORE); END"],
                "modtool makes no trigger `quiet`",
            ),
            (&["DROP TRIGGER audit_events_never_change"], "the trigger `audit_events_never_change` is missing"),
            (
                &["DROP TRIGGER audit_events_never_change",
                  "CREATE TRIGGER audit_events_never_change BEFORE UPDATE ON audit_events
                   BEGIN SELECT 1; END"],
                "its trigger `audit_events_never_change` is not as modtool makes it",
            ),
            (&["CREATE TABLE more (x)"], "modtool makes no table `more`"),
            (
                &["ALTER TABLE exposures RENAME TO real_exposures",
                  "CREATE VIEW exposures AS SELECT * FROM real_exposures"],
                "modtool makes no table `real_exposures`",
            ),
            (
                &["CREATE INDEX by_length ON items (length(hash))"],
                "modtool makes no index `by_length`",
            ),
            (&["DROP INDEX sightings_by_path"], "the index `sightings_by_path` is missing"),
            (
                &["DROP INDEX sightings_by_path",
                  "CREATE INDEX sightings_by_path ON sightings (path) WHERE gone_at IS NULL"],
                "its index `sightings_by_path` is not as modtool makes it",
            ),
            (
                &["ALTER TABLE secrets ADD COLUMN half INTEGER AS (length(bytes) / 2)"],
                "its table `secrets` is not as modtool makes it",
            ),
            (
                &[EDIT, "UPDATE sqlite_schema SET sql = replace(sql, '''review'', ''block''', '''allow'', ''block''')
                         WHERE name = 'tasks'"],
                "its table `tasks` is not as modtool makes it",
            ),
            (
                &[EDIT, "INSERT INTO sqlite_schema VALUES ('trigger', 'sqlite_stat1', 'items', 0,
                         'CREATE TRIGGER sqlite_stat1 AFTER INSERT ON items BEGIN SELECT 1; END')"],
                "modtool makes no trigger `sqlite_stat1`",
            ),
            (
                &[EDIT, "INSERT INTO sqlite_schema SELECT * FROM sqlite_schema WHERE name = 'secrets'"],
                "modtool makes no table `secrets`",
            ),
            (
                &[EDIT, "INSERT INTO sqlite_schema VALUES ('\u{1b}[31m', 'x', 'x', 0, NULL)"],
                "modtool makes no \\u{1b}[31m `x`",
            ),
            (&["UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 6"], "its migrations"),
            (&["UPDATE _sqlx_migrations SET success = 0 WHERE version = 6"], "its migrations"),
            (&["DELETE FROM _sqlx_migrations WHERE version = 6"], "its migrations"),
            (&["DELETE FROM _sqlx_migrations"], "no database of modtool"),
            (&["DROP TABLE _sqlx_migrations"], "no database of modtool"),
            (
                &["ALTER TABLE _sqlx_migrations RENAME TO m",
                  "CREATE VIEW _sqlx_migrations AS SELECT * FROM m"],
                "no database of modtool",
            ),
        ];
        for (statements, expected) in cases {
            match shape_after(statements).await {
                Shape::Foreign(words) => assert!(words.contains(expected), "{words}"),
                other => panic!("{statements:?}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_older_version_must_look_like_that_version() {
        let older = "DELETE FROM _sqlx_migrations WHERE version > 11";
        match shape_after(&[older]).await {
            // What later migrations made is foreign to it.
            Shape::Foreign(words) => assert!(words.contains("embeddings"), "{words}"),
            other => panic!("{other:?}"),
        }
        let newer =
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     VALUES (9999, 'later', 1, x'00', 0)";
        assert_eq!(shape_after(&[newer]).await, Shape::Newer);
        let mut old = SqliteConnectOptions::new().in_memory(true).connect().await.expect("opens");
        migrator().run_to(11, &mut old).await.expect("the migrations run");
        assert_eq!(shape_of(&mut old).await.expect("read"), Shape::Ours);
    }
}
