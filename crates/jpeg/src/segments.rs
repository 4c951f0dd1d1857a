//! The file's segments (T.81, annex B) and what they say.

use crate::frame::Frame;
use crate::huffman::Huffman;
use crate::pixels::Model;
use crate::scan::{Scan, Tables, ZIGZAG};
use crate::{Error, Scale, Warnings};

/// What has been read of a file.
pub(crate) struct File {
    most_bytes: u64,
    scale: Scale,
    quantisation: [Option<[u16; 64]>; 4],
    tables: Tables,
    /// The transform byte of an Adobe segment.
    adobe: Option<u8>,
    jfif: bool,
    pub(crate) frame: Option<Frame>,
    /// Scans so far.
    scans: u32,
    damaged: bool,
    pub(crate) exif: Vec<Vec<u8>>,
    /// Another APP1 segment comes before the first Exif one.
    pub(crate) exif_is_late: bool,
    /// Number, count and bytes of each part of the colour profile.
    profile: Vec<(u8, u8, Vec<u8>)>,
}

/// What comes after a segment.
enum Next {
    More,
    /// Nothing that a viewer would show.
    End,
}

impl File {
    pub(crate) fn new(most_bytes: u64, scale: Scale) -> Self {
        Self {
            most_bytes,
            scale,
            quantisation: [None; 4],
            tables: Tables::default(),
            adobe: None,
            jfif: false,
            frame: None,
            scans: 0,
            damaged: false,
            exif: Vec::new(),
            exif_is_late: false,
            profile: Vec::new(),
        }
    }

    /// Reads everything up to the end of the picture.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut at = 2;
        loop {
            match self.segment(bytes, &mut at) {
                Ok(Next::More) => {}
                Ok(Next::End) => return Ok(()),
                // Behind the first scan there is something to show.
                Err(_) if self.scans > 0 => {
                    self.damaged = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn segment(&mut self, bytes: &[u8], at: &mut usize) -> Result<Next, Error> {
        let marker = next_marker(bytes, at).ok_or(Error::CutOff)?;
        match marker {
            0xD9 if self.scans == 0 => return Err(Error::Broken("it ends before its pixels")),
            0xD9 => return Ok(Next::End),
            0x01 | 0xD0..=0xD7 => return Ok(Next::More),
            0xD8 => return Err(Error::Broken("a second picture begins before the first one ends")),
            _ => {}
        }
        let two = bytes.get(*at..*at + 2).ok_or(Error::CutOff)?;
        let length = usize::from(u16::from_be_bytes([two[0], two[1]]));
        let segment = bytes.get(*at + 2..*at + length.max(2)).ok_or(Error::CutOff)?;
        *at += length.max(2);
        match marker {
            0xC0..=0xC2 => self.frame_header(segment, marker == 0xC2)?,
            0xC4 => self.huffman_tables(segment)?,
            0xC9 | 0xCA | 0xCC => return Err(Error::Broken("it is coded arithmetically")),
            0xC3 | 0xC5..=0xC8 | 0xCB | 0xCD..=0xCF => {
                return Err(Error::Broken("it is coded without loss or in layers"));
            }
            0xDB => self.quantisation_tables(segment)?,
            0xDD => {
                let [high, low, ..] = segment else { return Err(Error::CutOff) };
                self.tables.restart_interval = usize::from(u16::from_be_bytes([*high, *low]));
            }
            0xDA if self.is_complete() => {
                return Err(Error::Broken("another scan follows the only one"));
            }
            0xDA => self.scan(segment, bytes, at)?,
            // Viewers decide about colours and sides before the first scan.
            0xE0..=0xEF if self.scans == 0 => self.application(marker, segment),
            0xDC | 0xE0..=0xEF | 0xFE => {}
            _ => return Err(Error::Broken("it has a segment of an unknown kind")),
        }
        Ok(Next::More)
    }

    fn quantisation_tables(&mut self, mut segment: &[u8]) -> Result<(), Error> {
        while let Some((&head, rest)) = segment.split_first() {
            let wide = head >> 4 != 0;
            let (values, rest) =
                rest.split_at_checked(if wide { 128 } else { 64 }).ok_or(Error::CutOff)?;
            let mut table = [0; 64];
            for (index, place) in ZIGZAG.into_iter().enumerate() {
                table[place] = if wide {
                    u16::from_be_bytes([values[2 * index], values[2 * index + 1]])
                } else {
                    u16::from(values[index])
                };
            }
            let slot = self.quantisation.get_mut(usize::from(head & 15));
            *slot.ok_or(Error::Broken("a quantisation table has a number above 3"))? = Some(table);
            segment = rest;
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Result<(), Error> {
        while let Some((&head, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_at_checked(16).ok_or(Error::CutOff)?;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(total).ok_or(Error::CutOff)?;
            let tables = if head >> 4 == 0 { &mut self.tables.dc } else { &mut self.tables.ac };
            let slot = tables.get_mut(usize::from(head & 15));
            let slot = slot.ok_or(Error::Broken("a table of codes has a number above 3"))?;
            let table = Huffman::new(counts, symbols);
            *slot = Some(Box::new(table.ok_or(Error::Broken("a table of codes makes no sense"))?));
            segment = rest;
        }
        Ok(())
    }

    fn frame_header(&mut self, segment: &[u8], progressive: bool) -> Result<(), Error> {
        if self.frame.is_some() {
            return Err(Error::Broken("it has two frame headers"));
        }
        self.frame = Some(Frame::new(segment, progressive, self.scale, self.most_bytes)?);
        Ok(())
    }

    fn scan(&mut self, segment: &[u8], bytes: &[u8], at: &mut usize) -> Result<(), Error> {
        let Some(frame) = &mut self.frame else {
            return Err(Error::Broken("its pixels come before its size"));
        };
        let scan = Scan::read(frame, segment)?;
        let direct = !frame.progressive && scan.components.len() == frame.components.len();
        for (place, ..) in &scan.components {
            let component = &mut frame.components[*place];
            if component.quantisation.is_none() {
                let table = self.quantisation.get(component.table).copied().flatten();
                component.quantisation =
                    Some(table.ok_or(Error::Broken("a quantisation table is missing"))?);
            }
            if direct {
                component.make_plane();
            }
        }
        if !direct {
            frame.keep_coefficients(self.most_bytes)?;
        }
        self.damaged |= !scan.note(frame) && frame.progressive;
        let rest = bytes.get(*at..).unwrap_or_default();
        let done = scan.decode(frame, &self.tables, rest, direct)?;
        self.scans += 1;
        self.damaged |= done.damaged;
        *at += done.length;
        // Nothing but filling belongs between the coded data and the next marker.
        let mut behind = *at;
        if next_marker(bytes, &mut behind).is_some() {
            let between = bytes.get(*at..behind - 2).unwrap_or_default();
            self.damaged |= between.iter().any(|byte| *byte != 0xFF);
        }
        Ok(())
    }

    /// Whether the only scan of a sequential picture was read: others keep coefficients.
    fn is_complete(&self) -> bool {
        let keeps = |frame: &Frame| frame.components.iter().any(|one| !one.blocks.is_empty());
        self.scans > 0 && !self.frame.as_ref().is_some_and(keeps)
    }

    fn application(&mut self, marker: u8, segment: &[u8]) {
        match marker {
            0xE0 => self.jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0"),
            0xE1 => {
                // Browsers take any byte behind the zero.
                if let Some([_, exif @ ..]) = segment.strip_prefix(b"Exif\0") {
                    self.exif.push(exif.to_vec());
                } else {
                    self.exif_is_late |= self.exif.is_empty();
                }
            }
            0xE2 => {
                if let Some([number, count, part @ ..]) = segment.strip_prefix(b"ICC_PROFILE\0") {
                    self.profile.push((*number, *count, part.to_vec()));
                }
            }
            0xEE if segment.len() >= 12 && segment.starts_with(b"Adobe") => {
                self.adobe = Some(segment[11]);
            }
            _ => {}
        }
    }

    pub(crate) fn warnings(&self) -> Warnings {
        Warnings {
            damaged: self.damaged,
            unfinished: self.frame.as_ref().is_some_and(Frame::is_unfinished),
            ..Warnings::default()
        }
    }

    /// The profile whose parts are numbered from 1 to their count and all there, as libjpeg puts it
    /// together; and whether there are parts that make none.
    pub(crate) fn profile(&mut self) -> (Option<Vec<u8>>, bool) {
        let mut parts = std::mem::take(&mut self.profile);
        let Some(count) = parts.first().map(|part| part.1) else { return (None, false) };
        parts.sort_by_key(|part| part.0);
        let complete = parts.len() == usize::from(count)
            && (1..=count).zip(&parts).all(|(number, part)| (number, count) == (part.0, part.1));
        if !complete {
            return (None, true);
        }
        (Some(parts.into_iter().flat_map(|part| part.2).collect()), false)
    }

    /// What the components mean, by libjpeg's rule (`default_decompress_parms`).
    pub(crate) fn model(&self) -> Model {
        let components = self.frame.as_ref().map(|frame| frame.components.as_slice());
        let ids: Vec<u8> = components.unwrap_or_default().iter().map(|one| one.id).collect();
        match (ids.len(), self.adobe) {
            (1, _) => Model::Grey,
            (3, Some(0)) if !self.jfif => Model::Rgb,
            (3, None) if !self.jfif && ids == *b"RGB" => Model::Rgb,
            (3, _) => Model::Ycc,
            (_, None | Some(0)) => Model::Cmyk,
            (_, Some(_)) => Model::Ycck,
        }
    }
}

/// The next marker at or after `at`, which is moved behind it. Skips what is none: FF 00 is a byte of
/// coded data and FF FF is filling.
pub fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = bytes.get(*at..)?;
        let start = rest.iter().position(|byte| *byte == 0xFF)?;
        let marker = *rest.get(start + 1)?;
        match marker {
            0xFF => *at += start + 1,
            0x00 => *at += start + 2,
            _ => {
                *at += start + 2;
                return Some(marker);
            }
        }
    }
}
