//! Rollouts by prompt, and what the prompts were used for.
//!
//! The independent unit is the prompt, never the rollout: prompts that share a template are one
//! cluster and are merged before they come here. A sample's *role* is a type, so that prompts
//! which influenced the policy cannot reach a theorem for a fixed policy:
//!
//! ```
//! use rlvr_bounds::{Method, Range, Rows, Sample, certify_fixed};
//! let rewards = [1.0, 0.0, 1.0, 1.0];
//! let rows = Rows::new(&rewards, 2)?;
//! let held_out = Sample::held_out(rows);
//! assert!(certify_fixed(&held_out, Range::UNIT, 0.05, Method::Direct).is_ok());
//! # Ok::<(), rlvr_bounds::BoundsError>(())
//! ```
//!
//! The same with training prompts does not compile:
//!
//! ```compile_fail,E0308
//! use rlvr_bounds::{Method, Range, Rows, Sample, certify_fixed};
//! let rewards = [1.0, 0.0, 1.0, 1.0];
//! let rows = Rows::new(&rewards, 2)?;
//! let trained = Sample::trained(rows);
//! assert!(certify_fixed(&trained, Range::UNIT, 0.05, Method::Direct).is_ok());
//! # Ok::<(), rlvr_bounds::BoundsError>(())
//! ```

use alloc::vec::Vec;

use crate::distribution::Distribution;
use crate::error::{BoundsError, Result, check, check_count, check_finite, domain};
use crate::sums::mean;

/// Row-major table `[n, k]`: row i holds the k rollouts of prompt i.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows<'a> {
    data: &'a [f64],
    k: usize,
}

impl<'a> Rows<'a> {
    /// A table of finite values with `k` columns.
    ///
    /// # Errors
    /// If `k` is 0, `data` is empty, holds NaN or infinity, or is no multiple of `k` long.
    pub fn new(data: &'a [f64], k: usize) -> Result<Self> {
        check_count("k", k, 1)?;
        check_finite("rows", data)?;
        if !data.len().is_multiple_of(k) {
            return Err(BoundsError::Shape(
                "rows: the number of values is no multiple of k",
            ));
        }
        Ok(Self { data, k })
    }

    /// Number of prompts.
    pub fn n(&self) -> usize {
        self.data.len() / self.k
    }

    /// Rollouts per prompt.
    pub fn k(&self) -> usize {
        self.k
    }

    /// All values, prompt by prompt.
    pub fn values(&self) -> &'a [f64] {
        self.data
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = &'a [f64]> + use<'a> {
        self.data.chunks_exact(self.k)
    }

    /// Mean of each row: one independent draw per prompt.
    pub fn means(&self) -> Vec<f64> {
        self.iter().map(mean).collect()
    }

    /// Mean of all values.
    pub fn mean(&self) -> f64 {
        mean(self.data)
    }

    /// The values as an empirical distribution.
    pub fn distribution(&self) -> Distribution<'a> {
        Distribution::of_rows(self)
    }
}

/// Interval in which every value lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    lo: f64,
    hi: f64,
}

impl Range {
    /// A reward in `[0, 1]`.
    pub const UNIT: Self = Self { lo: 0.0, hi: 1.0 };

    /// `lo..=hi`.
    ///
    /// # Errors
    /// If an end is not finite or `lo` is not below `hi`.
    pub fn new(lo: f64, hi: f64) -> Result<Self> {
        check("range.hi", hi, "finite", |_| true)?;
        check("range.lo", lo, "below range.hi", |v| v < hi)?;
        Ok(Self { lo, hi })
    }

    /// Range of `reward - kl_coef * clip(l, -tau, tau)` with a reward in `[0, 1]`.
    ///
    /// # Errors
    /// If `kl_coef` or `tau` is negative or not finite.
    pub fn clipped(kl_coef: f64, tau: f64) -> Result<Self> {
        let slack = check("kl_coef", kl_coef, "at least 0", |v| v >= 0.0)?
            * check("tau", tau, "at least 0", |v| v >= 0.0)?;
        Self::new(-slack, 1.0 + slack)
    }

    /// Lower end.
    pub fn lo(&self) -> f64 {
        self.lo
    }

    /// Upper end.
    pub fn hi(&self) -> f64 {
        self.hi
    }

    /// B, its length.
    pub fn length(&self) -> f64 {
        self.hi - self.lo
    }

    pub(crate) fn check(&self, values: &[f64]) -> Result<()> {
        let slack = 1e-12 * self.length();
        let is_inside = |value: &f64| *value >= self.lo - slack && *value <= self.hi + slack;
        if values.iter().all(is_inside) {
            Ok(())
        } else {
            Err(domain("every value", "inside the stated range"))
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// What prompts were used for.
pub trait Role: sealed::Sealed + Copy {}

/// Prompts that influenced nothing: neither the policy, nor the choice of a checkpoint, nor tau.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldOut;

/// Prompts that served to choose among policies fixed beforehand, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Policies compared, discarded ones included.
    pub candidates: u64,
}

/// Prompts of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trained;

/// A role that is known at run time only, such as one read from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptRole {
    /// See [`HeldOut`].
    HeldOut,
    /// See [`Selected`].
    Selected {
        /// Policies compared, discarded ones included.
        candidates: u64,
    },
    /// See [`Trained`].
    Trained,
}

impl sealed::Sealed for HeldOut {}
impl sealed::Sealed for Selected {}
impl sealed::Sealed for Trained {}
impl sealed::Sealed for PromptRole {}
impl Role for HeldOut {}
impl Role for Selected {}
impl Role for Trained {}
impl Role for PromptRole {}

impl From<HeldOut> for PromptRole {
    fn from(_: HeldOut) -> Self {
        Self::HeldOut
    }
}

impl From<Selected> for PromptRole {
    fn from(role: Selected) -> Self {
        let candidates = role.candidates;
        Self::Selected { candidates }
    }
}

impl From<Trained> for PromptRole {
    fn from(_: Trained) -> Self {
        Self::Trained
    }
}

/// Values by prompt, drawn from the frozen policy, with the role of the prompts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a, R: Role> {
    rows: Rows<'a>,
    role: R,
}

impl<'a> Sample<'a, HeldOut> {
    /// Prompts that influenced nothing.
    pub fn held_out(rows: Rows<'a>) -> Self {
        let role = HeldOut;
        Self { rows, role }
    }
}

impl<'a> Sample<'a, Trained> {
    /// Prompts of training.
    pub fn trained(rows: Rows<'a>) -> Self {
        let role = Trained;
        Self { rows, role }
    }
}

impl<'a> Sample<'a, Selected> {
    /// Prompts on which `candidates` policies were compared.
    pub fn selected(rows: Rows<'a>, candidates: u64) -> Self {
        let role = Selected { candidates };
        Self { rows, role }
    }
}

impl<'a> Sample<'a, PromptRole> {
    /// A role that is known at run time only.
    pub fn of_role(rows: Rows<'a>, role: PromptRole) -> Self {
        Self { rows, role }
    }

    /// The sample, if its prompts influenced nothing.
    ///
    /// # Errors
    /// [`BoundsError::NotCertifiable`] for prompts of any other role.
    pub fn require_held_out(self) -> Result<Sample<'a, HeldOut>> {
        match self.role {
            PromptRole::HeldOut => Ok(Sample::held_out(self.rows)),
            PromptRole::Selected { .. } => Err(BoundsError::NotCertifiable(
                "prompts that chose a policy need a bound with log(candidates)",
            )),
            PromptRole::Trained => Err(BoundsError::NotCertifiable(
                "training prompts need a bound that pays for the complexity of the policy",
            )),
        }
    }
}

impl<'a, R: Role> Sample<'a, R> {
    /// The values.
    pub fn rows(&self) -> Rows<'a> {
        self.rows
    }

    /// What the prompts were used for.
    pub fn role(&self) -> R {
        self.role
    }

    pub(crate) fn erase(&self) -> Sample<'a, PromptRole>
    where
        R: Into<PromptRole>,
    {
        Sample::of_role(self.rows, self.role.into())
    }
}
