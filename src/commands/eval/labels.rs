//! Which pictures there are and what is in them: folders as classes, or a file of labels.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::commands::UsageError;
use crate::moderation::FileKind;
use crate::moderation::escape::{escape, escape_path};
use crate::vision::decode::{FIRST_BYTES, has_picture_extension, kind_of};

/// Pictures with their classes.
pub(super) struct Labels {
    /// Sorted by path.
    pub(super) pictures: Vec<Picture>,
    /// Sorted by name; each has at least one picture.
    pub(super) classes: Vec<Class>,
}

/// One picture.
pub(super) struct Picture {
    pub(super) path: PathBuf,
    /// Its place among the classes; none where nobody said.
    pub(super) class: Option<usize>,
}

/// One class.
pub(super) struct Class {
    /// The folder's name, or the label.
    pub(super) name: String,
    /// What is put into the templates; several are averaged.
    pub(super) texts: Vec<String>,
}

impl Labels {
    /// Reads the labels, or takes the folders of `dir` as classes. `texts` are classes with what is
    /// put into the templates for them; by default it is the name, with spaces for `_`.
    pub(super) fn read(
        dir: &Path,
        file: Option<&Path>,
        texts: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let by_path = match file {
            Some(file) => of_file(file, dir)?,
            None => of_folders(dir)?,
        };
        let mut names: Vec<&String> = by_path.values().flatten().collect();
        names.sort();
        names.dedup();
        if let Some((unknown, _)) = texts.iter().find(|(name, _)| !names.contains(&name)) {
            let unknown = escape(unknown.as_bytes());
            return Err(UsageError(format!("--class: there is no class {unknown}")).into());
        }
        let class = |name: &String| {
            let own = texts.iter().filter(|(of, _)| of == name);
            let mut texts: Vec<String> = own.map(|(_, text)| text.clone()).collect();
            if texts.is_empty() {
                texts.push(name.replace('_', " "));
            }
            Class { name: name.clone(), texts }
        };
        let classes: Vec<Class> = names.into_iter().map(class).collect();
        let place = |name: String| classes.iter().position(|class| class.name == name);
        let pictures = by_path
            .into_iter()
            .map(|(path, name)| Picture { path, class: name.and_then(place) })
            .collect();
        Ok(Self { pictures, classes })
    }

    /// The place of the class with this name.
    pub(super) fn class_of(&self, name: &str) -> Option<usize> {
        self.classes.iter().position(|class| class.name == name)
    }

    /// How many pictures a class has.
    pub(super) fn count(&self, class: usize) -> usize {
        self.pictures.iter().filter(|picture| picture.class == Some(class)).count()
    }
}

type Named = BTreeMap<PathBuf, Option<String>>;

/// `DIR/CLASS/…`; pictures right in DIR have no class.
fn of_folders(dir: &Path) -> anyhow::Result<Named> {
    let mut named = Named::new();
    for path in entries(dir)? {
        if path.is_dir() {
            let class = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let below = pictures_below(&path)?;
            if below.is_empty() {
                tracing::warn!(folder = %escape_path(&path), "no pictures: left out as a class");
            }
            named.extend(below.into_iter().map(|path| (path, Some(class.clone()))));
        } else if is_picture(&path) {
            named.insert(path, None);
        }
    }
    ensure!(!named.is_empty(), "there is no picture in {}", escape_path(dir));
    Ok(named)
}

/// With everything below; links to folders are not followed, links to pictures are.
fn pictures_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut pictures, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                folders.push(path);
            } else if is_picture(&path) {
                pictures.push(path);
            }
        }
    }
    Ok(pictures)
}

/// What is in a folder, without hidden files.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("can't read the folder {}", escape_path(folder));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// A regular file whose name or first bytes say that it is a picture. One that can't be read is
/// kept for its name alone: why it can't is told later.
fn is_picture(path: &Path) -> bool {
    let first_bytes = || {
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(FIRST_BYTES as u64).read_to_end(&mut bytes));
        read.is_ok().then_some(bytes)
    };
    path.is_file()
        && (has_picture_extension(path)
            || first_bytes().is_some_and(|bytes| kind_of(path, &bytes) == FileKind::Picture))
}

/// One line of a file of labels or queries.
pub(super) struct Row {
    /// From 1.
    pub(super) line: u64,
    pub(super) fields: Vec<(String, Value)>,
}

impl Row {
    /// The first field with one of these names.
    fn field(&self, names: &[&str]) -> Option<&Value> {
        let known = |name: &str| self.fields.iter().find(|(field, _)| field == name);
        names.iter().find_map(|name| known(name)).map(|(_, value)| value)
    }

    /// Its text (numbers are taken as they are written).
    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        match self.field(names)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Its texts, where it is a list or one text.
    pub(super) fn texts(&self, names: &[&str]) -> Option<Vec<String>> {
        match self.field(names)? {
            Value::Array(list) => {
                list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()
            }
            Value::String(text) => Some(vec![text.clone()]),
            _ => None,
        }
    }
}

/// Reads JSON lines (a name that ends in `.jsonl`, `.ndjson` or `.json`) or CSV. Of CSV the first
/// line is the head when it holds one of `known`; otherwise the columns are `known`, in order.
pub(super) fn rows(file: &Path, known: [&[&str]; 2]) -> anyhow::Result<Vec<Row>> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("can't read {} as UTF-8 text", escape_path(file)))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let extension = file.extension().and_then(|extension| extension.to_str());
    if matches!(extension, Some("jsonl" | "ndjson" | "json")) {
        return text
            .lines()
            .zip(1..)
            .filter(|(line, _)| !line.trim().is_empty())
            .map(json)
            .collect();
    }
    let mut csv = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut head: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    for record in csv.records() {
        let record = record.with_context(|| format!("can't read {} as CSV", escape_path(file)))?;
        let line = record.position().map_or(0, csv::Position::line);
        let lower: Vec<String> = record.iter().map(str::to_lowercase).collect();
        if head.is_none() {
            let is_head = lower.iter().any(|field| known.concat().contains(&field.as_str()));
            head = Some(if is_head {
                lower
            } else {
                known.iter().map(|names| names[0].to_owned()).collect()
            });
            if is_head {
                continue;
            }
        }
        let names = head.iter().flatten().cloned();
        let fields = names.zip(record.iter().map(Value::from)).collect();
        rows.push(Row { line, fields });
    }
    Ok(rows)
}

fn json((line, number): (&str, u64)) -> anyhow::Result<Row> {
    let value: Value =
        serde_json::from_str(line).with_context(|| format!("line {number} is no JSON"))?;
    let Value::Object(object) = value else { bail!("line {number} is no JSON object") };
    let fields = object.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
    Ok(Row { line: number, fields })
}

const PATH: &[&str] = &["path", "file", "filename", "image", "picture"];
const LABEL: &[&str] = &["label", "class", "category"];

fn of_file(file: &Path, dir: &Path) -> anyhow::Result<Named> {
    let at = |line: u64| format!("{}:{line}", escape_path(file));
    let mut named = Named::new();
    for row in rows(file, [PATH, LABEL]).with_context(|| escape_path(file))? {
        let (Some(path), Some(label)) = (row.text(PATH), row.text(LABEL)) else {
            bail!("{}: a line needs `path` and `label`", at(row.line));
        };
        ensure!(!label.trim().is_empty(), "{}: the label is empty", at(row.line));
        let path = dir.join(path);
        if let Some(Some(other)) = named.get(&path)
            && *other != label
        {
            bail!(
                "{}: {} has the label {} already; a picture has one",
                at(row.line),
                escape_path(&path),
                escape(other.as_bytes())
            );
        }
        named.insert(path, Some(label));
    }
    ensure!(!named.is_empty(), "{} has no labels", escape_path(file));
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        dir
    }

    fn told(labels: &Labels, dir: &Path) -> Vec<(String, Option<String>)> {
        let one = |picture: &Picture| {
            let path = picture.path.strip_prefix(dir).unwrap_or(&picture.path);
            let class = picture.class.map(|class| labels.classes[class].name.clone());
            (path.display().to_string(), class)
        };
        labels.pictures.iter().map(one).collect()
    }

    #[test]
    fn folders_are_classes_with_everything_below() {
        let dir = folder(&[
            ("red_car/a.jpg", ""),
            ("red_car/deep/b.png", ""),
            ("red_car/notes.txt", "words"),
            ("cat/no-name-of-a-picture", "GIF89a"),
            ("loose.jpg", ""),
            (".thumbnails/x.jpg", ""),
            ("empty/readme.txt", ""),
        ]);
        let labels = Labels::read(dir.path(), None, &[]).expect("read");
        let names: Vec<_> = labels.classes.iter().map(|class| class.name.as_str()).collect();
        assert_eq!(names, ["cat", "red_car"]);
        assert_eq!(labels.classes[1].texts, ["red car"]);
        let pair = |path: &str, class: Option<&str>| (path.to_owned(), class.map(str::to_owned));
        assert_eq!(
            told(&labels, dir.path()),
            [
                pair("cat/no-name-of-a-picture", Some("cat")),
                pair("loose.jpg", None),
                pair("red_car/a.jpg", Some("red_car")),
                pair("red_car/deep/b.png", Some("red_car")),
            ]
        );
        assert_eq!(labels.count(1), 2);
        let nothing = folder(&[("a/b.txt", "")]);
        assert!(Labels::read(nothing.path(), None, &[]).is_err());
    }

    #[test]
    fn labels_are_read_from_csv_and_json_lines() {
        let dir = folder(&[
            ("with-head.csv", "label,note,path\ncat,x,\"a, b.jpg\"\n7,,c.jpg\n"),
            ("without-head.csv", "a.jpg,cat\nb.jpg,dog\n"),
            (
                "lines.jsonl",
                "{\"path\":\"a.jpg\",\"label\":\"cat\"}\n\n{\"file\":\"b.jpg\",\"class\":3}\n",
            ),
        ]);
        let read = |name: &str| {
            let labels = Labels::read(Path::new("pics"), Some(&dir.path().join(name)), &[]);
            told(&labels.expect("read"), Path::new("pics"))
        };
        let pair = |path: &str, class: &str| (path.to_owned(), Some(class.to_owned()));
        assert_eq!(read("with-head.csv"), [pair("a, b.jpg", "cat"), pair("c.jpg", "7")]);
        assert_eq!(read("without-head.csv"), [pair("a.jpg", "cat"), pair("b.jpg", "dog")]);
        assert_eq!(read("lines.jsonl"), [pair("a.jpg", "cat"), pair("b.jpg", "3")]);
    }

    #[test]
    fn mistakes_in_labels_are_told_with_their_line() {
        let dir = folder(&[
            ("two.csv", "path,label\na.jpg,cat\na.jpg,dog\n"),
            ("short.csv", "path,label\na.jpg\n"),
            ("none.csv", "path,label\n"),
            ("torn.jsonl", "{\"path\":\"a.jpg\",\"label\":\"cat\"}\n{\"path\":\n"),
        ]);
        for (file, said) in [
            ("two.csv", "two.csv:3: "),
            ("short.csv", "short.csv:2: "),
            ("none.csv", "has no labels"),
            ("torn.jsonl", "line 2"),
        ] {
            let read = Labels::read(dir.path(), Some(&dir.path().join(file)), &[]);
            let error = format!("{:#}", read.err().expect("refused"));
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_class_may_have_texts_of_its_own() {
        let dir = folder(&[("a/x.jpg", ""), ("b/y.jpg", "")]);
        let text = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let texts = [text("a", "an apple"), text("a", "a red apple")];
        let labels = Labels::read(dir.path(), None, &texts).expect("read");
        assert_eq!(labels.classes[0].texts, ["an apple", "a red apple"]);
        assert_eq!(labels.classes[1].texts, ["b"]);
        assert!(Labels::read(dir.path(), None, &[text("c", "x")]).is_err());
    }
}
