//! A predicted bound beside a measured error.

use crate::error::{Result, check};

/// What a row of the report says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Bound divided by the measured absolute error; infinite where that is 0.
    pub ratio: f64,
    /// True if the whole interval of the absolute error lies above the bound.
    pub is_violated: bool,
    /// True if the bound says no more than the range does.
    pub is_vacuous: bool,
}

/// Compares `bound` with a measured `error` and its interval; `range` is the length of the range
/// of the score.
///
/// # Errors
/// If a number is not finite or the interval is not ordered.
pub fn verdict(bound: f64, error: f64, interval: (f64, f64), range: f64) -> Result<Verdict> {
    check("bound", bound, "finite", |_| true)?;
    check("error", error, "finite", |_| true)?;
    check("interval.hi", interval.1, "finite", |_| true)?;
    check("interval.lo", interval.0, "at most interval.hi", |v| {
        v <= interval.1
    })?;
    let least = interval.0.max(-interval.1).max(0.0);
    Ok(Verdict {
        ratio: if error == 0.0 {
            f64::INFINITY
        } else {
            bound / error.abs()
        },
        is_violated: least > bound,
        is_vacuous: bound >= range,
    })
}
