//! From the planes of the colours to pixels: `jdsample.c` ("fancy" enlarging) and `jdcolor.c`.

use crate::frame::{Component, Frame};
use crate::transform::byte;
use crate::{Error, Pixels, Scale, index};

/// What the components are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    Grey,
    Ycc,
    Rgb,
    Cmyk,
    Ycck,
}

/// The planes of one picture as pixels.
pub(crate) fn pixels(frame: &Frame, model: Model, scale: Scale) -> Result<Pixels, Error> {
    let (width, height) = (index(scale.of(frame.width)), index(scale.of(frame.height)));
    let planes = frame
        .components
        .iter()
        .map(|component| Plane::new(component, frame, scale))
        .collect::<Result<Vec<_>, _>>()?;
    let channels = if model == Model::Grey { 1 } else { 3 };
    let mut out = vec![0; width * height * channels];
    let mut rows = vec![vec![0; width]; planes.len()];
    let mut sums = Vec::new();
    for (y, target) in out.chunks_exact_mut(width * channels).enumerate() {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.row(y, &mut sums, row);
        }
        match (model, rows.as_slice()) {
            (Model::Grey, [grey]) => target.copy_from_slice(grey),
            (Model::Ycc, [y, cb, cr]) => from_ycc(target, y, cb, cr),
            (Model::Rgb, [red, green, blue]) => interleave(target, red, green, blue),
            (Model::Cmyk, [cyan, magenta, yellow, key]) => {
                interleave(target, cyan, magenta, yellow);
                darken(target, key);
            }
            (Model::Ycck, [y, cb, cr, key]) => {
                from_ycc(target, y, cb, cr);
                // YCC stands for the inverted colours.
                for value in target.iter_mut() {
                    *value = 255 - *value;
                }
                darken(target, key);
            }
            _ => return Err(Error::Broken("its colours make no sense")),
        }
    }
    Ok(match model {
        Model::Grey => Pixels::Grey(out),
        Model::Ycc | Model::Rgb => Pixels::Rgb(out),
        Model::Cmyk | Model::Ycck => Pixels::RgbOfFour(out),
    })
}

/// Inverted cyan, magenta and yellow are red, green and blue, and inverted black is light. Adobe's
/// programs write them inverted, and browsers take all for that.
fn darken(target: &mut [u8], key: &[u8]) {
    for (pixel, key) in target.as_chunks_mut::<3>().0.iter_mut().zip(key) {
        for value in pixel {
            let product = u32::from(*value) * u32::from(*key) + 127;
            *value = u8::try_from(product / 255).unwrap_or(u8::MAX);
        }
    }
}

fn interleave(target: &mut [u8], first: &[u8], second: &[u8], third: &[u8]) {
    let sources = first.iter().zip(second).zip(third);
    for (pixel, ((a, b), c)) in target.as_chunks_mut::<3>().0.iter_mut().zip(sources) {
        *pixel = [*a, *b, *c];
    }
}

/// Pixels that are converted before they are interleaved, so that the compiler can use vectors.
const STRETCH: usize = 64;

/// `ycc_rgb_convert`: 16 fraction bits, rounded.
fn from_ycc(target: &mut [u8], luma: &[u8], cb: &[u8], cr: &[u8]) {
    const HALF: i32 = 1 << 15;
    let stretches = luma.chunks(STRETCH).zip(cb.chunks(STRETCH)).zip(cr.chunks(STRETCH));
    for (pixels, ((luma, cb), cr)) in target.chunks_mut(3 * STRETCH).zip(stretches) {
        let (mut red, mut green, mut blue) = ([0; STRETCH], [0; STRETCH], [0; STRETCH]);
        for x in 0..luma.len().min(cb.len()).min(cr.len()) {
            let (y, cb, cr) = (i32::from(luma[x]), i16::from(cb[x]) - 128, i16::from(cr[x]) - 128);
            // 1.402, −0.34414, −0.71414 and 1.772 times 2^16, rounded; whole parts stand apart, so
            // that 16 bits are enough for each factor.
            let (cb, cr) = (i32::from(cb), i32::from(cr));
            red[x] = byte(y + cr + ((26_345 * cr + HALF) >> 16));
            green[x] = byte(y - cr + ((-22_554 * cb + 18_734 * cr + HALF) >> 16));
            blue[x] = byte(y + 2 * cb + ((-14_942 * cb + HALF) >> 16));
        }
        interleave(pixels, &red, &green, &blue);
    }
}

/// One colour's values, to be enlarged to the picture's size.
struct Plane<'a> {
    values: &'a [u8],
    stride: usize,
    width: usize,
    height: usize,
    /// How many times it is smaller.
    h: usize,
    v: usize,
}

impl<'a> Plane<'a> {
    fn new(component: &'a Component, frame: &Frame, scale: Scale) -> Result<Self, Error> {
        let scaled = |length: u32, own: u32, most: u32| {
            let values = u64::from(length) * u64::from(own) * component.side as u64;
            usize::try_from(values.div_ceil(8 * u64::from(most))).unwrap_or(0)
        };
        let width = scaled(frame.width, component.h, frame.h_max);
        let height = scaled(frame.height, component.v, frame.v_max);
        let times = |most: u32, own: u32| index(most / own) * scale as usize / component.side;
        let (h, v) = (times(frame.h_max, component.h), times(frame.v_max, component.v));
        let stride = component.stride();
        if width == 0 || height == 0 || h == 0 || v == 0 || component.plane.len() < height * stride
        {
            return Err(Error::Broken("a colour has no values"));
        }
        Ok(Self { values: &component.plane, stride, width, height, h, v })
    }

    fn at(&self, y: usize) -> &[u8] {
        &self.values[y * self.stride..y * self.stride + self.width]
    }

    /// Writes a row of the picture.
    fn row(&self, y: usize, sums: &mut Vec<u16>, target: &mut [u8]) {
        let near = |height: usize| self.at((y / height).min(self.height - 1));
        // The neighbour of a row that is enlarged twofold; at the edges it is its own.
        let far = || {
            let row = y / 2;
            let up = y.is_multiple_of(2);
            let row = if up { row.saturating_sub(1) } else { row + 1 };
            self.at(row.min(self.height - 1))
        };
        // `jdsample.c` interpolates only what is wide enough.
        let smooth = self.width > 2;
        match (self.h, self.v) {
            (1, 1) => target.copy_from_slice(&near(1)[..target.len()]),
            (2, 1) if smooth => twice_as_wide(near(1), target),
            (2, 2) if smooth => twice_both_ways(near(2), far(), sums, target),
            (1, 2) => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for ((target, near), far) in target.iter_mut().zip(near(2)).zip(far()) {
                    *target = part(u16::from(*near) * 3 + u16::from(*far) + bias, 2);
                }
            }
            (h, v) => {
                let row = near(v);
                for (x, target) in target.iter_mut().enumerate() {
                    *target = row[(x / h).min(row.len() - 1)];
                }
            }
        }
    }
}

/// A quarter or a sixteenth of weighted sums of bytes.
#[inline]
fn part(sum: u16, shift: u32) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "the weights add up to 1 << shift")]
    let part = (sum >> shift) as u8;
    part
}

/// `h2v1_fancy_upsample`: three parts of the nearer value, one of the further.
fn twice_as_wide(row: &[u8], target: &mut [u8]) {
    let last = row.len() - 1;
    target[0] = row[0];
    if let Some(end) = target.get_mut(2 * last + 1) {
        *end = row[last];
    }
    let between = target[1..].chunks_exact_mut(2).zip(row.windows(2));
    for (pair, near) in between {
        let (left, right) = (u16::from(near[0]), u16::from(near[1]));
        pair[0] = part(3 * left + right + 2, 2);
        pair[1] = part(3 * right + left + 1, 2);
    }
    if target.len() == 2 * last {
        target[2 * last - 1] = part(3 * u16::from(row[last - 1]) + u16::from(row[last]) + 2, 2);
    }
}

/// `h2v2_fancy_upsample`: the same of the sums of two rows.
fn twice_both_ways(near: &[u8], far: &[u8], sums: &mut Vec<u16>, target: &mut [u8]) {
    sums.clear();
    sums.extend(near.iter().zip(far).map(|(near, far)| u16::from(*near) * 3 + u16::from(*far)));
    let last = sums.len() - 1;
    target[0] = part(sums[0] * 4 + 8, 4);
    if let Some(end) = target.get_mut(2 * last + 1) {
        *end = part(sums[last] * 4 + 7, 4);
    }
    let between = target[1..].chunks_exact_mut(2).zip(sums.windows(2));
    for (pair, near) in between {
        pair[0] = part(3 * near[0] + near[1] + 7, 4);
        pair[1] = part(3 * near[1] + near[0] + 8, 4);
    }
    if target.len() == 2 * last {
        target[2 * last - 1] = part(3 * sums[last - 1] + sums[last] + 7, 4);
    }
}
