//! Animations: what lies in their blocks, what is on the screen when, and which frames are looked at.
//!
//! The three formats that can be animated are read here down to their frames, and laid over one
//! another by our own rules: the decoders' own differ from browsers in canvas, disposal and what
//! they refuse. Every GIF is read as an animation, perhaps of one frame.

mod apng;
mod canvas;
mod gif;
mod shortlist;
mod sketch;
mod webp;

use image::DynamicImage;
use image::metadata::Orientation;

use super::orientation::{self, Turn};
use super::{Flaw, Format, Limits, Still, colour};
use crate::moderation::{Doubt, Doubts};
use canvas::{Area, Blend, Canvas, Disposal};
use shortlist::Shortlist;
use sketch::Sketch;

pub(super) use webp::doubts_of_still;

/// Browsers show frames that claim a shorter time for a tenth of a second.
const SHORTEST_MILLISECONDS: u32 = 20;

/// Everything in the file that a viewer may show; nothing is decoded yet.
pub(super) struct Animation<'a> {
    /// Width and height; it holds every frame, unless limits forbid.
    canvas: (u32, u32),
    /// In the order of the file; no more than one over the limit.
    frames: Vec<Frame<'a>>,
    /// As many as the file has.
    count: u32,
    /// Whether its last frame stays on the screen.
    ends: bool,
    /// Parts of the first frame that some viewer shows alone.
    cuts: Vec<Area>,
    profile: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
    doubts: Doubts,
}

/// A picture that is on the screen for some time.
struct Frame<'a> {
    area: Area,
    milliseconds: u32,
    disposal: Disposal,
    blend: Blend,
    data: Data<'a>,
}

enum Data<'a> {
    Gif(gif::Image<'a>),
    Png(apng::Image<'a>),
    /// Name and content of chunks.
    WebP(Vec<([u8; 4], &'a [u8])>),
}

/// What was looked at.
pub(super) struct Chosen<T> {
    /// In the order of the animation.
    pub(super) seen: Vec<T>,
    pub(super) doubts: Doubts,
}

impl<'a> Animation<'a> {
    /// Walks over the file's blocks; `None` for what holds no frames.
    pub(super) fn of(format: Format, bytes: &'a [u8], limits: &Limits) -> Option<Self> {
        match format {
            Format::Jpeg => None,
            Format::Gif => gif::read(bytes, limits),
            // An animation of one frame may still show another picture than the still.
            Format::Png => apng::read(bytes, limits),
            Format::WebP => webp::read(bytes, limits),
        }
    }

    /// How many frames the file has.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// What is first on the screen.
    ///
    /// # Errors
    /// Size, and a file in which nothing can be decoded.
    pub(super) fn first(&self, format: Format, limits: &Limits) -> Result<Still, Flaw> {
        let (width, height) = self.canvas;
        limits.check_frame(width, height)?;
        limits.check_bytes(u64::from(width) * u64::from(height) * 4)?;
        let mut canvas = Canvas::new(self.canvas);
        let mut doubts = self.doubts;
        let first = self.frames.first().and_then(|frame| frame.draw(&mut canvas, limits));
        doubts.extend(first.ok_or(Flaw::Truncated { format: format.name() })?);
        Ok(Still {
            image: DynamicImage::ImageRgba8(canvas.into_image()),
            full: self.canvas,
            turn: match format {
                Format::WebP => orientation::of_webp(self.exif.as_deref()),
                _ => Turn::sure(Orientation::NoTransforms),
            },
            colours: colour::of_profile(self.profile.as_deref(), false),
            doubts,
        })
    }

    /// The parts of what is first on the screen that some viewer shows alone.
    pub(super) fn cuts(&self, first: &DynamicImage) -> Vec<DynamicImage> {
        let cut = |area: &Area| first.crop_imm(area.left, area.top, area.width, area.height);
        self.cuts.iter().map(cut).collect()
    }

    /// Decodes the animation and answers what `look` makes of some frames: the first, the last, some
    /// evenly between, those that are shown longest, and those that differ from all others.
    ///
    /// # Errors
    /// More frames or pixels than allowed, and a file in which nothing can be decoded.
    pub(super) fn chosen<T>(
        &self,
        format: Format,
        limits: &Limits,
        mut look: impl FnMut(DynamicImage) -> Result<T, Flaw>,
    ) -> Result<Chosen<T>, Flaw> {
        self.check(limits)?;
        let times: Vec<u32> = self.frames.iter().map(Frame::shown_for).collect();
        let mut shortlist = Shortlist::new(&times, self.ends, limits.frames_scored);
        let mut canvas = Canvas::new(self.canvas);
        let mut doubts = self.doubts;
        let mut decoded = 0;
        for (number, frame) in (0..).zip(&self.frames) {
            let Some(odd) = frame.draw(&mut canvas, limits) else {
                // Viewers stop here, or skip it.
                doubts.insert(Doubt::Damaged);
                continue;
            };
            doubts.extend(odd);
            decoded += 1;
            let sketch = Sketch::of(canvas.image());
            if let Some(place) = shortlist.place(number, &sketch) {
                let seen = look(DynamicImage::ImageRgba8(canvas.image().clone()))?;
                shortlist.put(place, number, sketch, seen);
            }
        }
        if decoded == 0 {
            return Err(Flaw::Truncated { format: format.name() });
        }
        if shortlist.is_full() {
            doubts.insert(Doubt::Frames);
        }
        Ok(Chosen { seen: shortlist.finish(), doubts })
    }

    /// Checks the whole animation's size.
    fn check(&self, limits: &Limits) -> Result<(), Flaw> {
        let (frames, limit) = (self.count, limits.animation_frames);
        if frames > limit {
            return Err(Flaw::TooManyFrames { frames, limit });
        }
        let (width, height) = self.canvas;
        limits.check_frame(width, height)?;
        limits.check_bytes(u64::from(width) * u64::from(height) * 4)?;
        let pixels = u64::from(width) * u64::from(height) * u64::from(frames);
        let megapixels = limits.animation_megapixels;
        if pixels > u64::from(megapixels) * 1_000_000 {
            return Err(Flaw::AnimationTooLarge { frames, width, height, megapixels });
        }
        Ok(())
    }
}

impl Frame<'_> {
    /// Milliseconds, as browsers take them.
    fn shown_for(&self) -> u32 {
        if self.milliseconds < SHORTEST_MILLISECONDS { 100 } else { self.milliseconds }
    }

    /// Lays it over what is there, and says what is odd about it; `None` if it can't be decoded.
    fn draw(&self, canvas: &mut Canvas, limits: &Limits) -> Option<Doubts> {
        canvas.turn(self.area, self.disposal);
        // The canvas has been checked, but a frame may be larger than it.
        limits.check_frame(self.area.width, self.area.height).ok()?;
        let (layer, doubts) = match &self.data {
            Data::Gif(image) => return image.draw(self.area, canvas),
            Data::Png(image) => (apng::decode(image, self.area, limits)?, Doubts::default()),
            Data::WebP(chunks) => webp::decode(chunks, self.area, limits)?,
        };
        canvas.lay(self.area, &layer, self.blend);
        Some(doubts)
    }
}

#[cfg(test)]
mod tests;
