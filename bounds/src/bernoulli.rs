//! S4: sampling error by inverting the Bernoulli KL divergence (Chernoff).
//!
//! **Assumptions.** As for S2 (`hoeffding`).
//!
//! **Constants.** With q the mean scaled to `[0, 1]`, all p with `kl(q‖p) <= log(2/delta) / n`
//! (two-sided; `log(1/delta)` one-sided), where
//! `kl(q‖p) = q log(q/p) + (1-q) log((1-q)/(1-p))`.
//!
//! Two inverses exist and must not be mixed up: the sampling interval inverts the **second**
//! argument ([`kl_inv_upper`], [`kl_inv_lower`]), data processing under a reward shift the
//! **first** ([`kl_inv_first_upper`]). Every inverse returns the outer end of its last bracket.

use libm::{exp, expm1, log, log1p};

use crate::error::{Result, check, check_count, check_delta, check_not_negative, check_unit};
use crate::sample::Range;
use crate::search::bisect;

/// `kl(q‖p)` in nats; infinite where p excludes what q allows.
///
/// # Errors
/// If an argument is outside `[0, 1]`.
pub fn kl_bernoulli(q: f64, p: f64) -> Result<f64> {
    Ok(kl(check_unit("q", q)?, check_unit("p", p)?))
}

fn kl(q: f64, p: f64) -> f64 {
    let term = |a: f64, b: f64| match (a == 0.0, b == 0.0) {
        (true, _) => 0.0,
        (false, true) => f64::INFINITY,
        (false, false) => a * log(a / b),
    };
    (term(q, p) + term(1.0 - q, 1.0 - p)).max(0.0)
}

/// Largest p at or above q with `kl(q‖p) <= c`: the second argument.
///
/// # Errors
/// If `q` is outside `[0, 1]` or `c` is negative.
pub fn kl_inv_upper(q: f64, c: f64) -> Result<f64> {
    let (q, c) = (check_unit("q", q)?, check_not_negative("c", c)?);
    if q == 0.0 {
        return Ok(-expm1(-c));
    }
    if q == 1.0 {
        return Ok(1.0);
    }
    Ok(bisect(q, 1.0, |p| kl(q, p) <= c).1)
}

/// Smallest p at or below q with `kl(q‖p) <= c`: the second argument.
///
/// # Errors
/// As [`kl_inv_upper`].
pub fn kl_inv_lower(q: f64, c: f64) -> Result<f64> {
    let (q, c) = (check_unit("q", q)?, check_not_negative("c", c)?);
    if q == 0.0 {
        return Ok(0.0);
    }
    if q == 1.0 {
        return Ok(exp(-c));
    }
    Ok(bisect(q, 0.0, |p| kl(q, p) <= c).1)
}

/// Largest q at or above p with `kl(q‖p) <= c`: the **first** argument, for data processing
/// under a reward shift only.
///
/// # Errors
/// If `p` is outside `[0, 1]` or `c` is negative.
pub fn kl_inv_first_upper(p: f64, c: f64) -> Result<f64> {
    let (p, c) = (check_unit("p", p)?, check_not_negative("c", c)?);
    if p == 0.0 || kl(1.0, p) <= c {
        return Ok(if p == 0.0 { 0.0 } else { 1.0 });
    }
    Ok(bisect(p, 1.0, |q| kl(q, p) <= c).1)
}

/// Two-sided interval for the mean of values in `range`, scaled back.
///
/// # Errors
/// If `n` is 0, `mean` is outside the range, or `delta` is outside (0, 1).
pub fn kl_interval(mean: f64, n: usize, delta: f64, range: Range) -> Result<(f64, f64)> {
    let c = log(2.0 / check_delta(delta)?) / check_count("n", n, 1)?;
    kl_ball(mean, c, range)
}

/// One-sided upper end.
///
/// # Errors
/// As [`kl_interval`].
pub fn kl_upper(mean: f64, n: usize, delta: f64, range: Range) -> Result<f64> {
    let c = -log(check_delta(delta)?) / check_count("n", n, 1)?;
    Ok(kl_ball(mean, c, range)?.1)
}

/// All means within a KL radius `c`, scaled back.
pub(crate) fn kl_ball(mean: f64, c: f64, range: Range) -> Result<(f64, f64)> {
    let (lo, length) = (range.lo(), range.length());
    let is_inside = |v: f64| (-1e-12..=1.0 + 1e-12).contains(&((v - lo) / length));
    check("mean", mean, "inside the range", is_inside)?;
    let q = ((mean - lo) / length).clamp(0.0, 1.0);
    let ends = (kl_inv_lower(q, c)?, kl_inv_upper(q, c)?);
    Ok((lo + length * ends.0, lo + length * ends.1))
}

/// Constant of the PAC-Bayes-kl moment bound (Maurer 2004):
/// `xi(N) = sum_k C(N, k) (k/N)^k (1 - k/N)^(N-k)`, at most `2 sqrt(N)`.
///
/// # Errors
/// If `n` is 0.
pub fn xi(n: usize) -> Result<f64> {
    let count = check_count("n", n, 1)?;
    let power = |base: f64, exponent: f64| {
        if exponent == 0.0 {
            0.0
        } else {
            exponent * log(base)
        }
    };
    let (mut total, mut log_choose) = (0.0, 0.0);
    for k in 0..=n {
        let k = k as f64;
        if k > 0.0 {
            log_choose += log((count - k + 1.0) / k);
        }
        let tail = if k == count {
            0.0
        } else {
            (count - k) * log1p(-k / count)
        };
        total += exp(log_choose + power(k / count, k) + tail);
    }
    Ok(total)
}
