//! Tables of codes (T.81, annex C and F.2.2.3).

use crate::bits::Bits;

/// Codes up to this length are looked up at once.
const QUICK: u32 = 9;

/// A table of codes.
pub(crate) struct Huffman {
    /// By the next [`QUICK`] bits: symbol, and above it the code's length; 0 for longer codes.
    quick: [u16; 1 << QUICK],
    /// By the next [`QUICK`] bits, where a code and its value lie within them: the value, the zeros
    /// before it and the length of both (of 8, 4 and 4 bits); 0 where they do not.
    values: [i16; 1 << QUICK],
    /// For each length from 1 to 16: the largest code (−1 for none), and what to add to a code
    /// to have the index of its symbol.
    largest: [i32; 17],
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// From the counts of codes of each length and their symbols; `None` when they are no codes.
    pub(crate) fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            quick: [0; 1 << QUICK],
            values: [0; 1 << QUICK],
            largest: [-1; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0_i32, 0_usize);
        for (length, count) in (1_u32..).zip(counts) {
            let place = length as usize;
            table.offset[place] = i32::try_from(index).ok()? - code;
            for _ in 0..*count {
                if code >= 1 << length {
                    return None;
                }
                let symbol = *symbols.get(index)?;
                if length <= QUICK {
                    table.look_up(code.cast_unsigned() << (QUICK - length), length, symbol);
                }
                table.largest[place] = code;
                code += 1;
                index += 1;
            }
            code <<= 1;
        }
        Some(table)
    }

    fn look_up(&mut self, first: u32, length: u32, symbol: u8) {
        let (run, size) = (symbol >> 4, u32::from(symbol & 15));
        for bits in first..first + (1 << (QUICK - length)) {
            let place = bits as usize;
            self.quick[place] = u16::try_from(length << 8).unwrap_or(0) | u16::from(symbol);
            if size == 0 || length + size > QUICK {
                continue;
            }
            let raw = (bits >> (QUICK - length - size) & ((1 << size) - 1)).cast_signed();
            let value = if raw < 1 << (size - 1) { raw - (1 << size) + 1 } else { raw };
            if (-128..=127).contains(&value) {
                let both = (length + size).cast_signed();
                let packed = value << 8 | i32::from(run) << 4 | both;
                self.values[place] = i16::try_from(packed).unwrap_or(0);
            }
        }
    }

    /// Whether all symbols may be sizes of DC differences.
    pub(crate) fn is_for_dc(&self) -> bool {
        self.symbols.iter().all(|symbol| *symbol <= 15)
    }

    /// The next symbol; `None` for a code that the table does not have.
    #[inline]
    pub(crate) fn symbol(&self, bits: &mut Bits) -> Option<u8> {
        bits.need(16);
        let known = self.quick[bits.peek(QUICK) as usize];
        if known != 0 {
            bits.skip(u32::from(known >> 8));
            #[expect(clippy::cast_possible_truncation, reason = "the lower half is the symbol")]
            return Some(known as u8);
        }
        self.long_symbol(bits)
    }

    fn long_symbol(&self, bits: &mut Bits) -> Option<u8> {
        let next = bits.peek(16).cast_signed();
        for length in QUICK + 1..=16 {
            let code = next >> (16 - length);
            if code <= self.largest[length as usize] {
                bits.skip(length);
                let place = usize::try_from(code + self.offset[length as usize]).ok()?;
                return self.symbols.get(place).copied();
            }
        }
        bits.skip(16);
        None
    }

    /// Where the next code and its value are short: zeros before it, and the value.
    #[inline]
    pub(crate) fn short_value(&self, bits: &mut Bits) -> Option<(usize, i16)> {
        bits.need(16);
        let known = self.values[bits.peek(QUICK) as usize];
        if known == 0 {
            return None;
        }
        bits.skip(u32::from(known.cast_unsigned() & 15));
        Some((usize::from(known.cast_unsigned() >> 4 & 15), known >> 8))
    }
}
