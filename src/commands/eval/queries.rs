//! Queries with the pictures that are relevant, and how well the model finds these.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::moderation::escape::{escape, escape_path};
use crate::moderation::evaluation::{found_at, mean_found};
use crate::moderation::{Embedding, FoundAt, Reason};
use crate::vision::Encoder;

use super::labels::{Labels, rows};

/// A text, and the pictures that it should find.
pub(super) struct Query {
    pub(super) text: String,
    /// Places among the pictures, sorted, each once.
    pub(super) relevant: Vec<usize>,
}

/// What a query found.
pub(super) struct Answer {
    pub(super) query: Query,
    pub(super) found: Vec<FoundAt>,
    /// The best finds: place and cosine.
    pub(super) best: Vec<(usize, f32)>,
}

/// What all queries found.
pub(super) struct Retrieval {
    pub(super) answers: Vec<Answer>,
    pub(super) mean: Vec<FoundAt>,
}

const QUERY: &[&str] = &["query", "text", "caption"];
const RELEVANT: &[&str] = &["relevant", "path", "paths", "image", "images", "file"];

/// Reads `{"query", "relevant": [path, …]}` lines, or CSV with one `query,path` a line.
pub(super) fn read(file: &Path, dir: &Path, labels: &Labels) -> anyhow::Result<Vec<Query>> {
    let places: HashMap<PathBuf, usize> = labels
        .pictures
        .iter()
        .zip(0..)
        .map(|(picture, place)| (plain(&picture.path), place))
        .collect();
    let mut queries: Vec<Query> = Vec::new();
    for row in rows(file, [QUERY, RELEVANT]).with_context(|| escape_path(file))? {
        let at = || format!("{}:{}", escape_path(file), row.line);
        let (Some(text), Some(paths)) = (row.text(QUERY), row.texts(RELEVANT)) else {
            bail!("{}: a line needs `query` and `relevant` (paths of pictures)", at());
        };
        ensure!(!text.trim().is_empty(), "{}: the query is empty", at());
        ensure!(!paths.is_empty(), "{}: no picture is relevant; then nothing can be found", at());
        let mut relevant = Vec::with_capacity(paths.len());
        for path in paths {
            let Some(place) = places.get(&plain(&dir.join(&path))) else {
                bail!("{}: {} is none of the pictures", at(), escape(path.as_bytes()));
            };
            relevant.push(*place);
        }
        match queries.iter_mut().find(|query| query.text == text) {
            Some(query) => query.relevant.extend(relevant),
            None => queries.push(Query { text, relevant }),
        }
    }
    ensure!(!queries.is_empty(), "{} has no queries", escape_path(file));
    for query in &mut queries {
        query.relevant.sort_unstable();
        query.relevant.dedup();
    }
    Ok(queries)
}

/// Without `.` in the middle: `a/./b` is `a/b`.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Asks each query as it is typed. A picture that can't be judged is never found.
pub(super) fn ask(
    encoder: &dyn Encoder,
    queries: Vec<Query>,
    pictures: &[Result<Embedding, Reason>],
    ks: &[usize],
) -> anyhow::Result<Retrieval> {
    let texts: Vec<String> = queries.iter().map(|query| query.text.clone()).collect();
    for text in &texts {
        encoder.check_text(text)?;
    }
    let vectors = encoder.embed_texts(&texts)?;
    let shown = ks.iter().copied().max().unwrap_or_default();
    let answer = |(query, vector): (Query, Embedding)| {
        let cosines = pictures
            .iter()
            .enumerate()
            .filter_map(|(place, picture)| Some((place, picture.as_ref().ok()?.cosine(&vector))));
        let mut ranked: Vec<(usize, f32)> = cosines.collect();
        // Of equal ones the first: the sort is stable.
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(shown);
        let hits: Vec<bool> =
            ranked.iter().map(|(place, _)| query.relevant.binary_search(place).is_ok()).collect();
        let found = found_at(&hits, query.relevant.len(), ks);
        Answer { query, found, best: ranked }
    };
    let answers: Vec<Answer> = queries.into_iter().zip(vectors).map(answer).collect();
    let all: Vec<Vec<FoundAt>> = answers.iter().map(|answer| answer.found.clone()).collect();
    Ok(Retrieval { mean: mean_found(&all), answers })
}
