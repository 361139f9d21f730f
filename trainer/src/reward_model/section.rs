//! The section `[reward_model]`.

use serde::{Deserialize, Serialize};

use crate::config::InvalidValue;
use crate::config::range::{at_least, positive};

/// How `trainer reward-model` spends its completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardModelSection {
    /// Training prompts whose completions are paired, 2 or more.
    pub prompts: usize,
    /// Completions of each, 2 or more.
    pub samples: usize,
    /// Most pairs to fit on, 8 or more; unset means all.
    pub max_pairs: Option<usize>,
    /// Share of those prompts whose pairs only measure the accuracy, above 0 and below 1.
    pub held_out_frac: f64,
    /// Further prompts, one completion each, that calibrate the reward, 2 or more.
    pub calibration_prompts: usize,
    /// Further prompts, one completion each, on which its errors are measured, 2 or more.
    pub error_prompts: usize,
    /// Penalty on the squared weights of the head, for features of unit size, above 0.
    pub penalty: f64,
}

impl Default for RewardModelSection {
    fn default() -> Self {
        Self {
            prompts: 500,
            samples: 8,
            max_pairs: None,
            held_out_frac: 0.2,
            calibration_prompts: 500,
            error_prompts: 1000,
            penalty: 0.01,
        }
    }
}

impl RewardModelSection {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("reward_model.prompts", self.prompts, 2)?;
        at_least("reward_model.samples", self.samples, 2)?;
        at_least("reward_model.max_pairs", self.max_pairs.unwrap_or(8), 8)?;
        at_least(
            "reward_model.calibration_prompts",
            self.calibration_prompts,
            2,
        )?;
        at_least("reward_model.error_prompts", self.error_prompts, 2)?;
        positive("reward_model.penalty", self.penalty)?;
        if self.held_out_frac > 0.0 && self.held_out_frac < 1.0 {
            return Ok(());
        }
        let key = "reward_model.held_out_frac";
        let allowed = "above 0 and below 1";
        Err(InvalidValue::new(key, self.held_out_frac, allowed))
    }

    /// Training prompts in all.
    pub fn num_prompts(&self) -> usize {
        self.prompts + self.calibration_prompts + self.error_prompts
    }

    /// Prompts whose pairs are fitted; the rest of `prompts` measure the accuracy.
    pub fn num_fit_prompts(&self) -> usize {
        let held_out = (self.prompts as f64 * self.held_out_frac).ceil() as usize;
        self.prompts - held_out.clamp(1, self.prompts - 1)
    }
}
