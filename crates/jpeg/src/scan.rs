//! One scan: coded data to coefficients, or straight to values where no other scan follows.

use crate::Error;
use crate::bits::Bits;
use crate::frame::Frame;
use crate::huffman::Huffman;
use crate::transform::Block;

/// Natural order of the coefficients (T.81, figure A.6).
pub(crate) const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The most blocks of a unit (T.81, B.2.3).
const MOST_IN_UNIT: u32 = 10;

/// The tables of codes as they are when a scan begins.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) dc: [Option<Box<Huffman>>; 4],
    pub(crate) ac: [Option<Box<Huffman>>; 4],
    pub(crate) restart_interval: usize,
}

/// A scan's header (T.81, B.2.3).
pub(crate) struct Scan {
    /// Index of the component, its tables for DC and AC.
    pub(crate) components: Vec<(usize, usize, usize)>,
    /// First and last coefficient.
    from: usize,
    to: usize,
    /// Bits that earlier scans left out, and bits that this one leaves out.
    high: u8,
    low: u8,
}

/// How a scan went.
pub(crate) struct Done {
    /// Length of its coded data, perhaps with some of what follows.
    pub(crate) length: usize,
    /// Something was broken or missing.
    pub(crate) damaged: bool,
}

/// What the decoding of blocks goes by.
struct Progress {
    /// The last DC value of each component.
    dc: [i32; 4],
    /// Blocks that have nothing more in this band.
    end_of_band_run: u32,
    damaged: bool,
}

impl Scan {
    pub(crate) fn read(frame: &Frame, segment: &[u8]) -> Result<Self, Error> {
        let (&count, rest) = segment.split_first().ok_or(Error::CutOff)?;
        let (pairs, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(Error::CutOff)?;
        let &[from, to, bits, ..] = rest else { return Err(Error::CutOff) };
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for &[id, tables] in pairs.as_chunks::<2>().0 {
            let place = frame.components.iter().position(|component| component.id == id);
            let place =
                place.ok_or(Error::Broken("a scan is of a colour that it does not have"))?;
            if components.iter().any(|(known, ..)| *known == place) {
                return Err(Error::Broken("a scan has a colour twice"));
            }
            components.push((place, usize::from(tables >> 4), usize::from(tables & 15)));
        }
        let blocks = components.iter().map(|(place, ..)| {
            let component = &frame.components[*place];
            component.h * component.v
        });
        if components.is_empty() || components.len() > 1 && blocks.sum::<u32>() > MOST_IN_UNIT {
            return Err(Error::Broken("a scan has no colour, or too many blocks in a unit"));
        }
        let mut scan = Self {
            components,
            from: usize::from(from),
            to: usize::from(to),
            high: bits >> 4,
            low: bits & 15,
        };
        if frame.progressive {
            scan.check()?;
        } else {
            // Other claims mean nothing; viewers decode it all the same.
            (scan.from, scan.to, scan.high, scan.low) = (0, 63, 0, 0);
        }
        Ok(scan)
    }

    /// As `jdphuff.c` checks it.
    fn check(&self) -> Result<(), Error> {
        let band = if self.from == 0 {
            self.to == 0
        } else {
            self.from <= self.to && self.to < 64 && self.components.len() == 1
        };
        let bits = self.low <= 13 && (self.high == 0 || self.low + 1 == self.high);
        if band && bits { Ok(()) } else { Err(Error::Broken("a progressive scan makes no sense")) }
    }

    /// Notes which bits it brings; answers whether they are the next ones (T.81, G.1.1.1.2).
    pub(crate) fn note(&self, frame: &mut Frame) -> bool {
        let mut in_order = true;
        for (place, ..) in &self.components {
            let missing = &mut frame.components[*place].missing;
            if self.from > 0 && missing[0].is_none() {
                in_order = false;
            }
            for bits in &mut missing[self.from..=self.to] {
                in_order &= bits.unwrap_or(0) == self.high;
                *bits = Some(self.low);
            }
        }
        in_order
    }

    /// Decodes the coded data at the beginning of `data`. With `direct`, blocks become values at once.
    pub(crate) fn decode(
        &self,
        frame: &mut Frame,
        tables: &Tables,
        data: &[u8],
        direct: bool,
    ) -> Result<Done, Error> {
        let coders = self.coders(frame, tables)?;
        let mut bits = Bits::new(data);
        let mut progress = Progress { dc: [0; 4], end_of_band_run: 0, damaged: false };
        // A scan of one component has a block as its unit and leaves out those that only fill
        // up interleaved units (T.81, A.2.2 and A.2.3).
        let single = self.components.len() == 1;
        let first = &frame.components[self.components[0].0];
        let (across, down) = if single {
            first.needed
        } else {
            let (h, v) = (first.h as usize, first.v as usize);
            (first.stored.0 / h, first.stored.1 / v)
        };
        let (mut to_restart, mut restarts) = (tables.restart_interval, 0_u8);
        for y in 0..down {
            for x in 0..across {
                if tables.restart_interval > 0 {
                    if to_restart == 0 {
                        progress.damaged |= !bits.restart(restarts & 7);
                        restarts = restarts.wrapping_add(1);
                        to_restart = tables.restart_interval;
                        (progress.dc, progress.end_of_band_run) = ([0; 4], 0);
                    }
                    to_restart -= 1;
                }
                if bits.is_starved() {
                    // What is missing stays in the middle; the next restart may bring more.
                    progress.damaged = true;
                    continue;
                }
                for coder in &coders {
                    let (h, v) = if single { (1, 1) } else { coder.factors };
                    for part in 0..h * v {
                        let place = (y * v + part / h) * coder.stored + x * h + part % h;
                        self.block(frame, coder, place, &mut bits, &mut progress, direct);
                    }
                }
            }
        }
        let damaged = progress.damaged || bits.is_starved() || bits.has_unread();
        Ok(Done { length: bits.end(), damaged })
    }

    fn coders<'t>(&self, frame: &Frame, tables: &'t Tables) -> Result<Vec<Coder<'t>>, Error> {
        let missing = Error::Broken("a table of codes is missing");
        let first_dc = self.from == 0 && self.high == 0;
        let beyond_dc = self.to > 0;
        self.components
            .iter()
            .map(|&(component, dc, ac)| {
                let dc = tables.dc.get(dc).and_then(Option::as_deref);
                let ac = tables.ac.get(ac).and_then(Option::as_deref);
                if first_dc && !dc.is_some_and(Huffman::is_for_dc) || beyond_dc && ac.is_none() {
                    return Err(missing.clone());
                }
                let own = &frame.components[component];
                let quantisation = own.quantisation.as_ref().map_or([0; 64], |table| *table);
                Ok(Coder {
                    component,
                    dc,
                    ac,
                    quantisation,
                    factors: (own.h as usize, own.v as usize),
                    stored: own.stored.0,
                })
            })
            .collect()
    }

    #[inline]
    fn block(
        &self,
        frame: &mut Frame,
        coder: &Coder,
        place: usize,
        bits: &mut Bits,
        progress: &mut Progress,
        direct: bool,
    ) {
        let component = &mut frame.components[coder.component];
        if direct {
            let mut block = [0; 64];
            let last = sequential(coder, bits, progress, &mut block);
            progress.damaged |= component.put(place, &block, last, &coder.quantisation);
            return;
        }
        let Some(block) = component.blocks.get_mut(place) else { return };
        match (frame.progressive, self.from, self.high) {
            (false, ..) => {
                // A second scan of the same colour starts from nothing.
                *block = [0; 64];
                sequential(coder, bits, progress, block);
            }
            (true, 0, 0) => {
                let value = next_dc(coder, bits, progress);
                block[0] = low(value.wrapping_shl(u32::from(self.low)));
            }
            (true, 0, _) => {
                if bits.bit() {
                    block[0] |= 1 << self.low;
                }
            }
            (true, _, 0) => self.first_pass(coder, bits, progress, block),
            (true, ..) => self.refine(coder, bits, progress, block),
        }
    }

    /// The first bits of a band (T.81, G.1.2.2).
    fn first_pass(
        &self,
        coder: &Coder,
        bits: &mut Bits,
        progress: &mut Progress,
        block: &mut Block,
    ) {
        if progress.end_of_band_run > 0 {
            progress.end_of_band_run -= 1;
            return;
        }
        let Some(table) = coder.ac else { return };
        let mut k = self.from;
        while k <= self.to {
            let symbol = symbol_of(table, bits, progress);
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    progress.end_of_band_run = (1 << run) + bits.take(run) - 1;
                    break;
                }
                k += 16;
                continue;
            }
            k += run as usize;
            progress.damaged |= k > self.to;
            let value = bits.signed(size).wrapping_shl(u32::from(self.low));
            set(block, k, low(value), progress);
            k += 1;
        }
    }

    /// One more bit for a band (T.81, G.1.2.3).
    fn refine(&self, coder: &Coder, bits: &mut Bits, progress: &mut Progress, block: &mut Block) {
        let unit = 1_i16 << self.low;
        let Some(table) = coder.ac else { return };
        let mut k = self.from;
        if progress.end_of_band_run == 0 {
            while k <= self.to {
                let symbol = symbol_of(table, bits, progress);
                let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
                let fresh = if size > 0 {
                    progress.damaged |= size != 1;
                    if bits.bit() { unit } else { -unit }
                } else if run == 15 {
                    0
                } else {
                    progress.end_of_band_run = (1 << run) + bits.take(run);
                    break;
                };
                while k <= self.to {
                    let value = &mut block[ZIGZAG[k]];
                    if *value != 0 {
                        one_more_bit(bits, value, unit);
                    } else if run == 0 {
                        break;
                    } else {
                        run -= 1;
                    }
                    k += 1;
                }
                if fresh != 0 {
                    // Where the band has no place for it, libjpeg writes it behind the band.
                    progress.damaged |= k > self.to;
                    block[ZIGZAG[k.min(63)]] = fresh;
                }
                k += 1;
            }
        }
        if progress.end_of_band_run > 0 {
            while k <= self.to {
                let value = &mut block[ZIGZAG[k]];
                if *value != 0 {
                    one_more_bit(bits, value, unit);
                }
                k += 1;
            }
            progress.end_of_band_run -= 1;
        }
    }
}

/// How one colour of a scan is decoded.
struct Coder<'a> {
    component: usize,
    dc: Option<&'a Huffman>,
    ac: Option<&'a Huffman>,
    quantisation: [u16; 64],
    factors: (usize, usize),
    /// Blocks that are stored across.
    stored: usize,
}

/// Coefficients have 16 bits, whatever a broken file adds up to.
fn low(value: i32) -> i16 {
    #[expect(clippy::cast_possible_truncation, reason = "as libjpeg keeps it")]
    let value = value as i16;
    value
}

/// A code that the table does not have stands for nothing (0), as in libjpeg.
#[inline]
fn symbol_of(table: &Huffman, bits: &mut Bits, progress: &mut Progress) -> u8 {
    let symbol = table.symbol(bits);
    progress.damaged |= symbol.is_none();
    symbol.unwrap_or(0)
}

#[inline]
fn next_dc(coder: &Coder, bits: &mut Bits, progress: &mut Progress) -> i32 {
    let size = coder.dc.map_or(0, |table| symbol_of(table, bits, progress));
    let difference = bits.signed(u32::from(size.min(15)));
    let last = &mut progress.dc[coder.component];
    *last = last.wrapping_add(difference);
    *last
}

fn set(block: &mut Block, k: usize, value: i16, progress: &mut Progress) {
    // Behind the last coefficient libjpeg writes into the last one.
    progress.damaged |= k > 63;
    block[ZIGZAG[k.min(63)]] = value;
}

/// A sequential block (T.81, F.2.2); answers the last coefficient that was set, in zigzag order.
#[inline]
fn sequential(coder: &Coder, bits: &mut Bits, progress: &mut Progress, block: &mut Block) -> usize {
    block[0] = low(next_dc(coder, bits, progress));
    let Some(table) = coder.ac else { return 0 };
    let (mut k, mut last) = (1, 0);
    while k < 64 {
        if let Some((run, value)) = table.short_value(bits) {
            k += run;
            set(block, k, value, progress);
            last = k.min(63);
            k += 1;
            continue;
        }
        let symbol = symbol_of(table, bits, progress);
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run < 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += run;
        set(block, k, low(bits.signed(size)), progress);
        last = k.min(63);
        k += 1;
    }
    last
}

fn one_more_bit(bits: &mut Bits, value: &mut i16, unit: i16) {
    if bits.bit() && *value & unit == 0 {
        *value = value.wrapping_add(if *value >= 0 { unit } else { -unit });
    }
}
