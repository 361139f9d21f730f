//! C1, C2, C5, C6: the tails of the log-ratio beyond the clip.
//!
//! **Assumptions.** Completions are drawn from the policy. C1 is a plug-in mean. C2 needs none at
//! all. C5 assumes a bound on a Renyi divergence. C6 assumes that both policies were smoothed.
//!
//! **Constants.**
//!
//! ```text
//! C1  |l - l_tau| = (|l| - tau)_+ = (l - tau)_+ + (-l - tau)_+
//! C2  E (-l - tau)_+ <= e^(-tau - 1)      from E e^-l <= 1 and z_+ <= e^(z-1)
//! C5  E (l - tau)_+ <= min over lam of exp(lam (D_{1+lam} - tau)) / (e lam)
//! C6  |l| <= T log(1 + (1 - a) V / a)     pi <- (1 - a) pi + a / V at each of T tokens
//! ```

use core::f64::consts::E;

use libm::{exp, log, log1p};

use crate::bound::{Bound, Standing, inputs};
use crate::distribution::Distribution;
use crate::error::{Result, check, check_count, check_not_negative};
use crate::search::golden_section;

/// What lies beyond a symmetric clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// `E (l - tau)_+`.
    pub up: f64,
    /// `E (-l - tau)_+`.
    pub down: f64,
    /// `E |l - l_tau|`, their sum.
    pub abs: f64,
    /// `E (l - l_tau)`, their difference: how much too small the clipped KL is.
    pub signed: f64,
    /// `P(|l| > tau)`.
    pub exceed: f64,
}

/// C1: the tails at `tau`.
///
/// # Errors
/// If `tau` is negative or not finite.
pub fn tail(l: &Distribution<'_>, tau: f64) -> Result<Tail> {
    let tau = check_not_negative("tau", tau)?;
    let up = l.mean_of(|l| (l - tau).max(0.0));
    let down = l.mean_of(|l| (-l - tau).max(0.0));
    Ok(Tail {
        up,
        down,
        abs: up + down,
        signed: up - down,
        exceed: l.mean_of(|l| f64::from(u8::from(l.abs() > tau))),
    })
}

/// C2: `e^(-tau - 1)`, which no policy exceeds in expectation.
///
/// # Errors
/// If `tau` is negative or not finite.
pub fn free_lower_tail(tau: f64) -> Result<f64> {
    Ok(exp(-check_not_negative("tau", tau)? - 1.0))
}

/// The weaker form `e^-tau`, by Markov's inequality.
///
/// # Errors
/// If `tau` is negative or not finite.
pub fn free_lower_tail_weak(tau: f64) -> Result<f64> {
    Ok(exp(-check_not_negative("tau", tau)?))
}

/// C5 and the order it is best at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RenyiTail {
    /// Bound on `E (l - tau)_+`.
    pub value: f64,
    /// Order above 1.
    pub lam: f64,
}

/// C5: model-based, `divergence(lam)` is the assumed Renyi divergence of order `1 + lam`.
///
/// # Errors
/// If `tau` is negative, or the divergence is negative or NaN at the best order.
pub fn renyi_tail(divergence: impl Fn(f64) -> f64, tau: f64) -> Result<RenyiTail> {
    let tau = check_not_negative("tau", tau)?;
    let log_bound = |log_lam: f64| {
        let lam = exp(log_lam);
        lam * (divergence(lam) - tau) - 1.0 - log_lam
    };
    let log_lam = golden_section(-15.0, 15.0, log_bound);
    let lam = exp(log_lam);
    check_not_negative("divergence", divergence(lam))?;
    let value = exp(lam * (divergence(lam) - tau)) / (E * lam);
    Ok(RenyiTail { value, lam })
}

/// C6: range of the log-ratio of `t` tokens when both policies are smoothed with weight `a` over
/// a vocabulary of `v`.
///
/// # Errors
/// If `a` is not in (0, 1] or a count is 0.
pub fn smoothing_range(t: usize, a: f64, v: usize) -> Result<f64> {
    let (t, v) = (check_count("t", t, 1)?, check_count("v", v, 1)?);
    let a = check("a", a, "above 0 and at most 1", |x| x > 0.0 && x <= 1.0)?;
    Ok(t * log1p((1.0 - a) * v / a))
}

/// The clip bias `kl_coef E|l - l_tau|` of a sample as a plug-in bound with an exact lower tail:
/// the smaller of the sampled lower tail and C2.
///
/// # Errors
/// If `tau` or `kl_coef` is negative.
pub fn clip_bias(l: &Distribution<'_>, tau: f64, kl_coef: f64) -> Result<Bound> {
    let kl_coef = check_not_negative("kl_coef", kl_coef)?;
    let found = tail(l, tau)?;
    let named = inputs([
        ("tau", tau),
        ("kl_coef", kl_coef),
        ("up", found.up),
        ("down", found.down),
        ("exceed", found.exceed),
        ("kl", l.mean()),
    ]);
    let lower = found.down.min(free_lower_tail(tau)?);
    let value = kl_coef * (found.up + lower);
    Ok(Bound::new("C1", Standing::PlugIn, 0.0, value, named))
}

/// C2 as a bound on the lower tail's share of the clip bias, `kl_coef e^(-tau - 1)`: certified,
/// with no failure probability at all.
///
/// # Errors
/// If `tau` or `kl_coef` is negative.
pub fn certify_lower_tail(tau: f64, kl_coef: f64) -> Result<Bound> {
    let kl_coef = check_not_negative("kl_coef", kl_coef)?;
    let value = kl_coef * free_lower_tail(tau)?;
    let named = inputs([("tau", tau), ("kl_coef", kl_coef)]);
    Ok(Bound::new("C2", Standing::Certified, 0.0, value, named))
}

/// Log of a count of thresholds: what a grid of `thresholds` adds to `log(4/delta)` when tau is
/// picked on the same sample.
///
/// # Errors
/// If there is no threshold.
pub fn grid_price(thresholds: usize) -> Result<f64> {
    Ok(log(check_count("thresholds", thresholds, 1)?))
}
