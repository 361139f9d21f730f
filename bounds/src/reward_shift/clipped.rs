//! R4: clipped chi-square, the default. Certifiable, and R1 itself in the limit of large c.
//!
//! **Assumptions.** As for R3; the grid of c is fixed before the data are seen.
//!
//! **Constants.** With the split of R3 and Cauchy-Schwarz on its first part,
//! `E_tr min(w, c)^2 = E_theta min(w, c^2/w)`; for every c >= 1
//!
//! ```text
//! E_theta|e| <= sqrt(E_theta min(w, c^2/w) L2) + E_theta (1 - c/w)_+
//! ```
//!
//! Certified over G values of c: each of the 2G means is bounded from above at `delta / 2G`.

use libm::{exp, log, sqrt};

use crate::bound::{Bound, Standing, inputs};
use crate::distribution::Distribution;
use crate::error::{Result, check_count, check_delta, check_unit, domain};
use crate::reward_shift::hockey_stick::{check_c, excess, hockey_stick, upper_of_row_means};
use crate::sample::{HeldOut, Range, Sample};

/// `min(w, c^2/w)` from log w.
fn moment(logw: f64, log_c: f64) -> f64 {
    exp(logw.min(2.0 * log_c - logw))
}

/// `E_theta min(w, c^2/w)`, in `[0, c]`.
///
/// # Errors
/// If `c` is below 1.
pub fn clipped_moment(logw: &Distribution<'_>, c: f64) -> Result<f64> {
    let log_c = log(check_c(c)?);
    Ok(logw.mean_of(|lw| moment(lw, log_c)))
}

/// R4 as a plug-in number: the smallest bound over the grid, and its c.
///
/// # Errors
/// If the grid is empty or an entry below 1, or `l2` is outside `[0, 1]`.
pub fn clipped_chi2(logw: &Distribution<'_>, l2: f64, grid: &[f64]) -> Result<(f64, f64)> {
    check_count("grid", grid.len(), 1)?;
    let l2 = check_unit("l2", l2)?;
    let mut best = (f64::INFINITY, 1.0);
    for &c in grid {
        let value = sqrt(clipped_moment(logw, c)? * l2) + hockey_stick(logw, c)?;
        if value < best.0 {
            best = (value, c);
        }
    }
    Ok(best)
}

/// R4: certified if `l2_upper` is.
///
/// # Errors
/// If the grid is empty or an entry below 1, `l2_upper` is outside `[0, 1]`, or `delta` is
/// outside (0, 1).
pub fn certify_reward_shift(
    logw: &Sample<'_, HeldOut>,
    l2_upper: &Bound,
    grid: &[f64],
    delta: f64,
) -> Result<Bound> {
    let share = check_delta(delta)? / (2.0 * check_count("grid", grid.len(), 1)?);
    let l2 = l2_upper.value();
    if !(0.0..=1.0).contains(&l2) {
        return Err(domain("l2_upper", "in [0, 1]"));
    }
    let mut best = (f64::INFINITY, 1.0);
    for &c in grid {
        let log_c = log(check_c(c)?);
        let body = upper_of_row_means(logw, Range::new(0.0, c)?, share, |lw| moment(lw, log_c))?;
        let tail = upper_of_row_means(logw, Range::UNIT, share, |lw| excess(lw, log_c))?;
        let value = sqrt(body * l2) + tail;
        if value < best.0 {
            best = (value, c);
        }
    }
    let standing = l2_upper.standing().max(Standing::Certified);
    let named = inputs([
        ("c", best.1),
        ("l2_upper", l2),
        ("n", logw.rows().n() as f64),
    ]);
    let delta = delta + l2_upper.delta();
    Ok(Bound::new("R4", standing, delta, best.0.min(1.0), named))
}
