//! From coefficients to values: `jidctint.c` of libjpeg at full size, the transforms of 4, 2 and 1
//! value a side at reduced ones.

/// Coefficients in natural order (rows from the top).
pub(crate) type Block = [i16; 64];

/// Fraction bits of the constants and of the first pass.
const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// Eight numbers that are treated alike, so that the compiler makes vectors of them.
type Lanes = [i32; 8];

/// Coefficients (dequantised) and values beyond these are nothing that an encoder writes. Viewers differ
/// in what they make of them: numbers of 16 bits wrap in one and saturate in another.
const WILD_COEFFICIENT: i32 = 1 << 13;
const WILD_VALUE: i32 = 1 << 9;

/// 0 while the number lies between −limit and limit − 1; the limit is a power of two.
#[inline]
fn beyond(value: i32, limit: i32) -> i32 {
    value.wrapping_add(limit) & !(2 * limit - 1)
}

/// Writes `side` rows of `side` values into `target`, which has `stride` values a row. Answers whether
/// the block is wild.
pub(crate) fn put(
    block: &Block,
    last: usize,
    quantisation: &[u16; 64],
    side: usize,
    target: &mut [u8],
    stride: usize,
) -> bool {
    if last == 0 || side == 1 {
        let value = i32::from(block[0]).wrapping_mul(i32::from(quantisation[0]));
        // As the whole transform rounds it.
        let wild = beyond(value, WILD_COEFFICIENT) != 0;
        let value = byte((value.wrapping_add(4) >> 3).saturating_add(128));
        for row in target.chunks_mut(stride).take(side) {
            row[..side].fill(value);
        }
        return wild;
    }
    match side {
        8 if last < IN_FOUR => put_full::<true>(block, quantisation, target, stride),
        8 => put_full::<false>(block, quantisation, target, stride),
        4 => put_four(block, quantisation, target, stride),
        _ => put_two(block, quantisation, target, stride),
    }
}

/// In zigzag order the first 10 coefficients lie in the first 4 rows and columns.
const IN_FOUR: usize = 10;

fn put_full<const SPARSE: bool>(
    block: &Block,
    quantisation: &[u16; 64],
    target: &mut [u8],
    stride: usize,
) -> bool {
    let mut wild = 0;
    let mut rows = [[0_i32; 8]; 8];
    let coefficients = block.as_chunks::<8>().0.iter().zip(quantisation.as_chunks::<8>().0);
    for (row, (block, quantisation)) in rows.iter_mut().zip(coefficients) {
        for lane in 0..8 {
            row[lane] = i32::from(block[lane]).wrapping_mul(i32::from(quantisation[lane]));
            wild |= beyond(row[lane], WILD_COEFFICIENT);
        }
    }
    let columns = butterfly::<SPARSE>(&rows, CONST_BITS - PASS1_BITS);
    let turned = transposed(&columns);
    let values = transposed(&butterfly::<SPARSE>(&turned, CONST_BITS + PASS1_BITS + 3));
    for (row, values) in target.chunks_mut(stride).zip(&values) {
        let Some(row) = row.first_chunk_mut::<8>() else { continue };
        for lane in 0..8 {
            wild |= beyond(values[lane], WILD_VALUE);
            row[lane] = byte(values[lane].saturating_add(128));
        }
    }
    wild != 0
}

fn transposed(rows: &[Lanes; 8]) -> [Lanes; 8] {
    std::array::from_fn(|y| std::array::from_fn(|x| rows[x][y]))
}

/// One direction of the transform on eight values of eight lanes (Loeffler, Ligtenberg and Moschytz
/// 1989, with the constants of `jidctint.c`). With `SPARSE` the last four values are zeros.
#[inline]
fn butterfly<const SPARSE: bool>(input: &[Lanes; 8], shift: u32) -> [Lanes; 8] {
    let mut output = [[0; 8]; 8];
    let half = 1_i32 << (shift - 1);
    // A plain loop over the lanes: the compiler makes vectors of it.
    for lane in 0..8 {
        let value = |place: usize| if SPARSE && place > 3 { 0 } else { input[place][lane] };
        let (s2, s6) = (value(2), value(6));
        let z1 = s2.wrapping_add(s6).wrapping_mul(4_433);
        let even2 = z1.wrapping_sub(s6.wrapping_mul(15_137));
        let even3 = z1.wrapping_add(s2.wrapping_mul(6_270));
        let even0 = (value(0).wrapping_add(value(4)) << CONST_BITS).wrapping_add(half);
        let even1 = (value(0).wrapping_sub(value(4)) << CONST_BITS).wrapping_add(half);
        let (s1, s3, s5, s7) = (value(1), value(3), value(5), value(7));
        let (z3, z4) = (s7.wrapping_add(s3), s5.wrapping_add(s1));
        let z5 = z3.wrapping_add(z4).wrapping_mul(9_633);
        let z1 = s7.wrapping_add(s1).wrapping_mul(-7_373);
        let z2 = s5.wrapping_add(s3).wrapping_mul(-20_995);
        let z3 = z3.wrapping_mul(-16_069).wrapping_add(z5);
        let z4 = z4.wrapping_mul(-3_196).wrapping_add(z5);
        let odd0 = s1.wrapping_mul(12_299).wrapping_add(z1).wrapping_add(z4);
        let odd1 = s3.wrapping_mul(25_172).wrapping_add(z2).wrapping_add(z3);
        let odd2 = s5.wrapping_mul(16_819).wrapping_add(z2).wrapping_add(z4);
        let odd3 = s7.wrapping_mul(2_446).wrapping_add(z1).wrapping_add(z3);
        let outer = even0.wrapping_add(even3);
        let inner = even1.wrapping_add(even2);
        output[0][lane] = outer.wrapping_add(odd0) >> shift;
        output[7][lane] = outer.wrapping_sub(odd0) >> shift;
        output[1][lane] = inner.wrapping_add(odd1) >> shift;
        output[6][lane] = inner.wrapping_sub(odd1) >> shift;
        let inner = even1.wrapping_sub(even2);
        let outer = even0.wrapping_sub(even3);
        output[2][lane] = inner.wrapping_add(odd2) >> shift;
        output[5][lane] = inner.wrapping_sub(odd2) >> shift;
        output[3][lane] = outer.wrapping_add(odd3) >> shift;
        output[4][lane] = outer.wrapping_sub(odd3) >> shift;
    }
    output
}

/// cos(π/8) and cos(3π/8), halved, with 13 fraction bits.
const HALF_COS_1: i32 = 3_784;
const HALF_COS_3: i32 = 1_567;
/// 1/√8 with 13 fraction bits: half a cosine of π/4, and the weight of the mean.
const EIGHTH_ROOT: i32 = 2_896;

/// The transform of four values, from the lowest four coefficients: in each direction
/// `X₀/√8 + ½ Σ Xₖ cos((2n + 1)kπ/8)`, whose mean is that of the eight values.
fn put_four(block: &Block, quantisation: &[u16; 64], target: &mut [u8], stride: usize) -> bool {
    let four = |input: [i32; 4], shift: u32| {
        let [a, b, c, d] = input;
        let half = 1_i32 << (shift - 1);
        let mean = a.wrapping_mul(EIGHTH_ROOT).wrapping_add(half);
        let even = c.wrapping_mul(EIGHTH_ROOT);
        let odd = [
            b.wrapping_mul(HALF_COS_1).wrapping_add(d.wrapping_mul(HALF_COS_3)),
            b.wrapping_mul(HALF_COS_3).wrapping_sub(d.wrapping_mul(HALF_COS_1)),
        ];
        let (outer, inner) = (mean.wrapping_add(even), mean.wrapping_sub(even));
        [
            outer.wrapping_add(odd[0]) >> shift,
            inner.wrapping_add(odd[1]) >> shift,
            inner.wrapping_sub(odd[1]) >> shift,
            outer.wrapping_sub(odd[0]) >> shift,
        ]
    };
    let mut wild = 0;
    let mut value = |x: usize, y: usize| {
        let value = i32::from(block[8 * y + x]).wrapping_mul(i32::from(quantisation[8 * y + x]));
        wild |= beyond(value, WILD_COEFFICIENT);
        value
    };
    let columns: [[i32; 4]; 4] =
        std::array::from_fn(|x| four(std::array::from_fn(|y| value(x, y)), CONST_BITS - 3));
    for (y, row) in target.chunks_mut(stride).take(4).enumerate() {
        let values = four(std::array::from_fn(|x| columns[x][y]), CONST_BITS + 3);
        for (place, value) in row[..4].iter_mut().zip(values) {
            wild |= beyond(value, WILD_VALUE);
            *place = byte(value.saturating_add(128));
        }
    }
    wild != 0
}

/// The same of two values: `(X₀ ± X₁)/√8` in each direction.
fn put_two(block: &Block, quantisation: &[u16; 64], target: &mut [u8], stride: usize) -> bool {
    let value = |place: usize| i32::from(block[place]).wrapping_mul(i32::from(quantisation[place]));
    let [a, b, c, d] = [value(0), value(1), value(8), value(9)];
    let (upper, lower) =
        ([a.wrapping_add(c), b.wrapping_add(d)], [a.wrapping_sub(c), b.wrapping_sub(d)]);
    for (row, [mean, slope]) in target.chunks_mut(stride).zip([upper, lower]) {
        row[0] = byte((mean.wrapping_add(slope).wrapping_add(4) >> 3).saturating_add(128));
        row[1] = byte((mean.wrapping_sub(slope).wrapping_add(4) >> 3).saturating_add(128));
    }
    [a, b, c, d].iter().any(|value| beyond(*value, WILD_COEFFICIENT) != 0)
}

#[inline]
pub(crate) fn byte(value: i32) -> u8 {
    u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX)
}

/// Values so far beyond black and white change a mean by too little to matter.
const TOLERATED: i32 = 48;

/// Colours so far from their mean are worth a look.
const FAR_COLOUR: i32 = 64;

/// Whether values of a block may lie so far outside that they are cut off at full size, or its colours
/// differ much: then the mean of what is seen is another than that of the coefficients, and a file
/// can hide a picture there.
#[inline]
pub(crate) fn is_loud(block: &Block, last: usize, quantisation: &[u16; 64], colour: bool) -> bool {
    // What is larger than this is loud by itself, and 64 of them fit 32 bits.
    const LARGEST: u16 = 1 << 12;
    let size = |value: i16, factor: u16| {
        u32::from(value.unsigned_abs().min(LARGEST)) * u32::from(factor.min(LARGEST))
    };
    let mut all = 0;
    let rows = block.as_chunks::<8>().0.iter().zip(quantisation.as_chunks::<8>().0);
    for (row, factors) in rows.take(if last < IN_FOUR { 4 } else { 8 }) {
        for lane in 0..8 {
            all += size(row[lane], factors[lane]);
        }
    }
    let first = i32::from(block[0]).wrapping_mul(i32::from(quantisation[0]));
    // No value is further from the mean than a quarter of all coefficients but the first together.
    let reach = ((all - size(block[0], quantisation[0])) / 4).cast_signed();
    let mean = first / 8;
    mean - reach < -128 - TOLERATED
        || mean + reach > 127 + TOLERATED
        || colour && reach > FAR_COLOUR
}

/// What came of averaging a block.
pub(crate) struct Averaged {
    /// As [`put`] answers it.
    pub(crate) wild: bool,
    /// How far the values are from the means that they became part of, in the mean.
    pub(crate) deviation: u32,
}

/// As [`put`], by way of the values at full size, each cut off as it is seen.
#[cold]
pub(crate) fn put_averaged(
    block: &Block,
    quantisation: &[u16; 64],
    side: usize,
    target: &mut [u8],
    stride: usize,
) -> Averaged {
    let mut full = [0; 64];
    let wild = put_full::<false>(block, quantisation, &mut full, 8);
    let box_side = 8 / side;
    let count = u32::try_from(box_side * box_side).unwrap_or(1);
    let mut deviation = 0;
    for (y, row) in target.chunks_mut(stride).take(side).enumerate() {
        for (x, place) in row[..side].iter_mut().enumerate() {
            let within = || {
                full.chunks_exact(8)
                    .skip(y * box_side)
                    .take(box_side)
                    .flat_map(|row| &row[x * box_side..(x + 1) * box_side])
            };
            let sum: u32 = within().map(|value| u32::from(*value)).sum();
            *place = u8::try_from((sum + count / 2) / count).unwrap_or(u8::MAX);
            deviation += within().map(|value| u32::from(value.abs_diff(*place))).sum::<u32>();
        }
    }
    Averaged { wild, deviation: deviation / 64 }
}
