//! How a step can fail to find its groups.

use thiserror::Error;

use super::counts::StepCounts;
use crate::rollout::RolloutError;

/// A step without its groups.
#[derive(Debug, Error)]
pub enum CollectError {
    /// The engine failed.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// Too few mixed groups.
    #[error(transparent)]
    Short(#[from] Box<ShortStep>),
}

/// A step that found fewer mixed groups than it needs, with what it did find.
#[derive(Clone, Debug, Error, PartialEq)]
#[error(
    "find {needed} mixed groups for step {step}: {mixed} in {rounds} rounds (at most {max_rounds}) \
     of {generated} groups, of which {easy:.3} were all right and {hard:.3} all wrong; p_easy \
     {p_easy:.2}, p_hard {p_hard:.2}, pools of {pools:?} prompts, {unseen} prompts not looked at; \
     the state before this step is saved. Give easier or more varied data, lower \
     selection.prompts_per_step, raise selection.rounds.max_rounds or \
     selection.rounds.candidate_target, or set selection.rounds.on_short = \"train_short\""
)]
pub struct ShortStep {
    /// Step, counted from 1.
    pub step: u64,
    /// Groups to train on.
    pub needed: usize,
    /// Mixed groups found.
    pub mixed: u64,
    /// Rounds.
    pub rounds: u64,
    /// Most rounds.
    pub max_rounds: usize,
    /// Groups generated.
    pub generated: u64,
    /// Share of them that was all right.
    pub easy: f64,
    /// Share of them that was all wrong.
    pub hard: f64,
    /// Exploration probability of easy prompts.
    pub p_easy: f64,
    /// Exploration probability of hard prompts.
    pub p_hard: f64,
    /// Sizes of the pools.
    pub pools: Vec<u64>,
    /// Prompts that the step did not pull.
    pub unseen: u64,
}

impl ShortStep {
    /// The figures of a step that ended short.
    pub(super) fn new(
        counts: &StepCounts,
        exploration: rlvr_core::Exploration,
        (step, needed, max_rounds, num_prompts): (u64, usize, usize, u64),
    ) -> Self {
        let shares = counts.shares();
        Self {
            step,
            needed,
            max_rounds,
            mixed: counts.num_groups_mixed,
            rounds: counts.num_rounds,
            generated: counts.num_groups_generated,
            easy: shares.map_or(0.0, |it| it.easy),
            hard: shares.map_or(0.0, |it| it.hard),
            p_easy: exploration.p_easy,
            p_hard: exploration.p_hard,
            pools: counts.pool_sizes.clone(),
            unseen: num_prompts.saturating_sub(counts.num_raw_prompts),
        }
    }
}
