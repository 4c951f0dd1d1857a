//! Coded data, bit by bit, up to the next marker.

/// Coded data. Behind its end there are zeros, and [`Bits::is_starved`] says so.
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    /// Of the next byte to be taken.
    at: usize,
    /// The next bits, the first one on top.
    buffer: u64,
    /// How many of them are of the file.
    left: u32,
    /// The marker that was come upon.
    marker: Option<u8>,
    starved: bool,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, buffer: 0, left: 0, marker: None, starved: false }
    }

    /// Whether more was taken than there is.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether whole bytes were left over.
    pub(crate) fn has_unread(&self) -> bool {
        self.left >= 8
    }

    /// Where the data goes on: at the marker that was come upon, or behind the last byte taken.
    pub(crate) fn end(&self) -> usize {
        self.at
    }

    /// Makes sure that `count` bits (at most 32) can be looked at: of the file, or zeros after its end.
    #[inline]
    pub(crate) fn need(&mut self, count: u32) {
        if self.left < count {
            self.fill();
        }
    }

    fn fill(&mut self) {
        if let Some(eight) = self.data.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let chunk = u64::from_be_bytes(*eight);
            if self.marker.is_none() && !has_all_ones(chunk) {
                self.buffer |= chunk >> self.left;
                let bytes = (63 - self.left) / 8;
                self.at += bytes as usize;
                self.left += bytes * 8;
                return;
            }
        }
        while self.left <= 56 && self.marker.is_none() {
            match self.next_byte() {
                Some(byte) => {
                    self.buffer |= u64::from(byte) << (56 - self.left);
                    self.left += 8;
                }
                None => break,
            }
        }
    }

    /// `None` at a marker, which is remembered and not passed.
    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.data.get(self.at)?;
        if byte != 0xFF {
            self.at += 1;
            return Some(byte);
        }
        // Any number of FF may stand before a marker (T.81, B.1.1.2).
        let filling = self.data[self.at..].iter().take_while(|byte| **byte == 0xFF).count();
        match self.data.get(self.at + filling) {
            None => {
                self.at = self.data.len();
                None
            }
            Some(0) => {
                self.at += filling + 1;
                Some(0xFF)
            }
            Some(marker) => {
                self.at += filling - 1;
                self.marker = Some(*marker);
                None
            }
        }
    }

    /// The next bits, which stay; [`Self::need`] was called for as many.
    #[inline]
    pub(crate) fn peek(&self, count: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "32 bits at most")]
        let bits = (self.buffer >> (64 - count)) as u32;
        bits
    }

    #[inline]
    pub(crate) fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        if count > self.left {
            self.starved = true;
        }
        self.left = self.left.saturating_sub(count);
    }

    /// The next bits as a number; 16 at most.
    #[inline]
    pub(crate) fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        self.need(count);
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    #[inline]
    pub(crate) fn bit(&mut self) -> bool {
        self.take(1) == 1
    }

    /// The next bits as a number with a sign (T.81, F.2.2.1, EXTEND).
    #[inline]
    pub(crate) fn signed(&mut self, count: u32) -> i32 {
        let value = self.take(count).cast_signed();
        if count > 0 && value < 1 << (count - 1) { value - (1 << count) + 1 } else { value }
    }

    /// Goes behind the restart marker of this number (0 to 7), as libjpeg finds it
    /// (`jpeg_resync_to_restart`). Answers whether it was where it belongs.
    pub(crate) fn restart(&mut self, number: u8) -> bool {
        let mut in_place = self.left < 8;
        (self.buffer, self.left) = (0, 0);
        if self.marker.is_none() {
            in_place &= self.find_marker();
        }
        let wanted = 0xD0 + number;
        if self.marker == Some(wanted) {
            self.pass_marker();
        } else {
            in_place = false;
            self.resync(number);
        }
        // In front of a marker that is not ours libjpeg reads on as before: a unit of zeros, then
        // nothing.
        if self.marker.is_none() && self.at < self.data.len() {
            self.starved = false;
        }
        in_place
    }

    fn resync(&mut self, number: u8) {
        while let Some(marker) = self.marker {
            let ahead = marker.wrapping_sub(0xD0).wrapping_sub(number) & 7;
            let passes = match marker {
                ..0xC0 => true,
                0xD0..=0xD7 => match ahead {
                    // One of the next two: ours was lost, and this one waits.
                    1 | 2 => return,
                    // One of the last two.
                    6 | 7 => true,
                    // Ours, or so far away that it may as well be.
                    _ => {
                        self.pass_marker();
                        return;
                    }
                },
                // The picture's end, or tables: it waits.
                _ => return,
            };
            if passes {
                self.pass_marker();
                self.find_marker();
            }
        }
    }

    fn pass_marker(&mut self) {
        self.marker = None;
        self.at += 2;
    }

    /// Looks for the next marker; answers whether it was the very next thing.
    fn find_marker(&mut self) -> bool {
        let start = self.at;
        while let Some(rest) = self.data.get(self.at..) {
            let Some(place) = rest.iter().position(|byte| *byte == 0xFF) else {
                self.at = self.data.len();
                return false;
            };
            self.at += place;
            match self.data.get(self.at + 1) {
                None => {
                    self.at = self.data.len();
                    return false;
                }
                Some(0) => self.at += 2,
                Some(0xFF) => self.at += 1,
                Some(marker) => {
                    self.marker = Some(*marker);
                    return self.data[start..self.at].iter().all(|byte| *byte == 0xFF);
                }
            }
        }
        false
    }
}

/// Whether one of the eight bytes is FF.
fn has_all_ones(chunk: u64) -> bool {
    let inverted = !chunk;
    inverted.wrapping_sub(0x0101_0101_0101_0101) & chunk & 0x8080_8080_8080_8080 != 0
}
