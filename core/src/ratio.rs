//! Log-ratios and ratios of two policies, per token or per sequence.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::mask::{fill_outside, masked_row_mean, masked_row_sum};
use crate::shape::expect_same;

/// Largest absolute log-ratio that is exponentiated: `exp(20)` is about 4.9e8, and its square
/// is still finite in 32 bits. Beyond it the ratio is constant and passes no gradient.
pub const MAX_LOG_RATIO: f64 = 20.0;

/// What one ratio is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioLevel {
    /// One ratio per token: `p_policy(token) / p_old(token)`.
    #[default]
    Token,
    /// One ratio per sequence, the geometric mean of its token ratios (GSPO).
    Sequence,
}

/// `numerator - denominator` inside the mask and 0 outside; not exponentiated, not clamped.
///
/// ```text
/// log_ratio = log p_numerator(token) - log p_denominator(token)
/// ```
///
/// Gradient: to both arguments if they are tracked, zero outside the mask; pass a detached
/// denominator.
///
/// # Shapes
///
/// - `numerator`, `denominator`, `completion_mask`, result: `[N, C]`
///
/// # Panics
///
/// If the shapes differ.
pub fn log_ratio(
    numerator: Tensor<2>,
    denominator: Tensor<2>,
    completion_mask: Tensor<2, Bool>,
) -> Tensor<2> {
    expect_same(
        "denominator",
        denominator.dims(),
        "numerator",
        numerator.dims(),
    );
    fill_outside(numerator - denominator, completion_mask, 0.0)
}

/// Length-normalised log-ratio of each sequence, repeated over its positions.
///
/// ```text
/// log s_n = (1 / |y_n|) sum_c (log p_policy - log p_old)[n, c]
/// ```
///
/// Zheng et al., Group Sequence Policy Optimization, arXiv 2507.18071, eq. 7.
///
/// Gradient: `1 / |y_n|` to each counted token's log-ratio.
///
/// # Shapes
///
/// - `log_ratio`, `completion_mask`, result: `[N, C]`
///
/// # Panics
///
/// If the shapes differ.
pub fn sequence_log_ratio(log_ratio: Tensor<2>, completion_mask: Tensor<2, Bool>) -> Tensor<2> {
    let shape = log_ratio.dims();
    masked_row_mean(log_ratio, completion_mask).expand(shape)
}

/// Summed log-ratio of each sequence: the log of the whole completion's ratio, not normalised.
///
/// # Shapes
///
/// - `log_ratio`, `completion_mask`: `[N, C]`
/// - result: `[N, 1]`
///
/// # Panics
///
/// If the shapes differ.
pub fn summed_log_ratio(log_ratio: Tensor<2>, completion_mask: Tensor<2, Bool>) -> Tensor<2> {
    masked_row_sum(log_ratio, completion_mask)
}

/// `exp(log_ratio)`, with the exponent clamped to [`MAX_LOG_RATIO`] on both sides; not clipped
/// in PPO's sense.
///
/// Gradient: `ratio` inside the clamp, zero beyond it.
///
/// # Shapes
///
/// - `log_ratio`, result: any
pub fn ratio<const D: usize>(log_ratio: Tensor<D>) -> Tensor<D> {
    log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
}
