//! The rows of a report.

use std::collections::BTreeMap;

use rlvr_bounds::{Bound, Decomposition, Standing};
use serde::Serialize;

/// A measured quantity with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Point estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One prediction beside its measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Heading it stands under.
    pub group: &'static str,
    /// Formula, in the numbering of `rlvr-bounds`.
    pub id: String,
    /// What is bounded, in words.
    pub name: String,
    /// The bound; `None` where no theorem applies, with the reason in `note`.
    pub predicted: Option<f64>,
    /// Interval of the true value, for bounds that are one.
    pub predicted_interval: Option<[f64; 2]>,
    /// What was measured of the same quantity.
    pub measured: Option<Measured>,
    /// Bound divided by the measured absolute value.
    pub ratio: Option<f64>,
    /// certified, plug-in, model-based, identity or rule; refused where there is no bound.
    pub standing: &'static str,
    /// True if the standing is certified or an identity.
    pub is_certified: bool,
    /// True if the bound says no more than the range of the reward.
    pub is_vacuous: bool,
    /// True if the whole measured interval lies beyond the bound.
    pub is_violated: bool,
    /// Probability with which this row alone may fail.
    pub delta: f64,
    /// What it was computed from.
    pub inputs: BTreeMap<&'static str, f64>,
    /// Remark, or the reason of a refusal.
    pub note: String,
}

impl Row {
    /// A row from a bound.
    pub fn of_bound(group: &'static str, name: &str, bound: &Bound) -> Self {
        let standing = bound.standing();
        let inputs = bound.inputs().iter().map(|it| (it.name, it.value));
        Self {
            group,
            id: bound.id().into(),
            name: name.into(),
            predicted: Some(bound.value()),
            predicted_interval: bound.interval().map(|(lo, hi)| [lo, hi]),
            measured: None,
            ratio: None,
            standing: standing.name(),
            is_certified: matches!(standing, Standing::Certified | Standing::Identity),
            is_vacuous: bound.is_vacuous(),
            is_violated: false,
            delta: bound.delta(),
            inputs: inputs.collect(),
            note: String::new(),
        }
    }

    /// A row that says why there is no bound.
    pub fn refused(group: &'static str, id: &str, name: &str, reason: &str) -> Self {
        Self {
            group,
            id: id.into(),
            name: name.into(),
            predicted: None,
            predicted_interval: None,
            measured: None,
            ratio: None,
            standing: "refused",
            is_certified: false,
            is_vacuous: false,
            is_violated: false,
            delta: 0.0,
            inputs: BTreeMap::new(),
            note: reason.into(),
        }
    }

    /// Puts the measurement beside the bound; `is_error` if it is an error the bound must exceed.
    pub fn beside(mut self, measured: Option<Measured>, is_error: bool) -> Self {
        self.measured = measured;
        let (Some(predicted), Some(found)) = (self.predicted, measured) else {
            return self;
        };
        if found.value != 0.0 {
            self.ratio = Some(predicted / found.value.abs());
        }
        let least = found.low.max(-found.high).max(0.0);
        self.is_violated = is_error && least > predicted;
        self
    }

    /// Adds a remark.
    pub fn noted(mut self, note: &str) -> Self {
        self.note = note.into();
        self
    }
}

/// Parts of the measured error, exact to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Parts {
    /// Sampling and selection.
    pub sampling: f64,
    /// Error of the reward.
    pub reward: f64,
    /// Clipped KL.
    pub clip: f64,
    /// Their sum, the measured error.
    pub total: f64,
    /// What the sum misses by.
    pub residual: f64,
}

impl From<Decomposition> for Parts {
    fn from(found: Decomposition) -> Self {
        Self {
            sampling: found.sampling,
            reward: found.reward,
            clip: found.clip,
            total: found.total,
            residual: found.residual,
        }
    }
}

/// A set of rollouts, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SetSummary {
    /// Prompts.
    pub n: usize,
    /// Rollouts per prompt.
    pub k: usize,
    /// Mean reward with its t interval over prompts.
    pub reward: Measured,
    /// Variance of a rollout given its prompt; needs two rollouts per prompt.
    pub sigma_r2: Option<f64>,
    /// Variance between prompts.
    pub sigma_p2: Option<f64>,
}

/// Everything that a report says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Failure probability of a row, all its parts together.
    pub delta: f64,
    /// How it is split where a row has several parts.
    pub delta_split: BTreeMap<&'static str, f64>,
    /// Held-out prompts.
    pub held_out: Option<SetSummary>,
    /// Training prompts.
    pub train: Option<SetSummary>,
    /// Training objective minus true objective on held-out prompts, interval from the latter.
    pub measured_error: Option<Measured>,
    /// Mean training reward minus mean held-out reward of the two populations: both sides are
    /// uncertain here.
    pub population_gap: Option<Measured>,
    /// The measured error, split exactly.
    pub parts: Option<Parts>,
    /// Predictions beside measurements.
    pub rows: Vec<Row>,
    /// What seems wrong with the input.
    pub warnings: Vec<String>,
    /// What to do with the next budget.
    pub advice: Vec<String>,
}
