//! One line of `groups.jsonl`: what is known about a group that was rolled out.

use rlvr_core::GroupKind;
use serde::{Deserialize, Serialize};

use super::counts::{num_correct, num_tokens};
use crate::record::{Group, PromptId};
use crate::rollout::PromptEntropy;

/// Why a group was rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupSource {
    /// It was selected.
    Kept,
    /// The gate rejected it, and an audit looked.
    Audit,
}

/// A group, without its texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Step, counted from 1.
    pub step: u64,
    /// The prompt.
    pub prompt_id: PromptId,
    /// Why it was rolled out.
    pub source: GroupSource,
    /// True if it was trained on.
    pub is_trained: bool,
    /// Kind of the group.
    pub kind: GroupKind,
    /// Right completions by all.
    pub pass_rate: f64,
    /// Mean reward.
    pub reward_mean: f64,
    /// Mean over completions of the mean entropy over their tokens, nats.
    pub response_entropy: f64,
    /// Mean length of the completions, tokens.
    pub completion_tokens_mean: f64,
    /// Length of the prompt, tokens.
    pub prompt_tokens: u64,
    /// Length of the trailing run before this group, as far as the arm remembers.
    pub run_length: u32,
    /// Mean entropy over the prompt's positions, nats, if it was scored.
    pub prompt_entropy: Option<f64>,
    /// The same over the question's tokens.
    pub question_entropy: Option<f64>,
    /// Quartile of the prompt entropy in its pool; 1 is the highest.
    pub quartile: Option<u8>,
    /// Norm of the policy gradient with respect to the head by the mean completion length, if it
    /// was measured.
    pub utility: Option<f64>,
}

/// The record of a group that is neither trained on nor measured yet.
pub fn group_record(
    step: u64,
    source: GroupSource,
    group: &Group,
    kind: GroupKind,
    scored: Option<(PromptEntropy, u8)>,
) -> GroupRecord {
    let count = group.rollouts.len().max(1) as f64;
    let rewards = group.rollouts.iter().map(|it| it.reward.total);
    GroupRecord {
        step,
        prompt_id: group.prompt.id,
        source,
        is_trained: false,
        kind,
        pass_rate: num_correct(group) as f64 / count,
        reward_mean: rewards.sum::<f64>() / count,
        response_entropy: response_entropy(group),
        completion_tokens_mean: num_tokens(group) as f64 / count,
        prompt_tokens: group.prompt.prompt_tokens.len() as u64,
        run_length: 0,
        prompt_entropy: scored.map(|(it, _)| it.entropy),
        question_entropy: scored.and_then(|(it, _)| it.question_entropy),
        quartile: scored.map(|(_, quartile)| quartile),
        utility: None,
    }
}

/// Mean over completions of the mean entropy over their tokens, nats, under the weights that
/// sampled them. HIVE (arXiv 2603.25184).
pub(super) fn response_entropy(group: &Group) -> f64 {
    let per_completion = group.rollouts.iter().map(|rollout| {
        let entropies = &rollout.completion.entropies;
        let sum: f64 = entropies.iter().map(|&it| f64::from(it)).sum();
        sum / entropies.len().max(1) as f64
    });
    per_completion.sum::<f64>() / group.rollouts.len().max(1) as f64
}
