//! What was learned about a policy from labelled pictures: a small change of its scores that
//! belongs to one model and one set of prompts. Stored vectors stay what the model gave.
//!
//! Two methods behind one interface, both beginning at the policy's own words, so that with nothing
//! learned nothing changes:
//! - a *probe* adds a direction to the log-odds that the words give;
//! - *low rank* turns both sides of the space a little: `v' = normalise(v + B·A·v)`, and likewise
//!   the prompts.

mod comparison;
mod fitting;
mod lowrank;
mod probe;
mod validation;

use sha2::{Digest as _, Sha256};

use super::embedding::Fingerprint;
use super::policy::{FittedFor, PolicyId, spelled};

pub use comparison::{Comparison, compare, loudest};
pub use fitting::{Example, FitError, Recipe};
pub use lowrank::Side;
pub use validation::{Trained, Validation, learn};

spelled! {
    /// How an adapter learns.
    Method {
        /// A text-anchored linear probe.
        Probe = "probe",
        /// A low-rank change of both projections.
        Lora = "lora",
    }
}

/// What was learned, for one policy and one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Which policy.
    pub policy: PolicyId,
    /// Which model.
    pub fingerprint: Fingerprint,
    /// Which prompts and model: [`super::Policy::fitted_for`] of the policy without an adapter.
    pub fitted_for: FittedFor,
    /// The numbers.
    pub learned: Learned,
    digest: [u8; 32],
}

/// The numbers of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub enum Learned {
    /// `log-odds' = scale · log-odds + direction · v + offset`.
    Probe {
        /// Multiplies what the words say.
        scale: f64,
        /// One number for each component of an embedding.
        direction: Vec<f32>,
        /// Is added.
        offset: f64,
    },
    /// `log-odds' = scale · log-odds(v', prompts') + offset`.
    LowRank {
        /// For pictures.
        image: Side,
        /// For prompts.
        text: Side,
        /// Multiplies what the turned words say.
        scale: f64,
        /// Is added.
        offset: f64,
    },
}

impl Learned {
    /// How it was learned.
    pub fn method(&self) -> Method {
        match self {
            Self::Probe { .. } => Method::Probe,
            Self::LowRank { .. } => Method::Lora,
        }
    }

    /// The same with `log-odds" = factor · log-odds' + by`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "f32 is the models' precision")]
    fn mapped(mut self, factor: f64, by: f64) -> Self {
        if let Self::Probe { direction, .. } = &mut self {
            for x in direction {
                *x = (f64::from(*x) * factor) as f32;
            }
        }
        let (Self::Probe { scale, offset, .. } | Self::LowRank { scale, offset, .. }) = &mut self;
        *scale *= factor;
        *offset = *offset * factor + by;
        self
    }

    /// Whether it fits embeddings of so many components, and holds only numbers.
    pub fn fits(&self, dim: usize) -> bool {
        match self {
            Self::Probe { scale, direction, offset } => {
                let finite = direction.iter().all(|x| x.is_finite());
                direction.len() == dim && finite && scale.is_finite() && offset.is_finite()
            }
            Self::LowRank { image, text, scale, offset } => {
                let finite = scale.is_finite() && offset.is_finite();
                image.fits(dim) && text.fits(dim) && finite
            }
        }
    }
}

impl Adapter {
    /// Takes what was learned. Whether it [fits](Learned::fits) the model is for the caller.
    pub fn new(
        policy: PolicyId,
        fingerprint: Fingerprint,
        fitted_for: FittedFor,
        learned: Learned,
    ) -> Self {
        let digest = digest(&policy, &fitted_for, &learned);
        Self { policy, fingerprint, fitted_for, learned, digest }
    }

    /// `POLICY-METHOD-` and the first six digits of what it holds: the same examples and seed give
    /// the same name. A very long policy id is cut, so that the name can be a policy id itself.
    ///
    /// # Panics
    /// Never: what it is made of makes a policy id.
    pub fn name(&self) -> PolicyId {
        let id: String = self.policy.as_str().chars().take(50).collect();
        let [a, b, c, ..] = self.digest;
        PolicyId::new(format!("{id}-{}-{a:02x}{b:02x}{c:02x}", self.learned.method()))
            .expect("a policy id, a word and hexadecimal digits")
    }

    /// SHA-256 over everything that can change a score.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

fn digest(policy: &PolicyId, fitted_for: &FittedFor, learned: &Learned) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(policy.as_str());
    hasher.update([0]);
    hasher.update(&fitted_for.0);
    let mut numbers = |list: &[f32]| {
        hasher.update((list.len() as u64).to_le_bytes());
        for number in list {
            hasher.update(number.to_le_bytes());
        }
    };
    let last = match learned {
        Learned::Probe { scale, direction, offset } => {
            numbers(direction);
            [*scale, *offset]
        }
        Learned::LowRank { image, text, scale, offset } => {
            for side in [image, text] {
                numbers(&side.down);
                numbers(&side.up);
            }
            [*scale, *offset]
        }
    };
    for number in last {
        hasher.update(number.to_le_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(direction: Vec<f32>) -> Adapter {
        let learned = Learned::Probe { scale: 1.0, direction, offset: 0.0 };
        of("weapons", learned)
    }

    fn of(policy: &str, learned: Learned) -> Adapter {
        let policy = PolicyId::new(policy).expect("a good id");
        Adapter::new(policy, Fingerprint("f".repeat(64)), FittedFor("a-b".into()), learned)
    }

    #[test]
    fn a_name_is_what_the_adapter_holds() {
        let one = adapter(vec![1.0, 2.0]);
        assert!(one.name().as_str().starts_with("weapons-probe-"), "{}", one.name());
        assert_eq!(one.name(), adapter(vec![1.0, 2.0]).name());
        assert_ne!(one.name(), adapter(vec![1.0, 2.5]).name());
        assert!(of(&"a".repeat(64), one.learned.clone()).name().as_str().len() <= 64);
        let mapped = one.learned.clone().mapped(2.0, 0.5);
        let expected = Learned::Probe { scale: 2.0, direction: vec![2.0, 4.0], offset: 0.5 };
        assert_eq!(mapped, expected);
        assert_ne!(one.digest(), of("weapons", mapped).digest());
    }

    #[test]
    fn what_does_not_fit_the_model_is_told() {
        assert!(adapter(vec![1.0, 2.0]).learned.fits(2));
        assert!(!adapter(vec![1.0, 2.0]).learned.fits(3));
        assert!(!adapter(vec![1.0, f32::NAN]).learned.fits(2));
    }
}
