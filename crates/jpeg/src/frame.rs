//! A frame header (T.81, B.2.2) and what is kept of each of its colours.

use crate::transform::{self, Block};
use crate::{Error, Scale, index};

/// A picture as its header describes it, filling up.
pub(crate) struct Frame {
    pub(crate) progressive: bool,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// The largest sampling factors.
    pub(crate) h_max: u32,
    pub(crate) v_max: u32,
    pub(crate) components: Vec<Component>,
}

/// One colour.
pub(crate) struct Component {
    pub(crate) id: u8,
    pub(crate) h: u32,
    pub(crate) v: u32,
    /// Number of its quantisation table.
    pub(crate) table: usize,
    /// The table as it was when its first scan began; later ones change nothing.
    pub(crate) quantisation: Option<[u16; 64]>,
    /// Blocks that the picture needs, across and down.
    pub(crate) needed: (usize, usize),
    /// Blocks that are stored across and down: whole units of an interleaved scan.
    pub(crate) stored: (usize, usize),
    /// Values of a block's side at the scale that was asked for.
    pub(crate) side: usize,
    /// Values, rows of `stored.0 · side`.
    pub(crate) plane: Vec<u8>,
    /// Coefficients, where several scans bring them.
    pub(crate) blocks: Vec<Block>,
    /// For each coefficient: how many of its lower bits are still to come; none before its first scan.
    pub(crate) missing: [Option<u8>; 64],
    /// Whether it is colour beside the first component's brightness.
    colour: bool,
    /// Blocks of colour that a reduced picture would show as another one.
    loud: usize,
}

impl Frame {
    /// `most_bytes` is for all planes; nothing is taken yet.
    pub(crate) fn new(
        segment: &[u8],
        progressive: bool,
        scale: Scale,
        most_bytes: u64,
    ) -> Result<Self, Error> {
        let [bits, h1, h0, w1, w0, count, rest @ ..] = segment else { return Err(Error::CutOff) };
        if *bits != 8 {
            return Err(Error::Broken("it has more than 8 bits a colour"));
        }
        let height = u32::from(u16::from_be_bytes([*h1, *h0]));
        let width = u32::from(u16::from_be_bytes([*w1, *w0]));
        if width == 0 || height == 0 {
            return Err(Error::Broken("a side has no length"));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(Error::Broken("it has neither one nor three nor four colours"));
        }
        let described = rest.as_chunks::<3>().0.get(..usize::from(*count)).ok_or(Error::CutOff)?;
        let sampling = |byte: u8| (u32::from(byte >> 4), u32::from(byte & 15));
        if described.iter().any(|[_, byte, _]| {
            let (h, v) = sampling(*byte);
            !(1..=4).contains(&h) || !(1..=4).contains(&v)
        }) {
            return Err(Error::Broken("a colour has a sampling factor that is not allowed"));
        }
        let h_max = described.iter().map(|[_, byte, _]| sampling(*byte).0).max().unwrap_or(1);
        let v_max = described.iter().map(|[_, byte, _]| sampling(*byte).1).max().unwrap_or(1);
        let mut components = Vec::new();
        for (place, &[id, byte, table]) in described.iter().enumerate() {
            let (h, v) = sampling(byte);
            if h_max % h != 0 || v_max % v != 0 {
                return Err(Error::Broken("a colour is stored at an odd fraction of the size"));
            }
            let units = (width.div_ceil(8 * h_max), height.div_ceil(8 * v_max));
            let needed = ((width * h).div_ceil(8 * h_max), (height * v).div_ceil(8 * v_max));
            components.push(Component {
                id,
                h,
                v,
                table: usize::from(table),
                quantisation: None,
                needed: (index(needed.0), index(needed.1)),
                stored: (index(units.0 * h), index(units.1 * v)),
                side: side(scale, h_max / h, v_max / v),
                plane: Vec::new(),
                blocks: Vec::new(),
                missing: [None; 64],
                colour: place > 0,
                loud: 0,
            });
        }
        let frame = Self { progressive, width, height, h_max, v_max, components };
        let planes: u64 = frame.components.iter().map(|one| one.values() as u64).sum();
        let pixels = u64::from(scale.of(width)) * u64::from(scale.of(height)) * 3;
        if planes + pixels > most_bytes {
            return Err(Error::TooMuchMemory { bytes: planes + pixels, limit: most_bytes });
        }
        Ok(frame)
    }

    /// Takes memory for the coefficients of all scans.
    pub(crate) fn keep_coefficients(&mut self, most_bytes: u64) -> Result<(), Error> {
        let blocks: u64 = self.components.iter().map(|one| one.block_count() as u64).sum();
        if blocks * 128 > most_bytes {
            return Err(Error::TooMuchMemory { bytes: blocks * 128, limit: most_bytes });
        }
        for component in &mut self.components {
            if component.blocks.is_empty() {
                component.blocks = vec![[0; 64]; component.block_count()];
            }
        }
        Ok(())
    }

    /// Makes values of the coefficients that several scans have brought. Answers whether some are
    /// wild.
    pub(crate) fn finish(&mut self) -> bool {
        let mut wild = false;
        for component in &mut self.components {
            component.make_plane();
            let blocks = std::mem::take(&mut component.blocks);
            // What no scan brings stays in the middle.
            let Some(quantisation) = component.quantisation else { continue };
            for (place, block) in blocks.iter().enumerate() {
                wild |= component.put(place, block, 63, &quantisation);
            }
        }
        wild
    }

    /// Whether so much of a reduced picture may look another way at full size that it shows.
    pub(crate) fn is_loud(&self) -> bool {
        self.components.iter().any(|one| one.loud * LOUD_PART > one.block_count())
    }

    /// Whether coefficients, or whole colours, were never brought to their last bit.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.components
            .iter()
            .any(|component| component.missing.iter().any(|bits| *bits != Some(0)))
    }
}

/// So small a part of a picture may be loud.
const LOUD_PART: usize = 64;

/// How far colour may be from its mean, itself in the mean, within what becomes one pixel. Further, and
/// red, green and blue are cut off at full size but not in the mean.
const LARGEST_DEVIATION: u32 = 24;

/// A colour that is stored at half the size both ways needs no enlarging where the picture is
/// reduced: its blocks are reduced less.
fn side(scale: Scale, h: u32, v: u32) -> usize {
    let mut side = scale as usize;
    let (mut h, mut v) = (h, v);
    while side < 8 && h.is_multiple_of(2) && v.is_multiple_of(2) {
        (side, h, v) = (side * 2, h / 2, v / 2);
    }
    side
}

impl Component {
    fn block_count(&self) -> usize {
        self.stored.0 * self.stored.1
    }

    fn values(&self) -> usize {
        self.block_count() * self.side * self.side
    }

    /// Values in a row of the plane.
    pub(crate) fn stride(&self) -> usize {
        self.stored.0 * self.side
    }

    pub(crate) fn make_plane(&mut self) {
        if self.plane.is_empty() {
            self.plane = vec![128; self.values()];
        }
    }

    /// Transforms a block into the plane; behind `last` (in zigzag order) its coefficients are zero.
    /// Answers whether it is wild.
    #[inline]
    pub(crate) fn put(
        &mut self,
        place: usize,
        block: &Block,
        last: usize,
        quantisation: &[u16; 64],
    ) -> bool {
        let stride = self.stride();
        let (x, y) = (place % self.stored.0 * self.side, place / self.stored.0 * self.side);
        let Some(target) = self.plane.get_mut(y * stride + x..) else { return false };
        if self.side == 8
            || last == 0
            || !transform::is_loud(block, last, quantisation, self.colour)
        {
            return transform::put(block, last, quantisation, self.side, target, stride);
        }
        let averaged = transform::put_averaged(block, quantisation, self.side, target, stride);
        self.loud += usize::from(self.colour && averaged.deviation > LARGEST_DEVIATION);
        averaged.wild
    }
}
