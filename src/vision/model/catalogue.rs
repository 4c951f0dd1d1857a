//! Models that `modtool model pull` knows by name: where they are, how large, on which terms, and
//! what each is good for. A name is only a short way to a repository; what the model wants is read
//! from its files.

use crate::moderation::LogitScale;

/// One model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// What to type, and the model's name afterwards.
    pub name: &'static str,
    /// `owner/repo` of an ONNX export.
    pub repository: &'static str,
    /// Where scale and bias are, when the export does not have them.
    pub scale: Scale,
    /// The licence of the weights, as their authors state it.
    pub licence: &'static str,
    /// Rounded megabytes of both towers in full precision.
    pub megabytes: u32,
    /// Rounded megabytes of both towers in 8-bit integers (`--variant int8`), where there are such.
    pub int8_megabytes: Option<u32>,
    /// What it is good for.
    pub good_for: &'static str,
}

/// How a catalogue entry knows scale and bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// `owner/repo` with a `model.safetensors`.
    From(&'static str),
    /// Constants of the checkpoint.
    Known(LogitScale),
}

/// The value to which the training of these checkpoints clips the scale (Radford et al. 2021,
/// §2.5); OpenCLIP's training does the same.
const CLIPPED: Scale = Scale::Known(LogitScale { scale: 100.0, bias: 0.0 });

/// Every entry, the smallest first within a family. Sizes follow from the numbers of parameters
/// (four bytes each in full precision, one and some more in 8 bits).
pub static CATALOGUE: [Entry; 14] = [
    Entry {
        name: "clip-vit-b-32",
        repository: "Xenova/clip-vit-base-patch32",
        scale: CLIPPED,
        licence: "MIT (OpenAI CLIP)",
        megabytes: 606,
        int8_megabytes: Some(154),
        good_for: "the fastest of the classics; a sound start on two cores",
    },
    Entry {
        name: "clip-vit-b-16",
        repository: "Xenova/clip-vit-base-patch16",
        scale: CLIPPED,
        licence: "MIT (OpenAI CLIP)",
        megabytes: 599,
        int8_megabytes: Some(153),
        good_for: "smaller things in the picture than B/32 sees, at four times its cost",
    },
    Entry {
        name: "clip-vit-l-14",
        repository: "Xenova/clip-vit-large-patch14",
        scale: CLIPPED,
        licence: "MIT (OpenAI CLIP)",
        megabytes: 1711,
        int8_megabytes: Some(435),
        good_for: "the best of OpenAI's at 224 px; wants a GPU or patience",
    },
    Entry {
        name: "openclip-vit-b-32-laion2b",
        repository: "onnx-community/CLIP-ViT-B-32-laion2B-s34B-b79K-ONNX",
        scale: CLIPPED,
        licence: "MIT (LAION)",
        megabytes: 605,
        int8_megabytes: Some(154),
        good_for: "B/32 with better open training data; web pictures of all kinds",
    },
    Entry {
        name: "openclip-vit-l-14-laion2b",
        repository: "immich-app/ViT-L-14__laion2b-s32b-b82k",
        scale: CLIPPED,
        licence: "MIT (LAION)",
        megabytes: 1711,
        int8_megabytes: None,
        good_for: "L/14 with better open training data; wants a GPU or patience",
    },
    Entry {
        name: "openclip-vit-h-14-laion2b",
        repository: "immich-app/ViT-H-14__laion2b-s32b-b79k",
        scale: CLIPPED,
        licence: "MIT (LAION)",
        megabytes: 3944,
        int8_megabytes: None,
        good_for: "the best of OpenCLIP's here; wants a GPU",
    },
    Entry {
        name: "metaclip-b-16",
        repository: "Benny1923/metaclip-b16-fullcc2.5b",
        scale: CLIPPED,
        licence: "CC-BY-NC 4.0 (Meta; no commercial use)",
        megabytes: 599,
        int8_megabytes: Some(153),
        good_for: "evenly curated concepts, rare ones included; research use only",
    },
    Entry {
        name: "mobileclip-s0",
        repository: "Xenova/mobileclip_s0",
        scale: CLIPPED,
        licence: "Apple's model licence (read it on its page)",
        megabytes: 215,
        int8_megabytes: Some(56),
        good_for: "the smallest good one: small machines, large backlogs",
    },
    Entry {
        name: "mobileclip-s2",
        repository: "Xenova/mobileclip_s2",
        scale: CLIPPED,
        licence: "Apple's model licence (read it on its page)",
        megabytes: 398,
        int8_megabytes: Some(101),
        good_for: "nearly B/16's quality at a fraction of its cost",
    },
    Entry {
        name: "siglip-base-patch16-224",
        repository: "Xenova/siglip-base-patch16-224",
        scale: Scale::From("google/siglip-base-patch16-224"),
        licence: "Apache-2.0 (Google)",
        megabytes: 813,
        int8_megabytes: Some(207),
        good_for: "a probability for each prompt by itself (scoring: independent); English",
    },
    Entry {
        name: "siglip2-base-patch16-224",
        repository: "onnx-community/siglip2-base-patch16-224-ONNX",
        scale: Scale::From("google/siglip2-base-patch16-224"),
        licence: "Apache-2.0 (Google)",
        megabytes: 1501,
        int8_megabytes: Some(379),
        good_for: "prompts in many languages; the best of its size",
    },
    Entry {
        name: "siglip2-base-patch16-256",
        repository: "onnx-community/siglip2-base-patch16-256-ONNX",
        scale: Scale::From("google/siglip2-base-patch16-256"),
        licence: "Apache-2.0 (Google)",
        megabytes: 1501,
        int8_megabytes: Some(379),
        good_for: "the same with a little more detail",
    },
    Entry {
        name: "siglip2-large-patch16-384",
        repository: "onnx-community/siglip2-large-patch16-384-ONNX",
        scale: Scale::From("google/siglip2-large-patch16-384"),
        licence: "Apache-2.0 (Google)",
        megabytes: 3527,
        int8_megabytes: Some(890),
        good_for: "small things and text in pictures; wants a GPU",
    },
    Entry {
        name: "siglip2-so400m-patch16-384",
        repository: "onnx-community/siglip2-so400m-patch16-384-ONNX",
        scale: Scale::From("google/siglip2-so400m-patch16-384"),
        licence: "Apache-2.0 (Google)",
        megabytes: 4545,
        int8_megabytes: Some(1145),
        good_for: "the best quality here; wants a GPU",
    },
];

/// An entry by its name.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::model::ModelsFolder;
    use crate::vision::model::hub::Repository;

    #[test]
    fn every_entry_can_be_pulled() {
        let folder = ModelsFolder("models".into());
        for entry in &CATALOGUE {
            assert!(folder.place(entry.name).is_ok(), "{}", entry.name);
            assert!(Repository::parse(entry.repository).is_some(), "{}", entry.repository);
            if let Scale::From(repository) = entry.scale {
                assert!(Repository::parse(repository).is_some(), "{repository}");
            }
            assert!(std::ptr::eq(find(entry.name).expect("is there"), entry), "names are unique");
            assert!(entry.int8_megabytes.is_none_or(|small| small < entry.megabytes));
        }
    }
}
