//! The statistics that a report is made from, checked. [`super::read_statistics`] has the JSON.

use std::path::PathBuf;

use rlvr_bounds::{BoundsError, Rows};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Statistics cannot be used.
#[derive(Debug, Error)]
pub enum StatisticsError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not the documented JSON.
    #[error("read {name}: {source}")]
    Json {
        /// What was read.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// A number is NaN or infinite.
    #[error("use {name}: it is {value}, not a finite number")]
    NonFinite {
        /// Path of the number.
        name: String,
        /// What it is.
        value: f64,
    },
    /// A number is outside its range.
    #[error("use {name} = {value}: it has to be {need}")]
    Range {
        /// Path of the number.
        name: String,
        /// What it is.
        value: f64,
        /// What it may be.
        need: &'static str,
    },
    /// A table has no rows, no columns, or rows of different lengths.
    #[error("use {name}: {problem}")]
    Table {
        /// Path of the table.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Too few prompts for an interval.
    #[error("use {name}: {found} prompts; an interval needs at least {need}")]
    TooFewPrompts {
        /// Path of the table.
        name: String,
        /// Prompts there.
        found: usize,
        /// Prompts needed.
        need: usize,
    },
    /// Nothing to report on.
    #[error("find rollouts: give held_out, train, or both")]
    Nothing,
    /// A theorem refused its input.
    #[error("compute {name}: {source}")]
    Bound {
        /// The theorem's id.
        name: &'static str,
        /// Why.
        source: BoundsError,
    },
}

/// A checked table `[n, k]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Values, prompt by prompt.
    #[serde(skip)]
    pub data: Vec<f64>,
    /// Number of prompts.
    pub n: usize,
    /// Rollouts per prompt.
    pub k: usize,
}

impl Table {
    /// A table from rows of equal length.
    ///
    /// # Errors
    /// If there is no row, no column, or a row of another length.
    pub fn new(name: &str, rows: &[Vec<f64>]) -> Result<Self, StatisticsError> {
        let problem = |problem: String| StatisticsError::Table {
            name: name.into(),
            problem,
        };
        let k = rows.first().map_or(0, Vec::len);
        if rows.is_empty() {
            return Err(problem("n = 0: there is no prompt".into()));
        }
        if k == 0 {
            return Err(problem("K = 0: prompt 0 has no rollout".into()));
        }
        if let Some(index) = rows.iter().position(|row| row.len() != k) {
            return Err(problem(format!(
                "prompt {index} has {} rollouts, prompt 0 has {k}; every prompt needs the same number",
                rows[index].len()
            )));
        }
        let (data, n) = (rows.concat(), rows.len());
        Ok(Self { data, n, k })
    }

    /// The table as the theorems take it.
    ///
    /// # Errors
    /// Never for a checked table.
    pub fn rows(&self) -> Result<Rows<'_>, BoundsError> {
        Rows::new(&self.data, self.k)
    }

    /// Applies `f` to every value.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            data: self.data.iter().map(|&value| f(value)).collect(),
            ..*self
        }
    }

    /// Combines two tables of the same shape.
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let pairs = self.data.iter().zip(&other.data);
        Self {
            data: pairs.map(|(&a, &b)| f(a, b)).collect(),
            ..*self
        }
    }
}

/// Rollouts of the frozen policy on one set of prompts; all tables have one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollouts {
    /// Reward of the run, in `[0, 1]`.
    pub rewards: Table,
    /// True reward, in `[0, 1]`; the reward itself if it was not given.
    pub truth: Table,
    /// True if the reward is the truth.
    pub is_verified: bool,
    /// Sequence log-ratio to the reference.
    pub log_ratio_ref: Option<Table>,
    /// Sequence log-ratio to the policy of the reward model's data.
    pub log_ratio_old: Option<Table>,
}

/// How large the class of policies is from which training chose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Complexity {
    /// Nats, computed elsewhere.
    Nats {
        /// log of the number of policies, or of one over the prior.
        nats: f64,
    },
    /// Trainable parameters of a fixed number of bits each.
    Bits {
        /// Parameters.
        params: usize,
        /// Bits of each.
        bits_each: usize,
    },
    /// A message of a prefix code.
    Prefix {
        /// Its length in bits.
        bits: u64,
    },
    /// A posterior over parameters and its divergence from a prior chosen beforehand.
    Posterior {
        /// KL(posterior‖prior); for one deployed draw the log density ratio at it.
        kl: f64,
        /// What the rollouts were drawn from.
        rollouts: PosteriorRollouts,
    },
}

/// What stands behind the rollouts of a posterior.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PosteriorRollouts {
    /// Every rollout had parameters of its own, drawn from the posterior.
    FreshDraws,
    /// One draw was deployed.
    SingleDraw,
    /// The trained policy; the posterior is a model of training, such as an Ornstein-Uhlenbeck
    /// process, and nothing is certified.
    Estimated,
}

impl Complexity {
    /// In nats; `None` for a posterior.
    ///
    /// # Errors
    /// If a count is 0 or the nats are not a number of at least 0.
    pub fn nats(self) -> Result<Option<f64>, BoundsError> {
        let nats = match self {
            Self::Posterior { .. } => return Ok(None),
            Self::Nats { nats } if nats.is_finite() && nats >= 0.0 => Ok(nats),
            Self::Nats { .. } => Err(BoundsError::Domain {
                arg: "complexity.nats",
                need: "a finite number of at least 0",
            }),
            Self::Bits { params, bits_each } => rlvr_bounds::fixed_nats(params, bits_each),
            Self::Prefix { bits } => rlvr_bounds::prefix_nats(bits),
        };
        nats.map(Some)
    }
}

/// Cost of a prompt and of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Reading one prompt.
    pub prefill: f64,
    /// One completion.
    pub decode: f64,
}

/// Checked statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Total failure probability of a row.
    pub delta: f64,
    /// Weight of the KL term in the objective.
    pub kl_coef: f64,
    /// Threshold of the sequence-level clip.
    pub tau: Option<f64>,
    /// Prompts that influenced nothing.
    pub held_out: Option<Rollouts>,
    /// Prompts of training.
    pub train: Option<Rollouts>,
    /// Policies compared on the held-out prompts; `None` if they chose nothing.
    pub candidates: Option<u64>,
    /// Size of the class of policies.
    pub complexity: Option<Complexity>,
    /// Reward minus truth on draws of the reward model's distribution.
    pub reward_errors: Vec<f64>,
    /// Costs, for advice on the budget.
    pub cost: Option<Cost>,
}

/// Failure probability where none is given.
pub const DEFAULT_DELTA: f64 = 0.05;

impl Statistics {
    /// Checks what does not depend on a single table.
    ///
    /// # Errors
    /// [`StatisticsError`], naming the number or the table.
    pub fn check(&self) -> Result<(), StatisticsError> {
        let range = |name: &str, value: f64, holds: bool, need: &'static str| {
            if holds {
                return Ok(());
            }
            let name = name.into();
            Err(StatisticsError::Range { name, value, need })
        };
        let is_share = self.delta > 0.0 && self.delta < 1.0;
        range("delta", self.delta, is_share, "above 0 and below 1")?;
        range("kl_coef", self.kl_coef, self.kl_coef >= 0.0, "at least 0")?;
        let tau = self.tau.unwrap_or(0.0);
        range("tau", tau, tau >= 0.0, "at least 0")?;
        let candidates = self.candidates.unwrap_or(1);
        range("candidates", 0.0, candidates >= 1, "at least 1")?;
        if let Some(cost) = self.cost {
            let holds = cost.prefill.is_finite() && cost.prefill >= 0.0;
            range("cost.prefill", cost.prefill, holds, "at least 0")?;
            let holds = cost.decode.is_finite() && cost.decode > 0.0;
            range("cost.decode", cost.decode, holds, "above 0")?;
        }
        if self.held_out.is_none() && self.train.is_none() {
            return Err(StatisticsError::Nothing);
        }
        for (name, set) in [("held_out", &self.held_out), ("train", &self.train)] {
            let found = set.as_ref().map_or(2, |set| set.rewards.n);
            if found < 2 {
                let (name, need) = (format!("{name}.rewards"), 2);
                return Err(StatisticsError::TooFewPrompts { name, found, need });
            }
        }
        Ok(())
    }
}
