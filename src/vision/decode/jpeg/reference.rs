//! A JPEG decoded bit for bit as the reference implementation's library does it.
//!
//! Decoders may differ by a few units in the last place, above all where colour is stored at
//! half the size, and that is enough to move a probability of a sensitive model by some hundredths.
//! Numbers that are promised to equal the reference's are therefore computed from this decoder's
//! pixels. It is plain rather than fast; what it does not know (four colours, arithmetic
//! coding, more than 8 bits, damage) is left to the other one.
//!
//! Sources: ITU-T T.81 for the stream (section numbers below); libjpeg 6b, which libjpeg-turbo
//! equals by default, for the arithmetic: `jidctint.c` (accurate integer transform), `jdsample.c`
//! ("fancy" enlarging of colour), `jdcolor.c` (YCbCr to RGB).

use image::{DynamicImage, GrayImage, RgbImage};

/// Natural order of the coefficients (T.81, figure A.6).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

type Block = [i16; 64];

/// Decodes a picture of one or three colours; `None` for every other and for a broken one.
/// The caller has checked the size that the header claims.
pub(super) fn decode(bytes: &[u8]) -> Option<DynamicImage> {
    let mut decoder = Decoder::default();
    decoder.read(bytes)?;
    decoder.into_image()
}

#[derive(Default)]
struct Decoder {
    quantisation: [Option<[u16; 64]>; 4],
    dc_tables: [Option<Huffman>; 4],
    ac_tables: [Option<Huffman>; 4],
    restart_interval: usize,
    /// The transform byte of an Adobe segment.
    adobe: Option<u8>,
    jfif: bool,
    frame: Option<Frame>,
}

struct Frame {
    progressive: bool,
    width: usize,
    height: usize,
    /// The largest sampling factors.
    h_max: usize,
    v_max: usize,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    h: usize,
    v: usize,
    quantisation: usize,
    /// Values that the picture needs, across and down.
    width: usize,
    height: usize,
    /// Blocks that are stored across: whole units of an interleaved scan.
    stride: usize,
    blocks: Vec<Block>,
}

/// One scan's header (T.81, B.2.3).
struct Scan {
    /// Index of the component, its tables for DC and AC.
    components: Vec<(usize, usize, usize)>,
    /// First and last coefficient.
    from: usize,
    to: usize,
    /// Bits that earlier scans brought, and bits still to come.
    high: u32,
    low: u32,
}

impl Decoder {
    /// Walks over the segments and decodes every scan into coefficients.
    fn read(&mut self, bytes: &[u8]) -> Option<()> {
        let mut at = 2;
        loop {
            let marker = super::next_marker(bytes, &mut at)?;
            match marker {
                0xD9 => return Some(()),
                0x01 | 0xD0..=0xD8 => continue,
                _ => {}
            }
            let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
            let segment = bytes.get(at + 2..at + length)?;
            at += length;
            match marker {
                0xC0..=0xC2 => self.frame_header(segment, marker == 0xC2)?,
                0xC4 => self.huffman_tables(segment)?,
                // Arithmetic, lossless and hierarchical coding.
                0xC3 | 0xC5..=0xCF | 0xDE | 0xDF => return None,
                0xDB => self.quantisation_tables(segment)?,
                0xDD => {
                    self.restart_interval =
                        usize::from(u16::from_be_bytes([*segment.first()?, *segment.get(1)?]));
                }
                0xDA => {
                    let scan = self.scan_header(segment)?;
                    at += self.decode_scan(&scan, bytes.get(at..)?)?;
                }
                0xE0 => self.jfif |= segment.starts_with(b"JFIF\0"),
                0xEE if segment.starts_with(b"Adobe") => self.adobe = segment.get(11).copied(),
                _ => {}
            }
        }
    }

    fn quantisation_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let wide = head >> 4 != 0;
            let size = if wide { 128 } else { 64 };
            let (values, rest) = rest.split_at_checked(size)?;
            let mut table = [0; 64];
            for (index, place) in ZIGZAG.into_iter().enumerate() {
                table[place] = if wide {
                    u16::from_be_bytes([values[2 * index], values[2 * index + 1]])
                } else {
                    u16::from(values[index])
                };
            }
            *self.quantisation.get_mut(usize::from(head & 15))? = Some(table);
            segment = rest;
        }
        Some(())
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_at_checked(16)?;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(total)?;
            let tables = if head >> 4 == 0 { &mut self.dc_tables } else { &mut self.ac_tables };
            *tables.get_mut(usize::from(head & 15))? = Some(Huffman::new(counts, symbols)?);
            segment = rest;
        }
        Some(())
    }

    fn frame_header(&mut self, segment: &[u8], progressive: bool) -> Option<()> {
        let [8, h1, h0, w1, w0, count, rest @ ..] = segment else { return None };
        let height = usize::from(u16::from_be_bytes([*h1, *h0]));
        let width = usize::from(u16::from_be_bytes([*w1, *w0]));
        let described = rest.as_chunks::<3>().0.get(..usize::from(*count))?;
        let sampling = |byte: u8| (usize::from(byte >> 4), usize::from(byte & 15));
        let (h_max, v_max) = described.iter().fold((0, 0), |(h, v), component| {
            let own = sampling(component[1]);
            (h.max(own.0), v.max(own.1))
        });
        let supported = self.frame.is_none()
            && width > 0
            && height > 0
            && matches!(described.len(), 1 | 3)
            && h_max <= 4
            && v_max <= 4;
        if !supported {
            return None;
        }
        let components = described
            .iter()
            .map(|&[id, byte, quantisation]| {
                let (h, v) = sampling(byte);
                // Whole factors only, as nearly all pictures have them.
                if h == 0 || v == 0 || !h_max.is_multiple_of(h) || !v_max.is_multiple_of(v) {
                    return None;
                }
                let stride = width.div_ceil(8 * h_max) * h;
                let rows = height.div_ceil(8 * v_max) * v;
                Some(Component {
                    id,
                    h,
                    v,
                    quantisation: usize::from(quantisation),
                    width: (width * h).div_ceil(h_max),
                    height: (height * v).div_ceil(v_max),
                    stride,
                    blocks: vec![[0; 64]; stride * rows],
                })
            })
            .collect::<Option<_>>()?;
        self.frame = Some(Frame { progressive, width, height, h_max, v_max, components });
        Some(())
    }

    fn scan_header(&self, segment: &[u8]) -> Option<Scan> {
        let frame = self.frame.as_ref()?;
        let (&count, rest) = segment.split_first()?;
        let (pairs, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let components = pairs
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[id, tables]| {
                let index = frame.components.iter().position(|component| component.id == id)?;
                Some((index, usize::from(tables >> 4), usize::from(tables & 15)))
            })
            .collect::<Option<Vec<_>>>()?;
        let &[from, to, bits, ..] = rest else { return None };
        let (from, to) = (usize::from(from), usize::from(to));
        let (high, low) = (u32::from(bits >> 4), u32::from(bits & 15));
        let sound = if frame.progressive {
            let dc = from == 0 && to == 0;
            let ac = from >= 1 && from <= to && to <= 63 && components.len() == 1;
            (dc || ac) && low <= 13
        } else {
            (from, to, high, low) == (0, 63, 0, 0)
        };
        (sound && !components.is_empty()).then_some(Scan { components, from, to, high, low })
    }

    /// Decodes one scan's coded data and answers its length.
    fn decode_scan(&mut self, scan: &Scan, data: &[u8]) -> Option<usize> {
        let frame = self.frame.as_mut()?;
        let mut bits = Bits::new(data);
        let mut dc = [0_i32; 4];
        let mut end_of_band_run = 0;
        // A scan of one component has a block as its unit and leaves out those that only fill
        // up interleaved units (T.81, A.2.2 and A.2.3).
        let single = scan.components.len() == 1;
        let (across, down) = if let (true, Some((index, ..))) = (single, scan.components.first()) {
            let component = frame.components.get(*index)?;
            (component.width.div_ceil(8), component.height.div_ceil(8))
        } else {
            (frame.width.div_ceil(8 * frame.h_max), frame.height.div_ceil(8 * frame.v_max))
        };
        for unit in 0..across * down {
            if self.restart_interval > 0 && unit > 0 && unit.is_multiple_of(self.restart_interval) {
                bits.restart()?;
                dc = [0; 4];
                end_of_band_run = 0;
            }
            let (x, y) = (unit % across, unit / across);
            for &(index, dc_table, ac_table) in &scan.components {
                let component = frame.components.get_mut(index)?;
                let (h, v) = if single { (1, 1) } else { (component.h, component.v) };
                for part in 0..h * v {
                    let place = (y * v + part / h) * component.stride + x * h + part % h;
                    let block = component.blocks.get_mut(place)?;
                    let tables = (self.dc_tables.get(dc_table)?, self.ac_tables.get(ac_table)?);
                    let last = dc.get_mut(index)?;
                    match (frame.progressive, scan.from, scan.high) {
                        (false, ..) => {
                            let change = bits.difference(tables.0.as_ref()?)?;
                            *last += change;
                            block[0] = i16::try_from(*last).ok()?;
                            bits.sequential(tables.1.as_ref()?, block)?;
                        }
                        (true, 0, 0) => {
                            let change = bits.difference(tables.0.as_ref()?)?;
                            *last += change;
                            block[0] = i16::try_from(*last << scan.low).ok()?;
                        }
                        (true, 0, _) => block[0] |= i16::from(bits.bit()?) << scan.low,
                        (true, _, 0) => {
                            bits.first_pass(tables.1.as_ref()?, block, scan, &mut end_of_band_run)?;
                        }
                        (true, ..) => {
                            bits.refine(tables.1.as_ref()?, block, scan, &mut end_of_band_run)?;
                        }
                    }
                }
            }
        }
        Some(bits.consumed())
    }

    fn into_image(self) -> Option<DynamicImage> {
        let frame = self.frame?;
        let (width, height) = (frame.width, frame.height);
        let size = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        let mut planes = Vec::with_capacity(frame.components.len());
        for component in &frame.components {
            let table = self.quantisation.get(component.quantisation)?.as_ref()?;
            let plane = component.plane(table);
            let (h, v) = (frame.h_max / component.h, frame.v_max / component.v);
            planes.push(enlarged(plane, component, h, v, width, height));
        }
        if let [grey] = planes.as_slice() {
            return GrayImage::from_raw(size.0, size.1, grey.clone()).map(DynamicImage::ImageLuma8);
        }
        let [first, second, third] = planes.as_slice() else { return None };
        // As `default_decompress_parms` in `jdapimin.c` guesses the colours.
        let plain_rgb = match (self.jfif, self.adobe) {
            (true, _) => false,
            (false, Some(transform)) => transform == 0,
            (false, None) => ids == *b"RGB",
        };
        let mut rgb = Vec::with_capacity(width * height * 3);
        for ((&a, &b), &c) in first.iter().zip(second).zip(third) {
            rgb.extend(if plain_rgb { [a, b, c] } else { to_rgb(a, b, c) });
        }
        RgbImage::from_raw(size.0, size.1, rgb).map(DynamicImage::ImageRgb8)
    }
}

impl Component {
    /// Values of the component at its own size, rows of `width`.
    fn plane(&self, quantisation: &[u16; 64]) -> Vec<u8> {
        let mut plane = vec![0; self.width * self.height];
        for (index, block) in self.blocks.iter().enumerate() {
            let (x, y) = (index % self.stride * 8, index / self.stride * 8);
            if x >= self.width || y >= self.height {
                continue;
            }
            let values = inverse_transform(block, quantisation);
            let columns = (self.width - x).min(8);
            for (row, values) in values.chunks_exact(8).take(self.height - y).enumerate() {
                let start = (y + row) * self.width + x;
                plane[start..start + columns].copy_from_slice(&values[..columns]);
            }
        }
        plane
    }
}

/// A table of codes (T.81, annex C and F.2.2.3).
struct Huffman {
    /// For each length from 1 to 16: the largest code (−1 for none), and what to add to a code
    /// to have the index of its symbol.
    largest: [i32; 16],
    offset: [i32; 16],
    symbols: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let mut table = Self { largest: [-1; 16], offset: [0; 16], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0_i32, 0_i32);
        for (length, count) in counts.iter().enumerate() {
            let count = i32::from(*count);
            if count > 0 {
                table.offset[length] = index - code;
                code += count;
                index += count;
                table.largest[length] = code - 1;
            }
            if code > 1 << (length + 1) {
                return None;
            }
            code <<= 1;
        }
        Some(table)
    }
}

/// Coded data, bit by bit. Behind its end everything is `None`.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    buffer: u32,
    left: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, buffer: 0, left: 0 }
    }

    fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            let byte = *self.data.get(self.at)?;
            if byte == 0xFF {
                // A stuffed zero belongs to the byte, everything else is a marker.
                if *self.data.get(self.at + 1)? != 0 {
                    return None;
                }
                self.at += 1;
            }
            self.at += 1;
            (self.buffer, self.left) = (u32::from(byte), 8);
        }
        self.left -= 1;
        Some(self.buffer >> self.left & 1 == 1)
    }

    fn number(&mut self, count: u32) -> Option<i32> {
        (0..count).try_fold(0, |number, _| Some(number << 1 | i32::from(self.bit()?)))
    }

    fn symbol(&mut self, table: &Huffman) -> Option<u8> {
        let mut code = 0;
        for (largest, offset) in table.largest.iter().zip(&table.offset) {
            code = code << 1 | i32::from(self.bit()?);
            if code <= *largest {
                return table.symbols.get(usize::try_from(code + offset).ok()?).copied();
            }
        }
        None
    }

    /// A signed number of `count` bits (T.81, F.2.2.1, EXTEND).
    fn signed(&mut self, count: u32) -> Option<i32> {
        if count > 15 {
            return None;
        }
        let number = self.number(count)?;
        let negative = count > 0 && number < 1 << (count - 1);
        Some(if negative { number - (1 << count) + 1 } else { number })
    }

    fn difference(&mut self, table: &Huffman) -> Option<i32> {
        let count = u32::from(self.symbol(table)?);
        self.signed(count)
    }

    /// The AC coefficients of a sequential block (T.81, F.2.2.2).
    fn sequential(&mut self, table: &Huffman, block: &mut Block) -> Option<()> {
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            *block.get_mut(*ZIGZAG.get(k)?)? = i16::try_from(self.signed(size)?).ok()?;
            k += 1;
        }
        Some(())
    }

    /// The first bits of a band (T.81, G.1.2.2).
    fn first_pass(
        &mut self,
        table: &Huffman,
        block: &mut Block,
        scan: &Scan,
        end_of_band_run: &mut u32,
    ) -> Option<()> {
        if *end_of_band_run > 0 {
            *end_of_band_run -= 1;
            return Some(());
        }
        let mut k = scan.from;
        while k <= scan.to {
            let symbol = self.symbol(table)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    let more = u32::try_from(self.number(run)?).ok()?;
                    *end_of_band_run = (1 << run) + more - 1;
                    break;
                }
                k += 16;
                continue;
            }
            k += run as usize;
            let value = self.signed(size)? << scan.low;
            *block.get_mut(*ZIGZAG.get(k)?)? = i16::try_from(value).ok()?;
            k += 1;
        }
        Some(())
    }

    /// One more bit for a band (T.81, G.1.2.3).
    fn refine(
        &mut self,
        table: &Huffman,
        block: &mut Block,
        scan: &Scan,
        end_of_band_run: &mut u32,
    ) -> Option<()> {
        let unit = 1_i16 << scan.low;
        let mut k = scan.from;
        if *end_of_band_run == 0 {
            while k <= scan.to {
                let symbol = self.symbol(table)?;
                let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
                let fresh = match (size, run) {
                    (0, 15) => 0,
                    (0, _) => {
                        let more = u32::try_from(self.number(run)?).ok()?;
                        *end_of_band_run = (1 << run) + more;
                        break;
                    }
                    (1, _) if self.bit()? => unit,
                    (1, _) => -unit,
                    _ => return None,
                };
                while k <= scan.to {
                    let value = block.get_mut(ZIGZAG[k])?;
                    if *value != 0 {
                        self.one_more_bit(value, unit)?;
                    } else if run == 0 {
                        *value = fresh;
                        k += 1;
                        break;
                    } else {
                        run -= 1;
                    }
                    k += 1;
                }
            }
        }
        if *end_of_band_run > 0 {
            for place in &ZIGZAG[k..=scan.to.max(k).min(63)] {
                let value = block.get_mut(*place)?;
                if k <= scan.to && *value != 0 {
                    self.one_more_bit(value, unit)?;
                }
            }
            *end_of_band_run -= 1;
        }
        Some(())
    }

    fn one_more_bit(&mut self, value: &mut i16, unit: i16) -> Option<()> {
        if self.bit()? && *value & unit == 0 {
            *value = value.checked_add(if *value > 0 { unit } else { -unit })?;
        }
        Some(())
    }

    /// Goes behind the next restart marker.
    fn restart(&mut self) -> Option<()> {
        self.left = 0;
        let mut at = self.at;
        let marker = super::next_marker(self.data, &mut at)?;
        self.at = at;
        (0xD0..=0xD7).contains(&marker).then_some(())
    }

    fn consumed(&self) -> usize {
        self.at
    }
}

/// Fraction bits of the constants and of the first pass.
const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// One direction of the transform on eight values (Loeffler, Ligtenberg and Moschytz 1989, with
/// the constants of `jidctint.c`).
fn butterfly(input: [i32; 8], shift: u32) -> [i32; 8] {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = input;
    let z1 = s2.wrapping_add(s6).wrapping_mul(4_433);
    let even2 = z1.wrapping_sub(s6.wrapping_mul(15_137));
    let even3 = z1.wrapping_add(s2.wrapping_mul(6_270));
    let even0 = s0.wrapping_add(s4).wrapping_shl(CONST_BITS);
    let even1 = s0.wrapping_sub(s4).wrapping_shl(CONST_BITS);
    let even = [
        even0.wrapping_add(even3),
        even1.wrapping_add(even2),
        even1.wrapping_sub(even2),
        even0.wrapping_sub(even3),
    ];
    let (z1, z2) = (s7.wrapping_add(s1), s5.wrapping_add(s3));
    let (z3, z4) = (s7.wrapping_add(s3), s5.wrapping_add(s1));
    let z5 = z3.wrapping_add(z4).wrapping_mul(9_633);
    let (z1, z2) = (z1.wrapping_mul(-7_373), z2.wrapping_mul(-20_995));
    let z3 = z3.wrapping_mul(-16_069).wrapping_add(z5);
    let z4 = z4.wrapping_mul(-3_196).wrapping_add(z5);
    let odd = [
        s1.wrapping_mul(12_299).wrapping_add(z1).wrapping_add(z4),
        s3.wrapping_mul(25_172).wrapping_add(z2).wrapping_add(z3),
        s5.wrapping_mul(16_819).wrapping_add(z2).wrapping_add(z4),
        s7.wrapping_mul(2_446).wrapping_add(z1).wrapping_add(z3),
    ];
    let half = 1 << (shift - 1);
    let mut output = [0; 8];
    for index in 0..4 {
        output[index] = even[index].wrapping_add(odd[index]).wrapping_add(half) >> shift;
        output[7 - index] = even[index].wrapping_sub(odd[index]).wrapping_add(half) >> shift;
    }
    output
}

/// A block's 64 values, 0 to 255.
fn inverse_transform(block: &Block, quantisation: &[u16; 64]) -> [u8; 64] {
    let mut columns = [0_i32; 64];
    for x in 0..8 {
        let input = std::array::from_fn(|y| {
            let place = y * 8 + x;
            i32::from(block[place]).wrapping_mul(i32::from(quantisation[place]))
        });
        let output = butterfly(input, CONST_BITS - PASS1_BITS);
        for (y, value) in output.into_iter().enumerate() {
            columns[y * 8 + x] = value;
        }
    }
    let mut values = [0; 64];
    for (row, output) in columns.as_chunks::<8>().0.iter().zip(values.as_chunks_mut::<8>().0) {
        let sums = butterfly(*row, CONST_BITS + PASS1_BITS + 3);
        for (value, sum) in output.iter_mut().zip(sums) {
            *value = byte(sum.saturating_add(128));
        }
    }
    values
}

fn byte(value: i32) -> u8 {
    u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX)
}

/// A component's plane at the picture's size, rows of `width`. `h` and `v` say how many times
/// it is smaller.
fn enlarged(
    plane: Vec<u8>,
    component: &Component,
    h: usize,
    v: usize,
    width: usize,
    height: usize,
) -> Vec<u8> {
    let (own, rows) = (component.width, component.height);
    let row = |y: usize| &plane[y * own..(y + 1) * own];
    // The neighbours of a row that is enlarged twofold; at the edges it is its own neighbour.
    let far = |y: usize| {
        let up = y.is_multiple_of(2);
        if up { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(rows - 1) }
    };
    // `jdsample.c` interpolates only what is wide enough.
    let smooth = own > 2;
    match (h, v) {
        (1, 1) => plane,
        (2, 1) if smooth => (0..height).flat_map(|y| twice_as_wide(row(y), width)).collect(),
        (2, 2) if smooth => (0..height)
            .flat_map(|y| {
                let near = row(y / 2).iter().zip(row(far(y)));
                let sums = near.map(|(near, far)| u16::from(*near) * 3 + u16::from(*far));
                twice_both_ways(&sums.collect::<Vec<u16>>(), width)
            })
            .collect(),
        (1, 2) => (0..height)
            .flat_map(|y| {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let near = row(y / 2).iter().zip(row(far(y)));
                near.map(move |(near, far)| quarter(u16::from(*near) * 3 + u16::from(*far) + bias))
            })
            .collect(),
        _ => (0..height)
            .flat_map(|y| (0..width).map(move |x| (x / h, y / v)))
            .map(|(x, y)| plane[y * own + x])
            .collect(),
    }
}

fn quarter(sum: u16) -> u8 {
    u8::try_from(sum / 4).unwrap_or(u8::MAX)
}

/// `h2v1_fancy_upsample`: three parts of the nearer value, one of the further.
fn twice_as_wide(row: &[u8], width: usize) -> Vec<u8> {
    let value = |x: usize| u16::from(row[x]);
    (0..width)
        .map(|x| match x {
            0 => row[0],
            x if x + 1 == 2 * row.len() => row[row.len() - 1],
            x if x % 2 == 0 => quarter(3 * value(x / 2) + value(x / 2 - 1) + 1),
            x => quarter(3 * value(x / 2) + value(x / 2 + 1) + 2),
        })
        .collect()
}

/// `h2v2_fancy_upsample`, from the sums of two rows.
fn twice_both_ways(sums: &[u16], width: usize) -> Vec<u8> {
    let sixteenth = |sum: u16| u8::try_from(sum / 16).unwrap_or(u8::MAX);
    (0..width)
        .map(|x| match x {
            0 => sixteenth(sums[0] * 4 + 8),
            x if x + 1 == 2 * sums.len() => sixteenth(sums[sums.len() - 1] * 4 + 7),
            x if x % 2 == 0 => sixteenth(3 * sums[x / 2] + sums[x / 2 - 1] + 8),
            x => sixteenth(3 * sums[x / 2] + sums[x / 2 + 1] + 7),
        })
        .collect()
}

/// `ycc_rgb_convert`: 16 fraction bits, rounded.
fn to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    // 1.402, 0.34414, 0.71414 and 1.772 times 2^16, rounded.
    let red = y + ((91_881 * cr + HALF) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [byte(red), byte(green), byte(blue)]
}
