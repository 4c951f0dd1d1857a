//! The frames of a GIF (specification of GIF 89a, sections 18 to 27), read as leniently as any
//! viewer: what the most forgiving one may show is judged, and where viewers differ, that is told.

use std::ops::Range;

use weezl::decode::Configuration;
use weezl::{BitOrder, LzwStatus};

use super::canvas::{Area, Blend, Canvas, Disposal};
use super::{Animation, Data, Frame};
use crate::moderation::{Doubt, Doubts};
use crate::vision::decode::Limits;

/// Sub-blocks that are walked over in search of a picture that may begin at any byte; a file that is
/// made to take longer goes to a person.
const MOST_STEPS: u32 = 2_000_000;

/// Pixels that are decoded of what may be a picture, to see whether it is one.
const PROBED: u64 = 4_096;

/// The picture of one frame, packed.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// Its own colours, else those of the file: three bytes each.
    palette: Option<&'a [u8]>,
    transparent: Option<u8>,
    interlaced: bool,
    code_size: u8,
    /// Blocks, each with its length before it.
    blocks: &'a [u8],
}

/// What the last graphic control extension says about the next picture.
#[derive(Debug, Clone, Copy, Default)]
struct Control {
    disposal: u8,
    centiseconds: u16,
    transparent: Option<u8>,
}

struct Walk<'a> {
    bytes: &'a [u8],
    screen: (u32, u32),
    most_frames: u32,
    palette: Option<&'a [u8]>,
    control: Control,
    frames: Vec<Frame<'a>>,
    count: u32,
    /// How often it is shown; none: once.
    loops: Option<u16>,
    profile: Vec<u8>,
    doubts: Doubts,
    steps: u32,
}

/// Every picture in the file; `None` if even the head is not there.
pub(super) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Option<Animation<'a>> {
    let head = bytes.get(..13)?;
    let number = |at: usize| u32::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (palette, start) = table(bytes, head[10], 13);
    let mut walk = Walk {
        bytes,
        screen: (number(6), number(8)),
        most_frames: limits.animation_frames,
        palette,
        control: Control::default(),
        frames: Vec::new(),
        count: 0,
        loops: None,
        profile: Vec::new(),
        doubts: Doubts::default(),
        steps: 0,
    };
    let before_the_end = walk.blocks(start);
    if before_the_end.is_some_and(|pictures| walk.count > pictures) {
        walk.doubts.insert(Doubt::SecondPicture);
    }
    Some(walk.finish(head.starts_with(b"GIF87a"), limits))
}

impl<'a> Walk<'a> {
    /// Reads blocks up to the end of the file; how many pictures there were when the block came that
    /// says that there are no more.
    fn blocks(&mut self, mut at: usize) -> Option<u32> {
        let mut before_the_end = None;
        loop {
            let next = match self.bytes.get(at) {
                None => None,
                Some(0x21) => self.extension(at),
                Some(0x2C) => self.picture(at),
                Some(0x3B) => {
                    before_the_end = before_the_end.or(Some(self.count));
                    self.search(at + 1, true)
                }
                Some(_) => self.search(at, before_the_end.is_some()),
            };
            match next {
                Some(next) => at = next,
                None => return before_the_end,
            }
        }
    }

    /// Reads an extension; where it ends, unless the file does before.
    fn extension(&mut self, at: usize) -> Option<usize> {
        let label = *self.bytes.get(at + 1)?;
        let (content, next) = self.sub_blocks(at + 2);
        // Viewers that do not know an extension skip it, or stop; one that has no end hides the rest.
        if next.is_none() || !matches!(label, 0x01 | 0xF9 | 0xFE | 0xFF) {
            self.doubts.insert(Doubt::Damaged);
        }
        let first = content.clone().next().unwrap_or_default();
        match (label, first) {
            (0xF9, [packed, low, high, index, rest @ ..]) => {
                self.control = Control {
                    disposal: packed >> 2 & 7,
                    centiseconds: u16::from_le_bytes([*low, *high]),
                    transparent: (packed & 1 == 1).then_some(*index),
                };
                if !rest.is_empty() {
                    self.doubts.insert(Doubt::Damaged);
                }
            }
            (0xF9, _) => self.doubts.insert(Doubt::Damaged),
            (0xFF, b"NETSCAPE2.0" | b"ANIMEXTS1.0") => {
                if let Some([1, low, high, ..]) = content.clone().nth(1) {
                    self.loops = Some(u16::from_le_bytes([*low, *high]));
                }
            }
            (0xFF, b"ICCRGBG1012") => self.profile = content.skip(1).collect::<Vec<_>>().concat(),
            _ => {}
        }
        next
    }

    /// The content of sub-blocks, and where they end, unless the file does before.
    fn sub_blocks(
        &self,
        start: usize,
    ) -> (impl Iterator<Item = &'a [u8]> + Clone + use<'a>, Option<usize>) {
        let mut at = start;
        let next = loop {
            match self.bytes.get(at) {
                None => break None,
                Some(0) => break Some(at + 1),
                Some(length) => at += 1 + usize::from(*length),
            }
        };
        (split(self.bytes.get(start..).unwrap_or_default()), next)
    }

    /// Keeps a picture; where it ends, unless the file does before.
    fn picture(&mut self, at: usize) -> Option<usize> {
        let Some((area, packed)) = descriptor(self.bytes, at) else {
            self.doubts.insert(Doubt::Damaged);
            return None;
        };
        let (own, data) = table(self.bytes, packed, at + 10);
        let Some(code_size) = self.bytes.get(data) else {
            self.doubts.insert(Doubt::Damaged);
            return None;
        };
        let (_, next) = self.sub_blocks(data + 1);
        if next.is_none() {
            self.doubts.insert(Doubt::Damaged);
        }
        let control = std::mem::take(&mut self.control);
        self.count = self.count.saturating_add(1);
        if self.count <= self.most_frames {
            let image = Image {
                palette: own.or(self.palette),
                transparent: control.transparent,
                interlaced: packed & 0x40 != 0,
                code_size: *code_size,
                blocks: &self.bytes[data + 1..next.unwrap_or(self.bytes.len())],
            };
            let disposal = match control.disposal {
                2 => Disposal::Clear,
                3 => Disposal::Restore,
                // 4 was once written for 3, and some viewers still read it so.
                4 => {
                    self.doubts.insert(Doubt::Canvas);
                    Disposal::Restore
                }
                _ => Disposal::Keep,
            };
            let milliseconds = u32::from(control.centiseconds) * 10;
            let (blend, data) = (Blend::Over, Data::Gif(image));
            self.frames.push(Frame { area, milliseconds, disposal, blend, data });
        }
        next
    }

    /// Searches for the next block that must be one, as viewers do that skip what they don't know.
    ///
    /// Behind the end of the picture no viewer is known to look, but a second picture there is told.
    fn search(&mut self, start: usize, behind_the_end: bool) -> Option<usize> {
        let rest = self.bytes.get(start..)?;
        // Padding is no message.
        if rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        if !behind_the_end {
            self.doubts.insert(Doubt::Damaged);
        }
        for (offset, byte) in rest.iter().enumerate() {
            let at = start + offset;
            let found = match byte {
                b'G' => self.another_head(at),
                0x21 if self.is_control(at) => Some(at),
                0x2C if self.is_picture(at) => Some(at),
                _ => None,
            };
            if found.is_some() {
                return found;
            }
            if self.steps > MOST_STEPS {
                self.doubts.insert(Doubt::Damaged);
                return None;
            }
        }
        None
    }

    /// The head of a whole GIF inside this one: its colours, and where its blocks begin.
    fn another_head(&mut self, at: usize) -> Option<usize> {
        let head = self.bytes.get(at..at + 13)?;
        if !head.starts_with(b"GIF87a") && !head.starts_with(b"GIF89a") {
            return None;
        }
        let (palette, start) = table(self.bytes, head[10], at + 13);
        self.palette = palette.or(self.palette);
        Some(start)
    }

    /// A graphic control extension with a picture behind it, or another extension.
    fn is_control(&mut self, at: usize) -> bool {
        let Some([0x21, 0xF9, 4, _, _, _, _, 0, next]) = self.bytes.get(at..at + 9) else {
            return false;
        };
        *next == 0x21 || (*next == 0x2C && self.is_picture(at + 8))
    }

    /// Whether what may be a picture can be unpacked as one.
    fn is_picture(&mut self, at: usize) -> bool {
        let Some((area, packed)) = descriptor(self.bytes, at) else { return false };
        let (_, data) = table(self.bytes, packed, at + 10);
        let Some([code_size, length, low, high]) =
            self.bytes.get(data..).and_then(|rest| rest.first_chunk())
        else {
            return false;
        };
        // Every encoder begins with a clear code.
        let (code_size, bits) = (*code_size, u32::from(u16::from_le_bytes([*low, *high])));
        let is_clear =
            (1..=8).contains(&code_size) && bits & ((2 << code_size) - 1) == 1 << code_size;
        if !is_clear || *length < 2 || area.pixels() == 0 {
            return false;
        }
        let (blocks, _) = self.sub_blocks(data + 1);
        self.steps = self.steps.saturating_add(64);
        let blocks: Vec<u8> = blocks.take(64).collect::<Vec<_>>().concat();
        let pixels = area.pixels().min(PROBED);
        unpacked(code_size, &blocks, pixels).len() as u64 == pixels
    }

    fn finish(mut self, is_old: bool, limits: &Limits) -> Animation<'a> {
        let (width, height) = self.screen;
        let first = self.frames.first().map(|frame| frame.area);
        // Viewers take the screen's size where a frame has none, and the other way round.
        let empty = |area: Area| area.width == 0 || area.height == 0;
        if width == 0 || height == 0 || self.frames.iter().any(|frame| empty(frame.area)) {
            self.doubts.insert(Doubt::Canvas);
        }
        for frame in &mut self.frames {
            let area = &mut frame.area;
            area.width = if area.width == 0 { width } else { area.width };
            area.height = if area.height == 0 { height } else { area.height };
        }
        // Very old viewers take the first frame's size for the screen's.
        if is_old && first.is_some_and(|first| (first.width, first.height) != self.screen) {
            self.doubts.insert(Doubt::Canvas);
        }
        let mut canvas = self.screen;
        for area in self.frames.iter().map(|frame| frame.area) {
            if area.right() > width || area.bottom() > height {
                self.doubts.insert(Doubt::Canvas);
            }
            let grown = (canvas.0.max(area.right()), canvas.1.max(area.bottom()));
            if limits.check_frame(grown.0, grown.1).is_ok() {
                canvas = grown;
            }
        }
        if !self.profile.is_empty() {
            // Hardly any viewer looks for one in a GIF.
            self.doubts.insert(Doubt::Colours);
        }
        let mut cuts = Vec::new();
        if self.doubts.iter().any(|doubt| doubt == Doubt::Canvas)
            && let Some(first) = self.frames.first()
        {
            let screen = Area { left: 0, top: 0, width, height };
            cuts = vec![first.area, screen];
            cuts.retain(|cut| !empty(*cut) && cut.right() <= canvas.0 && cut.bottom() <= canvas.1);
            cuts.retain(|cut| (cut.width, cut.height) != canvas);
            cuts.dedup();
        }
        Animation {
            canvas,
            frames: self.frames,
            count: self.count,
            ends: self.loops != Some(0),
            cuts,
            profile: Some(self.profile).filter(|profile| !profile.is_empty()),
            exif: None,
            doubts: self.doubts,
        }
    }
}

impl Image<'_> {
    /// Unpacks it and lays it over the canvas; says what is wrong with it, or `None` if there is
    /// nothing at all.
    pub(super) fn draw(&self, area: Area, canvas: &mut Canvas) -> Option<Doubts> {
        let blocks: Vec<u8> = split(self.blocks).collect::<Vec<_>>().concat();
        let indices = unpacked(self.code_size, &blocks, area.pixels());
        if indices.is_empty() {
            return None;
        }
        let mut doubts = Doubts::default();
        if (indices.len() as u64) < area.pixels() {
            doubts.insert(Doubt::Damaged);
        }
        let palette = self.palette.unwrap_or_default().as_chunks::<3>().0;
        // What lies beyond the palette is black to most viewers, but not to all.
        let beyond = indices.iter().max().is_some_and(|most| usize::from(*most) >= palette.len());
        let odd =
            |index: &u8| usize::from(*index) >= palette.len() && self.transparent != Some(*index);
        if beyond && indices.iter().any(odd) {
            doubts.insert(Doubt::Colours);
        }
        let mut colours = [[0, 0, 0, 255]; 256];
        for (colour, [red, green, blue]) in colours.iter_mut().zip(palette) {
            *colour = [*red, *green, *blue, 255];
        }
        if palette.is_empty() {
            // No viewer shows the same; one that shows anything tells the indices apart.
            for (index, colour) in (0..=255).zip(&mut colours) {
                *colour = [index, index, index, 255];
            }
        }
        if let Some(index) = self.transparent {
            colours[usize::from(index)] = [0; 4];
        }
        let lines = indices.chunks(area.width.max(1) as usize);
        if self.interlaced {
            let passes = [(0, 8), (4, 8), (2, 4), (1, 2)];
            let rows =
                passes.into_iter().flat_map(|(first, step)| (first..area.height).step_by(step));
            rows.zip(lines).for_each(|(row, line)| canvas.lay_line(area, row, line, &colours));
        } else {
            (0..).zip(lines).for_each(|(row, line)| canvas.lay_line(area, row, line, &colours));
        }
        Some(doubts)
    }
}

/// Left, top, width and height of a picture, and its flags.
fn descriptor(bytes: &[u8], at: usize) -> Option<(Area, u8)> {
    let body = bytes.get(at + 1..at + 10)?;
    let number = |at: usize| u32::from(u16::from_le_bytes([body[at], body[at + 1]]));
    let area = Area { left: number(0), top: number(2), width: number(4), height: number(6) };
    Some((area, body[8]))
}

/// The colours behind a descriptor with these flags, if any, and where what follows begins.
fn table(bytes: &[u8], packed: u8, start: usize) -> (Option<&[u8]>, usize) {
    if packed & 0x80 == 0 {
        return (None, start);
    }
    let places: Range<usize> = start..start + (3 << ((packed & 7) + 1));
    (bytes.get(places.clone()), places.end)
}

/// The content of sub-blocks, up to the empty one or the end of the file.
fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = usize::from(*bytes.get(at)?);
        let block = bytes.get(at + 1..(at + 1 + length).min(bytes.len()))?;
        at += 1 + length;
        (length > 0).then_some(block)
    })
}

/// At most `pixels` indices; fewer if the data ends or is broken before.
fn unpacked(code_size: u8, data: &[u8], pixels: u64) -> Vec<u8> {
    // More can't be meant: an index has eight bits.
    if code_size > 8 {
        return Vec::new();
    }
    let Ok(length) = usize::try_from(pixels) else { return Vec::new() };
    let mut decoder =
        Configuration::new(BitOrder::Lsb, code_size).with_yield_on_full_buffer(true).build();
    let mut indices = vec![0; length];
    let (mut read, mut written) = (0, 0);
    while written < length {
        let step = decoder.decode_bytes(&data[read..], &mut indices[written..]);
        read += step.consumed_in;
        written += step.consumed_out;
        let stuck = step.consumed_in == 0 && step.consumed_out == 0;
        if stuck || !matches!(step.status, Ok(LzwStatus::Ok | LzwStatus::NoProgress)) {
            break;
        }
    }
    indices.truncate(written);
    indices
}
