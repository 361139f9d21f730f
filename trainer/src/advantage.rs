//! Groups to rows: shaped rewards, advantages, and which rows enter the loss.
//!
//! The reward of a rollout is never overwritten: what shaping subtracts is a new value with its own
//! name, and degenerate groups are counted, not hidden.

use rlvr_core::{
    AdvantageConfig, Baseline, Degenerate, KlPenalty, Overlong, Scale, group_advantages,
    soft_overlong_penalty,
};
use serde::{Deserialize, Serialize};

use crate::batch::Row;
use crate::config::InvalidValue;
use crate::record::{Group, Rollout};

/// The section `[advantage]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageSection {
    /// What is subtracted from a reward.
    pub baseline: Baseline,
    /// What the difference is divided by.
    pub scale: Scale,
    /// What happens at the length limit.
    pub overlong: Overlong,
    /// KL penalty against the reference, taken from the advantage of each token and all before it
    /// (KL in the reward); `loss.kl` is the same in the loss.
    pub kl_in_reward: Option<KlPenalty>,
}

impl Default for AdvantageSection {
    fn default() -> Self {
        Self {
            baseline: Baseline::GroupMean,
            scale: Scale::GroupStd { ddof: 1, eps: 1e-4 },
            overlong: Overlong::Keep,
            kl_in_reward: None,
        }
    }
}

impl AdvantageSection {
    /// # Errors
    /// If the group size does not allow the baseline or the scale, or the slope is empty.
    pub fn validate(&self, group_size: usize) -> Result<(), InvalidValue> {
        let named = |prefix: &str, err: rlvr_core::ConfigError| {
            InvalidValue::new(
                &format!("advantage.{prefix}{}", err.key),
                err.value,
                err.allowed,
            )
        };
        self.overlong
            .validate()
            .map_err(|err| named("overlong.", err))?;
        if let Some(penalty) = &self.kl_in_reward {
            penalty
                .validate()
                .map_err(|err| named("kl_in_reward.", err))?;
        }
        self.core()
            .validate(group_size)
            .map_err(|err| named("", err))
    }

    fn core(&self) -> AdvantageConfig {
        AdvantageConfig {
            baseline: self.baseline,
            scale: self.scale,
        }
    }
}

/// Rows for the update and what became of the groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdvantageOutcome {
    /// Rows that enter the loss, group after group.
    pub rows: Vec<Row>,
    /// Every advantage, masked rows included, in the order of groups and rollouts.
    pub advantages: Vec<Vec<f64>>,
    /// Why each group has no signal, if so.
    pub degenerate: Vec<Option<Degenerate>>,
    /// Rows that overlong masking took out of the loss.
    pub num_masked: usize,
}

/// Advantages of every rollout.
pub fn advantages(groups: &[Group], section: &AdvantageSection) -> AdvantageOutcome {
    let shaped: Vec<Vec<f64>> = groups
        .iter()
        .map(|group| {
            let shaped = group.rollouts.iter();
            shaped
                .map(|rollout| rollout.reward.total + length_penalty(section.overlong, rollout))
                .collect()
        })
        .collect();
    let mut outcome = AdvantageOutcome::default();
    for (group, found) in groups.iter().zip(group_advantages(&shaped, section.core())) {
        for (rollout, &advantage) in group.rollouts.iter().zip(&found.advantages) {
            let is_masked =
                section.overlong == Overlong::Mask && rollout.completion.stop.is_truncated();
            if is_masked {
                outcome.num_masked += 1;
            } else if !rollout.completion.tokens.is_empty() {
                outcome.rows.push(row(group, rollout, advantage));
            }
        }
        outcome.degenerate.push(found.degenerate);
        outcome.advantages.push(found.advantages);
    }
    outcome
}

/// Zero or negative.
fn length_penalty(overlong: Overlong, rollout: &Rollout) -> f64 {
    match overlong {
        Overlong::Keep | Overlong::Mask => 0.0,
        Overlong::SoftPenalty {
            max_tokens,
            cache_tokens,
            coef,
        } => {
            coef * soft_overlong_penalty(rollout.completion.tokens.len(), max_tokens, cache_tokens)
        }
    }
}

/// One rollout as the update sees it.
pub fn row(group: &Group, rollout: &Rollout, advantage: f64) -> Row {
    Row::of(&group.prompt, &rollout.completion, advantage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Completion, Prompt, PromptId, Reward, StopReason};

    fn group(rewards: &[f64], stops: &[StopReason]) -> Group {
        let prompt = Prompt {
            id: PromptId(9),
            prompt_text: "1+1=".into(),
            prompt_tokens: vec![5, 6],
            reference_answer: "2".into(),
            solution: None,
        };
        let rollouts = rewards
            .iter()
            .zip(stops)
            .enumerate()
            .map(|(index, (&total, &stop))| Rollout {
                completion: Completion {
                    prompt_id: prompt.id,
                    index: index as u32,
                    tokens: vec![7; index + 1],
                    sampler_logprobs: vec![-0.5; index + 1],
                    entropies: vec![0.1; index + 1],
                    stop,
                },
                completion_text: String::new(),
                reward: Reward {
                    total,
                    components: Vec::new(),
                    is_correct: total > 0.0,
                    is_strict_format: true,
                    reason: "test".into(),
                    extracted: None,
                    learned: None,
                },
            });
        Group {
            rollouts: rollouts.collect(),
            prompt,
        }
    }

    #[test]
    fn masked_rollouts_keep_their_place_in_the_baseline() {
        let stops = [StopReason::StopToken, StopReason::MaxNewTokens];
        let section = AdvantageSection {
            scale: Scale::None,
            overlong: Overlong::Mask,
            ..AdvantageSection::default()
        };
        let found = advantages(&[group(&[1.0, 0.0], &stops)], &section);
        assert_eq!(found.advantages, vec![vec![0.5, -0.5]]);
        assert_eq!((found.rows.len(), found.num_masked), (1, 1));
        assert_eq!(found.rows[0].tokens, vec![5, 6, 7]);
    }

    #[test]
    fn length_is_penalised_without_touching_the_reward() {
        let stops = [StopReason::StopToken; 3];
        let section = AdvantageSection {
            scale: Scale::None,
            overlong: Overlong::SoftPenalty {
                max_tokens: 3,
                cache_tokens: 2,
                coef: 1.0,
            },
            ..AdvantageSection::default()
        };
        let groups = [group(&[1.0, 1.0, 1.0], &stops)];
        let found = advantages(&groups, &section);
        // Shaped rewards 1, 0.5, 0 around their mean 0.5.
        assert_eq!(found.advantages, vec![vec![0.5, 0.0, -0.5]]);
        assert!(
            groups[0]
                .rollouts
                .iter()
                .all(|rollout| rollout.reward.total == 1.0)
        );
    }

    #[test]
    fn degenerate_groups_are_reported() {
        let stops = [StopReason::StopToken; 2];
        let groups = [group(&[1.0, 1.0], &stops), group(&[1.0, 0.0], &stops)];
        let found = advantages(&groups, &AdvantageSection::default());
        assert_eq!(found.degenerate, vec![Some(Degenerate::AllEqual), None]);
        assert!(found.rows[..2].iter().all(|row| row.advantage == 0.0));
    }
}
