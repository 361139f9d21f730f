//! KL divergence from samples: estimators of one log-ratio, with an optional clip.
//!
//! Samples come from q and `log_r = log p - log q` at the sampled token; the estimate is of
//! KL(q || p). Schulman, "Approximating KL divergence", 2020
//! (<http://joschu.net/blog/kl-approx.html>):
//!
//! | name | value | as an estimate | its gradient, samples fixed, q the policy |
//! | --- | --- | --- | --- |
//! | k1 | `-log_r` | unbiased, noisy | mean zero |
//! | k2 | `log_r^2 / 2` | biased, low variance | that of KL(policy‖ref) |
//! | k3 | `exp(log_r) - 1 - log_r` | unbiased, never negative | that of KL(ref‖policy) |
//! | abs | `abs(log_r)` | of E abs(log_r), not of the KL | mean of sign |
//!
//! A good estimate of the value is not a good gradient. Penalty against the reference: q policy,
//! p ref. Drift inside a step: q old, p policy.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, check_number};
use crate::mask::{as_float, fill_outside, row_lengths};
use crate::ratio::{MAX_LOG_RATIO, summed_log_ratio};
use crate::shape::expect_same;

/// Below this absolute log-ratio, k3 is summed as a series: the closed form cancels.
const SERIES_BELOW: f64 = 0.5;

/// Which function of the log-ratio estimates the KL divergence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `-log_r`: unbiased, noisy, and useless as a loss (its gradient has mean zero).
    K1,
    /// `log_r^2 / 2`: its gradient is that of KL(policy‖ref).
    K2,
    /// `exp(log_r) - 1 - log_r`: unbiased and never negative.
    #[default]
    K3,
    /// `abs(log_r)`.
    Abs,
}

/// What the KL term of a loss charges: an estimate from the sampled token, or the divergence of
/// the whole next-token distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKl {
    /// [`KlEstimator::K1`].
    K1,
    /// [`KlEstimator::K2`].
    K2,
    /// [`KlEstimator::K3`].
    #[default]
    K3,
    /// [`KlEstimator::Abs`].
    Abs,
    /// KL(policy‖ref) summed over the vocabulary ([`exact_kl()`](crate::exact_kl())): no sampling
    /// noise at a position, value and gradient of the same divergence, for one more pass through
    /// both heads.
    Exact,
}

impl LossKl {
    /// The function of the sampled token's log-ratio, if it is one.
    pub fn sampled(self) -> Option<KlEstimator> {
        match self {
            Self::K1 => Some(KlEstimator::K1),
            Self::K2 => Some(KlEstimator::K2),
            Self::K3 => Some(KlEstimator::K3),
            Self::Abs => Some(KlEstimator::Abs),
            Self::Exact => None,
        }
    }
}

/// What one log-ratio is clipped over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipLevel {
    /// Every token's log-ratio.
    #[default]
    Token,
    /// The sum of a completion's token log-ratios: one KL term per sequence.
    Sequence,
}

/// What gradient the clipped region passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipGradient {
    /// None: the clipped value is a constant.
    #[default]
    Zero,
    /// The estimator's derivative at the clipped value, passed through to the log-ratio, so that
    /// a token that has drifted beyond the bound is still pulled back.
    StraightThrough,
}

/// Clip of the log-ratio at plus and minus `tau`, before the estimator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlClip {
    /// Bound of the absolute log-ratio, in nats.
    pub tau: f64,
    /// Token or sequence.
    #[serde(default)]
    pub level: ClipLevel,
    /// What the clipped region passes.
    #[serde(default)]
    pub gradient: ClipGradient,
}

/// A KL penalty against the reference policy: in the reward with a [`KlEstimator`], in the loss
/// with a [`LossKl`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlPenalty<E: Default = KlEstimator> {
    /// Weight of the penalty.
    pub coef: f64,
    /// What is penalised.
    #[serde(default)]
    pub estimator: E,
    /// Clip of the log-ratio; none by default.
    #[serde(default)]
    pub clip: Option<KlClip>,
}

impl<E: Default> KlPenalty<E> {
    /// Checks coefficient and clip.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `coef` is negative, `tau` is not above 0, or one is not finite.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_number("coef", self.coef, "a number of at least 0", |v| v >= 0.0)?;
        match self.clip {
            None => Ok(()),
            Some(clip) => check_number("clip.tau", clip.tau, "a number of nats above 0", |v| {
                v > 0.0
            }),
        }
    }
}

impl KlPenalty<LossKl> {
    /// As [`validate`](Self::validate), and that an exact divergence is clipped as it can be: per
    /// vocabulary entry, so neither over a sequence nor straight through.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the key.
    pub fn validate_in_loss(&self) -> Result<(), ConfigError> {
        self.validate()?;
        let Some(clip) = self.clip.filter(|_| self.estimator == LossKl::Exact) else {
            return Ok(());
        };
        if clip.level == ClipLevel::Sequence {
            let allowed = "token with estimator = exact: its clip is per vocabulary entry";
            return Err(ConfigError::new("clip.level", "sequence", allowed));
        }
        if clip.gradient == ClipGradient::StraightThrough {
            let allowed = "zero with estimator = exact";
            return Err(ConfigError::new(
                "clip.gradient",
                "straight_through",
                allowed,
            ));
        }
        Ok(())
    }
}

/// KL terms per token, with what the clip did to them.
///
/// At sequence level there is one term per completion; it is spread evenly over the completion's
/// tokens, so that in every case the sum over a row is the row's KL.
#[derive(Clone, Debug)]
pub struct KlTerms {
    /// Estimate per token in nats, `[N, C]`; 0 outside the mask.
    pub values: Tensor<2>,
    /// Clipped minus unclipped estimate, the clip's measured bias, `[N, C]`, untracked.
    pub clip_biases: Tensor<2>,
    /// `max(abs(log_r) - tau, 0)`, how far the clip moved the log-ratio, `[N, C]`, untracked.
    pub clip_excesses: Tensor<2>,
    /// 1 where the clip acted (of an exact KL: the probability of the entries it acted on; at sequence level `1 / |y_n|` on every token, so that the sum
    /// counts sequences), `[N, C]`, untracked.
    pub clip_counts: Tensor<2>,
}

/// The estimator as a function of the log-ratio; neither clipped, masked nor aggregated.
///
/// k3's exponent is capped at [`MAX_LOG_RATIO`], so that it cannot overflow (beyond the cap it
/// is constant), and small log-ratios use its series, so that it is never negative.
///
/// Gradient: the derivative, to `log_r`: -1, `log_r`, `exp(log_r) - 1` (0 beyond the cap), sign.
///
/// # Shapes
///
/// - `log_r`, result: any
pub fn estimate<const D: usize>(log_r: Tensor<D>, estimator: KlEstimator) -> Tensor<D> {
    match estimator {
        KlEstimator::K1 => log_r.neg(),
        KlEstimator::K2 => log_r.square().mul_scalar(0.5),
        KlEstimator::K3 => k3(log_r),
        KlEstimator::Abs => log_r.abs(),
    }
}

/// `exp(x) - 1 - x`, by its series near 0 and with x capped above.
fn k3<const D: usize>(log_r: Tensor<D>) -> Tensor<D> {
    let x = log_r.clamp_max(MAX_LOG_RATIO);
    let is_small = x.clone().inner().abs().lower_scalar(SERIES_BELOW);
    // Each branch sees 0 where the other one is taken, so neither can poison the gradient.
    let small = x.clone().mask_fill(is_small.clone().bool_not(), 0.0);
    let large = x.mask_fill(is_small.clone(), 0.0);
    // x^2 (1/2! + x/3! + .. + x^7/9!), innermost coefficient first; the first term left out is
    // below 3e-9 of the sum.
    let inner = [40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0]
        .into_iter()
        .fold(
            small.zeros_like().add_scalar(1.0 / 362_880.0),
            |sum, factorial: f64| (sum * small.clone()).add_scalar(1.0 / factorial),
        );
    let series = small.square() * inner;
    let closed = large.clone().exp().sub_scalar(1.0) - large;
    series + closed
}

/// KL(q‖p) per token from samples of q, with the clip's effect beside it; not aggregated.
///
/// ```text
/// token level      v[n,c] = k(clip(log_r[n,c], -tau, tau))
/// sequence level   v[n,c] = k(clip(sum_c log_r[n,c], -tau, tau)) / |y_n|
/// bias             the same without the clip, subtracted
/// ```
///
/// Estimators: see the module. Clipped KL regularisation: Tang, Chen, He, arXiv 2602.21765.
///
/// Gradient: through the estimator to `log_r`; in the clipped region as [`ClipGradient`] says;
/// zero outside the mask.
///
/// # Shapes
///
/// - `log_r`, `completion_mask`, result: `[N, C]`; anything outside the mask
///
/// # Panics
///
/// If the shapes differ.
pub fn kl_terms(
    log_r: Tensor<2>,
    completion_mask: Tensor<2, Bool>,
    estimator: KlEstimator,
    clip: Option<KlClip>,
) -> KlTerms {
    expect_same(
        "completion_mask",
        completion_mask.dims(),
        "log_r",
        log_r.dims(),
    );
    let log_r = fill_outside(log_r, completion_mask.clone(), 0.0);
    match clip {
        None => {
            let none = log_r.clone().inner().zeros_like();
            KlTerms {
                values: estimate(log_r, estimator),
                clip_biases: none.clone(),
                clip_excesses: none.clone(),
                clip_counts: none,
            }
        }
        Some(clip) => match clip.level {
            ClipLevel::Token => clipped_terms(log_r, estimator, clip),
            ClipLevel::Sequence => spread(
                summed_log_ratio(log_r, completion_mask.clone()),
                completion_mask,
                |sum| clipped_terms(sum, estimator, clip),
            ),
        },
    }
}

/// Terms of log-ratios that are clipped one by one.
fn clipped_terms(log_r: Tensor<2>, estimator: KlEstimator, clip: KlClip) -> KlTerms {
    let raw = log_r.clone().inner();
    let excess = raw.clone().abs().sub_scalar(clip.tau).clamp_min(0.0);
    let clipped = match clip.gradient {
        ClipGradient::Zero => log_r.clamp(-clip.tau, clip.tau),
        ClipGradient::StraightThrough => {
            let shift = raw.clone().clamp(-clip.tau, clip.tau) - raw.clone();
            log_r + shift
        }
    };
    let values = estimate(clipped, estimator);
    KlTerms {
        clip_biases: values.clone().inner() - estimate(raw, estimator),
        clip_counts: as_float(excess.clone().greater_scalar(0.0), &excess),
        clip_excesses: excess,
        values,
    }
}

/// Terms of one log-ratio per row, `[N, 1]`, spread evenly over the row's counted positions.
fn spread(
    sums: Tensor<2>,
    completion_mask: Tensor<2, Bool>,
    terms: impl Fn(Tensor<2>) -> KlTerms,
) -> KlTerms {
    let lengths = row_lengths(completion_mask.clone(), &sums).clamp_min(1.0);
    let weights = as_float(completion_mask, &sums) / lengths;
    let terms = terms(sums);
    KlTerms {
        values: terms.values * weights.clone(),
        clip_biases: terms.clip_biases * weights.clone(),
        clip_excesses: terms.clip_excesses * weights.clone(),
        clip_counts: terms.clip_counts * weights,
    }
}
