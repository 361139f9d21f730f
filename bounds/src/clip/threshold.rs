//! C3, C4: the best threshold. **A rule**: a tau picked on the sample it is used on is only a
//! heuristic. Pick it on pilot prompts, or on a grid of G values at `log(4G/delta)`.
//!
//! **Assumptions.** alpha is the sampling rate of the bound that tau will enter (S1 or S2 at
//! range 1), `E|l|` is finite.
//!
//! **Constants.** The bound as a function of tau,
//!
//! ```text
//! h(tau) = alpha (1 + 2 kl_coef tau) + kl_coef E(|l| - tau)_+
//! ```
//!
//! is convex with slope `kl_coef (2 alpha - P(|l| > tau))`, so
//!
//! ```text
//! tau* = the (1 - 2 alpha) quantile of |l|;  0 where 2 alpha >= 1
//! h(tau*) = alpha + 2 alpha kl_coef CVaR_{1 - 2 alpha}(|l|)
//! asymmetric: a_lo, a_hi = the alpha and 1 - alpha quantiles of l
//! ```
//!
//! tau*: Tang, Chen, He, arXiv 2602.21765; CVaR form: Rockafellar and Uryasev 2000. tau* does not
//! depend on the KL coefficient.

use crate::distribution::Distribution;
use crate::error::{Result, check, check_not_negative, check_positive};

/// C3: the best symmetric threshold for the rate `alpha`.
///
/// # Errors
/// If `alpha` is not above 0.
pub fn tau_star(l: &Distribution<'_>, alpha: f64) -> Result<f64> {
    let alpha = check_positive("alpha", alpha)?;
    if 2.0 * alpha >= 1.0 {
        return Ok(0.0);
    }
    Ok(l.quantile_of(1.0 - 2.0 * alpha, f64::abs))
}

/// C4: the best clip `[a_lo, a_hi]`, never worse than the symmetric one. The log-ratio has a
/// positive mean, so even `a_lo` may be above 0.
///
/// # Errors
/// If `alpha` is not in (0, 1/2).
pub fn tau_star_asym(l: &Distribution<'_>, alpha: f64) -> Result<(f64, f64)> {
    check("alpha", alpha, "above 0 and below 1/2", |v| {
        v > 0.0 && v < 0.5
    })?;
    let at = |level: f64| l.quantile_of(level, |value| value);
    Ok((at(alpha), at(1.0 - alpha)))
}

/// h(tau).
///
/// # Errors
/// If `tau` or `kl_coef` is negative or `alpha` is not above 0.
pub fn clip_objective(l: &Distribution<'_>, tau: f64, alpha: f64, kl_coef: f64) -> Result<f64> {
    let tau = check_not_negative("tau", tau)?;
    clip_objective_asym(l, (-tau, tau), alpha, kl_coef)
}

/// The same for a clip `[a_lo, a_hi]`, of range `1 + kl_coef (a_hi - a_lo)`.
///
/// # Errors
/// If `a_lo` is above `a_hi`, `kl_coef` is negative, or `alpha` is not above 0.
pub fn clip_objective_asym(
    l: &Distribution<'_>,
    (a_lo, a_hi): (f64, f64),
    alpha: f64,
    kl_coef: f64,
) -> Result<f64> {
    let alpha = check_positive("alpha", alpha)?;
    let kl_coef = check_not_negative("kl_coef", kl_coef)?;
    check("a_hi", a_hi, "finite", |_| true)?;
    check("a_lo", a_lo, "at most a_hi", |v| v <= a_hi)?;
    let outside = l.mean_of(|l| (l - a_hi).max(0.0) + (a_lo - l).max(0.0));
    Ok(alpha * (1.0 + kl_coef * (a_hi - a_lo)) + kl_coef * outside)
}
