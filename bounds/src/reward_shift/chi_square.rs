//! R1: chi-square, the published reward-shift term. **Plug-in**: `E w` cannot be certified.
//!
//! **Assumptions.** D_theta is absolutely continuous with respect to D_tr; chi2 and L2 are finite.
//!
//! **Constants.** `E_theta|e| <= sqrt(1 + chi2) sqrt(L2)`, `1 + chi2 = E_theta w`, `L2 = E_tr e^2`
//! (Tang, Chen, He, arXiv 2602.21765). By Jensen `1 + chi2 >= e^KL`: it explodes with the KL, and
//! the sample mean of w then misses its own tail. A share of the largest weight above
//! [`RELIABLE_SHARE`] says so.

use libm::{exp, log, sqrt};

use crate::bound::{Bound, Standing, inputs};
use crate::distribution::Distribution;
use crate::error::{Result, check_unit};
use crate::sample::Rows;
use crate::sums::{mean, variance};

/// Share of the largest weight above which the coverage is an unreliable lower estimate.
pub const RELIABLE_SHARE: f64 = 0.05;

/// What the importance weights say about coverage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coverage {
    /// `E w - 1`.
    pub chi2: f64,
    /// `sqrt(E w)`.
    pub c: f64,
    /// Share of the largest weight in the sum.
    pub max_share: f64,
    /// Effective sample size, `(sum w)^2 / sum w^2`, as a share of the sample's mass.
    pub ess_frac: f64,
}

impl Coverage {
    /// False if one weight carries too much of the estimate.
    pub fn is_reliable(&self) -> bool {
        self.max_share <= RELIABLE_SHARE
    }
}

/// Coverage from log-weights under the policy.
pub fn coverage(logw: &Distribution<'_>) -> Coverage {
    let log_first = logw.log_mean_exp();
    let top = logw.max();
    let log_second = 2.0 * top + log(logw.mean_of(|lw| exp(2.0 * (lw - top))));
    let largest = logw
        .atoms()
        .map(|(lw, weight)| weight * exp(lw - log_first))
        .fold(0.0, f64::max);
    Coverage {
        chi2: libm::expm1(log_first),
        c: exp(0.5 * log_first),
        max_share: largest,
        ess_frac: exp(2.0 * log_first - log_second),
    }
}

/// R1 from log-weights and the mean squared reward error.
///
/// # Errors
/// If `l2` is outside `[0, 1]`.
pub fn chi_square(logw: &Distribution<'_>, l2: f64) -> Result<Bound> {
    let l2 = check_unit("l2", l2)?;
    let found = coverage(logw);
    let named = inputs([
        ("chi2", found.chi2),
        ("l2", l2),
        ("max_share", found.max_share),
    ]);
    let value = found.c * sqrt(l2);
    Ok(Bound::new("R1", Standing::PlugIn, 0.0, value, named))
}

/// Mean of `e^-l` over per-prompt means and its standard error. It is at most 1 in expectation
/// for log-ratios to any other policy; clearly above 1 means that the log-probs are not those of
/// the distribution that was sampled (temperature, truncation of the distribution, engine, mask).
///
/// # Errors
/// If there are fewer than two prompts.
pub fn mean_inverse_ratio(l: Rows<'_>) -> Result<(f64, f64)> {
    let n = crate::error::check_count("prompts", l.n(), 2)?;
    let per_prompt: alloc::vec::Vec<f64> = l
        .iter()
        .map(|row| crate::sums::sum(row.iter().map(|value| exp(-value))) / row.len() as f64)
        .collect();
    Ok((mean(&per_prompt), sqrt(variance(&per_prompt) / n)))
}
