//! A point on the unit sphere of a model, and the name of that model.

use std::fmt;

use half::f16;

/// A unit-length vector of a dual encoder, for a picture or a text.
///
/// The length is the invariant: cosine similarity is then a plain dot product, and an embedding
/// that was never normalised, one of the four things that make zero-shot silently wrong,
/// can't be built.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Vec<f32>);

/// Why a vector is not an embedding.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EmbeddingError {
    /// Zero length, or a NaN or infinite component: the model saw something it can't represent.
    #[error("the model answered a vector without a direction (length {length})")]
    NoDirection {
        /// The Euclidean length that could not be divided by.
        length: f32,
    },
    /// Stored bytes that are not a whole number of 16-bit floats.
    #[error("{bytes} bytes are not a vector of 16-bit floats")]
    Torn {
        /// How many bytes there were.
        bytes: usize,
    },
}

impl Embedding {
    /// Divides by the Euclidean length.
    ///
    /// # Errors
    /// [`EmbeddingError::NoDirection`] for an empty, zero, infinite or NaN vector.
    pub fn normalised(mut vector: Vec<f32>) -> Result<Self, EmbeddingError> {
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "f32 is the models' precision")]
        let length = length as f32;
        if !length.is_finite() || length < f32::MIN_POSITIVE {
            return Err(EmbeddingError::NoDirection { length });
        }
        for component in &mut vector {
            *component /= length;
        }
        Ok(Self(vector))
    }

    /// The normalised mean: prompt ensembling (Radford et al. 2021, section 3.1.4).
    ///
    /// # Errors
    /// [`EmbeddingError::NoDirection`] when there is nothing to average or all cancels out.
    pub fn mean(embeddings: &[Self]) -> Result<Self, EmbeddingError> {
        let dim = embeddings.first().map_or(0, Self::dim);
        let mut sum = vec![0.0; dim];
        for embedding in embeddings {
            sum.iter_mut().zip(&embedding.0).for_each(|(s, x)| *s += x);
        }
        Self::normalised(sum)
    }

    /// Cosine similarity, −1..=1. Both must come from the same model.
    pub fn cosine(&self, other: &Self) -> f32 {
        debug_assert_eq!(self.dim(), other.dim(), "vectors of different models");
        self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum()
    }

    /// Number of components.
    pub fn dim(&self) -> usize {
        self.0.len()
    }

    /// The components.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Two little-endian bytes a component, as the store keeps it. A unit vector loses
    /// less than 0.001 of cosine that way.
    pub fn to_f16_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()
    }

    /// Reads back [`Embedding::to_f16_bytes`], normalising again after the rounding.
    ///
    /// # Errors
    /// [`EmbeddingError::Torn`] for an odd number of bytes, `NoDirection` as in `normalised`.
    pub fn from_f16_bytes(bytes: &[u8]) -> Result<Self, EmbeddingError> {
        let (pairs, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(EmbeddingError::Torn { bytes: bytes.len() });
        }
        Self::normalised(pairs.iter().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect())
    }
}

/// Names a model by its content: SHA-256 (hexadecimal) of its `model.yaml`, which in turn holds
/// the hash of every file. Vectors of different fingerprints are never compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub String);

impl Fingerprint {
    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_embedding_has_length_one() {
        let embedding = Embedding::normalised(vec![3.0, 4.0]).expect("has a direction");
        assert_eq!(embedding.as_slice(), [0.6, 0.8]);
        assert!((embedding.cosine(&embedding) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_vector_without_direction_is_refused() {
        for vector in [vec![], vec![0.0; 4], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert!(Embedding::normalised(vector).is_err());
        }
        assert!(Embedding::mean(&[]).is_err());
    }

    #[test]
    fn the_mean_is_normalised_again() {
        let unit = |v: [f32; 2]| Embedding::normalised(v.to_vec()).expect("has a direction");
        let mean = Embedding::mean(&[unit([1.0, 0.0]), unit([0.0, 1.0])]).expect("has a direction");
        assert!((mean.as_slice()[0] - 0.5_f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn torn_bytes_are_refused() {
        assert_eq!(Embedding::from_f16_bytes(&[1, 2, 3]), Err(EmbeddingError::Torn { bytes: 3 }));
    }

    proptest! {
        #[test]
        fn half_precision_costs_less_than_a_thousandth(
            vector in proptest::collection::vec(-1.0_f32..1.0, 16..600),
        ) {
            prop_assume!(vector.iter().any(|x| x.abs() > 0.01));
            let full = Embedding::normalised(vector).expect("has a direction");
            let half = Embedding::from_f16_bytes(&full.to_f16_bytes()).expect("reads back");
            prop_assert!(full.cosine(&half) > 0.999);
        }
    }
}
