//! The section `[selection.rounds]`.

use serde::{Deserialize, Serialize};

use crate::config::InvalidValue;
use crate::config::range::{at_least, positive};

/// Sizes and bounds that all arms with rounds share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoundsConfig {
    /// Prompts pulled from the data at a time, 1 or more.
    pub raw_batch: usize,
    /// Prompts rolled out in the first round, counted after the gate; unset means one and a half
    /// times `selection.prompts_per_step`, rounded up.
    pub candidate_target: Option<usize>,
    /// How much more than expected to be needed a later round asks for, more than 0.
    pub top_up_factor: f64,
    /// Fewest prompts of a later round; unset means the smaller of 64 and half of
    /// `selection.prompts_per_step`, rounded up.
    pub top_up_min: Option<usize>,
    /// Most rounds of a step, 1 or more.
    pub max_rounds: usize,
    /// What happens to a step that is still short then.
    pub on_short: OnShort,
    /// What has to differ within a group for it to be trained on.
    pub filter: Filter,
}

impl Default for RoundsConfig {
    fn default() -> Self {
        Self {
            raw_batch: 32,
            candidate_target: None,
            top_up_factor: 1.25,
            top_up_min: None,
            max_rounds: 10,
            on_short: OnShort::Error,
            filter: Filter::Reward,
        }
    }
}

/// What happens to a step that is short of mixed groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnShort {
    /// The run saves its state and ends.
    #[default]
    Error,
    /// It trains on what it has, and says so in every report.
    TrainShort,
}

/// What has to differ within a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The reward.
    #[default]
    Reward,
    /// Whether the answer is right.
    Accuracy,
}

impl RoundsConfig {
    /// Checks every value by itself.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("selection.rounds.raw_batch", self.raw_batch, 1)?;
        at_least("selection.rounds.max_rounds", self.max_rounds, 1)?;
        positive("selection.rounds.top_up_factor", self.top_up_factor)?;
        let candidates = self.candidate_target.unwrap_or(1);
        at_least("selection.rounds.candidate_target", candidates, 1)
    }
}
