//! R2 and R3: total variation and hockey-stick divergence. Certifiable: every unknown is the mean
//! of a variable in `[0, 1]`.
//!
//! **Assumptions.** The policy is independent of the prompts; the bound on `E_tr|e|` comes from
//! draws of D_tr that fitted neither the reward nor its calibration.
//!
//! **Constants.** Split `D_theta = min(D_theta, c D_tr) + (D_theta - c D_tr)_+`; for every c >= 1
//!
//! ```text
//! E_theta|e| <= c E_tr|e| + E_theta (1 - c/w)_+         c = 1: E_tr|e| + TV
//! ```

use alloc::vec::Vec;

use libm::{expm1, log};

use crate::bernoulli::kl_upper;
use crate::bound::{Bound, Standing, inputs};
use crate::distribution::Distribution;
use crate::error::{Result, check, check_count, check_delta, check_unit};
use crate::sample::{HeldOut, Range, Sample};
use crate::sums::mean;

/// `(1 - c/w)_+` from log w.
pub(crate) fn excess(logw: f64, log_c: f64) -> f64 {
    (-expm1(log_c - logw)).max(0.0)
}

pub(crate) fn check_c(c: f64) -> Result<f64> {
    check("c", c, "at least 1", |v| v >= 1.0)
}

/// `E_theta (1 - c/w)_+`.
///
/// # Errors
/// If `c` is below 1.
pub fn hockey_stick(logw: &Distribution<'_>, c: f64) -> Result<f64> {
    let log_c = log(check_c(c)?);
    Ok(logw.mean_of(|lw| excess(lw, log_c)))
}

/// Total variation between D_theta and D_tr: the hockey-stick at c = 1.
pub fn tv_from_logw(logw: &Distribution<'_>) -> f64 {
    logw.mean_of(|lw| excess(lw, 0.0))
}

/// R3 as a plug-in number: the smallest bound over the grid, and its c. With the grid `[1]`, R2.
///
/// # Errors
/// If the grid is empty or an entry below 1, or `mean_abs_e` is outside `[0, 1]`.
pub fn hockey_stick_bound(
    logw: &Distribution<'_>,
    mean_abs_e: f64,
    grid: &[f64],
) -> Result<(f64, f64)> {
    check_count("grid", grid.len(), 1)?;
    check_unit("mean_abs_e", mean_abs_e)?;
    let mut best = (f64::INFINITY, 1.0);
    for &c in grid {
        let value = c * mean_abs_e + hockey_stick(logw, c)?;
        if value < best.0 {
            best = (value, c);
        }
    }
    Ok(best)
}

/// R3, or R2 with the grid `[1]`: certified if `abs_e_upper` is. Every grid value costs
/// `delta / G`, by the kl upper bound on per-prompt means.
///
/// # Errors
/// If the grid is empty or an entry below 1, or `delta` is outside (0, 1).
pub fn certify_hockey_stick(
    logw: &Sample<'_, HeldOut>,
    abs_e_upper: &Bound,
    grid: &[f64],
    delta: f64,
) -> Result<Bound> {
    let share = check_delta(delta)? / check_count("grid", grid.len(), 1)?;
    let mut best = (f64::INFINITY, 1.0);
    for &c in grid {
        let log_c = log(check_c(c)?);
        let tail = upper_of_row_means(logw, Range::UNIT, share, |lw| excess(lw, log_c))?;
        let value = c * abs_e_upper.value() + tail;
        if value < best.0 {
            best = (value, c);
        }
    }
    let id = if grid == [1.0] { "R2" } else { "R3" };
    let standing = abs_e_upper.standing().max(Standing::Certified);
    let named = inputs([
        ("c", best.1),
        ("abs_e_upper", abs_e_upper.value()),
        ("n", logw.rows().n() as f64),
    ]);
    let delta = delta + abs_e_upper.delta();
    Ok(Bound::new(id, standing, delta, best.0.min(1.0), named))
}

/// Certified upper bound on the mean of `f`, from per-prompt means, by the kl form.
pub(crate) fn upper_of_row_means(
    sample: &Sample<'_, HeldOut>,
    range: Range,
    delta: f64,
    f: impl Fn(f64) -> f64,
) -> Result<f64> {
    let rows = sample.rows();
    let of_row = |row: &[f64]| mean(&row.iter().map(|&value| f(value)).collect::<Vec<f64>>());
    let means: Vec<f64> = rows.iter().map(of_row).collect();
    let centre = mean(&means).clamp(range.lo(), range.hi());
    kl_upper(centre, means.len(), delta, range)
}
