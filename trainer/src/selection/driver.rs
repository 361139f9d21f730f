//! The step driver: rounds of select, roll out, grade, filter, top up, the same for every arm.
//!
//! The state of before the step is only read: histories and exploration probabilities are those of
//! its start throughout, and what the step learns is a value of its own that is applied at its
//! end. A step that fails leaves nothing behind.

use std::collections::BTreeMap;

use rlvr_core::{EntropyRange, GroupKind, classify, is_mixed, next_round};

use super::audit_config::AuditConfig;
use super::collected::Collected;
use super::counts::{StepCounts, num_correct};
use super::error::{CollectError, ShortStep};
use super::plan::{Plan, Refill, Screen};
use super::report::SelectionTiming;
use super::rounds_config::{Filter, OnShort};
use super::source::RolloutSource;
use super::state::SelectionState;
use super::stream::DataStream;
use super::window::PoolPoint;
use crate::record::{Group, Prompt, PromptId};
use crate::rollout::PromptEntropy;
use crate::seed::{Stage, stream};

/// Everything that a step of selection reads.
#[derive(Clone, Copy, Debug)]
pub struct Collector<'a> {
    /// The arm.
    pub plan: &'a Plan,
    /// Audits.
    pub audit: &'a AuditConfig,
    /// The training prompts.
    pub prompts: &'a [Prompt],
    /// Seed of the run.
    pub seed: u64,
    /// Step, counted from 0.
    pub step: u64,
}

/// A scored prompt and the quartile of its entropy in its pool.
pub(super) type Scored = (PromptEntropy, u8);

/// A step under way.
pub(super) struct Step<'a, S> {
    pub(super) of: Collector<'a>,
    pub(super) state: &'a SelectionState,
    pub(super) range: Option<EntropyRange>,
    pub(super) stream: DataStream,
    pub(super) source: &'a mut S,
    pub(super) scored: BTreeMap<u64, Scored>,
    /// Places of what a gate rejected.
    pub(super) rejected: Vec<u64>,
    /// Candidates of a posterior that were not chosen and may be in a later round.
    pub(super) waiting: Vec<u64>,
    pub(super) pool: Vec<PoolPoint>,
    pub(super) counts: StepCounts,
    pub(super) timing: SelectionTiming,
    pub(super) groups: Vec<(u64, Group, GroupKind)>,
    pub(super) kept: Vec<usize>,
}

/// What follows a round.
enum Next {
    Done,
    Short,
    Round { target: usize, is_last: bool },
}

impl Collector<'_> {
    /// Finds the groups of a step.
    ///
    /// # Errors
    /// If the engine fails, or if too few groups are mixed.
    pub fn collect(
        self,
        state: &SelectionState,
        source: &mut impl RolloutSource,
    ) -> Result<Collected, CollectError> {
        let plan = self.plan;
        let mut step = Step::new(self, state, source);
        let (mut target, mut is_last) = (plan.size.candidates, false);
        let mut is_short = false;
        loop {
            let chosen = step.choose(target)?;
            if chosen.is_empty() {
                is_short = true;
                break;
            }
            let mixed = step.roll_out(chosen)?;
            match step.next(mixed, is_last) {
                Next::Done => break,
                Next::Short => {
                    is_short = true;
                    break;
                }
                Next::Round {
                    target: next,
                    is_last: ends,
                } => (target, is_last) = (next, ends),
            }
        }
        if is_short && (plan.on_short == OnShort::Error || step.kept.is_empty()) {
            return Err(Box::new(step.short()).into());
        }
        step.finish()
    }

    /// Selection's stream for one prompt of this step.
    pub(super) fn stream(&self, stage: Stage, id: PromptId, index: u32) -> crate::seed::Stream {
        stream(self.seed, stage, self.step, id, index)
    }
}

impl<'a, S: RolloutSource> Step<'a, S> {
    fn new(of: Collector<'a>, state: &'a SelectionState, source: &'a mut S) -> Self {
        let end = of.plan.epoch_end;
        // Only a lambda below 1 reads the range of entropies.
        let range = match of.plan.screen {
            Screen::Stage1(config) if config.lambda < 1.0 => {
                let latest = state
                    .histories
                    .values()
                    .filter_map(|it| it.latest_entropy());
                EntropyRange::of(latest)
            }
            _ => None,
        };
        Self {
            stream: DataStream::new(of.seed, of.prompts.len() as u64, state.position, end),
            of,
            state,
            range,
            source,
            scored: BTreeMap::new(),
            rejected: Vec::new(),
            waiting: Vec::new(),
            pool: Vec::new(),
            counts: StepCounts::default(),
            timing: SelectionTiming::default(),
            groups: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Rolls a round out and sorts its groups. Gives the number of groups to train on.
    fn roll_out(&mut self, chosen: Vec<u64>) -> Result<usize, CollectError> {
        let plan = self.of.plan;
        self.counts.num_rounds += 1;
        self.counts.round_sizes.push(chosen.len() as u64);
        let prompts = self.clone_prompts(&chosen);
        let groups = self.source.roll_out(prompts, Stage::Rollout)?;
        let before = self.kept.len();
        for (place, group) in chosen.into_iter().zip(groups) {
            let kind = kind_of(plan, &group);
            self.counts.group(&group, kind, plan.group_size);
            if is_trainable(plan.filter, &group) {
                self.kept.push(self.groups.len());
            }
            self.groups.push((place, group, kind));
        }
        Ok(self.kept.len() - before)
    }

    pub(super) fn clone_prompts(&self, places: &[u64]) -> Vec<Prompt> {
        let prompt = |&place: &u64| self.of.prompts[place as usize].clone();
        places.iter().map(prompt).collect()
    }

    /// What follows a round in which `mixed` groups were found.
    fn next(&self, mixed: usize, is_last: bool) -> Next {
        let (plan, kept) = (self.of.plan, self.kept.len());
        let missing = plan.train_groups.saturating_sub(kept);
        if plan.refill == Refill::Never || missing == 0 || is_last {
            return Next::Done;
        }
        if self.counts.num_rounds >= plan.max_rounds as u64 {
            return Next::Short;
        }
        let rolled = self.groups.len();
        match plan.refill {
            Refill::Never | Refill::Fixed => Next::Round {
                target: plan.size.candidates,
                is_last: false,
            },
            Refill::TopUp => Next::Round {
                target: plan.size.top_up(missing, kept, rolled),
                is_last: false,
            },
            Refill::GresoCode => {
                let round = self.counts.round_sizes.last().copied().unwrap_or(0) as usize;
                let next = next_round(missing, mixed, round, &plan.size);
                Next::Round {
                    target: next.target,
                    is_last: next.is_last,
                }
            }
        }
    }

    fn short(&self) -> ShortStep {
        let of = &self.of;
        let sizes = (
            of.step + 1,
            of.plan.train_groups,
            of.plan.max_rounds,
            of.prompts.len() as u64,
        );
        ShortStep::new(&self.counts, self.state.exploration, sizes)
    }
}

pub(super) fn kind_of(plan: &Plan, group: &Group) -> GroupKind {
    let rewards: Vec<f64> = group.rollouts.iter().map(|it| it.reward.total).collect();
    classify(&rewards, num_correct(group), plan.levels)
}

fn is_trainable(filter: Option<Filter>, group: &Group) -> bool {
    let value = |filter: Filter| -> Vec<f64> {
        let rewards = group.rollouts.iter().map(|it| match filter {
            Filter::Reward => it.reward.total,
            Filter::Accuracy => f64::from(u8::from(it.reward.is_correct)),
        });
        rewards.collect()
    };
    filter.is_none_or(|filter| is_mixed(&value(filter)))
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
