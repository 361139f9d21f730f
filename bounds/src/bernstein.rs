//! S3: sampling error by the empirical Bernstein inequality.
//!
//! **Assumptions.** As for S2 (`hoeffding`); the variance is that of the sample itself and needs
//! no assumption.
//!
//! **Constants.** Maurer and Pontil 2009, arXiv 0907.3740, with V the sample variance (divisor
//! n - 1) of the per-prompt means:
//!
//! ```text
//! two-sided   sqrt(2 V log(4/delta) / n) + 7 b log(4/delta) / (3 (n - 1))
//! one-sided   the same with log(2/delta)
//! ```

use libm::{log, sqrt};

use crate::error::{Result, check_count, check_delta, check_not_negative, check_range};

/// Two-sided half-width.
///
/// # Errors
/// If `n` is below 2, `var` is negative, `delta` is outside (0, 1), or `b` is not above 0.
pub fn emp_bernstein(n: usize, var: f64, delta: f64, b: f64) -> Result<f64> {
    width(n, var, log(4.0 / check_delta(delta)?), b)
}

/// One-sided half-width.
///
/// # Errors
/// As [`emp_bernstein`].
pub fn emp_bernstein_one_sided(n: usize, var: f64, delta: f64, b: f64) -> Result<f64> {
    width(n, var, log(2.0 / check_delta(delta)?), b)
}

fn width(n: usize, var: f64, level: f64, b: f64) -> Result<f64> {
    let n = check_count("n", n, 2)?;
    let var = check_not_negative("variance", var)?;
    Ok(sqrt(2.0 * var * level / n) + 7.0 * check_range(b)? * level / (3.0 * (n - 1.0)))
}
