//! What made the pixels that are judged, by format, so that after a fix the pictures of that format are decoded
//! and judged again, and only those.

use super::{Limits, PictureFacts};
use crate::moderation::Recipe;

/// Version of all that lies between the bytes of each format and the model's square: decoder,
/// canvas, colours, orientation, choice of frames, tiles. **Raise it with every change that can move
/// a pixel**; everything of that format is then judged again.
const VERSIONS: [(&str, u32); 4] = [("gif", 2), ("jpeg", 2), ("png", 2), ("webp", 2)];

/// The same of what could not be judged: raised when a format can be read that could not be, or
/// something is told to be a picture that was not.
const UNJUDGED: u32 = 2;

/// The recipe of a picture that was decoded.
pub fn recipe_of(facts: &PictureFacts, limits: &Limits) -> Recipe {
    let version = VERSIONS.iter().find(|(format, _)| *format == facts.format);
    let version = version.map_or(0, |(_, version)| *version);
    if facts.frames > 1 {
        animated(facts.format, version, limits)
    } else {
        still(facts.format, version)
    }
}

/// The recipe of a file that could not be judged: any limit may be why.
pub fn unjudged(limits: &Limits) -> Recipe {
    let Limits {
        file_bytes,
        side,
        megapixels,
        decoded_bytes,
        frames_scored: _,
        animation_frames,
        animation_megapixels,
        computing_seconds,
        wall_seconds,
    } = limits;
    Recipe(format!(
        "none {UNJUDGED} {file_bytes} {side} {megapixels} {decoded_bytes} {animation_frames} \
         {animation_megapixels} {computing_seconds} {wall_seconds}"
    ))
}

/// Every recipe that a picture may have within these limits.
pub fn recipes(limits: &Limits) -> Vec<Recipe> {
    let of_format = |(format, version): (&str, u32)| {
        [still(format, version), animated(format, version, limits)]
    };
    VERSIONS.into_iter().flat_map(of_format).chain([unjudged(limits)]).collect()
}

fn still(format: &str, version: u32) -> Recipe {
    Recipe(format!("{format} {version}"))
}

fn animated(format: &str, version: u32, limits: &Limits) -> Recipe {
    Recipe(format!("{format} {version} frames {}", limits.frames_scored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moderation::Doubts;
    use crate::vision::decode::{Format, Signals};

    fn facts(format: Format, frames: u32) -> PictureFacts {
        PictureFacts {
            format: format.name(),
            width: 1,
            height: 1,
            frames,
            has_alpha: false,
            hash: None,
            signals: Signals::default(),
            doubts: Doubts::default(),
        }
    }

    #[test]
    fn every_picture_has_one_of_todays_recipes_and_a_limit_changes_only_what_depends_on_it() {
        let limits = Limits::default();
        let today = recipes(&limits);
        for format in [Format::Jpeg, Format::Png, Format::Gif, Format::WebP] {
            for frames in [1, 7] {
                let recipe = recipe_of(&facts(format, frames), &limits);
                assert!(today.contains(&recipe), "{recipe}");
            }
        }
        let more_frames = recipes(&Limits { frames_scored: 9, ..limits.clone() });
        assert!(more_frames.contains(&recipe_of(&facts(Format::Gif, 1), &limits)));
        assert!(!more_frames.contains(&recipe_of(&facts(Format::Gif, 7), &limits)));
        assert!(more_frames.contains(&unjudged(&limits)), "frames are no reason for a flaw");
        let larger = recipes(&Limits { megapixels: 51, ..limits.clone() });
        assert!(!larger.contains(&unjudged(&limits)), "it may be read now");
        assert!(larger.contains(&recipe_of(&facts(Format::Jpeg, 1), &limits)));
    }
}
