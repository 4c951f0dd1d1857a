//! Exact nearest neighbours over stored embeddings, read in blocks from a flat file.
//!
//! The file mirrors what the store keeps: one row a vector, in the order of the store's own
//! numbers. It only ever grows, can be rebuilt from the store at any time, and is never the truth:
//! a file that is torn, of another model or of another width is begun anew. A search reads it
//! once, on all cores, a piece at a time, so it needs four bytes of memory a picture. The vector of an
//! item that is erased is overwritten with zeros, and its row says item 0, which no item has.
//!
//! `formula` is what people type: texts that are added and subtracted, and what restricts them.
//!
//! Layout, little-endian: a head of 64 bytes (`modtool\x01`, width as u32, 20 bytes unused, the
//! first 32 bytes of the fingerprint), then rows of `8 + 8 + 2 · width` bytes: the store's number
//! of the embedding, the item's number, the unit vector in half precision.

mod formula;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::moderation::{Embedding, Fingerprint};

pub use formula::{Formula, FormulaError, Term};

const MAGIC: &[u8; 8] = b"modtool\x01";
const HEAD: u64 = 64;
/// The two numbers before each vector.
const NUMBERS: usize = 16;
/// The item of a row that was erased; the store counts from 1.
const ERASED: i64 = 0;
/// Bytes that a thread reads in one go: few enough to stay in a core's cache until they are used.
const BLOCK: usize = 256 << 10;
/// Blocks that a thread takes at once, so that one that is held up does not hold up the others.
const SHARE: u64 = 8;

/// A vector to be added to the file.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorRow {
    /// The store's number of the embedding, above 0 and growing from row to row.
    pub number: i64,
    /// The store's number of the item.
    pub item: i64,
    /// The vector.
    pub embedding: Embedding,
}

/// An item that is like what was searched for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The store's number of the item.
    pub item: i64,
    /// Cosine similarity of its most similar view, −1..=1.
    pub cosine: f32,
    /// How many items of the whole file are less similar.
    pub below: u64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Nearest {
    /// The most similar first.
    pub found: Vec<Neighbour>,
    /// How many items the whole file has.
    pub of: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The file can't be read or written.
    #[error("the vector file {} failed", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The query is of another width than the vectors: another model.
    #[error("a vector of {found} numbers can't be compared with vectors of {expected}")]
    Width {
        /// The query's.
        found: usize,
        /// The file's.
        expected: usize,
    },
}

/// The vectors of one model in one workspace.
#[derive(Debug, Clone)]
pub struct VectorFile {
    path: PathBuf,
    width: usize,
    fingerprint: Fingerprint,
}

impl VectorFile {
    /// The file for a model's vectors of `width` components; it need not exist yet.
    pub fn new(folder: &Path, fingerprint: &Fingerprint, width: usize) -> Self {
        let path = folder.join(format!("{fingerprint}.f16"));
        Self { path, width, fingerprint: fingerprint.clone() }
    }

    /// The vector file of whichever model that lies here; none where what lies here is no such file.
    ///
    /// # Errors
    /// [`SearchError::File`] when it is there and can't be read.
    pub fn at(path: &Path) -> Result<Option<Self>, SearchError> {
        let read = || {
            let mut head = Vec::new();
            if path.is_file() {
                File::open(path)?.take(HEAD).read_to_end(&mut head)?;
            }
            Ok(head)
        };
        let failed = |source| SearchError::File { path: path.to_owned(), source };
        let head: Vec<u8> = read().map_err(failed)?;
        let width =
            head.get(8..12).and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
        let Some(width) = width.and_then(|width| usize::try_from(width).ok()) else {
            return Ok(None);
        };
        // The whole print is the file's name; the head holds the beginning of it.
        let print = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let file =
            Self { path: path.to_owned(), width, fingerprint: Fingerprint(print.to_owned()) };
        Ok((width > 0 && head == file.head()).then_some(file))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many vectors it holds; 0 for a file that is missing or must be begun anew.
    ///
    /// # Errors
    /// [`SearchError::File`] when it is there and can't be read.
    pub fn count(&self) -> Result<u64, SearchError> {
        Ok(self.open()?.map_or(0, |(_, rows)| rows))
    }

    /// Opens the file to add what the store has and it has not. Other processes wait meanwhile.
    ///
    /// # Errors
    /// [`SearchError::File`] when the folder or the file can't be made.
    pub fn append(&self) -> Result<Appending, SearchError> {
        self.begin_appending().map_err(|source| self.failed(source))
    }

    fn begin_appending(&self) -> io::Result<Appending> {
        if let Some(folder) = self.path.parent() {
            // What a picture shows can be told from its vector: they are nobody else's business.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path)?;
        file.lock()?;
        let length = file.metadata()?.len();
        let mut rows = if self.head_is_ours(&mut file)? { self.rows_in(length) } else { None };
        let mut last = match rows {
            Some(rows @ 1..) => self.number_of(&mut file, rows - 1)?,
            _ => 0,
        };
        // A machine that went down can leave a row of zeros: what comes before it is in doubt.
        if rows.is_none_or(|rows| rows > 0 && last <= 0) {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&self.head())?;
            (rows, last) = (Some(0), 0);
        }
        let end = HEAD + rows.unwrap_or(0) * self.stride() as u64;
        // Half a row is what a process left that was killed.
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        Ok(Appending { file, path: self.path.clone(), width: self.width, last })
    }

    /// Overwrites the vectors of an item with zeros, to the disk; answers how many there were. Rows
    /// at the end are cut off, because the store may give their numbers again.
    ///
    /// # Errors
    /// [`SearchError::File`] when the file can't be read or written.
    pub fn erase(&self, item: i64) -> Result<u64, SearchError> {
        if self.open()?.is_none() {
            return Ok(0);
        }
        // Whoever adds rows holds the lock, and so does this.
        let mut appending = self.append()?;
        self.erase_rows(&mut appending.file, item).map_err(|source| self.failed(source))
    }

    fn erase_rows(&self, file: &mut File, item: i64) -> io::Result<u64> {
        let stride = self.stride();
        let rows = self.rows_in(file.metadata()?.len()).unwrap_or(0);
        let rows_a_block = (BLOCK / stride).max(1) as u64;
        let mut block = vec![0; BLOCK.max(stride)];
        let (mut erased, mut kept) = (0, 0);
        for first in (0..rows).step_by(usize::try_from(rows_a_block).unwrap_or(1)) {
            let count = rows_a_block.min(rows - first);
            let bytes = usize::try_from(count).unwrap_or(0) * stride;
            let start = HEAD + first * stride as u64;
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(&mut block[..bytes])?;
            for (row, bytes) in (first..).zip(block[..bytes].chunks_exact_mut(stride)) {
                if number_at(bytes, 8) == item {
                    bytes[8..].fill(0);
                    file.seek(SeekFrom::Start(HEAD + row * stride as u64))?;
                    file.write_all(bytes)?;
                    erased += 1;
                } else if number_at(bytes, 8) != ERASED {
                    kept = row + 1;
                }
            }
        }
        if erased > 0 {
            // Overwritten first, so that nothing of them is left in what is given back.
            file.sync_all()?;
            file.set_len(HEAD + kept * stride as u64)?;
            file.sync_all()?;
        }
        Ok(erased)
    }

    /// The `top` items whose views are most like the query, the most similar first. `wanted`
    /// says which items may be found; it is called on several threads, and only about items that
    /// are similar enough.
    ///
    /// # Errors
    /// [`SearchError`] when the file can't be read or holds vectors of another width.
    pub fn nearest(
        &self,
        query: &Embedding,
        top: usize,
        wanted: impl Fn(i64) -> bool + Sync,
    ) -> Result<Nearest, SearchError> {
        self.nearest_among(query, top, |_| true, wanted)
    }

    /// The same, where only items that `counted` says yes to are compared at all; it is called
    /// about all of them.
    ///
    /// # Errors
    /// Those of [`VectorFile::nearest`].
    pub fn nearest_among(
        &self,
        query: &Embedding,
        top: usize,
        counted: impl Fn(i64) -> bool + Sync,
        wanted: impl Fn(i64) -> bool + Sync,
    ) -> Result<Nearest, SearchError> {
        if query.dim() != self.width {
            return Err(SearchError::Width { found: query.dim(), expected: self.width });
        }
        let Some((file, rows)) = self.open()? else { return Ok(Nearest::default()) };
        let query: Vec<f32> = query.as_slice().iter().map(|x| x * TO_FLOAT).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicU64::new(0);
        let search = || self.nearest_in(&file, rows, &next, &query, (top, &counted, &wanted));
        let parts = std::thread::scope(|scope| {
            let searches: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
            let join = |search: std::thread::ScopedJoinHandle<'_, _>| {
                search.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            searches.into_iter().map(join).collect::<io::Result<Vec<_>>>()
        });
        let parts = parts.map_err(|source| self.failed(source))?;
        // An item whose views lie on both sides of a border was found twice.
        let mut best: HashMap<i64, f32> = HashMap::new();
        for Candidate { item, cosine } in parts.iter().flat_map(|part| &part.best) {
            best.entry(*item).and_modify(|known| *known = known.max(*cosine)).or_insert(*cosine);
        }
        let mut best: Vec<_> =
            best.into_iter().map(|(item, cosine)| Candidate { item, cosine }).collect();
        best.sort_by(closest_first);
        best.truncate(top);
        Ok(ranked(&best, &parts))
    }

    /// Takes one share of the file after another until none is left.
    fn nearest_in(
        &self,
        file: &File,
        rows: u64,
        next: &AtomicU64,
        query: &[f32],
        (top, counted, wanted): (
            usize,
            &(impl Fn(i64) -> bool + Sync),
            &(impl Fn(i64) -> bool + Sync),
        ),
    ) -> io::Result<Part> {
        let stride = self.stride();
        let rows_a_block = (BLOCK / stride).max(1) as u64;
        let mut block = vec![0; usize::try_from(rows_a_block).unwrap_or(1) * stride];
        let mut best = Best::new(top, wanted);
        loop {
            let share = next.fetch_add(1, Relaxed) * SHARE * rows_a_block;
            if share >= rows {
                return Ok(best.finish());
            }
            let end = rows.min(share + SHARE * rows_a_block);
            for start in (share..end).step_by(usize::try_from(rows_a_block).unwrap_or(1)) {
                let count = usize::try_from(rows_a_block.min(end - start)).unwrap_or(0);
                let bytes = &mut block[..count * stride];
                file.read_exact_at(bytes, HEAD + start * stride as u64)?;
                for row in bytes.chunks_exact(stride) {
                    let item = number_at(row, 8);
                    if counted(item) {
                        best.offer(Candidate { item, cosine: dot(&row[NUMBERS..], query) });
                    }
                }
            }
        }
    }

    /// The items of all rows, in their order; an item has a row for each of its views.
    ///
    /// # Errors
    /// [`SearchError::File`] when the file can't be read.
    pub fn items(&self) -> Result<Vec<i64>, SearchError> {
        let Some((file, rows)) = self.open()? else { return Ok(Vec::new()) };
        let item = |row: u64| {
            let mut number = [0; 8];
            file.read_exact_at(&mut number, HEAD + row * self.stride() as u64 + 8)?;
            Ok(i64::from_le_bytes(number))
        };
        (0..rows).map(item).collect::<io::Result<_>>().map_err(|source| self.failed(source))
    }

    /// The file and its whole rows; `None` when it is missing or not ours.
    fn open(&self) -> Result<Option<(File, u64)>, SearchError> {
        let open = || {
            let mut file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let length = file.metadata()?.len();
            let ours = self.head_is_ours(&mut file)?;
            Ok(self.rows_in(length).filter(|_| ours).map(|rows| (file, rows)))
        };
        open().map_err(|source| self.failed(source))
    }

    fn head(&self) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend(u32::try_from(self.width).unwrap_or(u32::MAX).to_le_bytes());
        head.resize(32, 0);
        head.extend(self.fingerprint.0.bytes().chain(std::iter::repeat(0)).take(32));
        head
    }

    fn head_is_ours(&self, file: &mut File) -> io::Result<bool> {
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        (&mut *file).take(HEAD).read_to_end(&mut head)?;
        Ok(head == self.head())
    }

    fn rows_in(&self, length: u64) -> Option<u64> {
        length.checked_sub(HEAD).map(|bytes| bytes / self.stride() as u64)
    }

    fn number_of(&self, file: &mut File, row: u64) -> io::Result<i64> {
        let mut numbers = [0; NUMBERS];
        file.seek(SeekFrom::Start(HEAD + row * self.stride() as u64))?;
        file.read_exact(&mut numbers)?;
        Ok(number_at(&numbers, 0))
    }

    fn stride(&self) -> usize {
        NUMBERS + 2 * self.width
    }

    fn failed(&self, source: io::Error) -> SearchError {
        SearchError::File { path: self.path.clone(), source }
    }
}

/// The file while rows are added; other processes that want to add wait until this is dropped.
#[derive(Debug)]
pub struct Appending {
    file: File,
    path: PathBuf,
    width: usize,
    last: i64,
}

impl Appending {
    /// The number of the last row; 0 when there is none.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// Adds rows whose numbers come after [`Appending::last`]. A row of another width is left
    /// out: it can't be of this model.
    ///
    /// # Errors
    /// [`SearchError::File`] when they can't be written.
    pub fn add(&mut self, rows: &[VectorRow]) -> Result<(), SearchError> {
        let mut bytes = Vec::with_capacity(rows.len() * (NUMBERS + 2 * self.width));
        for row in rows {
            if row.number <= self.last {
                continue;
            }
            self.last = row.number;
            if row.embedding.dim() == self.width {
                bytes.extend(row.number.to_le_bytes());
                bytes.extend(row.item.to_le_bytes());
                bytes.extend(row.embedding.to_f16_bytes());
            }
        }
        let written = self.file.write_all(&bytes);
        written.map_err(|source| SearchError::File { path: self.path.clone(), source })
    }
}

/// An item with a view that is like the query.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    item: i64,
    cosine: f32,
}

/// What one thread found.
struct Part {
    best: Vec<Candidate>,
    /// Of every item, its most similar view.
    all: Vec<f32>,
}

/// Counts for each of the best, sorted, how many of all are less similar.
fn ranked(best: &[Candidate], parts: &[Part]) -> Nearest {
    // `steps[n]`: so many items are at least as similar as exactly `n` of the best.
    let mut steps = vec![0_u64; best.len() + 1];
    let last = best.last().map_or(f32::INFINITY, |last| last.cosine);
    for cosine in parts.iter().flat_map(|part| &part.all) {
        // Nearly all of them.
        if *cosine < last {
            steps[0] += 1;
        } else {
            steps[best.len() - best.partition_point(|one| one.cosine > *cosine)] += 1;
        }
    }
    let of = steps.iter().sum();
    let mut below: Vec<u64> = steps
        .iter()
        .scan(0, |sum, step| {
            *sum += step;
            Some(*sum)
        })
        .collect();
    below.pop();
    let found = best.iter().zip(below.iter().rev()).map(|(one, below)| Neighbour {
        item: one.item,
        cosine: one.cosine,
        below: *below,
    });
    Nearest { found: found.collect(), of }
}

/// The best items so far; views of one item follow each other and count once.
struct Best<'a, Wanted> {
    top: usize,
    wanted: &'a Wanted,
    heap: BinaryHeap<Worst>,
    run: Option<Candidate>,
    all: Vec<f32>,
}

impl<'a, Wanted: Fn(i64) -> bool> Best<'a, Wanted> {
    fn new(top: usize, wanted: &'a Wanted) -> Self {
        let heap = BinaryHeap::with_capacity(top.saturating_add(1).min(1 << 16));
        Self { top, wanted, heap, run: None, all: Vec::new() }
    }

    fn offer(&mut self, view: Candidate) {
        // Only a damaged row is not a unit vector.
        if view.item == ERASED || view.cosine.is_nan() || view.cosine.abs() > 1.5 {
            return;
        }
        match &mut self.run {
            Some(run) if run.item == view.item => run.cosine = run.cosine.max(view.cosine),
            run => {
                if let Some(ended) = run.replace(view) {
                    self.push(ended);
                }
            }
        }
    }

    fn push(&mut self, item: Candidate) {
        self.all.push(item.cosine);
        let full = self.heap.len() >= self.top;
        if full && self.heap.peek().is_none_or(|worst| item.cosine <= worst.0.cosine) {
            return;
        }
        if !(self.wanted)(item.item) {
            return;
        }
        self.heap.push(Worst(item));
        if full {
            self.heap.pop();
        }
    }

    fn finish(mut self) -> Part {
        if let Some(run) = self.run.take() {
            self.push(run);
        }
        Part { best: self.heap.into_iter().map(|worst| worst.0).collect(), all: self.all }
    }
}

/// Greatest is what is least similar, so that a heap gives up the right one.
struct Worst(Candidate);

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Worst {}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        closest_first(&self.0, &other.0)
    }
}

fn closest_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.cosine.total_cmp(&a.cosine).then(a.item.cmp(&b.item))
}

/// 2¹¹²: a half's exponent and fraction, put where a float has them, are a number smaller by this
/// factor, because the exponents count from −15 and from −127.
const TO_FLOAT: f32 = f32::from_bits((127 + 112) << 23);

/// The dot product of a vector with a query that was multiplied by [`TO_FLOAT`].
///
/// Sums side by side, which the compiler turns into vector instructions; that is why halves become
/// floats by shifting, which every processor can do to several at once. Infinities become large
/// numbers.
fn dot(halves: &[u8], query: &[f32]) -> f32 {
    const LANES: usize = 16;
    let small = |low: u8, high: u8| {
        let half = i32::from(i16::from_le_bytes([low, high]));
        f32::from_bits((half << 13).cast_unsigned() & 0x8fff_e000)
    };
    let (halves, halves_rest) = halves.as_chunks::<{ 2 * LANES }>();
    let (query, query_rest) = query.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (halves, query) in halves.iter().zip(query) {
        for lane in 0..LANES {
            sums[lane] += small(halves[2 * lane], halves[2 * lane + 1]) * query[lane];
        }
    }
    let rest = halves_rest.as_chunks::<2>().0.iter().zip(query_rest);
    let rest: f32 = rest.map(|([low, high], query)| small(*low, *high) * query).sum();
    sums.iter().sum::<f32>() + rest
}

fn number_at(numbers: &[u8], at: usize) -> i64 {
    numbers[at..at + 8].try_into().map_or(0, i64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    fn file(dir: &tempfile::TempDir, width: usize) -> VectorFile {
        VectorFile::new(&dir.path().join("vectors"), &Fingerprint("ab".repeat(32)), width)
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn unit(vector: &[f32]) -> Embedding {
        Embedding::normalised(vector.to_vec()).expect("has a direction")
    }

    fn row(number: i64, item: i64, vector: &[f32]) -> VectorRow {
        VectorRow { number, item, embedding: unit(vector) }
    }

    fn fill(file: &VectorFile, rows: &[VectorRow]) {
        file.append().expect("opens").add(rows).expect("is written");
    }

    #[test]
    fn the_most_similar_come_first_and_an_item_counts_once() {
        let dir = folder();
        let file = file(&dir, 2);
        let nothing = file.nearest(&unit(&[1.0, 0.0]), 3, |_| true).expect("reads");
        assert_eq!(nothing, Nearest::default());
        fill(
            &file,
            &[
                row(1, 10, &[0.0, 1.0]),
                row(2, 11, &[1.0, 1.0]),
                row(3, 11, &[1.0, 0.1]),
                row(4, 12, &[1.0, 0.5]),
                row(5, 13, &[-1.0, 0.0]),
            ],
        );
        assert_eq!(file.count().expect("reads"), 5);
        let near = |top, wanted: fn(i64) -> bool| {
            let found = file.nearest(&unit(&[1.0, 0.0]), top, wanted).expect("reads");
            assert_eq!(found.of, 4);
            found.found.iter().map(|near| near.item).collect::<Vec<_>>()
        };
        assert_eq!(near(10, |_| true), [11, 12, 10, 13]);
        assert_eq!(near(2, |_| true), [11, 12]);
        assert_eq!(near(10, |item| item != 11), [12, 10, 13]);
        assert_eq!(near(0, |_| true), [0; 0]);
        let ranks = file.nearest(&unit(&[1.0, 0.0]), 9, |item| item != 12).expect("reads");
        let below: Vec<_> = ranks.found.iter().map(|near| near.below).collect();
        assert_eq!(below, [3, 1, 0], "compared with all, found or not");
        let best = ranks.found[0].cosine;
        assert!((best - unit(&[1.0, 0.1]).as_slice()[0]).abs() < 1e-3, "{best}");
    }

    #[test]
    fn what_does_not_count_is_neither_found_nor_compared_with() {
        let dir = folder();
        let file = file(&dir, 2);
        let rows = [(1, [0.0, 1.0]), (2, [1.0, 0.1]), (3, [1.0, 0.5]), (4, [-1.0, 0.0])];
        fill(&file, &rows.map(|(item, vector)| row(item, item, &vector)));
        let query = unit(&[1.0, 0.0]);
        let nearest = file.nearest_among(&query, 1, |item| item != 2 && item != 4, |_| true);
        let nearest = nearest.expect("reads");
        let told: Vec<_> = nearest.found.iter().map(|near| (near.item, near.below)).collect();
        assert_eq!((told, nearest.of), (vec![(3, 1)], 2));
    }

    #[test]
    fn it_grows_where_it_ended_and_takes_nothing_twice() {
        let dir = folder();
        let file = file(&dir, 2);
        fill(&file, &[row(3, 1, &[1.0, 0.0])]);
        let mut appending = file.append().expect("opens");
        assert_eq!(appending.last(), 3);
        appending.add(&[row(3, 1, &[1.0, 0.0]), row(7, 2, &[0.0, 1.0])]).expect("is written");
        assert_eq!(appending.last(), 7);
        drop(appending);
        assert_eq!(file.count().expect("reads"), 2);
    }

    #[test]
    fn half_a_row_is_cut_off_and_a_damaged_or_foreign_file_is_begun_anew() {
        let dir = folder();
        let file = file(&dir, 2);
        fill(&file, &[row(1, 1, &[1.0, 0.0]), row(2, 2, &[0.0, 1.0])]);
        let bytes = std::fs::read(file.path()).expect("readable");
        std::fs::write(file.path(), &bytes[..bytes.len() - 3]).expect("written");
        assert_eq!(file.count().expect("reads"), 1);
        assert_eq!(file.append().expect("opens").last(), 1);

        let mut zeros = bytes.clone();
        zeros.extend([0; 20]);
        std::fs::write(file.path(), &zeros).expect("written");
        assert_eq!(file.append().expect("opens").last(), 0, "all is in doubt");

        for foreign in [b"".to_vec(), b"something else".to_vec(), vec![7; 500]] {
            std::fs::write(file.path(), foreign).expect("written");
            assert_eq!(file.count().expect("reads"), 0);
            let found = file.nearest(&unit(&[1.0, 0.0]), 3, |_| true).expect("reads").found;
            assert!(found.is_empty());
            assert_eq!(file.append().expect("opens").last(), 0);
        }
        let wider = self::file(&dir, 3);
        fill(&file, &[row(1, 1, &[1.0, 0.0])]);
        assert_eq!(wider.append().expect("opens").last(), 0, "another width");
    }

    #[test]
    fn an_erased_item_leaves_zeros_and_nothing_else_changes() {
        let dir = folder();
        let file = file(&dir, 2);
        assert_eq!(file.erase(1).expect("nothing to do"), 0);
        assert!(!file.path().exists());
        let rows = [
            row(1, 10, &[1.0, 0.0]),
            row(2, 11, &[0.6, 0.8]),
            row(3, 10, &[0.8, 0.6]),
            row(4, 12, &[0.0, 1.0]),
            row(6, 13, &[0.0, 1.0]),
        ];
        fill(&file, &rows);
        let known = VectorFile::at(file.path()).expect("read").expect("a vector file");
        assert_eq!(known.erase(10).expect("written"), 2);
        std::fs::write(dir.path().join("other"), "something else").expect("written");
        assert!(VectorFile::at(&dir.path().join("other")).expect("read").is_none());
        assert_eq!(file.erase(99).expect("written"), 0);
        let bytes = std::fs::read(file.path()).expect("readable");
        let erased = &bytes[64 + 8..64 + 20];
        assert!(erased.iter().all(|byte| *byte == 0), "{erased:?}");
        assert_eq!((file.count().expect("reads"), file.append().expect("opens").last()), (5, 6));
        let items = |query: &[f32]| {
            let found = file.nearest(&unit(query), 10, |_| true).expect("reads");
            assert_eq!(found.of, 3);
            found.found.iter().map(|near| near.item).collect::<Vec<_>>()
        };
        assert_eq!(items(&[1.0, 0.0]), [11, 12, 13]);
        // The last number may be given again, so its row must go.
        assert_eq!(file.erase(13).expect("written"), 1);
        assert_eq!(file.append().expect("opens").last(), 4);
        fill(&file, &[row(6, 14, &[1.0, 0.0])]);
        assert_eq!(items(&[1.0, 0.0]), [14, 11, 12]);
    }

    #[test]
    fn a_query_of_another_model_is_refused() {
        let dir = folder();
        let file = file(&dir, 2);
        let refused = file.nearest(&unit(&[1.0, 0.0, 0.0]), 1, |_| true);
        assert!(matches!(refused, Err(SearchError::Width { found: 3, expected: 2 })));
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_comparing_with_all(
            vectors in proptest::collection::vec(proptest::collection::vec(-1.0_f32..1.0, 71), 1..80),
            top in 1_usize..12,
        ) {
            prop_assume!(vectors.iter().all(|vector| vector.iter().any(|x| x.abs() > 0.01)));
            let dir = folder();
            let file = file(&dir, 71);
            let rows: Vec<_> =
                (1..).zip(&vectors).map(|(number, vector)| row(number, number / 3 + 1, vector)).collect();
            fill(&file, &rows);
            let query = unit(&vectors[0]);
            let nearest = file.nearest(&query, top, |_| true).expect("reads");
            let found = nearest.found;
            let mut expected: HashMap<i64, f32> = HashMap::new();
            for row in &rows {
                let best = expected.entry(row.item).or_insert(f32::MIN);
                *best = best.max(row.embedding.cosine(&query));
            }
            let mut expected: Vec<f32> = expected.into_values().collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(found.len(), top.min(expected.len()));
            prop_assert_eq!(nearest.of, expected.len() as u64);
            for (index, (found, cosine)) in found.iter().zip(&expected).enumerate() {
                prop_assert!((found.cosine - cosine).abs() < 2e-3);
                prop_assert_eq!(found.below, (expected.len() - 1 - index) as u64);
            }
        }

        #[test]
        fn halves_become_the_numbers_that_they_are(bits in proptest::num::u16::ANY) {
            let half = f16::from_bits(bits);
            prop_assume!(half.is_finite());
            let product = dot(&half.to_le_bytes(), &[TO_FLOAT]);
            prop_assert!((product - half.to_f32()).abs() <= 0.0);
        }
    }

    #[test]
    fn a_large_file_is_read_in_shares_and_damaged_rows_are_never_found() {
        let dir = folder();
        let file = file(&dir, 2);
        #[expect(clippy::cast_precision_loss, reason = "a direction")]
        let vector = |item: i64| {
            let turn = std::f32::consts::PI * item as f32 / 200_000.0;
            [turn.cos(), turn.sin()]
        };
        let rows: Vec<_> = (1..=150_000).map(|item| row(item, item, &vector(item))).collect();
        fill(&file, &rows);
        let mut bytes = std::fs::read(file.path()).expect("readable");
        let damaged = 64 + 99 * file.stride() + NUMBERS;
        bytes[damaged..damaged + 4].copy_from_slice(&[0x00, 0x7c, 0x01, 0x7e]);
        std::fs::write(file.path(), bytes).expect("written");
        let nearest = file.nearest(&unit(&[1.0, 0.0]), 500, |item| item % 100 == 0).expect("reads");
        assert_eq!(nearest.of, 149_999);
        let items: Vec<_> = nearest.found.iter().map(|near| near.item).collect();
        assert!(!items.contains(&100) && items.contains(&200), "{items:?}");
        assert!(items.iter().all(|item| item % 100 == 0 && *item <= 52_000), "{items:?}");
        assert_eq!(file.items().expect("reads"), (1..=150_000).collect::<Vec<_>>());
    }
}
