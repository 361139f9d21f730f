//! What can be wrong with an input; bad input is never clamped silently.

use thiserror::Error;

/// What every fallible function of this package returns.
pub type Result<T> = core::result::Result<T, BoundsError>;

/// What is wrong with an input, by the argument's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BoundsError {
    /// NaN or infinite.
    #[error("{0} holds a value that is not finite")]
    NonFinite(&'static str),
    /// Outside the documented range.
    #[error("{arg} must be {need}")]
    Domain {
        /// The argument.
        arg: &'static str,
        /// What it has to be.
        need: &'static str,
    },
    /// Too short.
    #[error("{arg}: {found} given, at least {need} needed")]
    TooFew {
        /// The argument.
        arg: &'static str,
        /// How many are needed.
        need: usize,
        /// How many there are.
        found: usize,
    },
    /// Lengths that do not match.
    #[error("{0}")]
    Shape(&'static str),
    /// A matrix that has to be symmetric positive definite is not.
    #[error("{0} is not symmetric positive definite")]
    NotPositiveDefinite(&'static str),
    /// No mean survived: the data contradict the assumption of independent draws in the range.
    #[error("no mean is compatible with the data")]
    EmptyConfidenceSet,
    /// No theorem covers this use of these prompts.
    #[error("not certifiable: {0}")]
    NotCertifiable(&'static str),
}

pub(crate) fn domain(arg: &'static str, need: &'static str) -> BoundsError {
    BoundsError::Domain { arg, need }
}

/// `value` if it is finite and `holds` is true of it.
pub(crate) fn check(
    arg: &'static str,
    value: f64,
    need: &'static str,
    holds: impl Fn(f64) -> bool,
) -> Result<f64> {
    if !value.is_finite() {
        return Err(BoundsError::NonFinite(arg));
    }
    if holds(value) {
        Ok(value)
    } else {
        Err(domain(arg, need))
    }
}

pub(crate) fn check_delta(delta: f64) -> Result<f64> {
    check("delta", delta, "above 0 and below 1", |v| {
        v > 0.0 && v < 1.0
    })
}

pub(crate) fn check_range(b: f64) -> Result<f64> {
    check("range", b, "above 0", |v| v > 0.0)
}

pub(crate) fn check_unit(arg: &'static str, value: f64) -> Result<f64> {
    check(arg, value, "in [0, 1]", |v| (0.0..=1.0).contains(&v))
}

pub(crate) fn check_not_negative(arg: &'static str, value: f64) -> Result<f64> {
    check(arg, value, "at least 0", |v| v >= 0.0)
}

pub(crate) fn check_positive(arg: &'static str, value: f64) -> Result<f64> {
    check(arg, value, "above 0", |v| v > 0.0)
}

pub(crate) fn check_count(arg: &'static str, found: usize, need: usize) -> Result<f64> {
    if found >= need {
        Ok(found as f64)
    } else {
        Err(BoundsError::TooFew { arg, need, found })
    }
}

pub(crate) fn check_finite(arg: &'static str, values: &[f64]) -> Result<()> {
    check_count(arg, values.len(), 1)?;
    if values.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(BoundsError::NonFinite(arg))
    }
}
