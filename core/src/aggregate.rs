//! From per-token values to one number, with denominators that the caller passes in.
//!
//! A micro-batch does not know its batch, so every aggregation divides by the *batch's* counts:
//! the aggregates of the micro-batches then add up to the batch's, and so do their gradients.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::mask::{masked_mean, masked_row_mean, masked_sum};
use crate::shape::expect_same;

/// How tokens and sequences are weighted against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Aggregation {
    /// Every token of the batch weighs the same (DAPO).
    #[default]
    TokenMean,
    /// Every sequence weighs the same, its tokens sharing its weight (GRPO).
    SequenceMean,
    /// Sum over tokens divided by a constant length per sequence (Dr. GRPO).
    FixedLength {
        /// The constant, usually the longest completion allowed.
        tokens: usize,
    },
    /// Mean over the tokens of the micro-batch at hand, weighted by its share of the batch's
    /// sequences (BNPO as implemented by TRL). Depends on how the batch is cut, on purpose.
    LocalTokenMean,
}

impl Aggregation {
    /// Checks the fixed length.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a fixed length is 0.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match *self {
            Self::FixedLength { tokens: 0 } => {
                Err(ConfigError::new("tokens", 0, "a length of at least 1"))
            }
            Self::FixedLength { .. }
            | Self::TokenMean
            | Self::SequenceMean
            | Self::LocalTokenMean => Ok(()),
        }
    }
}

/// Counts of the whole batch that one optimizer step is taken on, over all its micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denominators {
    /// Completion tokens in the loss: true positions of every completion mask.
    pub num_tokens: usize,
    /// Sequences: rows, counting those whose mask is empty.
    pub num_sequences: usize,
}

impl Denominators {
    /// `num_tokens` as a divisor: at least one, so that an empty batch gives 0 and not NaN.
    pub(crate) fn tokens(&self) -> f64 {
        self.num_tokens.max(1) as f64
    }

    /// `num_sequences` as a divisor: at least one.
    pub(crate) fn sequences(&self) -> f64 {
        self.num_sequences.max(1) as f64
    }
}

/// One number from per-token values.
///
/// ```text
/// TokenMean        sum_{n,c} v / num_tokens
/// SequenceMean     sum_n (1 / |y_n|) sum_c v / num_sequences
/// FixedLength L    sum_{n,c} v / (num_sequences L)
/// LocalTokenMean   (N / num_sequences) sum_{n,c} v / sum_n |y_n|       over this micro-batch
/// ```
///
/// DAPO, arXiv 2503.14476, eq. 8; DeepSeekMath (GRPO), arXiv 2402.03300, eq. 3; Liu et al.
/// (Dr. GRPO), arXiv 2503.20783, section 3.2; Xiao et al. (BNPO), arXiv 2506.02864, with TRL's
/// local denominator.
///
/// Gradient: the weight of each counted position, zero elsewhere.
///
/// # Shapes
///
/// - `values`, `completion_mask`: `[N, C]`; anything outside the mask
/// - result: `[1]`
///
/// # Panics
///
/// If the shapes differ.
pub fn aggregate(
    values: Tensor<2>,
    completion_mask: Tensor<2, Bool>,
    aggregation: Aggregation,
    denominators: Denominators,
) -> Tensor<1> {
    expect_same(
        "completion_mask",
        completion_mask.dims(),
        "values",
        values.dims(),
    );
    let num_rows = values.dims()[0] as f64;
    match aggregation {
        Aggregation::TokenMean => {
            masked_sum(values, completion_mask).div_scalar(denominators.tokens())
        }
        Aggregation::SequenceMean => masked_row_mean(values, completion_mask)
            .sum()
            .div_scalar(denominators.sequences()),
        Aggregation::FixedLength { tokens } => masked_sum(values, completion_mask)
            .div_scalar(denominators.sequences() * tokens.max(1) as f64),
        Aggregation::LocalTokenMean => {
            masked_mean(values, completion_mask).mul_scalar(num_rows / denominators.sequences())
        }
    }
}
