//! An expectation that can be taken: a sample, or an enumerated distribution.
//!
//! Plug-in formulas take a [`Distribution`]. With rollouts it is their empirical distribution;
//! with an enumerated world, such as a vocabulary, the result is exact.

use alloc::vec::Vec;

use crate::error::{BoundsError, Result, check, check_finite, domain};
use crate::sample::Rows;
use crate::sums::sum;

/// Slack of an order statistic's index, in shares of the mass.
const SLACK: f64 = 1e-9;

/// Finite values with weights that sum to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution<'a> {
    values: &'a [f64],
    weights: Option<&'a [f64]>,
}

impl<'a> Distribution<'a> {
    /// The empirical distribution of a sample.
    ///
    /// # Errors
    /// If it is empty or holds NaN or infinity.
    pub fn sample(values: &'a [f64]) -> Result<Self> {
        check_finite("sample", values)?;
        let weights = None;
        Ok(Self { values, weights })
    }

    /// An enumerated distribution.
    ///
    /// # Errors
    /// If the lengths differ, a value is not finite, a weight is negative, or the weights do not
    /// sum to 1 within 1e-6.
    pub fn exact(values: &'a [f64], weights: &'a [f64]) -> Result<Self> {
        check_finite("values", values)?;
        check_finite("weights", weights)?;
        if values.len() != weights.len() {
            return Err(BoundsError::Shape("values and weights differ in length"));
        }
        if weights.iter().any(|&weight| weight < 0.0) {
            return Err(domain("weights", "at least 0"));
        }
        let total = sum(weights.iter().copied());
        check("sum of the weights", total, "1 within 1e-6", |v| {
            (v - 1.0).abs() < 1e-6
        })?;
        let weights = Some(weights);
        Ok(Self { values, weights })
    }

    pub(crate) fn of_rows(rows: &Rows<'a>) -> Self {
        let (values, weights) = (rows.values(), None);
        Self { values, weights }
    }

    /// Values with their weights.
    pub fn atoms(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let even = 1.0 / self.values.len() as f64;
        let weight = move |index: usize| self.weights.map_or(even, |weights| weights[index]);
        let values = self.values.iter().enumerate();
        values.map(move |(index, &value)| (value, weight(index)))
    }

    /// Expectation of `f`.
    pub fn mean_of(&self, f: impl Fn(f64) -> f64) -> f64 {
        match self.weights {
            None => sum(self.values.iter().map(|&value| f(value))) / self.values.len() as f64,
            Some(_) => sum(self.atoms().map(|(value, weight)| weight * f(value))),
        }
    }

    /// Expectation.
    pub fn mean(&self) -> f64 {
        self.mean_of(|value| value)
    }

    /// Variance of `f`, with divisor 1.
    pub fn variance_of(&self, f: impl Fn(f64) -> f64) -> f64 {
        let centre = self.mean_of(&f);
        self.mean_of(|value| (f(value) - centre) * (f(value) - centre))
    }

    /// Largest value.
    pub fn max(&self) -> f64 {
        self.values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
    }

    /// log E exp(value), by log-sum-exp.
    pub fn log_mean_exp(&self) -> f64 {
        let top = self.max();
        top + libm::log(self.mean_of(|value| libm::exp(value - top)))
    }

    /// Smallest t among the values of `f` with `P(f <= t) >= level`; for a sample of N values
    /// the order statistic number `ceil(level N)`.
    pub fn quantile_of(&self, level: f64, f: impl Fn(f64) -> f64) -> f64 {
        let mut atoms: Vec<(f64, f64)> = self.atoms().map(|(v, w)| (f(v), w)).collect();
        atoms.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut below = 0.0;
        for &(value, weight) in &atoms {
            below += weight;
            if below >= level - SLACK {
                return value;
            }
        }
        atoms.last().map_or(0.0, |&(value, _)| value)
    }
}
