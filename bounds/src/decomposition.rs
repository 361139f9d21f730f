//! The exact decomposition of the measured error. An identity: it holds to rounding error.
//!
//! ```text
//! J_hat - S = [J_hat - mean f] + mean(r - r*) + kl_coef mean(l - l_tau)
//!             sampling           reward         clip
//! S = mean(r* - kl_coef l),   f = r - kl_coef l_tau,   over held-out rollouts
//! ```

use crate::error::{BoundsError, Result, check, check_finite, check_not_negative};
use crate::sums::{mean, sum};

/// Parts of the measured error, in reward units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decomposition {
    /// Empirical objective minus the mean held-out score: sampling and selection.
    pub sampling: f64,
    /// Mean error of the reward.
    pub reward: f64,
    /// What the clip took off the KL term.
    pub clip: f64,
    /// The measured error.
    pub total: f64,
    /// Total minus the parts; anything but rounding error is a bug.
    pub residual: f64,
}

/// What was scored on held-out rollouts; every slice has one value per rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored<'a> {
    /// Reward of the run.
    pub reward: &'a [f64],
    /// True reward.
    pub truth: &'a [f64],
    /// Sequence log-ratio to the reference.
    pub log_ratio: &'a [f64],
}

/// Splits `j_hat - mean(truth - kl_coef l)`.
///
/// # Errors
/// If the lengths differ, a value is not finite, or `tau` or `kl_coef` is negative.
pub fn decompose(
    j_hat: f64,
    held_out: Scored<'_>,
    tau: f64,
    kl_coef: f64,
) -> Result<Decomposition> {
    check("j_hat", j_hat, "finite", |_| true)?;
    let (tau, kl_coef) = (
        check_not_negative("tau", tau)?,
        check_not_negative("kl_coef", kl_coef)?,
    );
    let Scored {
        reward,
        truth,
        log_ratio,
    } = held_out;
    check_finite("reward", reward)?;
    check_finite("truth", truth)?;
    check_finite("log_ratio", log_ratio)?;
    if reward.len() != truth.len() || reward.len() != log_ratio.len() {
        return Err(BoundsError::Shape(
            "reward, truth and log_ratio differ in length",
        ));
    }
    let n = reward.len() as f64;
    let clipped = |l: f64| l.clamp(-tau, tau);
    let score = mean(reward) - kl_coef * sum(log_ratio.iter().map(|&l| clipped(l))) / n;
    let target = mean(truth) - kl_coef * mean(log_ratio);
    let shift = sum(reward.iter().zip(truth).map(|(r, t)| r - t)) / n;
    let clip = kl_coef * sum(log_ratio.iter().map(|&l| l - clipped(l))) / n;
    let (sampling, total) = (j_hat - score, j_hat - target);
    Ok(Decomposition {
        sampling,
        reward: shift,
        clip,
        total,
        residual: total - (sampling + shift + clip),
    })
}
