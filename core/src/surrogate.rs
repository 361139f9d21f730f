//! Policy-gradient surrogates per token: to be *maximised*, before any aggregation.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, check_number};
use crate::ratio::ratio;
use crate::shape::expect_same;

/// How a ratio and an advantage become one number per token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Surrogate {
    /// PPO's clipped surrogate, with separate sides and an optional dual clip.
    Clipped {
        /// The ratio is not rewarded for falling below `1 - clip_low`.
        clip_low: f64,
        /// The ratio is not rewarded for rising above `1 + clip_high`.
        clip_high: f64,
        /// Bound `c > 1` on the ratio where the advantage is negative.
        #[serde(default)]
        dual_clip: Option<f64>,
    },
    /// CISPO: a clipped, detached weight times the log-prob; no token loses its gradient.
    Cispo {
        /// The weight is at least `1 - clip_low`; without it, the weight has no lower bound.
        #[serde(default)]
        clip_low: Option<f64>,
        /// The weight is at most `1 + clip_high`.
        clip_high: f64,
    },
}

impl Default for Surrogate {
    /// Clip-higher as in DAPO: 0.2 below, 0.28 above, no dual clip.
    fn default() -> Self {
        Self::Clipped {
            clip_low: 0.2,
            clip_high: 0.28,
            dual_clip: None,
        }
    }
}

impl Surrogate {
    /// Checks the clip bounds.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `clip_low` is outside [0, 1], `clip_high` is negative, `dual_clip` is
    /// not above 1, or one of them is not finite.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (low, high, dual) = match *self {
            Self::Clipped {
                clip_low,
                clip_high,
                dual_clip,
            } => (Some(clip_low), clip_high, dual_clip),
            Self::Cispo {
                clip_low,
                clip_high,
            } => (clip_low, clip_high, None),
        };
        if let Some(low) = low {
            check_number("clip_low", low, "a number from 0 to 1", |v| {
                (0.0..=1.0).contains(&v)
            })?;
        }
        check_number("clip_high", high, "a number of at least 0", |v| v >= 0.0)?;
        if let Some(dual) = dual {
            check_number("dual_clip", dual, "a number above 1", |v| v > 1.0)?;
        }
        Ok(())
    }
}

/// A surrogate per token and the positions where a clip decided its value.
#[derive(Clone, Debug)]
pub struct SurrogateTerms {
    /// The value to be maximised, `[N, C]`; meaningless outside the completion mask.
    pub values: Tensor<2>,
    /// Where the lower clip holds the value (for `Cispo`: the weight), `[N, C]`.
    pub is_clipped_low: Tensor<2, Bool>,
    /// Where the upper clip or the dual clip holds the value (for `Cispo`: the weight), `[N, C]`.
    pub is_clipped_high: Tensor<2, Bool>,
}

/// The surrogate that `kind` names; neither masked nor aggregated.
///
/// See [`clipped_surrogate`] and [`cispo_surrogate`] for formulas, citations and gradients.
///
/// # Shapes
///
/// - `log_ratio`, `logprobs`, `advantages`, result: `[N, C]`
///
/// # Panics
///
/// If the shapes differ.
pub fn surrogate(
    kind: Surrogate,
    log_ratio: Tensor<2>,
    logprobs: Tensor<2>,
    advantages: Tensor<2>,
) -> SurrogateTerms {
    match kind {
        Surrogate::Clipped {
            clip_low,
            clip_high,
            dual_clip,
        } => clipped_surrogate(log_ratio, advantages, clip_low, clip_high, dual_clip),
        Surrogate::Cispo {
            clip_low,
            clip_high,
        } => cispo_surrogate(log_ratio, logprobs, advantages, clip_low, clip_high),
    }
}

/// PPO's clipped surrogate; neither masked nor aggregated, and not negated.
///
/// ```text
/// v = min(r A, clip(r, 1 - clip_low, 1 + clip_high) A),   r = exp(log_ratio)
/// with a dual clip c, where A < 0:   max(v, c A)
/// ```
///
/// Schulman et al., arXiv 1707.06347, eq. 7; separate sides: DAPO, arXiv 2503.14476, eq. 10;
/// dual clip: Ye et al., arXiv 1912.09729.
///
/// Gradient: `A r` to `log_ratio` where the unclipped branch decides, zero where a clip does;
/// at a bound exactly, the unclipped branch. None to `advantages`.
///
/// # Shapes
///
/// - `log_ratio`, `advantages`, result: `[N, C]`; `log_ratio` must be safe (0 outside the mask)
///
/// # Panics
///
/// If the shapes differ.
pub fn clipped_surrogate(
    log_ratio: Tensor<2>,
    advantages: Tensor<2>,
    clip_low: f64,
    clip_high: f64,
    dual_clip: Option<f64>,
) -> SurrogateTerms {
    expect_same(
        "advantages",
        advantages.dims(),
        "log_ratio",
        log_ratio.dims(),
    );
    let ratio = ratio(log_ratio);
    let detached = ratio.clone().inner();
    let advantages = advantages.inner();
    let is_positive = advantages.clone().greater_scalar(0.0);
    let is_negative = advantages.clone().lower_scalar(0.0);
    let is_clipped_low = detached
        .clone()
        .lower_scalar(1.0 - clip_low)
        .bool_and(is_negative.clone());
    let is_above = detached
        .clone()
        .greater_scalar(1.0 + clip_high)
        .bool_and(is_positive);
    let is_clipped_high = match dual_clip {
        None => is_above.clone(),
        Some(bound) => {
            let is_beyond = detached.greater_scalar(bound).bool_and(is_negative);
            is_above.clone().bool_or(is_beyond)
        }
    };
    // Where a clip decides, the ratio is its constant bound: no gradient by construction.
    let mut bounded = ratio.mask_fill(is_clipped_low.clone(), 1.0 - clip_low);
    if let Some(bound) = dual_clip {
        bounded = bounded.mask_fill(is_clipped_high.clone(), bound);
    }
    let bounded = bounded.mask_fill(is_above, 1.0 + clip_high);
    SurrogateTerms {
        values: bounded * advantages,
        is_clipped_low,
        is_clipped_high,
    }
}

/// CISPO's surrogate: REINFORCE with a clipped importance weight; neither masked nor aggregated,
/// and not negated.
///
/// ```text
/// v = stop_gradient(clip(r, 1 - clip_low, 1 + clip_high)) A log p_policy,   r = exp(log_ratio)
/// ```
///
/// MiniMax-M1, arXiv 2506.13585, eq. 4 and 5. The paper tunes the upper bound only.
///
/// Gradient: the clipped weight times `A` to `logprobs`, at every token; none through the ratio.
///
/// # Shapes
///
/// - `log_ratio`, `logprobs`, `advantages`, result: `[N, C]`; both logs must be safe (0 outside
///   the mask)
///
/// # Panics
///
/// If the shapes differ.
pub fn cispo_surrogate(
    log_ratio: Tensor<2>,
    logprobs: Tensor<2>,
    advantages: Tensor<2>,
    clip_low: Option<f64>,
    clip_high: f64,
) -> SurrogateTerms {
    expect_same(
        "advantages",
        advantages.dims(),
        "log_ratio",
        log_ratio.dims(),
    );
    expect_same("logprobs", logprobs.dims(), "log_ratio", log_ratio.dims());
    let weight = ratio(log_ratio.inner());
    let low = clip_low.map_or(0.0, |low| 1.0 - low);
    let is_clipped_low = weight.clone().lower_scalar(low);
    let is_clipped_high = weight.clone().greater_scalar(1.0 + clip_high);
    let weight = weight.clamp(low, 1.0 + clip_high);
    SurrogateTerms {
        values: logprobs * (weight * advantages.inner()),
        is_clipped_low,
        is_clipped_high,
    }
}
