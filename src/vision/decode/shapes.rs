//! What a model's square would hide: parts of a picture that is much longer than wide, and a picture
//! within a wide border. They become views of their own.

use crate::vision::preprocess::{ImageSpec, Part, Resize};

/// What is longer than this is judged in parts as well. A model that is shown the whole picture
/// squeezed sees nothing in a strip of 3:1; one that is shown the middle alone never sees the rest.
const LONGEST_SQUEEZED: f64 = 2.5;
const LONGEST_CUT: f64 = 1.5;

/// The shape of a part where there are enough of them.
const PART_SQUEEZED: f64 = 1.25;
const PART_CUT: f64 = 1.0;

/// The most parts of one picture; up to 16.5:1 (9.9:1 where the middle is cut out) all of it is seen.
const MOST_PARTS: usize = 8;

/// Each part shares so much of its length with the next, so that what lies between two is whole in
/// one of them.
const SHARED: f64 = 0.2;

/// A border is worth a view without it when less than this share of the picture is left. Measured on 500
/// photos with the starter policies: with this and the numbers below 6 of them get further views, 2 more
/// are found, and 17 instead of 16 of 194 ordinary ones are flagged. With 0.85, or with 12 as [`FLAT`],
/// the dark ground and plain walls of 2 to 5 more ordinary ones are taken for borders.
const BORDERED: f64 = 0.78;

/// How far a cell of a flat line may be from the mean of the line, of 255.
const FLAT: i32 = 5;
/// The share of the cells of a flat line that may be farther from it, in percent.
const SPECKS_PERCENT: usize = 3;
/// How deep inside a border it is tested whether a picture fills the box, in percent of the box.
const INSIDE_PERCENT: usize = 12;
/// The share of the cells there that have to differ from the border, in percent. An object in front of
/// a plain wall has a box around it, and does not fill it.
const FILLED_PERCENT: usize = 50;
/// The least width and height of a picture within a border, in cells.
const LEAST_CELLS: usize = 3;
/// The most lines at the very edge of a border that need not be flat: dots or a frame.
const FRINGE: usize = 3;
/// The least flat lines that have to follow them.
const BEHIND_FRINGE: usize = 6;

/// The views that a picture needs besides the whole, and whether they leave something out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Parts {
    pub(super) parts: Vec<Part>,
    pub(super) incomplete: bool,
}

/// The picture as a grid of colours, for finding its border.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid<'a> {
    /// Cells a side.
    pub(super) side: usize,
    /// Values of a cell: 3, or 4 with the last one for alpha.
    pub(super) channels: usize,
    /// Rows from the top.
    pub(super) cells: &'a [u8],
}

/// Which parts of a picture of this size and look are to be views besides the whole.
pub(super) fn parts(spec: &ImageSpec, width: u32, height: u32, grid: Grid) -> Parts {
    let whole = Part { left: 0, top: 0, width, height };
    let Some(inner) = inner(grid, width, height) else { return along(spec, whole) };
    // What lies around it is of one colour.
    let mut found = along(spec, inner);
    found.parts.insert(0, inner);
    found
}

/// The parts of something long; none of what is not.
fn along(spec: &ImageSpec, whole: Part) -> Parts {
    let (limit, shape) = match spec.resize {
        Resize::Stretch => (LONGEST_SQUEEZED, PART_SQUEEZED),
        Resize::ShortestEdgeCrop => (LONGEST_CUT, PART_CUT),
    };
    let (long, short) = (whole.width.max(whole.height), whole.width.min(whole.height));
    let ratio = f64::from(long) / f64::from(short.max(1));
    if ratio <= limit {
        return Parts::default();
    }
    let step = 1.0 - SHARED;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a side of the picture"
    )]
    let wanted = ((ratio / shape - 1.0) / step).ceil() as usize + 1;
    let count = wanted.min(MOST_PARTS);
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let steps = (count - 1) as f64;
    // As long as wanted, or as long as it takes.
    let length = (shape / ratio).max(1.0 / (1.0 + steps * step));
    let incomplete = length * ratio > limit;
    let place = |number: usize| {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let start = if steps > 0.0 { (1.0 - length) * number as f64 / steps } else { 0.0 };
        let along = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and a side of the picture"
            )]
            let along = (share * f64::from(long)).round() as u32;
            along.min(long)
        };
        let (start, end) = (along(start), along(start + length));
        let (start, length) = (start.min(long - 1), (end - start.min(end)).max(1));
        if whole.width >= whole.height {
            Part { left: whole.left + start, width: length.min(long - start), ..whole }
        } else {
            Part { top: whole.top + start, height: length.min(long - start), ..whole }
        }
    };
    Parts { parts: (0..count).map(place).collect(), incomplete }
}

/// What lies within the border, if there is one that is worth it.
fn inner(grid: Grid, width: u32, height: u32) -> Option<Part> {
    let side = grid.side;
    let mut inside = Inside { grid, rows: (0, side), columns: (0, side) };
    inside.trim();
    if !inside.is_filled() {
        return None;
    }
    let (rows, columns) = (inside.rows, inside.columns);
    let (high, wide) = (rows.1 - rows.0, columns.1 - columns.0);
    if high < LEAST_CELLS || wide < LEAST_CELLS {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a grid is small")]
    let left_over = (high * wide) as f64 / (side * side) as f64;
    if left_over >= BORDERED {
        return None;
    }
    let pixels = |cells: (usize, usize), length: u32| {
        let at = |cell: usize, up: usize| {
            let pixel = (cell as u64 * u64::from(length) + up as u64) / side as u64;
            u32::try_from(pixel).unwrap_or(length).min(length)
        };
        // Rounded outwards.
        let (start, end) = (at(cells.0, 0), at(cells.1, side - 1));
        (start, end.saturating_sub(start).max(1))
    };
    let (top, height) = pixels(rows, height);
    let (left, width) = pixels(columns, width);
    Some(Part { left, top, width, height })
}

/// A box of the grid that shrinks to what is no border.
struct Inside<'a> {
    grid: Grid<'a>,
    rows: (usize, usize),
    columns: (usize, usize),
}

impl Inside<'_> {
    /// Takes flat lines away from all sides until there are none: frames may lie in frames.
    fn trim(&mut self) {
        loop {
            let (rows, columns) = (self.rows, self.columns);
            self.rows = shrunk(rows, |y| is_flat(&self.row(y)));
            self.columns = shrunk(columns, |x| is_flat(&self.column(x)));
            if (self.rows, self.columns) == (rows, columns) {
                return;
            }
        }
    }

    fn row(&self, y: usize) -> Vec<&[u8]> {
        (self.columns.0..self.columns.1).map(|x| self.cell(x, y)).collect()
    }

    fn column(&self, x: usize) -> Vec<&[u8]> {
        (self.rows.0..self.rows.1).map(|y| self.cell(x, y)).collect()
    }

    fn cell(&self, x: usize, y: usize) -> &[u8] {
        let Grid { side, channels, cells } = self.grid;
        let start = (y * side + x) * channels;
        cells.get(start..start + channels).unwrap_or_default()
    }

    /// Whether what is inside of each border fills it.
    fn is_filled(&self) -> bool {
        let ((top, bottom), (left, right)) = (self.rows, self.columns);
        let depth =
            |length: usize| (length * INSIDE_PERCENT / 100).max(1).min(length.saturating_sub(1));
        let (down, across) = (depth(bottom - top), depth(right - left));
        let last = self.grid.side;
        let fills = |inside: &[&[u8]], border: &[&[u8]]| {
            let border = mean(border);
            let other = inside.iter().filter(|cell| differs(cell, &border)).count();
            other * 100 >= FILLED_PERCENT * inside.len()
        };
        (top == 0 || fills(&self.row(top + down), &self.row(top - 1)))
            && (bottom == last || fills(&self.row(bottom - 1 - down), &self.row(bottom)))
            && (left == 0 || fills(&self.column(left + across), &self.column(left - 1)))
            && (right == last || fills(&self.column(right - 1 - across), &self.column(right)))
    }
}

fn is_flat(line: &[&[u8]]) -> bool {
    let mean = mean(line);
    let specks = line.iter().filter(|cell| differs(cell, &mean)).count();
    specks * 100 <= SPECKS_PERCENT * line.len()
}

fn mean(line: &[&[u8]]) -> [i32; 4] {
    let mut sums = [0_i32; 4];
    for cell in line {
        for (sum, value) in sums.iter_mut().zip(*cell) {
            *sum += i32::from(*value);
        }
    }
    let count = i32::try_from(line.len()).unwrap_or(i32::MAX).max(1);
    sums.map(|sum| sum / count)
}

fn differs(cell: &[u8], from: &[i32; 4]) -> bool {
    cell.iter().zip(from).any(|(value, mean)| (i32::from(*value) - mean).abs() > FLAT)
}

/// Lines without those at both ends that are flat.
fn shrunk((mut start, mut end): (usize, usize), is_flat: impl Fn(usize) -> bool) -> (usize, usize) {
    let fringe = |lines: &mut dyn Iterator<Item = usize>| {
        let flat: Vec<bool> = lines.take(FRINGE + BEHIND_FRINGE).map(&is_flat).collect();
        let passed = flat.iter().take_while(|flat| !**flat).count();
        let behind = flat.iter().skip(passed).take_while(|flat| **flat).count();
        if passed <= FRINGE && behind >= BEHIND_FRINGE { passed } else { 0 }
    };
    start += fringe(&mut (start..end));
    while start < end && is_flat(start) {
        start += 1;
    }
    end -= fringe(&mut (start..end).rev());
    while end > start && is_flat(end - 1) {
        end -= 1;
    }
    // All of it may be flat.
    (start.min(end), end)
}

#[cfg(test)]
mod tests;
