//! Why a file can't be judged.

/// Why a file can't be judged. The texts are fragments for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// More bytes than allowed.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooManyBytes {
        /// Of the file.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// The first bytes are not those of any known format.
    #[error("the content is not a picture of a known format")]
    NotAPicture,
    /// A format that this build can't decode.
    #[error("{format} pictures can't be read by this build")]
    UnsupportedFormat {
        /// By its bytes, as [`sniff()`](super::sniff()) says.
        format: &'static str,
    },
    /// A side of length 0.
    #[error("the picture has no pixels")]
    NoPixels,
    /// More pixels than allowed.
    #[error("{width} × {height} pixels are more than the limit of {megapixels} megapixels")]
    TooManyPixels {
        /// As the header claims.
        width: u32,
        /// As the header claims.
        height: u32,
        /// The most.
        megapixels: u32,
    },
    /// A side that is longer than allowed.
    #[error("{width} × {height} pixels: no side may be longer than {side}")]
    TooLong {
        /// As the header claims.
        width: u32,
        /// As the header claims.
        height: u32,
        /// The most.
        side: u32,
    },
    /// More memory than allowed.
    #[error("{bytes} bytes of pixels are more than the limit of {limit}")]
    TooMuchMemory {
        /// Of the decoded frame.
        bytes: u64,
        /// The most.
        limit: u64,
    },
    /// More frames than allowed.
    #[error("an animation of {frames} frames; the limit is {limit}")]
    TooManyFrames {
        /// As the file has them.
        frames: u32,
        /// The most.
        limit: u32,
    },
    /// More pixels in all frames than allowed.
    #[error(
        "an animation of {frames} frames of {width} × {height} pixels is more than the limit \
         of {megapixels} megapixels in all"
    )]
    AnimationTooLarge {
        /// As the file has them.
        frames: u32,
        /// Of a frame.
        width: u32,
        /// Of a frame.
        height: u32,
        /// The most.
        megapixels: u32,
    },
    /// A progressive JPEG that is made to be slow.
    #[error("a JPEG of {scans} passes over {width} × {height} pixels would take too long")]
    TooManyScans {
        /// Passes over the picture.
        scans: u32,
        /// As the header claims.
        width: u32,
        /// As the header claims.
        height: u32,
    },
    /// The file stops before the picture does.
    #[error("the {format} is cut off")]
    Truncated {
        /// By its bytes, as [`sniff()`](super::sniff()) says.
        format: &'static str,
    },
    /// The decoder does not understand it.
    #[error("the {format} is broken: {detail}")]
    Malformed {
        /// By its bytes, as [`sniff()`](super::sniff()) says.
        format: &'static str,
        /// The decoder's words, shortened.
        detail: String,
    },
    /// The decoder gave up in disorder.
    #[error("the {format} decoder failed on it")]
    Panicked {
        /// By its bytes, as [`sniff()`](super::sniff()) says.
        format: &'static str,
    },
    /// The decoding child was lost on it again and again.
    #[error("the decoder failed on it {} times: {}", .0.attempts, .0.how)]
    Crashed(Crash),
}

/// How decoding children were lost on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// How often it was tried.
    pub attempts: u32,
    /// How the last one was lost.
    pub how: Lost,
}

/// How a decoding child was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It needed more memory than it may have, or crashed.
    #[error("it was ended by signal {0}")]
    Signal(i32),
    /// It computed longer than it may.
    #[error("it computed for too long")]
    ComputedTooLong,
    /// It did not answer in time.
    #[error("it took longer than {0} seconds")]
    TimedOut(u64),
    /// It called the system in a way that no decoder does: an attack, or a defect of ours.
    #[error("it tried what no decoder may do, and was stopped")]
    BrokeRules,
    /// It ended by itself.
    #[error("it ended with code {0}")]
    Ended(i32),
    /// What it answered can't be true.
    #[error("its answer made no sense")]
    Garbled,
}
