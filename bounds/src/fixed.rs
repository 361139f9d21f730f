//! Certificates for a policy that is fixed: every sampling bound under one roof, and floors.
//!
//! **Assumptions.** Those of the method's own file. Above all the policy must not depend on the
//! prompts, which the type [`Sample<HeldOut>`](Sample) stands for.
//!
//! One-sided forms (S7), each with a delta of its own; `r` is the reward of the run, `r*` the
//! truth, `l` the log-ratio to the reference:
//!
//! ```text
//! J* >= J_hat - B sqrt(log(1/delta)/2n) - E(r - r*)_+ - kl_coef E(l - tau)_+
//! J* <= J_hat + B sqrt(log(1/delta)/2n) + E(r* - r)_+ + kl_coef e^(-tau-1)
//! ```

use alloc::vec::Vec;

use crate::bernoulli::{kl_interval, kl_upper};
use crate::bernstein::{emp_bernstein, emp_bernstein_one_sided};
use crate::betting::betting_ci;
use crate::bound::{Bound, Standing, inputs};
use crate::clip::free_lower_tail;
use crate::error::{Result, check_delta};
use crate::hoeffding::{hoeffding_direct, hoeffding_one_sided, hoeffding_paper};
use crate::sample::{HeldOut, Range, Sample};
use crate::sums::{mean, variance};

/// Which sampling bound. It has to be named before the data are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// S1, the published rate.
    Paper,
    /// S2, Hoeffding on per-prompt means.
    Direct,
    /// S3, empirical Bernstein.
    Eb,
    /// S4, Bernoulli KL.
    Kl,
    /// S5, hedged betting.
    Betting,
}

impl Method {
    /// Every method, in the order of the catalogue.
    pub const ALL: [Self; 5] = [Self::Paper, Self::Direct, Self::Eb, Self::Kl, Self::Betting];

    /// Id in the catalogue.
    pub fn id(self) -> &'static str {
        match self {
            Self::Paper => "S1",
            Self::Direct => "S2",
            Self::Eb => "S3",
            Self::Kl => "S4",
            Self::Betting => "S5",
        }
    }
}

/// Per-prompt means, their number, the length of their range and their mean.
struct Observed {
    means: Vec<f64>,
    n: usize,
    b: f64,
    centre: f64,
}

fn observed(sample: &Sample<'_, HeldOut>, range: Range) -> Result<Observed> {
    let rows = sample.rows();
    range.check(rows.values())?;
    let means = rows.means();
    Ok(Observed {
        n: means.len(),
        b: range.length(),
        centre: mean(&means),
        means,
    })
}

/// Interval for the expected score of a fixed policy: certified, two-sided. The bound's value is
/// the larger distance of its ends from the observed mean.
///
/// # Errors
/// If `delta` is outside (0, 1), a value lies outside `range`, or there are too few prompts.
pub fn certify_fixed(
    sample: &Sample<'_, HeldOut>,
    range: Range,
    delta: f64,
    method: Method,
) -> Result<Bound> {
    let Observed {
        means,
        n,
        b,
        centre,
    } = observed(sample, range)?;
    let around = |width: f64| (centre - width, centre + width);
    let (lo, hi) = match method {
        Method::Paper => around(hoeffding_paper(n, sample.rows().k(), delta, b)?),
        Method::Direct => around(hoeffding_direct(n, delta, b)?),
        Method::Eb => around(emp_bernstein(n, sample_variance(&means), delta, b)?),
        Method::Kl => kl_interval(centre, n, delta, range)?,
        Method::Betting => {
            let unit: Vec<f64> = means
                .iter()
                .map(|value| ((value - range.lo()) / b).clamp(0.0, 1.0))
                .collect();
            let (lo, hi) = betting_ci(&unit, delta)?;
            (range.lo() + b * lo, range.lo() + b * hi)
        }
    };
    Ok(bound(method.id(), sample, range, delta, centre, (lo, hi)))
}

/// The sample variance, 0 for one prompt: the width functions reject that themselves.
fn sample_variance(means: &[f64]) -> f64 {
    if means.len() < 2 {
        0.0
    } else {
        variance(means)
    }
}

fn bound(
    id: &'static str,
    sample: &Sample<'_, HeldOut>,
    range: Range,
    delta: f64,
    centre: f64,
    (lo, hi): (f64, f64),
) -> Bound {
    let rows = sample.rows();
    let named = inputs([
        ("n", rows.n() as f64),
        ("k", rows.k() as f64),
        ("range", range.length()),
        ("mean", centre),
    ]);
    let value = (hi - centre).max(centre - lo);
    Bound::new(id, Standing::Certified, delta, value, named).with_interval(
        lo,
        hi,
        range.lo(),
        range.hi(),
    )
}

/// Intersection of S2 to S5, each at a quarter of `delta`: certified, and never much wider than
/// the best of them.
///
/// # Errors
/// As [`certify_fixed`].
pub fn certify_fixed_best(sample: &Sample<'_, HeldOut>, range: Range, delta: f64) -> Result<Bound> {
    let quarter = check_delta(delta)? / 4.0;
    let (mut lo, mut hi) = (range.lo(), range.hi());
    for method in [Method::Direct, Method::Eb, Method::Kl, Method::Betting] {
        let found = certify_fixed(sample, range, quarter, method)?;
        let ends = found.interval().unwrap_or((lo, hi));
        (lo, hi) = (lo.max(ends.0), hi.min(ends.1));
    }
    let centre = sample.rows().mean();
    Ok(bound("S2-S5", sample, range, delta, centre, (lo, hi)))
}

/// One-sided upper bound on an expectation: S3 or S4, whichever `method` names (S2 otherwise).
///
/// # Errors
/// As [`certify_fixed`]; [`Method::Paper`] and [`Method::Betting`] have no one-sided form here
/// and use S2.
pub fn certify_upper(
    sample: &Sample<'_, HeldOut>,
    range: Range,
    delta: f64,
    method: Method,
) -> Result<Bound> {
    let Observed {
        means,
        n,
        b,
        centre,
    } = observed(sample, range)?;
    let (id, hi) = match method {
        Method::Eb => {
            let width = emp_bernstein_one_sided(n, sample_variance(&means), delta, b)?;
            ("S3 one-sided", centre + width)
        }
        Method::Kl => ("S4 one-sided", kl_upper(centre, n, delta, range)?),
        Method::Direct | Method::Paper | Method::Betting => {
            ("S2 one-sided", centre + hoeffding_one_sided(n, delta, b)?)
        }
    };
    let named = inputs([("n", n as f64), ("mean", centre), ("range", b)]);
    let is_vacuous_at = range.hi();
    let value = hi.min(range.hi());
    Ok(Bound::new(id, Standing::Certified, delta, value, named).within_range(is_vacuous_at))
}

/// What lies between the observed objective and the truth, on one side.
#[derive(Clone, Debug, PartialEq)]
pub struct OneSided {
    /// Bound on the favourable or unfavourable part of the reward error.
    pub reward: Bound,
    /// Weight of the KL term.
    pub kl_coef: f64,
    /// Threshold of the symmetric clip.
    pub tau: f64,
}

/// S7: a number under which the true objective does not lie. `upper_tail` bounds
/// `E(l - tau)_+`. Certified only if both bounds it is given are.
///
/// # Errors
/// If `delta` is outside (0, 1), a coefficient is negative, or a value leaves the clipped range.
pub fn floor(
    sample: &Sample<'_, HeldOut>,
    parts: &OneSided,
    upper_tail: &Bound,
    delta: f64,
) -> Result<Bound> {
    let (range, width) = one_sided_width(sample, parts, delta)?;
    let lost = width + parts.reward.value() + parts.kl_coef * upper_tail.value();
    let value = sample.rows().mean() - lost;
    let standing = parts.reward.standing().max(if parts.kl_coef == 0.0 {
        Standing::Certified
    } else {
        upper_tail.standing()
    });
    let delta = delta + parts.reward.delta() + upper_tail.delta();
    let bound = one_sided("S7 floor", standing, delta, value, sample, width);
    Ok(bound.with_interval(value, range.hi(), range.lo(), range.hi()))
}

/// S7: a number above which the true objective does not lie. Its clip term is the free lower
/// tail and needs no data.
///
/// # Errors
/// As [`floor`].
pub fn ceiling(sample: &Sample<'_, HeldOut>, parts: &OneSided, delta: f64) -> Result<Bound> {
    let (range, width) = one_sided_width(sample, parts, delta)?;
    let tail = parts.kl_coef * free_lower_tail(parts.tau)?;
    let value = sample.rows().mean() + width + parts.reward.value() + tail;
    let standing = parts.reward.standing();
    let delta = delta + parts.reward.delta();
    let bound = one_sided("S7 ceiling", standing, delta, value, sample, width);
    Ok(bound.with_interval(range.lo(), value, range.lo(), range.hi()))
}

/// Range of the clipped objective, and how far below or above its mean the expectation may lie.
fn one_sided_width(
    sample: &Sample<'_, HeldOut>,
    parts: &OneSided,
    delta: f64,
) -> Result<(Range, f64)> {
    let range = Range::clipped(parts.kl_coef, parts.tau)?;
    range.check(sample.rows().values())?;
    let width = hoeffding_one_sided(sample.rows().n(), delta, range.length())?;
    Ok((range, width))
}

fn one_sided(
    id: &'static str,
    standing: Standing,
    delta: f64,
    value: f64,
    sample: &Sample<'_, HeldOut>,
    width: f64,
) -> Bound {
    let rows = sample.rows();
    let named = inputs([
        ("n", rows.n() as f64),
        ("k", rows.k() as f64),
        ("mean", rows.mean()),
        ("width", width),
    ]);
    Bound::new(id, standing.max(Standing::Certified), delta, value, named)
}
