//! Sampling error by Hoeffding's inequality: S1 as published, S2 in one step.
//!
//! **Assumptions.** The policy is fixed independently of the n prompts and their rollouts; the
//! prompts are independent draws of one distribution; the k rollouts of a prompt are independent
//! given the prompt; every score lies in an interval of length b.
//!
//! **Constants.** Two-sided, with probability at least 1 - delta:
//!
//! ```text
//! S1  b (sqrt(log(4/delta) / 2n) + sqrt(log(4/delta) / 2nk))   Tang, Chen, He, arXiv 2602.21765
//! S2  b sqrt(log(2/delta) / 2n)                                per-prompt means, one step
//! ```
//!
//! S2 is below S1 for every k: the second root of S1 is an artefact of its two-step proof.

use libm::{log, sqrt};

use crate::error::{Result, check_count, check_delta, check_range};

/// S1: half-width with the published rate, two-sided.
///
/// # Errors
/// If `n` or `k` is 0, `delta` is outside (0, 1), or the range `b` is not above 0.
pub fn hoeffding_paper(n: usize, k: usize, delta: f64, b: f64) -> Result<f64> {
    let (n, k) = (check_count("n", n, 1)?, check_count("k", k, 1)?);
    let level = log(4.0 / check_delta(delta)?);
    Ok(check_range(b)? * (sqrt(level / (2.0 * n)) + sqrt(level / (2.0 * n * k))))
}

/// S2: half-width of the mean of n per-prompt means, two-sided; the same for every k.
///
/// # Errors
/// As [`hoeffding_paper`].
pub fn hoeffding_direct(n: usize, delta: f64, b: f64) -> Result<f64> {
    let n = check_count("n", n, 1)?;
    Ok(check_range(b)? * sqrt(log(2.0 / check_delta(delta)?) / (2.0 * n)))
}

/// Half-width of S2 on one side: `b sqrt(log(1/delta) / 2n)`.
///
/// # Errors
/// As [`hoeffding_paper`].
pub fn hoeffding_one_sided(n: usize, delta: f64, b: f64) -> Result<f64> {
    let n = check_count("n", n, 1)?;
    Ok(check_range(b)? * sqrt(log(1.0 / check_delta(delta)?) / (2.0 * n)))
}
