//! What goes over the pipes between us and a decoding child: one request, one reply, both with
//! a head of fixed length. Nothing that a child says is believed before it was checked here.

use crate::moderation::perceptual::HASH_BYTES;
use crate::moderation::{Doubts, PerceptualHash};
use crate::vision::decode::sniff::FORMATS;
use crate::vision::decode::{Flaw, Limits, MOST_VIEWS, PictureFacts, Signals};
use crate::vision::preprocess::{ImageSpec, Resample, Resize};

/// Begins every head, with the version of this protocol in it: "modtool" and a number.
const MAGIC: u64 = 0x006c_6f6f_7464_6f6d + (2 << 56);

/// A request's head: so many numbers, each eight bytes, little-endian.
pub(super) const REQUEST_HEAD: usize = 16 * 8;

/// A reply's head: as many numbers, then the forms of the picture's perceptual hash.
pub(super) const REPLY_HEAD: usize = NUMBERS + 8 * HASH_BYTES;

const NUMBERS: usize = 16 * 8;

/// Stands for the quality of a hash that is not there.
const NO_HASH: u64 = 255;

/// What a child says first: magic, then what holds it.
pub(super) const HELLO: usize = 4 * 8;

/// The most bytes of a decoder's own words in a reply.
const MOST_WORDS: u64 = 512;

/// What is wanted of a file's bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wish {
    /// What policies score.
    Views(ImageSpec),
    /// The one view of the reference implementation.
    Reference(ImageSpec),
    /// A picture for people, at most so wide and high.
    Preview(u32, u32),
}

/// What a child says before the first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hello {
    /// System calls are filtered.
    pub seccomp: bool,
    /// 0: the kernel has no Landlock; otherwise the version that is in force.
    pub landlock: u32,
}

/// What a request's head says; the bytes of the file follow it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub sequence: u64,
    pub wish: Wish,
    pub limits: Limits,
    /// How many bytes follow.
    pub length: u64,
}

/// What a reply's head says; pixels or words follow it.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way through")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplyHead {
    /// So many views of `side · side · 3` bytes each.
    Views { count: u32, side: u32, facts: PictureFacts },
    /// `width · height · 3` bytes.
    Preview { width: u32, height: u32 },
    /// A flaw and so many bytes of UTF-8.
    Flaw { flaw: Flaw, words: u64 },
}

/// A reply that no honest child sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbled;

fn packed<const BYTES: usize>(numbers: &[u64]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (slot, number) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *slot = number.to_le_bytes();
    }
    bytes
}

fn unpacked<const COUNT: usize>(bytes: &[u8]) -> [u64; COUNT] {
    let mut numbers = [0; COUNT];
    for (number, slot) in numbers.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*slot);
    }
    numbers
}

fn small(number: u64) -> Result<u32, Garbled> {
    u32::try_from(number).map_err(|_large| Garbled)
}

impl Hello {
    pub(super) fn pack(self) -> [u8; HELLO] {
        packed(&[MAGIC, self.seccomp.into(), self.landlock.into()])
    }

    pub(super) fn unpack(bytes: &[u8; HELLO]) -> Result<Self, Garbled> {
        let [magic, seccomp, landlock, _] = unpacked(bytes);
        if magic != MAGIC || seccomp > 1 {
            return Err(Garbled);
        }
        Ok(Self { seccomp: seccomp == 1, landlock: small(landlock)? })
    }
}

impl Request {
    pub(super) fn pack(&self) -> [u8; REQUEST_HEAD] {
        let (kind, shape) = match &self.wish {
            Wish::Views(spec) => (0, shape_of(spec)),
            Wish::Reference(spec) => (1, shape_of(spec)),
            Wish::Preview(width, height) => (2, [u64::from(*width), u64::from(*height), 0, 0]),
        };
        let Limits {
            file_bytes,
            side,
            megapixels,
            decoded_bytes,
            frames_scored,
            animation_frames,
            animation_megapixels,
            // Kept from outside.
            computing_seconds: _,
            wall_seconds: _,
        } = self.limits;
        let small = [side, megapixels, frames_scored, animation_frames, animation_megapixels];
        let mut numbers = vec![MAGIC, self.sequence, kind, self.length, file_bytes, decoded_bytes];
        numbers.extend(small.map(u64::from));
        numbers.extend(shape);
        packed(&numbers)
    }

    /// The child trusts us, but a version of the program that is not its own may have written.
    pub(super) fn unpack(bytes: &[u8; REQUEST_HEAD]) -> Result<Self, Garbled> {
        let [magic, sequence, kind, length, file_bytes, decoded_bytes, rest @ ..]: [u64; 16] =
            unpacked(bytes);
        let [
            side,
            megapixels,
            frames_scored,
            animation_frames,
            animation_megapixels,
            a,
            b,
            c,
            d,
            ..,
        ] = rest;
        if magic != MAGIC {
            return Err(Garbled);
        }
        let wish = match kind {
            0 => Wish::Views(spec_of(a, b, c, d)?),
            1 => Wish::Reference(spec_of(a, b, c, d)?),
            2 => Wish::Preview(small(a)?, small(b)?),
            _ => return Err(Garbled),
        };
        let limits = Limits {
            file_bytes,
            side: small(side)?,
            megapixels: small(megapixels)?,
            decoded_bytes,
            frames_scored: small(frames_scored)?,
            animation_frames: small(animation_frames)?,
            animation_megapixels: small(animation_megapixels)?,
            ..Limits::default()
        };
        Ok(Self { sequence, wish, limits, length })
    }
}

fn shape_of(spec: &ImageSpec) -> [u64; 4] {
    let stretch = spec.resize == Resize::Stretch;
    let bicubic = spec.resample == Resample::Bicubic;
    [spec.size.into(), stretch.into(), bicubic.into(), spec.shortest_edge.into()]
}

/// Mean and deviation stay with us: normalising is not decoding.
fn spec_of(size: u64, stretch: u64, bicubic: u64, edge: u64) -> Result<ImageSpec, Garbled> {
    Ok(ImageSpec {
        size: small(size)?,
        resize: if stretch == 1 { Resize::Stretch } else { Resize::ShortestEdgeCrop },
        resample: if bicubic == 1 { Resample::Bicubic } else { Resample::Bilinear },
        shortest_edge: small(edge)?,
        mean: [0.0; 3],
        std: [1.0; 3],
    })
}

impl ReplyHead {
    pub(super) fn pack(&self, sequence: u64) -> [u8; REPLY_HEAD] {
        let mut numbers = vec![MAGIC, sequence];
        let mut forms = Vec::new();
        match self {
            Self::Views { count, side, facts } => {
                let PictureFacts {
                    format,
                    width,
                    height,
                    frames,
                    has_alpha,
                    hash,
                    signals,
                    doubts,
                } = facts;
                numbers.extend([0, (*count).into(), (*side).into(), code_of(format)]);
                numbers.extend([*width, *height, *frames].map(u64::from));
                numbers.extend([u64::from(*has_alpha), signals.bits().into()]);
                numbers.push(hash.map_or(NO_HASH, |hash| hash.quality.into()));
                numbers.push(doubts.bits().into());
                forms = hash.map(|hash| hash.to_bytes()).unwrap_or_default();
            }
            Self::Preview { width, height } => {
                numbers.extend([1, (*width).into(), (*height).into()]);
            }
            Self::Flaw { flaw, words } => {
                let (code, format, details) = flaw_numbers(flaw);
                numbers.extend([2, code, format, *words]);
                numbers.extend(details);
            }
        }
        let mut bytes: [u8; REPLY_HEAD] = packed(&numbers);
        bytes[NUMBERS..NUMBERS + forms.len()].copy_from_slice(&forms);
        bytes
    }

    /// Checks everything that can be checked of what a child says in answer to a request.
    pub(super) fn unpack(bytes: &[u8; REPLY_HEAD], request: &Request) -> Result<Self, Garbled> {
        let [magic, sequence, kind, numbers @ ..]: [u64; 16] = unpacked(bytes);
        if magic != MAGIC || sequence != request.sequence {
            return Err(Garbled);
        }
        let head = match kind {
            0 => views_of(&numbers, &bytes[NUMBERS..])?,
            1 => Self::Preview { width: small(numbers[0])?, height: small(numbers[1])? },
            2 => {
                let [code, format, words, details @ ..] = numbers;
                Self::Flaw { flaw: flaw_of(code, format, &details)?, words }
            }
            _ => return Err(Garbled),
        };
        if head.answers(request) { Ok(head) } else { Err(Garbled) }
    }

    /// How many bytes follow.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Views { count, side, .. } => {
                u64::from(*count) * u64::from(*side) * u64::from(*side) * 3
            }
            Self::Preview { width, height } => u64::from(*width) * u64::from(*height) * 3,
            Self::Flaw { words, .. } => *words,
        }
    }

    /// Whether it can be the answer to this request; also the bound on its length.
    fn answers(&self, request: &Request) -> bool {
        let limits = &request.limits;
        match (self, &request.wish) {
            (Self::Flaw { words, .. }, _) => *words <= MOST_WORDS,
            (Self::Views { count, side, facts }, Wish::Views(spec)) => {
                (1..=MOST_VIEWS).contains(count) && *side == spec.size && plausible(facts, limits)
            }
            (Self::Views { count, side, facts }, Wish::Reference(spec)) => {
                *count == 1 && *side == spec.size && plausible(facts, limits)
            }
            (Self::Preview { width, height }, Wish::Preview(most_wide, most_high)) => {
                (1..=*most_wide).contains(width) && (1..=*most_high).contains(height)
            }
            _ => false,
        }
    }
}

fn plausible(facts: &PictureFacts, limits: &Limits) -> bool {
    limits.check_frame(facts.width, facts.height).is_ok()
        && (1..=limits.animation_frames.max(1)).contains(&facts.frames)
}

fn views_of(numbers: &[u64; 13], forms: &[u8]) -> Result<ReplyHead, Garbled> {
    let [count, side, format, width, height, frames, alpha, signals, quality, doubts, ..] =
        *numbers;
    let hash = match quality {
        NO_HASH => None,
        0..=100 => {
            let quality = u8::try_from(quality).map_err(|_large| Garbled)?;
            Some(PerceptualHash::from_bytes(forms, quality).ok_or(Garbled)?)
        }
        _ => return Err(Garbled),
    };
    let facts = PictureFacts {
        format: format_of(format)?,
        width: small(width)?,
        height: small(height)?,
        frames: small(frames)?,
        has_alpha: alpha == 1,
        hash,
        signals: u32::try_from(signals).ok().and_then(Signals::from_bits).ok_or(Garbled)?,
        doubts: u32::try_from(doubts).ok().and_then(Doubts::from_bits).ok_or(Garbled)?,
    };
    Ok(ReplyHead::Views { count: small(count)?, side: small(side)?, facts })
}

/// Formats go by their place in the list of all that are told apart.
fn code_of(format: &str) -> u64 {
    let place = FORMATS.iter().position(|known| *known == format);
    place.map_or(u64::MAX, |place| place as u64)
}

fn format_of(code: u64) -> Result<&'static str, Garbled> {
    let place = usize::try_from(code).map_err(|_large| Garbled)?;
    FORMATS.get(place).copied().ok_or(Garbled)
}

/// Code, format and numbers of a flaw; words are sent apart.
fn flaw_numbers(flaw: &Flaw) -> (u64, u64, [u64; 4]) {
    let of = |format: &str| code_of(format);
    match flaw {
        Flaw::Empty => (0, 0, [0; 4]),
        Flaw::TooManyBytes { bytes, limit } => (1, 0, [*bytes, *limit, 0, 0]),
        Flaw::NotAPicture => (2, 0, [0; 4]),
        Flaw::UnsupportedFormat { format } => (3, of(format), [0; 4]),
        Flaw::NoPixels => (4, 0, [0; 4]),
        Flaw::TooManyPixels { width, height, megapixels } => {
            (5, 0, [*width, *height, *megapixels, 0].map(u64::from))
        }
        Flaw::TooLong { width, height, side } => (6, 0, [*width, *height, *side, 0].map(u64::from)),
        Flaw::TooMuchMemory { bytes, limit } => (7, 0, [*bytes, *limit, 0, 0]),
        Flaw::TooManyFrames { frames, limit } => (8, 0, [*frames, *limit, 0, 0].map(u64::from)),
        Flaw::AnimationTooLarge { frames, width, height, megapixels } => {
            (9, 0, [*frames, *width, *height, *megapixels].map(u64::from))
        }
        Flaw::TooManyScans { scans, width, height } => {
            (10, 0, [*scans, *width, *height, 0].map(u64::from))
        }
        Flaw::Truncated { format } => (11, of(format), [0; 4]),
        Flaw::Malformed { format, .. } => (12, of(format), [0; 4]),
        Flaw::Panicked { format } => (13, of(format), [0; 4]),
        // Only we say that, never a child.
        Flaw::Crashed(_) => (u64::MAX, 0, [0; 4]),
    }
}

fn flaw_of(code: u64, format: u64, details: &[u64; 10]) -> Result<Flaw, Garbled> {
    let [a, b, c, d, ..] = *details;
    Ok(match code {
        0 => Flaw::Empty,
        1 => Flaw::TooManyBytes { bytes: a, limit: b },
        2 => Flaw::NotAPicture,
        3 => Flaw::UnsupportedFormat { format: format_of(format)? },
        4 => Flaw::NoPixels,
        5 => Flaw::TooManyPixels { width: small(a)?, height: small(b)?, megapixels: small(c)? },
        6 => Flaw::TooLong { width: small(a)?, height: small(b)?, side: small(c)? },
        7 => Flaw::TooMuchMemory { bytes: a, limit: b },
        8 => Flaw::TooManyFrames { frames: small(a)?, limit: small(b)? },
        9 => Flaw::AnimationTooLarge {
            frames: small(a)?,
            width: small(b)?,
            height: small(c)?,
            megapixels: small(d)?,
        },
        10 => Flaw::TooManyScans { scans: small(a)?, width: small(b)?, height: small(c)? },
        11 => Flaw::Truncated { format: format_of(format)? },
        12 => Flaw::Malformed { format: format_of(format)?, detail: String::new() },
        13 => Flaw::Panicked { format: format_of(format)? },
        _ => return Err(Garbled),
    })
}

/// The words of a flaw that has some.
pub(super) fn words_of(flaw: &Flaw) -> &[u8] {
    let Flaw::Malformed { detail, .. } = flaw else { return &[] };
    // Cut at a character; a decoder's words are shortened long before.
    let most = usize::try_from(MOST_WORDS).unwrap_or(usize::MAX);
    let end = (0..=detail.len().min(most)).rev().find(|end| detail.is_char_boundary(*end));
    &detail.as_bytes()[..end.unwrap_or(0)]
}

/// The flaw with its words.
pub(super) fn with_words(flaw: Flaw, words: &[u8]) -> Flaw {
    match flaw {
        Flaw::Malformed { format, .. } => {
            Flaw::Malformed { format, detail: String::from_utf8_lossy(words).into_owned() }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::preprocess::tests::spec;
    use proptest::prelude::*;

    fn request(wish: Wish) -> Request {
        Request { sequence: 7, wish, limits: Limits::default(), length: 3 }
    }

    fn wishes() -> [Wish; 3] {
        let mut spec = spec(96, Resize::Stretch, Resample::Bilinear);
        (spec.mean, spec.std) = ([0.0; 3], [1.0; 3]);
        let crop = ImageSpec {
            resize: Resize::ShortestEdgeCrop,
            resample: Resample::Bicubic,
            ..spec.clone()
        };
        [Wish::Views(spec), Wish::Reference(crop), Wish::Preview(640, 480)]
    }

    fn facts() -> PictureFacts {
        PictureFacts {
            format: "webp",
            width: 640,
            height: 480,
            frames: 3,
            has_alpha: true,
            hash: PerceptualHash::from_bytes(&[0xa5; 256], 90),
            signals: Signals::from_bits(3).expect("two signals"),
            doubts: Doubts::from_bits(5).expect("two doubts"),
        }
    }

    #[test]
    fn requests_and_hellos_read_back() {
        for wish in wishes() {
            let request = request(wish);
            assert_eq!(Request::unpack(&request.pack()), Ok(request));
        }
        let hello = Hello { seccomp: true, landlock: 7 };
        assert_eq!(Hello::unpack(&hello.pack()), Ok(hello));
    }

    #[test]
    fn replies_read_back() {
        let [views, _, preview] = wishes().map(request);
        let reply = ReplyHead::Views { count: 6, side: 96, facts: facts() };
        assert_eq!(ReplyHead::unpack(&reply.pack(7), &views), Ok(reply));
        let reply = ReplyHead::Preview { width: 640, height: 1 };
        assert_eq!(ReplyHead::unpack(&reply.pack(7), &preview), Ok(reply));
        for flaw in [
            Flaw::Empty,
            Flaw::TooManyBytes { bytes: 1 << 40, limit: 2 },
            Flaw::NotAPicture,
            Flaw::UnsupportedFormat { format: "jpeg 2000" },
            Flaw::NoPixels,
            Flaw::TooManyPixels { width: 1, height: 2, megapixels: 3 },
            Flaw::TooLong { width: 1, height: 2, side: 3 },
            Flaw::TooMuchMemory { bytes: 1, limit: 2 },
            Flaw::TooManyFrames { frames: 1, limit: 2 },
            Flaw::AnimationTooLarge { frames: 1, width: 2, height: 3, megapixels: 4 },
            Flaw::TooManyScans { scans: 1, width: 2, height: 3 },
            Flaw::Truncated { format: "gif" },
            Flaw::Malformed { format: "png", detail: "no é".into() },
            Flaw::Panicked { format: "jpeg" },
        ] {
            let words = words_of(&flaw);
            let head = ReplyHead::Flaw { flaw: flaw.clone(), words: words.len() as u64 };
            let back = ReplyHead::unpack(&head.pack(7), &views).expect("honest");
            let ReplyHead::Flaw { flaw: bare, .. } = back else { panic!("a flaw") };
            assert_eq!(with_words(bare, words), flaw);
        }
    }

    #[test]
    fn what_no_honest_child_says_is_refused() {
        let [views, reference, preview] = wishes().map(request);
        let said = |count, side, facts: PictureFacts| ReplyHead::Views { count, side, facts };
        let lies = [
            (said(0, 96, facts()), &views),
            (said(MOST_VIEWS + 1, 96, facts()), &views),
            (said(2, 96, facts()), &reference),
            (said(1, 97, facts()), &views),
            (said(1, 96, PictureFacts { width: 0, ..facts() }), &views),
            (said(1, 96, PictureFacts { width: 20_000, ..facts() }), &views),
            (said(1, 96, PictureFacts { frames: 0, ..facts() }), &views),
            (said(1, 96, PictureFacts { frames: 1_001, ..facts() }), &views),
            (said(1, 96, facts()), &preview),
            (ReplyHead::Preview { width: 641, height: 1 }, &preview),
            (ReplyHead::Preview { width: 1, height: 0 }, &preview),
            (ReplyHead::Preview { width: 1, height: 1 }, &views),
            (ReplyHead::Flaw { flaw: Flaw::Empty, words: 513 }, &views),
        ];
        for (lie, request) in lies {
            assert_eq!(ReplyHead::unpack(&lie.pack(7), request), Err(Garbled), "{lie:?}");
        }
        let stale = said(1, 96, facts()).pack(6);
        assert_eq!(ReplyHead::unpack(&stale, &views), Err(Garbled), "an answer to another request");
        assert!(code_of("no such format") == u64::MAX && format_of(u64::MAX).is_err());
    }

    proptest! {
        /// Whatever a child that was taken over says, it can't make us take memory.
        #[test]
        fn any_bytes_are_refused_or_within_the_bounds(
            noise in proptest::collection::vec(any::<u8>(), REPLY_HEAD),
            forms in any::<[u8; 32]>(),
            kind in 0_u64..4,
            numbers in proptest::collection::vec(prop_oneof![0_u64..9, 60_u64..100, any::<u64>()], 13),
        ) {
            let plausible: Vec<u64> = [MAGIC, 7, kind].into_iter().chain(numbers).collect();
            let noise: [u8; REPLY_HEAD] = noise.try_into().expect("as long as asked for");
            let mut plausible: [u8; REPLY_HEAD] = packed(&plausible);
            plausible[NUMBERS..NUMBERS + 32].copy_from_slice(&forms);
            let most_views = u64::from(MOST_VIEWS) * 96 * 96 * 3;
            for head in [noise, plausible] {
                for wish in wishes() {
                    if let Ok(reply) = ReplyHead::unpack(&head, &request(wish)) {
                        prop_assert!(reply.length() <= most_views.max(640 * 480 * 3), "{reply:?}");
                    }
                }
            }
        }
    }
}
