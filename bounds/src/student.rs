//! S6: the t interval, the honest error bar of a measurement. **Not certified.**
//!
//! **Assumptions.** Independent per-prompt means with finite variance; the coverage is exact for
//! normal means and asymptotic otherwise.
//!
//! **Constants.** `mean ± t_{n-1} sqrt(V / n)`, V with divisor n - 1.

use libm::sqrt;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::error::{Result, check, check_count, check_finite, domain};
use crate::sums::{mean, variance};

/// Quantile of Student's t distribution.
///
/// # Errors
/// If `freedom` is 0 or `level` is outside (0, 1).
pub fn t_quantile(freedom: usize, level: f64) -> Result<f64> {
    let freedom = check_count("degrees of freedom", freedom, 1)?;
    check("level", level, "above 0 and below 1", |v| {
        v > 0.0 && v < 1.0
    })?;
    let t = StudentsT::new(0.0, 1.0, freedom).map_err(|_| domain("freedom", "above 0"))?;
    Ok(t.inverse_cdf(level))
}

/// Mean and half-width at confidence `level`, from per-prompt means.
///
/// # Errors
/// If there are fewer than two values, one is not finite, or `level` is outside (0, 1).
pub fn t_interval(f: &[f64], level: f64) -> Result<(f64, f64)> {
    let n = check_count("prompts", f.len(), 2)?;
    check_finite("f", f)?;
    let t = t_quantile(f.len() - 1, (1.0 + level) / 2.0)?;
    Ok((mean(f), t * sqrt(variance(f) / n)))
}
