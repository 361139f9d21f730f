//! P2a, P3: policies from a countable class, paid for by nats (or bits).
//!
//! **Assumptions.** The class, or the code that writes its members as bits, was fixed
//! independently of the prompts; base model, projections, quantiser and hyper-parameters are free
//! only if they were, too: otherwise add log(configurations tried). `nats` is
//!
//! - log(number of policies compared), discarded ones included, for prompts that chose one;
//! - bits log 2 for parameters of fixed length ([`fixed_nats`]);
//! - [`prefix_nats`] for a message of a prefix code.
//!
//! **Constants.** Plain union bound, b the range:
//!
//! ```text
//! P3a one step          b sqrt((nats + log(2/delta)) / 2n)
//! P3a one step, one side  b sqrt((nats + log(1/delta)) / 2n)
//! P3b / P2a two roots   b sqrt((nats + log(4/delta)) / 2n) + b sqrt(log(4/delta) / 2nk)
//! kl                    kl(q‖p) <= (nats + log(2/delta)) / n
//! ```
//!
//! P3a covers fresh rollouts as well (fresh noise is one choice of shared noise) and is always
//! below P3b.

use core::f64::consts::LN_2;

use libm::{log, sqrt};

use crate::bernoulli::kl_ball;
use crate::bound::{Bound, Standing, inputs};
use crate::error::{
    BoundsError, Result, check_count, check_delta, check_not_negative, check_range,
};
use crate::sample::{PromptRole, Range, Role, Sample};

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassForm {
    /// P3a.
    OneStep,
    /// P3a, for a floor under the true value.
    OneStepOneSided,
    /// P3b, also P2a.
    TwoRoot,
    /// The kl form of P3a.
    Kl,
    /// The kl form, for a floor under the true value: `log(1/delta)`.
    KlOneSided,
}

impl ClassForm {
    /// Id in the catalogue.
    pub fn id(self) -> &'static str {
        match self {
            Self::OneStep => "P3a",
            Self::OneStepOneSided => "P3a one-sided",
            Self::TwoRoot => "P3b",
            Self::Kl => "P3a kl",
            Self::KlOneSided => "P3a kl one-sided",
        }
    }

    /// What the union bound adds to the nats.
    fn price(self, delta: f64) -> f64 {
        match self {
            Self::OneStep | Self::Kl => log(2.0 / delta),
            Self::OneStepOneSided | Self::KlOneSided => log(1.0 / delta),
            Self::TwoRoot => log(4.0 / delta),
        }
    }
}

/// Half-width of a form; for the kl forms that of their Pinsker relaxation.
///
/// # Errors
/// If `n` or `k` is 0, `nats` is negative, or `delta` is outside (0, 1).
pub fn finite_class(
    n: usize,
    k: usize,
    nats: f64,
    delta: f64,
    b: f64,
    form: ClassForm,
) -> Result<f64> {
    let (n, k) = (check_count("n", n, 1)?, check_count("k", k, 1)?);
    let nats = check_not_negative("nats", nats)? + form.price(check_delta(delta)?);
    let rollouts = match form {
        ClassForm::TwoRoot => sqrt(log(4.0 / delta) / (2.0 * n * k)),
        _ => 0.0,
    };
    Ok(check_range(b)? * (sqrt(nats / (2.0 * n)) + rollouts))
}

/// Largest nats with which the one-sided P3a stays at or below `width`: `2 n width^2 / b^2 -
/// log(1/delta)`; negative if even one policy is too many.
///
/// # Errors
/// If `n` is 0, `width` or `b` is not above 0, or `delta` is outside (0, 1).
pub fn affordable_nats(n: usize, width: f64, delta: f64, b: f64) -> Result<f64> {
    let n = check_count("n", n, 1)?;
    let share = check_range(width)? / check_range(b)?;
    Ok(2.0 * n * share * share + log(check_delta(delta)?))
}

/// Nats of a `bits`-long message of a prefix code with Elias-gamma length header:
/// `(C + 2 floor(log2 C) + 1) log 2` (Lotfi et al., arXiv 2312.17173).
///
/// # Errors
/// If `bits` is 0.
pub fn prefix_nats(bits: u64) -> Result<f64> {
    let length = bits.checked_ilog2().ok_or(BoundsError::TooFew {
        arg: "bits",
        need: 1,
        found: 0,
    })?;
    Ok((bits as f64 + 2.0 * f64::from(length) + 1.0) * LN_2)
}

/// Nats of `params` parameters at `bits_each` bits.
///
/// # Errors
/// If either is 0.
pub fn fixed_nats(params: usize, bits_each: usize) -> Result<f64> {
    Ok(check_count("params", params, 1)? * check_count("bits_each", bits_each, 1)? * LN_2)
}

/// Certified interval for the chosen policy of a class. One-sided forms give a floor; their
/// interval ends at the range's upper end.
///
/// # Errors
/// [`BoundsError::NotCertifiable`] if the prompts chose among more policies than `nats` pays for;
/// otherwise as [`finite_class`], or if a value lies outside `range`.
pub fn certify_class<R: Role + Into<PromptRole>>(
    sample: &Sample<'_, R>,
    range: Range,
    nats: f64,
    delta: f64,
    form: ClassForm,
) -> Result<Bound> {
    let rows = sample.rows();
    range.check(rows.values())?;
    if let PromptRole::Selected { candidates } = sample.erase().role()
        && nats < log(candidates as f64) - 1e-9
    {
        return Err(BoundsError::NotCertifiable(
            "nats are below log(candidates): every policy compared has to be paid for",
        ));
    }
    let (n, centre, b) = (rows.n(), rows.mean(), range.length());
    let width = finite_class(n, rows.k(), nats, delta, b, form)?;
    let radius = (nats + form.price(delta)) / n as f64;
    let (lo, hi) = match form {
        ClassForm::OneStep | ClassForm::TwoRoot => (centre - width, centre + width),
        ClassForm::OneStepOneSided => (centre - width, range.hi()),
        ClassForm::Kl => kl_ball(centre, radius, range)?,
        ClassForm::KlOneSided => (kl_ball(centre, radius, range)?.0, range.hi()),
    };
    let is_floor = matches!(form, ClassForm::OneStepOneSided | ClassForm::KlOneSided);
    let above = if is_floor { 0.0 } else { hi - centre };
    let named = inputs([
        ("n", n as f64),
        ("k", rows.k() as f64),
        ("range", b),
        ("mean", centre),
        ("nats", nats),
    ]);
    let value = above.max(centre - lo);
    Ok(
        Bound::new(form.id(), Standing::Certified, delta, value, named).with_interval(
            lo,
            hi,
            range.lo(),
            range.hi(),
        ),
    )
}
