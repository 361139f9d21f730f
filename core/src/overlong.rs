//! Completions that were cut off by the length limit: leave them out of the loss, or penalise
//! length softly before the limit.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, check_number};
use crate::shape::expect_axis;

/// What happens to a completion that comes near or hits the length limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Overlong {
    /// Nothing: it is graded and trained on like any other.
    #[default]
    Keep,
    /// A truncated completion leaves the loss (its reward still enters its group's baseline).
    Mask,
    /// DAPO's soft penalty is added to the reward.
    SoftPenalty {
        /// Longest completion in tokens; at this length the penalty is complete.
        max_tokens: usize,
        /// Length of the interval before it over which the penalty grows.
        cache_tokens: usize,
        /// Reward lost at `max_tokens`; 1 in the paper.
        coef: f64,
    },
}

impl Overlong {
    /// Checks the soft penalty's interval.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the interval is empty or longer than `max_tokens`, or `coef` is
    /// negative or not finite.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Keep | Self::Mask => Ok(()),
            Self::SoftPenalty {
                max_tokens,
                cache_tokens,
                coef,
            } => {
                if cache_tokens == 0 || cache_tokens > max_tokens {
                    let allowed = "from 1 to max_tokens";
                    return Err(ConfigError::new("cache_tokens", cache_tokens, allowed));
                }
                check_number("coef", coef, "a number of at least 0", |v| v >= 0.0)
            }
        }
    }
}

/// DAPO's soft overlong penalty of one completion, from -1 to 0; to be added to the reward.
///
/// ```text
///  0                                             if length <= max - cache
/// (max - cache - length) / cache                 if max - cache < length <= max
/// -1                                             if length > max
/// ```
///
/// DAPO, arXiv 2503.14476, eq. 13. A `cache_tokens` of 0 gives the hard step at `max_tokens`.
pub fn soft_overlong_penalty(length_tokens: usize, max_tokens: usize, cache_tokens: usize) -> f64 {
    let free_tokens = max_tokens.saturating_sub(cache_tokens);
    if length_tokens <= free_tokens {
        0.0
    } else if length_tokens > max_tokens {
        -1.0
    } else {
        -((length_tokens - free_tokens) as f64) / cache_tokens as f64
    }
}

/// The completion mask without the rows that were cut off by the length limit.
///
/// DAPO, arXiv 2503.14476, section 3.4 (overlong filtering).
///
/// # Shapes
///
/// - `completion_mask`, result: `[N, C]`
/// - `is_truncated`: `[N]`
///
/// # Panics
///
/// If N differs.
pub fn mask_truncated(
    completion_mask: Tensor<2, Bool>,
    is_truncated: Tensor<1, Bool>,
) -> Tensor<2, Bool> {
    let shape = completion_mask.dims();
    expect_axis(
        "is_truncated",
        "N",
        is_truncated.dims()[0],
        "completion_mask",
        shape[0],
    );
    let is_kept: Tensor<2, Bool> = is_truncated.bool_not().unsqueeze_dim(1);
    completion_mask.bool_and(is_kept.expand(shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_grows_over_the_interval_only() {
        let penalty = |length| soft_overlong_penalty(length, 100, 20);
        assert_eq!(penalty(0), 0.0);
        assert_eq!(penalty(80), 0.0);
        assert_eq!(penalty(81), -0.05);
        assert_eq!(penalty(90), -0.5);
        assert_eq!(penalty(100), -1.0);
        assert_eq!(penalty(101), -1.0);
        assert_eq!(soft_overlong_penalty(100, 100, 0), 0.0);
        assert_eq!(soft_overlong_penalty(101, 100, 0), -1.0);
    }

    #[test]
    fn a_truncated_row_leaves_the_mask() {
        use burn::tensor::{Device, TensorData};
        let device = Device::flex();
        let mask = TensorData::from([[true, true], [true, false], [false, false]]);
        let is_truncated = TensorData::from([true, false, true]);
        let kept = mask_truncated(
            Tensor::from_data(mask, &device),
            Tensor::from_data(is_truncated, &device),
        );
        let kept: alloc::vec::Vec<f32> = kept.float().try_into_vec_as().expect("readable");
        assert_eq!(kept, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn an_interval_outside_the_limit_is_an_error() {
        let soft = |cache_tokens| Overlong::SoftPenalty {
            max_tokens: 8,
            cache_tokens,
            coef: 1.0,
        };
        assert!(soft(8).validate().is_ok());
        assert_eq!(
            soft(9).validate().expect_err("too long").key,
            "cache_tokens"
        );
        assert!(soft(0).validate().is_err());
        assert!(Overlong::Mask.validate().is_ok());
    }
}
