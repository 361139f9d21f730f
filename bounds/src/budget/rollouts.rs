//! A1, A2: rollouts per prompt at a total cost of `n (c_pre + K c_dec)`.
//!
//! ```text
//! A1  minimise (c_pre + K c_dec)(1 + K^(-1/2))^2:  K* = max(1, (c_pre/c_dec)^(2/3))
//! A2  minimise (sigma_p^2 + sigma_r^2/K)(c_pre + K c_dec):
//!     K* = max(1, sqrt((c_pre/c_dec)(sigma_r^2/sigma_p^2)))
//! ```
//!
//! A1 (Tang, Chen, He, arXiv 2602.21765) optimises the published rate, A2 is the classical
//! two-stage rule and the one to prefer. Both floor and ceiling are compared; on a tie the
//! smaller K is taken.

use libm::{ceil, floor, pow, sqrt};

use crate::error::{Result, check_not_negative, check_positive, domain};

/// Two objectives closer than this, relatively, are a tie.
const TIE: f64 = 1e-12;

/// The best number of rollouts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutChoice {
    /// Closed form, at least 1.
    pub closed: f64,
    /// Best whole number.
    pub k: usize,
    /// Objective at `k`.
    pub objective: f64,
}

/// A1.
///
/// # Errors
/// If `c_pre` is negative or `c_dec` is not above 0.
pub fn k_star_hoeffding(c_pre: f64, c_dec: f64) -> Result<RolloutChoice> {
    let (c_pre, c_dec) = costs(c_pre, c_dec)?;
    let closed = pow(c_pre / c_dec, 2.0 / 3.0).max(1.0);
    Ok(whole(closed, |k| {
        let rate = 1.0 + 1.0 / sqrt(k);
        (c_pre + k * c_dec) * rate * rate
    }))
}

/// A2.
///
/// # Errors
/// If a cost or variance is out of range, or `sp2` is 0 while `sr2` and `c_pre` are not: then
/// more rollouts of one prompt are always better.
pub fn k_star_variance(c_pre: f64, c_dec: f64, sr2: f64, sp2: f64) -> Result<RolloutChoice> {
    let (c_pre, c_dec) = costs(c_pre, c_dec)?;
    let sr2 = check_not_negative("sigma_r2", sr2)?;
    let sp2 = check_not_negative("sigma_p2", sp2)?;
    let closed = match (sp2 == 0.0, sr2 * c_pre == 0.0) {
        (true, false) => {
            return Err(domain(
                "sigma_p2",
                "above 0: without variance between prompts the best K is unbounded",
            ));
        }
        (true, true) => 1.0,
        (false, _) => sqrt(c_pre / c_dec * (sr2 / sp2)).max(1.0),
    };
    Ok(whole(closed, |k| (sp2 + sr2 / k) * (c_pre + k * c_dec)))
}

fn costs(c_pre: f64, c_dec: f64) -> Result<(f64, f64)> {
    Ok((
        check_not_negative("c_pre", c_pre)?,
        check_positive("c_dec", c_dec)?,
    ))
}

fn whole(closed: f64, objective: impl Fn(f64) -> f64) -> RolloutChoice {
    let (low, high) = (floor(closed).max(1.0), ceil(closed));
    let (at_low, at_high) = (objective(low), objective(high));
    let is_low = at_low <= at_high * (1.0 + TIE);
    let (k, objective) = if is_low {
        (low, at_low)
    } else {
        (high, at_high)
    };
    RolloutChoice {
        closed,
        k: k as usize,
        objective,
    }
}
