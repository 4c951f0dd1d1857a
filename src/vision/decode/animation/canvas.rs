//! What lies on the screen while an animation runs: frames laid over one another by the rules that
//! GIF, animated PNG and animated WebP share.

use image::RgbaImage;

/// A rectangle of pixels; it may reach beyond the canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vision::decode) struct Area {
    pub(in crate::vision::decode) left: u32,
    pub(in crate::vision::decode) top: u32,
    pub(in crate::vision::decode) width: u32,
    pub(in crate::vision::decode) height: u32,
}

impl Area {
    /// The first column to its right.
    pub(super) fn right(self) -> u32 {
        self.left.saturating_add(self.width)
    }

    /// The first row below it.
    pub(super) fn bottom(self) -> u32 {
        self.top.saturating_add(self.height)
    }

    /// Width times height.
    pub(super) fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// The part of it within a canvas.
    pub(super) fn within(self, (width, height): (u32, u32)) -> Self {
        Self {
            left: self.left.min(width),
            top: self.top.min(height),
            width: self.right().min(width).saturating_sub(self.left),
            height: self.bottom().min(height).saturating_sub(self.top),
        }
    }
}

/// What becomes of a frame when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposal {
    /// It stays.
    Keep,
    /// Its rectangle becomes transparent, whatever background colour the file names: as browsers do.
    Clear,
    /// What was there before it comes back.
    Restore,
}

/// How a frame is laid over what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blend {
    /// Its pixels replace what is there, transparent ones too.
    Replace,
    /// What is there shines through.
    Over,
}

/// The screen.
pub(super) struct Canvas {
    image: RgbaImage,
    /// What is done before the next frame.
    pending: Option<(Area, Disposal)>,
    /// The rows below the frame that is going to be disposed of by restoring.
    saved: Vec<u8>,
}

impl Canvas {
    /// Transparent.
    pub(super) fn new((width, height): (u32, u32)) -> Self {
        Self { image: RgbaImage::new(width, height), pending: None, saved: Vec::new() }
    }

    /// Disposes of the frame before, and makes ready for the next one.
    pub(super) fn turn(&mut self, area: Area, disposal: Disposal) {
        let area = area.within(self.image.dimensions());
        match self.pending.replace((area, disposal)) {
            Some((before, Disposal::Clear)) => self.rows(before, |row, _| row.fill(0)),
            Some((before, Disposal::Restore)) => {
                let saved = std::mem::take(&mut self.saved);
                self.rows(before, |row, start| {
                    if let Some(old) = saved.get(start..start + row.len()) {
                        row.copy_from_slice(old);
                    }
                });
            }
            Some((_, Disposal::Keep)) | None => {}
        }
        if disposal == Disposal::Restore {
            let mut saved = Vec::with_capacity(usize::try_from(area.pixels() * 4).unwrap_or(0));
            self.rows(area, |row, _| saved.extend_from_slice(row));
            self.saved = saved;
        }
    }

    /// Gives every row of an area that lies on the canvas, with its place among the area's bytes.
    fn rows(&mut self, area: Area, mut each: impl FnMut(&mut [u8], usize)) {
        let (width, length) = (self.image.width() as usize * 4, area.width as usize * 4);
        let pixels: &mut [u8] = &mut self.image;
        for line in 0..area.height as usize {
            let start = (area.top as usize + line) * width + area.left as usize * 4;
            if let Some(row) = pixels.get_mut(start..start + length) {
                each(row, line * length);
            }
        }
    }

    /// Lays pixels over an area whose size is theirs.
    pub(super) fn lay(&mut self, area: Area, layer: &RgbaImage, blend: Blend) {
        let shown = area.within(self.image.dimensions());
        let (stride, length) = (layer.width() as usize * 4, shown.width as usize * 4);
        let lines: Vec<_> = layer.as_raw().chunks_exact(stride.max(1)).collect();
        self.rows(shown, |row, start| {
            let above = start.checked_div(length).and_then(|line| lines.get(line));
            let Some(above) = above.and_then(|line| line.get(..length)) else { return };
            match blend {
                Blend::Replace => row.copy_from_slice(above),
                Blend::Over => {
                    let pairs = row.as_chunks_mut::<4>().0.iter_mut().zip(above.as_chunks::<4>().0);
                    pairs.for_each(|(below, above)| *below = over(*above, *below));
                }
            }
        });
    }

    /// Lays a line of indices over a row of the area; transparent colours leave what is there.
    pub(super) fn lay_line(
        &mut self,
        area: Area,
        line: u32,
        indices: &[u8],
        colours: &[[u8; 4]; 256],
    ) {
        let (width, height) = self.image.dimensions();
        let Some(y) = area.top.checked_add(line).filter(|y| *y < height) else { return };
        let shown = area.right().min(width).saturating_sub(area.left) as usize;
        let start = (y as usize * width as usize + area.left as usize) * 4;
        let Some(row) = self.image.get_mut(start..start + shown * 4) else { return };
        for (pixel, index) in row.as_chunks_mut::<4>().0.iter_mut().zip(indices) {
            let colour = colours[usize::from(*index)];
            if colour[3] > 0 {
                *pixel = colour;
            }
        }
    }

    /// What is shown.
    pub(super) fn image(&self) -> &RgbaImage {
        &self.image
    }

    /// What is shown.
    pub(super) fn into_image(self) -> RgbaImage {
        self.image
    }
}

/// One pixel over another one, neither multiplied by its alpha: the formula of both
/// specifications (PNG, third edition, section 13.16; WebP container, "blending").
fn over(above: [u8; 4], below: [u8; 4]) -> [u8; 4] {
    let (front, back) = (u32::from(above[3]), u32::from(below[3]));
    if front == 255 || back == 0 {
        return above;
    }
    if front == 0 {
        return below;
    }
    // All times 255.
    let behind = back * (255 - front);
    let alpha = front * 255 + behind;
    let mix = |above: u8, below: u8| {
        let sum = u32::from(above) * front * 255 + u32::from(below) * behind;
        u8::try_from((sum + alpha / 2) / alpha).unwrap_or(u8::MAX)
    };
    let [red, green, blue] = [0, 1, 2].map(|channel| mix(above[channel], below[channel]));
    [red, green, blue, u8::try_from((alpha + 127) / 255).unwrap_or(u8::MAX)]
}
