//! Sections of the stages.

use serde::{Deserialize, Serialize};

use super::error::InvalidValue;
use super::range::{at_least, below, not_blank, not_negative, positive, within};

/// Where problems come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// A file, a hub id, or the name of a procedural task.
    pub train: String,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            train: "embedded".into(),
        }
    }
}

impl DataSection {
    /// Checks that a source is named.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        not_blank("data.train", &self.train)
    }
}

/// How a problem becomes what the policy sees.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptSection {
    /// System turn; unset means none.
    pub system: Option<String>,
}

impl PromptSection {
    /// Every value is possible.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        Ok(())
    }
}

/// How completions are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSection {
    /// Completions per prompt, 1 or more.
    pub group_size: usize,
    /// Sampling temperature, 0 or more; 0 is greedy.
    pub temperature: f64,
    /// Keep only the k most likely tokens, 1 or more; unset means all.
    pub top_k: Option<usize>,
    /// Keep the most likely tokens up to this probability, above 0 to 1; unset means all.
    pub top_p: Option<f64>,
    /// Drop tokens below this fraction of the most likely one, 0 to below 1; unset means none.
    pub min_p: Option<f64>,
    /// Divisor of the logits of tokens already present, more than 0; 1 is none.
    pub repetition_penalty: f64,
    /// Tokens after which a completion is truncated, 1 or more.
    pub max_new_tokens: usize,
    /// Texts that end a completion, besides the model's own stop tokens.
    pub stop_strings: Vec<String>,
    /// Bytes that the key-value cache may take, 1 or more.
    pub kv_budget_bytes: usize,
    /// Completions decoded at the same time, 1 or more.
    pub max_slots: usize,
}

impl Default for RolloutSection {
    fn default() -> Self {
        Self {
            group_size: 8,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            max_new_tokens: 256,
            stop_strings: Vec::new(),
            kv_budget_bytes: 1 << 30,
            max_slots: 128,
        }
    }
}

impl RolloutSection {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("rollout.group_size", self.group_size, 1)?;
        not_negative("rollout.temperature", self.temperature)?;
        at_least("rollout.top_k", self.top_k.unwrap_or(1), 1)?;
        let top_p = self.top_p.unwrap_or(1.0);
        positive("rollout.top_p", top_p)?;
        within("rollout.top_p", top_p, 0.0..=1.0)?;
        below("rollout.min_p", self.min_p.unwrap_or(0.0), 0.0, 1.0)?;
        positive("rollout.repetition_penalty", self.repetition_penalty)?;
        at_least("rollout.max_new_tokens", self.max_new_tokens, 1)?;
        for text in &self.stop_strings {
            at_least("rollout.stop_strings", text.len(), 1)?;
        }
        at_least("rollout.kv_budget_bytes", self.kv_budget_bytes, 1)?;
        at_least("rollout.max_slots", self.max_slots, 1)
    }
}

/// What a completion earns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardSection {
    /// Weight of a correct answer, 0 or more.
    pub correct: f64,
}

impl Default for RewardSection {
    fn default() -> Self {
        Self { correct: 1.0 }
    }
}

impl RewardSection {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        not_negative("reward.correct", self.correct)
    }
}

/// How rewards become advantages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageSection {}

impl AdvantageSection {
    /// Every value is possible.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        Ok(())
    }
}

/// The objective.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossSection {}

impl LossSection {
    /// Every value is possible.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        Ok(())
    }
}
