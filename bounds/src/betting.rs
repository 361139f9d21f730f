//! S5: sampling error by hedged betting, the tightest certified interval here.
//!
//! **Assumptions.** As for S2 (`hoeffding`), with values in `[0, 1]` whose order was fixed before
//! they were seen.
//!
//! **Constants.** Waudby-Smith and Ramdas, arXiv 2010.09686:
//!
//! ```text
//! mu_0 = 1/2, v_0 = 1/4,   lam_t = sqrt(2 log(2/delta) / (n v_{t-1}))
//! K+(m) = prod_t (1 + min(lam_t, c/m)     (x_t - m)),   c = 1/2
//! K-(m) = prod_t (1 - min(lam_t, c/(1-m)) (x_t - m))
//! mu_t = (1/2 + sum x_i) / (t+1),   v_t = (1/4 + sum (x_i - mu_i)^2) / (t+1)
//! keep m if and only if max(K+, K-) < 2/delta
//! ```
//!
//! K+ falls and K- rises with m, so the kept set is an interval, found by bisection; the outer
//! side of each last bracket is returned.

use alloc::vec::Vec;

use libm::{log, log1p, sqrt};

use crate::error::{BoundsError, Result, check_count, check_delta, check_finite, check_unit};
use crate::search::bisect;

const MAX_STAKE: f64 = 0.5;

/// Stakes, one per value; each depends on earlier values alone.
fn stakes(x: &[f64], delta: f64) -> Vec<f64> {
    let level = 2.0 * log(2.0 / delta) / x.len() as f64;
    let (mut total, mut squares, mut variance) = (0.5, 0.25, 0.25);
    let mut stakes = Vec::with_capacity(x.len());
    for (index, &value) in x.iter().enumerate() {
        stakes.push(sqrt(level / variance));
        let count = index as f64 + 2.0;
        total += value;
        let centre = total / count;
        squares += (value - centre) * (value - centre);
        variance = squares / count;
    }
    stakes
}

struct Capital<'a> {
    x: &'a [f64],
    stakes: Vec<f64>,
    threshold: f64,
}

impl<'a> Capital<'a> {
    fn new(x: &'a [f64], delta: f64) -> Result<Self> {
        check_finite("x", x)?;
        for &value in x {
            check_unit("x", value)?;
        }
        let threshold = log(2.0 / check_delta(delta)?);
        let stakes = stakes(x, delta);
        Ok(Self {
            x,
            stakes,
            threshold,
        })
    }

    /// log K+ or log K-.
    fn log(&self, m: f64, sign: f64) -> f64 {
        let room = if sign > 0.0 { m } else { 1.0 - m };
        let cap = if room > 0.0 {
            MAX_STAKE / room
        } else {
            f64::INFINITY
        };
        let bets = self.x.iter().zip(&self.stakes);
        bets.map(|(x, stake)| log1p(sign * stake.min(cap) * (x - m)))
            .sum()
    }

    fn keeps(&self, m: f64, sign: f64) -> bool {
        self.log(m, sign) < self.threshold
    }
}

/// Certified interval for the mean of values in `[0, 1]`.
///
/// # Errors
/// If `x` is empty or leaves `[0, 1]`, `delta` is outside (0, 1), or no mean survives.
pub fn betting_ci(x: &[f64], delta: f64) -> Result<(f64, f64)> {
    let capital = Capital::new(x, delta)?;
    let lo = match (capital.keeps(0.0, 1.0), capital.keeps(1.0, 1.0)) {
        (true, _) => (0.0, 0.0),
        (false, true) => bisect(1.0, 0.0, |m| capital.keeps(m, 1.0)),
        (false, false) => return Err(BoundsError::EmptyConfidenceSet),
    };
    let hi = match (capital.keeps(1.0, -1.0), capital.keeps(0.0, -1.0)) {
        (true, _) => (1.0, 1.0),
        (false, true) => bisect(0.0, 1.0, |m| capital.keeps(m, -1.0)),
        (false, false) => return Err(BoundsError::EmptyConfidenceSet),
    };
    if lo.0 > hi.0 {
        return Err(BoundsError::EmptyConfidenceSet);
    }
    Ok((lo.1, hi.1))
}

/// The same on a grid of `cells` midpoints with ends half a cell wider. **Not certified**: an
/// end may be short by up to half a cell.
///
/// # Errors
/// As [`betting_ci`], or if there are fewer than two cells.
pub fn betting_ci_grid(x: &[f64], delta: f64, cells: usize) -> Result<(f64, f64)> {
    let capital = Capital::new(x, delta)?;
    let width = 1.0 / check_count("cells", cells, 2)?;
    let keeps = |m: f64| capital.keeps(m, 1.0) && capital.keeps(m, -1.0);
    let midpoints = (0..cells).map(|cell| (cell as f64 + 0.5) * width);
    let kept: Vec<f64> = midpoints.filter(|&m| keeps(m)).collect();
    match (kept.first(), kept.last()) {
        (Some(lo), Some(hi)) => Ok((lo - width / 2.0, hi + width / 2.0)),
        _ => Err(BoundsError::EmptyConfidenceSet),
    }
}
