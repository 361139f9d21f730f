//! The step driver: rounds of select, roll out, grade, filter, top up, the same for every arm.
//!
//! The state of before the step is only read: histories and exploration probabilities are those of
//! its start throughout, and what the step learns is a value of its own that is applied at its
//! end. A step that fails leaves nothing behind.

use std::collections::BTreeMap;
use std::time::Instant;

use rlvr_core::{
    Candidate, EntropyRange, Gate, Gated, GroupKind, by_entropy, classify, is_mixed, keep_smallest,
    nearest, next_round, quartile,
};

use super::config::{Filter, OnShort, PoolRule};
use super::counts::{AuditCounts, StepCounts, num_correct, num_tokens};
use super::error::{CollectError, ShortStep};
use super::plan::{Plan, PoolGate, Refill, Screen};
use super::record::{GroupRecord, GroupSource, group_record, response_entropy};
use super::report::SelectionTiming;
use super::source::{RolloutSource, SourceStats};
use super::state::{SelectionState, Visit};
use super::stream::{DataStream, uniform_step};
use super::window::{PoolPoint, WindowStep};
use super::{AuditConfig, posterior};
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

/// What a step found.
#[derive(Clone, Debug)]
pub struct Collected {
    /// Every group that was generated, in the order in which its prompts left the data.
    pub groups: Vec<Group>,
    /// Groups of the audit.
    pub audited: Vec<Group>,
    /// Places in `groups` of those to train on, ascending.
    pub trained: Vec<usize>,
    /// One record per group, then one per audited group.
    pub records: Vec<GroupRecord>,
    /// Counts, before any filter.
    pub counts: StepCounts,
    /// Counts of the audit.
    pub audit: AuditCounts,
    /// True if fewer groups are trained on than configured.
    pub is_short: bool,
    /// What scoring, rollouts and grading took, audit apart.
    pub stats: SourceStats,
    /// Times.
    pub timing: SelectionTiming,
    position: u64,
    visits: Vec<(u64, Visit, f64)>,
    window: WindowStep,
}

/// A scored prompt and the quartile of its entropy in its pool.
type Scored = (PromptEntropy, u8);

/// A step under way.
struct Step<'a, S> {
    of: Collector<'a>,
    state: &'a SelectionState,
    range: Option<EntropyRange>,
    stream: DataStream,
    source: &'a mut S,
    scored: BTreeMap<u64, Scored>,
    /// Places of what a gate rejected.
    rejected: Vec<u64>,
    /// Candidates of a posterior that were not chosen and may be in a later round.
    waiting: Vec<u64>,
    pool: Vec<PoolPoint>,
    counts: StepCounts,
    timing: SelectionTiming,
    groups: Vec<(u64, Group, GroupKind)>,
    kept: Vec<usize>,
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
    fn stream(&self, stage: Stage, id: PromptId, index: u32) -> crate::seed::Stream {
        stream(self.seed, stage, self.step, id, index)
    }
}

/// True if the history filter lets a prompt pass.
pub fn stage1_passes(
    of: &Collector<'_>,
    state: &SelectionState,
    range: Option<EntropyRange>,
    place: u64,
) -> bool {
    let history = state.histories.get(&place);
    let id = of.prompts[place as usize].id;
    let draw = || of.stream(Stage::Stage1, id, 0);
    match (of.plan.screen, history) {
        (Screen::Pass, _) | (Screen::Greso(_), None) => true,
        (Screen::Stage1(config), history) => {
            let run = history.map(|it| it.run).unwrap_or_default();
            let entropy = history.and_then(|it| it.latest_entropy());
            let chance = config.acceptance(run, entropy, state.exploration, range);
            chance >= 1.0 || draw().uniform() < chance
        }
        (Screen::Greso(floor), Some(history)) => {
            let mut draws = draw();
            let draws = [draws.uniform_at(0), draws.uniform_at(1)];
            !history.greso.skips(draws, state.exploration, floor)
        }
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

    /// The prompts of a round: raw batches through the history filter, then the gate.
    fn choose(&mut self, target: usize) -> Result<Vec<u64>, CollectError> {
        let plan = self.of.plan;
        if plan.refill == Refill::Never {
            return Ok(self.choose_uniformly());
        }
        let per_batch = plan.pool == PoolRule::PerRawBatch && plan.gate != PoolGate::Open;
        let (mut pool, mut chosen) = (std::mem::take(&mut self.waiting), Vec::new());
        let wanted = match per_batch {
            true => target,
            false => plan.pool_target(target),
        };
        while chosen.len() + pool.len() < wanted && !self.stream.is_exhausted() {
            let survivors = self.screen();
            match per_batch {
                true => chosen.extend(self.gate(survivors, target)?),
                false => pool.extend(survivors),
            }
        }
        if !per_batch {
            chosen = self.gate(pool, target)?;
        }
        self.counts.pool_overshoot += chosen.len().saturating_sub(target) as u64;
        Ok(chosen)
    }

    /// The step's prompts in uniform selection, which needs no state.
    fn choose_uniformly(&mut self) -> Vec<u64> {
        let (of, count) = (self.of, self.of.plan.train_groups);
        let chosen = uniform_step(of.seed, of.step, count, of.prompts.len());
        self.counts.num_raw_prompts = count as u64;
        self.counts.num_unseen_prompts = count as u64;
        self.counts.num_stage1_kept = count as u64;
        self.counts.num_gate_kept = count as u64;
        chosen.into_iter().map(|place| place as u64).collect()
    }

    /// The next raw batch through the history filter.
    fn screen(&mut self) -> Vec<u64> {
        let started = Instant::now();
        let raw = self.stream.pull(self.of.plan.raw_batch);
        let is_unseen = |place: &&u64| !self.state.histories.contains_key(*place);
        self.counts.num_raw_prompts += raw.len() as u64;
        self.counts.num_unseen_prompts += raw.iter().filter(is_unseen).count() as u64;
        let passes = |place: &u64| stage1_passes(&self.of, self.state, self.range, *place);
        let survivors: Vec<u64> = raw.into_iter().filter(passes).collect();
        self.counts.num_stage1_kept += survivors.len() as u64;
        self.timing.stage1_secs += started.elapsed().as_secs_f64();
        survivors
    }

    /// What the gate keeps of a pool, in the order of arrival. `target` is what the round wants.
    fn gate(&mut self, pool: Vec<u64>, target: usize) -> Result<Vec<u64>, CollectError> {
        let of = self.of;
        let by_chance = |kept: Vec<usize>| Gated {
            num_rejected_low: pool.len() - kept.len(),
            kept,
            ..Gated::default()
        };
        let id = |place: &u64| of.prompts[*place as usize].id;
        if pool.is_empty() {
            return Ok(pool);
        }
        let gated = match &of.plan.gate {
            PoolGate::Open => {
                self.counts.num_gate_kept += pool.len() as u64;
                return Ok(pool);
            }
            PoolGate::Entropy(gate) => self.gate_by_entropy(gate, &pool)?,
            PoolGate::Random(band) => {
                let round = self.counts.num_rounds as u32 + 1;
                let draw = |place: &u64| {
                    let mut draws = of.stream(Stage::RandomGate, id(place), round);
                    (id(place).0, draws.uniform())
                };
                let draws: Vec<(u64, f64)> = pool.iter().map(draw).collect();
                by_chance(keep_smallest(&draws, band.counts(pool.len()).1))
            }
            PoolGate::Posterior { centre, .. } => {
                let draw = |place: &u64| {
                    let uniform = of.stream(Stage::Posterior, id(place), 0).uniform();
                    let history = self.state.histories.get(place);
                    let posterior = history.map(|it| it.posterior).unwrap_or_default();
                    (id(place).0, posterior::quantile(posterior, uniform))
                };
                let draws: Vec<(u64, f64)> = pool.iter().map(draw).collect();
                let kept = nearest(&draws, *centre, target);
                let is_waiting = |place: &usize| kept.binary_search(place).is_err();
                let waiting = (0..pool.len()).filter(is_waiting);
                self.waiting.extend(waiting.map(|place| pool[place]));
                by_chance(kept)
            }
        };
        self.counts.gate(pool.len(), &gated);
        Ok(gated.kept.iter().map(|&place| pool[place]).collect())
    }

    /// Scores a pool, cuts it, and frees what was rejected.
    fn gate_by_entropy(&mut self, gate: &Gate, pool: &[u64]) -> Result<Gated, CollectError> {
        let prompts: Vec<&Prompt> = pool
            .iter()
            .map(|&place| &self.of.prompts[place as usize])
            .collect();
        let found = self.source.score(&prompts)?;
        let candidates: Vec<Candidate> = found
            .iter()
            .map(|it| Candidate {
                id: it.prompt_id.0,
                entropy: it.entropy,
            })
            .collect();
        let gated = gate.cut(&candidates);
        for (rank, place) in by_entropy(&candidates).into_iter().enumerate() {
            let scored = (found[place], quartile(rank, pool.len()));
            self.scored.insert(pool[place], scored);
        }
        let is_kept = |index: &usize| gated.kept.binary_search(index).is_ok();
        let rejected = (0..pool.len()).filter(|index| !is_kept(index));
        self.rejected.extend(rejected.map(|index| pool[index]));
        let kept: Vec<PromptId> = gated.kept.iter().map(|&it| found[it].prompt_id).collect();
        self.source
            .keep(&|it: &PromptEntropy| kept.contains(&it.prompt_id), &found);
        let points = found.iter().zip(&prompts).map(|(it, prompt)| PoolPoint {
            prompt_entropy: it.entropy,
            prompt_tokens: prompt.prompt_tokens.len() as u64,
        });
        self.pool.extend(points);
        Ok(gated)
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

    fn clone_prompts(&self, places: &[u64]) -> Vec<Prompt> {
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

    /// Cuts the surplus, audits if it is time, and gathers what the step learned.
    fn finish(mut self) -> Result<Collected, CollectError> {
        let plan = self.of.plan;
        let limit = match plan.filter {
            None => self.kept.len(),
            Some(_) => plan.train_groups,
        };
        let surplus = self.kept.split_off(self.kept.len().min(limit));
        self.counts.num_groups_trained = self.kept.len() as u64;
        self.counts.num_groups_surplus = surplus.len() as u64;
        let stats = self.source.take_stats();
        self.counts.finish(&stats, plan.group_size);
        self.timing.add(&stats);
        let (audited, audit) = self.audit()?;
        let records = self.records(&audited);
        let window = WindowStep::new(&records, std::mem::take(&mut self.pool));
        let position = match plan.refill {
            Refill::Never => (self.of.step + 1) * plan.train_groups as u64,
            _ => self.stream.position(),
        };
        let visits = match plan.has_memory() {
            true => self.visits(),
            false => Vec::new(),
        };
        Ok(Collected {
            is_short: self.kept.len() < plan.train_groups,
            groups: self.groups.into_iter().map(|(_, group, _)| group).collect(),
            audited,
            trained: self.kept,
            records,
            counts: self.counts,
            audit,
            stats,
            timing: self.timing,
            position,
            visits,
            window,
        })
    }

    /// Rolls out some of the rejected prompts, with random numbers of their own.
    fn audit(&mut self) -> Result<(Vec<Group>, AuditCounts), CollectError> {
        let (of, started) = (self.of, Instant::now());
        let step = of.step + 1;
        if !of.audit.is_due(step) || self.rejected.is_empty() {
            return Ok((Vec::new(), AuditCounts::default()));
        }
        let draw = |place: &u64| {
            let id = of.prompts[*place as usize].id;
            (id.0, of.stream(Stage::AuditChoice, id, 0).uniform())
        };
        let draws: Vec<(u64, f64)> = self.rejected.iter().map(draw).collect();
        let chosen = keep_smallest(&draws, of.audit.groups);
        self.rejected = chosen.into_iter().map(|it| self.rejected[it]).collect();
        let prompts = self.clone_prompts(&self.rejected);
        let groups = self.source.roll_out(prompts, Stage::AuditRollout)?;
        // What an audit takes is not the step's.
        self.source.take_stats();
        self.timing.audit_secs = started.elapsed().as_secs_f64();
        let counts = AuditCounts {
            audit_num_groups: groups.len() as u64,
            audit_num_completions: groups.iter().map(|it| it.rollouts.len() as u64).sum(),
            audit_completion_tokens: groups.iter().map(num_tokens).sum(),
        };
        Ok((groups, counts))
    }

    fn records(&self, audited: &[Group]) -> Vec<GroupRecord> {
        let step = self.of.step + 1;
        let run_length = |place: &u64| {
            let history = self.state.histories.get(place);
            history.map_or(0, |it| it.run.length)
        };
        let kept = self.groups.iter().map(|(place, group, kind)| {
            let scored = self.scored.get(place).copied();
            let mut record = group_record(step, GroupSource::Kept, group, *kind, scored);
            record.run_length = run_length(place);
            record
        });
        let mut records: Vec<GroupRecord> = kept.collect();
        for &place in &self.kept {
            records[place].is_trained = true;
        }
        let audited = self.rejected.iter().zip(audited).map(|(place, group)| {
            let scored = self.scored.get(place).copied();
            let kind = kind_of(self.of.plan, group);
            let mut record = group_record(step, GroupSource::Audit, group, kind, scored);
            record.run_length = run_length(place);
            record
        });
        records.extend(audited);
        records
    }

    fn visits(&self) -> Vec<(u64, Visit, f64)> {
        let epoch = self.state.epoch();
        let visit = |(place, group, kind): &(u64, Group, GroupKind)| {
            let visit = Visit {
                step: self.of.step + 1,
                epoch,
                rewards: group.rollouts.iter().map(|it| it.reward.total).collect(),
                kind: *kind,
                entropy: response_entropy(group),
            };
            let pass_rate = num_correct(group) as f64 / group.rollouts.len().max(1) as f64;
            (*place, visit, pass_rate)
        };
        self.groups.iter().map(visit).collect()
    }
}

fn kind_of(plan: &Plan, group: &Group) -> GroupKind {
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

impl Collected {
    /// What the step adds to the window.
    pub(super) fn window(&self) -> &WindowStep {
        &self.window
    }

    /// The groups to train on, in the order in which their prompts left the data.
    pub fn take_trained(&mut self) -> Vec<Group> {
        let groups = std::mem::take(&mut self.groups).into_iter().enumerate();
        let is_trained = |place: &usize| self.trained.binary_search(place).is_ok();
        groups
            .filter(|(place, _)| is_trained(place))
            .map(|(_, group)| group)
            .collect()
    }

    /// Adds what the step learned to the state.
    pub fn apply(&self, state: &mut SelectionState, plan: &Plan, audit: &AuditConfig) {
        state.position = self.position;
        for (place, visit, pass_rate) in &self.visits {
            let history = state.histories.entry(*place).or_default();
            history.visit(visit.clone(), *pass_rate, plan.decay);
        }
        if let Some((config, at_target)) = &plan.controller
            && state.epoch() >= config.controller_from_epoch
            && let Some(shares) = self.counts.shares()
        {
            state.exploration = state.exploration.after(shares, config, *at_target);
        }
        state.totals.add(&self.counts, &self.audit, self.is_short);
        if self.window != WindowStep::default() {
            state.window.push_back(self.window.clone());
        }
        while state.window.len() > audit.window_steps {
            state.window.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
