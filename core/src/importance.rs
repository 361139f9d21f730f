//! Correction for the gap between the sampler's and the trainer's probabilities.
//!
//! Completions are drawn by the decoding path (another kernel, another precision, older
//! weights); the trainer's forward pass assigns its own probabilities to the same tokens. The
//! weight `p_old / p_sampler` corrects the expectation and is bounded for its variance.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, check_number};
use crate::ratio::{log_ratio, ratio, summed_log_ratio};

/// What one importance weight is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceLevel {
    /// One weight per token.
    #[default]
    Token,
    /// One weight per completion: the product of its token ratios.
    Sequence,
}

/// How the weight is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ImportanceBound {
    /// `min(w, cap)` (TIS).
    Truncate {
        /// Upper bound of the weight.
        cap: f64,
    },
    /// `w` where `low <= w <= high`, else 0 (MIS with `low = 0`, IcePop with both).
    Mask {
        /// Smallest weight that counts.
        #[serde(default)]
        low: f64,
        /// Largest weight that counts.
        high: f64,
    },
}

/// The sampler-trainer correction of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportanceCorrection {
    /// Token or sequence.
    #[serde(default)]
    pub level: ImportanceLevel,
    /// Truncate or mask.
    pub bound: ImportanceBound,
}

impl ImportanceCorrection {
    /// Checks the bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a cap is not positive, `low` is negative, or `high` is below `low`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self.bound {
            ImportanceBound::Truncate { cap } => {
                check_number("bound.cap", cap, "a number above 0", |v| v > 0.0)
            }
            ImportanceBound::Mask { low, high } => {
                check_number("bound.low", low, "a number of at least 0", |v| v >= 0.0)?;
                check_number("bound.high", high, "a number above bound.low", |v| v > low)
            }
        }
    }
}

/// Bounded importance weights and where the bound acted.
#[derive(Clone, Debug)]
pub struct ImportanceWeights {
    /// Weight of each token's surrogate, `[N, C]`, untracked; 1 outside the completion mask at
    /// token level.
    pub weights: Tensor<2>,
    /// Where the weight was truncated or masked, `[N, C]`.
    pub is_bounded: Tensor<2, Bool>,
}

/// Bounded weight `p_old / p_sampler` of each token; to be multiplied into the surrogate.
///
/// ```text
/// w = exp(log p_old - log p_sampler)                token level
/// w = exp(sum_c (log p_old - log p_sampler)[n, c])  sequence level
/// Truncate: min(w, cap)        Mask: w 1[low <= w <= high]
/// ```
///
/// Truncated importance sampling: Yao et al., "Your efficient RL framework secretly brings you
/// off-policy RL training", 2025; masking: Ring-1T (IcePop), arXiv 2510.18855. The exponent is
/// clamped as in [`ratio`].
///
/// Gradient: none.
///
/// # Shapes
///
/// - `old_logprobs`, `sampler_logprobs`, `completion_mask`, result: `[N, C]`
///
/// # Panics
///
/// If the shapes differ.
pub fn importance_weights(
    old_logprobs: Tensor<2>,
    sampler_logprobs: Tensor<2>,
    completion_mask: Tensor<2, Bool>,
    correction: ImportanceCorrection,
) -> ImportanceWeights {
    let shape = old_logprobs.dims();
    let mask = completion_mask.inner();
    let gap = log_ratio(old_logprobs.inner(), sampler_logprobs.inner(), mask.clone());
    let weights = ratio(match correction.level {
        ImportanceLevel::Token => gap,
        ImportanceLevel::Sequence => summed_log_ratio(gap, mask).expand(shape),
    });
    match correction.bound {
        ImportanceBound::Truncate { cap } => ImportanceWeights {
            is_bounded: weights.clone().greater_scalar(cap),
            weights: weights.clamp_max(cap),
        },
        ImportanceBound::Mask { low, high } => {
            let is_bounded = weights
                .clone()
                .lower_scalar(low)
                .bool_or(weights.clone().greater_scalar(high));
            ImportanceWeights {
                weights: weights.mask_fill(is_bounded.clone(), 0.0),
                is_bounded,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use burn::tensor::Device;

    /// Old over sampler probabilities of 3, 1.99, 2.01, 0.1 and 1e9; the last lies outside the mask.
    #[test]
    fn weights_are_cut_at_two_where_log_probs_differ_by_more_than_ln_2() {
        let device = Device::default();
        let ratios = [3f32, 1.99, 2.01, 0.1, 1e9];
        let sampler = [-1.5, -0.1, -7.0, -3.0, -20.0];
        let old: Vec<f32> = sampler
            .iter()
            .zip(ratios)
            .map(|(sampler, ratio)| sampler + ratio.ln())
            .collect();
        let row = |values: &[f32]| Tensor::<1>::from_floats(values, &device).unsqueeze::<2>();
        let mask = row(&[1.0, 1.0, 1.0, 1.0, 0.0]).greater_scalar(0.0);
        let found = importance_weights(
            row(&old),
            row(&sampler),
            mask,
            ImportanceCorrection {
                level: ImportanceLevel::Token,
                bound: ImportanceBound::Truncate { cap: 2.0 },
            },
        );
        let weights: Vec<f32> = found.weights.into_data().iter().collect();
        for (weight, expected) in weights.iter().zip([2.0, 1.99, 2.0, 0.1, 1.0]) {
            assert!((weight - expected).abs() < 1e-5, "{weights:?}");
        }
        let is_bounded: Vec<bool> = found.is_bounded.into_data().iter().collect();
        assert_eq!(is_bounded, [true, false, true, false, false]);
    }
}
