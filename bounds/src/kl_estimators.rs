//! Estimators of `KL(policy‖reference)` from `l = log policy - log reference` at samples of the
//! policy: their bias and variance, with and without a clip.
//!
//! ```text
//! k1 = l             unbiased
//! k2 = l^2 / 2       biased
//! k3 = e^-l - 1 + l  unbiased, never negative
//! exact              sum over the vocabulary, averaged over positions: no more variance than k1
//! ```
//!
//! Schulman 2020 (<http://joschu.net/blog/kl-approx.html>); exact terms: Amini et al., arXiv
//! 2504.10637. For `l ~ N(k, 2k)`: `E k2 = k + k^2/2`, `Var k1 = 2k`, `Var k2 = 2k^3 + 2k^2`,
//! `Var k3 = e^(2k) - 1 - 2k`, so k3 has the smaller variance only below [`K3_CROSSING`].

use libm::{exp, expm1};

use crate::distribution::Distribution;
use crate::error::{BoundsError, Result, check, check_finite, check_not_negative};
use crate::sums::sum;

/// KL in nats above which k3 has more variance than k1, for a Gaussian log-ratio.
pub const K3_CROSSING: f64 = 0.628_215_604;

/// `l`.
pub fn k1(l: f64) -> f64 {
    l
}

/// `l^2 / 2`.
pub fn k2(l: f64) -> f64 {
    0.5 * l * l
}

/// `e^-l - 1 + l`.
pub fn k3(l: f64) -> f64 {
    (expm1(-l) + l).max(0.0)
}

/// Which estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// [`k1`].
    K1,
    /// [`k2`].
    K2,
    /// [`k3`].
    K3,
}

impl Estimator {
    /// Its value at one log-ratio.
    pub fn at(self, l: f64) -> f64 {
        match self {
            Self::K1 => k1(l),
            Self::K2 => k2(l),
            Self::K3 => k3(l),
        }
    }
}

/// Bias and variance of one term of an estimator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Expectation minus the KL.
    pub bias: f64,
    /// Variance.
    pub variance: f64,
}

/// Bias and variance under a distribution of l, whose mean is the KL.
pub fn moments(l: &Distribution<'_>, estimator: Estimator) -> Moments {
    moments_of(l, |l| estimator.at(l))
}

fn moments_of(l: &Distribution<'_>, value: impl Fn(f64) -> f64) -> Moments {
    Moments {
        bias: l.mean_of(&value) - l.mean(),
        variance: l.variance_of(value),
    }
}

/// Bias and variance of k1 with l clipped at plus and minus `tau`: range `2 tau`.
///
/// # Errors
/// If `tau` is negative.
pub fn clipped_k1(l: &Distribution<'_>, tau: f64) -> Result<Moments> {
    let tau = check_not_negative("tau", tau)?;
    Ok(moments_of(l, |l| l.clamp(-tau, tau)))
}

/// Bias and variance of `min(k3, cap)`: range `cap`, bias never positive.
///
/// # Errors
/// If `cap` is negative.
pub fn capped_k3(l: &Distribution<'_>, cap: f64) -> Result<Moments> {
    let cap = check_not_negative("cap", cap)?;
    Ok(moments_of(l, |l| k3(l).min(cap)))
}

/// Bias and variance for a Gaussian log-ratio of KL `k`.
///
/// # Errors
/// If `k` is negative.
pub fn gaussian_moments(k: f64, estimator: Estimator) -> Result<Moments> {
    let k = check_not_negative("k", k)?;
    let (bias, variance) = match estimator {
        Estimator::K1 => (0.0, 2.0 * k),
        Estimator::K2 => (0.5 * k * k, 2.0 * k * k * k + 2.0 * k * k),
        Estimator::K3 => (0.0, expm1(2.0 * k) - 2.0 * k),
    };
    Ok(Moments { bias, variance })
}

/// Exact KL of one position from two full rows of log-probs (`-inf` is allowed where the policy
/// has no mass).
///
/// # Errors
/// If lengths differ, a row does not sum to 1 within 1e-6, or the policy has mass where the
/// reference has none.
pub fn exact_token_kl(logp: &[f64], logq: &[f64]) -> Result<f64> {
    if logp.len() != logq.len() {
        return Err(BoundsError::Shape("logp and logq differ in length"));
    }
    for (name, row) in [("sum of exp(logp)", logp), ("sum of exp(logq)", logq)] {
        check(
            name,
            sum(row.iter().map(|&v| exp(v))),
            "1 within 1e-6",
            |v| (v - 1.0).abs() <= 1e-6,
        )?;
    }
    let terms = logp.iter().zip(logq).map(|(&p, &q)| {
        if p == f64::NEG_INFINITY {
            0.0
        } else {
            exp(p) * (p - q)
        }
    });
    let total = sum(terms);
    check_finite("logq where the policy has mass", &[total])?;
    Ok(total.max(0.0))
}
