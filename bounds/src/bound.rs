//! What every theorem returns: a number that says where it comes from and what it is worth.

use alloc::vec::Vec;

use crate::error::{Result, check_count, check_not_negative};
use crate::sums::sum;

/// How far a number can be trusted, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Algebra: holds to rounding error.
    Identity,
    /// Holds with probability at least 1 - delta under independence and bounded range alone.
    Certified,
    /// The formula is exact, but an unbounded or unknown expectation is replaced by an estimate.
    PlugIn,
    /// Relies on a model of training: a prediction, no guarantee.
    ModelBased,
    /// Advice for spending a budget.
    Rule,
}

impl Standing {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Certified => "certified",
            Self::PlugIn => "plug-in",
            Self::ModelBased => "model-based",
            Self::Rule => "rule",
        }
    }
}

/// A number that a bound was computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// Its name in the formula.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
}

pub(crate) fn inputs<const N: usize>(pairs: [(&'static str, f64); N]) -> Vec<Input> {
    let named = pairs.into_iter().map(|(name, value)| Input { name, value });
    named.collect()
}

/// A bound in reward units. The fields are private: nothing outside this package can call a
/// number certified.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    value: f64,
    interval: Option<(f64, f64)>,
    id: &'static str,
    standing: Standing,
    delta: f64,
    is_vacuous: bool,
    inputs: Vec<Input>,
}

impl Bound {
    pub(crate) fn new(
        id: &'static str,
        standing: Standing,
        delta: f64,
        value: f64,
        inputs: Vec<Input>,
    ) -> Self {
        let (interval, is_vacuous) = (None, value >= 1.0);
        Self {
            value,
            interval,
            id,
            standing,
            delta,
            is_vacuous,
            inputs,
        }
    }

    /// Sets the interval `lo..hi` for a quantity that lies in `floor..ceiling` anyway.
    pub(crate) fn with_interval(mut self, lo: f64, hi: f64, floor: f64, ceiling: f64) -> Self {
        self.interval = Some((lo, hi));
        self.is_vacuous = (lo <= floor && hi >= ceiling) || self.value >= ceiling - floor;
        self
    }

    /// Judged against a quantity whose range has this length.
    pub(crate) fn within_range(mut self, length: f64) -> Self {
        self.is_vacuous = self.value >= length;
        self
    }

    /// A plug-in number of the caller's own: an estimate, never certified.
    ///
    /// # Errors
    /// If `value` is negative or not finite.
    pub fn estimate(id: &'static str, value: f64) -> Result<Self> {
        check_not_negative(id, value)?;
        Ok(Self::new(id, Standing::PlugIn, 0.0, value, Vec::new()))
    }

    /// A term that is exactly zero, such as the reward shift of a verifiable reward.
    pub fn zero(id: &'static str) -> Self {
        Self::new(id, Standing::Identity, 0.0, 0.0, Vec::new())
    }

    /// Sum of terms that bound the parts of one error: the values add, the failure
    /// probabilities add (union bound), and the worst standing stays. `range` is the length of
    /// the range of the error.
    ///
    /// # Errors
    /// If there is no part.
    pub fn total(id: &'static str, parts: &[&Bound], range: f64) -> Result<Self> {
        check_count("parts", parts.len(), 1)?;
        let value = sum(parts.iter().map(|part| part.value));
        let delta = sum(parts.iter().map(|part| part.delta));
        let standing = parts.iter().map(|part| part.standing).max();
        let named = parts.iter().map(|part| Input {
            name: part.id,
            value: part.value,
        });
        let standing = standing.unwrap_or(Standing::PlugIn);
        Ok(Self::new(id, standing, delta, value, named.collect()).within_range(range))
    }

    /// The bound itself.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The interval, for bounds that are one.
    pub fn interval(&self) -> Option<(f64, f64)> {
        self.interval
    }

    /// Which formula, in the numbering of the package documentation.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// How far it can be trusted.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Probability with which it may fail; 0 where nothing random is claimed.
    pub fn delta(&self) -> f64 {
        self.delta
    }

    /// True if it says no more than the range of the quantity does.
    pub fn is_vacuous(&self) -> bool {
        self.is_vacuous
    }

    /// What it was computed from.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }
}
