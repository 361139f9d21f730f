//! T1: the published bound on the whole error, with its three parts.
//!
//! **Assumptions.** Those of S1 for the sampling part; the deployment distribution is absolutely
//! continuous with respect to the reward model's; rewards lie in `[0, 1]`; tau was fixed in
//! advance. The two bias terms are plug-in estimates unless replaced by certified bounds.
//!
//! **Constants.** Tang, Chen, He, arXiv 2602.21765, Theorem 1:
//!
//! ```text
//! |J_hat - J*| <= (1 + 2 kl_coef tau) (sqrt(log(4/delta)/2n) + sqrt(log(4/delta)/2nk))
//!               + sqrt(1 + chi2) sqrt(L2)  +  kl_coef E|l - l_tau|
//! ```
//!
//! With [`Rate::Direct`] the first line is S2 instead. Any bounded surrogate s of the log-ratio
//! may stand in for l_tau (S8): the range is then `1 + kl_coef (s_hi - s_lo)` and the clip term
//! `kl_coef |E l - E s|`.

use crate::bound::Bound;
use crate::error::Result;
use crate::fixed::{Method, certify_fixed};
use crate::sample::{HeldOut, Range, Sample};

/// Which sampling part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// S1, as published.
    Published,
    /// S2, smaller for every k.
    Direct,
}

/// The bound and its parts, in reward units.
#[derive(Clone, Debug, PartialEq)]
pub struct Theorem1 {
    /// Sampling.
    pub sampling: Bound,
    /// Reward shift.
    pub reward_shift: Bound,
    /// KL clipping, already multiplied by the coefficient.
    pub clip: Bound,
    /// Their sum.
    pub total: Bound,
}

/// Theorem 1 for scores in `range`, given bounds on the reward shift and on the clip term
/// (`kl_coef E|l - l_tau|`, or that of a surrogate).
///
/// # Errors
/// If `delta` is outside (0, 1) or a score lies outside `range`.
pub fn theorem1(
    sample: &Sample<'_, HeldOut>,
    range: Range,
    reward_shift: Bound,
    clip: Bound,
    delta: f64,
    rate: Rate,
) -> Result<Theorem1> {
    let method = match rate {
        Rate::Published => Method::Paper,
        Rate::Direct => Method::Direct,
    };
    let sampling = certify_fixed(sample, range, delta, method)?;
    let parts = [&sampling, &reward_shift, &clip];
    let total = Bound::total("T1", &parts, range.length())?;
    Ok(Theorem1 {
        sampling,
        reward_shift,
        clip,
        total,
    })
}

/// The clip term of T1 as a plug-in bound, from `E|l - l_tau|` or, for a surrogate, `|E l - E s|`.
///
/// # Errors
/// If an argument is negative or not finite.
pub fn clip_term(kl_coef: f64, clip_error: f64) -> Result<Bound> {
    Bound::estimate("C1", kl_coef * clip_error)
}
